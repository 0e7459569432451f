"""The convolutional networks that ima trains on Fashion-MNIST and SVHN.

Ima (Ma and Liang 2021), "Evaluation on Fashion-MNIST and SVHN datasets": convolutions, leaky ReLU
after each, instance normalisation before it in all but the first; the map that the last convolution
leaves is one vector, which is normalised as a layer instead; then the output, logits of all
classes. The paper leaves PyTorch's defaults: slope 0.01 below 0, normalisation of the vector with
scale and shift, that of the maps without.

Members are computed one after the other; gradients by autograd
(:mod:`medrobust.models.engine.traced`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import apart, stacked, traced

if TYPE_CHECKING:
    import torch


EPSILON = 1e-5


class Convolution(Settings):
    """One convolution with square kernels."""

    channels: int = Field(ge=1, description="output channels")
    kernel: int = Field(ge=1, description="width and height of the kernels")
    stride: int = Field(default=1, ge=1, description="stride")
    padding: int = Field(default=0, ge=0, description="width of the border of zeros")


class Spec(Settings):
    """Settings of the convolutional network."""

    convolutions: list[Convolution] = Field(min_length=1, description="first to last")
    negative_slope: float = Field(default=0.01, ge=0, le=1, description="of the units below 0")
    scaled_maps: bool = Field(
        default=False, description="whether instance normalisation learns a scale and a shift"
    )


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members: :func:`apart.initial_layers`.

    Returns:
        float32 arrays ``w1 .. wk [M, out, in, s, s]`` of the convolutions and ``w<k+1> [M, c, f]``
        of the output, ``b1 .. b<k+1> [M, out]``, and of the normalisations ``scale<k>`` (1) and
        ``shift<k>`` (0) ``[M, f]``, and those of the maps where these have any.

    Raises:
        InputError: a point is not a square image, the convolutions do not fit it, or one before
            the last leaves a single pixel, of which instance normalisation makes 0.
    """
    side = _last_side(spec, shape)
    channels = [shape[0], *(layer.channels for layer in spec.convolutions)]
    shapes: list[tuple[int, ...]] = [
        (layer.channels, before, layer.kernel, layer.kernel)
        for layer, before in zip(spec.convolutions, channels, strict=False)
    ]
    features = channels[-1] * side**2
    arrays = apart.initial_layers(
        [*shapes, (n_classes, features)], seeds, bias=True, unit_norm=False
    )
    last = len(spec.convolutions)
    widths = {last: features}
    if spec.scaled_maps:
        widths |= {layer: channels[layer] for layer in range(2, last)}
    for layer, width in sorted(widths.items()):
        arrays[f"scale{layer}"] = np.ones((len(seeds), width), dtype=np.float32)
        arrays[f"shift{layer}"] = np.zeros((len(seeds), width), dtype=np.float32)
    return arrays


def forward(spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the logits of all members.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same), images
            as rows: channels, height, width.

    Returns:
        logits ``[M, n, c]``.
    """
    return apart.each_member(lambda p, own: logits(spec, p, own), parameters, x)


def logits(spec: Spec, member: apart.Member, x: torch.Tensor) -> torch.Tensor:
    """Returns one member's logits ``[n, c]`` for x ``[n, d]``."""
    import torch.nn.functional as functional

    channels = member["w1"].shape[1]
    side = math.isqrt(x.shape[1] // channels)
    x = x.view(-1, channels, side, side)
    last = len(spec.convolutions)
    for layer, convolution in enumerate(spec.convolutions, start=1):
        x = functional.conv2d(
            x,
            member[f"w{layer}"],
            member[f"b{layer}"],
            stride=convolution.stride,
            padding=convolution.padding,
        )
        scale, shift = member.get(f"scale{layer}"), member.get(f"shift{layer}")
        if layer == last:
            x = x.flatten(1)
            x = functional.layer_norm(x, (x.shape[1],), scale, shift, EPSILON)
        elif layer > 1:
            x = functional.group_norm(x, convolution.channels, scale, shift, EPSILON)
        x = functional.leaky_relu(x, spec.negative_slope, inplace=True)
    return functional.linear(x, member[f"w{last + 1}"], member[f"b{last + 1}"])


def logits_and_pattern(
    spec: Spec, member: apart.Member, x: torch.Tensor
) -> tuple[torch.Tensor, traced.Trace]:
    """Returns one member's logits ``[n, c]`` and the record of the pass."""
    return traced.logits_and_trace(lambda points: logits(spec, member, points), x)


def pull_back(
    spec: Spec, member: apart.Member, pattern: traced.Trace, slopes: torch.Tensor
) -> torch.Tensor:
    """Returns slopes with respect to the points: :func:`traced.pull_back`."""
    return traced.pull_back(pattern, slopes)


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
    """Raises an InputError for points that are no square images, or too small."""
    _last_side(spec, shape)


def _last_side(spec: Spec, shape: tuple[int, ...]) -> int:
    """Returns width and height of what the last convolution leaves of an image of ``shape``."""
    side = shape[1] if len(shape) == 3 and shape[1] == shape[2] else 0
    last = len(spec.convolutions)
    for number, layer in enumerate(spec.convolutions, start=1):
        # A kernel larger than the padded image leaves 0 or less.
        side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1 if side > 0 else 0
        # A normalised map of one pixel is 0, whatever the image shows.
        least = 2 if 1 < number < last else 1
        if side < least:
            raise InputError(
                "The architecture instance_norm_cnn with these convolutions needs larger square "
                f"images: its convolution {number} leaves less than {least} x {least} pixels. "
                f"These points have the shape {list(shape)}.",
                where="key architecture.convolutions",
                remedy="use it on images [channels, side, side], with fewer or smaller "
                "convolutions.",
            )
    return side


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
    gradient_block=128,
    gpu_block=1024,
    fits=fits,
    step_seconds=1.2e-3,
)
