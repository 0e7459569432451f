"""Starts and steps within balls on tensors: :mod:`medrobust.attacks.engine.moves` for a GPU.

The same steps from the same draws as there (:mod:`medrobust.attacks.engine.tensor_draws`), row by
row, so results differ by rounding alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from medrobust.attacks.engine import tensor_draws
from medrobust.attacks.engine.ball import START_STREAM, BallSpec, SteppedSpec
from medrobust.attacks.engine.moves import step_sizes

if TYPE_CHECKING:
    from torch import Tensor

# As in :mod:`medrobust.attacks.engine.ball_kernels` and :mod:`medrobust.attacks.engine.l2_kernels`.
_FIRST_WEIGHT, _SECOND_DECAY, _SECOND_WEIGHT, _EPSILON = 1.0 - 0.9, 0.999, 1.0 - 0.999, 1e-8
_WITHIN, _ROUNDING = 1.0 - 1e-10, 2.0**-24 * (1.0 + 1e-6)


class TensorMoves(Protocol):
    """Starts and moves rows float32 ``[places, d]``, each within the ball around its point."""

    def start(self, places: Tensor, x: Tensor, seeds: Tensor) -> Tensor:
        """Gives places to runs.

        Args:
            places: int64 ``[k]``.
            x: float32 ``[k, d]``, their points.
            seeds: int64 ``[k]``.

        Returns:
            float32 ``[k, d]``, where the runs begin.
        """
        ...

    def step(self, active: Tensor, taken: Tensor, slopes: Tensor, rows: Tensor) -> Tensor:
        """Returns the rows a step up their slopes.

        Args:
            active: bool ``[places]``, which rows move.
            taken: int64 ``[places]``, steps that each row has taken.
            slopes, rows: float32 ``[places, d]``.
        """
        ...


def moves_of(spec: SteppedSpec, shape: tuple[int, int], device: str) -> TensorMoves:
    """Returns the moves of an attack's settings.

    Args:
        spec: of the attack; its norm is the maximum norm unless it says otherwise.
        shape: places and values per row.
        device: of the tensors.
    """
    l2 = getattr(spec, "norm", "linf") == "l2"
    return (TensorL2Moves if l2 else TensorLinfMoves)(spec, shape, device)


class TensorLinfMoves:
    """Moves by an optimiser within balls of the maximum norm, cut to the clip box.

    Args:
        spec, shape, device: see :func:`moves_of`.
    """

    def __init__(self, spec: SteppedSpec, shape: tuple[int, int], device: str) -> None:
        import torch

        self._spec, self._optimizer = spec, spec.optimizer
        sizes, corrections = step_sizes(spec.optimizer, spec.step_length(), spec.num_steps)
        # A run that has taken all its steps takes no other: any size will do.
        self._sizes = torch.from_numpy(np.append(sizes, 0.0).astype(np.float32)).to(device)
        self._corrections = torch.from_numpy(np.append(corrections, 1.0).astype(np.float32))
        self._corrections = self._corrections.to(device)
        self._least, self._most, self._first, self._second = (
            torch.zeros(shape, device=device) for _ in range(4)
        )

    def start(self, places: Tensor, x: Tensor, seeds: Tensor) -> Tensor:
        """Gives places to runs; see :class:`TensorMoves`."""
        rows, self._least[places], self._most[places] = starting_rows(
            x, seeds, self._spec, random=self._spec.random_start
        )
        self._first[places] = 0.0
        self._second[places] = 0.0
        return rows

    def step(self, active: Tensor, taken: Tensor, slopes: Tensor, rows: Tensor) -> Tensor:
        """Returns moved rows; see :class:`TensorMoves`."""
        import torch

        active, sizes = active[:, None], self._sizes[taken][:, None]
        # The sign of NaN is 0.
        move = (slopes > 0).float() - (slopes < 0).float()
        if self._optimizer != "sign":
            move = self._optimised(active, self._corrections[taken][:, None], move)
        moved = torch.clamp(rows + sizes * move, self._least, self._most)
        return torch.where(active, moved, rows)

    def _optimised(self, active: Tensor, corrections: Tensor, signs: Tensor) -> Tensor:
        """Returns the moves of Adam or Adamax, and keeps the moments of active rows."""
        import torch

        first = self._first + _FIRST_WEIGHT * (signs - self._first)
        if self._optimizer == "adamax":
            second = torch.maximum(_SECOND_DECAY * self._second, signs.abs() + _EPSILON)
            scale = second
        else:
            second = self._second * _SECOND_DECAY + _SECOND_WEIGHT * (signs * signs)
            scale = second.sqrt() / corrections + _EPSILON
        self._first = torch.where(active, first, self._first)
        self._second = torch.where(active, second, self._second)
        return first / scale


class TensorL2Moves:
    """Moves along slopes of length 1 within balls of L2, cut to the clip box, in float64.

    Args:
        spec, shape, device: see :func:`moves_of`.
    """

    def __init__(self, spec: SteppedSpec, shape: tuple[int, int], device: str) -> None:
        import torch

        self._spec, self._box = spec, [float(end) for end in spec.box()]
        self._points = torch.zeros(shape, device=device)

    def start(self, places: Tensor, x: Tensor, seeds: Tensor) -> Tensor:
        """Gives places to runs; see :class:`TensorMoves`."""
        self._points[places] = x
        if not self._spec.random_start:
            return x.clone()
        low, high = self._box
        draws = _uniform(x, seeds).double()
        return self._pulled_in(x, (low + high) / 2 + (high - low) / 2 * draws)

    def step(self, active: Tensor, taken: Tensor, slopes: Tensor, rows: Tensor) -> Tensor:
        """Returns moved rows; see :class:`TensorMoves`. Slopes of 0, or not finite, move none."""
        import torch

        slopes = slopes.double()
        steepness = _lengths(slopes)
        usable = active & (steepness > 0) & torch.isfinite(steepness)
        scale = self._spec.step_length() / steepness
        moved = self._pulled_in(self._points, rows.double() + scale[:, None] * slopes)
        return torch.where(usable[:, None], moved, rows)

    def _pulled_in(self, points: Tensor, wish: Tensor) -> Tensor:
        """Returns where a wish leads: cut to the clip box, then shortened to the radius.

        The radius is made smaller by what rounding to float32 may add: see ``l2_kernels.pull_in``.
        """
        import torch

        low, high = self._box
        centre, epsilon = points.double(), self._spec.epsilon
        away = torch.clamp(wish, centre.clamp(max=low), centre.clamp(min=high)) - centre
        far = _lengths(away)
        radius = epsilon * _WITHIN - _ROUNDING * (_lengths(centre) + far.clamp(max=epsilon))
        scale = torch.where(far > radius, radius.clamp(min=0.0) / far, 1.0)
        return (centre + scale[:, None] * away).float()


def starting_rows(
    x: Tensor, seeds: Tensor, spec: BallSpec, *, random: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns where runs begin, and the least and the most that their values may become.

    As :func:`medrobust.attacks.engine.ball.starting_rows`.

    Args:
        x: float32 ``[k, d]``, their points.
        seeds: int64 ``[k]``.
        spec: the attack's settings.
        random: whether rows are drawn uniformly from the ball, else they are the points.
    """
    import torch

    least, most = _limits(x, spec.epsilon, *(float(end) for end in spec.box()))
    if not random:
        return x.clone(), least, most
    size = float(np.float32(spec.epsilon))
    return torch.clamp(x + size * _uniform(x, seeds), least, most), least, most


def _uniform(x: Tensor, seeds: Tensor) -> Tensor:
    """Returns the draws of runs' starts, uniform in [-1, 1], as many as there are values."""
    d = x.shape[1]
    keys = tensor_draws.stream_keys(seeds, START_STREAM)
    return tensor_draws.signed(tensor_draws.words(keys, 0, (d + 1) // 2), d)


def _limits(x: Tensor, epsilon: float, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Returns the ends of what values may become: see ``ball_kernels.limits``."""
    import torch

    exact = x.double()
    infinity = torch.full_like(x, torch.inf)
    up, down = (exact + epsilon).float(), (exact - epsilon).float()
    up = torch.where(up.double() - exact > epsilon, torch.nextafter(up, -infinity), up)
    down = torch.where(exact - down.double() > epsilon, torch.nextafter(down, infinity), down)
    return torch.minimum(down.clamp(min=low), x), torch.maximum(up.clamp(max=high), x)


def _lengths(rows: Tensor) -> Tensor:
    """Returns the L2 norm of rows, float64 ``[k]``."""
    return (rows * rows).sum(dim=1).sqrt()
