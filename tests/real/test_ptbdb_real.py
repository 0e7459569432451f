"""Rows of the real Kaggle PTB files: read as they are, and what they tell of how they were cut."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.sets import ptbdb
from medrobust.data.sets.engine import ptbdb_records

pytestmark = pytest.mark.real

NAMES = ("ptbdb_normal", "ptbdb_abnormal")


@pytest.fixture(scope="module")
def samples(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample of 100 rows of each file, under the files' official names."""
    folder = tmp_path_factory.mktemp("ptbdb")
    files = {}
    for name in NAMES:
        source = real_data / "heartbeat_kaggle" / f"{name}_sample.csv.gz"
        if not source.is_file():
            pytest.skip(f"MEDROBUST_REAL_DATA has no {source.name}")
        files[f"{name}.csv"] = folder / f"{name}.csv"
        files[f"{name}.csv"].write_bytes(gzip.decompress(source.read_bytes()))
    return files


@pytest.fixture(scope="module")
def rows(samples: dict[str, Path]) -> np.ndarray:
    return np.concatenate([np.loadtxt(path, delimiter=",")[:, :187] for path in samples.values()])


def lengths(rows: np.ndarray) -> np.ndarray:
    return 187 - (rows[:, ::-1] > 0).argmax(axis=1)


def test_kaggle_rows_are_read_as_they_are(samples: dict[str, Path], rows: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"ptbdb_normal\.csv has 100 rows; the release has 4,046"):
        ptbdb.adapt({}, "kaggle", samples, seed=1)
    data = ptbdb.adapt({}, "kaggle", samples, seed=1, allow_subset=True)
    np.testing.assert_array_equal(data.x, rows)
    assert data.y.tolist() == [0] * 100 + [1] * 100 and not data.complete
    assert [len(part) for part in data.folds[0]] == [180, 0, 20]


def test_rows_are_whole_numbers_scaled_per_row(rows: np.ndarray) -> None:
    """Without filter or interpolation: k / (max - min) with k whole, in every bit."""
    assert (rows.max(axis=1) == 1).all() and (rows.min(axis=1) == 0).all()
    for row in rows:
        value = np.unique(row[row > 0])
        span = np.arange(2, 20_000)
        whole = np.rint(value[:, None] * span)
        equal = (whole / span).astype(np.float32) == value[:, None].astype(np.float32)
        assert equal.all(axis=0).any()


def test_rows_have_125_values_per_second(rows: np.ndarray) -> None:
    """The 50 Hz of the mains is at 0.4 cycles per value: every eighth of 1,000 samples."""
    frequency = np.linspace(0.3, 0.48, 361)
    total = np.zeros(len(frequency))
    for row, length in zip(rows, lengths(rows), strict=True):
        # Fourth differences flatten the spectrum of the waves; the R waves are left out.
        part = np.diff(row[8 : int(0.78 * length)], 4)
        limit = 4 * np.median(np.abs(part))
        part = np.clip(part, -limit, limit) * np.hanning(len(part))
        waves = np.exp(-2j * np.pi * np.outer(frequency, np.arange(len(part))))
        total += np.abs(waves @ part) ** 2 / (2 * np.sin(np.pi * frequency)) ** 8
    assert abs(frequency[total.argmax()] - 0.4) < 0.005
    assert total.max() > 5 * np.median(total)


def test_rows_start_at_peaks_of_at_least_nine_tenths(rows: np.ndarray) -> None:
    start = rows[:, :2].max(axis=1)
    assert start.min() > 0.9 and (rows[:, 0] < rows[:, 1]).sum() == 22
    length = lengths(rows)
    following = [row[int(0.7 * n) : n].max() for row, n in zip(rows, length, strict=True)]
    # The peak that follows need not be that high: the threshold chose the first.
    assert (np.array(following) < 0.9).sum() == 30
    assert (length.min(), length.max()) == (62, 176)
    assert length.min() >= ptbdb_records.SHORTEST


def test_peaks_that_are_found_are_heartbeats(real_data: Path) -> None:
    """On a record whose beats are annotated: MIT-BIH 100, 120 values per second."""
    wfdb = pytest.importorskip("wfdb")
    if not (real_data / "mitbih/100.dat").is_file():
        pytest.skip("MEDROBUST_REAL_DATA has no mitbih records")
    stem = str(real_data / "mitbih/100")
    signal = wfdb.rdrecord(stem, physical=False, channels=[0]).d_signal[::3, 0].astype(np.int64)
    beats = wfdb.rdann(stem, "atr").sample / 3
    x, start, _ = ptbdb_records.cut_signal(signal)
    nearest = np.abs(start[:, None] - beats).min(axis=1)
    assert len(start) > 500 and (nearest <= 6).mean() > 0.99  # 50 ms
    # As in the released rows: nearly all start at 0.9 or more of their own range.
    assert (x[:, 0] >= 0.9).mean() > 0.95 and (x.max(axis=1) == 1).all()
