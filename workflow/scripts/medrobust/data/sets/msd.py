"""Tasks of the Medical Segmentation Decathlon: heart, hippocampus, prostate.

Source: Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13:4128, 2022;
one tar archive per task with ``imagesTr``, ``labelsTr`` (used here), ``imagesTs`` (without masks,
not used) and ``dataset.json``.

The ima study (section on segmentation) trains nnU-Net on 2D slices. Its split is that of nnU-Net's
first fold (five folds of the sorted cases, shuffled with seed 12345), whose validation cases are
divided again: the first third, in the order of names, is for validation, the rest for testing
(public code). That gives the paper's 16, 1, 3 cases (heart), 208, 17, 35 (hippocampus) and 25, 2, 5
(prostate).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, checked
from medrobust.data.contract import Adapter
from medrobust.data.formats.nifti_files import read_volume
from medrobust.data.prepared.splits import Fold
from medrobust.data.prepared.volumes import Case, VolumeSet
from medrobust.data.standins.volumes import standin_pair

_ENDING = ".nii.gz"
_MAX_LIST_BYTES = 10**6
#: Names of channels by which nnU-Net chooses another standardisation, in small letters (nnunetv2
#: 2.8.1, ``map_channel_name_to_normalization``). Noise levels are in standard deviations of a case.
_OTHERWISE_STANDARDISED = ("ct", "nonorm", "rescale_to_0_1", "rgb_to_0_1")


class Options(Settings):
    """What the registry may ask of this adapter."""

    task: str = Field(pattern=r"^Task\d{2}_[A-Za-z]+$", description="folder of the release")
    channels: list[str] = Field(min_length=1, description="name of each channel")
    labels: list[str] = Field(min_length=2, description="name of each value of a mask, from 0")
    cases: int = Field(ge=10, description="cases with masks in the release")
    folds: int = Field(default=5, ge=2, description="folds, of which the first is used")
    random_state: int = Field(default=12345, ge=0, description="seed of the folds")
    standin_cases: int = Field(default=15, ge=10, description="cases of a stand-in")

    @field_validator("channels")
    @classmethod
    def _standardised_alike(cls, channels: list[str]) -> list[str]:
        for name in channels:
            if name.casefold() in _OTHERWISE_STANDARDISED:
                raise ValueError(
                    f"nnU-Net does not standardise a channel named {name!r} by the case, and noise "
                    "levels are in standard deviations of the case; give it another name"
                )
        return channels

    @field_validator("labels")
    @classmethod
    def _plain_labels(cls, labels: list[str]) -> list[str]:
        if labels[0] != "background":
            raise ValueError(
                f"the first label, of value 0, must be 'background' for nnU-Net, not {labels[0]!r}"
            )
        twice = sorted({name for name in labels if labels.count(name) > 1})
        if twice:
            raise ValueError(f"the label {twice[0]!r} is there twice")
        if "ignore" in labels:
            raise ValueError(
                "nnU-Net leaves pixels labelled 'ignore' out of training, which no training here "
                "does; give the label another name, or the pixels another value"
            )
        return labels

    @property
    def nnunet_folder(self) -> str:
        """The folder's name in nnU-Net (version 2), such as ``Dataset004_Hippocampus``."""
        number, name = self.task.removeprefix("Task").split("_")
        return f"Dataset{int(number):03d}_{name}"


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool = False,
) -> VolumeSet:
    """Returns the cases and their split; no volume is read yet.

    Args:
        options: the fields of :class:`Options`.
        source: "official" or "standin".
        files: raw file by its name ("Task04_Hippocampus/imagesTr/....nii.gz"; none for a stand-in).
        seed: root seed of a stand-in; the split has a seed of its own.
        allow_subset: accept an incomplete release.

    Raises:
        InputError: an option is wrong, an image has no mask or a mask no image, cases are missing,
            or the release's ``dataset.json`` states other channels, labels or cases.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options of msd")
    synthetic = source == "standin"
    if synthetic:
        cases = [
            Case(
                f"standin_{number:03d}",
                partial(standin_pair, number, len(chosen.channels), len(chosen.labels), seed),
            )
            for number in range(chosen.standin_cases)
        ]
        notes: tuple[str, ...] = ("SYNTHETIC: ellipsoids with concentric parts in noise.",)
    else:
        cases = _paired(files, chosen, allow_subset)
        notes = _release_notes(files, chosen, cases)
    if not synthetic and len(cases) < chosen.cases:
        notes += ("The split is drawn over the cases at hand: it is not that of the release.",)
    return VolumeSet(
        folder=chosen.nnunet_folder,
        cases=cases,
        channels=tuple(chosen.channels),
        class_names=tuple(chosen.labels),
        fold=paper_fold(len(cases), chosen.folds, chosen.random_state),
        synthetic=synthetic,
        complete=synthetic or len(cases) == chosen.cases,
        notes=(
            *notes,
            f"Split: the first of {chosen.folds} folds over the sorted cases (seed "
            f"{chosen.random_state}), as nnU-Net draws it; the first third of its validation cases "
            "is for validation, the rest for testing.",
            "Values are the release's. nnU-Net standardises each volume by itself, and so does "
            "medrobust.data.prepared.volumes.load_volumes.",
        ),
    )


def paper_fold(n_cases: int, folds: int = 5, random_state: int = 12345) -> Fold:
    """Returns the ima study's split of sorted cases: row numbers of training, validation, test."""
    from sklearn.model_selection import KFold

    divided = KFold(folds, shuffle=True, random_state=random_state).split(np.arange(n_cases))
    train, held_out = next(divided)
    third = len(held_out) // 3
    return train.astype(np.int64), held_out[:third], held_out[third:]


def _paired(files: Mapping[str, Path], options: Options, allow_subset: bool) -> list[Case]:
    images, labels = (_by_case(files, options, kind) for kind in ("imagesTr", "labelsTr"))
    alone = sorted(images.keys() ^ labels.keys())
    if alone:
        raise InputError(
            f"{len(alone)} cases have an image or a mask but not both, such as {alone[0]}.",
            where=options.task,
            remedy="unpack the archive again, or remove what stands alone.",
        )
    if len(images) != options.cases and not (allow_subset and 10 <= len(images) < options.cases):
        raise InputError(
            f"There are {len(images)} cases; the release has {options.cases}.",
            where=options.task,
            remedy="get the release again; `allow_subset: true` takes 10 or more of its cases.",
        )
    return [
        Case(name, partial(_read_pair, images[name], labels[name]), images[name], labels[name])
        for name in sorted(images)
    ]


def _read_pair(image: Path, label: Path) -> tuple[Any, Any]:
    return read_volume(image), read_volume(label)


def _by_case(files: Mapping[str, Path], options: Options, kind: str) -> dict[str, Path]:
    return {
        PurePosixPath(name).name.removesuffix(_ENDING): path
        for name, path in files.items()
        if PurePosixPath(name).parent.as_posix() == f"{options.task}/{kind}"
    }


def _release_notes(
    files: Mapping[str, Path], options: Options, cases: list[Case]
) -> tuple[str, ...]:
    """Holds the release's ``dataset.json``, if it is there, against the registry."""
    path = files.get(f"{options.task}/dataset.json")
    if path is None:
        return ("The release's dataset.json was not there; names are the registry's.",)
    stated = _listing(path)
    expected = {
        "modality": {str(n): name for n, name in enumerate(options.channels)},
        "labels": {str(n): name for n, name in enumerate(options.labels)},
        "numTraining": options.cases,
    }
    for key, value in expected.items():
        if _plain(stated.get(key)) != _plain(value):
            raise InputError(
                f"The key {key!r} is {stated.get(key)!r}; the registry expects {value!r}.",
                where=str(path),
                remedy="get the release again.",
            )
    listed = {_case_of(entry) for entry in stated.get("training") or []}
    strange = sorted({case.name for case in cases} - listed)
    if strange:
        raise InputError(
            f"{len(strange)} cases are not in this list, such as {strange[0]}.",
            where=str(path),
            remedy="remove files that are not the release's.",
        )
    return ("Channels, labels and cases are those of the release's dataset.json.",)


def _plain(value: Any) -> Any:
    """Returns names in small letters: only their spelling may differ."""
    if isinstance(value, dict):
        return {str(key): str(name).strip().lower() for key, name in value.items()}
    return value


def _case_of(entry: Any) -> str:
    image = entry.get("image", "") if isinstance(entry, dict) else ""
    return PurePosixPath(str(image)).name.removesuffix(_ENDING)


def _listing(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            stated = json.loads(file.read(_MAX_LIST_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"This is not JSON ({error}).", where=str(path), remedy="get the release again."
        ) from None
    if not isinstance(stated, dict) or not isinstance(stated.get("training"), list):
        raise InputError("This is not a list of cases.", where=str(path))
    return stated


ADAPTER = Adapter(spec=Options, form="volumes", adapt=adapt)
