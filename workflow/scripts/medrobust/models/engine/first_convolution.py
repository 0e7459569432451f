"""Convolutions of images of few channels, with a quick way back to the image, on a CPU.

The way back is a product of all slopes with the kernels, which gives what each pixel hands to each
of its neighbours, and a sum of this. PyTorch's takes three times as long for a grey image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd import Function

from medrobust.models.engine.convolutions import slopes_at

#: Up to so many channels of an image the product is quicker; measured at 1, 2, 4 and 8.
MOST_CHANNELS = 4


def is_known(layer: nn.Conv2d) -> bool:
    """Tells whether :class:`FirstConvolution` computes what a layer does, and quicker."""
    odd = all(side % 2 for side in layer.kernel_size)
    same = layer.padding == tuple(side // 2 for side in layer.kernel_size)
    plain = layer.stride == layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    return odd and same and plain and layer.groups == 1 and layer.in_channels <= MOST_CHANNELS


class FirstConvolution(Function):
    """A convolution of stride 1 whose output is as large as its input, of few channels."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, kernels: torch.Tensor, biases: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns maps ``[n, out, h, w]``.

        Args:
            ctx: given by PyTorch.
            images: ``[n, in, h, w]``.
            kernels: ``[out, in, height, width]``, both sides odd.
            biases: ``[out]`` or None.
        """
        ctx.save_for_backward(images, kernels)
        ctx.sizes = None if biases is None else list(biases.shape)
        return nn.functional.conv2d(images, kernels, biases, padding=_border(kernels))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Returns slopes at images, kernels and biases; None where they are not asked for."""
        images, kernels = ctx.saved_tensors
        to_image, *wanted = ctx.needs_input_grad
        to_kernels = to_biases = None
        if any(wanted):
            _, to_kernels, to_biases = slopes_at(
                slopes[0], images, kernels, 1, [False, *wanted], ctx.sizes
            )
        return _to_images(slopes[0], kernels) if to_image else None, to_kernels, to_biases


def _border(kernels: torch.Tensor) -> list[int]:
    return [side // 2 for side in kernels.shape[2:]]


def _to_images(slopes: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Returns slopes at the images ``[n, in, h, w]``."""
    n, out, height, width = slopes.shape
    _, channels, *sides = kernels.shape
    rows = slopes.permute(0, 2, 3, 1).reshape(-1, out)
    handed = torch.mm(kernels.flatten(1).t(), rows.t()).view(channels, *sides, n, height, width)
    # With a border, where what falls outside the image lands.
    total = slopes.new_zeros((channels, n, height + sides[0] - 1, width + sides[1] - 1))
    for i in range(sides[0]):
        for j in range(sides[1]):
            total[:, :, i : i + height, j : j + width] += handed[:, i, j]
    top, left = _border(kernels)
    return total[:, :, top : top + height, left : left + width].movedim(0, 1)
