"""What tables and curves by noise level share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.tally import FIRST_PER_CLASS, TEST_SET, Tally, make_tally, read_tally
from medrobust.reporting.levels import (
    LevelResults,
    PanelKind,
    check_same_points,
    dataset_panels,
    points_text,
    read_tallies,
    spent,
)
from medrobust.reporting.request import Entry

from tests.unit.attack_records import clean_table, level_records

LABELS = np.repeat([0, 1], [6, 4])


def write_tally(path, fooled: int, points: int = 10, per_class: int | None = None) -> str:
    """Writes a tally in which the last ``fooled`` points are fooled at 0.2, none at 0.1."""
    clean = clean_table(LABELS[:points], LABELS[:points])
    attacked = clean if per_class is None else clean.groupby("label").head(per_class)
    label = attacked["label"].to_numpy()
    found = {0.1: label, 0.2: np.where(np.arange(label.size) >= label.size - fooled, 2, label)}
    io.write_table(path, make_tally(clean, level_records(attacked, found)))
    return str(path)


def entry(model: str, path: str, **more) -> Entry:
    return Entry("d", model, "standin", 0, tallies={"pgd": path}, **more)


# --- the same points ---


@pytest.fixture
def tally(tmp_path) -> Tally:
    return read_tally(write_tally(tmp_path / "t.csv", fooled=2))


@pytest.mark.parametrize(
    "other", [{"test_points": 11}, {"selection": FIRST_PER_CLASS}, {"per_class": 3}]
)
def test_tallies_of_different_points_are_refused(tally, other):
    same = {("d", "a", "pgd"): [tally], ("d", "b", "pgd"): [tally]}
    check_same_points(same, points_text)
    differing = same | {("d", "b", "pgd"): [replace(tally, **other)]}
    with pytest.raises(InputError, match="attack pgd was made on 10 test points") as caught:
        check_same_points(differing, lambda _: points_text(tally))
    assert "for b, on other points for a" in caught.value.what and caught.value.where == "d"
    # Replicates of one model too; other attacks and data sets may have other points.
    with pytest.raises(InputError):
        check_same_points({("d", "a", "pgd"): [tally, replace(tally, **other)]}, points_text)
    apart = {("d", "a", "spsa"): [replace(tally, **other)], ("e", "a", "pgd"): [tally]}
    check_same_points(same | apart, points_text)


def test_files_of_other_test_sets_are_refused(tmp_path):
    """The first two of each class of ten points and of nine: as many points, of other sets."""
    one = write_tally(tmp_path / "one.csv", 1, per_class=2)
    other = write_tally(tmp_path / "other.csv", 1, points=9, per_class=2)
    groups = {("d", "a"): [entry("a", one)], ("d", "b"): [entry("b", other)]}
    with pytest.raises(InputError, match="on other points for a"):
        read_tallies(groups)


# --- results ---


def test_results_know_levels_attacks_and_trainings(tmp_path):
    paths = [write_tally(tmp_path / f"{k}.csv", k) for k in range(3)]
    groups = {
        ("d", "a"): [entry("a", paths[0]), entry("a", paths[1])],
        ("d", "b"): [entry("b", paths[2])],
    }
    tallies, files = read_tallies(groups)
    results = LevelResults("s", tallies, {"d": "standin"}, {"d": ["a", "b"]}, 3, files)
    assert files == paths and read_tallies(groups, ["spsa"]) == ({}, [])
    assert results.levels("pgd", "d") == [0.0, 0.1, 0.2] and results.levels("pgd", "e") == []
    assert len(results.attacked("pgd", "d")) == 3 and len(results.of("d", "a", "pgd")) == 2
    assert results.trainings("d") == 1 and results.trainings("e") is None
    one, same, other = (results.random(*names).random() for names in ("xy", "xy", "yx"))
    assert one == same != other


def test_effort_is_summed_over_trainings(tmp_path):
    read = [read_tally(write_tally(tmp_path / f"{k}.csv", k)) for k in (1, 3)]
    found = spent(read, 0.2)
    assert found["selection"] == TEST_SET and found["attacked"] == 20
    assert found["queries_per_point"] == 10 and found["gradients_per_point"] == 7


# --- panels ---


def test_an_added_data_set_has_the_panels_that_are_not_of_print():
    frame = pd.DataFrame(
        {
            "dataset": ["d", "d", "new"],
            "method": ["a", "mine", "a"],
            "epsilon": ["0", "0", "0"],
            "source": ["kaggle", "kaggle", "standin"],
            "spread": [None, None, 1.0],
        }
    )
    kinds = (
        PanelKind("Here", lambda row: row["method"]),
        PanelKind("Print", lambda row: "p", first_only=True, marked=False),
        PanelKind("Spread", lambda row: str(row["spread"]), filled="spread"),
    )
    panels = dataset_panels(frame, kinds, in_paper=lambda model: model == "a")
    assert [panel.title for panel in panels] == [
        "Here",
        "Print",
        "Here, added data set new (SYNTHETIC)",
        "Spread, added data set new (SYNTHETIC)",
    ]
    assert panels[0].frame.to_dict("list") == {"noise level": ["a", "mine"], "0": ["a", "mine"]}
    assert panels[0].sections == {1: "Added models, not in the paper"}
    assert panels[2].sections == {}
