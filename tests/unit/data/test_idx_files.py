"""IDX files: against bytes written by hand, and every kind of damage."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.formats.idx_files import read_idx

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 4, 5), dtype=np.uint8)


def idx(array: np.ndarray, *sizes: int, kind: int = 8) -> bytes:
    """Returns an IDX file, not packed; ``sizes`` may lie about the shape."""
    sizes = sizes or array.shape
    return struct.pack(f">HBB{len(sizes)}I", 0, kind, len(sizes), *sizes) + array.tobytes()


def write(folder: Path, content: bytes, *, packed: bool = True) -> Path:
    path = folder / "x-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    return path


def test_pictures_and_labels_are_read_as_they_are(tmp_path: Path) -> None:
    read = read_idx(write(tmp_path, idx(PICTURES)), (4, 5), most=7)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, PICTURES)
    labels = np.arange(9, dtype=np.uint8)
    np.testing.assert_array_equal(read_idx(write(tmp_path, idx(labels)), (), most=10), labels)


def test_a_file_that_somebody_unpacked_is_read_too(tmp_path: Path) -> None:
    read = read_idx(write(tmp_path, idx(PICTURES), packed=False), (4, 5), most=7)
    np.testing.assert_array_equal(read, PICTURES)


DAMAGE = {
    "zero bytes": (b"", False, "ends within its header, after 0 bytes"),
    "a web page": (b"<html>sign in, please</html>", False, "begins with 3c 68 74 6d"),
    "not packed, cut off": (idx(PICTURES)[:-1], False, "announces 140 values, but it holds 139"),
    "not packed, too long": (idx(PICTURES) + b"x", False, "it holds more"),
    "cut off": (gzip.compress(idx(PICTURES))[:-20], False, "no complete gzip file"),
    "wrong checksum": (gzip.compress(idx(PICTURES))[:-8] + bytes(8), False, "no complete gzip"),
    "labels, renamed": (idx(np.arange(9, dtype=np.uint8)), True, "no IDX header .* 3 dim"),
    "floats": (idx(PICTURES, kind=13), True, "begins with 00 00 0d 03"),
    "header only": (idx(PICTURES)[:10], True, "ends within its header, after 10 bytes"),
    "other pictures": (idx(PICTURES.reshape(7, 2, 10)), True, r"shape \[2, 10\], not \[4, 5\]"),
    "too few values": (idx(PICTURES[:-1], 7, 4, 5), True, "announces 140 values, but it holds 120"),
    "too many values": (idx(PICTURES, 6, 4, 5), True, "announces 120 values, but it holds more"),
    "no items": (idx(PICTURES[:0]), True, "announces 0 items"),
    "giant": (idx(PICTURES, 2**32 - 1, 4, 5), True, "announces 4,294,967,295 items; 1 to 8 "),
}


@pytest.mark.parametrize(("content", "packed", "says"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, packed: bool, says: str) -> None:
    path = write(tmp_path, content, packed=packed)
    with pytest.raises(InputError, match=says) as caught:
        read_idx(path, (4, 5), most=8)
    assert caught.value.where == str(path) and caught.value.remedy


def test_a_giant_that_is_well_packed_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """64 MB of zeros in 64 kB: only what the header states is ever unpacked."""
    import tracemalloc

    path = write(tmp_path, idx(PICTURES[:1], 1, 4, 5) + bytes(64 * 10**6))
    tracemalloc.start()
    with pytest.raises(InputError, match="holds more"):
        read_idx(path, (4, 5), most=8)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@given(st.data())
def test_any_damage_ends_in_an_error_or_in_the_right_values(tmp_path_factory, data) -> None:
    good = gzip.compress(idx(PICTURES), mtime=0)
    content = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("idx") / "x.gz"
    path.write_bytes(bytes(content))
    try:
        read = read_idx(path, (4, 5), most=8)
    except InputError:
        return
    np.testing.assert_array_equal(read, PICTURES)
