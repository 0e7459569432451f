"""Kernels of fixed length: rescaled before each batch, drawn anew when nothing moves them.

Nsr, authors' code; neither is in the paper. A kernel is what gives one output of a layer: a row
of a dense layer's weights, or one convolution kernel over all input channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def normaliser(member: dict[str, Tensor], layers: Iterable[str]) -> Callable[[], None]:
    """Returns a function that divides kernels and their biases by the kernels' L2 norms, in place.

    A kernel of zeros stays as it is.

    Args:
        member: one member's tensors, which autograd does not watch.
        layers: such as "3" for the tensors ``w3`` and ``b3``.
    """
    import torch

    layers = list(layers)
    kernels = [member[f"w{layer}"].flatten(1) for layer in layers]
    biases = [member.get(f"b{layer}") for layer in layers]
    all_norms = kernels[0].new_empty((sum(len(k) for k in kernels), 1))
    norms = all_norms.split([len(k) for k in kernels])
    flat_norms = all_norms[:, 0].split([len(k) for k in kernels])

    def normalise() -> None:
        for own, norm in zip(kernels, norms, strict=True):
            torch.linalg.vector_norm(own, dim=1, keepdim=True, out=norm)
        all_norms.masked_fill_(all_norms == 0, 1)
        for own, bias, norm, flat in zip(kernels, biases, norms, flat_norms, strict=True):
            own.div_(norm)
            if bias is not None:
                bias.div_(flat)

    return normalise


def revive(member: dict[str, Tensor], moved: dict[str, Tensor], rng: np.random.Generator) -> int:
    """Draws the kernels anew that had no gradient, from N(0, 1) and of length 1, with bias 0.

    Args:
        member: one member's tensors, changed in place; autograd does not watch them.
        moved: for each weight that may be drawn, the sum of the sizes of its gradients.
        rng: generator of this member and epoch.

    Returns:
        how many kernels were drawn.
    """
    revived = 0
    for name, dead in _dead(moved):
        _redraw(member[name], member.get(f"b{name[1:]}"), dead, rng)
        revived += len(dead)
    return revived


def all_moved(moved: dict[str, Tensor]) -> bool:
    """Tells whether no kernel is left that :func:`revive` would draw anew."""
    return not any(len(dead) for _, dead in _dead(moved))


def _dead(moved: dict[str, Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name of each weight and its kernels that had no gradient."""
    for name, sizes in moved.items():
        yield name, np.flatnonzero(sizes.flatten(1).sum(dim=1).cpu().numpy() == 0)


def _redraw(weights: Tensor, biases: Any, dead: np.ndarray, rng: np.random.Generator) -> None:
    import torch

    if not len(dead):
        return
    kernels = rng.standard_normal((len(dead), weights[0].numel()))
    kernels /= np.linalg.norm(kernels, axis=1, keepdims=True)
    rows = torch.from_numpy(dead).to(weights.device)
    weights[rows] = torch.from_numpy(kernels).to(weights).view(-1, *weights.shape[1:])
    if biases is not None:
        biases[rows] = 0
