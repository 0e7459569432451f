"""Images of the user's own: a folder per class, as in ImageNet (Deng et al. 2009).

Every image becomes a square of the size and colour that the entry asks for, 8 bits a channel; 0 and
255 become 0 and 1, the range that models and attacks know. Where patients are known, from a
sub-folder of each class or from the names of files, the split is by patient.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.core.schema import Settings, checked
from medrobust.data.contract import Adapter
from medrobust.data.formats.images import ImageSpec, read_images
from medrobust.data.prepared.near_duplicates import Drop, without_repeats
from medrobust.data.prepared.splits import Fold
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.image_sets import assembled, file_notes, image_files
from medrobust.data.sets.engine.own_data import check_classes, own_fold

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
_SHOWN = 10


class Options(Settings):
    """What the registry may ask of this adapter."""

    classes: list[str] = Field(
        min_length=2, description="name of each label; without this key the entry's `classes`"
    )
    folders: list[str] = Field(
        default=[], description="folder of each class; none: they are called as the classes"
    )
    size: int = Field(
        ge=1,
        le=1024,
        description="width and height in pixels; without it the entry's `shape`",
    )
    colour: Literal["grey", "rgb"] = Field(
        description="1 or 3 channels; without it the entry's `shape`"
    )
    pad: bool = Field(
        default=False, description="keep proportions, on black, instead of stretching to a square"
    )
    patient: str | None = Field(
        default=None,
        description="null: not known; `folder`: each class folder has one folder per patient; else "
        "a regular expression whose first group, in the file's name, is the patient",
    )
    test_share: float = Field(
        default=0.2, gt=0, lt=1, description="share of test images of a class"
    )
    drop_duplicates: Drop = Field(
        default="none", description="images left out: none, exact copies, or those that look alike"
    )
    n_train: int = Field(default=240, ge=10, description="training images of a stand-in")
    n_test: int = Field(default=80, ge=10, description="test images of a stand-in")

    @field_validator("patient")
    @classmethod
    def _a_pattern(cls, pattern: str | None) -> str | None:
        if pattern in (None, "folder"):
            return pattern
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"this is no regular expression ({error})") from None
        if groups < 1:
            raise ValueError("needs a group in round brackets, such as '(p[0-9]+)'; or `folder`")
        return pattern

    @model_validator(mode="after")
    def _as_many(self) -> Options:
        if self.folders and len(self.folders) != len(self.classes):
            raise ValueError("folders must be as many as classes")
        odd = [name for name in self.folders or self.classes if set("*?[]/\\") & set(name)]
        if odd:
            raise ValueError(f"a folder cannot be called {odd[0]!r}: use a name without *?[]/")
        return self


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool,
    processes: int,
) -> Prepared:
    """Returns the images and their split, or a stand-in; see ``medrobust.data.prepared.prepare``.

    Raises:
        InputError: an option is wrong, images cannot be read (all are named), a class has too few,
            or the patient of one is not known.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    spec = ImageSpec(size=chosen.size, colour=chosen.colour, pad=chosen.pad)
    if source == "standin":
        from medrobust.data.standins.spots import image_standin

        shape = (spec.channels, spec.size, spec.size)
        return image_standin(chosen.n_train, chosen.n_test, chosen.classes, shape, seed=seed)
    labels = {name: label for label, name in enumerate(chosen.folders or chosen.classes)}
    found = image_files(files, lambda name: _label(name, labels))
    place = str(_raw_folder(files))
    _check_elsewhere(_raw_folder(files), labels, files, chosen)
    unread = sorted(set(files) - set(found.names))
    check_classes(found.y, chosen.classes, "images", where=place)
    patients = _patients(found.names, chosen.patient, place)
    images = read_images(found.paths, spec, processes=processes, what="images")
    rows, left_out = without_repeats(images.x, found.y, chosen.drop_duplicates)
    few = check_classes(found.y[rows], chosen.classes, "images", where=place)
    known = None if patients is None else patients[rows]
    fold, split_note = own_fold(
        found.y[rows], known, chosen.test_share, seed=seed, name="image-folders", where=place
    )

    def split(y: np.ndarray) -> list[Fold]:
        return [fold]

    shown = "grey" if chosen.colour == "grey" else "RGB"
    how = "set on black" if chosen.pad else "stretched"
    made = f"All were brought to 8-bit {shown}, {spec.size} x {spec.size} pixels ({how}, bilinear)."
    scaling = "Scaling: pixels 0 to 255 became [0, 1]."
    notes = (*file_notes(images, found.y, chosen.classes, made), scaling, split_note, *left_out)
    return assembled(
        found,
        images,
        rows,
        split,
        classes=chosen.classes,
        complete=True,
        notes=(*notes, *few, *_not_read(unread)),
        columns={} if patients is None else {"patient": patients},
    )


def _label(name: str, labels: Mapping[str, int]) -> int | None:
    path = PurePosixPath(name)
    return labels[path.parts[0]] if path.suffix.lower() in SUFFIXES else None


def _raw_folder(files: Mapping[str, Path]) -> Path:
    """Returns the folder that holds the folders of the classes."""
    name, path = next(iter(files.items()))
    return Path(path).parents[len(PurePosixPath(name).parts) - 1]


def _check_elsewhere(
    folder: Path, labels: Mapping[str, int], files: Mapping[str, Path], options: Options
) -> None:
    """Refuses images in a class's folder that lie deeper, or less deep, than what is read."""
    read = {Path(path).resolve() for path in files.values()}
    beside = [
        path
        for name in labels
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.resolve() not in read
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not beside:
        return
    wanted = "a folder per patient within" if options.patient == "folder" else "directly in"
    many = "1 image lies" if len(beside) == 1 else f"{len(beside):,} images lie"
    raise InputError(
        f"{many} elsewhere than {wanted} the folder of a class, such as {beside[0]}.",
        where=str(folder),
        remedy="move them; `patient: folder` reads one folder per patient within each class.",
    )


def _patients(names: Sequence[str], pattern: str | None, place: str) -> np.ndarray | None:
    if pattern is None:
        return None
    if pattern == "folder":
        return np.array([PurePosixPath(name).parts[1] for name in names], object)
    found = [re.search(pattern, PurePosixPath(name).name) for name in names]
    unknown = [n for n, match in zip(names, found, strict=True) if match is None or not match[1]]
    if unknown:
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        raise InputError(
            f"The names of {len(unknown):,} of {len(names):,} images do not tell the patient by "
            f"the pattern {pattern!r}: {', '.join(unknown[:_SHOWN])}{more}.",
            where=f"{place}, option patient",
            remedy="correct the pattern or the names, or leave `patient` out.",
        )
    return np.array([match[1] for match in found if match is not None], object)


def _not_read(names: Sequence[str]) -> list[str]:
    """Returns a note on files that are no images by their names."""
    if not names:
        return []
    kinds = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in names)
    listed = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
    note = f"Not read, by their suffix: {listed} (such as {names[0]})."
    logger.warning("%s", note)
    return [note]


def own_entry(options: Mapping[str, Any], classes: Sequence[str], shape: Sequence[int]) -> dict:
    """Returns what an entry of the registry need not say: options and source, as plain values."""
    folders = options.get("folders") or list(classes)
    pattern = "*/*.*" if options.get("patient") == "folder" else "*.*"
    of_shape = {}
    if len(shape) == 3 and shape[1] == shape[2] and shape[0] in (1, 3):
        of_shape = {"size": shape[1], "colour": "grey" if shape[0] == 1 else "rgb"}
    return {
        "options": {"classes": list(classes), **of_shape, **options},
        "source": {
            "kind": "manual",
            "instructions": f"put the images there, in the folders {', '.join(map(str, folders))}.",
            "trees": [
                {"pattern": f"{folder}/{pattern}", "count": 1, "at_least": True}
                for folder in folders
            ],
        },
    }


ADAPTER = Adapter(spec=Options, adapt=adapt, own_entry=own_entry)
