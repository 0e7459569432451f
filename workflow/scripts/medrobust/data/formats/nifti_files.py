"""NIfTI volumes that nobody vouches for: read whole, with every stated size checked first.

A file is unpacked into memory up to a bound, and what its header states is held against the bytes
that are there before any array is made. nibabel interprets header and voxels; a NIfTI file holds
no Python objects.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError

if TYPE_CHECKING:
    import nibabel

MAX_BYTES = 2**30
"""No unpacked volume of these data sets has more; the largest have about 100 MB."""

_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}
"""Of each unit of length that a header can state; where it states none they are millimetres."""

_GZIP = b"\x1f\x8b"
_AGAIN = "get the release again."


@dataclass(frozen=True)
class Volume:
    """One volume.

    Attributes:
        data: ``[x, y, z]`` or ``[x, y, z, channels]``, scaled as the header says; finite.
        affine: ``[4, 4]`` float64, from voxel to millimetres (right, anterior, superior).
        spacing: size of a voxel along x, y, z in millimetres, as the header states it (``pixdim``).
        orientation: direction of each axis, such as "RAS".
        one_position: whether the header's two affines, if it has both (qform, sform), are the same;
            ``affine`` is the sform then.
    """

    data: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, float, float]
    orientation: str
    one_position: bool = True


def read_volume(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Volume:
    """Reads a ``.nii`` or ``.nii.gz`` file.

    Args:
        path: the file; whether it is packed is told by its content.
        max_bytes: bound on the unpacked file.

    Raises:
        InputError: the file is missing, empty, cut off, damaged, larger than the bound, not NIfTI,
            or holds values that are not finite numbers or not three or four axes.
    """
    path = Path(path)
    image = _parsed(_unpacked(path, max_bytes), path)
    try:
        data = np.asanyarray(image.dataobj)
        scale = _MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 1.0)
        spacing = tuple(scale * float(size) for size in image.header.get_zooms()[:3])
        affine = np.diag([scale, scale, scale, 1.0]) @ np.asarray(image.affine, np.float64)
        orientation = _orientation(affine)
    except (ValueError, TypeError, OverflowError, IndexError, np.linalg.LinAlgError) as error:
        raise _damaged(path, str(error)) from None
    if data.dtype.kind not in "iuf":
        raise _damaged(path, f"voxels of type {data.dtype}")
    if not np.isfinite(data).all():
        raise _damaged(path, "some voxels are not finite numbers")
    if not np.isfinite(image.affine).all() or not all(size > 0 for size in spacing):
        raise _damaged(path, "the position or the size of a voxel is not a finite number")
    return Volume(data, affine, spacing, orientation, _one_position(image.header, data.shape))


def write_volume(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Writes a ``.nii.gz`` file, atomically; equal content gives equal bytes.

    Args:
        path: the file.
        data: ``[x, y, z]``, written in its type (64-bit values as 32-bit ones).
        affine: ``[4, 4]``, from voxel to millimetres.
    """
    import nibabel

    narrow = {"i8": np.int32, "f8": np.float32}.get(data.dtype.str[1:], data.dtype)
    image = nibabel.Nifti1Image(np.asarray(data, narrow), affine)
    image.header.set_xyzt_units("mm")
    with io.atomic_path(path) as temporary:
        temporary.write_bytes(packed(image.to_bytes()))


def packed(content: bytes) -> bytes:
    """Returns ``content`` packed with gzip; equal content gives equal bytes."""
    return gzip.compress(content, compresslevel=6, mtime=0)


def is_packed(path: Path) -> bool:
    """Tells by its content whether a file is packed with gzip."""
    with open(path, "rb") as file:
        return file.read(2) == _GZIP


def _unpacked(path: Path, max_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            opened = gzip.GzipFile(fileobj=file) if is_packed(path) else file
            content = opened.read(max_bytes + 1)
    except FileNotFoundError:
        raise InputError("This volume does not exist.", where=str(path), remedy=_AGAIN) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, str(error)) from None
    if not content:
        raise _damaged(path, "0 bytes")
    if len(content) > max_bytes:
        raise _damaged(path, f"more than {max_bytes:,} bytes unpacked")
    return content


def _parsed(content: bytes, path: Path) -> nibabel.Nifti1Image:
    """Returns the image, whose voxels are all in ``content``."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    # Anything else (a picture, a web page) is told before nibabel guesses a byte order.
    if len(content) < 352 or content[344:348] != b"n+1\0":
        raise InputError("This is not a NIfTI volume.", where=str(path), remedy=_AGAIN)
    errors = (
        HeaderDataError, ImageFileError, WrapStructError, ValueError, TypeError, KeyError,
        OverflowError, IndexError, struct.error, OSError,
    )  # fmt: skip
    try:
        header = nibabel.Nifti1Header(content[:348])
        _check_size(header, len(content), path)
        return nibabel.Nifti1Image.from_bytes(content)
    except InputError:
        raise
    except errors as error:
        raise _damaged(path, str(error)) from None


def _check_size(header: Any, there: int, path: Path) -> None:
    """Raises unless the header's shape is that of a volume and all of its voxels are there."""
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise _damaged(path, f"its header states the shape {shape}")
    start = int(header["vox_offset"])
    needed = start + math.prod(shape) * header.get_data_dtype().itemsize
    if start < 352 or needed > there:
        raise _damaged(
            path, f"its header states {shape}, {needed:,} bytes; there are {there:,} bytes"
        )


def _orientation(affine: np.ndarray) -> str:
    import nibabel

    return "".join(axis or "?" for axis in nibabel.aff2axcodes(affine))


def _one_position(header: Any, shape: tuple[int, ...]) -> bool:
    """Tells whether no corner of the volume lies apart by more than a tenth of a voxel's side."""
    try:
        forms = [form for form, code in (header.get_qform(True), header.get_sform(True)) if code]
    except ValueError:  # a quaternion that is none
        return int(header["sform_code"]) == 0
    if len(forms) < 2:
        return True
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)], float).T
    corners[:3] *= np.array(shape[:3])[:, None] - 1
    apart = np.abs((forms[0] - forms[1]) @ corners).max()
    return bool(apart <= 0.1 * min(np.linalg.norm(forms[1][:3, :3], axis=0)))


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"This volume is damaged ({reason}).", where=str(path), remedy=_AGAIN)
