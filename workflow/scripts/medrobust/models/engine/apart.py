"""What networks share whose members are computed one after the other: layers, starts, gradients.

The networks are piecewise linear: near a point, the logits are ``W^T x + b`` with ``W`` and ``b``
that depend only on which units are on (nsr, equation 1). They have two functions beside ``logits``:

* ``logits_and_pattern(spec, member, x)``: logits ``[n, c]`` of one member and the pattern of
  its units;
* ``pull_back(spec, member, pattern, slopes)``: from slopes with respect to the logits, ``[n, c]``
  or ``[k, 1 or n, c]``, those with respect to the points, ``[n, d]`` or ``[k, n, d]``. With one-hot
  slopes these are columns of ``W``.

Both are products that autograd can go through once more, so a loss may contain gradients with
respect to the points without differentiating twice.

``normalised_kernels(spec)`` names the layers whose kernels may be kept at length 1. There may
also be ``backpropagate(spec, member, x, pattern, slopes, gradients)``: from slopes with respect
to the logits of points ``x``, those with respect to weights and biases, without autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.models.engine import stacked

if TYPE_CHECKING:
    import torch

Member = dict[str, Any]


def initial_layers(
    shapes: list[tuple[int, ...]], seeds: list[int], *, bias: bool, unit_norm: bool
) -> dict[str, np.ndarray]:
    """Draws the layers of ``len(seeds)`` members, each from its own seed.

    PyTorch's values for ``Linear`` and ``Conv1d``: weights and biases uniform in
    ``+-1 / sqrt(fan_in)``.

    Args:
        shapes: of each layer's kernels, ``(out, in)`` or ``(out, in, width)``.
        seeds: one per member.
        bias: whether there are biases.
        unit_norm: scale each output's kernel to L2 norm 1 and set the biases to 0, as the
            authors of nsr do.

    Returns:
        float32 arrays ``w1, w2, ... [M, *shape]`` and, with ``bias``, ``b1, b2, ... [M, out]``.
    """
    members = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        member: dict[str, np.ndarray] = {}
        for layer, shape in enumerate(shapes, start=1):
            bound = 1 / np.sqrt(np.prod(shape[1:]))
            kernels = rng.uniform(-bound, bound, shape)
            biases = rng.uniform(-bound, bound, len(kernels))
            if unit_norm:
                norms = np.linalg.norm(kernels.reshape(len(kernels), -1), axis=1)
                kernels /= norms.reshape(-1, *[1] * (kernels.ndim - 1))
                biases = np.zeros_like(biases)
            member[f"w{layer}"] = kernels
            if bias:
                member[f"b{layer}"] = biases
        members.append(member)
    return stacked.stack(members)


def each_member(
    logits: Callable[[Member, torch.Tensor], torch.Tensor],
    parameters: dict[str, torch.Tensor],
    x: torch.Tensor,
) -> torch.Tensor:
    """Returns ``logits`` of every member, ``[M, n, c]``.

    Args:
        logits: from one member's tensors and its points ``[n, d]`` to logits ``[n, c]``.
        parameters: tensors with a leading member axis.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same).
    """
    import torch

    apart = {name: value.unbind() for name, value in parameters.items()}
    members = [{name: own[m] for name, own in apart.items()} for m in range(len(apart["w1"]))]
    points = x if x.dim() == 3 else [x] * len(members)
    return torch.stack([logits(p, own) for p, own in zip(members, points, strict=True)])
