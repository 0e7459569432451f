"""What counts as a slip of a name, and numbers in sentences."""

from __future__ import annotations

import pytest
from medrobust.core.errors import nearest
from medrobust.core.words import counted, in_singular

SLIPS = [
    ("papr", ["paper", "laptop", "smoke"], "paper"),
    ("kaggel", ["kaggle", "physionet"], "kaggle"),
    ("mpl", ["bnn", "mlp"], "mlp"),  # two letters changed places
    ("mlpp", ["cnn", "mlp"], "mlp"),  # one too many
    ("CPU", ["auto", "cpu", "cuda"], "cpu"),
    ("resnet", ["mlp", "resnet18"], "resnet18"),
    ("hopskip", ["hopskipjump", "pgd"], "hopskipjump"),  # begun
    ("featurs_per_iteratoin", ["features_per_iteration", "iterations"], "features_per_iteration"),
]
NO_SLIPS = [
    ("gpu", ["auto", "cpu", "cuda"]),
    ("mps", ["auto", "cpu", "cuda"]),
    ("bnn", ["cnn", "mlp"]),
    ("nsr", ["ima"]),
    ("scale", ["smoke", "paper"]),
    ("x", ["y", ""]),
    ("random", ["random_forest", "random_noise"]),  # begun, but of two
    ("forest", ["hopskipjump"]),
]


@pytest.mark.parametrize(("given", "allowed", "meant"), SLIPS)
def test_a_slip_is_told(given, allowed, meant):
    assert nearest(given, allowed) == meant


@pytest.mark.parametrize(("given", "allowed"), NO_SLIPS)
def test_another_name_is_no_slip(given, allowed):
    assert nearest(given, allowed) is None


def test_numbers_take_the_singular_after_one():
    assert counted(1, "row", "rows") == "1 row" and counted(2000, "row", "rows") == "2,000 rows"
    text = "1 rows of 1 patients; 11 rows, 2.1 values, 1 of 3 images, 1,1 pairs in 1 groups."
    said = "1 row of 1 patient; 11 rows, 2.1 values, 1 of 3 images, 1,1 pairs in 1 group."
    assert in_singular(text) == said
