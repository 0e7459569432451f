"""A residual network with batch normalisation as it is evaluated on a CPU.

With running averages, normalisation is a scale and a shift of each map, and so part of the
convolution before it. Convolutions of width 3 and stride 1 are Winograd's
(:mod:`medrobust.models.engine.winograd`); the others are PyTorch's. Maps lie as
``[n, height, width, c]``, channels side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.models.engine import residual, winograd

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Convolution:
    """A convolution and the normalisation after it.

    Attributes:
        kernels: ``[out, in, width, width]``, or as :func:`winograd.transformed` makes them.
        biases: ``[out]``.
        stride: stride, or 0 of Winograd's.
    """

    kernels: torch.Tensor
    biases: torch.Tensor
    stride: int


@dataclass(frozen=True)
class Folded:
    """One member: see :func:`fold`.

    Attributes:
        blocks: first to last.
        stem: the first convolution.
        convolutions: by their names in :mod:`~medrobust.models.engine.residual`.
        output: weights ``[c, f]`` and biases ``[c]``.
        memory: which members that are computed one after the other may share.
    """

    blocks: list[residual.Block]
    stem: residual.Stem
    convolutions: dict[str, Convolution]
    output: tuple[torch.Tensor, torch.Tensor]
    memory: winograd.Memory

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits ``[n, c]`` of images ``[n, channels, side, side]``."""
        from torch.nn.functional import linear

        # Pooling first: ReLU then has fewer values to go through, with the same result.
        maps = residual.pooled(self.stem, self._plain("1", x)).relu_()
        for block in self.blocks:
            inside = maps
            for layer in block.path[:-1]:
                inside = self._apply(layer.name, inside)
            if block.skip is not None:
                maps = self._plain(block.skip.name, maps)
            maps = self._apply(block.path[-1].name, inside, maps)
        return linear(maps.mean(dim=(2, 3)), *self.output)

    def _plain(self, name: str, x: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn.functional import conv2d

        own = self.convolutions[name]
        x, padding = x.contiguous(memory_format=torch.channels_last), own.kernels.shape[2] // 2
        return conv2d(x, own.kernels, own.biases, stride=own.stride, padding=padding)

    def _apply(self, name: str, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """Returns ReLU of a convolution of ``x``, of the sum with ``y`` where that is given."""
        import torch

        own = self.convolutions[name]
        if own.stride:
            maps = self._plain(name, x)
            return (maps if y is None else maps.add_(y)).relu_()
        n, _, height, width = x.shape
        last = x.permute(0, 2, 3, 1).contiguous().numpy()
        if y is None:
            result = np.empty((n, height, width, len(own.biases)), np.float32)
        else:
            result = y.permute(0, 2, 3, 1).contiguous().numpy()
        biases = own.biases.numpy()
        winograd.convolve(
            last, own.kernels, biases, result, self.memory, added=y is not None, rectified=True
        )
        return torch.from_numpy(result).permute(0, 3, 1, 2)


def fold(
    blocks: list[residual.Block],
    stem: residual.Stem,
    member: dict[str, np.ndarray],
    epsilon: float,
    memory: winograd.Memory,
) -> Folded:
    """Returns a member with its normalisations in its convolutions.

    Args:
        blocks: first to last.
        stem: the first convolution.
        member: arrays as :mod:`~medrobust.models.engine.residual` names them, and for each
            convolution ``scale``, ``shift``, ``mean`` and ``variance``.
        epsilon: added to variances.
        memory: see :class:`Folded`.
    """
    import torch

    strides = {"1": stem.stride}
    for layer in residual.convolutions(blocks):
        strides[layer.name] = 0 if (layer.width, layer.stride) == (3, 1) else layer.stride
    parts = {name: _folded(member, name, stride, epsilon) for name, stride in strides.items()}
    output = [torch.from_numpy(member[name]) for name in ("w_output", "b_output")]
    return Folded(blocks, stem, parts, tuple(output), memory)


def _folded(member: dict[str, Any], name: str, stride: int, epsilon: float) -> Convolution:
    import torch

    scale, shift, mean, variance, kernels = (
        member[f"{key}{name}"].astype(np.float64)
        for key in ("scale", "shift", "mean", "variance", "w")
    )
    factors = scale / np.sqrt(variance + epsilon)
    kernels = kernels * factors[:, None, None, None]
    biases = shift + (member.get(f"b{name}", 0) - mean) * factors
    if stride:
        values = torch.from_numpy(kernels.astype(np.float32))
        values = values.contiguous(memory_format=torch.channels_last)
    else:
        values = torch.from_numpy(winograd.transformed(kernels))
    return Convolution(values, torch.from_numpy(biases.astype(np.float32)), stride)
