"""Residual networks of basic blocks, whatever normalises their maps.

He et al. (2016), ResNet-18 and its like: a first convolution, ReLU, in some pooling of width 3 and
stride 2, stages of two blocks each, of which all but the first halve width and height, mean over
the map. Names of arrays: ``w1`` of the first convolution, ``w_<block>_1``, ``w_<block>_2`` of each
block, ``w_<block>_skip`` where a block changes the size, with the bias ``b_<block>_skip`` in some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medrobust.core.errors import InputError

if TYPE_CHECKING:
    import torch

BLOCKS_PER_STAGE = 2

#: From the name of a convolution, ``"1"`` or ``"_<block>_<place>"``, and its maps ``[n, k, h, w]``
#: to normalised ones; may change these in place.
Normalise = Callable[[str, Any], Any]


class Stem(NamedTuple):
    """The first convolution: width of its kernels, stride, and whether pooling follows."""

    width: int
    stride: int
    pooled: bool


#: Of images of 224 pixels a side (He et al. 2016, Table 1), and of 32 (their section 4.2).
IMAGENET, CIFAR = Stem(7, 2, True), Stem(3, 1, False)


def blocks(stages: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yields number, input channels, output channels and stride of each block."""
    before = stages[0]
    for stage, after in enumerate(stages):
        for block in range(BLOCKS_PER_STAGE):
            stride = 2 if stage > 0 and block == 0 else 1
            yield stage * BLOCKS_PER_STAGE + block + 1, before, after, stride
            before = after


def convolutions(stages: list[int]) -> Iterator[tuple[str, int, int, int]]:
    """Yields name, input channels, output channels and width of the blocks' convolutions."""
    for block, before, after, stride in blocks(stages):
        yield f"{block}_1", before, after, 3
        yield f"{block}_2", after, after, 3
        if stride > 1 or before != after:
            yield f"{block}_skip", before, after, 1


def scales_and_shifts(member: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a ``scale`` (1) and a ``shift`` (0) for each of the convolutions in ``member``."""
    first = {}
    for name in [key.removeprefix("w") for key in member if key.startswith("w")]:
        count = len(member[f"w{name}"])
        first |= {f"scale{name}": np.ones(count), f"shift{name}": np.zeros(count)}
    return first


def check_shape(
    architecture: str,
    stages: list[int],
    halvings: int,
    shape: tuple[int, ...],
    *,
    why: str,
    remedy: str,
) -> None:
    """Refuses points that are no square images, and those of which one pixel is left.

    Args:
        architecture: its registered name.
        stages: channels of each stage.
        halvings: how often width and height are halved before maps are normalised the last time.
        shape: of a point.
        why: what is wrong with one pixel.
        remedy: what to do.

    Raises:
        InputError: the points are of these.
    """
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] <= 2**halvings:
        raise InputError(
            f"The architecture {architecture} with {len(stages)} stages needs square images of "
            f"{2**halvings + 1} pixels a side or more: it leaves one pixel of smaller ones, and "
            f"{why} These points have the shape {list(shape)}.",
            where="key architecture",
            remedy=remedy,
        )


def features(
    stages: list[int],
    stem: Stem,
    member: dict[str, torch.Tensor],
    x: torch.Tensor,
    normalise: Normalise,
) -> torch.Tensor:
    """Returns what one member's last stage says of images, ``[n, features]``.

    Args:
        stages: channels of each stage.
        stem: the first convolution.
        member: its tensors by name.
        x: ``[n, channels, side, side]``.
        normalise: called for the maps of every convolution.
    """
    import torch.nn.functional as functional

    x = functional.conv2d(x, member["w1"], stride=stem.stride, padding=stem.width // 2)
    x = functional.relu(normalise("1", x), inplace=True)
    if stem.pooled:
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
    for block, _, _, stride in blocks(stages):
        inside = functional.conv2d(x, member[f"w_{block}_1"], stride=stride, padding=1)
        inside = functional.relu(normalise(f"_{block}_1", inside), inplace=True)
        inside = functional.conv2d(inside, member[f"w_{block}_2"], padding=1)
        inside = normalise(f"_{block}_2", inside)
        if f"w_{block}_skip" in member:
            bias = member.get(f"b_{block}_skip")
            x = functional.conv2d(x, member[f"w_{block}_skip"], bias, stride=stride)
            x = normalise(f"_{block}_skip", x)
        x = functional.relu(inside + x, inplace=True)
    return x.mean(dim=(2, 3))
