"""Every reader on every kind of damage: a clear error, or the right data; never a crash.

The same list of damages for all: tables, IDX, MAT, images, volumes, archives, records. What a
reader does with the damages that are its own stands in its own test file.
"""

from __future__ import annotations

import gzip
import io
import logging
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.fetching.archives import extract
from medrobust.data.formats.heartbeat_csv import LENGTH, CsvFile, read_files
from medrobust.data.formats.idx_files import read_idx
from medrobust.data.formats.images import ImageSpec, read_images
from medrobust.data.formats.mat_files import read_mat
from medrobust.data.formats.nifti_files import read_volume
from medrobust.data.sets import mitbih

from tests.unit.data import test_mitbih
from tests.unit.data.test_idx_files import PICTURES, idx
from tests.unit.data.test_mat_files import WANTED, X, Y, mat
from tests.unit.data.test_nifti_files import DATA, content
from tests.unit.image_releases import encoded, picture

ROWS = np.linspace(0, 1, 3 * LENGTH, dtype=np.float32).reshape(3, LENGTH)
MEMBERS = {"a/x.bin": bytes(range(256)) * 40, "y.txt": b"content" * 30}


def csv_bytes() -> bytes:
    lines = [",".join([*map(repr, row.tolist()), f"{n}.0"]) for n, row in enumerate(ROWS)]
    return ("\n".join(lines) + "\n").encode()


def zip_bytes(packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as file:
        for name, value in MEMBERS.items():
            file.writestr(zipfile.ZipInfo(name), value, packing)
    return buffer.getvalue()


def tar_bytes(mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, value in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(value)
            file.addfile(info, io.BytesIO(value))
    return buffer.getvalue()


def read_csv(path: Path) -> np.ndarray:
    rows = read_files([CsvFile(path, (0, 1, 2, 3, 4), 3)])
    return np.column_stack([rows.x, rows.y])


def unpacked(path: Path) -> dict[str, bytes]:
    out = path.parent / "out"
    written = extract(path, out, lambda member: member, max_bytes=10**6)
    inside = {p for p in out.rglob("*") if p.is_file()}
    assert inside == {out / name for name in written}
    assert {p for p in path.parent.rglob("*") if p.is_file()} == inside | {path}
    return {name: p.read_bytes() for name, p in written.items()}


def image(path: Path) -> np.ndarray:
    return read_images([path], ImageSpec(size=32, colour="rgb"), processes=1).x


Reader = tuple[str, bytes, Callable[[Path], Any], Any]
PICTURE = picture(3, 60, 50, "colour")
READERS: dict[str, Reader] = {
    "csv": ("mitbih_train.csv", csv_bytes(), read_csv, np.column_stack([ROWS, [0, 1, 2]])),
    "idx": (
        "x-idx3-ubyte.gz", gzip.compress(idx(PICTURES)), lambda p: read_idx(p, (4, 5), most=8),
        PICTURES,
    ),
    "mat": (
        "train_32x32.mat", mat(),
        lambda p: {k: v.tolist() for k, v in read_mat(p, WANTED, most=9).items()},
        {"X": X.tolist(), "y": Y.tolist()},
    ),
    "png": ("x.png", encoded(PICTURE, "x.png"), image, None),
    "jpeg": ("x.jpeg", encoded(PICTURE, "x.jpeg"), image, None),
    "tif": ("x.tif", encoded(PICTURE, "x.tif"), image, None),
    "nifti": ("x.nii", content(), lambda p: read_volume(p).data, DATA),
    "nifti.gz": ("x.nii.gz", gzip.compress(content()), lambda p: read_volume(p).data, DATA),
    "zip": ("x.zip", zip_bytes(), unpacked, MEMBERS),
    "zip, stored": ("x.zip", zip_bytes(zipfile.ZIP_STORED), unpacked, MEMBERS),
    "zip, lzma": ("x.zip", zip_bytes(zipfile.ZIP_LZMA), unpacked, MEMBERS),
    "tar": ("x.tar", tar_bytes(), unpacked, MEMBERS),
    "tar.gz": ("x.tar.gz", tar_bytes("w:gz"), unpacked, MEMBERS),
    "tar.bz2": ("x.tar.bz2", tar_bytes("w:bz2"), unpacked, MEMBERS),
    "tar.xz": ("x.tar.xz", tar_bytes("w:xz"), unpacked, MEMBERS),
}  # fmt: skip
FAMILY = {"png": "image", "jpeg": "image", "tif": "image", "nifti": "volume", "nifti.gz": "volume"}


def family(name: str) -> str:
    return FAMILY.get(name, "archive" if "zip" in name or "tar" in name else name)


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, np.ndarray):
        return np.array_equal(found, expected)
    return found == expected


def check(reader: str, folder: Path, value: bytes, *, exact: bool) -> bool:
    """Reads damaged bytes; returns whether they were accepted, after looking at what was read."""
    name, _, read, expected = READERS[reader]
    path = Path(tempfile.mkdtemp(dir=folder)) / name
    path.write_bytes(value)
    try:
        found = read(path)
    except InputError as error:
        assert str(path) in str(error) or name in str(error)
        return False
    if exact and expected is not None:
        assert same(found, expected)
    return True


@pytest.mark.parametrize("reader", READERS)
def test_whole_files_are_read(tmp_path: Path, reader: str) -> None:
    assert check(reader, tmp_path, READERS[reader][1], exact=True)


@pytest.mark.parametrize("reader", READERS)
def test_zero_bytes_and_web_pages_are_refused(tmp_path: Path, reader: str) -> None:
    for value in (b"", b"\0", b"\0" * 5000, b"<!DOCTYPE html><html>sign in</html>" * 20):
        assert not check(reader, tmp_path, value, exact=False)


@pytest.mark.parametrize("reader", READERS)
def test_files_of_another_kind_are_refused(tmp_path: Path, reader: str) -> None:
    """Renamed: what has the right name and is something else."""
    for other, (_, value, _, _) in READERS.items():
        if family(other) != family(reader):
            assert not check(reader, tmp_path, value, exact=False), other


@pytest.mark.parametrize("reader", READERS)
def test_files_that_were_cut_short_are_refused_or_whole(tmp_path: Path, reader: str) -> None:
    """What ends a tar or a JPEG is padding: without it everything can still be there."""
    good = READERS[reader][1]
    cuts = {1, 2, 3, 10, *np.linspace(4, len(good) - 1, 40).astype(int).tolist()}
    taken = [cut for cut in cuts if check(reader, tmp_path, good[:cut], exact=True)]
    assert all(cut > len(good) * 0.1 for cut in taken)
    if reader not in ("tar", "tif"):
        assert not [cut for cut in taken if cut < len(good) - 2]


SLOW = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
BINARY = sorted(set(READERS) - {"csv", "png", "jpeg", "tif"})


@pytest.mark.parametrize("reader", BINARY)
@SLOW
@given(data=st.data())
def test_changed_bytes(tmp_path_factory, reader: str, data: st.DataObject) -> None:
    """Formats with a checksum give the right data or none; the others give data of their shape."""
    value = bytearray(READERS[reader][1])
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers are where sizes stand.
        place = data.draw(st.integers(0, min(400, len(value) - 1)) | st.integers(0, len(value) - 1))
        value[place] = data.draw(st.integers(0, 255))
    checked = reader in ("nifti.gz", "tar.gz", "tar.bz2", "tar.xz")
    check(reader, tmp_path_factory.mktemp("fuzz"), bytes(value), exact=checked)


@SLOW
@given(data=st.data())
def test_changed_tables_give_rows_that_may_be_heartbeats(tmp_path_factory, data) -> None:
    value = bytearray(csv_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(value) - 1))
        value[place] = data.draw(st.sampled_from(b'0129.,-eE\n\r "nai\0\xff'))
    path = tmp_path_factory.mktemp("csv") / "mitbih_test.csv"
    path.write_bytes(bytes(value))
    try:
        rows = read_files([CsvFile(path, (0, 1, 2, 3, 4), 3)])
    except InputError:
        return
    assert rows.x.shape == (3, LENGTH) and rows.x.dtype == np.float32
    assert ((rows.x >= 0) & (rows.x <= 1)).all() and np.isin(rows.y, range(5)).all()


def test_one_endless_line_is_refused(tmp_path: Path) -> None:
    """No line end in 20 MB: longer than the blocks that are read."""
    path = tmp_path / "mitbih_test.csv"
    path.write_bytes(b"0.5," * (5 * 10**6))
    with pytest.raises(InputError, match="columns instead of 188"):
        read_files([CsvFile(path, (0, 1), 3)])


# ------------------------------------------------------------------ records


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setattr(logging.getLogger("medrobust"), "disabled", True)
    return test_mitbih.write_record(tmp_path, "202")


def _read_record(files: dict[str, Path]) -> None:
    """Reads a record: rows that may be heartbeats, or an error that names it."""
    try:
        beats = mitbih.build_from_records(files, allow_subset=True)
    except InputError as error:
        assert "202" in str(error)
        return
    assert np.isfinite(beats.x).all() and beats.x.min() >= 0 and beats.x.max() <= 1
    assert len(beats.x) == len(beats.y) > 0


@pytest.mark.parametrize(
    "line",
    [
        "202 999999999 360 5600",
        "202 2 360 999999999",
        "202 2 360 99999999999999999999999",
        "202 -2 360 5600",
        "202 2 360 -5600",
        "202/7 2 360 5600",
        "202 2 360 5600 " + "9" * 10**5,
    ],
)
def test_giant_headers_of_records_take_no_memory(record: dict[str, Path], line: str) -> None:
    header = record["202.hea"]
    first, _, rest = header.read_text().partition("\n")
    assert first == "202 2 360 5600"
    header.write_text(line + "\n" + rest)
    tracemalloc.start()
    with pytest.raises(InputError, match="Record 202"):
        mitbih.build_from_records(record, allow_subset=True)
    assert tracemalloc.get_traced_memory()[1] < 2 * 10**7
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["../../../etc/hostname", "/etc/hostname", "203.dat"])
def test_headers_that_name_files_elsewhere_are_refused(record: dict[str, Path], name: str) -> None:
    header = record["202.hea"]
    header.write_text(header.read_text().replace("202.dat", name))
    with pytest.raises(InputError, match="Record 202"):
        mitbih.build_from_records(record, allow_subset=True)


@pytest.mark.parametrize("suffix", [".hea", ".dat", ".atr"])
@SLOW
@given(data=st.data())
def test_changed_records(record: dict[str, Path], suffix: str, data: st.DataObject) -> None:
    path = record[f"202{suffix}"]
    good = path.read_bytes()
    value = bytearray(good[: data.draw(st.just(len(good)) | st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 4)) if value else 0):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(bytes(value))
        _read_record(record)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("suffix", [".hea", ".dat", ".atr"])
def test_parts_of_records_under_another_name(record: dict[str, Path], suffix: str) -> None:
    good = {name: path.read_bytes() for name, path in record.items()}
    others = [good[name] for name in good if not name.endswith(suffix)]
    for value in (*others, *(reader[1] for reader in READERS.values())):
        record[f"202{suffix}"].write_bytes(value)
        with pytest.raises(InputError, match="202"):
            mitbih.build_from_records(record, allow_subset=True)
