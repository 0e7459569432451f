"""What the terminal says before a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from medrobust.experiment.sources import build_graph
from medrobust.experiment.telling import opening_text


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_full_run_says_first_which_data_are_not_there(root):
    graph = build_graph({"studies": ["mirst", "nsr"]}, root, Path())
    lines = opening_text(graph, ["all"]).splitlines()
    (told,) = [line for line in lines if line.startswith("NOT THERE: ")]
    assert told.startswith("NOT THERE: mirst: bus@official: must be put into")
    assert "http://cvprip.cs.usu.edu/busbench/" in told
    assert "NOT THERE" in opening_text(graph, ["plan"])
    # Of one figure a part of the data is enough; all of them are what preflight tells.
    assert "NOT THERE" not in opening_text(graph, ["mirst_fig1"])
    assert "NOT THERE" not in opening_text(graph, ["preflight", "all"])


def test_what_is_generated_or_redrawn_waits_for_nothing(root):
    for settings in ({"scale": "smoke"}, {"records_from": str(root / "docs/evidence/mirst")}):
        overrides = {"scale": "laptop", "leave_out": ["bus"], "include_extras": ["busi_64"]}
        graph = build_graph(overrides | {"studies": ["mirst"]} | settings, root, Path())
        assert "NOT THERE" not in opening_text(graph, ["all"])
