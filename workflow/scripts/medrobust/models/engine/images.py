"""What networks over square images share: points as images, first values of convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def square(member: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns points ``[n, d]`` as square images ``[n, channels, side, side]``."""
    channels = member["w1"].shape[1]
    side = math.isqrt(x.shape[1] // channels)
    return x.view(-1, channels, side, side)


def initial_kernels(rng: np.random.Generator, outputs: int, inputs: int, width: int) -> np.ndarray:
    """Draws kernels ``[outputs, inputs, width, width]`` as He et al. (2015) do, by their fan out.

    Normal with variance ``2 / (outputs * width^2)``.
    """
    return rng.normal(0, math.sqrt(2 / (outputs * width**2)), (outputs, inputs, width, width))


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """Draws values uniform in ``+-1 / sqrt(fan_in)``: PyTorch's, where a layer says no other."""
    bound = 1 / math.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape)
