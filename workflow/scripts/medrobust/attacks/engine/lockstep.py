"""Decision-based steps of many runs at once: bisection to the boundary, estimates of its normal.

Points lie flat: float32 ``[runs, d]``. Whatever is computed for a run depends on that run alone,
not on the others or on their number. Every row that is kept as adversarial is the very float32
row that the model was asked about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medrobust.attacks.engine.queries import BLOCK, Queries

Norm = Literal[2, "inf"]
_BUFFER_BYTES = 2**25
# Half the spacing of floats is lost in every value of a row: shorter perturbations are noise.
_SPACINGS = 8.0


@dataclass(frozen=True)
class Setting:
    """What does not change in an attack.

    Attributes:
        x: float32 ``[runs, d]``, the points under attack.
        queries: asks the model.
        norm: distance to minimise.
        low, high: the clip box.
    """

    x: np.ndarray
    queries: Queries
    norm: Norm
    low: np.float32
    high: np.float32

    def distance(self, rows: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """Returns the distances of rows ``[k, d]`` from their points, float64 ``[k]``."""
        difference = rows.astype(np.float64)
        difference -= self.x[runs]
        if self.norm == 2:
            return np.sqrt(np.square(difference, out=difference).sum(axis=1))
        return np.abs(difference, out=difference).max(axis=1)

    def box(self, rows: np.ndarray) -> np.ndarray:
        """Returns rows as float32 within the clip box."""
        return np.clip(rows, self.low, self.high).astype(np.float32)

    def towards(self, rows: np.ndarray, runs: np.ndarray, extent: np.ndarray) -> np.ndarray:
        """Returns rows drawn to their points.

        Args:
            rows: float32 ``[k, d]``.
            runs: int64 ``[k]``.
            extent: float64 ``[k]``: for norm 2 the part of the segment that is left, in [0, 1];
                for the maximum norm the largest difference left.
        """
        x, extent = self.x[runs].astype(np.float64), extent[:, None]
        if self.norm == 2:
            return self.box(x + extent * (rows - x))
        return self.box(np.clip(rows, x - extent, x + extent))


def to_boundary(setting: Setting, rows: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Bisects between adversarial rows and their points, all runs in lockstep.

    Args:
        setting: the attack.
        rows: float32 ``[runs, d]``, adversarial.
        tolerance: float64 ``[runs]``, in units of the extent (see :meth:`Setting.towards`): the
            bracket is at most so wide in the end.

    Returns:
        the adversarial ends of the brackets, float32 ``[runs, d]``.
    """
    everyone = np.arange(len(rows))
    upper = np.ones(len(rows)) if setting.norm == 2 else setting.distance(rows, everyone)
    lower = np.zeros(len(rows))
    found = rows.copy()
    while (active := np.flatnonzero(upper - lower > tolerance)).size:
        middle = (upper[active] + lower[active]) / 2
        # Two ends next to each other in float64 have no middle.
        stuck = (middle <= lower[active]) | (middle >= upper[active])
        lower[active[stuck]] = upper[active[stuck]]
        active, middle = active[~stuck], middle[~stuck]
        if not active.size:
            break
        tried = setting.towards(rows[active], active, middle)
        hit = setting.queries.adversarial(tried, active)
        found[active[hit]], upper[active[hit]] = tried[hit], middle[hit]
        lower[active[~hit]] = middle[~hit]
    return found


def smallest_radius(setting: Setting) -> float:
    """Returns the shortest perturbation, in L2, that float32 can still tell apart."""
    largest = max(abs(float(setting.low)), abs(float(setting.high)))
    spacing = float(np.spacing(np.float32(largest)))
    return _SPACINGS * spacing * math.sqrt(setting.x.shape[1])


class Normals:
    """Estimates of the boundary's normal from answers to perturbed rows (Chen et al. 2020, eq. 15).

    Args:
        setting: the attack.
        seeds: of the runs; each run draws from a stream of its own for each iteration.
        batch_size: most rows asked about at once.
    """

    def __init__(self, setting: Setting, seeds: list[int], batch_size: int) -> None:
        self._setting, self._seeds = setting, seeds
        d = setting.x.shape[1]
        most = _BUFFER_BYTES // (4 * d)
        # Whether rows are asked about in bulk depends on what they are, not on their number.
        self._bulk = BLOCK < setting.queries.bulk_block <= most
        block = setting.queries.bulk_block if self._bulk else BLOCK
        self._rows = np.empty((max(min(batch_size, most) // block, 1) * block, d), np.float32)

    def estimate(
        self,
        centres: np.ndarray,
        radii: np.ndarray,
        counts: np.ndarray,
        iteration: int,
        normals: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns directions in which rows become adversarial, float64 ``[runs, d]``.

        The answers, 1 and -1, less their mean, weigh the perturbations; where all answers are
        equal, the perturbations are summed with that sign (as ART does).

        Args:
            centres: float32 ``[runs, d]``.
            radii: float64 ``[runs]``, L2 lengths of the perturbations.
            counts: int64 ``[runs]``, perturbations per run.
            iteration: names the stream.
            normals: float32 ``[runs, d]``, unit vectors that the perturbations are orthogonal
                to, before they are clipped.
        """
        runs, d = centres.shape
        total, hits = np.zeros((runs, d)), np.zeros((runs, d))
        adversarial = np.zeros(runs, dtype=np.int64)
        for pieces in self._pieces(centres, radii, counts, iteration, normals):
            self._ask(pieces, centres, total, hits, adversarial)
        mean = 2 * adversarial / np.maximum(counts, 1) - 1
        mixed = 2 * hits - (1 + mean)[:, None] * total
        return np.where((np.abs(mean) == 1)[:, None], mean[:, None] * total, mixed)

    def _pieces(
        self,
        centres: np.ndarray,
        radii: np.ndarray,
        counts: np.ndarray,
        iteration: int,
        normals: np.ndarray | None,
    ) -> Iterator[list[tuple[int, slice]]]:
        """Fills the buffer with perturbed rows, again and again; yields whose rows lie where."""
        from medrobust.attacks.engine.hopskipjump_kernels import perturbed

        setting, none = self._setting, np.empty(0, dtype=np.float32)
        filled, pieces = 0, []
        for run, count in enumerate(counts):
            stream = np.random.SFC64(np.random.SeedSequence([self._seeds[run], 3, iteration]))
            state = stream.state["state"]["state"].copy()
            normal = none if normals is None else normals[run]
            left = int(count)
            while left:
                size = min(left, len(self._rows) - filled)
                place = slice(filled, filled + size)
                # Each row takes bits of its own, so pieces of any length make the same rows.
                perturbed(
                    state, setting.norm == 2, self._rows[place], centres[run], radii[run], normal,
                    setting.low, setting.high,
                )  # fmt: skip
                pieces.append((run, place))
                filled, left = filled + size, left - size
                if filled == len(self._rows):
                    yield pieces
                    filled, pieces = 0, []
        if pieces:
            yield pieces

    def _ask(
        self,
        pieces: list[tuple[int, slice]],
        centres: np.ndarray,
        total: np.ndarray,
        hits: np.ndarray,
        adversarial: np.ndarray,
    ) -> None:
        from medrobust.attacks.engine.hopskipjump_kernels import accumulate

        sizes = [place.stop - place.start for _, place in pieces]
        owners = np.repeat([run for run, _ in pieces], sizes)
        rows = self._rows[: len(owners)]
        answers = self._setting.queries.adversarial(rows, owners, bulk=self._bulk)
        for run, place in pieces:
            accumulate(rows[place], centres[run], answers[place], total[run], hits[run])
            adversarial[run] += int(answers[place].sum())
