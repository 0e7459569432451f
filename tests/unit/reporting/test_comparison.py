"""Published against reproduced: every number kept, nothing pretended."""

import csv
import html.parser
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.reporting import comparison
from medrobust.reporting.artefacts import RunContext

CONTEXT = RunContext("s", "paper", "code", "paper-code", "c", "h", {}, "none", 1, "test")
LAPTOP = RunContext("s", "laptop", "code", "laptop-code", "c", "h", {}, "none", 1, "test")
NUMBERS = [
    ("III", "D1", "MLP", "accuracy_pct", "none", "", "", "97.1"),
    ("III", "D1", "CNN", "accuracy_pct", "none", "", "", "99"),
    ("IV", "D1", "MLP", "distance", "HSJ", "L2", "", "0.15"),
    ("IV", "D2", "MLP", "distance", "HSJ", "L2", "", "0.1"),
    ("IV", "D1", '<b>&"x"', "distance", "HSJ", "L2", "", "0.3"),
]


def published(tmp_path, numbers=NUMBERS):
    path = tmp_path / "published.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(comparison.PUBLISHED_COLUMNS)
        for number in numbers:
            writer.writerow(["s", *number, "paper"])
    return path


def reproduced_row(table, dataset, method, value, low, high, source="kaggle", **more):
    metric, attack, norm = (
        ("accuracy_pct", "none", "") if table == "III" else ("distance", "HSJ", "L2")
    )
    return {
        "table": table,
        "dataset": dataset,
        "method": method,
        "metric": metric,
        "attack": attack,
        "norm": norm,
        "epsilon": "",
        "reproduced": value,
        "ci_low": low,
        "ci_high": high,
        "n": 21,
        "replicates": 1,
        "scale": "paper",
        "protocol": "code",
        "source": source,
        "status": "reproduced" if source else "not run",
    } | more


def build(tmp_path, rows, context=CONTEXT, sources=None, numbers=NUMBERS, **more):
    tables = []
    for name, part in pd.DataFrame(rows).groupby("table") if rows else []:
        tables.append(tmp_path / f"table{name}.csv")
        part.to_csv(tables[-1], index=False)
    sources = {"D1": "kaggle"} if sources is None else sources
    stem = tmp_path / "comparison"
    return comparison.build_comparison(
        "s", published(tmp_path, numbers), tables, stem, context, sources, **more
    )


def test_columns_and_one_row_per_published_number(tmp_path):
    build(tmp_path, [reproduced_row("IV", "D1", "MLP", 0.17, 0.145, 0.19)])
    frame = pd.read_csv(tmp_path / "comparison.csv")
    assert list(frame.columns) == [
        *("artefact", "row", "column", "published", "reproduced", "ci_low", "ci_high", "n"),
        *("replicates", "difference", "scale", "protocol", "source", "verdict", "reason"),
    ]
    assert len(frame) == len(NUMBERS)
    assert frame["published"].tolist() == [97.1, 99.0, 0.15, 0.1, 0.3]
    row = frame.iloc[2]
    assert (row["artefact"], row["row"], row["column"]) == ("Table IV", "MLP", "D1")
    assert row["difference"] == pytest.approx(0.02)
    assert row["verdict"] == "within interval"
    others = frame.drop(index=2)
    assert others["verdict"].eq("not run").all()
    assert others["reproduced"].isna().all()
    assert others["n"].isna().all()
    assert frame["reason"].fillna("").tolist() == [
        "Table III is not part of this run",
        "Table III is not part of this run",
        "",
        "D2 is not part of this run",
        '<b>&"x" on D1 is not part of this run',
    ]


def test_no_table_at_all_is_all_not_run(tmp_path):
    frame = build(tmp_path, [], sources={})
    assert frame["verdict"].eq("not run").all()


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.16, 0.19, "outside interval"),
        (0.155, 0.19, "within interval"),  # .15 stands for .145 to .155
        (0.1, 0.145, "within interval"),
        (0.1, 0.144, "outside interval"),
        (None, None, "cannot tell"),
    ],
)
def test_verdict_allows_for_the_rounding_of_print(tmp_path, low, high, expected):
    frame = build(tmp_path, [reproduced_row("IV", "D1", "MLP", 0.15, low, high)])
    assert frame["verdict"].iloc[2] == expected


def test_trailing_zeros_dropped_by_print_count(tmp_path):
    # "99" stands in a table of tenths: it is 99.0, not anything from 98.5 to 99.5.
    frame = build(tmp_path, [reproduced_row("III", "D1", "CNN", 98.7, 98.6, 98.8)])
    assert frame["verdict"].iloc[1] == "outside interval"


@given(st.integers(0, 100), st.floats(-0.2, 0.2), st.floats(0, 0.1))
@settings(max_examples=80, deadline=None)
def test_verdict_is_overlap(hundredths, shift, width):
    printed = hundredths / 100
    low, high = printed + shift, printed + shift + width
    gap = max(low - (printed + 0.005), (printed - 0.005) - high)
    if abs(gap) < 1e-9:
        return
    found = comparison.verdict(printed, 2, printed, low, high, "kaggle")
    assert found == ("outside interval" if gap > 0 else "within interval")


@pytest.mark.parametrize("source", ["standin", "kaggle+standin"])
def test_synthetic_data_is_never_judged(tmp_path, source):
    rows = [reproduced_row("IV", "D1", "MLP", 0.15, 0.14, 0.16, source)]
    frame = build(tmp_path, rows, sources={"D1": "standin"})
    assert frame["verdict"].iloc[2] == "synthetic"
    assert "evidence of nothing" in frame["reason"].iloc[2]
    page = (tmp_path / "comparison.html").read_text()
    assert 'class="banner"' in page
    assert "SYNTHETIC" in page.split("<main>")[1]
    assert "**SYNTHETIC" in (tmp_path / "comparison.md").read_text()
    assert json.loads((tmp_path / "comparison.provenance.json").read_text())["synthetic"] is True


def test_real_data_has_no_banner(tmp_path):
    build(tmp_path, [reproduced_row("IV", "D1", "MLP", 0.15, 0.14, 0.16)])
    assert 'class="banner"' not in (tmp_path / "comparison.html").read_text()
    assert "SYNTHETIC" not in (tmp_path / "comparison.md").read_text()


def test_censored_subset_and_smaller_scale_are_said(tmp_path):
    rows = [
        reproduced_row("IV", "D1", "MLP", None, None, None, status="censored: 2 points"),
        reproduced_row("IV", "D2", "MLP", 0.3, 0.2, 0.4, "subset"),
    ]
    rows = [row | {"scale": "laptop"} for row in rows]
    frame = build(tmp_path, rows, LAPTOP, {"D1": "kaggle", "D2": "subset"})
    assert frame["verdict"].iloc[2] == "cannot tell"
    assert frame["reason"].iloc[2].startswith("censored: 2 points")
    assert "subset of the release" in frame["reason"].iloc[3]
    assert "scale laptop" in frame["reason"].iloc[3]


def test_tables_of_another_run_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be compared"):
        build(tmp_path, [reproduced_row("IV", "D1", "MLP", 1, 1, 1)], LAPTOP)


def test_duplicates_and_missing_files_are_refused(tmp_path):
    row = reproduced_row("IV", "D1", "MLP", 0.1, 0.1, 0.1)
    with pytest.raises(InputError, match="occurs twice"):
        build(tmp_path, [row, row])
    with pytest.raises(InputError, match="does not exist"):
        comparison.build_comparison(
            "s", published(tmp_path), [tmp_path / "no.csv"], tmp_path / "c", CONTEXT, {}
        )
    with pytest.raises(InputError, match="occurs twice"):
        comparison.read_published(published(tmp_path, [NUMBERS[0], NUMBERS[0]]))
    with pytest.raises(InputError, match="not a number"):
        comparison.read_published(published(tmp_path, [(*NUMBERS[0][:-1], "n/a")]))
    with pytest.raises(InputError, match="belongs to the study"):
        comparison.read_published(published(tmp_path), "other")


def test_a_remark_on_the_data_is_told_with_their_numbers_only(tmp_path):
    rows = [
        reproduced_row("IV", "D1", "MLP", 0.15, 0.14, 0.16, scale="laptop"),
        reproduced_row("IV", "D2", "MLP", 0.3, 0.2, 0.4, "physionet", scale="laptop"),
    ]
    sources = {"D1": "kaggle", "D2": "physionet"}
    told = {("D2", "physionet"): "other rows", ("D1", "physionet"): "wrong"}
    frame = build(tmp_path, rows, LAPTOP, sources, remark=lambda d, s: told.get((d, s), ""))
    assert frame["reason"].iloc[3] == "other rows; scale laptop, not the published amounts"
    assert frame["reason"].iloc[2] == "scale laptop, not the published amounts"
    assert not frame["reason"].str.contains("wrong").any()


def test_epsilons_match_as_numbers_and_name_the_columns(tmp_path):
    numbers = [
        ("1", "D", "m", "ACC", "PGD", "Linf", e, v) for e, v in (("0", ".9"), ("0.10", ".7"))
    ]
    path = published(tmp_path, numbers)
    table = pd.DataFrame(
        [
            reproduced_row("IV", "D", "m", 0.7, 0.6, 0.8)
            | {"table": "1", "metric": "ACC", "attack": "PGD", "norm": "Linf", "epsilon": 0.1}
        ]
    )
    frame = comparison.compare(comparison.read_published(path, "s"), table, CONTEXT)
    assert frame["column"].tolist() == ["D, epsilon 0", "D, epsilon 0.1"]
    assert frame["verdict"].tolist() == ["not run", "within interval"]


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and the text of a page; checks that tags close."""

    void = frozenset({"meta", "br", "!doctype"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_whole_self_contained_escaped_and_in_words(tmp_path):
    build(tmp_path, [reproduced_row("IV", "D1", "MLP", 0.15, 0.14, 0.16)])
    text = (tmp_path / "comparison.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"link", "img", "iframe", "b x"}
    assert not any("src" in attrs or "href" in attrs for _, attrs in page.tags)
    assert "url(" not in text and "@import" not in text
    assert '<b>&"x"' not in text and "&lt;b&gt;&amp;&quot;x&quot;" in text
    assert [tag for tag, _ in page.tags].count("h2") == 2  # Tables III and IV
    cells = [attrs["class"] for tag, attrs in page.tags if tag == "td" and "class" in attrs]
    assert sorted(cells) == ["notrun"] * 4 + ["within"]
    assert page.text.count("not run") >= 4
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")


def test_summary_counts_add_up(tmp_path):
    frame = build(tmp_path, [reproduced_row("IV", "D1", "MLP", 0.15, 0.14, 0.16)])
    counts = comparison.summary(frame).set_index("artefact")
    assert counts.to_numpy().sum() == len(NUMBERS)
    assert counts.loc["Table IV", "within interval"] == 1
    assert counts.loc["Table III", "not run"] == 2


@pytest.mark.parametrize("study", ["signnet", "nsr", "ima", "mirst"])
def test_every_published_file_compares(root, tmp_path, study):
    path = root / f"resources/published/{study}.csv"
    frame = comparison.build_comparison(study, path, [], tmp_path / "c", CONTEXT, {})
    with open(path) as file:
        assert len(frame) == sum(1 for _ in file) - 1
    assert not frame.duplicated(["artefact", "row", "column"]).any()
