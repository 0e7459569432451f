"""Volumes as nnU-Net's 2-D network gets them: standardised slices with masks, and the plans.

A folder of :data:`FOLDER` beside a prepared set of volumes holds

* ``slices.safetensors``: of each case ``image/<case>`` float32 ``[channels, slices, h, w]``, each
  channel of a case with mean 0 and standard deviation 1, and ``mask/<case>`` int8 ``[slices, h,
  w]``, -1 where nnU-Net cut off an empty border;
* ``plans.json``: what nnU-Net planned: size of patches and batches, the network's layers.

:mod:`medrobust.data.prepared.nnunet` writes them; reading them takes no nnU-Net and no pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.data.prepared.volumes import load_volumes

FOLDER, SLICES, PLANS = "nnunet_2d", "slices.safetensors", "plans.json"
#: In masks: outside of what nnU-Net kept of a volume. It counts as background.
CUT_OFF = -1


@dataclass(frozen=True)
class SliceSet:
    """A data set of slices.

    A slice has a number: those of the first case come first, in their order, then those of the
    second, whatever split they belong to.

    Attributes:
        cases: name of each case, in the order of their rows.
        images: of each case, float32 ``[channels, slices, h, w]``.
        masks: of each case, int8 ``[slices, h, w]``.
        train, val, test: rows of the cases of each split, ascending.
        class_names: background first.
        plans: of nnU-Net.
        sha256: of the file of slices.
        card: of the data set.
    """

    cases: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    class_names: tuple[str, ...]
    plans: dict[str, Any]
    sha256: str
    card: dict[str, Any]

    @property
    def n_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Number of channels of an image."""
        return len(self.images[0])

    @cached_property
    def first(self) -> np.ndarray:
        """Number of the first slice of each case, int64, and after the last case's last."""
        return np.cumsum([0, *(len(mask) for mask in self.masks)])

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """Returns the numbers of all slices of these cases, int64."""
        parts = [np.arange(self.first[row], self.first[row + 1]) for row in rows]
        return np.concatenate(parts).astype(np.int64)

    def place(self, number: int) -> tuple[int, int]:
        """Returns the row of the case and the place in it of a slice with a number."""
        row = int(np.searchsorted(self.first, number, side="right")) - 1
        return row, int(number - self.first[row])

    def with_all_classes(self, rows: np.ndarray) -> np.ndarray:
        """Returns the numbers of these cases' slices that contain every class, int64.

        Background is not asked for. Only such slices are attacked (public code of ima).
        """
        numbers = self.numbers(rows)
        foreground = range(1, self.n_classes)
        kept = [all((self.mask(n) == k).any() for k in foreground) for n in numbers]
        return numbers[np.array(kept, dtype=bool)]

    def image(self, number: int) -> np.ndarray:
        """Returns a slice, float32 ``[channels, h, w]``."""
        row, place = self.place(number)
        return self.images[row][:, place]

    def mask(self, number: int) -> np.ndarray:
        """Returns the classes of a slice's pixels, int8 ``[h, w]``."""
        row, place = self.place(number)
        return self.masks[row][place]


def load_slices(data: str | Path) -> SliceSet:
    """Opens the slices of a prepared set of volumes.

    Args:
        data: folder of the data set, ``results/data/<dataset>@<source>``.

    Raises:
        InputError: a file is missing or damaged, or the slices are of other cases than the volumes.
    """
    volumes = load_volumes(data)
    folder = Path(data) / FOLDER
    file = folder / SLICES
    tensors = io.read_tensors(file)
    wanted = [f"{kind}/{case}" for case in volumes.cases for kind in ("image", "mask")]
    if set(wanted) != set(tensors):
        strange = sorted(set(wanted) ^ set(tensors))
        raise InputError(
            f"These are not the slices of the volumes beside them: {strange[0]!r} is only in one.",
            where=str(file),
            remedy="delete the file and run the same command again.",
        )
    return SliceSet(
        cases=volumes.cases,
        images=tuple(tensors[f"image/{case}"] for case in volumes.cases),
        masks=tuple(tensors[f"mask/{case}"] for case in volumes.cases),
        train=volumes.train_index,
        val=volumes.val_index,
        test=volumes.test_index,
        class_names=tuple(volumes.card["class_names"]),
        plans=io.read_json(folder / PLANS),
        sha256=io.sha256_of_file(file),
        card=volumes.card,
    )
