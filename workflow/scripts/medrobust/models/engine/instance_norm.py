"""Instance normalisation and leaky ReLU in one, there and back, on a CPU.

PyTorch's instance normalisation copies maps whose channels lie side by side to its usual order and
back, and leaky ReLU is another pass each way. Here both are one compiled loop, and only what the
convolution before them gave is kept for the way back, beside means and deviations.

With ``u = (x - mean) r``, ``r = (variance + epsilon) ** -0.5`` of a map and a scale ``s``, slopes
``g`` at the normalised map, scaled and shifted, become ``s r (g - A - u B)`` at ``x``, where ``A``
and ``B`` are the means of ``g`` and ``g u``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd import Function

from medrobust.models.engine import instance_norm_kernels as kernels


class LeakyNormalised(Function):
    """Maps ``[n, k, h, w]`` normalised by their own statistics, after leaky ReLU."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        shift: torch.Tensor,
        epsilon: float,
        slope: float,
    ) -> torch.Tensor:
        """Returns the maps, channels side by side.

        Args:
            ctx: given by PyTorch.
            x: float32 on the CPU; fastest with channels side by side.
            scale, shift: float32 ``[k]``.
            epsilon: that is added to variances.
            slope: of the leaky ReLU below zero.
        """
        y = torch.empty_like(x, memory_format=torch.channels_last)
        mean, inverse = (x.new_empty(x.shape[:2]) for _ in range(2))
        kernels.normalise(
            _rows(x), scale.numpy(), shift.numpy(), epsilon, np.float32(slope),
            _rows(y), mean.numpy(), inverse.numpy(),
        )  # fmt: skip
        ctx.save_for_backward(x, scale, shift, mean, inverse)
        ctx.slope = slope
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns slopes at maps, scale and shift; None where they are not asked for."""
        x, scale, shift, mean, inverse = ctx.saved_tensors
        to_x = torch.empty_like(x, memory_format=torch.channels_last)
        sums = np.zeros((2, len(scale)))
        kernels.slopes(
            _rows(slopes[0]), _rows(x), scale.numpy(), shift.numpy(), np.float32(ctx.slope),
            mean.numpy(), inverse.numpy(), _rows(to_x), *sums,
        )  # fmt: skip
        to_scale, to_shift = torch.from_numpy(sums).to(x.dtype)
        found = (to_x, to_scale, to_shift, None, None)
        asked = zip(found, ctx.needs_input_grad, strict=True)
        return tuple(value if wanted else None for value, wanted in asked)


def _rows(maps: torch.Tensor) -> np.ndarray:
    """Returns maps as an array ``[n, h * w, k]``: a view, if channels lie side by side."""
    n, channels, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(n, height * width, channels).numpy()
