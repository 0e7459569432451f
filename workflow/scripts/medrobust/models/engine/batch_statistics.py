"""Batch normalisation in training whose way back can be gone twice without many passes.

Values and slopes are PyTorch's. The second way back, of a loss that contains gradients with respect
to the points, is composed of dozens of PyTorch's functions; here it is two loops.

With ``u = (x - mean) r``, ``r = (variance + epsilon) ** -0.5`` and a scale ``s``, slopes ``g`` at
the normalised values become ``s r (g - A - u B)`` at ``x``, where ``A`` and ``B`` are the means of
``g`` and ``g u``. A loss with the slopes ``v`` at these, ``p`` at ``sum(g u)`` and ``q`` at
``sum(g)``, which are the slopes at scale and shift, has the following ones, ``C``, ``D`` and ``E``
being the means of ``v``, ``v u`` and ``v g``:

* at ``g``: ``s r (v - C - u D) + p u + q``;
* at ``x``: ``-s r^2 ((E - A C - 3 B D) u + D (g - A) + B (v - C)) + p r (g - A - u B)``;
* at ``s``: ``n r (E - A C - B D)`` for ``n`` values of a map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd import Function

from medrobust.models.engine import batch_statistics_kernels as kernels


class Normalised(Function):
    """Maps ``[n, k, h, w]``, channels side by side on a CPU, normalised by their own statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        shift: torch.Tensor,
        means: torch.Tensor,
        variances: torch.Tensor,
        momentum: float,
        epsilon: float,
    ) -> torch.Tensor:
        """Returns the normalised maps; adds the statistics to the averages, all ``[k]``."""
        values, mean, inverse = torch.native_batch_norm(
            x, scale, shift, means, variances, True, momentum, epsilon
        )
        ctx.save_for_backward(x, scale, mean, inverse)
        return values

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns slopes at maps, scale and shift."""
        return *_Slopes.apply(slopes[0], *ctx.saved_tensors), None, None, None, None


class _Slopes(Function):
    """Slopes at maps, scale and shift from those at the normalised maps."""

    @staticmethod
    def forward(
        ctx: Any,
        slopes: torch.Tensor,
        x: torch.Tensor,
        scale: torch.Tensor,
        mean: torch.Tensor,
        inverse: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(slopes, x, scale, mean, inverse)
        return torch.ops.aten.native_batch_norm_backward(
            slopes, x, scale, None, None, mean, inverse, True, 0.0, [True, True, True]
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *changes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        slopes, x, scale, mean, inverse = ctx.saved_tensors
        values = [_rows(one) for one in (changes[0], slopes, x)]
        s, r, p, q = (one.double().numpy() for one in (scale, inverse, *changes[1:]))
        found = torch.zeros((5, len(mean)), dtype=torch.float64).numpy()
        kernels.sums(*values, mean.numpy(), found)
        count = len(values[0])
        a, c, b, d, e = found / count
        b, d = b * r, d * r
        inner = e - a * c
        factors = [
            s * r, r * (p - s * r * d), q - s * r * c,
            r * (p - s * r * d), -s * r**2 * b, -s * r**3 * (inner - 3 * b * d) - p * r**2 * b,
            s * r**2 * (d * a + b * c) - p * r * a,
        ]  # fmt: skip
        to_slopes, to_x = (torch.empty_like(x, memory_format=torch.channels_last) for _ in range(2))
        combined = torch.from_numpy(np.stack(factors)).to(x.dtype).numpy()
        kernels.combine(*values, mean.numpy(), combined, _rows(to_slopes), _rows(to_x))
        to_scale = torch.from_numpy(count * r * (inner - b * d)).to(scale.dtype)
        return to_slopes, to_x, to_scale, None, None


def _rows(maps: torch.Tensor) -> np.ndarray:
    """Returns maps ``[n, k, h, w]`` as an array ``[n * h * w, k]``: a view, if they lie like it."""
    return maps.detach().permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).numpy()
