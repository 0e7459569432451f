"""The convolutional network of Kachuee et al. (2018), as nsr trains it on heartbeats.

Authors' code of nsr: a convolution (no ReLU after it), then blocks of two convolutions with a
skip connection, ``pool(relu(conv(relu(conv(h))) + h))``, then a dense layer with ReLU and the
output: logits of all classes. Kernels have width 5 and zeros of width 2 on both sides; pooling
takes the largest of 5 values at a stride of 2 and drops what does not fill its last window, so 187
samples become 92, 44, 20, 8 and 2.

Members are computed one after the other. Gradients with respect to the points are written out:
:mod:`medrobust.models.engine.apart`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import apart, stacked

if TYPE_CHECKING:
    import torch


WIDTH, PADDING, POOL, STRIDE = 5, 2, 5, 2


class Spec(Settings):
    """Settings of the convolutional network."""

    channels: int = Field(default=32, ge=1, description="channels of every convolution")
    blocks: int = Field(default=5, ge=1, description="blocks of two convolutions and pooling")
    dense_units: int = Field(default=32, ge=1, description="units of the layer before the output")
    bias: bool = Field(default=True, description="whether the layers have biases")
    unit_norm_start: bool = Field(
        default=True,
        description="scale the first kernels to L2 norm 1 and their biases to 0 (as the code does)",
    )


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members: :func:`apart.initial_layers`.

    Returns:
        float32 arrays, named in the order of the layers: ``w1 [M, k, 1, 5]``, two ``[M, k, k, 5]``
        per block (``w2 .. w11``), ``w12 [M, u, f]``, ``w13 [M, c, u]`` and, with biases,
        ``b1 .. b13 [M, out]``.

    Raises:
        InputError: a point is not a signal, or it is too short for the pooling.
    """
    k = spec.channels
    flat = k * _pooled_length(spec, shape)
    shapes: list[tuple[int, ...]] = [(k, 1, WIDTH), *[(k, k, WIDTH)] * (2 * spec.blocks)]
    shapes += [(spec.dense_units, flat), (n_classes, spec.dense_units)]
    return apart.initial_layers(shapes, seeds, bias=spec.bias, unit_norm=spec.unit_norm_start)


def forward(spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the logits of all members.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same).

    Returns:
        logits ``[M, n, c]``.
    """
    return apart.each_member(lambda p, own: logits(spec, p, own), parameters, x)


def logits(spec: Spec, member: apart.Member, x: torch.Tensor) -> torch.Tensor:
    """Returns one member's logits ``[n, c]`` for x ``[n, d]``."""
    return _logits(spec, member, x, None)


def logits_and_pattern(
    spec: Spec, member: apart.Member, x: torch.Tensor
) -> tuple[torch.Tensor, list[Any]]:
    """Returns one member's logits and which of its units are on.

    Args:
        spec: the architecture's settings.
        member: tensors as :func:`initial_parameters` names them, without the leading axis.
        x: ``[n, d]``.

    Returns:
        logits ``[n, c]``; per block the units that are on inside and after it (1 or 0) and the
        indices that pooling chose, then the dense units that are on.
    """
    pattern: list[Any] = []
    return _logits(spec, member, x, pattern), pattern


def pull_back(
    spec: Spec, member: apart.Member, pattern: list[Any], slopes: torch.Tensor
) -> torch.Tensor:
    """Returns slopes with respect to the points from those with respect to the logits.

    Args:
        spec: the architecture's settings.
        member: as in :func:`logits_and_pattern`.
        pattern: of the points.
        slopes: ``[n, c]``, or ``[k, n, c]`` or ``[k, 1, c]`` for k functions of the logits.

    Returns:
        ``[n, d]`` or ``[k, n, d]``; part of the graph of the weights.
    """
    import torch

    back = [_turned(member, layer) for layer in range(1, 2 * spec.blocks + 2)]
    if slopes.dim() == 2:
        return _pull_back(spec, member, back, pattern, slopes)
    # One function after the other: values of all of them would not fit into the cache.
    apart = [_pull_back(spec, member, back, pattern, function) for function in slopes]
    return torch.stack(apart)


def normalised_kernels(spec: Spec) -> list[str]:
    """Returns the layers whose kernels are rescaled or drawn anew: all but the last block's.

    The authors' code means all, and misses the last block by an index that is off by one.
    """
    dense = 2 * spec.blocks + 2
    return [str(layer) for layer in (*range(1, dense - 2), dense, dense + 1)]


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from float32 ``[n, *shape]`` to logits, float32 ``[M, n, n_classes]``."""
    tensors = stacked.tensors(parameters, device)
    return stacked.on_arrays(lambda x: forward(spec, tensors, x), device)


def fits(spec: Spec, shape: tuple[int, ...], n_classes: int) -> None:
    """Raises an InputError for points that are no signals, or too short for the pooling."""
    _pooled_length(spec, shape)


def _pooled_length(spec: Spec, shape: tuple[int, ...]) -> int:
    """Returns how many samples of a signal of ``shape`` are left after all pooling."""
    length = shape[0] if len(shape) == 1 else 0
    for _ in range(spec.blocks):
        length = (length - POOL) // STRIDE + 1
    if length < 1:
        raise InputError(
            f"The architecture kachuee_cnn with {spec.blocks} blocks needs longer signals; these "
            f"points have the shape {list(shape)}.",
            remedy="use it on ECG data, with fewer blocks, or use another architecture.",
        )
    return length


def _logits(
    spec: Spec, member: apart.Member, x: torch.Tensor, pattern: list[Any] | None
) -> torch.Tensor:
    """Returns one member's logits ``[n, c]``; appends to ``pattern`` which units are on."""
    import torch
    from torch.nn.functional import linear, max_pool2d

    window = {"kernel_size": (1, POOL), "stride": (1, STRIDE)}
    # Channels lie next to each other: convolutions and pooling then run twice as fast.
    x = x[:, None, None, :].to(memory_format=torch.channels_last)
    hidden = _layer(member, 1, x)
    for block in range(spec.blocks):
        inside = _layer(member, 2 * block + 2, hidden).relu_()
        total = _layer(member, 2 * block + 3, inside).add_(hidden)
        # The largest first: ReLU then has fewer values to go through, with the same result.
        if pattern is None:
            hidden = max_pool2d(total, **window).relu_()
        else:
            hidden, index = max_pool2d(total, **window, return_indices=True)
            hidden = hidden.relu_()
            pattern.append((inside.detach().sign(), hidden.detach().sign(), index))
    dense = 2 * spec.blocks + 2
    hidden = linear(hidden.flatten(1), member[f"w{dense}"], member.get(f"b{dense}")).relu_()
    if pattern is not None:
        pattern.append(hidden.detach().sign())
    return linear(hidden, member[f"w{dense + 1}"], member.get(f"b{dense + 1}"))


def _pull_back(
    spec: Spec,
    member: apart.Member,
    back: list[torch.Tensor],
    pattern: list[Any],
    slopes: torch.Tensor,
) -> torch.Tensor:
    """Returns the slopes ``[n, d]`` with respect to the points, of one function of the logits."""
    import torch

    dense = 2 * spec.blocks + 2
    slopes = (slopes @ member[f"w{dense + 1}"]) * pattern[-1]
    slopes = slopes @ member[f"w{dense}"]
    slopes = slopes.view(len(slopes), spec.channels, 1, -1)
    slopes = slopes.contiguous(memory_format=torch.channels_last)
    for block in range(spec.blocks - 1, -1, -1):
        inside, after, index = pattern[block]
        slopes = torch.ops.aten.max_pool2d_with_indices_backward(
            slopes * after,
            inside,  # only its shape counts
            [1, POOL],
            [1, STRIDE],
            [0, 0],
            [1, 1],
            False,
            index,
        )
        branch = _convolve(back[2 * block + 2], slopes) * inside
        slopes = _convolve(back[2 * block + 1], branch) + slopes
    return _convolve(back[0], slopes).flatten(1)


def _kernels(member: apart.Member, layer: int) -> torch.Tensor:
    """Returns the kernels of a layer as those of a convolution over images of height 1."""
    import torch

    return member[f"w{layer}"][:, :, None, :].to(memory_format=torch.channels_last)


def _turned(member: apart.Member, layer: int) -> torch.Tensor:
    """Returns the kernels of the convolution through which slopes go back."""
    import torch

    turned = member[f"w{layer}"].transpose(0, 1).flip(2)
    return turned[:, :, None, :].contiguous(memory_format=torch.channels_last)


def _convolve(kernels: torch.Tensor, x: torch.Tensor, biases: Any = None) -> torch.Tensor:
    from torch.nn.functional import conv2d

    return conv2d(x, kernels, biases, padding=(0, PADDING))


def _layer(member: apart.Member, layer: int, x: torch.Tensor) -> torch.Tensor:
    return _convolve(_kernels(member, layer), x, member.get(f"b{layer}"))


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=member_scores,
    initial_parameters=initial_parameters,
    forward=forward,
    members_apart=True,
    logits=logits,
    logits_and_pattern=logits_and_pattern,
    pull_back=pull_back,
    normalised_kernels=normalised_kernels,
    gradient_block=64,
    gpu_block=1024,
    fits=fits,
)
