"""Traces of attacks: how near each attack run had come after how many iterations and queries.

An engine that keeps traces stores them beside its records, in the file of arrays, over
(point, restart, iterations done); index 0 is the adversarial start. An iteration does not
depend on how many are to come, so entry t is what an attack run of t iterations would have ended
with. Distances are in the norm that the attack minimises and follow the convention of
:mod:`medrobust.evaluation.statistics`: 0 where the model misclassifies the point without any
attack, +inf where no adversarial example is known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError

QUERIES, BOUNDARY, ITERATE = "trace_queries", "trace_boundary", "trace_iterate"


@dataclass(frozen=True)
class StoredTraces:
    """Traces of the attack runs on n points with r restarts and at most T iterations.

    Where an attack run ended before its last iteration, its last entry stands in all later ones:
    that is what it would have ended with.

    Attributes:
        point_id: int64 ``[n]``, ascending.
        queries: int64 ``[n, r, T + 1]``, queries spent so far in this restart, never falling.
        boundary: float64 ``[n, r, T + 1]``, smallest distance so far of a point projected to the
            decision boundary, never rising; +inf where the attack run failed.
        iterate: float64 ``[n, r, T + 1]``, distance of the unprojected iterate, which may rise;
            +inf where the attack run failed.
    """

    point_id: np.ndarray
    queries: np.ndarray
    boundary: np.ndarray
    iterate: np.ndarray

    @property
    def restarts(self) -> int:
        """Number of restarts."""
        return self.queries.shape[1]

    @property
    def max_iter(self) -> int:
        """Number of iterations that an attack run could do."""
        return self.queries.shape[2] - 1

    def within_queries(self, budgets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the smallest distances over all restarts of so many queries each.

        An iteration counts when it is finished; the iterate is the last one that is.

        Args:
            budgets: integer ``[m]``, queries per restart.

        Returns:
            At the boundary and of the unprojected iterate, float64 ``[n, m]`` each; +inf where
            no restart has an adversarial example yet.
        """
        n, restarts, _ = self.queries.shape
        budgets = np.asarray(budgets)
        smallest = np.full((2, n, budgets.size), np.inf)
        for point, restart in np.ndindex(n, restarts):
            done = np.searchsorted(self.queries[point, restart], budgets, side="right")
            for best, kept in zip(smallest, (self.boundary, self.iterate), strict=True):
                # Before the first entry there is nothing: the place of index -1.
                reached = np.append(np.inf, kept[point, restart])[done]
                best[point] = np.minimum(best[point], reached)
        return smallest[0], smallest[1]


def read_traces(files: Sequence[str | os.PathLike[str]]) -> StoredTraces | None:
    """Reads the traces of the attack on one model.

    Args:
        files: its files of arrays, in any order.

    Returns:
        The traces, or None if the attack's engine kept none.

    Raises:
        InputError: a file is missing or unreadable, only some of the files or arrays are there,
            shapes or types are not those of traces, a point occurs twice, or a trace contradicts
            itself.
    """
    parts = [_read_part(Path(file)) for file in files]
    kept = [part for part in parts if part is not None]
    if not kept:
        return None
    where = ", ".join(str(file) for file in files)
    if len(kept) < len(parts) or len({part[QUERIES].shape[1:] for part in kept}) > 1:
        raise InputError(
            "The traces of these files do not belong together.",
            where=where,
            remedy="run the attack again, all points with the same settings.",
        )
    joined = {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}
    order = np.argsort(joined["point_id"], kind="stable")
    joined = {name: array[order] for name, array in joined.items()}
    if (np.diff(joined["point_id"]) == 0).any():
        raise InputError("A point occurs twice in these traces.", where=where)
    return StoredTraces(
        joined["point_id"],
        np.maximum.accumulate(joined[QUERIES], axis=-1),
        _held(joined[BOUNDARY]),
        _held(joined[ITERATE]),
    )


def _read_part(path: Path) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        raise InputError("This file of adversarial arrays does not exist.", where=str(path))
    tensors = io.read_tensors(path)
    names = (QUERIES, BOUNDARY, ITERATE)
    missing = [name for name in names if name not in tensors]
    if len(missing) == len(names):
        return None
    if missing or "point_id" not in tensors:
        lacking = ", ".join(missing) or "point_id"
        raise InputError(f"Arrays are missing: {lacking}.", where=str(path))
    part = {name: tensors[name] for name in ("point_id", *names)}
    for problem, found in _problems(part).items():
        if found:
            raise InputError(
                f"These traces are not valid: {problem}.",
                where=str(path),
                remedy="run the attack again with this version of medrobust.",
            )
    return part


def _problems(part: dict[str, np.ndarray]) -> dict[str, bool]:
    """Returns, for each rule that traces must keep, whether it is broken."""
    queries, boundary, iterate = part[QUERIES], part[BOUNDARY], part[ITERATE]
    shapes = {queries.shape, boundary.shape, iterate.shape}
    kinds = (part["point_id"].dtype.kind, queries.dtype.kind, boundary.dtype.kind)
    if (
        len(shapes) > 1
        or queries.ndim != 3
        or 0 in queries.shape
        or part["point_id"].shape != queries.shape[:1]
        or (*kinds, iterate.dtype.kind) != ("i", "i", "f", "f")
    ):
        return {"shapes or types disagree": True}
    reached = ~np.isnan(boundary)
    # Comparisons with NaN are false: where nothing was reached, nothing is asked.
    both = reached[..., 1:] & reached[..., :-1]
    rises = (np.diff(boundary, axis=-1) > 0) & both
    falls = (np.diff(queries, axis=-1) < 0) & both
    wrong = [(a < 0) | np.isinf(a) for a in (boundary, iterate)]
    return {
        "a run goes on after it ended": bool((reached[..., 1:] & ~reached[..., :-1]).any()),
        "the two distances do not end together": bool((reached == np.isnan(iterate)).any()),
        "the smallest distance rises": bool(rises.any()),
        "the number of queries falls or is negative": bool(falls.any() or (queries < 0).any()),
        "a distance is negative or infinite": bool(wrong[0].any() or wrong[1].any()),
    }


def _held(distances: np.ndarray) -> np.ndarray:
    """Returns distances in which an ended run keeps its last one; +inf where there is none."""
    last = np.maximum.accumulate(
        np.where(np.isnan(distances), 0, np.arange(distances.shape[-1])), axis=-1
    )
    held = np.take_along_axis(distances, last, axis=-1).astype(np.float64)
    return np.where(np.isnan(held), np.inf, held)
