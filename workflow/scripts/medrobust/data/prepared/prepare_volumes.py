"""Turns raw volumes with masks into a prepared data set: nnU-Net's layout, split, card, preview.

Each volume is read once, examined and written; only a few are in memory at a time. What the folder
holds: :mod:`medrobust.data.prepared.volumes`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.data.contract import adapter_of
from medrobust.data.formats.nifti_files import Volume, is_packed, packed, write_volume
from medrobust.data.prepared.cards import card_markdown, common_facts
from medrobust.data.prepared.prepare import (
    SUBSET,
    check_facts,
    compare_counts,
    stop_on_errors,
)
from medrobust.data.prepared.raw_files import held_files
from medrobust.data.prepared.splits import write_split
from medrobust.data.prepared.volume_audit import CaseFacts, audit_volumes, case_counts, case_facts
from medrobust.data.prepared.volume_previews import write_volume_preview
from medrobust.data.prepared.volumes import (
    RAW,
    Case,
    VolumeSet,
    image_name,
    label_name,
    load_volumes,
)


def prepare_volumes(
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
    """Prepares a set of volumes and writes its folder; ``card.json`` is written last.

    The arguments are those of :func:`medrobust.data.prepared.prepare.prepare`. At most
    ``processes`` volumes are read at a time, in threads, since unpacking and hashing are done
    outside Python.

    Returns:
        The data card.

    Raises:
        InputError: an option is wrong, raw files are missing, damaged or no longer those of the
            manifest, image and mask do not fit together, or counts differ from the official
            release.
    """
    check_facts(facts)
    adapt = adapter_of(adapter, "volumes").adapt
    folder = Path(out_dir)
    with held_files(manifest, source, processes) as files:
        data = adapt(options, source, files, seed=seed, allow_subset=allow_subset)
        _check_registry(dataset, data, facts)
        raw = _emptied(folder, data)
        with ThreadPoolExecutor(processes) as pool:
            cases = list(pool.map(lambda case: _examined(case, data, raw), data.cases))
    findings = audit_volumes(cases, data.class_names, data.fold)
    for finding in findings:
        logger.info("%s: %s: %s", dataset, finding.level, finding.text)
    stop_on_errors(dataset, findings)
    counts = case_counts(cases, data.class_names, data.fold)
    if not data.synthetic:
        compare_counts(dataset, counts, facts.get("official", {}), allow_subset)
    card = {
        "form": "volumes",
        "nnunet_folder": data.folder,
        "channels": list(data.channels),
        "cases": len(cases),
    } | common_facts(
        dataset,
        data,
        [counts],
        source=source if data.complete or data.synthetic else SUBSET,
        origin=source,
        facts=facts,
        findings=findings,
        options=options,
        manifest=manifest,
        seed=seed,
    )
    _write(folder, raw, data, cases, card)
    return card


def _check_registry(dataset: str, data: VolumeSet, facts: Mapping[str, Any]) -> None:
    made = {"class_names": list(data.class_names), "shape": [len(data.channels)]}
    for key, value in made.items():
        if key in facts and list(facts[key]) != value:
            raise InputError(
                f"The {key} of {dataset} are {list(facts[key])} in the registry, but its options "
                f"make {value}.",
                where=f"config/datasets.yaml, data set {dataset}",
                remedy="make its `options` agree with its `classes` and `shape`.",
            )


def _emptied(folder: Path, data: VolumeSet) -> Path:
    """Returns the folder for nnU-Net, without files of an earlier run."""
    # Without its card a folder is no data set: an interrupted run leaves none behind.
    (folder / "card.json").unlink(missing_ok=True)
    io.remove_left_parts(folder)
    raw = folder / RAW / data.folder
    if raw.exists():
        shutil.rmtree(raw)
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    return raw


def _examined(case: Case, data: VolumeSet, raw: Path) -> CaseFacts:
    """Reads a case, writes it in nnU-Net's layout, and returns what was found."""
    image, label = case.read()
    _write_image(case, image, raw / "imagesTr")
    target = raw / "labelsTr" / label_name(case.name)
    if case.label_path is None:
        write_volume(target, label.data, label.affine)
    else:
        _copy(case.label_path, target)
    return case_facts(
        case.name, image, label, channels=len(data.channels), classes=len(data.class_names)
    )


def _write_image(case: Case, image: Volume, folder: Path) -> None:
    """Writes one file per channel; a file with one channel is copied as it is."""
    if image.data.ndim == 3 and case.image_path is not None:
        _copy(case.image_path, folder / image_name(case.name, 0))
        return
    channels = image.data[..., None] if image.data.ndim == 3 else image.data
    for number in range(channels.shape[-1]):
        path = folder / image_name(case.name, number)
        write_volume(path, channels[..., number], image.affine)


def _copy(source: Path, target: Path) -> None:
    """Copies a volume to a ``.nii.gz``; one that is not packed is packed."""
    with io.atomic_path(target) as temporary:
        if is_packed(source):
            shutil.copyfile(source, temporary)
        else:
            temporary.write_bytes(packed(source.read_bytes()))


def _write(
    folder: Path,
    raw: Path,
    data: VolumeSet,
    cases: Sequence[CaseFacts],
    card: Mapping[str, Any],
) -> None:
    io.write_json(raw / "dataset.json", _nnunet_dataset(data))
    io.write_table(folder / "ids.csv", _ids(raw, data, cases))
    write_split(folder / "split_fold0.csv", *data.fold)
    train, val, _ = ([data.cases[row].name for row in part] for part in data.fold)
    io.write_json(folder / "splits_final.json", [{"train": train, "val": val}])
    io.write_text(folder / "card.md", card_markdown(card))
    io.write_json(folder / "card.json", card)
    try:
        write_volume_preview(folder / "preview.png", load_volumes(folder))
    except BaseException:
        (folder / "card.json").unlink()
        raise


def _nnunet_dataset(data: VolumeSet) -> dict[str, Any]:
    """Returns ``dataset.json`` of nnU-Net, version 2; the test cases are among the training files.

    Any channel name but those that nnU-Net reserves (such as "CT") makes it standardise each
    volume by itself.
    """
    return {
        "channel_names": {str(number): name for number, name in enumerate(data.channels)},
        "labels": {name: number for number, name in enumerate(data.class_names)},
        "numTraining": len(data.cases),
        "file_ending": ".nii.gz",
    }


def _ids(raw: Path, data: VolumeSet, cases: Sequence[CaseFacts]) -> Any:
    """Returns one row per case: its files with their SHA-256, geometry, range, voxels per class."""
    import pandas as pd

    rows = []
    for number, (case, found) in enumerate(zip(data.cases, cases, strict=True)):
        images = [raw / "imagesTr" / image_name(case.name, c) for c in range(len(data.channels))]
        label = raw / "labelsTr" / label_name(case.name)
        rows.append(
            {
                "row_id": number,
                "case": case.name,
                "raw_image": case.image_path.name if case.image_path else "generated",
                "image_sha256": " ".join(io.sha256_of_file(path) for path in images),
                "label_sha256": io.sha256_of_file(label),
                "shape": " ".join(map(str, found.shape)),
                "spacing": " ".join(f"{size:.6g}" for size in found.spacing),
                "orientation": found.orientation,
                "low": found.low,
                "high": found.high,
                **{f"voxels_{k}": found.voxels[k] for k in range(len(data.class_names))},
            }
        )
    return pd.DataFrame(rows)
