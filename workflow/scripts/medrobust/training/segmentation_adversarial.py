"""Adversarial training of nnU-Net's network with a fixed radius ("adv e" in ima, segmentation).

Ima (Ma and Liang 2021, section "Experiments on Segmentation") trains nnU-Net (Isensee et al. 2021)
on half the loss of the patches and half that of noisy ones, which 20 steps of projected gradient
ascent from a random start in the L2 ball found, each 4 e / 20 long. The loss, whose rise the steps
follow too, is nnU-Net's with Dice over all pixels of a batch; so the patches of a batch shape each
other's noise, as in the authors' code. Noise is not clipped: values of standardised images have no
bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from medrobust.attacks.engine.gradient_ascent import ascend
from medrobust.attacks.engine.norm_balls import Balls, uniform_start
from medrobust.attacks.engine.pixel_network import loss_slopes
from medrobust.attacks.pixel_pgd import EVERYWHERE
from medrobust.models import nnunet
from medrobust.models.engine.pixel_losses import pixel_losses
from medrobust.training.contract import Method
from medrobust.training.engine.robust_descent import ascent_passes
from medrobust.training.engine.slice_descent import SliceSettings, SliceWork, Step, descend
from medrobust.training.engine.work import Trained

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["METHOD", "Spec", "train"]


class Spec(SliceSettings):
    """Settings of adversarial training for segmentation."""

    epsilon: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="L2 norm of the noise on a patch, all channels, in standard deviations",
    )
    steps: int = Field(default=20, ge=1, description="gradient steps")
    reach: float = Field(
        default=4.0, gt=0, description="length of all steps together, in radii (alpha)"
    )
    clean_weight: float = Field(
        default=0.5, ge=0, le=1, description="share of the patches themselves in the loss"
    )


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes, for the plan."""
    return spec.max_epochs * (2 + ascent_passes(spec.steps))


def train(
    spec: Spec, architecture: str, architecture_spec: nnunet.Spec, work: SliceWork
) -> Trained:
    """Trains a network on clean and noisy patches."""

    def losses(step: Step) -> Iterator[Tensor]:
        x, n = step.x, len(step.x)
        radius = x.new_full((n,), spec.epsilon)
        noisy = ascend(
            step.network,
            loss_slopes(step.targets, n),
            uniform_start(x, radius, "l2", EVERYWHERE, step.draws),
            Balls(x, radius, "l2", EVERYWHERE),
            radius * (spec.reach / spec.steps),
            spec.steps,
            to_the_end=True,
        )
        for points, weight in ((x, spec.clean_weight), (noisy, 1 - spec.clean_weight)):
            yield weight * pixel_losses(step.network.logits(points), step.targets, n)[0]

    return descend(spec, architecture_spec, work, losses)


METHOD = Method(spec=Spec, architectures=frozenset({"nnunet"}), train=train, passes=passes)
