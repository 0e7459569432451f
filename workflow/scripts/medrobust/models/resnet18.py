"""ResNet-18 for one kind of image, each map normalised by itself: the network of ima on COVID CT.

He et al. (2016), ResNet-18: a convolution of width 7 and stride 2, pooling of width 3 and stride 2,
four stages of two blocks with 64, 128, 256 and 512 channels, mean over the map, output. Ima, and
its authors' code: the first convolution takes the channels of the data, every batch normalisation
is a group normalisation with as many groups as channels, with scale and shift, and the network
itself scales its input, ``(x - 0.5) / 0.5``, so perturbations are measured in [0, 1]. The 2020 code
has one output, the logit of class 1; later code has one per class: ``outputs``.

First values: PyTorch's for the first convolution and the output, which the authors replace, and
those of He et al. (2015) for the others (normal, variance ``2 / (out * width^2)``), as torchvision
draws them.

Members are computed one after the other; gradients by autograd
(:mod:`medrobust.models.engine.traced`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import apart, images, residual, stacked, traced

if TYPE_CHECKING:
    import torch


EPSILON = 1e-5


class Spec(Settings):
    """Settings of ResNet-18."""

    stages: list[int] = Field(
        default=[64, 128, 256, 512],
        min_length=1,
        description="channels of each stage; all but the first halve width and height",
    )
    outputs: Literal["per_class", "one"] = Field(
        default="per_class",
        description="one: the logit of class 1 of two; its cross-entropy is the binary one",
    )


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members.

    Returns:
        float32 arrays with a leading member axis: ``w1`` of the first convolution, ``w_<block>_1``
        and ``w_<block>_2`` of each block, ``w_<block>_skip`` where a block changes the size, a
        ``scale`` and a ``shift`` for each, ``w_output [c, f]`` and ``b_output [c]``.

    Raises:
        InputError: a point is not a square image, or the last stage leaves one pixel of it (with
            four stages: of 32 pixels a side or fewer), or one output is asked for more than two
            classes.
    """
    _check_shape(spec, shape)
    if spec.outputs == "one" and n_classes != 2:
        raise InputError(
            f"One output tells two classes apart; these data have {n_classes}.",
            where="key architecture.outputs",
            remedy="set `outputs: per_class`.",
        )
    outputs = 1 if spec.outputs == "one" else n_classes
    return stacked.stack([_initial_member(spec, shape[0], outputs, seed) for seed in seeds])


def fits(spec: Spec, shape: tuple[int, ...], n_classes: int) -> None:
    """Raises an InputError for points that are no square images or too small, or for classes."""
    _check_shape(spec, shape)
    if spec.outputs == "one" and n_classes != 2:
        initial_parameters(spec, shape, n_classes, [])  # which says why not


def _check_shape(spec: Spec, shape: tuple[int, ...]) -> None:
    """Refuses images of which the last stage leaves one pixel.

    A map of one pixel equals its own mean, so normalised it is 0 whatever the image shows. Blocks
    of the first stage hand on their input beside it; the first of each other stage does not.
    """
    stages = spec.stages
    residual.check_shape(
        "resnet18",
        stages,
        # First convolution, pooling, and all stages but the first.
        1 + len(stages) if len(stages) > 1 else 1,
        shape,
        why="each map, normalised by itself, is then the same for all images.",
        remedy="use it on larger images [channels, side, side], with fewer stages, or use "
        "another architecture.",
    )


def _initial_member(spec: Spec, channels: int, outputs: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    width = spec.stages[0]
    member = {"w1": images.uniform(rng, (width, channels, 7, 7), channels * 49)}
    for layer in residual.convolutions(residual.basic_blocks(spec.stages)):
        member[f"w{layer.name}"] = images.initial_kernels(
            rng, layer.after, layer.before, layer.width
        )
    member |= residual.scales_and_shifts(member)
    features = spec.stages[-1]
    member["w_output"] = images.uniform(rng, (outputs, features), features)
    member["b_output"] = images.uniform(rng, (outputs,), features)
    return member


def forward(spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the logits of all members.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same), images
            with values in [0, 1] as rows: channels, height, width.

    Returns:
        logits ``[M, n, c]``.
    """
    return apart.each_member(lambda p, own: logits(spec, p, own), parameters, x)


def logits(spec: Spec, member: apart.Member, x: torch.Tensor) -> torch.Tensor:
    """Returns one member's logits ``[n, c]`` for x ``[n, d]``; with one output, class 0 has 0."""
    import torch

    outputs = _outputs(spec, member, x)
    if spec.outputs == "one":
        return torch.cat([torch.zeros_like(outputs), outputs], 1)
    return outputs


def _outputs(spec: Spec, member: apart.Member, x: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import group_norm, linear

    def normalised(name: str, maps: torch.Tensor) -> torch.Tensor:
        """Returns maps with mean 0 and variance 1 each, scaled and shifted."""
        scale, shift = member[f"scale{name}"], member[f"shift{name}"]
        return group_norm(maps, maps.shape[1], scale, shift, EPSILON)

    x = images.square(member, x).sub(0.5).div_(0.5)
    blocks = residual.basic_blocks(spec.stages)
    x = residual.features(blocks, residual.IMAGENET, member, x, normalised)
    return linear(x, member["w_output"], member["b_output"])


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


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=member_scores,
    # One image fills a processor: in larger blocks it takes as long, and a padded row too.
    label_block=4,
    # Of 224 pixels a side 22 MB a row for the way back, 2.8 GB a block.
    gpu_block=128,
    initial_parameters=initial_parameters,
    forward=forward,
    members_apart=True,
    logits=logits,
    logits_and_pattern=logits_and_pattern,
    pull_back=pull_back,
    gradient_block=4,
    fits=fits,
    step_seconds=0.13,
)
