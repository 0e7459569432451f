"""The CSV files of the Kaggle data set ``shayanfazeli/heartbeat``: a heartbeat per row.

A row has 187 values in [0, 1] and the label in the last column; there is no header. The MIT-BIH
files (:mod:`medrobust.data.sets.mitbih`) and the PTB files (:mod:`medrobust.data.sets.ptbdb`) have
the same form and differ in their names, labels and numbers of rows.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.data.formats.heartbeats import LENGTH


@dataclass(frozen=True)
class CsvFile:
    """What is known of one file.

    Attributes:
        path: where it lies.
        labels: the labels that its rows may have.
        official_rows: its number of rows in the release.
    """

    path: Path
    labels: tuple[int, ...]
    official_rows: int


@dataclass(frozen=True)
class CsvRows:
    """The rows of several files, one file after the other.

    Attributes:
        x: float32 ``[n, 187]`` in [0, 1].
        y: int64 ``[n]``, the label column.
        counts: number of rows of each file.
        file: name of each row's file, ``[n]``.
        position: each row's number within its file, from 1; int64 ``[n]``.
        complete: whether every file has its official number of rows.
    """

    x: np.ndarray
    y: np.ndarray
    counts: tuple[int, ...]
    file: np.ndarray
    position: np.ndarray
    complete: bool


def raw_file(files: Mapping[str, Path], name: str, together: Sequence[str]) -> Path:
    """Returns the path of the file ``name``.

    Args:
        files: raw file by its official name.
        name: the file wanted.
        together: all files that are needed, for the message.

    Raises:
        InputError: it is not among ``files``.
    """
    if name not in files:
        raise InputError(
            f"The file {name} is missing.",
            where=f"raw files: {', '.join(sorted(files)) or 'none'}",
            remedy=f"put {' and '.join(together)} (or heartbeat.zip) into the raw "
            "folder, or use source physionet.",
        )
    return Path(files[name])


def read_files(files: Sequence[CsvFile], *, allow_subset: bool = False) -> CsvRows:
    """Reads files of 187 values and a label per row, without header.

    Args:
        files: the files, in the order of the rows.
        allow_subset: accept fewer rows, and leave out a last row that was cut off.

    Raises:
        InputError: a file is missing, empty or cut off, or a row has a wrong number of columns,
            a value that is no number in [0, 1], or a label that its file may not have.
    """
    tables = [_read(file.path, file.labels, allow_subset) for file in files]
    counts = tuple(len(table) for table in tables)
    wrong = [i for i, file in enumerate(files) if counts[i] != file.official_rows]
    if wrong and not allow_subset:
        file, found = files[wrong[0]], counts[wrong[0]]
        raise InputError(
            f"{file.path.name} has {found:,} rows; the release has "
            f"{file.official_rows:,}. The file was cut off or changed.",
            where=str(file.path),
            remedy="download it again, or set `allow_subset: true` to use it as a subset.",
        )
    table = np.concatenate(tables)
    return CsvRows(
        x=np.ascontiguousarray(table[:, :LENGTH]),
        y=table[:, LENGTH].astype(np.int64),
        counts=counts,
        file=np.repeat([file.path.name for file in files], counts),
        position=np.concatenate([np.arange(1, n + 1) for n in counts]),
        complete=not wrong,
    )


def _read(path: Path, labels: tuple[int, ...], allow_subset: bool) -> np.ndarray:
    """Returns a file, which may be packed with gzip, as float32 ``[rows, 188]``, checked."""
    import pyarrow as pa
    import pyarrow.csv

    if not path.is_file():
        raise InputError("This file does not exist.", where=str(path))
    names = [str(i) for i in range(LENGTH + 1)]
    cut_off = []

    def on_wrong_width(row: Any) -> str:
        cut_off.append(row)
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=8 << 20),
            parse_options=pyarrow.csv.ParseOptions(
                quote_char=False,
                # Only a subset may go on without a row.
                invalid_row_handler=on_wrong_width if allow_subset else None,
            ),
            # No spelling of "missing" is taken for a value: an empty field is an error.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.float32()), null_values=[]
            ),
        )
    except OSError as error:
        raise _not_heartbeats(path, error) from None
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _bad_row(path, labels, allow_subset) or _not_heartbeats(path, error) from None
    values = _as_matrix(table)
    # A comparison with NaN is false, so these also find NaN.
    usable = (values >= 0).all(axis=1)
    usable &= (values[:, :LENGTH] <= 1).all(axis=1) & np.isin(values[:, LENGTH], labels)
    if cut_off or not usable.all():
        problem = _bad_row(path, labels, allow_subset)
        if problem is not None:
            raise problem
        if not usable.all():
            raise _not_heartbeats(path, "values outside [0, 1]")
        logger.warning("%s: the last row is cut off and was left out", path)
    if len(values) == 0:
        raise _not_heartbeats(path, "no rows")
    return values


def _not_heartbeats(path: Path, reason: object) -> InputError:
    return InputError(
        f"This is not a CSV file of {LENGTH} values and a label per row ({reason}).",
        where=str(path),
        remedy="download it again.",
    )


def _as_matrix(table: Any) -> np.ndarray:
    """Returns a table of float32 columns as a C-ordered matrix, block by block."""
    matrix = np.empty((table.num_rows, table.num_columns), np.float32)
    row = 0
    for batch in table.to_batches():
        columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
        np.stack(columns, axis=1, out=matrix[row : row + batch.num_rows])
        row += batch.num_rows
    return matrix


def _bad_row(path: Path, labels: tuple[int, ...], allow_subset: bool) -> InputError | None:
    """Returns what is wrong with the first bad row of a file, in words.

    This second, slow pass names the row. With ``allow_subset``, a last row that has too few
    columns is no error, and None is returned.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as rows:
        for number, line in enumerate(rows, start=1):
            fields = line.rstrip("\n").split(",")
            problem = None if fields == [""] else _row_problem(fields, labels)
            if problem is None:
                continue
            remedy = "download the file again."
            if len(fields) < LENGTH + 1 and next(rows, None) is None:
                if allow_subset:
                    return None
                problem += "; the file was cut off here"
                remedy = "download it again, or set `allow_subset: true` to leave this row out."
            return InputError(
                f"{path.name}, row {number}: {problem}.",
                where=f"{path}, row {number}",
                remedy=remedy,
            )
    return None


def _row_problem(fields: list[str], labels: tuple[int, ...]) -> str | None:
    """Returns what is wrong with the fields of a row, or None."""
    if len(fields) != LENGTH + 1:
        return f"{len(fields)} columns instead of {LENGTH + 1} ({LENGTH} values and the label)"
    for column, text in enumerate(fields, start=1):
        try:
            value = float(text)
        except ValueError:
            return f"column {column} is not a number ({text[:30]!r})"
        if column == LENGTH + 1:
            if value not in labels:
                return f"the label is {text[:30]!r}, not {_listed(labels)}"
        elif not np.isfinite(value):
            return f"column {column} is {text!r}, not a finite number"
        elif not 0 <= value <= 1:
            return f"column {column} is {value:g}, outside [0, 1]"
    return None


def _listed(labels: tuple[int, ...]) -> str:
    """Returns "0, 1, 2, 3 or 4"."""
    *first, last = map(str, labels)
    return f"{', '.join(first)} or {last}" if first else last
