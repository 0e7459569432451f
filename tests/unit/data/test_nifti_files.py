"""NIfTI files: what nibabel reads, and a clear error for everything else."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.formats.nifti_files import read_volume, write_volume

AFFINE = np.array([[0, -1.5, 0, 3], [1.0, 0, 0, -2], [0, 0, 2.5, 7], [0, 0, 0, 1]])
DATA = np.random.default_rng(0).normal(0, 100, (5, 6, 7)).astype(np.float32)


def content(data: np.ndarray = DATA) -> bytes:
    return nibabel.Nifti1Image(data, AFFINE).to_bytes()


def written(path: Path, value: bytes) -> Path:
    path.write_bytes(value)
    return path


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_values_and_geometry_are_those_of_nibabel(tmp_path: Path, pack) -> None:
    volume = read_volume(written(tmp_path / "a.nii.gz", pack(content())))
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.spacing == (1.0, 1.5, 2.5) and volume.orientation == "ALS"


def test_values_are_scaled_as_the_header_says(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(DATA, AFFINE)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    read = read_volume(tmp_path / "a.nii.gz").data
    np.testing.assert_array_equal(read, nibabel.load(tmp_path / "a.nii.gz").get_fdata())
    assert np.abs(read - DATA).max() < 0.05


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64, np.float32])
def test_what_is_written_is_read_and_equal_bytes_are_written(tmp_path: Path, dtype) -> None:
    data = np.abs(DATA).astype(dtype)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, data, AFFINE)
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii.gz").data, data, rtol=1e-6)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    # The field of gzip that tells when it was written.
    assert (tmp_path / "a.nii.gz").read_bytes()[4:8] == bytes(4)


def stating(field: str, value: object) -> bytes:
    """A file whose header states something else."""
    header = nibabel.Nifti1Header(content()[:348], check=False)
    header[field] = value
    return header.binaryblock + content()[348:]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "0 bytes"),
        (b"<html>please sign in</html>" * 20, "not a NIfTI volume"),
        (b"\x89PNG\r\n" + bytes(1000), "not a NIfTI volume"),
        (content()[:-1], "its header states"),
        (gzip.compress(content())[:-40], "damaged"),
        (gzip.compress(content())[:300] + bytes(50), "damaged"),
        (stating("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1]), "its header states"),
        (stating("dim", [7, 5, 6, 7, 1, 1, 1, 1]), "the shape"),
        (stating("dim", [3, 5, -6, 7, 1, 1, 1, 1]), "damaged"),
        (stating("vox_offset", 0), "damaged"),
        (stating("vox_offset", 1e12), "damaged"),
        (stating("vox_offset", np.nan), "damaged"),
        (stating("datatype", 9999), "damaged"),
        (stating("datatype", 32), "damaged"),
        (content(np.full((2, 2, 2), np.nan, np.float32)), "not finite"),
    ],
)
def test_bad_files_end_in_a_clear_error(tmp_path: Path, value: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_volume(written(tmp_path / "a.nii.gz", value))


def test_a_missing_file_and_one_that_unpacks_to_too_much(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_volume(tmp_path / "a.nii.gz")
    path = written(tmp_path / "b.nii.gz", gzip.compress(content() + bytes(10**6)))
    with pytest.raises(InputError, match="more than 100,000 bytes"):
        read_volume(path, max_bytes=10**5)
    assert read_volume(path).data.shape == (5, 6, 7)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.tuples(st.integers(0, 360), st.integers(0, 255)), max_size=4),
    keep=st.integers(0, len(content())) | st.none(),
)
def test_damaged_bytes_give_a_volume_or_a_clear_error(tmp_path: Path, changes, keep) -> None:
    value = bytearray(content())
    for place, byte in changes:
        value[place] = byte
    path = written(tmp_path / "a.nii", bytes(value[:keep]))
    try:
        volume = read_volume(path)
    except InputError:
        return
    assert volume.data.nbytes <= 8 * len(value) and np.isfinite(volume.data).all()


@pytest.mark.parametrize(("unit", "size"), [("mm", 1.5), ("meter", 0.0015), ("micron", 1500.0)])
def test_sizes_are_millimetres_whatever_the_header_counts_in(tmp_path: Path, unit, size) -> None:
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = 4 * size
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    np.testing.assert_allclose(volume.spacing, 1.5, rtol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, :3], 1.5 * np.eye(3), rtol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 3], 6, rtol=1e-6)
    assert volume.one_position
