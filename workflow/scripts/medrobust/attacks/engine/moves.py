"""How the rows of runs side by side start and move: within balls of the maximum norm, or of L2."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from medrobust.attacks.engine.ball import START_STREAM, Optimizer, SteppedSpec, starting_rows


class Moves(Protocol):
    """Starts and moves rows float32 ``[places, d]``, each within the ball around its point."""

    def start(self, places: np.ndarray, x: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Gives places to runs.

        Args:
            places: int64 ``[k]``.
            x: float32 ``[k, d]``, their points.
            seeds: int64 ``[k]``.

        Returns:
            float32 ``[k, d]``, where the runs begin.
        """
        ...

    def step(
        self, active: np.ndarray, taken: np.ndarray, slopes: np.ndarray, rows: np.ndarray
    ) -> None:
        """Moves rows up their slopes.

        Args:
            active: bool ``[places]``, which rows move.
            taken: int64 ``[places]``, steps that each row has taken.
            slopes, rows: float32 ``[places, d]``; rows are changed.
        """
        ...


class LinfMoves:
    """Moves by an optimiser within balls of the maximum norm, cut to the clip box.

    Args:
        spec: the attack's settings.
        shape: places and values per row.
    """

    def __init__(self, spec: SteppedSpec, shape: tuple[int, int]) -> None:
        self._spec = spec
        self._ascent = Ascent(spec.optimizer, spec.step_length(), spec.num_steps, shape)
        self._least, self._most = np.zeros((2, *shape), dtype=np.float32)

    def start(self, places: np.ndarray, x: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Gives places to runs; see :class:`Moves`."""
        rows, self._least[places], self._most[places] = starting_rows(
            x, seeds, self._spec, random=self._spec.random_start
        )
        self._ascent.reset(places)
        return rows

    def step(
        self, active: np.ndarray, taken: np.ndarray, slopes: np.ndarray, rows: np.ndarray
    ) -> None:
        """Moves rows; see :class:`Moves`."""
        self._ascent.step(active, taken, slopes, self._least, self._most, rows)


class L2Moves:
    """Moves along slopes of length 1 within balls of L2, cut to the clip box.

    As advertorch's ``PGDAttack`` with ``ord=2``, which ima evaluates with: a start is a uniform
    draw from the clip box; start and steps are cut to the box, then shortened to the radius.

    Args:
        spec: the attack's settings.
        shape: places and values per row.
    """

    def __init__(self, spec: SteppedSpec, shape: tuple[int, int]) -> None:
        from medrobust.attacks.engine import l2_kernels

        self._kernels, self._spec, self._box = l2_kernels, spec, spec.box()
        self._points = np.zeros(shape, dtype=np.float32)

    def start(self, places: np.ndarray, x: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Gives places to runs; see :class:`Moves`."""
        self._points[places] = x
        rows = x.copy()
        if self._spec.random_start:
            self._kernels.box_start(x, seeds, START_STREAM, self._spec.epsilon, *self._box, rows)
        return rows

    def step(
        self, active: np.ndarray, taken: np.ndarray, slopes: np.ndarray, rows: np.ndarray
    ) -> None:
        """Moves rows; see :class:`Moves`."""
        self._kernels.climb(
            active, slopes, self._spec.step_length(), self._points, self._spec.epsilon, *self._box,
            rows,
        )  # fmt: skip


class Ascent:
    """Steps of many rows by an optimiser, each row at its own step.

    Args:
        optimizer: "sign", "adam" or "adamax".
        step_size: length of a step, or learning rate.
        num_steps: most steps of a row.
        shape: rows and values per row.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: float, num_steps: int, shape: tuple[int, int]
    ) -> None:
        from medrobust.attacks.engine import ball_kernels as kernels

        self._kernels = kernels
        self._code = {"sign": kernels.SIGN, "adam": kernels.ADAM, "adamax": kernels.ADAMAX}[
            optimizer
        ]
        self._sizes, self._corrections = step_sizes(optimizer, step_size, num_steps)
        self._first = np.zeros(shape, dtype=np.float32)
        self._second = np.zeros(shape, dtype=np.float32)

    def reset(self, rows: np.ndarray) -> None:
        """Forgets the moments of rows, int64 ``[k]``."""
        self._first[rows] = 0
        self._second[rows] = 0

    def step(
        self,
        active: np.ndarray,
        taken: np.ndarray,
        slopes: np.ndarray,
        least: np.ndarray,
        most: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        """Moves rows up their slopes, within limits.

        Args:
            active: bool ``[k]``, which rows move.
            taken: int64 ``[k]``, steps that each row has taken.
            slopes, least, most, rows: float32 ``[k, d]``; rows are changed.
        """
        now = np.where(active, taken, 0)
        self._kernels.ascend(
            self._code, active, slopes, self._sizes[now], self._corrections[now], least, most,
            rows, self._first, self._second,
        )  # fmt: skip


def step_sizes(
    optimizer: Optimizer, step_size: float, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the length of each step, and Adam's correction of its second moment, float32.

    Args:
        optimizer: "sign", "adam" or "adamax".
        step_size: length of a step, or learning rate.
        num_steps: most steps of a row.
    """
    from medrobust.attacks.engine import ball_kernels as kernels

    t = np.arange(1, num_steps + 1)
    sizes = np.full(num_steps, step_size)
    if optimizer != "sign":
        sizes /= 1 - kernels.FIRST_DECAY**t
    return sizes.astype(np.float32), np.sqrt(1 - kernels.SECOND_DECAY**t).astype(np.float32)
