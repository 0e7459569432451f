"""Reading numeric arrays from MATLAB's MAT-files of level 5 (version 5 to 7).

Format: MathWorks, "MAT-File Format", chapter "Level 5 MAT-File Format": a header of 128 bytes,
then elements (a type, a number of bytes, the content), each of which may be packed by zlib. The
reader of SciPy ends the process with a segmentation fault on some damaged files; this one holds
every size against what is expected before it allocates anything. It reads real numeric arrays by
name and passes over everything else.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medrobust.core.errors import InputError

_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32 = 1, 5, 6
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x0800
_HEADER, _BLOCK = 128, 1 << 20
_MOST_DIMENSIONS, _LONGEST_NAME = 8, 64
_REST = 16
"""Bytes of padding that may follow an array within its element."""

Shape = tuple[int | None, ...]


class _DamagedError(Exception):
    """What is wrong with a file, in words."""


def read_mat(path: str | Path, wanted: Mapping[str, Shape], *, most: int) -> dict[str, np.ndarray]:
    """Reads arrays of a MAT-file by their names.

    Args:
        path: the file.
        wanted: name -> shape; None stands for any size from 1 to ``most``.
        most: most entries along an axis whose size is not given.

    Returns:
        name -> array of that shape, in the type in which the file stores it.

    Raises:
        InputError: the file is empty, cut off, damaged or of another version, or an array is
            missing, not numeric or of another shape.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            found = _read_elements(file, path.stat().st_size, wanted, most)
    except _DamagedError as error:
        raise InputError(
            f"{path.name} cannot be read: {error}.",
            where=str(path),
            remedy="get the file again.",
        ) from None
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{path.name} holds no array {missing[0]!r}.",
            where=str(path),
            remedy="get the file again.",
        )
    return found


def _read_elements(
    file: BinaryIO, size: int, wanted: Mapping[str, Shape], most: int
) -> dict[str, np.ndarray]:
    order = _byte_order(file.read(_HEADER))
    found: dict[str, np.ndarray] = {}
    while file.tell() < size and len(found) < len(wanted):
        kind, length = struct.unpack(order + "II", _exactly(file.read(8), 8))
        end = file.tell() + length
        if end > size:
            raise _DamagedError(
                f"an element of {length:,} bytes begins at byte {file.tell():,} of {size:,}"
            )
        if kind in (_MATRIX, _COMPRESSED):
            content = _Content(file, length, packed=kind == _COMPRESSED)
            if kind == _COMPRESSED:
                kind, length = struct.unpack(order + "II", content.read(8))
            if kind == _MATRIX:
                name, array = _matrix(content, order, wanted, most)
                if array is not None:
                    found[name] = array
        file.seek(end)
    return found


def _byte_order(header: bytes) -> str:
    """Returns ``<`` or ``>``, as struct and NumPy write byte orders."""
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if len(header) < _HEADER or order is None:
        raise _DamagedError("it has no header of a MAT-file of version 5 to 7")
    (version,) = struct.unpack(order + "H", header[124:126])
    if version != 0x0100:
        raise _DamagedError(f"its version is {version:#06x}, only 0x0100 (5 to 7) is read")
    return order


def _exactly(content: bytes, size: int) -> bytes:
    if len(content) != size:
        raise _DamagedError("it ends too early")
    return content


class _Content:
    """The content of one element, unpacked as it is read, never more than is asked for."""

    def __init__(self, file: BinaryIO, length: int, *, packed: bool) -> None:
        self._file, self._left = file, length
        self._zlib = zlib.decompressobj() if packed else None
        self._ahead = b""

    def read(self, size: int) -> bytes:
        """Returns exactly ``size`` bytes."""
        return _exactly(self._at_most(size), size)

    def finish(self) -> None:
        """Reads to the end, where zlib compares its checksum; nothing but padding may follow."""
        rest = self._at_most(_REST)
        complete = self._zlib.eof if self._zlib else self._left == 0
        if rest.strip(b"\0") or not complete:
            raise _DamagedError("an array is followed by something else, or cut off")

    def _at_most(self, size: int) -> bytes:
        if self._zlib is None:
            return self._block(size)
        parts, have = [], 0
        while have < size and not self._zlib.eof:
            packed = self._ahead or self._block(_BLOCK)
            try:
                part = self._zlib.decompress(packed, size - have)
            except zlib.error as error:
                raise _DamagedError(f"a packed part is damaged ({error})") from None
            self._ahead = self._zlib.unconsumed_tail
            if not part and not packed:
                break
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def _block(self, size: int) -> bytes:
        block = self._file.read(min(size, self._left))
        self._left -= len(block)
        return block


def _matrix(
    content: _Content, order: str, wanted: Mapping[str, Shape], most: int
) -> tuple[str, np.ndarray | None]:
    """Returns the name of an array and, if it is wanted, the array."""
    flags = struct.unpack(order + "II", _exactly(_part(content, order, _UINT32, 8, "flags"), 8))[0]
    sizes = _part(content, order, _INT32, 4 * _MOST_DIMENSIONS, "dimensions")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes[: len(sizes) // 4 * 4])
    name = _part(content, order, _INT8, _LONGEST_NAME, "name").decode("latin-1")
    if name not in wanted:
        return name, None
    _check_shape(name, shape, wanted[name], most)
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX:
        raise _DamagedError(f"{name} is no array of real numbers")
    return name, _values(content, order, name, shape)


def _check_shape(name: str, shape: tuple[int, ...], expected: Shape, most: int) -> None:
    fits = len(shape) == len(expected) and all(
        size == wanted if wanted is not None else 1 <= size <= most
        for size, wanted in zip(shape, expected, strict=True)
    )
    if not fits:
        sizes = " x ".join("n" if size is None else str(size) for size in expected)
        raise _DamagedError(
            f"{name} is {' x '.join(map(str, shape))}, not {sizes} with n from 1 to {most:,}"
        )


def _values(content: _Content, order: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    kind, length, small = _tag(content, order)
    if kind not in _STORED:
        raise _DamagedError(f"{name} is stored as type {kind}, which is not numeric")
    dtype = np.dtype(order + _STORED[kind])
    size = math.prod(shape) * dtype.itemsize
    if length != size:
        raise _DamagedError(f"{name} has {length:,} bytes of values, its shape needs {size:,}")
    values = content.read(4)[:length] if small else content.read(length)
    content.finish()
    array = np.frombuffer(values, dtype).reshape(shape, order="F")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _part(content: _Content, order: str, kind: int, longest: int, what: str) -> bytes:
    """Returns a short part of an array's description, without its padding."""
    found, length, small = _tag(content, order)
    if found != kind or length > longest:
        raise _DamagedError(f"the {what} of an array are of type {found} and {length:,} bytes long")
    padded = 4 if small else -(-length // 8) * 8
    return content.read(padded)[:length]


def _tag(content: _Content, order: str) -> tuple[int, int, bool]:
    """Returns type, number of bytes, and whether the content is within the tag (at most 4)."""
    (first,) = struct.unpack(order + "I", content.read(4))
    if first >> 16:
        if first >> 16 > 4:
            raise _DamagedError(f"a short part announces {first >> 16} bytes")
        return first & 0xFFFF, first >> 16, True
    return first, struct.unpack(order + "I", content.read(4))[0], False
