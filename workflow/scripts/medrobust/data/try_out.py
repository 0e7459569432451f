"""Reads data of the user's own as preparing will, and writes nothing: to say what is wrong.

Raw files of a release were read before by others; of a user's own nobody knows whether their cells
are numbers or their images whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medrobust.data.contract import adapter_of
from medrobust.data.fetching.layouts import official_name
from medrobust.data.fetching.locate import Located
from medrobust.data.prepared.audit import audit, class_counts
from medrobust.data.prepared.prepare import check_shape, stop_on_errors
from medrobust.data.registry import OWN, DatasetEntry
from medrobust.data.sets.engine.own_data import check_stated


def raw_names(located: Located) -> dict[str, Path]:
    """Returns the files at hand by the names under which an adapter gets them."""
    named = dict(located.files)
    for tree in located.source.trees:
        for path in located.trees[tree.pattern]:
            named[str(official_name(path, tree.pattern))] = path
    return named


def try_out(
    dataset: DatasetEntry, files: Mapping[str, Path], *, seed: int, processes: int = 2
) -> dict[str, dict[str, int]]:
    """Returns the rows of each split and class (split -> class -> number).

    Args:
        dataset: an entry whose source is the user's own.
        files: raw file by name.
        seed: root seed.
        processes: at most so many processes read files.

    Raises:
        InputError: as preparing would.
    """
    adapt = adapter_of(dataset.adapter, "arrays").adapt
    data = adapt(dataset.options, OWN, files, seed=seed, allow_subset=False, processes=processes)
    check_shape(dataset.name, data, {"class_names": dataset.classes, "shape": dataset.shape})
    stop_on_errors(dataset.name, audit(data))
    found = class_counts(data.y, data.class_names, data.folds[0])
    check_stated(dataset.name, found, dataset.counts.official)
    return found
