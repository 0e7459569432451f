"""Reading IDX files, the format of MNIST and Fashion-MNIST, packed with gzip or not.

Format: "The IDX file format", Y. LeCun, http://yann.lecun.com/exdb/mnist/: two zero bytes, a type
(8: unsigned bytes), the number of dimensions, each dimension as a big-endian 32-bit number, then
the values, the last dimension fastest. What a header states is held against what is expected
before anything of its size is allocated.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medrobust.core.errors import InputError

_UNSIGNED_BYTES = 8
_GZIP = b"\x1f\x8b"


def read_idx(path: str | Path, item_shape: Sequence[int], *, most: int) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, packed with gzip or not (told by its content).

    Args:
        path: the file.
        item_shape: shape of one item: ``(28, 28)`` for pictures, ``()`` for labels.
        most: most items that the file may hold.

    Returns:
        uint8 ``[n, *item_shape]``, 1 <= n <= ``most``.

    Raises:
        InputError: the file is empty, cut off or damaged, or holds something else.
    """
    path = Path(path)
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP
        with gzip.open(path) if packed else open(path, "rb") as file:
            head = file.read(4 * (len(item_shape) + 2))
            n = _items(head, tuple(item_shape), most, path)
            size = n * math.prod(item_shape)
            # One byte more: the end of the file, where gzip compares its checksum.
            values = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unreadable(path, f"it is no complete gzip file ({error})") from None
    if len(values) != size:
        found = "more" if len(values) > size else f"{len(values):,}"
        raise _unreadable(path, f"its header announces {size:,} values, but it holds {found}")
    return np.frombuffer(values, np.uint8).reshape(n, *item_shape)


def _items(head: bytes, item_shape: tuple[int, ...], most: int, path: Path) -> int:
    """Returns the number of items that a header states."""
    dimensions = len(item_shape) + 1
    if len(head) < 4 * (dimensions + 1):
        raise _unreadable(path, f"it ends within its header, after {len(head)} bytes")
    if head[:4] != bytes([0, 0, _UNSIGNED_BYTES, dimensions]):
        expected = f"IDX header of unsigned bytes in {dimensions} dimensions"
        raise _unreadable(path, f"it begins with {head[:4].hex(' ')}, which is no {expected}")
    n, *shape = struct.unpack(f">{dimensions}I", head[4:])
    if tuple(shape) != item_shape:
        raise _unreadable(path, f"its items have the shape {shape}, not {list(item_shape)}")
    if not 1 <= n <= most:
        raise _unreadable(path, f"it announces {n:,} items; 1 to {most:,} are expected")
    return n


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path.name} cannot be read: {reason}.",
        where=str(path),
        remedy="get the file again.",
    )
