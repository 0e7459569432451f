"""The multi-layer perceptron of nsr: hidden layers with ReLU, a linear layer, the output.

Nsr (Ma and Liang 2020), section 3: (187-128)-ReLU-(128-128)-ReLU-(128-128)-ReLU-(128-32)-(32-5),
logits of all classes. The authors' code scales kernels and may leave out all biases:
docs/nsr-training.md.

Members are computed one after the other. Gradients with respect to the points are written out:
:mod:`medrobust.models.engine.apart`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import apart, stacked

if TYPE_CHECKING:
    import torch


class Spec(Settings):
    """Settings of the perceptron."""

    hidden_layers: int = Field(default=3, ge=0, description="layers with ReLU")
    hidden_units: int = Field(default=128, ge=1, description="units of each of them")
    linear_units: int = Field(
        default=32, ge=1, description="units of the layer before the output, which has no ReLU"
    )
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
        float32 arrays ``w1 .. w5 [M, out, in]`` and, with biases, ``b1 .. b5 [M, out]``.
    """
    units = [int(np.prod(shape)), *[spec.hidden_units] * spec.hidden_layers]
    units += [spec.linear_units, n_classes]
    shapes = list(zip(units[1:], units[:-1], strict=True))
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
    return logits_and_pattern(spec, member, x)[0]


def logits_and_pattern(
    spec: Spec, member: apart.Member, x: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Returns one member's logits and the values of its layers, which tell the units that are on.

    Args:
        spec: the architecture's settings.
        member: tensors as :func:`initial_parameters` names them, without the leading axis.
        x: ``[n, d]``.

    Returns:
        logits ``[n, c]``; what each layer before the output gives, ``[n, units]``.
    """
    import torch

    pattern = []
    for layer in range(1, spec.hidden_layers + 3):
        weights = member[f"w{layer}"].t()
        x = torch.addmm(member[f"b{layer}"], x, weights) if spec.bias else x @ weights
        if layer <= spec.hidden_layers:
            x = x.relu_()
        pattern.append(x.detach())
    return x, pattern[:-1]


def pull_back(
    spec: Spec, member: apart.Member, pattern: list[torch.Tensor], slopes: torch.Tensor
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
    for layer in range(spec.hidden_layers + 2, 0, -1):
        if layer <= spec.hidden_layers:
            slopes = slopes * pattern[layer - 1].sign()
        slopes = slopes @ member[f"w{layer}"]
    return slopes


def backpropagate(
    spec: Spec,
    member: apart.Member,
    x: torch.Tensor,
    pattern: list[torch.Tensor],
    slopes: torch.Tensor,
    gradients: apart.Member,
) -> None:
    """Writes the gradient with respect to weights and biases, from slopes of the logits.

    The same products as autograd's, to the last bit.

    Args:
        spec: the architecture's settings.
        member: as in :func:`logits_and_pattern`.
        x: the points, ``[n, d]``.
        pattern: of the points.
        slopes: ``[n, c]``.
        gradients: tensors like those of ``member``, overwritten.
    """
    import torch

    inputs = [x, *pattern]
    for layer in range(spec.hidden_layers + 2, 0, -1):
        torch.mm(slopes.t(), inputs[layer - 1], out=gradients[f"w{layer}"])
        if spec.bias:
            torch.sum(slopes, dim=0, out=gradients[f"b{layer}"])
        if layer > 1:
            slopes = slopes @ member[f"w{layer}"]
        if 1 < layer <= spec.hidden_layers + 1:
            slopes.mul_(inputs[layer - 1].sign())


def normalised_kernels(spec: Spec) -> list[str]:
    """Returns the layers whose kernels are rescaled or drawn anew, all but the output.

    Nsr, authors' code.
    """
    return [str(layer) for layer in range(1, spec.hidden_layers + 2)]


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
    backpropagate=backpropagate,
    normalised_kernels=normalised_kernels,
)
