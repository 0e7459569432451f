"""Rebuilt heartbeats against rows of the real Kaggle files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.sets import mitbih

pytestmark = pytest.mark.real

SAMPLES = {
    "mitbih_train_first10": 10,
    "mitbih_train_sample": 500,
    "mitbih_test_sample": 500,
    "mitbih_test_first1000": 1000,
}


@pytest.fixture(scope="module")
def record_files() -> dict[str, Path]:
    import os

    value = os.environ.get("MEDROBUST_REAL_DATA")
    if not value or not (Path(value) / "mitbih" / "100.dat").is_file():
        pytest.skip("MEDROBUST_REAL_DATA is not set or has no mitbih records")
    return {path.name: path for path in (Path(value) / "mitbih").iterdir()}


@pytest.fixture(scope="module")
def beats(record_files: dict[str, Path]) -> mitbih.Beats:
    return mitbih.build_from_records(record_files)


def test_the_release_is_rebuilt_in_full(beats: mitbih.Beats) -> None:
    assert beats.complete and beats.x.shape == (109446, 187)
    assert np.bincount(beats.y).tolist() == [90589, 2779, 7236, 803, 8039]
    assert beats.ids["patient"].nunique() == 47 and beats.ids["record"].nunique() == 48


@pytest.mark.parametrize("name", SAMPLES)
def test_every_real_kaggle_row_is_a_rebuilt_row(
    name: str, beats: mitbih.Beats, real_data: Path
) -> None:
    path = real_data / "heartbeat_kaggle" / f"{name}.csv.gz"
    if not path.is_file():
        pytest.skip(f"MEDROBUST_REAL_DATA has no {path.name}")
    table = np.loadtxt(path, delimiter=",")
    x, y = table[:, :187].astype(np.float32), table[:, 187].astype(int)
    assert len(x) == SAMPLES[name] and np.array_equal(x.astype(float), table[:, :187])
    row_of = {row.tobytes(): i for i, row in enumerate(beats.x)}
    found = np.array([row_of.get(row.tobytes(), -1) for row in x])
    equal = found >= 0
    for label in np.unique(y):
        share = equal[y == label].mean()
        assert share == 1, f"class {label}: {share:.1%} of the rows are equal"
    assert np.array_equal(beats.y[found], y)


def test_kaggle_rows_are_read_as_they_are(real_data: Path, tmp_path: Path) -> None:
    import gzip

    folder = real_data / "heartbeat_kaggle"
    for part in ("train", "test"):
        source = folder / f"mitbih_{part}_sample.csv.gz"
        if not source.is_file():
            pytest.skip(f"MEDROBUST_REAL_DATA has no {source.name}")
        (tmp_path / f"mitbih_{part}.csv").write_bytes(gzip.decompress(source.read_bytes()))
    paths = tmp_path / "mitbih_train.csv", tmp_path / "mitbih_test.csv"
    with pytest.raises(InputError, match=r"has 500 rows; the release has 87,554"):
        mitbih.read_kaggle_csv(*paths)
    beats = mitbih.read_kaggle_csv(*paths, allow_subset=True)
    expected = np.loadtxt(folder / "mitbih_test_sample.csv.gz", delimiter=",")
    np.testing.assert_array_equal(beats.x[500:], expected[:, :187].astype(np.float32))
    np.testing.assert_array_equal(beats.y[500:], expected[:, 187])
    assert np.bincount(beats.y).tolist() == [200] * 5 and not beats.complete


def test_variants_share_rows_and_sides(record_files: dict[str, Path]) -> None:
    five = mitbih.adapt({}, "physionet", record_files, seed=20201024)
    two = mitbih.adapt({"classes": ["N", "S"]}, "physionet", record_files, seed=20201024)
    train, _, test = two.folds[0]
    assert np.bincount(two.y[train]).tolist() == [72471, 2223]
    assert np.bincount(two.y[test]).tolist() == [18118, 556]
    kept = np.flatnonzero(five.y < 2)
    assert np.array_equal(kept[test], np.intersect1d(five.folds[0][2], kept))
    patients = mitbih.adapt({"split": "patient"}, "physionet", record_files, seed=1)
    sides = [set(patients.ids["patient"].iloc[part]) for part in patients.folds[0][::2]]
    assert not sides[0] & sides[1]
    test = patients.folds[0][2]
    # Every class has a fair share of test rows.
    share = np.bincount(patients.y[test]) / np.bincount(patients.y)
    assert share.min() > 0.4 and share.max() < 0.7


@pytest.mark.parametrize("suffix", [".dat", ".atr"])
def test_a_cut_off_real_record_is_named(
    suffix: str, record_files: dict[str, Path], tmp_path: Path
) -> None:
    short = tmp_path / f"207{suffix}"
    shutil.copyfile(record_files[short.name], short)
    with open(short, "r+b") as file:
        file.truncate(short.stat().st_size // 4 * 2)
    with pytest.raises(InputError, match="Record 207") as caught:
        mitbih.build_from_records({**record_files, short.name: short})
    assert caught.value.where == str(short)
