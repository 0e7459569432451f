"""Batches of slices as nnU-Net draws and augments them.

Each batch is drawn from a seed of its own (training, epoch, batch), so that a killed training goes
on with the batches that it would have had. nnU-Net (2.8.1) draws from the global generators of
NumPy, PyTorch and Python; they are seeded anew before each batch.

What is nnU-Net's: the choice of cases and slices, of which a third must show foreground
(``nnUNetDataLoader``), and rotation, scaling, noise, blur, brightness, contrast, low resolution,
gamma and mirroring (``nnUNetTrainer.get_training_transforms``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.seeds import derive_seed
from medrobust.data.prepared.slices import SliceSet
from medrobust.models.nnunet import CONFIGURATION

if TYPE_CHECKING:
    from torch import Tensor

FOREGROUND_SHARE = 0.33  # ``oversample_foreground_percent``


@dataclass(frozen=True)
class Batch:
    """Patches.

    Attributes:
        images: float32 ``[n, channels, h, w]``.
        targets: classes at each resolution, finest first, int64 ``[n, h, w]`` each.
        numbers: of the slices that they are cut from, int64 ``[n]``.
    """

    images: Tensor
    targets: list[Tensor]
    numbers: np.ndarray


class SliceBatches:
    """Draws training batches.

    Args:
        slices: the data set; patches come from its training cases.
        patch_size: height and width.
        batch_size: patches of a batch.
        seed: of the training.
    """

    def __init__(
        self, slices: SliceSet, patch_size: tuple[int, int], batch_size: int, seed: int
    ) -> None:
        self._slices, self._seed = slices, seed
        self._loader = _loader(slices, patch_size, batch_size)

    def draw(self, epoch: int, number: int) -> Batch:
        """Returns batch ``number`` of an epoch."""
        import torch

        seed = derive_seed(self._seed, "batch", epoch, number)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        drawn = self._loader.generate_train_batch()
        return Batch(
            drawn["data"],
            [target[:, 0].long() for target in drawn["target"]],
            self._numbers(drawn["keys"]),
        )

    def _numbers(self, cases: list[str]) -> np.ndarray:
        rows = {name: row for row, name in enumerate(self._slices.cases)}
        places = self._loader.places[-len(cases) :]
        self._loader.places.clear()
        first = self._slices.first[[rows[name] for name in cases]]
        return (first + np.array(places)).astype(np.int64)


class _Cases:
    """The training cases, as nnU-Net's loader asks for them."""

    def __init__(self, slices: SliceSet) -> None:
        from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

        self._slices = slices
        self._rows = {slices.cases[row]: int(row) for row in slices.train}
        self.identifiers = list(self._rows)
        classes = list(range(1, slices.n_classes))
        locate = DefaultPreprocessor._sample_foreground_locations
        self._places = {
            name: locate(slices.masks[row][None], classes) for name, row in self._rows.items()
        }

    def load_case(self, name: str) -> tuple[np.ndarray, np.ndarray, None, dict[str, Any]]:
        row = self._rows[name]
        places = {"class_locations": self._places[name]}
        return self._slices.images[row], self._slices.masks[row][None], None, places


def _loader(slices: SliceSet, patch_size: tuple[int, int], batch_size: int) -> Any:
    """Returns nnU-Net's loader of augmented patches, which notes the slices it takes."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    class Loader(nnUNetDataLoader):
        places: list[int]

        def get_bbox(self, *arguments: Any, **settings: Any) -> Any:
            lower, upper = super().get_bbox(*arguments, **settings)
            self.places.append(int(lower[0]))
            return lower, upper

    manager = PlansManager(with_patches(slices.plans, patch_size))
    configuration = manager.get_configuration(CONFIGURATION)
    # The trainer's own choices, without a trainer: that would want folders and write files.
    trainer = SimpleNamespace(
        configuration_manager=configuration,
        enable_deep_supervision=True,
        print_to_log_file=lambda *_: None,
    )
    scales = nnUNetTrainer._get_deep_supervision_scales(trainer)
    rotation, dummy, initial, mirrored = (
        nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(trainer)
    )
    labels = manager.get_label_manager(dataset_json(slices))
    loader = Loader(
        _Cases(slices),
        batch_size,
        initial,
        configuration.patch_size,
        labels,
        oversample_foreground_percent=FOREGROUND_SHARE,
        transforms=_of_copies(
            nnUNetTrainer.get_training_transforms(
                configuration.patch_size,
                rotation,
                scales,
                mirrored,
                dummy,
                use_mask_for_norm=configuration.use_mask_for_norm,
                foreground_labels=labels.foreground_labels,
            )
        ),
    )
    loader.places = []
    return loader


def _of_copies(transforms: Callable[..., Any]) -> Callable[..., Any]:
    """Returns transforms that leave the slices as they are.

    Noise, brightness and the like change an image in place. nnU-Net reads each patch from a file;
    here it is a part of its case, unless that is smaller and the patch is filled up.
    """

    def transformed(image: Tensor, segmentation: Tensor) -> Any:
        return transforms(image=image.clone(), segmentation=segmentation)

    return transformed


def with_patches(plans: Mapping[str, Any], patch_size: tuple[int, int]) -> dict[str, Any]:
    """Returns plans with patches of this size."""
    configurations = dict(plans["configurations"])
    own = {**configurations[CONFIGURATION], "patch_size": list(patch_size)}
    return {**plans, "configurations": {**configurations, CONFIGURATION: own}}


def dataset_json(slices: SliceSet) -> dict[str, Any]:
    """Returns what nnU-Net wants to know of channels and classes."""
    return {
        "channel_names": {str(k): name for k, name in enumerate(slices.card["channels"])},
        "labels": {name: k for k, name in enumerate(slices.class_names)},
    }
