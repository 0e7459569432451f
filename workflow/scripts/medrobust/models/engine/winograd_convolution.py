"""Convolutions of width 3 with fewer products that autograd can go back through, on a CPU.

Winograd's (:mod:`medrobust.models.engine.winograd`), there and back to the maps: on one thread a
third to a half less time than PyTorch's take. The way back to maps is a convolution too, with
kernels turned around. Slopes at kernels and biases are PyTorch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd import Function

from medrobust.models.engine import winograd
from medrobust.models.engine.convolutions import slopes_at
from medrobust.models.engine.winograd_kernels import SIDE

#: Below so many channels, before or after, and below so many tiles, PyTorch's is as fast; above so
#: many pairs of channels the transformed kernels do not stay in the processor's cache. Measured
#: with 8 to 1,024 channels and 4 to 37,000 tiles.
FEWEST_CHANNELS, FEWEST_TILES, MOST_PAIRS = 32, 24, 2**18


class TransformedKernels:
    """Kernels of a layer, transformed for both ways, and anew when they have changed.

    Args:
        layer: of width 3.
        memory: that layers which are computed one after the other may share.
    """

    def __init__(self, layer: nn.Conv2d, memory: winograd.Memory) -> None:
        self.memory = memory
        self._layer = layer
        self._seen: torch.Tensor | None = None
        self._ways: dict[str, torch.Tensor] = {}

    def there(self) -> torch.Tensor:
        """Returns kernels that convolve maps."""
        return self._way("there", self._current())

    def back(self) -> torch.Tensor:
        """Returns kernels that convolve slopes, to those at maps."""
        return self._way("back", self._current().flip(2, 3).transpose(0, 1))

    def _current(self) -> torch.Tensor:
        kernels = self._layer.weight.detach()
        # By value: whoever changed them need not say so.
        if self._seen is None or not torch.equal(kernels, self._seen):
            self._seen, self._ways = kernels.clone(), {}
        return self._seen

    def _way(self, name: str, kernels: torch.Tensor) -> torch.Tensor:
        if name not in self._ways:
            self._ways[name] = torch.from_numpy(winograd.transformed(kernels.numpy()))
        return self._ways[name]


def is_known(layer: nn.Conv2d) -> bool:
    """Tells whether :class:`WinogradConvolution` computes what a layer does, and may be quicker."""
    plain = layer.stride == layer.dilation == layer.padding == (1, 1)
    plain &= layer.kernel_size == (3, 3) and layer.padding_mode == "zeros" and layer.groups == 1
    inputs, outputs = layer.in_channels, layer.out_channels
    return plain and min(inputs, outputs) >= FEWEST_CHANNELS and inputs * outputs <= MOST_PAIRS


def is_quicker(x: torch.Tensor) -> bool:
    """Tells whether a known layer is worth it for maps ``[n, k, h, w]``.

    PyTorch's convolutions share their work among threads, the transforms here do not.
    """
    n, _, height, width = x.shape
    tiles = n * -(-height // SIDE) * -(-width // SIDE)
    return tiles >= FEWEST_TILES and torch.get_num_threads() == 1


class WinogradConvolution(Function):
    """A convolution of width 3 and stride 1 whose output is as large as its input."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        kernels: torch.Tensor,
        biases: torch.Tensor | None,
        own: TransformedKernels,
    ) -> torch.Tensor:
        """Returns maps ``[n, out, h, w]``, channels side by side.

        Args:
            ctx: given by PyTorch.
            x: float32 ``[n, in, h, w]``; fastest with channels side by side.
            kernels: of the layer, ``[out, in, 3, 3]``, for which slopes are asked.
            biases: ``[out]`` or None.
            own: of the same layer.
        """
        ctx.save_for_backward(x, kernels)
        ctx.own, ctx.sizes = own, None if biases is None else list(biases.shape)
        biases = kernels.new_zeros(len(kernels)) if biases is None else biases
        return _convolved(x, own.there(), biases, own.memory)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns slopes at maps, kernels and biases; None where they are not asked for."""
        x, kernels = ctx.saved_tensors
        to_maps, *wanted, _ = ctx.needs_input_grad
        to_x = to_kernels = to_biases = None
        if any(wanted):
            _, to_kernels, to_biases = slopes_at(
                slopes[0], x, kernels, 1, [False, *wanted], ctx.sizes
            )
        if to_maps:
            none = kernels.new_zeros(kernels.shape[1])
            to_x = _convolved(slopes[0], ctx.own.back(), none, ctx.own.memory)
        return to_x, to_kernels, to_biases, None


def _convolved(
    x: torch.Tensor, kernels: torch.Tensor, biases: torch.Tensor, memory: winograd.Memory
) -> torch.Tensor:
    """Returns maps ``[n, out, h, w]``, channels side by side, of transformed kernels."""
    rows = x.permute(0, 2, 3, 1).contiguous()
    y = torch.empty((*rows.shape[:3], len(biases)))
    winograd.convolve(rows.numpy(), kernels, biases.numpy(), y.numpy(), memory)
    return y.permute(0, 3, 1, 2)
