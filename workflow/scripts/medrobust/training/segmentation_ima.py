"""Increasing-margin training of nnU-Net's network (ima, section "Experiments on Segmentation").

As Ma and Liang 2021 train the network of Isensee et al. 2021. Each slice of a training case has a
margin, the radius of an L2 ball; at first ``margin_step``. A patch trains together with a noisy
one, sought in the ball of its slice's margin by BPGD
(:mod:`medrobust.training.engine.boundary_search`): near the boundary, if there is one in the ball,
else where the ascent ends. After an epoch the margins of the slices that it drew are updated
(:func:`updated_margins`).

Where it differs from classification, as the text and the authors' code have it
(docs/segmentation.md):

* A patch is "correct" where the Dice of its best class reaches ``threshold``. Clean patches all
  count as correct: their Dice is not asked for.
* Dice is taken of each patch alone, in the loss that trains and in that which the steps raise.
* A margin is refined, not set: half-way to the distance found, since augmentation blurs it; there
  is no starting anew, and no sweep after the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from medrobust.attacks.engine.norm_balls import lengths, uniform_start
from medrobust.attacks.engine.pixel_network import loss_slopes, well_segmented
from medrobust.attacks.pixel_pgd import EVERYWHERE
from medrobust.models import nnunet
from medrobust.models.engine.pixel_losses import pixel_losses
from medrobust.training.contract import Method
from medrobust.training.engine.boundary_search import BoundarySearch, search
from medrobust.training.engine.robust_descent import ascent_passes
from medrobust.training.engine.slice_descent import SliceSettings, SliceWork, Step, descend
from medrobust.training.engine.work import Trained

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["METHOD", "Spec", "train", "updated_margins"]


class Spec(SliceSettings):
    """Settings of increasing-margin training for segmentation."""

    margin_step: float = Field(
        gt=0, description="first margin, and by how much margins grow (delta epsilon)"
    )
    largest_margin: float = Field(
        gt=0, allow_inf_nan=False, description="bound of the margins (epsilon max)"
    )
    threshold: float = Field(
        default=0.6, ge=0, le=1, description="Dice from which on a patch counts as correct"
    )
    beta: float = Field(
        default=0.5, ge=0, le=1, description="weight of the noisy patches; 1 - beta that of all"
    )
    steps: int = Field(default=20, ge=1, description="gradient steps of BPGD")
    reach: float = Field(
        default=4.0, gt=0, description="length of all steps together, in margins (alpha)"
    )
    bisections: int = Field(default=10, ge=1, description="halvings of a segment by BPGD")

    @model_validator(mode="after")
    def _step_within_bound(self) -> Self:
        if self.margin_step > self.largest_margin:
            raise ValueError("margin_step is larger than largest_margin")
        return self


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes, for the plan."""
    return spec.max_epochs * (2 + ascent_passes(spec.steps, spec.bisections))


def train(
    spec: Spec, architecture: str, architecture_spec: nnunet.Spec, work: SliceWork
) -> Trained:
    """Trains a network on patches and noisy ones near its boundary.

    Returns:
        the network; ``extras["margin"]`` are the margins of all slices of all cases after the last
        epoch, float32 ``[1, n]``, those of slices that are not for training 0.
    """
    import torch

    slices = work.slices
    margins = np.zeros(slices.first[-1], dtype=np.float32)
    margins[slices.numbers(slices.train)] = spec.margin_step
    #: What the last patch of each slice in this epoch said: its distance, infinite without one; NaN
    #: of slices that were not drawn.
    distances = np.full_like(margins, np.nan)
    settings = BoundarySearch(
        "l2", spec.steps, spec.reach, spec.bisections, "cross_entropy", EVERYWHERE
    )

    def losses(step: Step) -> Iterator[Tensor]:
        x, target = step.x, step.targets[0]
        radius = torch.from_numpy(margins[step.numbers]).to(x.device)
        least = torch.minimum((radius - spec.margin_step).clamp(min=spec.margin_step), radius)
        found = search(
            step.network,
            x,
            loss_slopes(step.targets, 1),
            well_segmented(target, slices.n_classes, spec.threshold),
            radius,
            uniform_start(x, least, "l2", EVERYWHERE, step.draws),
            settings,
        )
        noisy = found.ends.index_copy(0, found.rows, found.noisy)
        reached = x.new_full((len(x),), torch.inf)
        reached[found.rows] = lengths(found.noisy - x[found.rows], "l2")
        distances[step.numbers] = reached.cpu().numpy()
        for points, weight in ((x, 1 - spec.beta), (noisy, spec.beta)):
            yield weight * pixel_losses(step.network.logits(points), step.targets, 1).mean()

    def after_epoch() -> None:
        margins[...] = updated_margins(
            margins, distances, step=spec.margin_step, largest=spec.largest_margin
        )
        distances[...] = np.nan

    kept = {"margin": margins, "distance": distances}
    trained = descend(spec, architecture_spec, work, losses, kept=kept, after_epoch=after_epoch)
    return Trained(trained.parameters, trained.history, {"margin": trained.extras["margin"]})


def updated_margins(
    margins: np.ndarray, distances: np.ndarray, *, step: float, largest: float
) -> np.ndarray:
    """Returns the margins after an epoch, float32 ``[n]``.

    * of a slice that was not drawn (NaN): as before;
    * with a noisy patch on the boundary: half-way to the distance to it;
    * without one (infinite): the margin plus the step;

    all of those drawn between 0 and the largest margin.

    Args:
        margins: ``[n]``.
        distances: ``[n]``.
        step: margin step.
        largest: largest margin.
    """
    halfway = (margins + np.where(np.isfinite(distances), distances, 0)) / 2
    moved = np.where(np.isinf(distances), margins + step, halfway).clip(0, largest)
    return np.where(np.isnan(distances), margins, moved).astype(np.float32)


METHOD = Method(
    spec=Spec,
    architectures=frozenset({"nnunet"}),
    train=train,
    passes=passes,
    keeps_margins=True,
)
