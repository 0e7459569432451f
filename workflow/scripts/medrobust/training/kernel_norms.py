"""Kernels of fixed length: rescaled before each batch, drawn anew when nothing moves them.

Nsr, authors' code; neither is in the paper. A kernel is what gives one output of a layer: a row
of a dense layer's weights, or one convolution kernel over all input channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def normalise(member: dict[str, Tensor], layers: Iterable[str]) -> None:
    """Divides each kernel and its bias by the kernel's L2 norm, in place.

    A kernel of zeros stays as it is.

    Args:
        member: one member's tensors, which autograd does not watch.
        layers: such as "3" for the tensors ``w3`` and ``b3``.
    """
    import torch

    for layer in layers:
        kernels = member[f"w{layer}"].flatten(1)
        norms = torch.linalg.vector_norm(kernels, dim=1, keepdim=True)
        norms.masked_fill_(norms == 0, 1)
        kernels.div_(norms)
        if f"b{layer}" in member:
            member[f"b{layer}"].div_(norms[:, 0])


def revive(member: dict[str, Tensor], moved: dict[str, Tensor], rng: np.random.Generator) -> int:
    """Draws the kernels anew that had no gradient, from N(0, 1) and of length 1, with bias 0.

    Args:
        member: one member's tensors, changed in place; autograd does not watch them.
        moved: for each weight of ``member``, the sum of the sizes of its gradients.
        rng: generator of this member and epoch.

    Returns:
        how many kernels were drawn.
    """
    revived = 0
    for name, weights in member.items():
        if not name.startswith("w"):
            continue
        dead = np.flatnonzero(moved[name].flatten(1).sum(dim=1).cpu().numpy() == 0)
        if len(dead):
            _redraw(weights, member.get(f"b{name[1:]}"), dead, rng)
        revived += len(dead)
    return revived


def _redraw(weights: Tensor, biases: Any, dead: np.ndarray, rng: np.random.Generator) -> None:
    import torch

    kernels = rng.standard_normal((len(dead), weights[0].numel()))
    kernels /= np.linalg.norm(kernels, axis=1, keepdims=True)
    rows = torch.from_numpy(dead).to(weights.device)
    weights[rows] = torch.from_numpy(kernels).to(weights).view(-1, *weights.shape[1:])
    if biases is not None:
        biases[rows] = 0
