"""Files appear whole or not at all, and equal content gives equal bytes."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.core import io
from medrobust.core.errors import InputError, nearest
from medrobust.core.seeds import derive_seed, generator


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    io.write_text(file, "old")
    with pytest.raises(RuntimeError), io.atomic_path(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_permissions_follow_the_umask(tmp_path):
    mask = os.umask(0o022)
    try:
        io.write_text(tmp_path / "a", "x")
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(mask)


@pytest.fixture
def full_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("a tmpfs can be mounted by root only")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(full_disk):
    io.write_array(full_disk / "x.npy", np.zeros(10))
    before = (full_disk / "x.npy").read_bytes()
    for write in (
        lambda: io.write_array(full_disk / "x.npy", np.zeros(10**6)),
        lambda: io.write_tensors(full_disk / "y.safetensors", {"a": np.zeros(10**6)}),
        lambda: io.write_text(full_disk / "z.txt", "z" * 3_000_000),
        lambda: io.write_table(full_disk / "t.csv", pd.DataFrame({"a": np.random.rand(10**5)})),
        lambda: io.write_table(full_disk / "t.parquet", pd.DataFrame({"a": np.random.rand(10**6)})),
    ):
        with pytest.raises(InputError, match="No space left"):
            write()
    assert (full_disk / "x.npy").read_bytes() == before
    assert [p.name for p in full_disk.iterdir()] == ["x.npy"]


def test_truncated_files_are_clear_errors(tmp_path):
    io.write_array(tmp_path / "x.npy", np.arange(100))
    io.write_tensors(tmp_path / "y.safetensors", {"a": np.arange(100)})
    for name, read in (("x.npy", io.read_array), ("y.safetensors", io.read_tensors)):
        file = tmp_path / name
        file.write_bytes(file.read_bytes()[:-50])
        with pytest.raises(InputError, match="not a complete"):
            read(file)


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        io.read_array(tmp_path / "o.npy")


def test_equal_tables_are_equal_bytes(tmp_path):
    table = pd.DataFrame({"a": [1, 2], "b": [0.1, None], "c": ["x", "y"]})
    for suffix in (".parquet", ".csv"):
        for name in ("one", "two"):
            io.write_table(tmp_path / f"{name}{suffix}", table)
        one, two = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("one", "two"))
        assert one == two
        pd.testing.assert_frame_equal(io.read_table(tmp_path / f"one{suffix}"), table)


names = st.lists(st.text(max_size=5), min_size=1, max_size=4)


@given(names, names)
def test_different_names_have_different_seeds(a, b):
    if a != b:
        assert derive_seed(1, *a) != derive_seed(1, *b)
    assert derive_seed(1, *a) == derive_seed(1, *a) != derive_seed(2, *a)
    assert 0 <= derive_seed(1, *a) < 2**63


def test_seeds_do_not_change_with_versions():
    assert derive_seed(20201024, "train", "signnet", 3) == 1165993622191418437
    assert generator(0, "x").integers(1000) == generator(0, "x").integers(1000)


def test_nearest_names():
    assert nearest("papr", ["paper", "laptop"]) == "paper"
    assert nearest("zzz", ["paper", "laptop"]) is None
