"""PTB heartbeats: the CSV files, both splits against scikit-learn, sources, preparation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.formats.heartbeats import LENGTH, scaled_segments
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.splits import shuffled_split
from medrobust.data.prepared.store import load_dataset
from medrobust.data.registry import DatasetEntry, load_registry
from medrobust.data.sets import ptbdb
from medrobust.jobs.data import _facts
from sklearn.model_selection import train_test_split

from tests.unit.ptb_files import REASONS, write_record
from tests.unit.raw_manifest import manifest_of

RELEASE = np.repeat([0, 1], ptbdb.OFFICIAL_CSV_ROWS)


# ----------------------------------------------------------------------------- the split


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(10, 3000),
    share=st.sampled_from([0.9, 0.8, 0.5, 0.75, 1 / 3]),
    state=st.integers(0, 2**32 - 1),
)
def test_the_split_is_that_of_scikit_learn(n: int, share: float, state: int) -> None:
    train, test = train_test_split(np.arange(n), train_size=share, random_state=state)
    found = shuffled_split(n, train_share=share, random_state=state)
    assert found[0].tolist() == sorted(train) and found[1].tolist() == sorted(test)
    assert all(part.dtype == np.int64 for part in found)


@pytest.mark.parametrize(
    ("name", "share", "train", "test"),
    [("ptbdb", 0.9, [3643, 9453], [403, 1053]), ("ptbdb_8020", 0.8, [3256, 8385], [790, 2121])],
)
def test_the_registry_states_the_counts_that_scikit_learn_gives(
    name: str, share: float, train: list[int], test: list[int]
) -> None:
    entry = load_registry()[name]
    assert entry.options == {"train_share": share, "random_state": 5947}
    parts = train_test_split(RELEASE, train_size=share, random_state=5947)
    assert [np.bincount(part).tolist() for part in parts] == [train, test]
    official = entry.counts.official
    assert [list(official[split].values()) for split in ("train", "test")] == [train, test]
    # What the paper prints is the division 90:10, whatever its text says.
    printed = entry.counts.paper["signnet"]
    assert [printed[split]["all"] for split in ("train", "test")] == [13096, 1456]
    assert (sum(train), sum(test)) == (13096, 1456) or share == 0.8


def test_too_few_rows_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="1 rows cannot be divided into 0 for training and 1"):
        shuffled_split(1, train_share=0.9, random_state=1)


# ----------------------------------------------------------------------------- CSV files


def rows(n: int, label: int) -> np.ndarray:
    """Rows of the normal or abnormal file, values exact in float32."""
    random = np.random.default_rng(label)
    x = random.random((n, LENGTH)).astype(np.float32)
    x[:, 140:] = 0
    return np.column_stack([x.astype(float), np.full(n, float(label))])


def write_csv(path: Path, table: np.ndarray) -> Path:
    path.write_text("".join(",".join(f"{v:.18e}" for v in row) + "\n" for row in table))
    return path


@pytest.fixture
def csv_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setattr(ptbdb, "OFFICIAL_CSV_ROWS", (20, 50))
    return {
        name: write_csv(tmp_path / name, rows(n, label))
        for label, (name, n) in enumerate(zip(ptbdb.CSV_FILES, (20, 50), strict=True))
    }


def test_normal_rows_come_first_and_values_survive(csv_files: dict[str, Path]) -> None:
    data = ptbdb.adapt({}, "kaggle", csv_files, seed=1)
    expected = np.concatenate([rows(20, 0), rows(50, 1)])
    np.testing.assert_array_equal(data.x, expected[:, :LENGTH].astype(np.float32))
    np.testing.assert_array_equal(data.y, expected[:, LENGTH])
    assert data.class_names == ("normal", "abnormal") and data.complete
    assert list(data.ids.columns) == ["row_id", "file", "position", "record", "patient"]
    assert data.ids.loc[[0, 19, 20, 69], "position"].tolist() == [1, 20, 1, 50]
    assert data.ids.loc[[19, 20], "file"].tolist() == list(ptbdb.CSV_FILES)
    assert (data.ids[["record", "patient"]] == "").to_numpy().all()


@pytest.mark.parametrize("share", [0.9, 0.8])
def test_the_rows_are_divided_as_the_authors_code_divides_them(
    csv_files: dict[str, Path], share: float
) -> None:
    data = ptbdb.adapt({"train_share": share}, "kaggle", csv_files, seed=1)
    table = pd.DataFrame(np.concatenate([rows(20, 0), rows(50, 1)]))
    train, test = train_test_split(table, train_size=share, random_state=5947)
    for part, expected in zip((data.folds[0][0], data.folds[0][2]), (train, test), strict=True):
        assert part.tolist() == sorted(expected.index)
    assert len(data.folds[0][1]) == 0
    assert f"train_size={share:g}, random_state=5947" in data.notes[-1]
    # The project's seed is for stand-ins; the split has its own.
    other = ptbdb.adapt({"train_share": share}, "kaggle", csv_files, seed=2)
    assert np.array_equal(data.folds[0][2], other.folds[0][2])
    changed = ptbdb.adapt({"train_share": share, "random_state": 1}, "kaggle", csv_files, seed=1)
    assert not np.array_equal(data.folds[0][2], changed.folds[0][2])


@pytest.mark.parametrize("name", ptbdb.CSV_FILES)
@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        (5, "nan", "column 5 is 'nan', not a finite number"),
        (5, "", "column 5 is not a number"),
        (1, "1.5", r"column 1 is 1.5, outside \[0, 1\]"),
        (1, "-1e-3", r"column 1 is -0.001, outside \[0, 1\]"),
        (10, "0.5,0.5", "189 columns instead of 188"),
        (188, "2", "the label is '2', not {label}$"),
        (188, "other", "the label is '{other}', not {label}$"),
    ],
)
def test_a_bad_row_is_named(
    csv_files: dict[str, Path], name: str, column: int, text: str, message: str
) -> None:
    label = ptbdb.CSV_FILES.index(name)
    text = text.replace("other", str(1 - label))
    lines = csv_files[name].read_text().splitlines()
    fields = lines[6].split(",")
    fields[column - 1] = text
    lines[6] = ",".join(fields)
    csv_files[name].write_text("\n".join(lines) + "\n")
    expected = message.format(label=label, other=1 - label) if "{" in message else message
    with pytest.raises(InputError) as caught:
        ptbdb.adapt({}, "kaggle", csv_files, seed=1)
    assert caught.value.where.endswith(f"{name}, row 7")
    assert re.search(f"row 7: {expected}", caught.value.what.rstrip(".")), caught.value.what


def test_the_two_files_cannot_be_exchanged(csv_files: dict[str, Path]) -> None:
    normal, abnormal = ptbdb.CSV_FILES
    swapped = {normal: csv_files[abnormal], abnormal: csv_files[normal]}
    with pytest.raises(InputError, match=r"row 1: the label is '1\.0+e\+00', not 0"):
        ptbdb.adapt({}, "kaggle", swapped, seed=1)


def test_fewer_rows_than_the_release(csv_files: dict[str, Path], tmp_path: Path) -> None:
    name = ptbdb.CSV_FILES[1]
    write_csv(tmp_path / name, rows(50, 1)[:30])
    with pytest.raises(InputError, match=r"ptbdb_abnormal\.csv has 30 rows; the release has 50"):
        ptbdb.adapt({}, "kaggle", csv_files, seed=1)
    data = ptbdb.adapt({}, "kaggle", csv_files, seed=1, allow_subset=True)
    assert not data.complete and "SUBSET: 20 normal and 30 abnormal rows" in data.notes[0]
    assert [len(part) for part in data.folds[0]] == [45, 0, 5]


def test_wrong_sources_files_and_options(csv_files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"ptbdb_normal\.csv is missing") as caught:
        ptbdb.adapt({}, "kaggle", {}, seed=1)
    assert "ptbdb_normal.csv and ptbdb_abnormal.csv" in caught.value.remedy
    with pytest.raises(InputError, match="cannot come from source 'ftp'"):
        ptbdb.adapt({}, "ftp", csv_files, seed=1)
    for options in ({"train_share": 1.0}, {"random_state": -1}, {"train_shar": 0.8}):
        with pytest.raises(InputError, match="options"):
            ptbdb.adapt(options, "kaggle", csv_files, seed=1)


# --------------------------------------------------------------------------- prepared data


def entry_of(n_normal: int, n_abnormal: int) -> DatasetEntry:
    """The registry's entry, with the official counts of a smaller release."""
    entry = load_registry()["ptbdb"]
    y = np.repeat([0, 1], [n_normal, n_abnormal])
    parts = train_test_split(y, train_size=0.9, random_state=5947)
    counts = [
        dict(zip(("normal", "abnormal"), np.bincount(p).tolist(), strict=True)) for p in parts
    ]
    official = {"train": counts[0], "test": counts[1]}
    changed = entry.counts.model_copy(update={"official": official})
    return entry.model_copy(update={"counts": changed})


def prepared(
    entry: DatasetEntry, source: str, files: dict[str, Path], out: Path, **options
) -> dict:
    facts, manifest = _facts(entry, source), manifest_of(files)
    return prepare(
        entry.name, entry.adapter, entry.options, source, manifest, out, 1, facts, **options
    )


def test_official_counts_are_held_against_the_kaggle_rows(
    csv_files: dict[str, Path], tmp_path: Path
) -> None:
    card = prepared(entry_of(20, 50), "kaggle", csv_files, tmp_path / "a")
    assert card["counts"]["found"]["fold0"]["train"] == card["counts"]["official"]["train"]
    assert card["source"] == "kaggle" and card["complete"]
    assert "| paper (signnet) | training |" in (tmp_path / "a/card.md").read_text()
    dataset = load_dataset(tmp_path / "a")
    assert dataset.x_train.shape == (63, LENGTH) and dataset.class_names == ["normal", "abnormal"]
    with pytest.raises(InputError, match=r"counts of ptbdb differ(?s:.*)3,643 in the release"):
        prepared(load_registry()["ptbdb"], "kaggle", csv_files, tmp_path / "b")
    assert not (tmp_path / "b/card.json").exists()


def test_rows_cut_anew_need_not_meet_the_official_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medrobust.data.sets.engine.ptbdb_records.RECORDS", 2)
    files = write_record(tmp_path, "patient104/s0306lre", REASONS["normal"])
    files |= write_record(tmp_path, "patient001/s0010_re", REASONS["abnormal"])
    card = prepared(load_registry()["ptbdb"], "physionet", files, tmp_path / "out")
    assert card["source"] == "physionet" and card["complete"] and not card["counts"]["official"]
    assert "NOT the rows of the Kaggle release" in card["notes"][0]
    assert any(finding["code"] == "patients_shared" for finding in card["audit"])
    ids = load_dataset(tmp_path / "out").ids()
    assert set(ids["patient"]) == {"patient104", "patient001"}
    assert (tmp_path / "out/preview.png").stat().st_size > 1000


def test_stand_ins_have_the_classes_and_shape(tmp_path: Path) -> None:
    for name in ("ptbdb", "ptbdb_8020"):
        entry = load_registry()[name]
        options = entry.options | {"n_train": 60, "n_test": 20}
        facts = _facts(entry, "standin")
        card = prepare(name, "ptbdb", options, "standin", None, tmp_path / name, 1, facts)
        assert card["synthetic"] and card["shape"] == [80, 187]
        assert card["class_names"] == ["normal", "abnormal"]
        assert json.loads((tmp_path / name / "card.json").read_text())["source"] == "standin"


# ------------------------------------------------------------------------------- segments


def test_segments_refuse_what_cannot_be_scaled() -> None:
    signal = np.array([1, 2, 3, 3, 3, 5])
    x = scaled_segments(signal, np.array([0, 1]), np.array([3, 2]), stride=2)
    np.testing.assert_array_equal(x[:, :3], np.array([[0, 1, 1], [0, 1, 0]], np.float32))
    with pytest.raises(ValueError, match="sample 2 is empty or constant"):
        scaled_segments(signal, np.array([0, 2]), np.array([3, 3]))
    with pytest.raises(ValueError, match="sample 4 is empty or constant"):
        scaled_segments(signal, np.array([0, 4]), np.array([3, 0]))
    assert scaled_segments(signal, np.array([], int), np.array([], int)).shape == (0, LENGTH)
