"""Convolutions of maps that lie channels side by side, on a CPU, as training needs them.

Those of width 1 are products of matrices, without a copy. So are those of few pixels, whose windows
are copied side by side first: PyTorch's take twice as long there. Of the others, a second way back,
of a loss that contains gradients with respect to the points, consists of the same convolutions as
the first; PyTorch's own turns kernels and maps around, which takes several times as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, linear, pad

#: Of the result, in all images together, up to which windows are copied.
FEW_PIXELS = 64


def convolution(
    x: torch.Tensor,
    kernels: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
    *,
    twice: bool = False,
) -> torch.Tensor:
    """Returns PyTorch's ``conv2d`` with half a width of zeros around: ``[n, out, h', w']``.

    Args:
        x: ``[n, in, h, w]``.
        kernels: ``[out, in, width, width]``, of odd width.
        bias: ``[out]``.
        stride: from one window to the next.
        twice: whether the way back to ``x`` will be gone twice; that to kernels then cannot.
    """
    width = kernels.shape[2]
    if by_channel(x) and (width == 1 or x[:, 0].numel() <= FEW_PIXELS * stride**2):
        return _product(_windows(x, width, stride), kernels, bias)
    if twice and bias is None and by_channel(kernels):
        maps = _ToMaps.apply(x, kernels, stride)
        return maps + _ToKernels.apply(x.detach(), kernels, maps.detach(), stride)
    return conv2d(x, kernels, bias, stride=stride, padding=width // 2)


def by_channel(values: torch.Tensor) -> bool:
    """Returns whether values ``[a, b, c, d]`` lie on a CPU with those along ``b`` side by side."""
    side_by_side = values.is_contiguous(memory_format=torch.channels_last)
    return values.device.type == "cpu" and side_by_side and not values.is_contiguous()


def _windows(x: torch.Tensor, width: int, stride: int) -> torch.Tensor:
    """Returns what the kernels see, ``[n, h', w', width * width * in]``; of width 1 a view."""
    # With channels as the last axis, so that slopes lie as the maps do.
    x, around = x.permute(0, 2, 3, 1), width // 2
    if width == 1:
        return x[:, ::stride, ::stride]
    x = pad(x, [0, 0, *[around] * 4])
    windows = x.unfold(1, width, stride).unfold(2, width, stride)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)


def _product(
    windows: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Returns maps ``[n, out, h', w']`` from what :func:`_windows` returns."""
    return linear(windows, kernels.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)


class _ToMaps(Function):
    """Maps ``[n, out, h', w']`` from maps ``[n, in, h, w]``; slopes for the latter alone."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernels: torch.Tensor, stride: int) -> torch.Tensor:
        ctx.save_for_backward(x, kernels)
        ctx.stride = stride
        return conv2d(x, kernels, stride=stride, padding=kernels.shape[2] // 2)

    @staticmethod
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _BackToMaps.apply(slopes[0], *ctx.saved_tensors, ctx.stride), None, None


class _BackToMaps(Function):
    """Slopes ``[n, in, h, w]`` from those at the convolution, ``[n, out, h', w']``."""

    @staticmethod
    def forward(
        ctx: Any, slopes: torch.Tensor, x: torch.Tensor, kernels: torch.Tensor, stride: int
    ) -> torch.Tensor:
        ctx.save_for_backward(slopes, kernels)
        ctx.stride = stride
        return slopes_at(slopes, x, kernels, stride, [True, False, False])[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *changes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Linear in both: as if the changes had been convolved, with the slopes at the result.
        slopes, kernels = ctx.saved_tensors
        again = conv2d(changes[0], kernels, stride=ctx.stride, padding=kernels.shape[2] // 2)
        wanted = [False, True, False]
        return again, None, slopes_at(slopes, changes[0], kernels, ctx.stride, wanted)[1], None


class _ToKernels(Function):
    """Zeros in the place of a convolution that have its slopes for the kernels.

    They are apart as autograd asks a function for all of its slopes, even where those at the points
    are all that is wanted.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, kernels: torch.Tensor, maps: torch.Tensor, stride: int
    ) -> torch.Tensor:
        ctx.save_for_backward(x, kernels)
        ctx.stride = stride
        return maps.new_zeros(()).expand_as(maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, kernels = ctx.saved_tensors
        wanted = [False, True, False]
        return None, slopes_at(slopes[0], x, kernels, ctx.stride, wanted)[1], None, None


def slopes_at(
    slopes: torch.Tensor,
    x: torch.Tensor,
    kernels: torch.Tensor,
    stride: int,
    wanted: list[bool],
    biases: list[int] | None = None,
) -> tuple[torch.Tensor | None, ...]:
    """Returns slopes at maps, kernels and biases from those at their convolution.

    Args:
        slopes: ``[n, out, h', w']``.
        x: ``[n, in, h, w]``, with half a width of zeros around.
        kernels: ``[out, in, height, width]``, both sides odd.
        stride: from one window to the next.
        wanted: for which of the three slopes are wanted; the others are None.
        biases: their shape, if there are any.
    """
    around = [side // 2 for side in kernels.shape[2:]]
    return torch.ops.aten.convolution_backward(
        slopes, x, kernels, biases, [stride] * 2, around, [1, 1], False, [0, 0], 1, wanted
    )
