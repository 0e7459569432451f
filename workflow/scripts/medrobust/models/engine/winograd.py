"""Convolutions of width 3 with fewer products: Winograd's F(3 x 3, 3 x 3), on a CPU.

Lavin and Gray (2016), section 4. Nine outputs of a map take 25 products instead of 81, as 25 matrix
products over all tiles and channels; what comes before and after are additions, compiled. Rounding
errors are about two to three times those of a direct convolution (a test holds them to 1e-5 of
the spread of the maps). Maps lie as ``[n, height, width, c]``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

#: Kernels to products: see :mod:`medrobust.models.engine.winograd_kernels`.
G = np.array(
    [[1 / 2, 0, 0], [-1 / 2] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 6, 1 / 3, 2 / 3], [0, 0, 1]]
)
#: Both Kronecker factors of the way from a kernel's nine values to its 25.
GG = np.kron(G, G)
#: Bytes of transformed tiles, before and after products, at a time. With a megabyte of second-level
#: cache, 3 MB were fastest of .25 to 7: products of few rows are slow.
TILES = 3_000_000


def transformed(kernels: np.ndarray) -> np.ndarray:
    """Returns kernels ``[out, in, 3, 3]`` as :func:`convolve` takes them, ``[25, in, out]``.

    float32, computed in float64.
    """
    outputs, inputs = kernels.shape[:2]
    nine = np.ascontiguousarray(kernels.transpose(2, 3, 1, 0), dtype=np.float64).reshape(9, -1)
    return (GG @ nine).reshape(25, inputs, outputs).astype(np.float32)


class Memory:
    """Memory that is used again by every convolution: new pages would cost a tenth of the time."""

    def __init__(self) -> None:
        self._memories: dict[str, np.ndarray] = {}

    def array(self, name: str, *shape: int) -> np.ndarray:
        """Returns a float32 array of a shape, whose values the next call of a name overwrites."""
        size = math.prod(shape)
        if name not in self._memories or self._memories[name].size < size:
            self._memories[name] = np.empty(size, np.float32)
        return self._memories[name][:size].reshape(shape)


def convolve(
    x: np.ndarray,
    kernels: torch.Tensor,
    biases: np.ndarray,
    y: np.ndarray,
    memory: Memory,
    *,
    added: bool = False,
    rectified: bool = False,
) -> None:
    """Writes a convolution of stride 1 with a border of one zero into ``y``.

    Args:
        x: float32 ``[n, height, width, in]``, contiguous.
        kernels: as :func:`transformed` makes them.
        biases: float32 ``[out]``.
        y: float32 ``[n, height, width, out]``, contiguous, overwritten; not ``x``.
        memory: of its own for each thread.
        added: whether what ``y`` holds is added.
        rectified: whether ReLU follows.
    """
    import torch

    from medrobust.models.engine import winograd_kernels

    n, height, width, channels = x.shape
    side, least = winograd_kernels.SIDE, np.float32(0 if rectified else -np.inf)
    rows, columns = n * -(-height // side), -(-width // side)
    most = max(1, TILES // (4 * 25 * columns * (channels + len(biases))))
    size = -(-rows // -(-rows // most))
    for first in range(0, rows, size):
        count = min(size, rows - first) * columns
        values = memory.array("values", 25, count, channels)
        products = memory.array("products", 25, count, len(biases))
        winograd_kernels.transform_maps(x, first, values)
        torch.bmm(torch.from_numpy(values), kernels, out=torch.from_numpy(products))
        winograd_kernels.finish_maps(products, first, biases, y, added, least)
