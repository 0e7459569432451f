"""Jobs that get raw files and turn them into arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.data.registry import OWN, DatasetEntry, get_dataset, load_registry

RAW = Path("resources/raw")
SUBSET = "subset"


def fetch(
    *,
    dataset: str,
    source: str,
    raw_dir: str | None,
    allow_subset: bool,
    manifest: str,
    own_datasets: Mapping[str, Any] | None = None,
) -> None:
    """Finds or downloads the raw files of a data set and writes which they are.

    Args:
        dataset: registered name.
        source: a source of the registry entry.
        raw_dir: folder that may hold the files already, searched first and never changed.
        allow_subset: accept an incomplete release.
        manifest: JSON file to write: names, paths, sizes, SHA-256.
        own_datasets: entries beside those of the registry.
    """
    from medrobust.data.fetching.fetch import locate_or_fetch, write_manifest

    registry = load_registry(entries=own_datasets)
    entry = get_dataset(registry, dataset)
    located = locate_or_fetch(
        entry,
        source,
        [Path(raw_dir), RAW] if raw_dir else [RAW],
        RAW,
        allow_subset=allow_subset,
        others=list(registry.values()),
    )
    write_manifest(manifest, located)


def fetch_weights(
    *, name: str, definition: Mapping[str, Any], raw_dir: str | None, manifest: str
) -> None:
    """Finds or downloads weights that models begin with, and writes which file they are.

    Args:
        name: of the weights.
        definition: their entry in config/weights.yaml or ``own_weights``.
        raw_dir: folder that may hold ``weights/<file>`` already, searched first and never changed.
        manifest: JSON file to write: name, title, path, size, SHA-256, origin.
    """
    from medrobust.data.weights import Weights, locate_or_download

    raw_dirs = [Path(raw_dir), RAW] if raw_dir else [RAW]
    found = locate_or_download(name, Weights(**definition), raw_dirs, RAW)
    io.write_json(manifest, found)


def prepare(
    *,
    dataset: str,
    source: str,
    label: str,
    out_dir: str,
    seed: int,
    standin: Mapping[str, Any] | None,
    allow_subset: bool,
    processes: int,
    manifest: str | None = None,
    own_datasets: Mapping[str, Any] | None = None,
) -> None:
    """Turns raw files (or a generator) into arrays, split and card.

    Args:
        dataset: registered name.
        source: "standin" or the source the manifest was made for.
        label: the source's name in paths: ``source``, or "subset".
        manifest: the file written by :func:`fetch`, None for a stand-in.
        out_dir: folder of the data set.
        seed: root seed.
        standin: sizes of a stand-in (``train``, ``test``), else None.
        allow_subset: accept an incomplete release.
        processes: processes that read records side by side.
        own_datasets: entries beside those of the registry.
    """
    from medrobust.data.sets.engine.own_data import check_stated

    entry = get_dataset(load_registry(entries=own_datasets), dataset)
    options = dict(entry.options)
    if entry.form == "volumes":
        from medrobust.data.prepared.prepare_volumes import prepare_volumes as prepare_dataset
    else:
        from medrobust.data.prepared.prepare import prepare as prepare_dataset
    if standin is not None and entry.form == "arrays":
        options |= {"n_train": standin["train"], "n_test": standin["test"]}
    card = prepare_dataset(
        dataset,
        entry.adapter,
        options,
        source,
        _manifest(dataset, manifest) if manifest else None,
        Path(out_dir),
        seed,
        _facts(entry, source),
        allow_subset=allow_subset,
        processes=processes,
    )
    if source == OWN:
        try:
            check_stated(dataset, card["counts"]["found"]["fold0"], entry.counts.official)
        except InputError:
            (Path(out_dir) / "card.json").unlink()
            raise
    if card["source"] == SUBSET != label:
        # Without its card the folder is no data set.
        (Path(out_dir) / "card.json").unlink()
        raise InputError(
            f"The files of {dataset} look complete by name and size but hold only a part.",
            where=out_dir,
            remedy="get the full files; an incomplete release must be told by missing or smaller "
            "files to be labelled `subset`.",
        )


def _manifest(dataset: str, path: str) -> dict[str, Any]:
    try:
        return io.read_json(path)
    except FileNotFoundError:
        raise InputError(
            f"The raw files of {dataset} have not been looked for yet.",
            where=path,
            remedy=f"run `python -m medrobust fetch {dataset}` first, with the same --config.",
        ) from None


def _facts(entry: DatasetEntry, source: str) -> dict[str, Any]:
    """Returns what a card states of the release."""
    known = entry.sources.get(source)
    # There is no release of a user's own data: what the entry says of it is checked apart.
    released = source != OWN and (known is None or known.same_rows)
    return {
        "title": entry.title,
        "citation": list(entry.citation),
        "licence": entry.licence,
        "version": known.version if known else None,
        "class_names": list(entry.classes),
        "shape": list(entry.shape),
        "official": entry.counts.official if released else {},
        "paper": entry.counts.paper,
        "folds": entry.folds,
    }
