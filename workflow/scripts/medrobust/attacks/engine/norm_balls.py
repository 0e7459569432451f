"""Balls around points, each with a radius of its own: starts, steps and lengths in Linf and L2.

As ima describes projected gradient descent (equation 1): in Linf a step is along the sign of the
gradient, in L2 along the gradient divided by its length; what leaves the ball is projected to it,
then to the range of the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Generator, Tensor

Norm = Literal["linf", "l2"]


def lengths(perturbations: Tensor, norm: Norm) -> Tensor:
    """Returns the norm of each row, ``[n]``, of perturbations ``[n, d]``."""
    return perturbations.norm(dim=1, p=float("inf") if norm == "linf" else 2)


def uniform_start(
    x: Tensor,
    radius: Tensor,
    norm: Norm,
    input_range: tuple[float, float],
    generator: Generator,
) -> Tensor:
    """Returns points near ``x``: uniform noise in ``+-radius``, projected to the ball of the norm.

    Args:
        x: ``[n, d]``.
        radius: ``[n]``.
        norm: of the ball; in L2 most starts lie on the sphere, since the noise of many coordinates
            is longer than the radius.
        input_range: lowest and highest valid value.
        generator: of the noise, on the device of ``x``.
    """
    import torch

    noise = torch.empty_like(x).uniform_(-1, 1, generator=generator).mul_(radius[:, None])
    if norm == "l2":
        _shorten(noise, radius)
    return noise.add_(x).clamp_(*input_range)


class Balls:
    """Balls around points, of which some may be let go.

    Args:
        x: centres, within the range of the data, ``[n, d]``.
        radius: of each, ``[n]``.
        norm: "linf" or "l2".
        input_range: lowest and highest valid value.
    """

    def __init__(
        self, x: Tensor, radius: Tensor, norm: Norm, input_range: tuple[float, float]
    ) -> None:
        self._norm, self._range = norm, input_range
        if norm == "linf":
            low = (x - radius[:, None]).clamp_(min=input_range[0])
            high = (x + radius[:, None]).clamp_(max=input_range[1])
            self._bounds = (low, high)
        else:
            self._bounds = (x, radius)

    def keep(self, rows: Tensor) -> None:
        """Keeps the balls of these rows only."""
        first, second = self._bounds
        self._bounds = (first.index_select(0, rows), second.index_select(0, rows))

    def copy(self) -> Balls:
        """Returns the same balls, to be let go apart from these."""
        other = Balls.__new__(Balls)
        other._norm, other._range, other._bounds = self._norm, self._range, self._bounds
        return other

    def step(self, points: Tensor, gradient: Tensor, size: Tensor) -> Tensor:
        """Returns the points after one step and the projection.

        Args:
            points: ``[n, d]``.
            gradient: of what is to rise, ``[n, d]``; overwritten.
            size: length of each row's step in the norm, ``[n, 1]``. A gradient of 0 moves nothing.
        """
        import torch

        first, second = self._bounds
        if self._norm == "linf":
            moved = gradient.sign_().mul_(size).add_(points)
            return torch.clamp(moved, first, second, out=moved)
        away = unit_rows(gradient).mul_(size).add_(points).sub_(first)
        return _shorten(away, second).add_(first).clamp_(*self._range)


def unit_rows(vectors: Tensor) -> Tensor:
    """Returns the rows of ``[n, d]`` divided by their L2 norm; a row of zeros stays."""
    import torch

    norms = vectors.norm(dim=1, keepdim=True)
    # A norm that is no normal number would make the quotient infinite.
    return vectors * torch.where(norms > torch.finfo(norms.dtype).tiny, 1 / norms, 0.0)


def _shorten(perturbations: Tensor, radius: Tensor) -> Tensor:
    """Scales rows that are longer than the radius down to it, in place."""
    lengths = perturbations.norm(dim=1).clamp_(min=1e-30)
    return perturbations.mul_((radius / lengths).clamp_(max=1)[:, None])
