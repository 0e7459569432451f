"""Tiles of colorectal tissue: eight classes, or two of them.

Source: Kather et al., "Multi-class texture analysis in colorectal cancer histology", Scientific
Reports 6:27988, 2016; Zenodo record 53169: 625 TIFF tiles of 150 x 150 pixels (0.495 micrometres
each) in each of eight folders.

The signnet study (Section II.B): tiles of mucosa and adipose tissue, "which give the highest test
accuracy" (it calls them classes 6 and 7, which are the numbers of these folders), resized to 96 x
96, divided 80:20 at random. Here: three colour channels, bilinear, a fifth of each class for
testing (250 tiles; the paper's 99.6 % is 249 of 250).

Tiles were cut from ten slides, whose numbers are in their names (``..._CRC-Prim-HE-05_...``), many
of them side by side. The slide is the ``patient`` of ``ids.csv``: a random split has the same ones
on both sides, ``split: slide`` has not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, checked
from medrobust.data.contract import Adapter
from medrobust.data.formats.images import Images, ImageSpec, read_images
from medrobust.data.prepared.drawn_splits import patient_fold, shares, sized_fold
from medrobust.data.prepared.near_duplicates import Drop, without_repeats
from medrobust.data.prepared.splits import Fold
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.image_sets import (
    ImageFiles,
    assembled,
    file_notes,
    image_files,
    is_whole_release,
)

Tissue = Literal["tumour", "stroma", "complex", "lympho", "debris", "mucosa", "adipose", "empty"]

FOLDERS: dict[str, str] = {
    "tumour": "01_TUMOR",
    "stroma": "02_STROMA",
    "complex": "03_COMPLEX",
    "lympho": "04_LYMPHO",
    "debris": "05_DEBRIS",
    "mucosa": "06_MUCOSA",
    "adipose": "07_ADIPOSE",
    "empty": "08_EMPTY",
}
"""Folder of each class in the release."""

PER_CLASS = 625
SIDE = 150
SPEC = ImageSpec(size=96, colour="rgb")

_SLIDE = re.compile(r"_(CRC-Prim-HE-\d{2})")


class Options(Settings):
    """What the registry may ask of this adapter."""

    classes: list[Tissue] = Field(min_length=2, description="classes; labels by position")
    split: Literal["random", "slide"] = Field(
        default="random", description="random tiles, or the tiles of whole slides, for testing"
    )
    test_share: float = Field(default=0.2, gt=0, lt=1, description="share of test tiles")
    drop_duplicates: Drop = Field(
        default="none", description="tiles left out: none, exact copies, or those that look alike"
    )
    n_train: int = Field(default=240, ge=16, description="training tiles of a stand-in")
    n_test: int = Field(default=80, ge=8, description="test tiles of a stand-in")

    @field_validator("classes")
    @classmethod
    def _no_class_twice(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) != len(classes):
            raise ValueError("a class is named twice")
        return classes


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool = False,
    processes: int = 1,
) -> Prepared:
    """Returns the tiles and their split.

    Args:
        options: the fields of :class:`Options`.
        source: "official" or "standin".
        files: raw file by its name ("06_MUCOSA/....tif"; none for a stand-in).
        seed: root seed: of the split, or of a stand-in.
        allow_subset: accept an incomplete release.
        processes: at most so many processes read files.

    Raises:
        InputError: an option is wrong, or raw files are missing, unreadable, too many or of
            another size than the release's.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    classes = tuple(chosen.classes)
    if source == "standin":
        from medrobust.data.standins.medical_images import medical_standin

        return medical_standin("tissue", classes, SPEC, chosen.n_train, chosen.n_test, seed=seed)
    labels = {FOLDERS[name]: label for label, name in enumerate(classes)}
    found = image_files(files, lambda name: _label(name, labels))
    complete = is_whole_release(
        found, classes, [PER_CLASS] * len(classes), allow_subset=allow_subset
    )
    images = read_images(found.paths, SPEC, processes=processes, what="tiles")
    _check_sizes(found, images)
    rows, left_out = without_repeats(images.x, found.y, chosen.drop_duplicates)
    made = "All were brought to 8-bit RGB and made smaller to 96 x 96 (bilinear)."
    slides = np.array([slide_of(name) for name in found.names], object)

    def split(y: np.ndarray) -> list[Fold]:
        return [_fold(y, slides[rows], chosen, seed)]

    return assembled(
        found,
        images,
        rows,
        split,
        classes=classes,
        complete=complete,
        notes=(*file_notes(images, found.y, classes, made), *left_out, _split_note(chosen, seed)),
        columns={"patient": slides},
    )


def slide_of(name: str) -> str:
    """Returns the slide that a file name tells, or "" if it has another form."""
    match = _SLIDE.search(name)
    return match[1] if match else ""


def _fold(y: np.ndarray, slides: np.ndarray, options: Options, seed: int) -> Fold:
    if options.split == "random":
        return sized_fold(y, shares(y, options.test_share), seed=seed, name="kather")
    if (slides == "").any():
        raise InputError(
            f"{(slides == '').sum()} file names do not tell a slide, which this split needs.",
            where="config/datasets.yaml, option split: slide",
            remedy="use the release's file names, or split: random.",
        )
    return patient_fold(y, slides, options.test_share, seed=seed, name="kather")


def _split_note(options: Options, seed: int) -> str:
    share = f"{options.test_share:.0%} of each class"
    how = {
        "random": f"{share} at random for testing (seed {seed}); tiles of one slide may be on both "
        "sides.",
        "slide": f"whole slides, drawn at random (seed {seed}) as long as they fit into {share}, "
        "are for testing.",
    }[options.split]
    return f"Split: {how} The column patient of ids.csv names the slide."


def _label(name: str, labels: Mapping[str, int]) -> int | None:
    """Returns the label of a tile, None for a tile of a class that is not asked for."""
    path = PurePosixPath(name)
    if path.parent.name not in FOLDERS.values() or path.suffix.lower() != ".tif":
        raise InputError(
            f"The file {name} is not one of the release of colorectal tiles.",
            remedy="move it out of the raw folder; there should be 01_TUMOR/*.tif to "
            "08_EMPTY/*.tif.",
        )
    return labels.get(path.parent.name)


def _check_sizes(found: ImageFiles, images: Images) -> None:
    """Raises unless all tiles have the release's size: others were made from them."""
    wrong = np.flatnonzero((images.width != SIDE) | (images.height != SIDE))
    if len(wrong):
        first = wrong[0]
        raise InputError(
            f"{len(wrong):,} tiles are not {SIDE} x {SIDE} pixels; {found.names[first]} has "
            f"{images.width[first]} x {images.height[first]}. They are not the release's.",
            where=str(found.paths[first].parent),
            remedy="get the official archive from https://zenodo.org/records/53169.",
        )


ADAPTER = Adapter(spec=Options, adapt=adapt)
