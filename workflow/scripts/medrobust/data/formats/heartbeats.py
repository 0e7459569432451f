"""What the heartbeat data sets share: rows of 187 values, cut out of a signal and scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

LENGTH = 187
"""Values per row."""


@dataclass(frozen=True)
class Beats:
    """Heartbeats before any split.

    Attributes:
        x: float32 ``[n, 187]`` in [0, 1].
        y: int64 ``[n]``, labels in the order of the adapter's classes.
        ids: one row per beat: ``row_id`` (0 to n - 1), ``file``, ``position`` (sample where the
            beat starts, at the rate of the record and counted from 0, or row of the CSV file,
            from 1), ``record``, ``patient``, and what else the adapter knows; empty where the
            source does not tell.
        complete: whether this is the whole release.
        notes: what a reader of the data card should know.
    """

    x: np.ndarray
    y: np.ndarray
    ids: pd.DataFrame
    complete: bool
    notes: tuple[str, ...] = ()


def scaled_segments(
    signal: np.ndarray, start: np.ndarray, count: np.ndarray, *, stride: int = 1
) -> np.ndarray:
    """Cuts segments and scales each: minimum to 0, maximum to 1.

    Scaling sees the whole segment; it is then cut to 187 values or filled up with zeros.

    Args:
        signal: integers ``[n_samples]``.
        start: first sample of each segment, int64 ``[n]``.
        count: samples taken of each segment, int64 ``[n]``.
        stride: every how many-th sample is taken.

    Returns:
        float32 ``[n, 187]`` in [0, 1].

    Raises:
        ValueError: a segment is empty or constant.
    """
    if len(start) == 0:
        return np.zeros((0, LENGTH), np.float32)
    if (count < 1).any():
        raise _nothing_there(start[count < 1])
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    within = np.arange(count.sum()) - np.repeat(first, count)
    value = signal[np.repeat(start, count) + stride * within]
    low = np.minimum.reduceat(value, first)
    span = np.maximum.reduceat(value, first) - low
    if (span == 0).any():
        raise _nothing_there(start[span == 0])
    x = np.zeros((len(start), LENGTH), np.float32)
    seen = within < LENGTH
    row = np.repeat(np.arange(len(start)), count)
    scaled = (value - np.repeat(low, count)) / np.repeat(span, count)
    x[row[seen], within[seen]] = scaled[seen]
    return x


def _nothing_there(start: np.ndarray) -> ValueError:
    return ValueError(f"the signal after the beat at sample {start[0]} is empty or constant")
