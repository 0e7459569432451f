"""Writes the entry of data of the user's own: what stands in a CSV file, or in folders of images.

What ``python -m medrobust describe`` prints is a file for ``--configfile``: classes, shape and
counts as they were found, so that studies are held against them before any work.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.schema import checked
from medrobust.data.fetching.layouts import is_clutter
from medrobust.data.fetching.locate import locate
from medrobust.data.formats.csv_tables import Form, column_names, column_of, read_table
from medrobust.data.registry import OWN, load_registry
from medrobust.data.sets import csv_table, image_folders
from medrobust.data.try_out import raw_names, try_out

MOST_CLASSES = 50
SIZE = 64
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


def describe(path: str | Path, given: Mapping[str, Any], *, seed: int) -> str:
    """Returns the text of a configuration file with the entry of a data set.

    Args:
        path: a CSV file, or a folder with a folder of images per class; the CSV file lies in a
            folder of its own, whose name becomes that of the data set.
        given: options of the adapter, and ``classes`` in the order wanted; as far as they are
            given.
        seed: root seed, of the split that is tried.

    Raises:
        InputError: the name cannot be that of a data set, or the data cannot be used.
    """
    place = Path(path)
    if not place.exists():
        raise InputError("There is no such file or folder.", where=str(path))
    folder = place if place.is_dir() else place.absolute().parent
    name, raw_dir = folder.name, folder.parent
    if not _NAME.fullmatch(name):
        raise InputError(
            f"The folder's name {name!r} cannot be that of a data set.",
            where=str(folder),
            remedy="use small letters, digits and underscores, such as my_data/pulse/.",
        )
    values = _of_folders(place, dict(given)) if place.is_dir() else _of_table(place, dict(given))
    entry = load_registry(entries={name: values})[name]
    counts = try_out(entry, raw_names(locate(entry, OWN, [raw_dir])), seed=seed)
    # Which patients are for testing hangs on the seed; how many rows of a class does not.
    by_patient = values["options"].get("patient") is not None
    values["counts"] = {"official": {"all": counts["all"]} if by_patient else counts}
    return _written(name, str(raw_dir), values)


def _of_table(path: Path, given: dict[str, Any]) -> dict[str, Any]:
    classes = given.pop("classes", None)
    options = {"file": path.name, **given}
    if "label" not in options:
        raise InputError(
            "Which column holds the label is not said.",
            where=str(path),
            remedy="give --label, the name of the column or its number from 0 (-1: the last).",
        )
    known = checked(
        csv_table.Options, options | {"classes": classes or ["", " "]}, file="command line"
    )
    texts = _labels_in(path, known.form, known.label)
    if classes is None:
        classes = [_plain(text) for text in texts]
        if classes != texts:
            options["labels"] = texts
    known = checked(csv_table.Options, options | {"classes": classes}, file="command line")
    content = csv_table.read_content(path, known)
    return {
        "title": path.stem,
        "adapter": "csv_table",
        "classes": classes,
        "shape": [len(content.names)],
        "options": options,
    }


def _labels_in(path: Path, form: Form, label: str | int) -> list[str]:
    """Returns what stands in the column of the label, sorted, numbers by value."""
    place = column_of(column_names(path, form), label, path=path, key="label")
    cells = next(iter(read_table(path, form, [], [place]).texts.values()))
    found = np.unique(cells.astype(str)).tolist()
    if not 2 <= len(found) <= MOST_CLASSES:
        many = "only one class" if len(found) < 2 else f"{len(found):,} different cells"
        raise InputError(
            f"The column {label!r} has {many}.",
            where=str(path),
            remedy=f"name the column of the class, of which there are 2 to {MOST_CLASSES}.",
        )
    return sorted(found, key=_by_value)


def _by_value(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _plain(text: str) -> str:
    """Returns a whole number that is written as another (``1.000e+00``) plainly, as a name."""
    value = _by_value(text)[0]
    return f"{value:.0f}" if math.isfinite(value) and value == int(value) else text


def _of_folders(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    classes = given.pop("classes", None) or sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not is_clutter(entry.name)
    )
    if len(classes) < 2:
        raise InputError(
            f"There are {len(classes)} folders here; there must be one for each class.",
            where=str(folder),
            remedy="put the images into a folder per class, such as benign/ and malignant/.",
        )
    colour, size = given.pop("colour", "grey"), given.pop("size", SIZE)
    options = {key: value for key, value in given.items() if value is not None}
    checked(
        image_folders.Options,
        options | {"classes": classes, "colour": colour, "size": size},
        file="command line",
    )
    return {
        "title": folder.name,
        "adapter": "image_folders",
        "classes": classes,
        "shape": [1 if colour == "grey" else 3, size, size],
        "options": options,
    }


def _written(name: str, raw_dir: str, values: Mapping[str, Any]) -> str:
    import yaml

    class Flow(yaml.SafeDumper):
        pass

    def sequence(dumper: yaml.SafeDumper, items: Sequence[Any]) -> yaml.Node:
        return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)

    Flow.add_representer(list, sequence)
    content = {"raw_dir": raw_dir, "own_datasets": {name: dict(values)}}
    text = yaml.dump(content, Dumper=Flow, sort_keys=False, allow_unicode=True, width=100)
    return f"# Written by `python -m medrobust describe`. Use it with --configfile.\n{text}"
