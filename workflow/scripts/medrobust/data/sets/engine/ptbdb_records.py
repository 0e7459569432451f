"""Heartbeats cut out of the records of the PTB Diagnostic ECG Database.

Source: Bousseljot, Kreiseler, Schnabel 1995; PhysioNet ``ptbdb`` 1.0.0: 549 records of 290
people, 1000 samples per second, 12 standard leads (and 3 Frank leads, which are not read). The
reason for admission stands in each header: healthy controls are "normal", people with a
myocardial infarction "abnormal"; the other records are left out.

The database has no beat annotations. Beats are found and cut as Kachuee et al. (2018), section
III, describe, with lead II:

1. every eighth sample, 125 per second, in windows of 10 s (a rest at the end is left out);
2. the window's minimum is 0 and its maximum 1;
3. local maxima, where the first derivative changes its sign;
4. those of at least 0.9 are taken for R peaks;
5. the median of the intervals between them is the window's period T;
6. a beat is the part of length 1.2 T from an R peak on;
7. filled up with zeros to 187 values.

Where the text says nothing, or the released rows show something else (docs/data-ptbdb.md):
samples are integers of the converter, without filter or interpolation; each beat is scaled once
more, minimum to 0 and maximum to 1, as all rows at hand of the release are. Choices of ours: a
beat that does not end within its window is left out, and so is a window whose beats would be
shorter than 60 values (more than 150 per minute: the T waves were counted too) or longer than
187.

These rows are not the rows of the release: which lead, which records and which windows it was
made of, and how its peaks were found, is not published.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.data.formats.heartbeats import LENGTH, Beats, scaled_segments
from medrobust.data.formats.wfdb_files import one_folder, read_header, read_signal

if TYPE_CHECKING:
    import pandas as pd

FREQUENCY = 1000
"""Samples per second of the records."""

DECIMATION = 8
WINDOW = 10 * FREQUENCY // DECIMATION
"""Values per window of 10 s."""

SHORTEST = 60
"""Fewest values of a beat: 1.2 times 0.4 s."""

LEAD = "ii"
RECORDS = 549
CLASS_OF_REASON = {"healthy control": 0, "myocardial infarction": 1}
"""Reason for admission -> class (normal, abnormal); records of other reasons are not used."""

_NAME = re.compile(r"^(patient\d+)/(\w+)\.hea$")
_NAMES_SHOWN = 20
_REASON = "reason for admission:"
_AGAIN = "download the files of this record again (release 1.0.0)."


@dataclass(frozen=True)
class _Record:
    """A record of one of the two classes: ``stem`` is its path without suffix."""

    stem: str
    patient: str
    label: int

    @property
    def name(self) -> str:
        return self.stem.split("/")[-1]


@dataclass(frozen=True)
class _Cut:
    """The beats of one record: rows, the sample (1000 per second) where each starts, and windows.

    Windows are counted by why they gave no beats ("" if they did).
    """

    record: _Record
    x: np.ndarray
    position: np.ndarray
    windows: Counter[str]


def build_from_records(files: Mapping[str, Path], *, allow_subset: bool = False) -> Beats:
    """Cuts heartbeats out of the PhysioNet records: see the top of this module.

    Rows are ordered by class (normal first), then by record, then by time.

    Args:
        files: path of ``patient<n>/<record>.hea`` and ``.dat`` by that name; others are ignored.
        allow_subset: accept missing records.

    Raises:
        InputError: records are missing or cannot be read, or a class has no heartbeat.
    """
    stems = sorted(name[: -len(".hea")] for name in files if _NAME.match(name))
    headers = {f"{stem}.hea": files[f"{stem}.hea"] for stem in stems}
    with one_folder(headers) as folder:
        labels = {stem: _label(stem, folder, files) for stem in stems}
    used = [stem for stem in stems if labels[stem] is not None]
    complete = _check_complete(stems, used, files, allow_subset)
    records = [
        _Record(stem, stem.split("/")[0], label)
        for label in sorted(CLASS_OF_REASON.values())
        for stem in used
        if labels[stem] == label and f"{stem}.dat" in files
    ]
    names = [f"{record.stem}{suffix}" for record in records for suffix in (".hea", ".dat")]
    with one_folder({name: files[name] for name in names}) as folder:
        cuts = [_cut_record(record, folder, files) for record in records]
    y = np.concatenate([np.full(len(cut.x), cut.record.label) for cut in cuts])
    return Beats(
        x=np.concatenate([cut.x for cut in cuts]),
        y=_with_both_classes(y),
        ids=_ids(cuts),
        complete=complete,
        notes=(_note(cuts, len(stems), complete), _left_out(cuts)),
    )


def _label(stem: str, folder: Path, files: Mapping[str, Path]) -> int | None:
    """Returns the class of a record by its reason for admission, None if it has neither."""
    header = read_header(folder / stem, where=files[f"{stem}.hea"], again=_AGAIN)
    for comment in header.comments or []:
        text = comment.strip().lower()
        if text.startswith(_REASON):
            return CLASS_OF_REASON.get(text.removeprefix(_REASON).strip())
    return None


def _check_complete(
    stems: list[str], used: list[str], files: Mapping[str, Path], allow_subset: bool
) -> bool:
    """Returns whether every record is there; raises if not and it must be so."""
    without_signal = [f"{stem}.dat" for stem in used if f"{stem}.dat" not in files]
    if len(stems) == RECORDS and not without_signal:
        return True
    if allow_subset and len(used) > len(without_signal):
        logger.warning("PTB: going on with %d of %d records", len(stems), RECORDS)
        return False
    shown = ", ".join(without_signal[:12])
    more = f" and {len(without_signal) - 12} more" if len(without_signal) > 12 else ""
    raise InputError(
        f"{len(stems)} of the {RECORDS} record headers of the PTB database are there"
        + (f", and these signals are missing: {shown}{more}." if shown else "."),
        remedy="download release 1.0.0 from physionet.org/content/ptbdb (no account is "
        "needed), or set `allow_subset: true` to go on with what is there.",
    )


def _with_both_classes(y: np.ndarray) -> np.ndarray:
    """Returns ``y`` as int64 if no class is missing, else raises."""
    found = np.bincount(y.astype(np.int64), minlength=len(CLASS_OF_REASON))
    if (found == 0).any():
        raise InputError(
            f"The records give {found[0]:,} normal and {found[1]:,} abnormal heartbeats; both "
            "classes are needed.",
            remedy="put more records into the raw folder.",
        )
    return y.astype(np.int64)


def _cut_record(record: _Record, folder: Path, files: Mapping[str, Path]) -> _Cut:
    header_file, signal_file = (Path(files[f"{record.stem}{s}"]) for s in (".hea", ".dat"))
    header = read_header(folder / record.stem, where=header_file, again=_AGAIN)
    leads = [name.lower() for name in header.sig_name or []]
    if header.fs != FREQUENCY or LEAD not in leads or not header.sig_len:
        raise InputError(
            f"Record {record.name}: the header says {header.sig_len} samples at {header.fs} Hz of "
            f"the leads {', '.join(leads) or 'none'}; expected lead {LEAD} at {FREQUENCY} Hz.",
            where=str(header_file),
            remedy=_AGAIN,
        )
    # The check sum in the header is not asked: fetching has compared the whole file's SHA-256.
    channel = leads.index(LEAD)
    signal = read_signal(folder / record.stem, channel, header, where=signal_file, again=_AGAIN)
    x, start, windows = cut_signal(signal[::DECIMATION])
    return _Cut(record, x, DECIMATION * start, windows)


def cut_signal(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Finds and cuts the heartbeats of a signal (steps 1 to 7 at the top of this module).

    Args:
        signal: integers ``[n_samples]``, 125 per second.

    Returns:
        The beats, float32 ``[n, 187]`` in [0, 1]; the sample where each starts, int64 ``[n]``,
        ascending; and how many windows gave beats (``""``), and how many gave none, by the reason.
    """
    rows, starts = [np.zeros((0, LENGTH), np.float32)], [np.zeros(0, np.int64)]
    windows: Counter[str] = Counter()
    for first in range(0, len(signal) - WINDOW + 1, WINDOW):
        window = signal[first : first + WINDOW]
        start, length, reason = beats_of_window(window)
        windows[reason] += 1
        rows.append(scaled_segments(window, start, np.full(len(start), length)))
        starts.append(first + start)
    return np.concatenate(rows), np.concatenate(starts), windows


def beats_of_window(window: np.ndarray) -> tuple[np.ndarray, int, str]:
    """Returns where the beats of a window start, and how many values each has.

    Args:
        window: integers ``[n_samples]``, 125 per second.

    Returns:
        Starts, int64 ``[n]``; the length of each beat; and why there are none ("" if there are).
    """
    peaks = r_peaks(window)
    if len(peaks) < 2:
        return peaks[:0], 0, "fewer than two R peaks"
    # The median is a whole or half number, so that this is floor(1.2 T) without rounding error.
    length = int(2 * np.median(np.diff(peaks))) * 6 // 10
    if length < SHORTEST:
        return peaks[:0], 0, f"beats of fewer than {SHORTEST} values"
    if length > LENGTH:
        return peaks[:0], 0, f"beats of more than {LENGTH} values"
    start = peaks[peaks + length <= len(window)]
    return start, length, "" if len(start) else "no beat that ends within it"


def r_peaks(window: np.ndarray) -> np.ndarray:
    """Returns the local maxima of at least 0.9 of a window's range, int64 ascending.

    Of several equal highest samples side by side, the first counts. Both ends of a window are
    no maxima.

    Args:
        window: integers ``[n_samples]``.
    """
    step = np.diff(window)
    moving = np.flatnonzero(step)
    rising = step[moving] > 0
    peaks = moving[:-1][rising[:-1] & ~rising[1:]] + 1
    low, high = int(window.min()), int(window.max())
    return peaks[10 * (window[peaks] - low) >= 9 * (high - low)]


def _ids(cuts: list[_Cut]) -> pd.DataFrame:
    import pandas as pd

    counts = [len(cut.x) for cut in cuts]

    def repeated(values: list[Any]) -> np.ndarray:
        return np.repeat(np.array(values, dtype=object), counts)

    return pd.DataFrame(
        {
            "row_id": np.arange(sum(counts)),
            "file": repeated([f"{cut.record.stem}.dat" for cut in cuts]),
            "position": np.concatenate([cut.position for cut in cuts]),
            "record": repeated([cut.record.name for cut in cuts]),
            "patient": repeated([cut.record.patient for cut in cuts]),
        }
    )


def _note(cuts: list[_Cut], headers: int, complete: bool) -> str:
    def told(label: int, name: str) -> str:
        of_class = [cut for cut in cuts if cut.record.label == label and len(cut.x)]
        beats = sum(len(cut.x) for cut in of_class)
        people = len({cut.record.patient for cut in of_class})
        return f"{name}: {beats:,} heartbeats, {len(of_class):,} records, {people:,} patients"

    note = (
        f"Rows cut anew from lead II of the PhysioNet records ({told(0, 'normal')}; "
        f"{told(1, 'abnormal')}), as Kachuee et al. 2018 describe. They are NOT the rows of the "
        "Kaggle release (14,552: 4,046 normal, 10,506 abnormal), which cannot be rebuilt: "
        "docs/data-ptbdb.md says what is known of them."
    )
    if not complete:
        note += f" SUBSET: {headers} of {RECORDS} records."
    return note


def _left_out(cuts: list[_Cut]) -> str:
    """Returns a note on windows and records that gave no rows."""
    windows = sum((cut.windows for cut in cuts), start=Counter())
    without = Counter({reason: n for reason, n in windows.items() if reason})
    note = f"Of {windows.total():,} windows of 10 s, {without.total():,} gave no rows"
    if without:
        note += ": " + "; ".join(f"{n:,} with {why}" for why, n in sorted(without.items()))
    empty = [cut.record for cut in cuts if not len(cut.x)]
    if not empty:
        return f"{note}. Every record gave rows."
    names = ", ".join(f"{record.name} ({record.patient})" for record in empty[:_NAMES_SHOWN])
    more = f" and {len(empty) - _NAMES_SHOWN:,} more" if len(empty) > _NAMES_SHOWN else ""
    return f"{note}. Records without rows, which are not counted: {names}{more}."
