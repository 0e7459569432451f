"""Breast ultrasound: benign against malignant tumours, from BUSI, BUSIS or both.

Sources: BUSI: Al-Dhabyani et al., "Dataset of breast ultrasound images", Data in Brief 28:104863,
2020: 437 benign, 210 malignant and 133 normal images, with one mask or more beside each
(``benign (1)_mask.png``); normal ones have no tumour and are not used. BUSIS: Zhang et al., "BUSIS:
a benchmark for breast ultrasound image segmentation", Healthcare 10(4):729, 2022: 562 images, 306
benign and 256 malignant, given on request; they are put into two folders by hand.

The mirst study (Section 4.1): images of both, zero-padded to a square, then resized to 224 x 224;
5-fold cross-validation. It has 1,190 images (726 benign, 464 malignant); together the releases have
1,209 (743 and 466). Which 19 it left out is not known: ``exclude`` takes a list. Here: three colour
channels, padding on both sides, bilinear, folds stratified by class; label 1 is malignant. Neither
release says which images are of one patient. BUSI has many images twice, which ``keep_together``
keeps in one fold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError, nearest
from medrobust.core.logs import logger
from medrobust.core.schema import Settings, checked
from medrobust.core.words import counted
from medrobust.data.contract import Adapter
from medrobust.data.formats.images import Images, ImageSpec, read_images
from medrobust.data.prepared.drawn_splits import folds_of_groups, stratified_folds
from medrobust.data.prepared.near_duplicates import (
    ENOUGH_IMAGES,
    SIMILAR,
    Drop,
    repeated,
    without_repeats,
)
from medrobust.data.prepared.splits import Fold
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.image_sets import (
    ImageFiles,
    assembled,
    file_notes,
    image_files,
    is_whole_release,
    unexpected,
)

CLASSES = ("benign", "malignant")
RELEASE = {"busi": (437, 210), "busis": (306, 256)}
"""Images of each class in each release."""

_MASK = re.compile(r"[ _-](?:mask|gt|groundtruth|seg)(?:_?\d+)?\.\w+$", re.IGNORECASE)
_IMAGE = {
    "busi": re.compile(r"^(benign|malignant) \(\d+\)\.png$"),
    "busis": re.compile(r"\.(?:png|bmp|jpe?g|tiff?)$", re.IGNORECASE),
}


class Options(Settings):
    """What the registry may ask of this adapter."""

    releases: list[Literal["busi", "busis"]] = Field(
        min_length=1, max_length=2, description="which releases, in the order of rows"
    )
    folds: int = Field(default=5, ge=2, description="folds of the cross-validation")
    exclude: list[str] = Field(
        default_factory=list,
        description='images left out, named as in ids.csv, such as "busi/benign/benign (1).png"',
    )
    drop_duplicates: Drop = Field(
        default="none", description="images left out: none, exact copies, or those that look alike"
    )
    keep_together: Drop = Field(
        default="none",
        description="images that one fold gets together: none, exact copies, or those that look "
        "alike",
    )
    size: int = Field(default=224, ge=32, le=1024, description="pixels a side; the paper's are 224")
    n_train: int = Field(default=240, ge=10, description="with n_test: images of a stand-in")
    n_test: int = Field(default=80, ge=4, description="with n_train: images of a stand-in")


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool = False,
    processes: int = 1,
) -> Prepared:
    """Returns the images and their folds.

    Args:
        options: the fields of :class:`Options`.
        source: "kaggle", "official" or "standin".
        files: raw file by its name ("busi/benign/benign (1).png", "busis/malignant/....bmp"; masks
            may be among them; none for a stand-in).
        seed: root seed: of the folds, or of a stand-in.
        allow_subset: accept an incomplete release.
        processes: at most so many processes read files.

    Raises:
        InputError: an option is wrong, an excluded image does not exist, or raw files are missing,
            unreadable or neither image nor mask.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    spec = ImageSpec(size=chosen.size, colour="rgb", pad=True)
    if source == "standin":
        from medrobust.data.standins.medical_images import medical_standin

        sizes = chosen.n_train, chosen.n_test
        return medical_standin("ultrasound", CLASSES, spec, *sizes, seed=seed, folds=chosen.folds)
    found, masks = images_and_masks(files, chosen.releases)
    release = np.sum([RELEASE[name] for name in chosen.releases], axis=0).tolist()
    complete = is_whole_release(found, CLASSES, release, allow_subset=allow_subset)
    found = _without(found, chosen.exclude)
    images = read_images(found.paths, spec, processes=processes, what="ultrasound images")
    rows, left_out = without_repeats(images.x, found.y, chosen.drop_duplicates)
    made = (
        "All were brought to 8-bit RGB, put in the middle of a black square, and resized to "
        f"{chosen.size} x {chosen.size} (bilinear)."
    )
    if masks:
        made += f" {masks:,} masks beside them were not read."
    notes = [*file_notes(images, found.y, CLASSES, made), *left_out, *_resized(found, images)]
    if chosen.exclude:
        notes.append(f"Excluded by name: {len(chosen.exclude)} images.")
    notes.append(
        f"Split: {chosen.folds} folds, stratified by class, drawn at random (seed {seed}); no "
        "validation rows. The releases do not say which images are of one patient."
    )
    together = repeated(images.x[rows], chosen.keep_together)
    if chosen.keep_together != "none":
        notes.append(_kept_together(together, chosen.keep_together, len(rows)))

    def split(y: np.ndarray) -> list[Fold]:
        drawn = {"seed": seed, "name": "breast_ultrasound"}
        if chosen.keep_together == "none":
            return stratified_folds(y, chosen.folds, **drawn)
        return folds_of_groups(y, together, chosen.folds, **drawn)

    return assembled(
        found,
        images,
        rows,
        split,
        classes=CLASSES,
        complete=complete,
        notes=notes,
        columns={"release": [PurePosixPath(name).parts[0] for name in found.names]},
    )


def _kept_together(groups: list[np.ndarray], which: Drop, n: int) -> str:
    """Returns the card's note on images that one fold gets together."""
    kind = "equal" if which == "exact" else f"alike (thumbnails correlate by {SIMILAR:g} or more)"
    few = which == "near" and n < ENOUGH_IMAGES
    return (
        f"Kept in one fold each: {sum(map(len, groups)):,} of {n:,} images, in "
        f"{counted(len(groups), 'group that is', 'groups that are')} {kind}."
        + (f" Among fewer than {ENOUGH_IMAGES} images some may have been missed." if few else "")
    )


def images_and_masks(files: Mapping[str, Path], releases: list[str]) -> tuple[ImageFiles, int]:
    """Returns the images among raw files, and the number of masks.

    Raises:
        InputError: a file is neither.
    """
    images = {name: path for name, path in files.items() if not _MASK.search(name)}
    strange = [name for name in images if _label(name, releases) is None]
    if strange:
        raise unexpected(sorted(strange), " or ".join(name.upper() for name in releases))
    return image_files(images, lambda name: _label(name, releases)), len(files) - len(images)


def _resized(found: ImageFiles, images: Images) -> list[str]:
    """Returns a note for each release whose images have one size: no scanner gives them so."""
    release = np.array([PurePosixPath(name).parts[0] for name in found.names])
    notes = []
    for name in dict.fromkeys(release.tolist()):
        sizes = {*zip(images.width[release == name], images.height[release == name], strict=True)}
        if len(sizes) == 1 < (release == name).sum():
            width, height = sizes.pop()
            note = (
                f"All images of {name.upper()} are {width} x {height} pixels; those of the release "
                "differ in size. Somebody resized these, so they are not the official files."
            )
            logger.warning("%s", note)
            notes.append(f"**Warning.** {note}")
    return notes


def _label(name: str, releases: list[str]) -> int | None:
    """Returns the label of an image, None for a file that is no image of these releases."""
    parts = PurePosixPath(name).parts
    if len(parts) != 3 or parts[0] not in releases or parts[1] not in CLASSES:
        return None
    match = _IMAGE[parts[0]].search(parts[2])
    if match is None or (parts[0] == "busi" and match[1] != parts[1]):
        return None
    return CLASSES.index(parts[1])


def _without(found: ImageFiles, exclude: list[str]) -> ImageFiles:
    """Returns the files that are not excluded by name."""
    for name in exclude:
        if name not in found.names:
            close = nearest(name, found.names)
            raise InputError(
                f"There is no image {name!r} to exclude."
                + (f" Did you mean {close!r}?" if close else ""),
                where="config/datasets.yaml, option exclude",
                remedy="name images as the column file of ids.csv does.",
            )
    excluded = set(exclude)
    return found.of(np.flatnonzero([name not in excluded for name in found.names]))


ADAPTER = Adapter(spec=Options, adapt=adapt)
