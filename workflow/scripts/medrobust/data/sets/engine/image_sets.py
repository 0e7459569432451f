"""What adapters of image data sets share: files by class, the release's counts, the final rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.core.seeds import generator
from medrobust.data.formats.images import Images
from medrobust.data.prepared.splits import Fold
from medrobust.data.prepared.store import Prepared

_NAMES_SHOWN = 10


@dataclass(frozen=True)
class ImageFiles:
    """The image files of a data set, in the order of their rows: by label, then by name.

    Attributes:
        names: as in the manifest, such as "COVID/Covid (1).png".
        paths: where they lie.
        y: labels, int64 ``[n]``.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    y: np.ndarray

    def of(self, rows: np.ndarray) -> ImageFiles:
        """Returns some of the files."""
        keep = rows.tolist()
        return ImageFiles(
            tuple(self.names[row] for row in keep),
            tuple(self.paths[row] for row in keep),
            self.y[rows],
        )


def image_files(files: Mapping[str, Path], label_of: Callable[[str], int | None]) -> ImageFiles:
    """Returns the image files among raw files.

    Args:
        files: path by name.
        label_of: name -> label, or None for a file that is no image of this data set.
    """
    labelled = [(label_of(name), _natural(name), name) for name in files]
    chosen = sorted((label, key, name) for label, key, name in labelled if label is not None)
    names = tuple(name for _, _, name in chosen)
    y = np.array([label for label, _, _ in chosen], np.int64)
    return ImageFiles(names, tuple(Path(files[name]) for name in names), y)


def _natural(name: str) -> list[tuple[int, str]]:
    """Returns a key that sorts numbers in names by value: (2) before (10)."""
    parts = re.split(r"(\d+)", name)
    return [(int(p) if p.isdigit() else -1, p) for p in parts]


def unexpected(names: Sequence[str], what: str) -> InputError:
    """Returns the error for files that the release does not have."""
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    return InputError(
        f"These files are not of {what}: {shown}{more}.",
        remedy="move them out of the raw folder.",
    )


def is_whole_release(
    found: ImageFiles, classes: Sequence[str], release: Sequence[int], *, allow_subset: bool
) -> bool:
    """Tells whether the numbers of files per class are those of the release.

    Args:
        found: the files.
        classes: name of each label.
        release: number of files of each label in the release.
        allow_subset: accept other numbers, if every class has files.

    Raises:
        InputError: a number differs and ``allow_subset`` is not set, or a class has no file.
    """
    count = np.bincount(found.y, minlength=len(classes)).tolist()
    differences = [
        f"{name}: {n:,} found, {official:,} in the release"
        for name, n, official in zip(classes, count, release, strict=True)
        if n != official
    ]
    if differences and (not allow_subset or 0 in count):
        raise InputError(
            "The number of image files differs from the release:\n    "
            + "\n    ".join(differences),
            remedy="get the release again"
            + ("." if allow_subset else ", or set `allow_subset: true` to use what is there."),
        )
    for difference in differences:
        logger.warning("%s", difference)
    return not differences


def balanced_rows(y: np.ndarray, *, seed: int, name: str) -> np.ndarray:
    """Draws from each class as many rows as the smallest class has; ascending int64."""
    least = min(np.bincount(y)[np.unique(y)])
    drawn = [
        generator(seed, "balance", name, label).permutation(np.flatnonzero(y == label))[:least]
        for label in np.unique(y).tolist()
    ]
    return np.sort(np.concatenate(drawn))


def file_notes(images: Images, y: np.ndarray, classes: Sequence[str], made: str) -> tuple[str, ...]:
    """Returns notes for the card: sizes and modes of the files, and what was made of them.

    Args:
        images: the decoded files.
        y: their labels.
        classes: name of each label.
        made: how each became an array, a sentence.
    """
    modes = [
        f"{name}: "
        + ", ".join(f"{n:,} {mode}" for mode, n in Counter(images.mode[y == label]).most_common())
        for label, name in enumerate(classes)
        if (y == label).any()
    ]
    pixels = images.width * images.height
    small, large = pixels.argmin(), pixels.argmax()
    turned = Counter(classes[label] for label in y[images.orientation != 1].tolist())
    turns = ", ".join(f"{n:,} of {name}" for name, n in turned.most_common())
    said = f" Turned upright by their orientation tag: {turns}." if turned else ""
    return (
        f"Files: from {images.width[small]:,} x {images.height[small]:,} to "
        f"{images.width[large]:,} x {images.height[large]:,} pixels; modes by class: "
        f"{'; '.join(modes)}.{said} {made}",
    )


def assembled(
    found: ImageFiles,
    images: Images,
    rows: np.ndarray,
    split: Callable[[np.ndarray], Sequence[Fold]],
    *,
    classes: Sequence[str],
    complete: bool,
    notes: Sequence[str],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> Prepared:
    """Returns the data set of the chosen rows.

    Args:
        found, images: all files and what they hold.
        rows: those that stay, ascending.
        split: labels of the rows that stay -> folds.
        classes: name of each label.
        complete: whether the whole release was there.
        notes: for the card.
        columns: further columns of ``ids.csv``, for all files (such as ``patient``).
    """
    import pandas as pd

    everything = len(rows) == len(found.y)
    y = found.y[rows]
    table = pd.DataFrame(
        {
            "row_id": np.arange(len(rows)),
            "file": found.of(rows).names,
            "width": images.width[rows],
            "height": images.height[rows],
            "mode": images.mode[rows],
        }
        | {name: np.asarray(values, object)[rows] for name, values in (columns or {}).items()}
    )
    return Prepared(
        # What is not indexed stays on the disk.
        x=images.x if everything else images.x[rows],
        y=y,
        ids=table,
        folds=split(y),
        class_names=tuple(classes),
        input_range=(0.0, 1.0),
        synthetic=False,
        complete=complete,
        notes=tuple(notes),
    )
