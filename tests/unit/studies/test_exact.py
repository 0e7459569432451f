"""Distances to another label in the plane, and the table of what attacks miss."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.plane import distances_to_another_label
from medrobust.studies.ima.results import read_printed

from tests.unit.drawing import draw
from tests.unit.evaluation.test_plane import distance as from_the_line
from tests.unit.evaluation.test_plane import make, map_of
from tests.unit.ima_files import MOONS, made_entry, made_request, write_plane


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
def test_distances_are_those_of_a_search_through_all_cells(seed, height, width):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, (height, width))
    low, spacing = np.array([-1.0, 2.0]), 0.25
    cells = np.stack([random.integers(0, width, 5), random.integers(0, height, 5)], axis=1)
    points = low + spacing * (cells + random.uniform(-0.49, 0.49, cells.shape))
    own = random.integers(0, 3, 5)
    found = distances_to_another_label(labels, low, spacing, points, own)
    for (column, row), label, distance in zip(cells, own, found, strict=True):
        others = np.argwhere(labels != label)
        wanted = np.inf
        if len(others):
            away = np.abs(others - [row, column]).max(axis=1).min()
            wanted = spacing * max(away - 0.5, 0)
        assert distance == pytest.approx(wanted)


def test_distances_are_right_on_average_and_to_one_spacing():
    """Points left of a line: the grid knows the line to a cell, the points to half of one."""
    spacing, low = 0.01, np.array([-0.5, -0.5])
    first = low[0] + spacing * np.arange(201)
    labels = np.broadcast_to((first > 0.37).astype(int), (201, 201))
    points = np.random.default_rng(0).uniform((-0.3, 0.2), (0.37, 0.8), (4000, 2))
    found = distances_to_another_label(labels, low, spacing, points, np.zeros(4000, int))
    assert np.abs(found - (0.37 - points[:, 0])).max() <= spacing * 1.001
    shifts = []
    for line in 0.37 + spacing * np.linspace(0, 1, 40, endpoint=False):
        labels = np.broadcast_to((first > line).astype(int), (201, 201))
        found = distances_to_another_label(labels, low, spacing, points, np.zeros(4000, int))
        shifts.append((found - (line - points[:, 0])).mean())
    assert abs(np.mean(shifts)) < 0.0005


@pytest.mark.parametrize("level", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
def test_no_distance_ties_with_a_level(tmp_path, published, level):
    """A point whose nearest wrong cell is exactly at a level is not robust there."""
    spacing = 0.0025
    steps = round(level / spacing)
    labels = np.zeros((3, 2 * steps + 3), int)
    labels[:, steps] = 1
    points = np.array([[0.0, spacing], [-0.0 + spacing, spacing]])
    points = np.concatenate([points, [[(2 * steps + 1) * spacing, spacing]]])
    found = distances_to_another_label(labels, np.zeros(2), spacing, points, np.zeros(3, int))
    printed = read_printed(str(published))
    distances = np.repeat(found.astype(np.float32), [100, 60, 40])
    entry = with_distances(tmp_path, printed, "IMA", 0, distances)
    frame, _ = built(tmp_path, published, [entry])
    exact = frame.set_index("epsilon").loc[level, "exact"]
    assert exact == pytest.approx(40 / 200)


def test_a_map_measures_the_distance_to_a_line(tmp_path):
    dataset, _ = make(tmp_path)
    found = map_of(tmp_path)
    wanted = from_the_line(dataset.x_test.astype(np.float64))
    (spacing,) = found["spacing"]
    near = wanted < 0.5  # beyond, the nearest place may lie outside the map
    assert near.sum() > 20 and spacing == np.float32(0.0025)
    assert np.abs(found["distance"][near] - wanted[near]).max() <= 1.001 * spacing
    assert (found["distance"] > 0).all()


@pytest.fixture
def published(root):
    return root / "resources/published/ima.csv"


def with_distances(folder, printed, model, replicate, distances, **more):
    path = folder / f"{model}{replicate}.safetensors"
    write_plane(path, 0.5, replicate)
    arrays = io.read_tensors(path)
    io.write_tensors(path, arrays | {"distance": np.asarray(distances, np.float32)})
    return made_entry(
        folder, printed, MOONS, model, replicate=replicate, spread=0.1, plane=str(path), **more
    )


def built(folder, published, entries):
    files = draw("ima", "exact", made_request(folder, "exact", published, entries))
    assert {file.suffix for file in files} >= {".html", ".csv", ".md", ".tex"}
    return pd.read_csv(folder / "exact.csv"), (folder / "exact.md").read_text()


def test_the_table_is_of_the_first_replicate(tmp_path, published):
    printed = read_printed(str(published))
    near = np.repeat([0.0, 0.04, 0.12, 0.4], 50)
    entries = [
        with_distances(tmp_path, printed, "IMA", 1, np.zeros(200)),
        with_distances(tmp_path, printed, "IMA", 0, near),
        with_distances(tmp_path, printed, "ce", 0, np.full(200, np.inf), source="generated"),
    ]
    frame, text = built(tmp_path, published, entries)
    found = frame[frame["method"] == "IMA"].set_index("epsilon")
    assert list(found.index) == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    assert list(found["exact"]) == [0.75, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    # The made tallies have about the printed accuracies, lower by 0.1 for the second training.
    assert found.loc[0.2, "pgd"] == pytest.approx(0.9755, abs=0.01)
    assert np.allclose(found["pgd_misses"], found["pgd"] - found["exact"])
    assert found["noise"].notna().sum() == 3 and set(found["replicate"]) == {0}
    assert (frame.loc[frame["method"] == "ce", "exact"] == 1).all()
    assert "PGD misses" in text and "Not in the paper" in text


def test_without_a_map_the_table_says_so(tmp_path, published):
    printed = read_printed(str(published))
    entry = made_entry(tmp_path, printed, MOONS, "IMA", attacks=["pgd_moons"])
    frame, text = built(tmp_path, published, [entry])
    assert frame.empty and "not run" in text
    old = dataclasses.replace(entry, plane=write_plane(tmp_path / "old.safetensors", 1.0))
    with pytest.raises(InputError, match="no distances"):
        built(tmp_path, published, [old])


def test_made_up_data_are_marked(tmp_path, published):
    printed = read_printed(str(published))
    entry = with_distances(tmp_path, printed, "IMA", 0, np.zeros(200), source="standin")
    frame, text = built(tmp_path, published, [entry])
    assert set(frame["data"]) == {"SYNTHETIC"} and "SYNTHETIC" in text
