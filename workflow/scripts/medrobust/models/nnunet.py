"""The 2-D U-Net that nnU-Net (Isensee et al. 2021) plans for a data set.

A U-Net of plain convolutions with instance normalisation and leaky ReLU, which gives logits at each
resolution of its decoder, finest first (deep supervision). Depth, width and strides come from the
plans of :mod:`medrobust.data.prepared.nnunet`; layers and first values are those of
``dynamic_network_architectures``, which nnU-Net builds its networks from. Ima (section "Experiments
on Segmentation") trains it on slices; its paper names the sizes of patches, which version 1 of
nnU-Net planned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture

if TYPE_CHECKING:
    import torch

CONFIGURATION = "2d"
#: Bytes that a pass keeps for the way back, of a pixel of a patch: 2,300 to 2,510 with features of
#: 32 to 256 and of 32 to 512 (measured on a CPU).
GRAPH_BYTES = 2600
#: Bytes for the way back that noise levels which go through the network together may take.
MOST_TOGETHER = 8 * 2**30


class Spec(Settings):
    """Settings of nnU-Net's 2-D network."""

    patch_size: list[int] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="height and width of the patches that it sees; null: as nnU-Net plans",
    )


def planned(plans: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what nnU-Net planned for slices."""
    return plans["configurations"][CONFIGURATION]


def patch_size(spec: Spec, plans: Mapping[str, Any]) -> tuple[int, int]:
    """Returns height and width of a patch.

    Raises:
        InputError: the network halves a side more often than it can be, or down to one pixel.
    """
    height, width = spec.patch_size or planned(plans)["patch_size"]
    strides = planned(plans)["architecture"]["arch_kwargs"]["strides"]
    smallest = [math.prod(stride[axis] for stride in strides) for axis in range(2)]
    fits = height > 0 < width and height % smallest[0] == 0 == width % smallest[1]
    if not fits or [height, width] == smallest:
        raise InputError(
            f"A patch of {height} x {width} pixels does not fit the network that nnU-Net planned: "
            f"its height must be a multiple of {smallest[0]} and its width of {smallest[1]}, and "
            "one of both twice as large or more.",
            where="key architecture.patch_size",
            remedy="give other sides, or null for nnU-Net's own.",
        )
    return int(height), int(width)


def build(plans: Mapping[str, Any], channels: int, n_classes: int, seed: int) -> torch.nn.Module:
    """Returns the network with its first values, drawn from a seed.

    Args:
        plans: of nnU-Net.
        channels: of an image.
        n_classes: background included.
        seed: of the first values.
    """
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = planned(plans)["architecture"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            channels,
            n_classes,
            allow_init=True,
            deep_supervision=True,
        )


def levels_at_once(n: int, size: Sequence[int]) -> int:
    """Returns how many noise levels of a batch go through the network together, 1 or more.

    Args:
        n: patches of the batch.
        size: height and width of a patch.
    """
    return max(1, MOST_TOGETHER // max(1, n * math.prod(size) * GRAPH_BYTES))


def fast(
    network: torch.nn.Module, *, to_parameters: bool = True
) -> Callable[[torch.Tensor], Sequence[torch.Tensor]]:
    """Returns what computes the network's outputs and slopes, on a CPU in less time.

    Values are the network's own but for rounding. It reads the parameters at each call.

    Args:
        network: as :func:`build` makes it.
        to_parameters: whether slopes at parameters may be asked for; see
            :func:`medrobust.models.engine.unet_on_cpu.fast_on_cpu`.
    """
    from medrobust.models.engine.unet_on_cpu import fast_on_cpu

    return fast_on_cpu(network, to_parameters=to_parameters)


def arrays_of(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """Returns copies of a network's parameters by name, float32."""
    return {name: t.detach().cpu().numpy().copy() for name, t in network.state_dict().items()}


def with_arrays(network: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """Returns the network with the values of ``arrays``; names and shapes must be its own."""
    import torch

    network.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in arrays.items()})
    return network


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    build=build,
    # Of a pixel of a patch, a plain step: batches of 28 patches of 56 x 40 pixels.
    step_seconds=0.04,
    step_value_seconds=9e-6,
)
