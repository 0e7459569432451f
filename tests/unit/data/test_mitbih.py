"""Reading and rebuilding MIT-BIH heartbeats, against a slow and plain re-statement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets import mitbih
from medrobust.data.standins.ecg import ecg_standin


def cut_plainly(signal: np.ndarray, sample: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """One beat at a time, with Python slices and the fraction .2 of the text."""
    rows = []
    for beat in beats.tolist():
        start, following = int(sample[beat]), int(sample[beat + 1])
        later = int(sample[beat + 2]) if beat + 2 < len(sample) else 2 * following - start
        values = signal[start : following + int(0.2 * (later - following)) : 3].astype(float)
        values = (values - values.min()) / (values.max() - values.min())
        rows.append(np.pad(values, (0, 187))[:187])
    return np.array(rows, dtype=np.float32)


@settings(deadline=None, max_examples=60)
@given(
    gaps=st.lists(st.integers(8, 900), min_size=2, max_size=12),
    seed=st.integers(0, 2**32 - 1),
    short=st.integers(0, 200),
)
def test_cut_beats_equals_the_plain_statement(gaps: list[int], seed: int, short: int) -> None:
    random = np.random.default_rng(seed)
    sample = np.cumsum(gaps)
    length = max(int(sample[-1]) + 1, int(sample[-1]) + 200 - short)
    signal = random.integers(-1024, 1024, length)
    beats = np.flatnonzero(random.random(len(sample) - 1) < 0.7)
    found = mitbih.cut_beats(signal, sample, beats)
    assert found.dtype == np.float32 and found.shape == (len(beats), 187)
    if len(beats):
        np.testing.assert_array_equal(found, cut_plainly(signal, sample, beats))


def test_a_fifth_is_rounded_down_also_where_floats_do_not_hold_it() -> None:
    assert all(n // 5 == int(0.2 * n) for n in range(5000))


def test_cut_beats_scales_before_it_cuts_to_187() -> None:
    signal = np.zeros(2000, int)
    signal[10:700] = 50
    signal[630] = 100  # sample 207 of the segment: after the cut
    row = mitbih.cut_beats(signal, np.array([9, 900, 1200]), np.array([0]))[0]
    assert row.max() == 0.5 and row[0] == 0 and row[1] == 0.5


def test_cut_beats_fills_up_with_zeros() -> None:
    signal = np.arange(1000)
    row = mitbih.cut_beats(signal, np.array([0, 30, 60]), np.array([0]))[0]
    # 0 to 35 in steps of 3: 12 values.
    np.testing.assert_array_equal(row[:12], (np.arange(12) / 11).astype(np.float32))
    assert not row[12:].any()


def test_cut_beats_refuses_constant_signal_and_a_last_annotation() -> None:
    with pytest.raises(ValueError, match="sample 5 is empty or constant"):
        mitbih.cut_beats(np.ones(100, int), np.array([5, 40, 70]), np.array([0]))
    with pytest.raises(ValueError, match="no annotation after"):
        mitbih.cut_beats(np.arange(100), np.array([5, 40]), np.array([1]))


# ------------------------------------------------------------------------------- records

SYMBOLS = ["+", "N", "A", "N", "V", "~", "F", "/", "N", "f", "Q", "L", "N"]


def write_record(
    folder: Path, name: str, *, seed: int = 0, fs: int = 360, symbols: list[str] | None = None
) -> dict[str, Path]:
    """Writes a short two-signal record in the format of the database."""
    symbols = symbols or SYMBOLS
    random = np.random.default_rng(seed)
    signal = random.integers(-400, 400, (400 * (len(symbols) + 1), 2))
    wfdb.wrsamp(
        name,
        fs=fs,
        units=["mV", "mV"],
        sig_name=["MLII", "V5"],
        d_signal=signal,
        fmt=["212", "212"],
        adc_gain=[200.0, 200.0],
        baseline=[0, 0],
        write_dir=str(folder),
    )
    sample = np.cumsum(random.integers(100, 390, len(symbols)))
    aux = ["(N\x00" if s == "+" else "" for s in symbols]
    wfdb.wrann(name, "atr", sample, symbol=symbols, aux_note=aux, write_dir=str(folder))
    return {f"{name}{s}": folder / f"{name}{s}" for s in (".hea", ".dat", ".atr")}


@pytest.fixture
def two_records(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "elsewhere").mkdir()
    files = write_record(tmp_path, "100", seed=1) | write_record(tmp_path, "202", seed=2)
    # Files of a record may lie in several folders.
    moved = tmp_path / "elsewhere" / "100.atr"
    files["100.atr"].rename(moved)
    return files | {"100.atr": moved, "102-0.atr": tmp_path / "never-read"}


@pytest.mark.parametrize("more", [1, 3, 6000])
def test_a_signal_file_longer_than_its_header_is_refused(
    two_records: dict[str, Path], more: int
) -> None:
    path = two_records["202.dat"]
    path.write_bytes(path.read_bytes() + b"\0" * more)
    with pytest.raises(InputError, match=f"{more:,} bytes more than the .* of its header") as error:
        mitbih.build_from_records(two_records, allow_subset=True)
    assert "202.dat" in str(error.value)


def test_records_without_rows_of_the_chosen_classes_are_not_counted(tmp_path: Path) -> None:
    paced = write_record(tmp_path, "102", seed=3, symbols=["/", "f", "Q", "/", "/"])
    files = write_record(tmp_path, "201", seed=1) | write_record(tmp_path, "202", seed=2) | paced
    options = {"classes": ["N", "S"]}
    data = mitbih.adapt(options, "physionet", files, seed=1, allow_subset=True)
    assert set(data.ids["record"]) == {"201", "202"} and len(data.y) == 10
    (note,) = [note for note in data.notes if "other classes" in note]
    assert note == (
        "Of 24 heartbeats, 14 of the other classes were left out: 10 are rows, of 2 records and 1 "
        "patients. Records without rows: 102."
    )


def test_records_become_rows_with_labels_and_origin(two_records: dict[str, Path]) -> None:
    beats = mitbih.build_from_records(two_records, allow_subset=True)
    assert not beats.complete and "SUBSET: 2 of 48" in beats.notes[0]
    assert beats.notes[1] == (
        "20 heartbeats of 2 records and 2 patients. No rows: the last heartbeat of each record "
        f"(2), and {2 * sum(s in '+~' for s in SYMBOLS)} annotations that are no heartbeats."
    )
    assert beats.x.shape == (20, 187) and beats.x.dtype == np.float32
    assert beats.y.tolist() == 2 * [0, 1, 0, 2, 3, 4, 0, 4, 4, 0]
    assert beats.ids["symbol"].tolist() == 2 * [s for s in SYMBOLS[:-1] if s not in "+~"]
    assert set(beats.ids["record"]) == {"100", "202"}
    assert set(beats.ids.loc[beats.ids.record == "202", "patient"]) == {"201"}
    assert (beats.ids["official_split"] == "").all()
    assert beats.ids["row_id"].tolist() == list(range(20))
    for row in (0, 7, 19):
        record, start = beats.ids.loc[row, "record"], beats.ids.loc[row, "position"]
        signal = wfdb.rdrecord(
            str(two_records[f"{record}.dat"].with_suffix("")), physical=False
        ).d_signal
        annotation = wfdb.rdann(str(two_records[f"{record}.atr"].with_suffix("")), "atr").sample
        beat = np.flatnonzero(annotation == start)
        np.testing.assert_array_equal(beats.x[row], cut_plainly(signal[:, 0], annotation, beat)[0])


def test_the_complete_release_is_recognised_by_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_record(tmp_path, "100") | write_record(tmp_path, "101")
    monkeypatch.setattr(mitbih, "RECORDS", ("100", "101"))
    monkeypatch.setattr(mitbih, "ANNOTATED_BEATS", {"100": 11, "101": 11})
    monkeypatch.setattr(
        mitbih, "OFFICIAL_ROWS", dict(zip(mitbih.CLASSES, (8, 2, 2, 2, 6), strict=True))
    )
    assert mitbih.build_from_records(files).complete
    monkeypatch.setattr(
        mitbih, "OFFICIAL_ROWS", dict(zip(mitbih.CLASSES, (9, 2, 2, 2, 6), strict=True))
    )
    with pytest.raises(InputError, match=r"'N': 8.*heartbeats; the release gives.*'N': 9"):
        mitbih.build_from_records(files)
    assert not mitbih.build_from_records(files, allow_subset=True).complete


def test_missing_record_files_are_listed(two_records: dict[str, Path]) -> None:
    del two_records["202.atr"]
    with pytest.raises(InputError, match=r"139 of the 144 .*missing: 101\.hea, 101\.dat"):
        mitbih.build_from_records(two_records)
    found = mitbih.build_from_records(two_records, allow_subset=True)
    assert set(found.ids["record"]) == {"100"}
    with pytest.raises(InputError, match=r"144 of the 144"):
        mitbih.build_from_records({}, allow_subset=True)


def test_another_number_of_beats_names_the_record(
    two_records: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mitbih, "RECORDS", ("100", "202"))
    with pytest.raises(InputError, match=r"Record 100 has 11 annotated beats.*2273"):
        mitbih.build_from_records(two_records)


def damage(kind: str, files: dict[str, Path]) -> str:
    """Damages record 202; returns what the message must say."""
    header, data, marks = (files[f"202{s}"] for s in (".hea", ".dat", ".atr"))
    if kind == "short signal":
        data.write_bytes(data.read_bytes()[:1001])
        return r"signal file cannot be read; it has 1,001 bytes"
    if kind == "empty signal":
        data.write_bytes(b"")
        return r"signal file cannot be read; it has 0 bytes"
    if kind == "changed signal":
        content = bytearray(data.read_bytes())
        content[3000] ^= 0x10
        data.write_bytes(content)
        return "does not match the check sum"
    if kind == "odd annotations":
        marks.write_bytes(marks.read_bytes()[:7])
        return "annotations cannot be read"
    if kind == "annotations outside":
        wfdb.wrann(
            "202", "atr", np.array([10, 10**6]), symbol=["N", "N"], write_dir=str(marks.parent)
        )
        return "out of order or outside the signal"
    if kind == "annotations backwards":
        # MIT format: a beat at 100, a skip (code 59) of -50, a beat, the end.
        words = [1 << 10 | 100, 59 << 10, 0xFFFF, 0xFFCE, 1 << 10, 0]
        marks.write_bytes(np.array(words, dtype="<u2").tobytes())
        return "out of order or outside the signal"
    contents = {"empty header": "", "other header": "nonsense\n", "binary header": "\x00\x01\x02"}
    if kind in contents:
        header.write_text(contents[kind])
        return "header cannot be read"
    header.write_text(header.read_text().replace(" 360 ", " 250 "))
    return "at 250 Hz; expected"


@pytest.mark.parametrize(
    "kind",
    [
        "short signal",
        "empty signal",
        "changed signal",
        "odd annotations",
        "annotations outside",
        "annotations backwards",
        "empty header",
        "other header",
        "binary header",
        "other rate",
    ],
)
def test_a_damaged_record_is_named(kind: str, two_records: dict[str, Path]) -> None:
    message = damage(kind, two_records)
    with pytest.raises(InputError, match=rf"Record 202.*{message}") as caught:
        mitbih.build_from_records(two_records, allow_subset=True)
    assert "202." in caught.value.where and caught.value.remedy


def test_a_flat_signal_names_the_record(tmp_path: Path) -> None:
    files = write_record(tmp_path, "100")
    wfdb.wrsamp(
        "100",
        fs=360,
        units=["mV", "mV"],
        sig_name=["MLII", "V5"],
        d_signal=np.zeros((6000, 2), int),
        fmt=["212", "212"],
        adc_gain=[200.0, 200.0],
        baseline=[0, 0],
        write_dir=str(tmp_path),
    )
    with pytest.raises(InputError, match=r"Record 100 cannot be cut.*constant"):
        mitbih.build_from_records(files, allow_subset=True)


# ----------------------------------------------------------------------------- CSV files


def kaggle_rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.random((n, 187)).astype(np.float32)
    x[:, 150:] = 0
    return x, random.integers(0, 5, n)


def as_text(x: np.ndarray, y: np.ndarray) -> list[str]:
    """Rows in the format of the Kaggle files."""
    return [
        ",".join(f"{v:.18e}" for v in [*row.astype(float), float(label)])
        for row, label in zip(x, y, strict=True)
    ]


@pytest.fixture
def csv_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    paths = tmp_path / "mitbih_train.csv", tmp_path / "mitbih_test.csv"
    for path, n in zip(paths, (30, 12), strict=True):
        path.write_text("\n".join(as_text(*kaggle_rows(n, n))) + "\n")
    monkeypatch.setattr(mitbih, "OFFICIAL_CSV_ROWS", {"train": 30, "test": 12})
    return paths


def test_csv_values_survive_to_the_last_bit(csv_files: tuple[Path, Path]) -> None:
    beats = mitbih.read_kaggle_csv(*csv_files)
    for part, n in ((slice(0, 30), 30), (slice(30, 42), 12)):
        x, y = kaggle_rows(n, n)
        np.testing.assert_array_equal(beats.x[part], x)
        np.testing.assert_array_equal(beats.y[part], y)
    assert beats.complete and beats.x.flags.c_contiguous and beats.y.dtype == np.int64
    assert beats.ids["official_split"].tolist() == ["train"] * 30 + ["test"] * 12
    assert beats.ids.loc[30, ["file", "position"]].tolist() == ["mitbih_test.csv", 1]
    assert (beats.ids["patient"] == "").all()


def test_csv_with_crlf_is_the_same(csv_files: tuple[Path, Path]) -> None:
    before = mitbih.read_kaggle_csv(*csv_files)
    for path in csv_files:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    after = mitbih.read_kaggle_csv(*csv_files)
    np.testing.assert_array_equal(before.x, after.x)
    np.testing.assert_array_equal(before.y, after.y)


def edit(path: Path, row: int, column: int, text: str) -> None:
    lines = path.read_text().splitlines()
    fields = lines[row - 1].split(",")
    fields[column - 1] = text
    lines[row - 1] = ",".join(fields)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        (5, "nan", "column 5 is 'nan', not a finite number"),
        (5, "inf", "column 5 is 'inf', not a finite number"),
        (5, "", "column 5 is not a number"),
        (187, "abc", "column 187 is not a number"),
        (1, "1.5", r"column 1 is 1.5, outside \[0, 1\]"),
        (1, "-1e-3", r"column 1 is -0.001, outside \[0, 1\]"),
        (188, "5", "the label is '5', not 0, 1, 2, 3 or 4"),
        (188, "1.5", "the label is '1.5', not 0"),
        (188, "-1", "the label is '-1', not 0"),
        (188, "nan", "the label is 'nan', not 0"),
        (10, "0.5,0.5", "189 columns instead of 188"),
    ],
)
@pytest.mark.parametrize("allow_subset", [False, True])
def test_a_bad_csv_row_is_named(
    csv_files: tuple[Path, Path], column: int, text: str, message: str, allow_subset: bool
) -> None:
    edit(csv_files[0], 7, column, text)
    with pytest.raises(InputError, match=rf"mitbih_train\.csv, row 7: {message}") as caught:
        mitbih.read_kaggle_csv(*csv_files, allow_subset=allow_subset)
    assert caught.value.where.endswith("mitbih_train.csv, row 7")


def test_a_short_row_in_the_middle_is_an_error_even_for_a_subset(
    csv_files: tuple[Path, Path],
) -> None:
    lines = csv_files[1].read_text().splitlines()
    lines[3] = ",".join(lines[3].split(",")[:90])
    csv_files[1].write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"mitbih_test\.csv, row 4: 90 columns instead of 188"):
        mitbih.read_kaggle_csv(*csv_files, allow_subset=True)


def test_a_cut_off_file_says_so_and_may_be_a_subset(csv_files: tuple[Path, Path]) -> None:
    content = csv_files[0].read_bytes()
    csv_files[0].write_bytes(content[: 4700 * 20 + 1000])
    with pytest.raises(InputError, match=r"row 21: .* columns instead of 188.*cut off"):
        mitbih.read_kaggle_csv(*csv_files)
    beats = mitbih.read_kaggle_csv(*csv_files, allow_subset=True)
    assert not beats.complete and len(beats.x) == 32 and "20 training" in beats.notes[0]
    np.testing.assert_array_equal(beats.x[:20], kaggle_rows(30, 30)[0][:20])


def test_fewer_rows_than_the_release(csv_files: tuple[Path, Path]) -> None:
    content = csv_files[1].read_bytes()
    csv_files[1].write_bytes(content[: 4700 * 11])
    with pytest.raises(InputError, match=r"mitbih_test\.csv has 11 rows; the release has 12"):
        mitbih.read_kaggle_csv(*csv_files)
    assert not mitbih.read_kaggle_csv(*csv_files, allow_subset=True).complete


def test_an_empty_or_missing_or_other_file(csv_files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        mitbih.read_kaggle_csv(csv_files[0], tmp_path / "none.csv")
    csv_files[1].write_text("")
    with pytest.raises(InputError, match="not a CSV file of 187 values"):
        mitbih.read_kaggle_csv(*csv_files)
    csv_files[1].write_text("<html>not found</html>\n")
    with pytest.raises(InputError, match=r"row 1: 1 columns instead of 188"):
        mitbih.read_kaggle_csv(*csv_files)


# ------------------------------------------------------------------------------- variants


def test_two_classes_keep_rows_and_side(csv_files: tuple[Path, Path]) -> None:
    files = {path.name: path for path in csv_files}
    five = mitbih.adapt({}, "kaggle", files, seed=1)
    two = mitbih.adapt({"classes": ["N", "S"]}, "kaggle", files, seed=1)
    kept = np.flatnonzero(five.y < 2)
    np.testing.assert_array_equal(two.x, five.x[kept])
    np.testing.assert_array_equal(two.y, five.y[kept])
    for before, after in zip(five.folds[0], two.folds[0], strict=True):
        np.testing.assert_array_equal(kept[after], np.intersect1d(before, kept))
    assert two.class_names == ("N", "S") and two.ids["row_id"].tolist() == list(range(len(kept)))
    swapped = mitbih.adapt({"classes": ["S", "N"]}, "kaggle", files, seed=1)
    np.testing.assert_array_equal(swapped.y, 1 - two.y)


def test_rebuilt_variants_share_the_split(two_records: dict[str, Path]) -> None:
    five = mitbih.adapt({}, "physionet", two_records, seed=5, allow_subset=True)
    two = mitbih.adapt({"classes": ["N", "S"]}, "physionet", two_records, seed=5, allow_subset=True)

    def test_beats(data: mitbih.Prepared) -> set[tuple[str, int]]:
        rows = data.ids.iloc[data.folds[0][2]]
        return set(zip(rows["record"], rows["position"], strict=True))

    of_two = set(zip(two.ids["record"], two.ids["position"], strict=True))
    assert test_beats(two) and test_beats(two) == test_beats(five) & of_two
    patients = mitbih.adapt(
        {"split": "patient"}, "physionet", two_records, seed=5, allow_subset=True
    )
    assert set(patients.ids["record"].iloc[patients.folds[0][2]]) == {"100"}
    assert set(patients.ids["record"].iloc[patients.folds[0][0]]) == {"202"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["N", "X"]}, "unknown class 'X'"),
        ({"classes": ["N", "N"]}, "named twice"),
        ({"classes": ["N"]}, "at least 2"),
        ({"split": "patients"}, "Did you mean 'patient'"),
        ({"clases": ["N", "S"]}, "Did you mean 'classes'"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mitbih.adapt(options, "standin", {}, seed=1)


def test_wrong_sources(csv_files: tuple[Path, Path]) -> None:
    files = {path.name: path for path in csv_files}
    with pytest.raises(InputError, match="split by patient"):
        mitbih.adapt({"split": "patient"}, "kaggle", files, seed=1)
    with pytest.raises(InputError, match="cannot come from source 'ftp'"):
        mitbih.adapt({}, "ftp", files, seed=1)
    with pytest.raises(InputError, match=r"mitbih_test\.csv is missing"):
        mitbih.adapt({}, "kaggle", {"mitbih_train.csv": csv_files[0]}, seed=1)


def test_the_tables_of_the_release_agree() -> None:
    assert len(mitbih.RECORDS) == 48 and sum(mitbih.ANNOTATED_BEATS.values()) == 109494
    assert sum(mitbih.OFFICIAL_ROWS.values()) == sum(mitbih.OFFICIAL_CSV_ROWS.values()) == 109446


def test_only_the_test_rows_change_places():
    y = np.array([0, 0, 1, 1, 0, 1, 0, 1, 0, 1])
    test = np.array([1, 2, 4, 7, 8, 9])
    train = np.array([0, 3, 5, 6])
    x = np.arange(20, dtype=np.float32).reshape(10, 2) / 20
    ids = pd.DataFrame({"row_id": range(10), "record": [f"r{i}" for i in range(10)]})
    made = Prepared(x, y, ids, [(train, train[:0], test)], ("a", "b"), (0, 1), False, True)
    moved = mitbih._test_rows_at_random(made, seed=5)
    assert np.array_equal(moved.x[train], x[train]) and np.array_equal(moved.y[train], y[train])
    assert not np.array_equal(moved.x[test], x[test])
    # Every row keeps its label and its origin.
    origin = [int(name[1:]) for name in moved.ids["record"]]
    assert sorted(origin) == list(range(10)) and sorted(set(origin) & set(test)) == list(test)
    assert np.array_equal(moved.x, x[origin]) and np.array_equal(moved.y, y[origin])
    assert list(moved.ids["row_id"]) == list(range(10))
    again = mitbih._test_rows_at_random(made, seed=5)
    assert np.array_equal(moved.x, again.x)


def test_a_fifth_of_the_training_rows_is_for_validation():
    made = ecg_standin(50, 20, ["N", "S", "V", "F", "Q"], seed=1)
    divided = mitbih._with_validation(made, 0.2)
    train, val, test = divided.folds[0]
    assert (len(train), len(val)) == (40, 10)
    assert np.array_equal(np.sort(np.concatenate([train, val])), made.folds[0][0])
    assert np.array_equal(test, made.folds[0][2])
    order = np.arange(50)
    np.random.RandomState(0).shuffle(order)
    assert set(train) == set(made.folds[0][0][order[:40]])
