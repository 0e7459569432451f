"""MIT-BIH heartbeats: the rows of the Kaggle "heartbeat" CSV files, read or rebuilt.

Source: Kachuee, Fazeli, Sarrafzadeh, "ECG heartbeat classification: a deep transferable
representation", IEEE ICHI 2018; Kaggle ``shayanfazeli/heartbeat``; the MIT-BIH Arrhythmia
Database 1.0.0 (Moody and Mark 2001), 48 half-hour records, 360 samples per second.

What a Kaggle row is. The paper describes a 125 Hz signal, scaled in windows of 10 s, and
segments of 1.2 times the median R-R interval. The files hold something simpler, found by
searching for their rows in the records:

* the first signal of the record, every third sample (so 120 Hz, not 125), as integers of
  the analogue-to-digital converter, without filter or interpolation;
* from the annotated beat to the next annotation plus a fifth (rounded down, in samples of
  360 Hz) of the interval between the next annotation and the one after it. Every annotation
  counts as "next", also rhythm changes and noise marks, hence some very short rows;
* minimum to 0 and maximum to 1 over that whole segment, then cut to 187 values or filled up
  with zeros. A long segment can so lose its maximum or minimum;
* the last beat of each record has no row, which gives the official 109,446 rows.

Of 2,010 rows of the real files (500 of each file, 100 per class; the first 1,000 test rows and
10 training rows; 2,006 different ones) all, in every class, are equal to a rebuilt row in every
bit of every float32, with the same label. One case is not covered by them: a beat with only one
annotation after it (47 of the 109,446 rows, the last kept beat of 47 records). Its tail is
taken as a fifth of its own interval; see docs/data-mitbih.md.

Which rows are in the official training and test file is not known for rebuilt rows; see
:mod:`medrobust.data.prepared.splits`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from medrobust.core.errors import InputError, nearest
from medrobust.core.logs import logger
from medrobust.core.schema import Settings, checked
from medrobust.core.seeds import generator
from medrobust.data.contract import Adapter
from medrobust.data.formats.heartbeat_csv import CsvFile, raw_file, read_files
from medrobust.data.formats.heartbeats import LENGTH, Beats, scaled_segments
from medrobust.data.formats.wfdb_files import (
    matches_check_sum,
    one_folder,
    read_header,
    read_signal,
)
from medrobust.data.prepared import splits
from medrobust.data.prepared.store import Prepared

if TYPE_CHECKING:
    import pandas as pd

CLASSES = ("N", "S", "V", "F", "Q")
CSV_FILES = ("mitbih_train.csv", "mitbih_test.csv")

DECIMATION = 3
FREQUENCY = 360
"""Samples per second of the records."""

BEAT_CLASS = {
    **dict.fromkeys("NLRej", 0),
    **dict.fromkeys("AaJS", 1),
    **dict.fromkeys("VE", 2),
    "F": 3,
    **dict.fromkeys("/fQ", 4),
}
"""Annotation symbol of a beat -> class (AAMI EC57 groups as in Kachuee et al., Table I)."""

ANNOTATED_BEATS = {
    "100": 2273, "101": 1865, "102": 2187, "103": 2084, "104": 2229, "105": 2572,
    "106": 2027, "107": 2137, "108": 1763, "109": 2532, "111": 2124, "112": 2539,
    "113": 1795, "114": 1879, "115": 1953, "116": 2412, "117": 1535, "118": 2278,
    "119": 1987, "121": 1863, "122": 2476, "123": 1518, "124": 1619, "200": 2601,
    "201": 1963, "202": 2136, "203": 2980, "205": 2656, "207": 1860, "208": 2955,
    "209": 3005, "210": 2650, "212": 2748, "213": 3251, "214": 2262, "215": 3363,
    "217": 2208, "219": 2154, "220": 2048, "221": 2427, "222": 2483, "223": 2605,
    "228": 2053, "230": 2256, "231": 1571, "232": 1780, "233": 3079, "234": 2753,
}  # fmt: skip
"""Record -> number of annotated beats in release 1.0.0 (109,494 in all)."""

RECORDS = tuple(ANNOTATED_BEATS)
OFFICIAL_ROWS = {"N": 90589, "S": 2779, "V": 7236, "F": 803, "Q": 8039}
OFFICIAL_CSV_ROWS = {"train": 87554, "test": 21892}
SAME_PATIENT = {"202": "201"}
"""Record -> record of the same patient under whose number both are listed."""

_IDS = ("row_id", "file", "position", "record", "patient", "symbol", "official_split")
"""Columns of ids.csv: ``position`` is the annotation's sample, ``symbol`` its code."""


class Options(Settings):
    """What the registry may ask of this adapter."""

    classes: list[str] = Field(
        default=list(CLASSES), min_length=2, description="classes to keep; labels by position"
    )
    split: Literal["official", "patient"] = Field(
        default="official", description="the release's random split, or disjoint patients"
    )
    validation_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="part of the training rows that becomes the validation set, as in nsr-code",
    )
    random_test_order: bool = Field(
        default=False,
        description="put test rows cut from records in random order, as the Kaggle file's are",
    )
    n_train: int = Field(default=1200, ge=10, description="training rows of a stand-in")
    n_test: int = Field(default=400, ge=10, description="test rows of a stand-in")

    @field_validator("classes")
    @classmethod
    def _known_and_different(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in CLASSES:
                close = nearest(name, CLASSES)
                hint = f"; did you mean {close!r}?" if close else ""
                raise ValueError(f"unknown class {name!r}{hint} (known: {', '.join(CLASSES)})")
        if len(set(value)) != len(value):
            raise ValueError("a class is named twice")
        return value


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool = False,
    processes: int = 1,
) -> Prepared:
    """Returns the arrays and the split of one MIT-BIH data set.

    Args:
        options: the fields of :class:`Options`.
        source: "kaggle", "physionet" or "standin".
        files: raw file by its official name (none for a stand-in).
        seed: root seed; all variants draw the same official-size split from it.
        allow_subset: accept an incomplete release.
        processes: not used: all records are read in less time than a process takes to start.

    Raises:
        InputError: an option is wrong, or raw files are missing or damaged.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    if source == "standin":
        from medrobust.data.standins.ecg import ecg_standin

        made = ecg_standin(
            chosen.n_train,
            chosen.n_test,
            chosen.classes,
            seed=seed,
            disjoint_patients=chosen.split == "patient",
        )
        return _with_validation(made, chosen.validation_share)
    if source == "kaggle":
        if chosen.split == "patient":
            raise splits.no_patients(source)
        beats = read_kaggle_csv(
            raw_file(files, "mitbih_train.csv", CSV_FILES),
            raw_file(files, "mitbih_test.csv", CSV_FILES),
            allow_subset=allow_subset,
        )
    elif source == "physionet":
        beats = build_from_records(files, allow_subset=allow_subset)
    else:
        raise InputError(
            f"MIT-BIH data cannot come from source {source!r}.",
            remedy="use one of: kaggle, physionet, standin.",
        )
    train, test, notes = _split(beats, chosen.split, seed)
    made = _of_classes(beats, chosen.classes, train, test, (*beats.notes, *notes))
    if chosen.random_test_order and source == "physionet":
        made = _test_rows_at_random(made, seed)
    return _with_validation(made, chosen.validation_share)


def _test_rows_at_random(made: Prepared, seed: int) -> Prepared:
    """Returns the data set with its test rows in another order; all other rows stay in place.

    Rows cut from records come record by record: the first of a class are one patient's. In the
    Kaggle test file a class's rows are in random order (its first 1,000 rows come from 45 records),
    so whoever takes the first of each class takes a random sample.
    """
    test = made.folds[0][2]
    rows = np.arange(len(made.y))
    rows[test] = generator(seed, "mitbih test order").permutation(test)
    ids = made.ids.iloc[rows].reset_index(drop=True).assign(row_id=np.arange(len(rows)))
    note = "The test rows are in random order, as those of a class are in the Kaggle file."
    return dataclasses.replace(
        made, x=made.x[rows], y=made.y[rows], ids=ids, notes=(*made.notes, note)
    )


def _with_validation(made: Prepared, share: float) -> Prepared:
    """Returns the data set with part of its training rows as validation rows.

    As nsr-code draws them: NumPy's RandomState(0) shuffles the training rows, the first
    ``int((1 - share) * n)`` stay. Whatever the root seed, so that the rows are the authors' where
    the training file is theirs.
    """
    if share == 0:
        return made
    train, _, test = made.folds[0]
    order = np.arange(len(train))
    np.random.RandomState(0).shuffle(order)
    kept = int((1 - share) * len(train))
    folds = [(np.sort(train[order[:kept]]), np.sort(train[order[kept:]]), test)]
    note = (
        f"Validation: {len(train) - kept:,} of the {len(train):,} training rows "
        "(RandomState(0).shuffle, as the nsr authors drew theirs)."
    )
    return dataclasses.replace(made, folds=folds, notes=(*made.notes, note))


def _split(beats: Beats, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    if kind == "patient":
        return splits.patient_split(beats.ids["record"])
    known = beats.ids["official_split"].to_numpy()
    if (known != "").all():
        note = "Split: the release's own training and test file."
        return np.flatnonzero(known == "train"), np.flatnonzero(known == "test"), (note,)
    return splits.official_size_split(beats.y, seed=seed)


def _of_classes(
    beats: Beats, classes: list[str], train: np.ndarray, test: np.ndarray, notes: tuple[str, ...]
) -> Prepared:
    """Returns the rows of ``classes``, labelled by position, with the split they already had."""
    new_label = np.full(len(CLASSES), -1)
    new_label[[CLASSES.index(name) for name in classes]] = np.arange(len(classes))
    kept = np.flatnonzero(new_label[beats.y] >= 0)
    new_row = np.full(len(beats.y), -1)
    new_row[kept] = np.arange(len(kept))
    ids = beats.ids.iloc[kept].reset_index(drop=True).assign(row_id=np.arange(len(kept)))
    if len(kept) < len(beats.y):
        notes = (*notes, _kept_note(beats, ids))

    def moved(rows: np.ndarray) -> np.ndarray:
        return new_row[rows][new_row[rows] >= 0]

    return Prepared(
        x=beats.x if len(kept) == len(beats.y) else beats.x[kept],
        y=new_label[beats.y[kept]].astype(np.int64),
        ids=ids,
        folds=[(moved(train), np.empty(0, np.int64), moved(test))],
        class_names=tuple(classes),
        input_range=(0.0, 1.0),
        synthetic=False,
        complete=beats.complete,
        notes=notes,
    )


def _kept_note(beats: Beats, kept: pd.DataFrame) -> str:
    note = (
        f"Of {len(beats.y):,} heartbeats, {len(beats.y) - len(kept):,} of the other classes were "
        f"left out: {len(kept):,} are rows"
    )
    if (kept["record"] == "").any():
        return f"{note}."
    without = sorted(set(beats.ids["record"]) - set(kept["record"]))
    note += f", of {kept['record'].nunique()} records and {kept['patient'].nunique()} patients."
    return note + (f" Records without rows: {', '.join(without)}." if without else "")


# ---------------------------------------------------------------- the records of PhysioNet


def build_from_records(files: Mapping[str, Path], *, allow_subset: bool = False) -> Beats:
    """Cuts the heartbeats of the Kaggle files out of the 48 PhysioNet records.

    Rows are ordered by record, then by time.

    Args:
        files: path of ``<record>.hea``, ``.dat`` and ``.atr`` by file name; others are ignored.
        allow_subset: accept missing records and other numbers of beats.

    Raises:
        InputError: records are missing, cannot be read, fail the header's check sum, or do not
            hold the published number of beats.
    """
    records = _complete_records(files, allow_subset)
    names = [f"{record}{suffix}" for record in records for suffix in (".hea", ".dat", ".atr")]
    with one_folder({name: files[name] for name in names}) as folder:
        parts = [_rows_of_record(record, folder, files, allow_subset) for record in records]
    y = np.concatenate([part.y for part in parts])
    complete = records == RECORDS and _check_totals(y, allow_subset)
    return Beats(
        x=np.concatenate([part.x for part in parts]),
        y=y,
        ids=_record_ids(records, parts),
        complete=complete,
        notes=(_built_note(records, complete), _counted_note(records, parts)),
    )


def _complete_records(files: Mapping[str, Path], allow_subset: bool) -> tuple[str, ...]:
    """Returns the records that have all three files; raises if some lack one."""
    missing = [
        f"{record}{suffix}"
        for record in RECORDS
        for suffix in (".hea", ".dat", ".atr")
        if f"{record}{suffix}" not in files or not Path(files[f"{record}{suffix}"]).is_file()
    ]
    incomplete = {name.split(".")[0] for name in missing}
    records = tuple(record for record in RECORDS if record not in incomplete)
    if missing and not (allow_subset and records):
        raise InputError(
            f"{len(missing)} of the {3 * len(RECORDS)} record files of MIT-BIH are missing: "
            + ", ".join(missing[:12])
            + (f" and {len(missing) - 12} more" if len(missing) > 12 else ""),
            remedy="download release 1.0.0 from physionet.org/content/mitdb (no account is "
            "needed), or set `allow_subset: true` to go on with what is there.",
        )
    if missing:
        logger.warning("MIT-BIH: going on without records %s", ", ".join(sorted(incomplete)))
    return records


@dataclasses.dataclass(frozen=True)
class _Rows:
    """The rows of one record, where each begins, its symbol; annotations that are no beats."""

    x: np.ndarray
    y: np.ndarray
    sample: np.ndarray
    symbol: np.ndarray
    others: int


def _rows_of_record(
    record: str, folder: Path, files: Mapping[str, Path], allow_subset: bool
) -> _Rows:
    """Returns the rows of one record."""
    signal = _read_signal(record, folder, files)
    sample, symbol = _read_annotations(record, folder, files, len(signal))
    label = np.array([BEAT_CLASS.get(s, -1) for s in symbol], dtype=np.int64)
    beats = np.flatnonzero(label >= 0)
    if len(beats) != ANNOTATED_BEATS[record] and not allow_subset:
        raise InputError(
            f"Record {record} has {len(beats)} annotated beats; the release has "
            f"{ANNOTATED_BEATS[record]}.",
            where=str(files[f"{record}.atr"]),
            remedy="download this file again (release 1.0.0), or set `allow_subset: true`.",
        )
    if len(beats) < 2:
        raise InputError(
            f"Record {record} has {len(beats)} annotated beats: nothing can be cut.",
            where=str(files[f"{record}.atr"]),
            remedy="download this file again (release 1.0.0).",
        )
    # The Kaggle files have no row for the last beat of a record.
    beats = beats[:-1]
    try:
        x = cut_beats(signal, sample, beats)
    except ValueError as error:
        raise InputError(
            f"Record {record} cannot be cut into heartbeats: {error}.",
            where=str(files[f"{record}.atr"]),
            remedy="download the files of this record again (release 1.0.0).",
        ) from None
    return _Rows(x, label[beats], sample[beats], symbol[beats], int((label < 0).sum()))


def _read_signal(record: str, folder: Path, files: Mapping[str, Path]) -> np.ndarray:
    """Returns the first signal of a record, in units of the converter."""
    header, data = Path(files[f"{record}.hea"]), Path(files[f"{record}.dat"])
    again = "download the files of this record again (release 1.0.0)."
    facts = read_header(folder / record, where=header, again=again)
    if facts.fs != FREQUENCY or not facts.n_sig or not facts.sig_len:
        raise InputError(
            f"Record {record}: the header says {facts.n_sig} signals of {facts.sig_len} samples "
            f"at {facts.fs} Hz; expected two signals at {FREQUENCY} Hz.",
            where=str(header),
            remedy=again,
        )
    signal = read_signal(folder / record, 0, facts, where=data, again=again)
    if not matches_check_sum(signal, facts, 0):
        raise InputError(
            f"Record {record}: the signal does not match the check sum in its header.",
            where=str(data),
            remedy=again,
        )
    return signal


def _read_annotations(
    record: str, folder: Path, files: Mapping[str, Path], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sample numbers and symbols of all annotations of a record."""
    import wfdb

    where = str(files[f"{record}.atr"])
    again = "download this file again (release 1.0.0)."
    try:
        annotation = wfdb.rdann(str(folder / record), "atr")
    except Exception as error:
        raise InputError(
            f"Record {record}: the annotations cannot be read ({error}).", where=where, remedy=again
        ) from error
    sample = np.asarray(annotation.sample, dtype=np.int64)
    if len(sample) and (sample[0] < 0 or sample[-1] >= length or (np.diff(sample) < 0).any()):
        raise InputError(
            f"Record {record}: annotations are out of order or outside the signal; the file is "
            "damaged.",
            where=where,
            remedy=again,
        )
    return sample, np.array(annotation.symbol, dtype=object)


def cut_beats(signal: np.ndarray, sample: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Cuts and scales heartbeats as the Kaggle rows are (see the top of this module).

    Args:
        signal: integers ``[n_samples]`` at 360 Hz.
        sample: sample number of every annotation, ascending.
        beats: positions within ``sample`` of the beats to cut; each has an annotation after it.

    Returns:
        float32 ``[len(beats), 187]`` in [0, 1].

    Raises:
        ValueError: a beat has no annotation after it, or its signal is constant.
    """
    if len(beats) == 0:
        return np.zeros((0, LENGTH), np.float32)
    if beats[-1] + 1 >= len(sample):
        raise ValueError("a beat has no annotation after it")
    start, following = sample[beats], sample[beats + 1]
    # With one annotation left, the beat's own interval stands in for the next one.
    last = beats + 2 >= len(sample)
    interval = sample[np.minimum(beats + 2, len(sample) - 1)] - following
    interval = np.where(last, following - start, interval)
    end = np.minimum(following + interval // 5, len(signal))
    count = -((start - end) // DECIMATION)  # samples of signal[start:end:3]
    return scaled_segments(signal, start, count, stride=DECIMATION)


def _check_totals(y: np.ndarray, allow_subset: bool) -> bool:
    """Returns whether the class totals are the release's; raises if not and it must be so."""
    found = dict(zip(CLASSES, np.bincount(y, minlength=5).tolist(), strict=True))
    if found == OFFICIAL_ROWS:
        return True
    if not allow_subset:
        raise InputError(
            f"The records give {found} heartbeats; the release gives {OFFICIAL_ROWS}.",
            remedy="download release 1.0.0 again, or set `allow_subset: true`.",
        )
    return False


def _record_ids(records: tuple[str, ...], parts: list[_Rows]) -> pd.DataFrame:
    import pandas as pd

    record = np.repeat(np.array(records, dtype=object), [len(part.y) for part in parts])
    n = len(record)
    patient = pd.Series(record).replace(SAME_PATIENT).to_numpy()
    columns = {
        "row_id": np.arange(n),
        "file": record + ".dat",
        "position": np.concatenate([part.sample for part in parts]),
        "record": record,
        "patient": patient,
        "symbol": np.concatenate([part.symbol for part in parts]),
        "official_split": np.full(n, "", dtype=object),
    }
    return pd.DataFrame(columns, columns=list(_IDS))


def _built_note(records: tuple[str, ...], complete: bool) -> str:
    note = (
        "Rows rebuilt from the PhysioNet records. 2,010 of 2,010 rows at hand of the Kaggle files "
        "are equal in every bit to a rebuilt row with the same label; the tail of the last kept "
        "beat of a record (47 of 109,446 rows) is an assumption (docs/data-mitbih.md)."
    )
    if not complete:
        note += f" SUBSET: {len(records)} of {len(RECORDS)} records."
    return note


def _counted_note(records: tuple[str, ...], parts: list[_Rows]) -> str:
    """Returns a note on what came of the records."""
    patients = {SAME_PATIENT.get(record, record) for record in records}
    rows, others = (sum(n) for n in zip(*((len(p.y), p.others) for p in parts), strict=True))
    return (
        f"{rows:,} heartbeats of {len(records)} records and {len(patients)} patients. No rows: the "
        f"last heartbeat of each record ({len(records)}), and {others:,} annotations that are no "
        "heartbeats."
    )


# ---------------------------------------------------------------- the CSV files of Kaggle


def read_kaggle_csv(train_csv: Path, test_csv: Path, *, allow_subset: bool = False) -> Beats:
    """Reads mitbih_train.csv and mitbih_test.csv: 187 values and a label per row, no header.

    The rows of the training file come first.

    Args:
        train_csv, test_csv: the two files (87,554 and 21,892 rows).
        allow_subset: accept fewer rows, and leave out a last row that was cut off.

    Raises:
        InputError: as :func:`medrobust.data.formats.heartbeat_csv.read_files`; labels are 0 to 4.
    """
    import pandas as pd

    labels = tuple(range(len(CLASSES)))
    paths = {"train": Path(train_csv), "test": Path(test_csv)}
    files = [CsvFile(path, labels, OFFICIAL_CSV_ROWS[split]) for split, path in paths.items()]
    rows = read_files(files, allow_subset=allow_subset)
    note = "Rows read from the Kaggle files."
    if not rows.complete:
        note += f" SUBSET: {rows.counts[0]:,} training and {rows.counts[1]:,} test rows."
    columns = {
        "row_id": np.arange(len(rows.y)),
        "file": rows.file,
        "position": rows.position,
        "official_split": np.repeat(list(paths), rows.counts),
    }
    return Beats(
        x=rows.x,
        y=rows.y,
        ids=pd.DataFrame(columns).reindex(columns=list(_IDS), fill_value=""),
        complete=rows.complete,
        notes=(note,),
    )


ADAPTER = Adapter(spec=Options, adapt=adapt)
