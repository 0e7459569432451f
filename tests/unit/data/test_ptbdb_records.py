"""Finding and cutting PTB heartbeats, against a slow and plain re-statement and known beats."""

from __future__ import annotations

import itertools
import math
import statistics
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.prepared.audit import audit
from medrobust.data.sets import ptbdb
from medrobust.data.sets.engine import ptbdb_records

from tests.unit.ptb_files import REASONS, heart, write_record

WINDOW = 1250


def peaks_plainly(window: list[int]) -> list[int]:
    """Every sample that is higher than the one before, up to a fall, and at least 0.9."""
    low, high = min(window), max(window)
    found = []
    for i in range(1, len(window)):
        if window[i - 1] < window[i] and Fraction(window[i] - low, high - low) >= Fraction(9, 10):
            after = next((v for v in window[i:] if v != window[i]), window[i])
            found += [i] if after < window[i] else []
    return found


def beats_plainly(window: list[int]) -> list[tuple[int, list[float]]]:
    """The beats of a window, one at a time, with exact fractions."""
    peaks = peaks_plainly(window)
    if len(peaks) < 2:
        return []
    gaps = [Fraction(b - a) for a, b in itertools.pairwise(peaks)]
    length = math.floor(Fraction(6, 5) * statistics.median(gaps))
    if not 60 <= length <= 187:
        return []
    beats = []
    for start in peaks:
        values = window[start : start + length]
        if len(values) == length:
            low, high = min(values), max(values)
            scaled = [(value - low) / (high - low) for value in values]
            beats.append((start, scaled + [0.0] * (187 - length)))
    return beats


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=60))
def test_r_peaks_equal_the_plain_statement(values: list[int]) -> None:
    found = ptbdb_records.r_peaks(np.array(values))
    assert found.dtype == np.int64 and found.tolist() == peaks_plainly(values)


@settings(deadline=None, max_examples=60)
@given(
    gaps=st.lists(st.integers(30, 260), min_size=2, max_size=30),
    seed=st.integers(0, 2**32 - 1),
    noise=st.integers(0, 60),
)
def test_beats_equal_the_plain_statement(gaps: list[int], seed: int, noise: int) -> None:
    random = np.random.default_rng(seed)
    signal = random.integers(-noise, noise + 1, 3 * WINDOW + 99)
    places = np.cumsum(gaps)
    places = places[places < len(signal)]
    signal[places] += random.integers(850, 1100, len(places))
    x, start, windows = ptbdb_records.cut_signal(signal)
    assert x.dtype == np.float32 and x.shape == (len(start), 187) and start.dtype == np.int64
    assert windows.total() == 3 and windows[""] == len(set(start // WINDOW))
    expected = [
        (first + at, row)
        for first in range(0, 3 * WINDOW, WINDOW)
        for at, row in beats_plainly(signal[first : first + WINDOW].tolist())
    ]
    assert start.tolist() == [at for at, _ in expected]
    rows = np.array([row for _, row in expected], np.float32).reshape(-1, 187)
    np.testing.assert_array_equal(x, rows)


def test_known_beats_are_found_and_cut() -> None:
    beats = np.arange(400, 10_000, 800)  # every 0.8 s
    signal = heart(beats, 10_000)[::8]
    x, start, windows = ptbdb_records.cut_signal(signal)
    # 1.2 periods are 120 values; the beat at 1,250 - 50 does not end in the window.
    assert start.tolist() == list(range(50, 1131, 100)) and windows == {"": 1}
    assert (x[:, 0] == 1).all() and (x.argmax(axis=1) == 0).all()
    assert (x.min(axis=1) == 0).all() and not x[:, 120:].any() and (x[:, 119] > 0).any()
    # The T wave comes 31 samples later, the next R wave after 100.
    assert (x[:, 5:90].argmax(axis=1) + 5 == 31).all()
    assert (x[:, 60:].argmax(axis=1) + 60 == 100).all()


def test_a_rest_of_a_window_and_a_short_signal_give_nothing() -> None:
    signal = heart(np.arange(400, 15_000, 800), 15_000)[::8]
    longer = ptbdb_records.cut_signal(signal)[1]
    assert longer.tolist() == ptbdb_records.cut_signal(signal[:WINDOW])[1].tolist()
    x, start, windows = ptbdb_records.cut_signal(signal[: WINDOW - 1])
    assert x.shape == (0, 187) and len(start) == 0 and not windows


@pytest.mark.parametrize(
    ("gap", "why_not"),
    # 1.2 times the period, rounded down, must lie in 60 to 187.
    [(49, "beats of fewer than 60 values"), (50, ""), (156, ""), (157, "beats of more than 187")],
)
def test_periods_that_do_not_fit_give_no_rows(gap: int, why_not: str) -> None:
    window = np.zeros(WINDOW, int)
    window[20::gap] = 100
    found, length, reason = ptbdb_records.beats_of_window(window)
    assert bool(len(found)) is not bool(why_not)
    assert length == (0 if why_not else gap * 6 // 5)
    assert reason.startswith(why_not) and bool(reason) is bool(why_not)


def test_a_peak_of_exactly_nine_tenths_counts() -> None:
    window = np.full(40, 5)
    window[[10, 20, 30]] = 105, 95, 94
    assert ptbdb_records.r_peaks(window).tolist() == [10, 20]


@pytest.mark.parametrize(("first", "last"), [(30, 1130), (31, 1031)])
def test_a_beat_may_end_with_its_window_but_not_after(first: int, last: int) -> None:
    window = np.zeros(WINDOW, int)
    window[first::100] = 100
    found, length, reason = ptbdb_records.beats_of_window(window)
    assert length == 120 and found[0] == first and found[-1] == last and reason == ""


def test_a_flat_window_and_one_peak_give_no_rows() -> None:
    window = np.zeros(WINDOW, int)
    assert len(ptbdb_records.beats_of_window(window)[0]) == 0
    window[500] = 9
    assert ptbdb_records.r_peaks(window).tolist() == [500]
    assert len(ptbdb_records.beats_of_window(window)[0]) == 0


# ------------------------------------------------------------------------------- records


@pytest.fixture
def records(tmp_path: Path) -> dict[str, Path]:
    one, other = tmp_path / "one", tmp_path / "other"
    files = write_record(one, "patient002/s0015lre", REASONS["abnormal"], seconds=25)
    files |= write_record(one, "patient001/s0010_re", REASONS["abnormal"])
    files |= write_record(other, "patient104/s0306lre", REASONS["normal"], period=960)
    files |= write_record(other, "patient104/s0307lre", REASONS["normal"], seconds=20)
    files |= write_record(other, "patient003/s0017lre", "Bundle branch block")
    return files | {"SHA256SUMS.txt": tmp_path / "never-read", "RECORDS": tmp_path / "never-read"}


def test_records_become_rows_with_labels_and_origin(records: dict[str, Path]) -> None:
    beats = ptbdb_records.build_from_records(records, allow_subset=True)
    for name, period, windows in (("s0306lre", 120, 3), ("s0307lre", 100, 2), ("s0010_re", 100, 3)):
        starts = beats.ids.loc[beats.ids["record"] == name, "position"].to_numpy()
        # A beat counts if its 1.2 periods end in its window; the first sample is no maximum.
        every = range(50, windows * WINDOW, period)
        kept = [at for at in every if 0 < at % WINDOW <= WINDOW - period * 6 // 5]
        assert starts.tolist() == [8 * at for at in kept]
    assert beats.x.dtype == np.float32 and beats.y.dtype == np.int64
    of_class = beats.ids.assign(y=beats.y).groupby("y")["patient"].unique()
    assert list(of_class[0]) == ["patient104"]
    assert list(of_class[1]) == ["patient001", "patient002"]
    assert (np.diff(beats.y) >= 0).all() and beats.ids["row_id"].tolist() == list(
        range(len(beats.y))
    )
    row = int(np.flatnonzero(beats.ids["record"] == "s0010_re")[3])
    position = int(beats.ids.loc[row, "position"])
    assert beats.ids.loc[row, "file"] == "patient001/s0010_re.dat"
    lead = np.fromfile(records["patient001/s0010_re.dat"], "<i2").reshape(-1, 3)[:, 1]
    piece = lead[position : position + 960 : 8].astype(float)
    piece = (piece - piece.min()) / (piece.max() - piece.min())
    np.testing.assert_array_equal(beats.x[row, :120], piece.astype(np.float32))
    assert not beats.x[row, 120:].any()


def test_the_note_says_that_these_are_other_rows(records: dict[str, Path]) -> None:
    beats = ptbdb_records.build_from_records(records, allow_subset=True)
    assert not beats.complete
    normal = int((beats.y == 0).sum())
    assert f"normal: {normal:,} heartbeats, 2 records, 1 patients" in beats.notes[0]
    assert "NOT the rows of the Kaggle release" in beats.notes[0]
    assert "SUBSET: 5 of 549 records" in beats.notes[0]


def test_a_signal_file_longer_than_its_header_is_refused(records: dict[str, Path]) -> None:
    path = records["patient001/s0010_re.dat"]
    path.write_bytes(path.read_bytes() + bytes(2))
    with pytest.raises(InputError, match="2 bytes more than the 180,000 of its header"):
        ptbdb_records.build_from_records(records, allow_subset=True)


def test_records_are_counted_where_they_have_rows(records: dict[str, Path], tmp_path: Path) -> None:
    """One at 200 beats a minute, one shorter than a window, one with nothing but a slow beat."""
    where = tmp_path / "more"
    fast = write_record(where, "patient007/s0026lre", REASONS["abnormal"], seconds=30, period=300)
    short = write_record(where, "patient008/s0028lre", REASONS["abnormal"], seconds=9)
    slow = write_record(where, "patient104/s0309lre", REASONS["normal"], seconds=20, period=9000)
    before = ptbdb_records.build_from_records(records, allow_subset=True)
    beats = ptbdb_records.build_from_records(records | fast | short | slow, allow_subset=True)
    np.testing.assert_array_equal(beats.x, before.x)
    counts = beats.notes[0].partition("(")[2].partition(")")[0]
    assert counts == before.notes[0].partition("(")[2].partition(")")[0]
    for name, label in (("normal", 0), ("abnormal", 1)):
        rows = beats.ids[beats.y == label]
        told = f"{len(rows):,} heartbeats, {rows['record'].nunique()} records, "
        assert f"{name}: {told}{rows['patient'].nunique()} patients" in counts
    # 3 + 3 + 2 + 3 windows of the others (see the fixture) gave rows.
    windows = beats.ids.assign(window=beats.ids["position"] // 10_000)
    with_rows = len(windows[["record", "window"]].drop_duplicates())
    assert before.notes[1] == (
        f"Of {with_rows} windows of 10 s, 0 gave no rows. Every record gave rows."
    )
    assert beats.notes[1] == (
        f"Of {with_rows + 5} windows of 10 s, 5 gave no rows: 3 with beats of fewer than 60 "
        "values; 1 with beats of more than 187 values; 1 with fewer than two R peaks. Records "
        "without rows, which are not counted: s0309lre (patient104), s0026lre (patient007), "
        "s0028lre (patient008)."
    )


def test_the_release_is_complete_with_all_headers_and_the_signals_of_both_classes(
    records: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ptbdb_records, "RECORDS", 5)
    # The signal of a record of another class is not needed.
    del records["patient003/s0017lre.dat"]
    beats = ptbdb_records.build_from_records(records)
    assert beats.complete and "SUBSET" not in beats.notes[0]
    del records["patient002/s0015lre.dat"]
    with pytest.raises(InputError, match=r"signals are missing: patient002/s0015lre\.dat"):
        ptbdb_records.build_from_records(records)
    fewer = ptbdb_records.build_from_records(records, allow_subset=True)
    assert not fewer.complete and set(fewer.ids["patient"]) == {"patient001", "patient104"}


def test_missing_records_are_counted(records: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="5 of the 549 record headers"):
        ptbdb_records.build_from_records(records)
    with pytest.raises(InputError, match="0 of the 549 record headers"):
        ptbdb_records.build_from_records({}, allow_subset=True)


def test_a_class_without_heartbeats_is_refused(records: dict[str, Path]) -> None:
    normal_only = {name: path for name, path in records.items() if "patient104" in name}
    with pytest.raises(InputError, match=r"normal and 0 abnormal heartbeats"):
        ptbdb_records.build_from_records(normal_only, allow_subset=True)


def damage(kind: str, files: dict[str, Path]) -> str:
    """Damages record s0010_re; returns what the message must say."""
    header, data = (files[f"patient001/s0010_re{s}"] for s in (".hea", ".dat"))
    if kind == "short signal":
        data.write_bytes(data.read_bytes()[:60_000])
        return "signal file cannot be read; it has 60,000 bytes for 30,000 samples"
    if kind == "empty signal":
        data.write_bytes(b"")
        return "signal file cannot be read; it has 0 bytes"
    if kind == "empty header":
        header.write_text("")
        return "header cannot be read"
    text = header.read_text()
    if kind == "other rate":
        header.write_text(text.replace("s0010_re 4 1000 ", "s0010_re 4 500 "))
        return "at 500 Hz of the leads i, ii, iii, vx; expected lead ii at 1000 Hz"
    assert kind == "no lead II"
    header.write_text(text.replace(" 0 ii\n", " 0 v1\n"))
    return "of the leads i, v1, iii, vx; expected lead ii"


@pytest.mark.parametrize(
    "kind", ["short signal", "empty signal", "empty header", "other rate", "no lead II"]
)
def test_a_damaged_record_is_named(kind: str, records: dict[str, Path]) -> None:
    message = damage(kind, records)
    with pytest.raises(InputError, match=rf"Record s0010_re.*{message}") as caught:
        ptbdb_records.build_from_records(records, allow_subset=True)
    assert "patient001/s0010_re." in caught.value.where and caught.value.remedy


def test_the_audit_sees_patients_on_both_sides(records: dict[str, Path]) -> None:
    data = ptbdb.adapt({}, "physionet", records, seed=1, allow_subset=True)
    (shared,) = [finding for finding in audit(data) if finding.code == "patients_shared"]
    assert shared.level == "warning" and "test patients are also in training" in shared.text
    assert set(data.ids["patient"]) == {"patient001", "patient002", "patient104"}
