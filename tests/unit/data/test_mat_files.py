"""MAT-files: those that SciPy writes, and every kind of damage."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.formats.mat_files import read_mat
from scipy.io import loadmat, savemat

X = np.random.default_rng(0).integers(0, 256, (8, 6, 3, 5), dtype=np.uint8)
Y = np.array([[1], [10], [3], [4], [5]], np.uint8)
WANTED = {"X": (8, 6, 3, None), "y": (None, 1)}


def mat(*, packed: bool = True, **arrays: object) -> bytes:
    file = io.BytesIO()
    savemat(file, arrays or {"X": X, "y": Y}, do_compression=packed)
    return file.getvalue()


def read(folder: Path, content: bytes, wanted: dict = WANTED, most: int = 9) -> dict:
    path = folder / "train_32x32.mat"
    path.write_bytes(content)
    return read_mat(path, wanted, most=most)


@pytest.mark.parametrize("packed", [True, False])
def test_arrays_are_those_that_were_written(tmp_path: Path, packed: bool) -> None:
    found = read(tmp_path, mat(packed=packed))
    assert list(found) == ["X", "y"] and found["X"].dtype == np.uint8
    np.testing.assert_array_equal(found["X"], X)
    np.testing.assert_array_equal(found["y"], Y)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"])
def test_every_numeric_type(tmp_path: Path, dtype: str, packed: bool) -> None:
    """Up to four bytes lie within the tag; seven values end in padding."""
    for n in (1, 2, 4, 7):
        a = np.arange(2, 2 + n, dtype=dtype)[:, None]
        found = read(tmp_path, mat(packed=packed, a=a), {"a": (None, 1)})["a"]
        assert found.dtype == a.dtype
        np.testing.assert_array_equal(found, a)


def test_other_variables_are_passed_over(tmp_path: Path) -> None:
    others = {"notes": "text", "cells": np.array([{}, 2], object), "s": {"a": 1}, "z": 1j}
    for packed in (True, False):
        found = read(tmp_path, mat(packed=packed, **others, X=X, w=np.eye(300), y=Y))
        assert set(found) == {"X", "y"}
        np.testing.assert_array_equal(found["X"], X)


def swapped() -> bytes:
    """Returns a file with one array as a computer with the other byte order writes it."""
    name = struct.pack(">HH4s", 1, 1, b"y")
    flags = struct.pack(">IIII", 6, 8, 9, 0) + struct.pack(">IIii", 5, 8, 3, 1)
    values = struct.pack(">IIHHHH", 4, 6, 1, 500, 3, 0)
    body = flags + name + values
    text = b"MATLAB 5.0 MAT-file".ljust(124)
    return text + b"\x01\x00MI" + struct.pack(">II", 14, len(body)) + body


def test_the_other_byte_order(tmp_path: Path) -> None:
    found = read(tmp_path, swapped(), {"y": (None, 1)})["y"]
    assert found.tolist() == [[1], [500], [3]] and found.dtype == np.dtype("u2")
    # SciPy reads the same.
    np.testing.assert_array_equal(loadmat(tmp_path / "train_32x32.mat")["y"], found)


def elements(content: bytes) -> list[bytes]:
    """Returns the unpacked elements of a packed file."""
    found, at = [], 128
    while at < len(content):
        length = struct.unpack("<I", content[at + 4 : at + 8])[0]
        found.append(zlib.decompress(content[at + 8 : at + 8 + length]))
        at += 8 + length
    return found


def rebuilt(parts: list[bytes]) -> bytes:
    packed = [zlib.compress(part) for part in parts]
    return mat()[:128] + b"".join(struct.pack("<II", 15, len(p)) + p for p in packed)


def patched(old: bytes, new: bytes) -> bytes:
    first, second = elements(mat())
    assert first.count(old) == 1
    return rebuilt([first.replace(old, new), second])


FLAGS, SHAPE = struct.pack("<II", 6, 8), struct.pack("<4i", 8, 6, 3, 5)
TAG = struct.pack("<II", 2, X.size)
DAMAGE = {
    "zero bytes": (b"", "no header of a MAT-file"),
    "a web page": (b"<html>please sign in</html>" * 30, "no header of a MAT-file"),
    "version 7.3": (mat()[:124] + b"\x00\x02IM" + mat()[128:], "version is 0x0200"),
    "header only": (mat()[:128], "holds no array 'X'"),
    "cut off": (mat()[:-20], "an element of .* bytes begins at"),
    "within a tag": (mat()[:130], "ends too early"),
    "another array": (mat(X=X, z=Y), "holds no array 'y'"),
    "other shape": (mat(X=X[:7], y=Y), "X is 7 x 6 x 3 x 5, not 8 x 6 x 3 x n"),
    "other dimensions": (mat(X=X[0], y=Y), "X is 6 x 3 x 5, not 8 x 6 x 3 x n"),
    "too many": (mat(X=X, y=np.ones((10, 1), np.uint8)), "y is 10 x 1, not n x 1 with n from 1"),
    "none": (mat(X=X[..., :0], y=Y), "X is 8 x 6 x 3 x 0"),
    "complex": (mat(X=X * 1j, y=Y), "X is no array of real numbers"),
    "cells": (mat(X=np.full(X.shape, 2.0, object), y=Y), "X is no array of real numbers"),
    "giant array": (patched(SHAPE, struct.pack("<4i", 8, 6, 3, 2**31 - 1)), "X is 8 x 6 x 3 x 21"),
    "negative": (patched(SHAPE, struct.pack("<4i", 8, 6, 3, -5)), "X is 8 x 6 x 3 x -5"),
    "giant values": (patched(TAG, struct.pack("<II", 2, 2**32 - 16)), "has 4,294,967,280 bytes"),
    "few values": (patched(TAG, struct.pack("<II", 2, 100)), "X has 100 bytes of values, its sha"),
    "short flags": (patched(FLAGS, struct.pack("<II", 6, 4)), "ends too early"),
    "strings": (patched(TAG, struct.pack("<II", 16, X.size)), "stored as type 16"),
    "fewer bytes than told": (rebuilt([elements(mat())[0][:-90]]), "ends too early"),
    "more bytes than told": (rebuilt([elements(mat())[0] + b"x" * 40]), "followed by something"),
    "giant element": (mat()[:128] + struct.pack("<II", 15, 2**32 - 1) + b"x", "of 4,294,967,295 b"),
    "not packed by zlib": (mat()[:136] + bytes(len(mat()) - 136), "a packed part is damaged"),
    "wrong checksum": (
        mat()[:128] + struct.pack("<II", 15, len(zlib.compress(elements(mat())[0])))
        + zlib.compress(elements(mat())[0])[:-4] + b"\0\0\0\0",
        "a packed part is damaged",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "says"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_refused_without_taking_memory(
    tmp_path: Path, content: bytes, says: str
) -> None:
    tracemalloc.start()
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path, content)
    assert tracemalloc.get_traced_memory()[1] < 3 * 10**6
    tracemalloc.stop()
    assert caught.value.where.endswith("train_32x32.mat") and caught.value.remedy


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_damage_of_a_packed_file_ends_in_an_error_or_in_the_right_values(
    tmp_path_factory, data
) -> None:
    """Also within what is packed, with a checksum that fits."""
    if data.draw(st.booleans()):
        content = bytearray(mat())
        limit = 128
    else:
        content = bytearray(elements(mat())[0])
        limit = content.index(TAG) + 8
    inside = limit != 128
    content = content[: data.draw(st.integers(len(content) // 2, len(content)) | st.integers(0, 8))]
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        last = min(len(content), limit if inside else len(content)) - 1
        content[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    whole = rebuilt([bytes(content), elements(mat())[1]]) if inside else bytes(content)
    try:
        found = read(tmp_path_factory.mktemp("mat"), whole)
    except InputError:
        return
    assert found["X"].shape == X.shape
    if found["X"].dtype == np.uint8:
        np.testing.assert_array_equal(found["X"], X)
    np.testing.assert_array_equal(found["y"], Y)
