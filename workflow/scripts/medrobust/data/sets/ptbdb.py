"""PTB heartbeats, normal against abnormal: the Kaggle rows, or cut anew from the records.

Source: Kachuee, Fazeli, Sarrafzadeh, "ECG heartbeat classification: a deep transferable
representation", IEEE ICHI 2018; Kaggle ``shayanfazeli/heartbeat``; the PTB Diagnostic ECG
Database 1.0.0 (Bousseljot, Kreiseler, Schnabel 1995).

The release has two files: 4,046 rows of healthy controls (normal, label 0) and 10,506 of people
with a myocardial infarction (abnormal, label 1), 187 values each. Rows here are those of
ptbdb_normal.csv, then those of ptbdb_abnormal.csv. The release has no split. The code of Yang et
al. (2020) draws one from the rows in this order, which gives the numbers that their paper prints
(13,096 and 1,456 rows, 90:10), while its text says 80:20; both are data sets here.

Rows cut from the records (:mod:`medrobust.data.sets.engine.ptbdb_records`) are not those of the
release; they are divided in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, checked
from medrobust.data.contract import Adapter
from medrobust.data.formats.heartbeat_csv import CsvFile, raw_file, read_files
from medrobust.data.formats.heartbeats import Beats
from medrobust.data.prepared import splits
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.ptbdb_records import build_from_records

CLASSES = ("normal", "abnormal")
CSV_FILES = ("ptbdb_normal.csv", "ptbdb_abnormal.csv")
OFFICIAL_CSV_ROWS = (4046, 10506)

_IDS = ("row_id", "file", "position", "record", "patient")


class Options(Settings):
    """What the registry may ask of this adapter."""

    train_share: float = Field(
        default=0.9, gt=0, lt=1, description="share of training rows, rounded down"
    )
    random_state: int = Field(
        default=5947, ge=0, le=2**32 - 1, description="seed of the split, as of train_test_split"
    )
    n_train: int = Field(default=1200, ge=10, description="training rows of a stand-in")
    n_test: int = Field(default=400, ge=10, description="test rows of a stand-in")


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool = False,
    processes: int = 1,
) -> Prepared:
    """Returns the arrays and the split of one PTB data set.

    Args:
        options: the fields of :class:`Options`.
        source: "kaggle", "physionet" or "standin".
        files: raw file by its official name (none for a stand-in).
        seed: root seed, of a stand-in only: the split has the seed of the authors' code.
        allow_subset: accept an incomplete release.
        processes: not used: reading takes less time than a process takes to start.

    Raises:
        InputError: an option is wrong, or raw files are missing or damaged.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    if source == "standin":
        from medrobust.data.standins.ecg import ecg_standin

        return ecg_standin(chosen.n_train, chosen.n_test, CLASSES, seed=seed)
    if source == "kaggle":
        beats = read_kaggle_csv(
            raw_file(files, CSV_FILES[0], CSV_FILES),
            raw_file(files, CSV_FILES[1], CSV_FILES),
            allow_subset=allow_subset,
        )
    elif source == "physionet":
        beats = build_from_records(files, allow_subset=allow_subset)
    else:
        raise InputError(
            f"PTB data cannot come from source {source!r}.",
            remedy="use one of: kaggle, physionet, standin.",
        )
    return _divided(beats, chosen)


def read_kaggle_csv(normal_csv: Path, abnormal_csv: Path, *, allow_subset: bool = False) -> Beats:
    """Reads ptbdb_normal.csv and ptbdb_abnormal.csv: 187 values and a label per row, no header.

    The rows of the normal file come first.

    Args:
        normal_csv, abnormal_csv: the two files (4,046 and 10,506 rows).
        allow_subset: accept fewer rows, and leave out a last row that was cut off.

    Raises:
        InputError: as :func:`medrobust.data.formats.heartbeat_csv.read_files`; every label of the
            normal file must be 0, of the abnormal file 1.
    """
    import pandas as pd

    paths = (Path(normal_csv), Path(abnormal_csv))
    files = [
        CsvFile(path, (label,), rows)
        for label, (path, rows) in enumerate(zip(paths, OFFICIAL_CSV_ROWS, strict=True))
    ]
    rows = read_files(files, allow_subset=allow_subset)
    note = "Rows read from the Kaggle files: normal ones first, then abnormal ones."
    if not rows.complete:
        note += f" SUBSET: {rows.counts[0]:,} normal and {rows.counts[1]:,} abnormal rows."
    columns = {"row_id": np.arange(len(rows.y)), "file": rows.file, "position": rows.position}
    return Beats(
        x=rows.x,
        y=rows.y,
        ids=pd.DataFrame(columns).reindex(columns=list(_IDS), fill_value=""),
        complete=rows.complete,
        notes=(note,),
    )


def _divided(beats: Beats, options: Options) -> Prepared:
    """Returns the beats with their split; see docs/protocols.md for the two shares."""
    train, test = splits.shuffled_split(
        len(beats.y), train_share=options.train_share, random_state=options.random_state
    )
    note = (
        f"Split: {len(train):,} training and {len(test):,} test rows at random, not stratified, as "
        f"scikit-learn's train_test_split(train_size={options.train_share:g}, "
        f"random_state={options.random_state}) divides them; rows are in ascending order."
    )
    return Prepared(
        x=beats.x,
        y=beats.y,
        ids=beats.ids,
        folds=[(train, np.empty(0, np.int64), test)],
        class_names=CLASSES,
        input_range=(0.0, 1.0),
        synthetic=False,
        complete=beats.complete,
        notes=(*beats.notes, note),
    )


ADAPTER = Adapter(spec=Options, adapt=adapt)
