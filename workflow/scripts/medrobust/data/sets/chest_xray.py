"""Chest X-rays of children: normal against pneumonia.

Source: Kermany et al., "Identifying medical diagnoses and treatable diseases by image-based deep
learning", Cell 172, 2018; Kaggle ``paultimothymooney/chest-xray-pneumonia``: folders ``train``,
``val`` and ``test``, each with ``NORMAL`` and ``PNEUMONIA``, 1,583 and 4,273 JPEG files in all (the
archive holds them twice, and files of macOS that are no images).

The signnet study (Section II.B): resized to 96 x 96, "downsampled to have 1,584 images per class"
(the release has one fewer that is normal), divided 80:20 at random. Here: 96 x 96, three equal
channels, pneumonia reduced at random to the number of normal images, a fifth of each class for
testing. How the images were resized is not said; here they are stretched (bilinear). Some files are
RGB, others grey, and not equally so in both classes: every file is brought to grey first.

Patients are told by file names: ``person<number>_<kind>_<image>`` for pneumonia, and for normal
``IM-<number>-...`` or ``NORMAL2-IM-<number>-...``. Whether person 100 with a virus and person 100
with bacteria are one is not documented; they are taken for one, so that no disjoint split divides
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, checked
from medrobust.data.contract import Adapter
from medrobust.data.formats.images import Images, ImageSpec, read_images
from medrobust.data.prepared.drawn_splits import patient_fold, shares, sized_fold
from medrobust.data.prepared.near_duplicates import Drop, without_repeats
from medrobust.data.prepared.splits import SPLITS, Fold
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.image_sets import (
    ImageFiles,
    assembled,
    balanced_rows,
    file_notes,
    image_files,
    is_whole_release,
)

CLASSES = ("NORMAL", "PNEUMONIA")
RELEASE = {"train": (1341, 3875), "val": (8, 8), "test": (234, 390)}
"""Files of each class in the folders of the release."""

SPEC = ImageSpec(size=96, colour="grey_rgb")

_NAME = re.compile(r"(?:(?:^|/)(train|val|test))?(?:^|/)(NORMAL|PNEUMONIA)/([^/]+)\.jpeg$")
_PATIENT = (re.compile(r"^((?:NORMAL2-)?IM-\d+)-"), re.compile(r"^(person\d+)_(?:bacteria|virus)_"))


class Options(Settings):
    """What the registry may ask of this adapter."""

    split: Literal["random", "patient", "official"] = Field(
        default="random",
        description="random images, whole patients, or the folders of the release for testing",
    )
    test_share: float = Field(default=0.2, gt=0, lt=1, description="share of test images")
    balanced: bool = Field(
        default=True, description="reduce pneumonia at random to the number of normal images"
    )
    drop_duplicates: Drop = Field(
        default="none", description="images left out: none, exact copies, or those that look alike"
    )
    n_train: int = Field(default=240, ge=10, description="training images of a stand-in")
    n_test: int = Field(default=80, ge=4, description="test images of a stand-in")


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool = False,
    processes: int = 1,
) -> Prepared:
    """Returns the X-rays and their split.

    Args:
        options: the fields of :class:`Options`.
        source: "kaggle" or "standin".
        files: raw file by its name ("train/NORMAL/IM-0115-0001.jpeg", ...; none for a stand-in).
        seed: root seed: of the reduction and the split, or of a stand-in.
        allow_subset: accept an incomplete release.
        processes: at most so many processes read files.

    Raises:
        InputError: an option is wrong, raw files are missing, unreadable or too many, or the split
            needs patients and a name does not tell one.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    if source == "standin":
        from medrobust.data.standins.medical_images import medical_standin

        return medical_standin("xray", CLASSES, SPEC, chosen.n_train, chosen.n_test, seed=seed)
    found = image_files(files, lambda name: CLASSES.index(_parts(name)[1]))
    release = np.sum(list(RELEASE.values()), axis=0).tolist()
    complete = is_whole_release(found, CLASSES, release, allow_subset=allow_subset)
    images = read_images(found.paths, SPEC, processes=processes, what="X-rays")
    rows, notes = _chosen_rows(images, found, chosen, seed)
    columns = {
        "patient": np.array([patient_of(name) for name in found.names], object),
        "official_split": np.array([_parts(name)[0] for name in found.names], object),
    }

    def split(y: np.ndarray) -> list[Fold]:
        patient, folder = (column[rows] for column in columns.values())
        return [_fold(y, patient, folder, chosen, seed)]

    return assembled(
        found,
        images,
        rows,
        split,
        classes=CLASSES,
        complete=complete,
        notes=(*notes, _split_note(chosen, seed)),
        columns=columns,
    )


def _chosen_rows(
    images: Images, found: ImageFiles, options: Options, seed: int
) -> tuple[np.ndarray, list[str]]:
    """Returns the rows that stay, and notes for the card."""
    made = (
        "All were brought to 8-bit grey, stretched to 96 x 96 (bilinear), and repeated in three "
        "channels."
    )
    notes = [*file_notes(images, found.y, CLASSES, made)]
    rows, left_out = without_repeats(images.x, found.y, options.drop_duplicates)
    notes += left_out
    if options.balanced:
        before = np.bincount(found.y[rows])
        rows = rows[balanced_rows(found.y[rows], seed=seed, name="chest_xray")]
        drawn = (
            f"those of the larger one, which has {before.max():,}, were drawn at random (seed "
            f"{seed})"
            if before.max() > before.min()
            else "none had to be left out"
        )
        notes.append(f"Balanced: {before.min():,} of each class; {drawn}.")
    return rows, notes


def patient_of(name: str) -> str:
    """Returns the patient that a file name tells, or "" if it has another form."""
    _, kind, stem = _parts(name)
    match = _PATIENT[CLASSES.index(kind)].match(stem)
    return match[1] if match else ""


def _parts(name: str) -> tuple[str, str, str]:
    """Returns folder ("" where the classes are not divided), class and stem of a file."""
    match = _NAME.search(name)
    if match is None:
        raise InputError(
            f"The file {name} is not one of the chest X-ray release.",
            remedy="move it out of the raw folder; there should be train, val and test, each with "
            "NORMAL/*.jpeg and PNEUMONIA/*.jpeg, or these two alone.",
        )
    return match[1] or "", match[2], match[3]


def _fold(
    y: np.ndarray, patient: np.ndarray, folder: np.ndarray, options: Options, seed: int
) -> Fold:
    if options.split == "official":
        if (folder == "").any():
            raise InputError(
                f"{(folder == '').sum():,} files lie in none of the folders train, val and test, "
                "which this split needs.",
                where="config/datasets.yaml, option split: official",
                remedy="unpack the release with its folders, or use split: random or patient.",
            )
        train, val, test = (np.flatnonzero(folder == part) for part in SPLITS)
        return train, val, test
    if options.split == "random":
        return sized_fold(y, shares(y, options.test_share), seed=seed, name="chest_xray")
    if (patient == "").any():
        raise InputError(
            f"{(patient == '').sum()} file names do not tell a patient, which this split needs.",
            where="config/datasets.yaml, option split: patient",
            remedy="use the release's file names, or split: random.",
        )
    return patient_fold(y, patient, options.test_share, seed=seed, name="chest_xray")


def _split_note(options: Options, seed: int) -> str:
    share = f"{options.test_share:.0%} of each class"
    return {
        "random": f"Split: {share} at random for testing (seed {seed}); images of one patient may "
        "be on both sides.",
        "patient": f"Split: whole patients, drawn at random (seed {seed}) until {share} are for "
        "testing. Patients are those that file names tell.",
        "official": "Split: the folders train, val and test of the release.",
    }[options.split]


ADAPTER = Adapter(spec=Options, adapt=adapt)
