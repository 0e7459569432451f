"""The grid of an attack: options that take several values in turn, such as epsilon."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any


def grid_variants(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Returns every combination of a grid's values; one empty combination if there is no grid."""
    combinations = itertools.product(*grid.values())
    return [dict(zip(grid, values, strict=True)) for values in combinations]
