"""Records and arrays of an attack that ran once for each value of a grid, such as of epsilon.

The records of all variants stand in one table; its columns ``epsilon`` and ``loss`` tell them
apart. Arrays are kept of few points only: those of a whole test split at every epsilon would be
gigabytes, and no table needs them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medrobust.core import io
from medrobust.evaluation.records import save_records

#: Arrays with one entry per variant instead of one per point.
BY_VARIANT = frozenset({"epsilon"})


@dataclass(frozen=True)
class Variant:
    """One value of the grid and what the attack made of it.

    Attributes:
        options: the options that are the variant's own, such as ``{"epsilon": 0.1}``.
        x_adv: of what the attack returned the first points' rows, float32 ``[k, r, *shape]``.
        records: its records (:func:`medrobust.evaluation.records.records_from_result`).
    """

    options: Mapping[str, Any]
    x_adv: np.ndarray
    records: pd.DataFrame


def save_grid_chunk(
    path_parquet: str | os.PathLike[str],
    path_arrays: str | os.PathLike[str],
    variants: Sequence[Variant],
    *,
    x: np.ndarray,
    point_ids: np.ndarray,
) -> None:
    """Writes the records of all variants, and the arrays of the first points.

    Args:
        path_parquet: where the records go.
        path_arrays: safetensors: ``point_id`` int64 ``[k]`` in the order given, ``x`` float32
            ``[k, *shape]``, ``x_adv`` float32 ``[k, variants, *shape]`` (the first restart that
            succeeded, else the first) and ``epsilon`` float64 ``[variants]`` (NaN if none).
        variants: results for the same points.
        x: float32 ``[k, *shape]``, the points whose arrays are kept; may be none.
        point_ids: int64 ``[k]``.

    Raises:
        InputError: the records are not valid.
    """
    epsilons = [float(v.options.get("epsilon", np.nan)) for v in variants]
    x_adv = np.empty((len(x), len(variants), *x.shape[1:]), dtype=np.float32)
    for position, variant in enumerate(variants):
        for row, point in enumerate(point_ids):
            x_adv[row, position] = variant.x_adv[row, _restart(variant.records, point)]
    io.write_tensors(
        path_arrays,
        {
            "point_id": np.asarray(point_ids, dtype=np.int64),
            "x": np.ascontiguousarray(x, dtype=np.float32),
            "x_adv": x_adv,
            "epsilon": np.array(epsilons),
        },
    )
    save_records(path_parquet, pd.concat([v.records for v in variants], ignore_index=True))


def _restart(records: pd.DataFrame, point: int) -> int:
    of_point = records[records["point_id"] == point]
    successes = of_point.loc[of_point["success"], "restart"]
    return int(successes.min()) if len(successes) else 0
