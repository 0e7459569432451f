"""Moons: on their curves, with the stated noise, from seeds of their own; no files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching.fetch import choose_source, locate_or_fetch
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import Prepared, load_dataset
from medrobust.data.registry import load_registry
from medrobust.data.sets import moons


def made(seed: int = 1, source: str = "generated", **options: object) -> Prepared:
    return moons.adapt(options, source, {}, seed=seed)


def test_the_numbers_of_the_paper_and_the_ranges() -> None:
    data = made()
    assert [len(part) for part in data.folds[0]] == [20_000, 2_000, 2_000]
    assert data.x.shape == (24_000, 2) and data.x.dtype == np.float32 and not data.synthetic
    for part in data.folds[0]:
        assert np.bincount(data.y[part]).tolist() == [len(part) // 2] * 2
    low, high = data.input_range
    # A perturbation of at most 0.3 stays inside.
    assert low < data.x.min() - 0.3 and data.x.max() + 0.3 < high


def distance_to_curve(x: np.ndarray, label: int) -> np.ndarray:
    """Returns the distance to the half circle of a class, found by trying 2,000 of its points."""
    angle = np.linspace(0, np.pi, 2000)
    curve = np.column_stack([np.cos(angle), np.sin(angle)])
    if label == 1:
        curve = [1, 0.5] - curve
    return np.linalg.norm(x[:, None] - curve, axis=2).min(axis=1)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_points_lie_on_two_half_circles_in_raw_coordinates(noise: float) -> None:
    data = made(noise=noise, n_train=2000, n_val=10, n_test=10)
    for label in (0, 1):
        away = distance_to_curve(data.x[data.y == label].astype(float), label)
        # Across the curve the noise has one dimension, at its ends two.
        assert np.sqrt((away**2).mean()) == pytest.approx(noise, rel=0.1, abs=1e-3)


def test_every_split_has_a_seed_of_its_own() -> None:
    one, same, other = made(1), made(1), made(2)
    np.testing.assert_array_equal(one.x, same.x)
    assert len(np.intersect1d(one.x[:, 0], other.x[:, 0])) < 100
    fewer = made(1, n_train=100)
    np.testing.assert_array_equal(fewer.x[100:], one.x[20_000:])
    val, test = one.x[20_000:22_000], one.x[22_000:]
    assert not np.allclose(np.sort(val[:, 0]), np.sort(test[:, 0]), atol=1e-6)


def test_a_stand_in_is_small_and_says_so() -> None:
    data = made(source="standin", n_train=1200, n_test=400)
    assert data.synthetic and "SYNTHETIC" in data.notes[0]
    assert [len(part) for part in data.folds[0]] == [1200, 400, 400]


def test_from_the_registry_to_the_folder_without_any_file(tmp_path: Path) -> None:
    entry = load_registry()["moons"]
    assert choose_source(entry, [tmp_path]) == ("generated", "it is generated")
    manifest = locate_or_fetch(entry, "generated", [tmp_path], tmp_path / "down")
    assert manifest["files"] == [] and not (tmp_path / "down").exists()
    facts = {
        "class_names": entry.classes,
        "shape": entry.shape,
        "official": entry.counts.official,
        "licence": entry.licence,
    }
    folder = tmp_path / "moons@generated"
    card = prepare("moons", entry.adapter, entry.options, "generated", manifest, folder, 7, facts)
    assert card["source"] == "generated" and not card["synthetic"] and card["complete"]
    assert "| stated | training | 10,000 | 10,000 | 20,000 |" in (folder / "card.md").read_text()
    assert {f["code"] for f in card["audit"]} == {"no_duplicates"}
    data = load_dataset(folder)
    assert data.x_val.shape == (2000, 2) and list(data.input_range) == entry.input_range
    np.testing.assert_array_equal(data.x, made(7).x)


def test_wrong_options_are_named() -> None:
    with pytest.raises(InputError, match="noise"):
        made(noise=0.5)
