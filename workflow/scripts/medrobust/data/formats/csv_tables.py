"""A table in a CSV file: which columns it has, and of chosen ones numbers or text, checked.

Nothing is guessed: a cell that is empty, no number, or not finite is named with its row and column
(the first of each kind), and no spelling of "missing" is taken for a value. Rows are counted from 1
below the header. The quick reader is that of Arrow; where it refuses a file, a slow one goes
through it again and says which cell it is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.schema import unknown_name

_SHOWN, _FEW = 10, 4
_BLOCK_BYTES = 8 << 20
#: A cell may be as long as a long row.
csv.field_size_limit(1 << 24)


@dataclass(frozen=True)
class Form:
    """How a file is written.

    Attributes:
        header: whether the first row names the columns; else their names are "0", "1" and so on.
        separator: between two cells, one character.
        decimal: the sign in numbers, "." or ",".
    """

    header: bool = True
    separator: str = ","
    decimal: str = "."


@dataclass(frozen=True)
class Table:
    """Chosen columns of a file.

    Attributes:
        numbers: float64 ``[n, columns]``, finite.
        texts: name of a column -> its cells, stripped, ``[n]``.
    """

    numbers: np.ndarray
    texts: Mapping[str, np.ndarray]


def column_names(path: Path, form: Form) -> list[str]:
    """Returns the names of the columns, by the first row.

    Raises:
        InputError: the file is missing, empty or no text, or two columns have one name.
    """
    with _rows(path, form) as rows:
        first = next((row for row in rows if row), None)
    if first is None:
        raise InputError("This file is empty.", where=str(path), remedy="export the table again.")
    if not form.header:
        return [str(number) for number in range(len(first))]
    names = [cell.strip() for cell in first]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        shown = ", ".join(repr(name) for name in twice[:_SHOWN])
        raise InputError(
            f"Several columns are called {shown}, by the first row.",
            where=str(path),
            remedy="give each column a name of its own, or set `header: false` if the first row is "
            "data.",
        )
    return names


def column_of(names: Sequence[str], wanted: str | int, *, path: Path, key: str) -> int:
    """Returns the number of a column that is given by name or number.

    Args:
        names: of all columns.
        wanted: a name; or a number from 0, or from the end where it is below 0.
        path: the file, for messages.
        key: the option that asks for it, for messages.

    Raises:
        InputError: there is no such column.
    """
    if isinstance(wanted, str):
        if wanted not in names:
            raise unknown_name("column", wanted, names[:40], where=f"{path}, option {key}")
        return list(names).index(wanted)
    if not -len(names) <= wanted < len(names):
        raise InputError(
            f"There is no column {wanted}: the file has {len(names)}, numbered from 0.",
            where=f"{path}, option {key}",
            remedy="give a number below that, -1 for the last column, or the column's name.",
        )
    return wanted % len(names)


def read_table(path: Path, form: Form, numbers: Sequence[int], texts: Sequence[int]) -> Table:
    """Reads columns of a file.

    Args:
        path: the file.
        form: how it is written.
        numbers: columns of numbers.
        texts: columns of text, none of which may be empty in any row.

    Raises:
        InputError: a row has another number of cells than the first, a cell is empty, no number or
            not finite, or there are no rows; it names rows and columns.
    """
    names = column_names(path, form)
    table = _quick(path, form, names, numbers, texts)
    if table is None:
        _explain(path, form, names, numbers, texts)
        table = _slow(path, form, numbers, texts)
    values, cells = table
    if not len(values) and not (texts and len(cells[0])):
        raise InputError("This file has no rows of data.", where=str(path))
    if not np.isfinite(values).all() or any((column == "").any() for column in cells):
        _explain(path, form, names, numbers, texts)
    return Table(values, {names[c]: column for c, column in zip(texts, cells, strict=True)})


_Columns = tuple[np.ndarray, list[np.ndarray]]


def _quick(
    path: Path, form: Form, names: Sequence[str], numbers: Sequence[int], texts: Sequence[int]
) -> _Columns | None:
    """Returns the columns as Arrow reads them, None where it refuses."""
    import pyarrow as pa
    import pyarrow.csv

    places = [str(number) for number in range(len(names))]
    kinds = {str(c): pa.float64() for c in numbers} | {str(c): pa.string() for c in texts}
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(
                column_names=places, skip_rows=int(form.header), block_size=_BLOCK_BYTES
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=form.separator),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=kinds,
                include_columns=list(kinds),
                null_values=[],
                strings_can_be_null=False,
                decimal_point=form.decimal,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError):
        return None
    values = np.empty((table.num_rows, len(numbers)), np.float64)
    for place, column in enumerate(numbers):
        values[:, place] = table.column(str(column)).to_numpy()
    cells = [
        np.array([cell.strip() for cell in table.column(str(c)).to_pylist()], object) for c in texts
    ]
    return values, cells


def _slow(path: Path, form: Form, numbers: Sequence[int], texts: Sequence[int]) -> _Columns:
    """Returns the columns of a file that only the slow reader takes."""
    values, cells = [], []
    for _, row in _data(path, form):
        values.append([_number(row[c], form) for c in numbers])
        cells.append([row[c].strip() for c in texts])
    columns = [np.array([row[k] for row in cells], object) for k in range(len(texts))]
    return np.array(values, np.float64).reshape(len(values), len(numbers)), columns


def _explain(
    path: Path, form: Form, names: Sequence[str], numbers: Sequence[int], texts: Sequence[int]
) -> None:
    """Raises an InputError that names the cells that cannot be used, if there are any."""
    kinds: dict[str, list[str]] = {}
    for row, cells in _data(path, form):
        for kind, said in _problems(cells, form, names, numbers, texts):
            kinds.setdefault(kind, []).append(f"row {row}{said}")
    bad = sum(map(len, kinds.values()))
    if not bad:
        return
    # Of a whole column of text one line says enough.
    found = [
        f"{kind}: {'; '.join(places[:_FEW])}{_and_more(len(places) - _FEW)}"
        for kind, places in kinds.items()
    ]
    more = f"\n    and {len(found) - _SHOWN:,} more kinds" if len(found) > _SHOWN else ""
    found = found[:_SHOWN]
    cells_are = "1 cell or row is" if bad == 1 else f"{bad:,} cells or rows are"
    raise InputError(
        f"{cells_are} not usable (rows counted from 1"
        f"{' below the header' if form.header else ''}):\n    " + "\n    ".join(found) + more,
        where=str(path),
        remedy="correct them or delete these rows; a column that holds no numbers is left out with "
        "`ignore`, a number with a comma is read with `decimal: ','`.",
    )


def _problems(
    cells: Sequence[str],
    form: Form,
    names: Sequence[str],
    numbers: Sequence[int],
    texts: Sequence[int],
) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with a row: the kind of fault, and what stands there."""
    if len(cells) != len(names):
        yield f"rows of another length than {len(names)} cells", f" has {len(cells)}"
        return
    for column in texts:
        if not cells[column].strip():
            yield f"column {names[column]}: empty", ""
    for column in numbers:
        text = cells[column].strip()
        try:
            value = _number(text, form)
        except ValueError:
            kind = "no number" if text else "empty"
            yield f"column {names[column]}: {kind}", f" {text[:30]!r}" if text else ""
        else:
            if not math.isfinite(value):
                yield f"column {names[column]}: no finite number", f" {text[:30]!r}"


def _and_more(count: int) -> str:
    return f" and {count:,} more" if count > 0 else ""


def _number(text: str, form: Form) -> float:
    text = text.strip()
    if "_" in text:  # which Python takes
        raise ValueError(text)
    if form.decimal != ".":
        if "." in text:
            raise ValueError(text)
        text = text.replace(form.decimal, ".")
    return float(text)


def _data(path: Path, form: Form) -> Iterator[tuple[int, list[str]]]:
    """Yields number (from 1) and cells of each row of data."""
    with _rows(path, form) as rows:
        filled = (row for row in rows if row)
        if form.header:
            next(filled, None)
        yield from enumerate(filled, start=1)


@contextmanager
def _rows(path: Path, form: Form) -> Iterator[Iterator[list[str]]]:
    try:
        # A byte order mark, which spreadsheets write, is no part of the first name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield csv.reader(file, delimiter=form.separator)
    except FileNotFoundError:
        raise InputError("This file does not exist.", where=str(path)) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"This is no table of text cells ({_reason(error)}).",
            where=str(path),
            remedy="export it as CSV with the encoding UTF-8.",
        ) from None


def _reason(error: Any) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
