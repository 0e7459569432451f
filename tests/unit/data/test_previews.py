"""Pictures of data cards: the right examples, their true colours, any shape of image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from medrobust.data.prepared.previews import examples, image_strip, write_preview
from medrobust.data.prepared.store import Prepared


def prepared(x: np.ndarray, y: np.ndarray, **changes: object) -> Prepared:
    n = len(y)
    arguments = {
        "ids": pd.DataFrame({"row_id": np.arange(n)}),
        "folds": [(np.arange(0, n, 2), np.empty(0, np.int64), np.arange(1, n, 2))],
        "class_names": tuple(f"class {label}" for label in range(int(y.max()) + 1)),
        "input_range": (0.0, 1.0),
        "synthetic": False,
        "complete": True,
    }
    return Prepared(x=x, y=y, **{**arguments, **changes})


def pictures(n: int, shape: tuple[int, ...], classes: int, **changes: object) -> Prepared:
    random = np.random.default_rng(0)
    y = np.arange(n) // 2 % classes
    return prepared(random.integers(0, 256, (n, *shape), dtype=np.uint8), y, **changes)


def test_examples_are_training_rows_spread_over_their_class() -> None:
    y = np.array([0] * 40 + [1] * 6 + [2] * 2)
    data = prepared(np.zeros((48, 1, 2, 2), np.uint8), y, folds=[
        (np.arange(0, 46, 2), np.empty(0, np.int64), np.arange(1, 48, 2))
    ])  # fmt: skip
    chosen = [rows.tolist() for rows in examples(data, 5)]
    assert chosen == [[0, 10, 20, 28, 38], [40, 42, 44], []]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_strip_holds_the_pixels_and_white_between_them(channels: int) -> None:
    data = pictures(12, (channels, 5, 25), 2)
    strip = image_strip(data, np.array([4, 7]), 3)
    assert strip.shape == (5, 25 + 1 + 25 + 1 + 25, 3)
    for place, row in enumerate((4, 7)):
        tile = strip[:, place * 26 : place * 26 + 25]
        for colour in range(3):
            shown = data.x[row, colour if channels == 3 else 0] / 255
            np.testing.assert_allclose(tile[..., colour], shown)
    assert (strip[:, [25, 51]] == 1).all() and (strip[:, 52:] == 1).all()


def test_values_of_any_range_become_black_to_white() -> None:
    x = np.linspace(-1, 3, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    data = prepared(x, np.array([0]), input_range=(-1.0, 3.0))
    strip = image_strip(data, np.array([0]), 1)
    np.testing.assert_allclose(strip[..., 0].ravel(), np.linspace(0, 1, 16), atol=1e-6)


def colours(path: Path) -> np.ndarray:
    return imread(path)[..., :3]


@pytest.mark.parametrize(("classes", "shape"), [(2, (3, 96, 96)), (10, (3, 32, 32))])
def test_each_class_has_its_row_of_pictures(tmp_path: Path, classes: int, shape: tuple) -> None:
    """Class 0 is red, the last one blue, all others black."""
    y = np.arange(300) // 2 % classes
    x = np.zeros((300, *shape), np.uint8)
    x[y == 0, 0] = 255
    x[y == classes - 1, 2] = 255
    write_preview(tmp_path / "p.png", prepared(x, y), "title")
    shown = colours(tmp_path / "p.png")
    red = (shown == [1, 0, 0]).all(axis=2)
    blue = (shown == [0, 0, 1]).all(axis=2)
    # Rows of equal size, one above the other, that together fill most of the picture.
    assert 0.8 < red.sum() / blue.sum() < 1.25
    assert red.sum() > 0.3 * red.size / classes
    assert np.flatnonzero(red.any(axis=1)).max() < np.flatnonzero(blue.any(axis=1)).min()
    assert shown.shape[1] == pytest.approx(7.2 * 150, abs=1) and shown.shape[0] < 1500


def test_grey_pictures_have_no_colour_unless_they_are_stand_ins(tmp_path: Path) -> None:
    fraction = {}
    for synthetic in (True, False):
        data = pictures(80, (1, 28, 28), 10, synthetic=synthetic)
        write_preview(tmp_path / "p.png", data, "title")
        fraction[synthetic] = (np.ptp(colours(tmp_path / "p.png"), axis=2) > 0.05).mean()
    assert fraction[False] == 0 and fraction[True] > 0.02


@pytest.mark.parametrize(
    "data",
    [
        pictures(6, (3, 40, 10), 2),
        pictures(6, (1, 10, 40), 3),
        pictures(40, (2, 8, 8), 8),
        prepared(np.zeros((4, 1, 6, 6), np.uint8), np.array([0, 1, 0, 1])),  # none in training
    ],
    ids=["high", "wide", "two channels", "a class without training rows"],
)
def test_any_shape_can_be_drawn_and_equal_data_give_equal_bytes(
    tmp_path: Path, data: Prepared
) -> None:
    for name in ("a.png", "b.png"):
        write_preview(tmp_path / name, data, "title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert colours(tmp_path / "a.png").shape[1] == pytest.approx(7.2 * 150, abs=1)


def test_points_of_the_plane_are_scattered_in_the_colours_of_their_classes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = np.arange(8000) % 2
    x = (random.normal(0, 0.1, (8000, 2)) + 3 * y[:, None]).astype(np.float32)
    rows = np.arange(8000)
    data = prepared(x, y, folds=[(rows[:4000], rows[4000:6000], rows[6000:])])
    write_preview(tmp_path / "p.png", data, "title")
    shown = colours(tmp_path / "p.png")
    blue = (shown[..., 2] > shown[..., 0] + 0.3) & (shown[..., 2] > 0.5)
    orange = (shown[..., 0] > shown[..., 2] + 0.3) & (shown[..., 0] > 0.5)
    third = shown.shape[1] // 3
    for part in range(3):
        panel = slice(part * third, (part + 1) * third)
        assert blue[:, panel].sum() > 500 and orange[:, panel].sum() > 500
    # Class 1 lies above and to the right of class 0.
    for axis, sign in ((0, -1), (1, 1)):
        centre = [np.argwhere(mask[:, :third])[:, axis].mean() for mask in (blue, orange)]
        assert sign * (centre[1] - centre[0]) > 20


def test_signals_are_still_traces(tmp_path: Path) -> None:
    data = prepared(np.random.default_rng(0).random((40, 30), np.float32), np.arange(40) // 2 % 2)
    write_preview(tmp_path / "p.png", data, "title", subset=True)
    shown = colours(tmp_path / "p.png")
    assert 0.01 < (shown.mean(axis=2) < 0.5).mean() < 0.3
