"""The page that a report opens on, from the files of runs as their builders write them."""

from __future__ import annotations

import base64
from pathlib import Path

import pandas as pd
import pytest
from medrobust.core import io
from medrobust.reporting import comparison, start_page
from medrobust.reporting.comparison import CANNOT_TELL, NOT_RUN, OUTSIDE, SYNTHETIC, WITHIN

from tests import browser

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
FRONT = {"ima": "figure6"}


def put(folder: Path, kind: str, name: str, content: bytes, title: str, **facts) -> None:
    suffix = start_page.FOLDERS[kind]
    file = folder / kind / f"{name}{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    scale, protocol = folder.parent.name.split("-")[:2]
    run = {"scale": scale, "protocol": protocol, "commit": "abcdef0123", "seed": 7, "hardware": "h"}
    real = {"synthetic": False, "sources": {"Moons": "generated"}, "caption": "told <b>"}
    provenance = real | {"title": title, "run": run} | facts
    io.write_json(file.with_name(f"{name}.provenance.json"), provenance)


def row(number, verdict, reproduced=0.5, trainings=1):
    missing = verdict == NOT_RUN
    return {
        "artefact": "Table 8",
        "row": f"m{number}",
        "column": 'epsilon "0.1"',
        "published": 0.4,
        "reproduced": None if missing else reproduced,
        "replicates": None if missing else trainings,
        "verdict": verdict,
    }


@pytest.fixture
def results(tmp_path):
    """A real run with a comparison and claims, and a run on stand-ins with one figure."""
    ima = tmp_path / "results/paper-code/ima"
    put(ima, "figures", "figure1", PNG, "Figure 1. First")
    put(ima, "figures", "figure6", PNG, "Figure 6. Regions & curves")
    put(ima, "tables", "table8", b"<p>8</p>", "Table 8. Moons")
    put(ima, "comparison", "comparison", b"<p>c</p>", "Published")
    verdicts = [WITHIN, WITHIN, OUTSIDE, CANNOT_TELL, NOT_RUN]
    io.write_table(
        ima / "comparison/comparison.csv",
        pd.DataFrame([row(number, verdict) for number, verdict in enumerate(verdicts)]),
    )
    put(ima, "claims", "claims", b"<p>claims</p>", "What ima claims")
    told = [
        ("a", "A holds <i>", "does not hold"),
        ("a", "A holds <i>", "holds"),  # the last row joins the others
        ("b", "B", "cannot tell"),
    ]
    claims = [
        {"claim": name, "quote": quote, "where": "Section 1", "verdict": verdict}
        for name, quote, verdict in told
    ]
    io.write_table(ima / "claims/claims.csv", pd.DataFrame(claims))
    made_up = {"synthetic": True, "sources": {"MIT-BIH": "standin"}}
    signnet = tmp_path / "results/smoke-code/signnet"
    put(signnet, "figures", "figure2", PNG, "SYNTHETIC DATA: Figure 2. Beat", **made_up)
    return tmp_path / "results"


def made(results, tmp_path):
    out = results / "start.html"
    start_page.write_overview(results, tmp_path / "published", FRONT, out, "<svg/>")
    return out.read_text()


def test_it_counts_what_agrees_and_shows_every_number(results, tmp_path):
    page = made(results, tmp_path)
    assert "3 of 5 published numbers were reproduced and held against print" in page
    assert "2 of them agree with it, 1 do not (one training of each model)." in page
    assert page.count("<rect ") == 5
    assert '<figcaption><a href="paper-code/ima/tables/table8.html">Table 8</a>' in page
    assert "m2, epsilon &quot;0.1&quot;: published 0.4, here 0.5; does not agree" in page
    assert "m4, epsilon &quot;0.1&quot;: published 0.4; not run" in page


@pytest.mark.parametrize(
    ("trainings", "said"), [((4, 4), "4 trainings of each model"), ((1, 4), "1 to 4 trainings")]
)
def test_it_says_of_how_many_trainings(trainings, said):
    rows = [row(0, WITHIN, trainings=trainings[0]), row(1, OUTSIDE, trainings=trainings[1])]
    assert start_page._trainings(pd.DataFrame([*rows, row(2, NOT_RUN, trainings=9)])) == said


def test_the_figure_is_the_studys_own_choice_among_real_ones(results, tmp_path):
    page = made(results, tmp_path)
    assert "<h2>Figure 6. Regions &amp; curves</h2>" in page and "told &lt;b&gt;" in page
    for name in ("figure1", "figure6"):
        (results / f"paper-code/ima/figures/{name}.png").unlink()
    assert "<h2>SYNTHETIC DATA: Figure 2. Beat</h2>" in made(results, tmp_path)


def test_claims_that_are_told_stand_there_and_others_are_counted(results, tmp_path):
    page = made(results, tmp_path)
    assert "1 holds, 0 does not hold, 1 cannot tell." in page
    assert "“A holds &lt;i&gt;”" in page and "“B”" not in page


def test_stand_ins_are_marked_and_come_last(results, tmp_path):
    page = made(results, tmp_path)
    assert 'class="banner"' in page and "This is so of signnet, smoke-code." in page
    assert page.index("<td>ima</td>") < page.index("<td>signnet</td>")
    assert '<tr class="synthetic"><td>signnet</td>' in page


def test_without_results_it_says_so(tmp_path):
    assert "No table" in made(tmp_path, tmp_path)


def test_a_part_of_a_run_is_held_against_print_too(root, tmp_path):
    """Where only a table was asked for there is no comparison: its numbers count all the same."""
    folder = tmp_path / "paper-code/ima"
    published = root / "resources/published"
    printed = comparison.read_published(published / "ima.csv", "ima")
    first = printed[printed["table"] == "8"].head(3).copy()
    first["reproduced"] = first["value"]
    first["ci_low"], first["ci_high"] = first["value"] - 0.01, first["value"] + 0.01
    first = first.assign(
        n=10, replicates=1, scale="paper", protocol="code", source="generated", status="ran"
    )
    put(folder, "tables", "table8", b"", "Table 8. Moons")
    io.write_table(folder / "tables/table8.csv", first.drop(columns=["study", "value"]))
    [one] = start_page.made_in(tmp_path)
    frame = start_page.numbers_of(one, published)
    assert len(frame) == len(printed)
    assert (frame["verdict"] == WITHIN).sum() == 3
    assert (frame["verdict"] == NOT_RUN).sum() == len(printed) - 3


def test_every_link_of_the_page_leads_to_a_file(results, tmp_path):
    made(results, tmp_path)
    with browser.opened(results / "start.html") as page:
        links = [link.get_attribute("href") for link in page.locator("a").all()]
        assert len(links) > 5
        assert all((results / link).is_file() for link in links)
        assert page.locator("svg rect").count() == 5
        assert page.locator("img").first.evaluate("image => image.naturalWidth") == 1


def test_in_a_report_known_files_are_opened_there_and_others_brought_along(results, tmp_path):
    known = results / "paper-code/ima/figures/figure6.png"
    text = start_page.in_report(results, tmp_path, FRONT, [known])
    assert f"results[&quot;{known}&quot;].data_uri" in text
    assert text.count("data-page=") == text.count("<a ") - text.count("resultPath")
    assert f'data-page="data:text/html;base64,{base64.b64encode(b"<p>8</p>").decode()}"' in text


def test_all_verdicts_have_a_colour():
    assert set(start_page._COLOURS) == set(comparison.VERDICTS) and SYNTHETIC in start_page._WORDS
