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
#: Bytes of transformed tiles at a time: what fits the second-level cache of a core.
TILES = 1_700_000


def transformed(kernels: np.ndarray) -> np.ndarray:
    """Returns kernels ``[out, in, 3, 3]`` as :func:`convolve` takes them, ``[25, in, out]``.

    float32, computed in float64.
    """
    values = np.einsum("ap,bq,oipq->abio", G, G, kernels.astype(np.float64))
    return np.ascontiguousarray(values.reshape(25, *values.shape[2:]), dtype=np.float32)


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
    added: bool,
) -> None:
    """Writes ReLU of a convolution of stride 1 with a border of one zero into ``y``.

    Args:
        x: float32 ``[n, height, width, in]``, contiguous.
        kernels: as :func:`transformed` makes them.
        biases: float32 ``[out]``.
        y: float32 ``[n, height, width, out]``, contiguous, overwritten; not ``x``.
        memory: of its own for each thread.
        added: whether what ``y`` holds is added before ReLU.
    """
    import torch

    from medrobust.models.engine import winograd_kernels

    n, height, width, channels = x.shape
    side = winograd_kernels.SIDE
    tiles = -(-height // side) * -(-width // side)
    size = min(n, max(1, TILES // (4 * 25 * tiles * channels)))
    for start in range(0, n, size):
        some = slice(start, start + size)
        count = len(x[some]) * tiles
        values = memory.array("values", 25, count, channels)
        products = memory.array("products", 25, count, len(biases))
        winograd_kernels.transform_maps(x[some], values)
        torch.bmm(torch.from_numpy(values), kernels, out=torch.from_numpy(products))
        winograd_kernels.finish_maps(products, biases, y[some], added)
