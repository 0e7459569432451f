"""Volumes with masks: what an adapter gives, and what is read back.

Volumes differ in shape, so there is no ``x.npy``. The folder ``results/data/<dataset>@<source>/``
holds ``nnUNet_raw/Dataset<id>_<Name>/`` with ``imagesTr/<case>_<channel>.nii.gz``,
``labelsTr/<case>.nii.gz`` and ``dataset.json``, as nnU-Net (version 2) expects its raw data;
``ids.csv`` (one row per case), ``split_fold0.csv`` (rows of ``ids.csv``), ``splits_final.json``
(the same split for nnU-Net), ``card.json``, ``card.md`` and ``preview.png``.
:mod:`medrobust.data.prepared.prepare_volumes` writes it, :func:`load_volumes` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.data.formats.nifti_files import Volume, read_volume
from medrobust.data.prepared.splits import Fold, read_split

RAW = "nnUNet_raw"


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: its identifier, such as "hippocampus_001".
        read: returns image ``[x, y, z]`` or ``[x, y, z, channels]`` and mask.
        image_path, label_path: the raw files; None for a stand-in.
    """

    name: str
    read: Callable[[], tuple[Volume, Volume]]
    image_path: Path | None = None
    label_path: Path | None = None


@dataclass(frozen=True)
class VolumeSet:
    """What an adapter makes of raw files, before any volume is read.

    Attributes:
        folder: name of the data set for nnU-Net, such as "Dataset004_Hippocampus".
        cases: in the order of their names; the row numbers of ``fold``.
        channels: name of each channel.
        class_names: name of each value of a mask, from 0 (background).
        fold: (train, val, test) row numbers.
        synthetic: generated, not measured.
        complete: the whole release (else a subset).
        notes: sentences for the card.
    """

    folder: str
    cases: Sequence[Case]
    channels: tuple[str, ...]
    class_names: tuple[str, ...]
    fold: Fold
    synthetic: bool
    complete: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VolumeDataset:
    """A prepared set of volumes.

    Attributes:
        folder: where it lies.
        cases: name of each case; its position is its row number.
        train_index, val_index, test_index: row numbers of each split, ascending.
        card: the data card.
    """

    folder: Path
    cases: tuple[str, ...]
    train_index: np.ndarray
    val_index: np.ndarray
    test_index: np.ndarray
    card: dict[str, Any]

    @property
    def raw(self) -> Path:
        """The folder that nnU-Net calls ``Dataset<id>_<Name>``."""
        return self.folder / RAW / self.card["nnunet_folder"]

    def image(self, row: int) -> np.ndarray:
        """Returns the image of a case, each channel standardised over its volume.

        Returns:
            float32 ``[channels, x, y, z]``, mean 0 and standard deviation 1 per channel.
        """
        count = len(self.card["channels"])
        paths = [self.raw / "imagesTr" / image_name(self.cases[row], c) for c in range(count)]
        return np.stack([standardised(read_volume(path).data) for path in paths])

    def label(self, row: int) -> np.ndarray:
        """Returns the mask of a case, uint8 ``[x, y, z]``."""
        mask = read_volume(self.raw / "labelsTr" / label_name(self.cases[row])).data
        return mask.astype(np.uint8)


def image_name(case: str, channel: int) -> str:
    """Returns nnU-Net's file name of one channel of a case."""
    return f"{case}_{channel:04d}.nii.gz"


def label_name(case: str) -> str:
    """Returns nnU-Net's file name of the mask of a case."""
    return f"{case}.nii.gz"


def standardised(channel: np.ndarray) -> np.ndarray:
    """Returns one channel with mean 0 and standard deviation 1, float32; zeros if it is constant.

    The scale of a volume means nothing: in the hippocampus release maxima lie between 112 and 1.7
    million. nnU-Net does the same to every case of MR images (ima, Section on segmentation).
    """
    values = np.asarray(channel, np.float64)
    deviation = values.std()
    return ((values - values.mean()) / (deviation or 1.0)).astype(np.float32)


def load_volumes(folder: str | Path) -> VolumeDataset:
    """Opens a prepared set of volumes; each volume is read when it is asked for.

    Raises:
        InputError: a file is missing or damaged, or the files do not fit together.
    """
    folder = Path(folder)
    try:
        card = io.read_json(folder / "card.json")
    except FileNotFoundError:
        raise InputError(
            "There is no prepared data set here (no card.json).",
            where=str(folder),
            remedy="run `python -m medrobust fetch` and `prepare` with its name.",
        ) from None
    if not isinstance(card, dict) or "nnunet_folder" not in card:
        raise InputError("This is not a data set of volumes.", where=str(folder))
    ids = io.read_text_table(folder / "ids.csv")
    train, val, test = read_split(folder / "split_fold0.csv", len(ids))
    return VolumeDataset(folder, tuple(ids["case"]), train, val, test, card)
