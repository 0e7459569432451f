"""A table of the user's own in one CSV file: a row per example, one column for the label.

Source: the file is a table as in Shafranovich, RFC 4180, 2005, in UTF-8. One column holds the
label; one may name the patient, one the split; the other columns, or those named, are the features,
in the order of the file. What is not a finite number is refused with its row and column.

Values are brought to [0, 1], the range that models and attacks know: from the range that the entry
declares (a value outside of it is refused), or from the smallest and largest value among the
training rows, of each column or of all together. Test values beyond those of training are then set
to 0 or 1, and counted in a note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, checked
from medrobust.core.words import counted
from medrobust.data.contract import Adapter
from medrobust.data.formats.csv_tables import Form, column_names, column_of, read_table
from medrobust.data.prepared.splits import SPLITS, Fold, check_fold
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.own_data import check_classes, labels_of, own_fold

if TYPE_CHECKING:
    import pandas as pd

Column = str | int


class Options(Settings):
    """What the registry may ask of this adapter."""

    file: str = Field(min_length=1, description="name of the file in the raw folder")
    classes: list[str] = Field(
        min_length=2, description="name of each label; without this key the entry's `classes`"
    )
    label: Column = Field(
        description="column of the label: its name, or its number from 0 (-1: the last)"
    )
    labels: list[str] = Field(
        default=[], description="what stands in that column for each class; none: the class's name"
    )
    patient: Column | None = Field(
        default=None, description="column that names the patient; null: patients are not known"
    )
    split: Column | None = Field(
        default=None,
        description="column with `train`, `val` or `test`; null: divided by patient where they are "
        "known, else at random within each class",
    )
    features: list[Column] = Field(
        default=[], description="columns of the features; none: all others"
    )
    ignore: list[Column] = Field(default=[], description="columns that are no features")
    header: bool = Field(default=True, description="whether the first row names the columns")
    separator: str = Field(default=",", min_length=1, max_length=1, description="between two cells")
    decimal: Literal[".", ","] = Field(default=".", description="the sign in numbers")
    value_range: list[float] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="lowest and highest value that there can be; null: those of the training rows",
    )
    scaling: Literal["columns", "together"] = Field(
        default="columns",
        description="without `value_range`: each column by its own smallest and largest training "
        "value, or all columns (samples of a signal) by the same two",
    )
    test_share: float = Field(default=0.2, gt=0, lt=1, description="share of test rows of a class")
    n_train: int = Field(default=1200, ge=10, description="training rows of a stand-in")
    n_test: int = Field(default=400, ge=10, description="test rows of a stand-in")
    length: int = Field(
        default=0, ge=0, description="features of a row; without this key the entry's `shape`"
    )

    @field_validator("value_range")
    @classmethod
    def _ordered(cls, ends: list[float] | None) -> list[float] | None:
        if ends is not None and not ends[0] < ends[1]:
            raise ValueError("the lower end comes first")
        return ends

    @model_validator(mode="after")
    def _as_many(self) -> Options:
        if self.labels and len(self.labels) != len(self.classes):
            raise ValueError("labels must be as many as classes")
        if not self.header and any(isinstance(c, str) for c in self.columns()):
            raise ValueError("without a header, columns are given by number")
        return self

    def columns(self) -> list[Column]:
        """Returns all columns that are given."""
        single = [c for c in (self.label, self.patient, self.split) if c is not None]
        return [*single, *self.features, *self.ignore]

    @property
    def form(self) -> Form:
        """How the file is written."""
        return Form(self.header, self.separator, self.decimal)


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        names: of the features.
        values: float64 ``[n, features]``.
        label: cell of each row.
        patient, split: cells of each row, None where no such column is given.
    """

    names: list[str]
    values: np.ndarray
    label: np.ndarray
    patient: np.ndarray | None
    split: np.ndarray | None


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool,
    processes: int,
) -> Prepared:
    """Returns the rows of the file, or a stand-in; see ``medrobust.data.prepared.prepare``.

    Raises:
        InputError: an option is wrong, a column is missing, or cells cannot be used.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    if source == "standin":
        from medrobust.data.standins.tables import table_standin

        return table_standin(
            chosen.n_train, chosen.n_test, chosen.classes, chosen.length or 8, seed=seed
        )
    path = Path(files[chosen.file])
    content = read_content(path, chosen)
    y = labels_of(
        content.label,
        chosen.classes,
        chosen.labels or chosen.classes,
        where=f"{path}, column {chosen.label}",
    )
    notes = check_classes(y, chosen.classes, "rows", where=str(path))
    fold, split_note = _fold(content, y, chosen, path, seed)
    x, scaling_note = _scaled(content, fold, chosen, path)
    of = f"{counted(len(content.names), 'feature', 'features')}: {', '.join(content.names[:12])}"
    more = f" and {len(content.names) - 12} more" if len(content.names) > 12 else ""
    return Prepared(
        x=x,
        y=y,
        ids=_ids(path, content),
        folds=[fold],
        class_names=tuple(chosen.classes),
        input_range=(0.0, 1.0),
        synthetic=False,
        complete=True,
        notes=(f"Read from one table, {of}{more}.", scaling_note, split_note, *notes),
    )


def read_content(path: Path, options: Options) -> Content:
    """Returns the chosen columns of a file.

    Raises:
        InputError: a column is missing or given twice, or cells cannot be used.
    """
    names = column_names(path, options.form)

    def place(column: Column, key: str) -> int:
        return column_of(names, column, path=path, key=key)

    single = {
        key: place(column, key)
        for key, column in (
            ("label", options.label),
            ("patient", options.patient),
            ("split", options.split),
        )
        if column is not None
    }
    ignored = {place(column, "ignore") for column in options.ignore}
    features = [place(column, "features") for column in options.features]
    features = features or [
        number
        for number in range(len(names))
        if number not in ignored and number not in single.values()
    ]
    used = [*single.values(), *features]
    twice = sorted({names[c] for c in used if used.count(c) > 1})
    if twice or not features:
        raise InputError(
            f"The column {twice[0]!r} is given twice."
            if twice
            else "No column is left for features.",
            where=f"{path}, options label, patient, split, features",
            remedy="name each column once, and at least one feature.",
        )
    table = read_table(path, options.form, features, list(single.values()))
    texts = {key: table.texts[names[number]] for key, number in single.items()}
    return Content(
        [names[c] for c in features],
        table.numbers,
        texts["label"],
        texts.get("patient"),
        texts.get("split"),
    )


def _fold(
    content: Content, y: np.ndarray, options: Options, path: Path, seed: int
) -> tuple[Fold, str]:
    if content.split is None:
        return own_fold(
            y,
            content.patient,
            options.test_share,
            seed=seed,
            name=f"csv-{options.file}",
            where=str(path),
        )
    where = f"{path}, column {options.split}"
    part = labels_of(content.split, SPLITS, SPLITS, where=where)
    train, val, test = (np.flatnonzero(part == code) for code in range(len(SPLITS)))
    check_fold((train, val, test), where=where)
    trained = np.bincount(y[train], minlength=len(options.classes))
    if trained.min() < 2:
        name = options.classes[int(trained.argmin())]
        raise InputError(
            f"Class {name} has {trained.min()} training rows in this split; two at least are "
            "needed.",
            where=where,
            remedy="mark more of its rows as `train`.",
        )
    return (train, val, test), f"Split: as the column {options.split} says."


def _scaled(content: Content, fold: Fold, options: Options, path: Path) -> tuple[np.ndarray, str]:
    """Returns the values in [0, 1], float32, and how they came there."""
    values = content.values
    if options.value_range is not None:
        low, high = options.value_range
        _check_range(content, low, high, options, path)
        return _to_unit(values, low, high), (
            f"Scaling: the range [{low:g}, {high:g}] of the entry became [0, 1]."
        )
    training = values[fold[0]]
    together = options.scaling == "together"
    axis = None if together else 0
    low, high = training.min(axis=axis), training.max(axis=axis)
    flat = np.flatnonzero(np.atleast_1d(high == low))
    if together and len(flat):
        raise InputError("All training values are equal.", where=str(path))
    scaled = _to_unit(values, low, np.where(high > low, high, low + 1))
    beyond = int(((values < low) | (values > high)).sum())
    whose = "all columns together" if together else "each column"
    note = (
        f"Scaling: the smallest and largest training value of {whose} became 0 and 1; "
        f"{beyond:,} of the {values.size - training.size:,} other values lay outside and were set "
        "to 0 or 1."
    )
    if len(flat) and not together:
        names = ", ".join(content.names[c] for c in flat[:12].tolist())
        note += f" Columns that have one value in all training rows: {names}."
    return scaled, note


def _to_unit(values: np.ndarray, low: Any, high: Any) -> np.ndarray:
    # Halves first: the difference of two large numbers may be no number.
    return np.clip((values / 2 - low / 2) / (high / 2 - low / 2), 0, 1).astype(np.float32)


def _check_range(content: Content, low: float, high: float, options: Options, path: Path) -> None:
    rows, columns = np.nonzero((content.values < low) | (content.values > high))
    if not len(rows):
        return
    shown = [
        f"row {row + 1}, column {content.names[column]}: {content.values[row, column]:g}"
        for row, column in zip(rows[:10].tolist(), columns[:10].tolist(), strict=True)
    ]
    more = f"\n    and {len(rows) - 10:,} more" if len(rows) > 10 else ""
    raise InputError(
        f"{len(rows):,} values lie outside the declared range [{low:g}, {high:g}]:\n    "
        + "\n    ".join(shown)
        + more,
        where=f"{path}, option value_range",
        remedy="correct them, widen `value_range`, or leave it out: training rows then decide.",
    )


def _ids(path: Path, content: Content) -> pd.DataFrame:
    import pandas as pd

    n = len(content.label)
    columns = {"row_id": np.arange(n), "file": path.name, "position": np.arange(1, n + 1)}
    return pd.DataFrame(columns | ({} if content.patient is None else {"patient": content.patient}))


def own_entry(options: Mapping[str, Any], classes: Sequence[str], shape: Sequence[int]) -> dict:
    """Returns what an entry of the registry need not say: options and source, as plain values."""
    name = options.get("file")
    length = shape[0] if len(shape) == 1 else 0
    return {
        "options": {"classes": list(classes), "length": length, **options},
        "source": {
            "kind": "manual",
            "instructions": f"put {name} there, or correct `file` in the entry's options.",
            "files": [{"name": name}],
        },
    }


ADAPTER = Adapter(spec=Options, adapt=adapt, own_entry=own_entry)
