"""SVHN: 32 x 32 colour pictures of the digits of house numbers, ten classes.

Source: Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading digits in natural images with unsupervised
feature learning", NIPS Workshop on Deep Learning and Unsupervised Feature Learning 2011; format 2
(cropped digits), two MAT-files (:mod:`medrobust.data.formats.mat_files`): ``X`` uint8
``[32, 32, 3, n]`` (row, column, colour, image) and ``y`` uint8 ``[n, 1]``, where the label 10
stands for the digit 0.

The release has 73,257 training and 26,032 test images (and 531,131 further ones, which are not
used). The study ima takes 7,326 of the training images for validation, as the public code of its
authors does: see :mod:`medrobust.data.sets.engine.small_images`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.schema import checked
from medrobust.data.contract import Adapter
from medrobust.data.formats.mat_files import read_mat
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.small_images import Options, Part, divided, official_file, standin

CLASSES = tuple("0123456789")
SHAPE = (3, 32, 32)
OFFICIAL_ROWS = (73_257, 26_032)
FILES = ("train_32x32.mat", "test_32x32.mat")

_ARRAYS = {"X": (32, 32, 3, None), "y": (None, 1)}


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool = False,
    processes: int = 1,
) -> Prepared:
    """Returns the images and their split.

    Args:
        options: the fields of :class:`medrobust.data.sets.engine.small_images.Options`.
        source: "standin", or any source of the two files.
        files: raw file by its official name (none for a stand-in).
        seed: root seed, of a stand-in only: the split has a seed of its own in the options.
        allow_subset: not used: files with fewer images are read, and told as incomplete.
        processes: not used: two files, unpacked one after the other so that less memory is needed.

    Returns:
        x uint8 ``[99289, 3, 32, 32]``, to be scaled to [0, 1]: training images, then test images,
        each in the order of its file; y is the digit.

    Raises:
        InputError: an option is wrong, or raw files are missing or damaged.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    if source == "standin":
        return standin(chosen, CLASSES, SHAPE, seed)
    parts = [_part(files, name, most) for name, most in zip(FILES, OFFICIAL_ROWS, strict=True)]
    note = (
        "Images and labels read from the two MAT-files: training images first, then test images; "
        "the label 10 is the digit 0."
    )
    return divided(*parts, CLASSES, chosen, official_rows=OFFICIAL_ROWS, note=note)


def _part(files: Mapping[str, Path], name: str, most: int) -> Part:
    path = official_file(files, name, FILES)
    found = read_mat(path, _ARRAYS, most=most)
    x, label = found["X"], found["y"][:, 0]
    if x.dtype != np.uint8 or not np.isin(label, np.arange(1, 11)).all():
        raise InputError(
            f"{name} must hold X of type uint8 and y with the labels 1 to 10.",
            where=str(path),
            remedy="get the file again.",
        )
    return Part(name, x.transpose(3, 2, 0, 1), label.astype(np.int64) % 10)


ADAPTER = Adapter(spec=Options, adapt=adapt)
