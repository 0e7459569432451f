"""The picture of the pipeline shows the rules that there are and what they hand on."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from medrobust.__main__ import main
from medrobust.experiment import picture
from medrobust.experiment.calls import KINDS
from medrobust.experiment.sources import build_graph

from tests.unit.test_environments import RULES as RULES_OF_SNAKEMAKE

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def whole(root):
    return picture.pipeline_svg(build_graph({"scale": "laptop"}, root))


def texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_committed_picture_is_that_of_the_code(root, whole):
    committed = (root / "docs/pipeline.svg").read_text(encoding="utf-8")
    assert committed == whole, (
        "python -m medrobust picture --config scale=laptop > docs/pipeline.svg"
    )


def test_every_rule_with_a_job_is_shown_once(whole):
    assert sorted(job for box in picture.BOXES for job in box.jobs) == sorted(KINDS)
    shown = [name for line in texts(whole) for name in line.split(", ")]
    for name, rule in RULES_OF_SNAKEMAKE.items():
        drawn = {"build_artefact": "<study>_<artefact>", "prepare": "prepare"}.get(rule.job, name)
        assert shown.count(drawn) == 1, name


def test_no_box_stands_on_another():
    places = [(box.column, box.row) for box in picture.BOXES]
    assert len(set(places)) == len(places)


def test_arrows_are_what_files_hand_on(root):
    def arrows(**settings):
        pairs = picture.edges(build_graph(settings, root))
        return {(start.title, end.title) for start, end in pairs}

    of_signnet = arrows(scale="laptop", studies=["signnet"])
    assert ("Raw files", "Arrays, splits, card") in of_signnet
    assert ("Clean predictions", "Points to attack") in of_signnet  # its cohort
    assert not any("Margins and planes" in pair for pair in of_signnet)
    # Points of a split do not hang on what models say, stand-ins on no raw files.
    of_nsr = arrows(scale="smoke", studies=["nsr"])
    assert ("Arrays, splits, card", "Points to attack") in of_nsr
    assert not any("Raw files" in pair for pair in of_nsr)
    assert ("Clean predictions", "Attack runs") in of_nsr  # which tell its members by hash
    assert ("Arrays, splits, card", "Attack runs") not in of_nsr  # it follows


def test_the_command_prints_it(root: Path, monkeypatch, capsys):
    monkeypatch.chdir(root)
    main(["picture", "--config", "scale=smoke", "studies=ima"])
    printed = texts(capsys.readouterr().out)
    assert "Trained members" in printed and "Raw files" not in printed
