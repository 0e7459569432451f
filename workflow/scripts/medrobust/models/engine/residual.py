"""Residual networks, whatever normalises their maps.

He et al. (2016), ResNet-18, ResNet-50 and their like: a first convolution, ReLU, in some pooling of
width 3 and stride 2, stages of blocks, of which all but the first halve width and height, mean over
the map. A block adds its input, brought to the right size where that changes, to what its
convolutions make of it: two of width 3 (basic), or three of widths 1, 3 and 1, of which the last
has four times as many channels (bottleneck). A bottleneck has its stride in the convolution of
width 3, as torchvision and MONAI have it; He et al. have it in the first.

Names of arrays: ``w1`` of the first convolution, ``w_<block>_1``, ``w_<block>_2`` and so on of each
block, ``w_<block>_skip`` where a block changes the size, with the bias ``b_<block>_skip`` in some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from medrobust.core.errors import InputError
from medrobust.models.engine import drop_max

if TYPE_CHECKING:
    import torch

#: Blocks of each stage of ResNet-18, and how many times as many channels a bottleneck gives.
BLOCKS_PER_STAGE, EXPANSION = 2, 4

#: From the name of a convolution, ``"1"`` or ``"_<block>_<place>"``, and its maps ``[n, k, h, w]``
#: to normalised ones; may change these in place.
Normalise = Callable[[str, Any], Any]
#: The largest value of each window, or the second largest.
Pooling = Literal["max", "drop_max"]


class Stem(NamedTuple):
    """The first convolution: width of its kernels, stride, and the pooling that follows, if any."""

    width: int
    stride: int
    pooling: Pooling | None


#: Of images of 224 pixels a side (He et al. 2016, Table 1), and of 32 (their section 4.2).
IMAGENET, CIFAR = Stem(7, 2, "max"), Stem(3, 1, None)


class Layer(NamedTuple):
    """A convolution: its name, channels before and after it, width of its kernels, stride."""

    name: str
    before: int
    after: int
    width: int
    stride: int


class Block(NamedTuple):
    """A residual block.

    Attributes:
        stage, place: number of its stage, and its number within that, from 0 on.
        path: its convolutions, one after the other.
        skip: the convolution of its input, where the size changes.
    """

    stage: int
    place: int
    path: tuple[Layer, ...]
    skip: Layer | None


def basic_blocks(stages: list[int]) -> list[Block]:
    """Returns the blocks of a network like ResNet-18.

    Args:
        stages: channels of each stage, of two blocks each.
    """
    counts = [BLOCKS_PER_STAGE] * len(stages)
    return _blocks(stages, counts, lambda width, stride: [(3, width, stride), (3, width, 1)])


def bottleneck_blocks(stages: list[int], counts: list[int]) -> list[Block]:
    """Returns the blocks of a network like ResNet-50.

    Args:
        stages: channels of each stage's convolutions of width 3.
        counts: blocks of each stage.
    """
    return _blocks(
        stages,
        counts,
        lambda width, stride: [(1, width, 1), (3, width, stride), (1, EXPANSION * width, 1)],
    )


def _blocks(
    stages: list[int],
    counts: list[int],
    path_of: Callable[[int, int], list[tuple[int, int, int]]],
) -> list[Block]:
    """Returns blocks of which each has the kernel widths, channels and strides of ``path_of``.

    Args:
        stages: channels of each stage.
        counts: blocks of each stage.
        path_of: from a stage's channels and a block's stride to width, channels and stride of its
            convolutions.
    """
    before, blocks = stages[0], []
    for stage, (channels, count) in enumerate(zip(stages, counts, strict=True)):
        for place in range(count):
            stride = 2 if stage > 0 and place == 0 else 1
            number, inside, path = len(blocks) + 1, before, []
            for k, (width, after, own) in enumerate(path_of(channels, stride), start=1):
                path.append(Layer(f"_{number}_{k}", inside, after, width, own))
                inside = after
            changes = stride > 1 or before != inside
            skip = Layer(f"_{number}_skip", before, inside, 1, stride) if changes else None
            blocks.append(Block(stage, place, tuple(path), skip))
            before = inside
    return blocks


def convolutions(blocks: Iterable[Block]) -> Iterator[Layer]:
    """Yields the convolutions of blocks, that of the input after the others of its block."""
    for block in blocks:
        yield from block.path
        if block.skip is not None:
            yield block.skip


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
    blocks: Iterable[Block],
    stem: Stem,
    member: dict[str, torch.Tensor],
    x: torch.Tensor,
    normalise: Normalise,
    *,
    twice: bool = False,
) -> torch.Tensor:
    """Returns what one member's last stage says of images, ``[n, features]``.

    Args:
        blocks: first to last.
        stem: the first convolution.
        member: its tensors by name.
        x: ``[n, channels, side, side]``.
        normalise: called for the maps of every convolution.
        twice: whether the way back to ``x`` will be gone twice.
    """
    import torch.nn.functional as functional

    from medrobust.models.engine.convolutions import convolution

    def convolved(layer: Layer, x: torch.Tensor) -> torch.Tensor:
        kernels, bias = member[f"w{layer.name}"], member.get(f"b{layer.name}")
        return normalise(layer.name, convolution(x, kernels, bias, layer.stride, twice=twice))

    x = convolution(x, member["w1"], None, stem.stride, twice=twice)
    x = pooled(stem, functional.relu(normalise("1", x), inplace=True))
    for block in blocks:
        inside = x
        for layer in block.path[:-1]:
            inside = functional.relu(convolved(layer, inside), inplace=True)
        inside = convolved(block.path[-1], inside)
        if block.skip is not None:
            x = convolved(block.skip, x)
        x = functional.relu(inside + x, inplace=True)
    return x.mean(dim=(2, 3))


def pooled(stem: Stem, maps: torch.Tensor) -> torch.Tensor:
    """Returns maps ``[n, k, h, w]`` after the pooling of a stem, as they are where it has none."""
    from torch.nn.functional import max_pool2d

    if stem.pooling is None:
        return maps
    if stem.pooling == "drop_max":
        return drop_max.drop_max_pool(maps)
    return max_pool2d(maps, 3, stride=2, padding=1)
