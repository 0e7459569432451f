"""Training of nnU-Net's network on clean slices ("nnUnet" in ima, section on segmentation).

The loss is that of nnU-Net (Isensee et al. 2021), Dice over all pixels of a batch, as in ima (Ma
and Liang 2021, section "Experiments on Segmentation"):
:func:`medrobust.models.engine.pixel_losses.pixel_losses`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from medrobust.models import nnunet
from medrobust.models.engine.pixel_losses import pixel_losses
from medrobust.training.contract import Method
from medrobust.training.engine.slice_descent import SliceSettings, SliceWork, Step, descend
from medrobust.training.engine.work import Trained

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["METHOD", "Spec", "train"]


class Spec(SliceSettings):
    """Settings of nnU-Net's own training."""


def train(
    spec: Spec, architecture: str, architecture_spec: nnunet.Spec, work: SliceWork
) -> Trained:
    """Trains a network on clean patches."""

    def losses(step: Step) -> Iterator[Tensor]:
        yield pixel_losses(step.network.logits(step.x), step.targets, len(step.x))[0]

    return descend(spec, architecture_spec, work, losses)


METHOD = Method(spec=Spec, architectures=frozenset({"nnunet"}), train=train)
