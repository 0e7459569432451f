"""The perceptron of ima on Moons: leaky ReLU, layer normalisation from the second layer on.

Ima (Ma and Liang 2021), "Evaluation on Moons dataset":
Linear(2, 32)-LR-Linear(32, 64)-LN-LR-Linear(64, 128)-LN-LR-Linear(128, 2). The paper leaves
PyTorch's defaults: slope 0.01 below 0, normalisation with scale and shift. Logits of all classes.

Members are computed one after the other. Gradients with respect to the points are written out, as
in :mod:`medrobust.models.engine.apart`: a pass of so small a network is mostly calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import apart, stacked

if TYPE_CHECKING:
    import torch


EPSILON = 1e-5


class Spec(Settings):
    """Settings of the perceptron."""

    hidden_units: list[int] = Field(
        default=[32, 64, 128],
        min_length=1,
        description="units of each hidden layer; all but the first are normalised",
    )
    negative_slope: float = Field(default=0.01, ge=0, le=1, description="of the units below 0")


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members: :func:`apart.initial_layers`.

    Returns:
        float32 arrays ``w1 .. w4 [M, out, in]``, ``b1 .. b4 [M, out]``, and of the normalisations
        ``scale2, scale3 [M, units]`` (1) and ``shift2, shift3 [M, units]`` (0).
    """
    units = [int(np.prod(shape)), *spec.hidden_units, n_classes]
    shapes = list(zip(units[1:], units[:-1], strict=True))
    arrays = apart.initial_layers(shapes, seeds, bias=True, unit_norm=False)
    for layer, width in enumerate(spec.hidden_units[1:], start=2):
        arrays[f"scale{layer}"] = np.ones((len(seeds), width), dtype=np.float32)
        arrays[f"shift{layer}"] = np.zeros((len(seeds), width), dtype=np.float32)
    return arrays


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
    return logits_and_pattern(spec, member, x)[0]


def logits_and_pattern(
    spec: Spec, member: apart.Member, x: torch.Tensor
) -> tuple[torch.Tensor, list[Any]]:
    """Returns one member's logits and what the way back needs.

    Args:
        spec: the architecture's settings.
        member: tensors as :func:`initial_parameters` names them, without the leading axis.
        x: ``[n, d]``.

    Returns:
        logits ``[n, c]``; per hidden layer the values of its units, and where it is normalised
        the values before, their mean and the inverse of their spread.
    """
    import torch
    from torch.nn.functional import leaky_relu

    pattern: list[Any] = []
    for layer, width in enumerate(spec.hidden_units, start=1):
        x = torch.addmm(member[f"b{layer}"], x, member[f"w{layer}"].t())
        statistics: tuple[Any, ...] = ()
        if layer > 1:
            before = x
            scale, shift = member[f"scale{layer}"], member[f"shift{layer}"]
            x, mean, inverse = torch.native_layer_norm(before, [width], scale, shift, EPSILON)
            statistics = (before, mean, inverse)
        x = leaky_relu(x, spec.negative_slope, inplace=True)
        pattern.append((x, *statistics))
    layer = len(spec.hidden_units) + 1
    return torch.addmm(member[f"b{layer}"], x, member[f"w{layer}"].t()), pattern


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

    if slopes.dim() == 3:
        rows = (len(pattern[0][0]), slopes.shape[2])
        own = [pull_back(spec, member, pattern, part.expand(rows)) for part in slopes]
        return torch.stack(own)
    aten = torch.ops.aten
    slopes = slopes @ member[f"w{len(pattern) + 1}"]
    for layer in range(len(pattern), 0, -1):
        values, *statistics = pattern[layer - 1]
        slopes = aten.leaky_relu_backward(slopes, values, spec.negative_slope, True)
        if statistics:
            before, mean, inverse = statistics
            scale, shift = member[f"scale{layer}"], member[f"shift{layer}"]
            slopes = aten.native_layer_norm_backward(
                slopes, before, scale.shape, mean, inverse, scale, shift, [True, False, False]
            )[0]
        slopes = slopes @ member[f"w{layer}"]
    return slopes


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
    initial_parameters=initial_parameters,
    forward=forward,
    members_apart=True,
    logits=logits,
    logits_and_pattern=logits_and_pattern,
    pull_back=pull_back,
    step_seconds=5e-6,
)
