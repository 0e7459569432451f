"""Counts of pixels and the scores made of them, by hand and by sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from medrobust.evaluation import segmentation


def test_counts_and_distances_of_a_square_that_is_moved():
    target = np.zeros((1, 9, 9), dtype=np.int64)
    target[0, 2:5, 2:5] = 1
    said = np.zeros_like(target)
    said[0, 2:5, 4:7] = 1
    found = segmentation.counted(said, target, 3, (1.0, 0.5))
    assert {k: found[k].tolist() for k in ("tp", "fp", "fn")} == {
        "tp": [[3, 0]],
        "fp": [[6, 0]],
        "fn": [[6, 0]],
    }
    # Two pixels aside, of half a millimetre each; the second class is not there.
    assert found["hd95"][0, 0] == pytest.approx(1.0) and np.isnan(found["hd95"][0, 1])
    same = segmentation.counted(target, target, 3, (1.0, 0.5))
    assert same["hd95"][0, 0] == 0 and same["fp"].sum() == same["fn"].sum() == 0


def records() -> pd.DataFrame:
    rows = [
        # number, class, epsilon, tp, fp, fn
        (0, 1, 0.0, 8, 2, 0),
        (0, 2, 0.0, 1, 1, 1),
        (1, 1, 0.0, 2, 0, 6),
        (1, 2, 0.0, 0, 0, 4),
        (0, 1, 5.0, 0, 9, 8),
        (0, 2, 5.0, 0, 0, 2),
        (1, 1, 5.0, 0, 0, 8),
        (1, 2, 5.0, 4, 0, 0),
    ]
    return pd.DataFrame(rows, columns=["number", "class", "epsilon", "tp", "fp", "fn"])


def test_total_voxel_dice_sums_first_and_average_dice_last():
    total = segmentation.total_dice(records())
    assert total.loc[0.0, 1] == pytest.approx(20 / 28) and total.loc[0.0, 2] == pytest.approx(2 / 8)
    assert total.loc[5.0].tolist() == pytest.approx([0, 8 / 10])
    each = segmentation.slice_dice(records())
    first, second = (16 / 18 + 2 / 4) / 2, (4 / 10 + 0) / 2
    assert each[0.0].tolist() == pytest.approx([first, second])
    assert each[5.0].tolist() == pytest.approx([0, 0.5])
