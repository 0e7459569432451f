"""SARS-CoV-2 CT: slices of chest CT scans, with COVID-19 or without.

Source: Soares, Angelov, Biaso, Froes, Abe, "SARS-CoV-2 CT-scan dataset: a large dataset of real
patients CT scans for SARS-CoV-2 identification", medRxiv 2020; Kaggle
``plameneduardo/sarscov2-ctscan-dataset``: folders ``COVID`` (1,252 PNG files) and ``non-COVID``
(1,229). The paper of the ima study states 1,230 of the latter.

All files without COVID are RGBA and 413 of the others RGB: the file mode nearly tells the label, so
every file is brought to grey before anything else. The release does not tell which slices are of
one patient, and neighbouring slices of one scan are among its files.

The ima study ("Application of COVID-19 detection from CT images"): one channel of 224 x 224 in
[0, 1]; per class, 200 images at random for testing, 30 for validation, the rest for training; label
1 is infected. How the images were resized is not said; here they are stretched (bilinear).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, checked
from medrobust.data.contract import Adapter
from medrobust.data.formats.images import ImageSpec, read_images
from medrobust.data.prepared.drawn_splits import sized_fold
from medrobust.data.prepared.near_duplicates import Drop, without_repeats
from medrobust.data.prepared.splits import Fold
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.image_sets import (
    assembled,
    file_notes,
    image_files,
    is_whole_release,
)

CLASSES = ("non-COVID", "COVID")
RELEASE = (1229, 1252)
"""Files of each class in the release."""

SPEC = ImageSpec(size=224, colour="grey")


class Options(Settings):
    """What the registry may ask of this adapter."""

    n_val_per_class: int = Field(default=30, ge=0, description="validation images of each class")
    n_test_per_class: int = Field(default=200, ge=1, description="test images of each class")
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
    """Returns the slices and their split.

    Args:
        options: the fields of :class:`Options`.
        source: "kaggle" or "standin".
        files: raw file by its name ("COVID/Covid (1).png", ...; none for a stand-in).
        seed: root seed: of the split, or of a stand-in.
        allow_subset: accept an incomplete release; its classes are divided in proportion.
        processes: at most so many processes read files.

    Raises:
        InputError: an option is wrong, or raw files are missing, unreadable or too many.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    if source == "standin":
        from medrobust.data.standins.medical_images import medical_standin

        return medical_standin("ct", CLASSES, SPEC, chosen.n_train, chosen.n_test, seed=seed)
    found = image_files(files, _label)
    complete = is_whole_release(found, CLASSES, RELEASE, allow_subset=allow_subset)
    images = read_images(found.paths, SPEC, processes=processes, what="CT slices")
    rows, left_out = without_repeats(images.x, found.y, chosen.drop_duplicates)
    made = "All were brought to 8-bit grey, then stretched to 224 x 224 (bilinear)."
    sizes = split_sizes(np.bincount(found.y[rows], minlength=2), chosen, complete)
    note = (
        f"Split: at random within each class (seed {seed}): {_stated(sizes)}. The release does not "
        "say which slices are of one patient."
    )

    def split(y: np.ndarray) -> list[Fold]:
        return [sized_fold(y, sizes, seed=seed, name="covid_ct")]

    return assembled(
        found,
        images,
        rows,
        split,
        classes=CLASSES,
        complete=complete,
        notes=(*file_notes(images, found.y, CLASSES, made), *left_out, note),
    )


def split_sizes(count: np.ndarray, options: Options, complete: bool) -> dict[int, tuple[int, int]]:
    """Returns class -> (validation images, test images); of a subset, the release's shares."""
    wanted = (options.n_val_per_class, options.n_test_per_class)
    if complete:
        return dict.fromkeys(range(len(CLASSES)), wanted)
    return {
        label: tuple(max(int(n > 0), round(n * count[label] / RELEASE[label])) for n in wanted)
        for label in range(len(CLASSES))
    }


def _stated(sizes: Mapping[int, tuple[int, int]]) -> str:
    parts = [
        f"{n_val} {CLASSES[label]} for validation and {n_test} for testing"
        for label, (n_val, n_test) in sizes.items()
    ]
    return ", ".join(parts)


def _label(name: str) -> int | None:
    path = PurePosixPath(name)
    if path.parent.name not in CLASSES or path.suffix.lower() != ".png":
        raise InputError(
            f"The file {name} is not one of the SARS-CoV-2 CT release.",
            remedy="move it out of the raw folder; there should be COVID/*.png and "
            "non-COVID/*.png.",
        )
    return CLASSES.index(path.parent.name)


ADAPTER = Adapter(spec=Options, adapt=adapt)
