"""Turns raw files into a prepared data set: arrays, splits, card, preview.

An adapter is one module that knows one raw format. It ends with an object of
:class:`medrobust.data.contract.Adapter` and is named in ``ADAPTERS`` of
:mod:`medrobust.core.registry`; everything after it (checks, audit, card, files) is the same for all
data sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.data.contract import adapter_of
from medrobust.data.prepared.audit import AuditFinding, audit, class_counts
from medrobust.data.prepared.cards import build_card, card_markdown
from medrobust.data.prepared.previews import write_preview
from medrobust.data.prepared.raw_files import held_files
from medrobust.data.prepared.splits import write_split
from medrobust.data.prepared.store import Prepared

FACTS = (
    "title",
    "citation",
    "licence",
    "version",
    "class_names",
    "shape",
    "official",
    "paper",
    "folds",
)
"""What may be told of a data set's release; any other key is a mistake of the caller."""

SUBSET = "subset"


def prepare(
    dataset: str,
    adapter: str,
    options: Mapping[str, Any],
    source: str,
    manifest: Mapping[str, Any] | None,
    out_dir: Path,
    seed: int,
    facts: Mapping[str, Any],
    allow_subset: bool = False,
    processes: int = 2,
) -> dict[str, Any]:
    """Prepares a data set and writes its folder; ``card.json``, read first, is written last.

    Args:
        dataset: registered name.
        adapter: registered name of the adapter.
        options: the adapter's settings.
        source: source of the raw files, or "standin".
        manifest: what was fetched (``files``: name, path, bytes, sha256), None for a stand-in.
        out_dir: folder to write; each file appears whole.
        seed: root seed.
        facts: of the registry: the keys ``FACTS`` (``official`` and ``paper`` counts are
            split -> class -> number); all optional.
        allow_subset: accept an incomplete release, labelled "subset".
        processes: at most so many processes may read files side by side.

    Returns:
        The data card.

    Raises:
        InputError: the adapter or an option is unknown, raw files are missing, damaged or no
            longer those of the manifest, or counts differ from the official release.
        ValueError: ``facts`` has an unknown key (which would else be ignored in silence).
    """
    check_facts(facts)
    adapt = adapter_of(adapter, "arrays").adapt
    with held_files(manifest, source, processes) as files:
        data = adapt(
            options, source, files, seed=seed, allow_subset=allow_subset, processes=processes
        )
    check_shape(dataset, data, facts)
    _check_folds(dataset, len(data.folds), facts)
    label = source if data.complete or data.synthetic else SUBSET
    if not data.synthetic:
        _check_counts(dataset, data, facts, allow_subset)
    findings = audit(data)
    for finding in findings:
        logger.info("%s: %s: %s", dataset, finding.level, finding.text)
    stop_on_errors(dataset, findings)
    card = build_card(
        dataset,
        data,
        source=label,
        origin=source,
        facts=facts,
        findings=findings,
        options=options,
        manifest=manifest,
        seed=seed,
    )
    _write(Path(out_dir), data, card)
    return card


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raises a ValueError if ``facts`` has a key that is not in ``FACTS``."""
    unknown = set(facts) - set(FACTS)
    if unknown:
        raise ValueError(f"unknown facts: {', '.join(sorted(unknown))}")


def check_shape(dataset: str, data: Prepared, facts: Mapping[str, Any]) -> None:
    """Holds what the adapter made against the registry's classes and shape."""
    made = {"class_names": list(data.class_names), "shape": list(data.x.shape[1:])}
    for key, value in made.items():
        if key in facts and list(facts[key]) != value:
            raise InputError(
                f"The {key} of {dataset} are {list(facts[key])} in the registry, but the adapter "
                f"made {value}.",
                where=f"config/datasets.yaml, data set {dataset}",
                remedy="make its `options` agree with its `classes` and `shape`.",
            )


def _check_folds(dataset: str, made: int, facts: Mapping[str, Any]) -> None:
    if facts.get("folds", made) != made:
        raise InputError(
            f"The registry says that {dataset} has {facts['folds']} folds, but the adapter made "
            f"{made}.",
            where=f"config/datasets.yaml, data set {dataset}, key folds",
            remedy="make `folds` agree with its `options`.",
        )


def _check_counts(
    dataset: str, data: Prepared, facts: Mapping[str, Any], allow_subset: bool
) -> None:
    """Compares what was found with the official release, as far as the registry states it.

    Where the release has no validation rows, those here were taken from its training rows.
    """
    official = facts.get("official", {})
    train, val, test = data.folds[0]
    if "train" in official and "val" not in official:
        train, val = np.concatenate([train, val]), val[:0]
    found = class_counts(data.y, data.class_names, (train, val, test))
    compare_counts(dataset, found, official, allow_subset)


def compare_counts(
    dataset: str,
    found: Mapping[str, Mapping[str, int]],
    official: Mapping[str, Mapping[str, int]],
    allow_subset: bool,
) -> None:
    """Compares counts (split -> class -> number) with the official ones, where these are stated.

    Raises:
        InputError: they differ and ``allow_subset`` is false.
    """
    differences = []
    for split, counts in official.items():
        have = found.get(split, {})
        for name, number in counts.items():
            n = have.get(name, sum(have.values()) if name == "all" else 0)
            if n != number:
                differences.append(f"{split} {name}: {n:,} found, {number:,} in the release")
    if differences and not allow_subset:
        raise InputError(
            f"The counts of {dataset} differ from the official release:\n    "
            + "\n    ".join(differences),
            where="config/datasets.yaml, key counts.official",
            remedy="get the release again, or set `allow_subset: true` to use what is there "
            "(labelled `subset`).",
        )
    for difference in differences:
        logger.warning("%s: %s", dataset, difference)


def stop_on_errors(dataset: str, findings: list[AuditFinding]) -> None:
    """Raises an InputError if a finding is an error."""
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise InputError(
            f"The data of {dataset} cannot be used:\n    "
            + "\n    ".join(f"{f.text} (rows {', '.join(map(str, f.rows))})" for f in errors),
            remedy="get the raw files again.",
        )


def _write(folder: Path, data: Prepared, card: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Without its card a folder is no data set: an interrupted run leaves none behind.
    (folder / "card.json").unlink(missing_ok=True)
    io.remove_left_parts(folder)
    io.write_array(folder / "x.npy", data.x)
    io.write_array(folder / "y.npy", data.y)
    io.write_table(folder / "ids.csv", data.ids)
    for number, fold in enumerate(data.folds):
        write_split(folder / f"split_fold{number}.csv", *fold)
    title = f"{card['title']} ({card['source']})"
    write_preview(folder / "preview.png", data, title, subset=card["source"] == SUBSET)
    io.write_text(folder / "card.md", card_markdown(card))
    io.write_json(folder / "card.json", card)
