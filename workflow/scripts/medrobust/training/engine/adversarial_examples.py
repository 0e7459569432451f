"""Adversarial examples for training: projected gradient ascent with signed steps.

Nsr's adversarial training (Madry et al. 2017): a random start in the ball, steps of a fixed size
along the sign of the gradient, projection to the ball and to the range of the data, no early stop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


def signed_ascent(
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    input_range: tuple[float, float],
    generator: Generator,
) -> Tensor:
    """Returns points of the ball around ``x`` in the largest norm, where the loss is higher.

    The start is not cut to the range of the data: the first projection is after the first step.

    Args:
        gradient: from points ``[n, d]`` to the gradient of their loss; only signs count. What it
            returns may be overwritten.
        x: points, float ``[n, d]``.
        epsilon: radius of the ball, in the unit of the data.
        steps: number of steps.
        step_size: of each coordinate in each step.
        input_range: lowest and highest valid value.
        generator: of the random start; on the device of ``x``.
    """
    import torch

    with torch.no_grad():
        low = (x - epsilon).clamp_(min=input_range[0])
        high = (x + epsilon).clamp_(max=input_range[1])
        perturbed = torch.empty_like(x).uniform_(-epsilon, epsilon, generator=generator).add_(x)
        for _ in range(steps):
            perturbed.add_(gradient(perturbed).sign_(), alpha=step_size)
            torch.clamp(perturbed, low, high, out=perturbed)
    return perturbed
