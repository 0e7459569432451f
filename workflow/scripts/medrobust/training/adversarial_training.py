"""Adversarial training with a fixed radius, in Linf and L2; with no steps, training with noise.

* ``adv e`` of ima (equation 2; Goodfellow et al. 2015, Madry et al. 2018): half the cross-entropy
  of the points and half that of noisy ones, which 20 steps of projected gradient ascent from a
  random start found, each 4 e / 20 long.
* ``rand e``: the same with uniform noise in ``+-e`` in place of the noisy points, ``steps: 0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from medrobust.attacks.engine.gradient_ascent import AttackLoss, ascend, away_from
from medrobust.attacks.engine.norm_balls import Balls, uniform_start
from medrobust.core.schema import Settings
from medrobust.training.contract import Method
from medrobust.training.engine.losses import cross_entropy
from medrobust.training.engine.robust_descent import (
    ROBUST_ARCHITECTURES,
    BallSettings,
    ascent_passes,
    descend,
    networks_of,
)
from medrobust.training.engine.work import Trained, Work

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from medrobust.training.engine.flat_updates import FlatMember

__all__ = ["METHOD", "Spec", "train"]


class Spec(BallSettings):
    """Settings of adversarial training."""

    steps: int = Field(
        default=20, ge=0, description="gradient steps; 0: uniform noise alone (rand)"
    )
    loss: AttackLoss = Field(default="cross_entropy", description="that the steps raise")
    clean_weight: float = Field(
        default=0.5, ge=0, le=1, description="share of the points themselves in the loss"
    )


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan."""
    return spec.max_epochs * (2 + ascent_passes(spec.steps))


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`."""
    networks = networks_of(architecture, architecture_spec)

    def loss(member: FlatMember, x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        learning, fixed = networks(member)
        radius = x.new_full((len(x),), spec.epsilon)
        noisy = uniform_start(x, radius, spec.norm, work.input_range, draws)
        if spec.steps:
            noisy = ascend(
                fixed,
                away_from(y, spec.loss, work.n_classes),
                noisy,
                Balls(x, radius, spec.norm, work.input_range),
                spec.step_lengths(radius),
                spec.steps,
            )
        logits = learning.logits(x)
        of_noisy = cross_entropy(learning.logits(noisy), y)
        total = spec.clean_weight * cross_entropy(logits, y) + (1 - spec.clean_weight) * of_noisy
        return total, (logits.detach().argmax(dim=1) == y).sum()

    return descend(spec, architecture, architecture_spec, work, loss)


METHOD = Method(
    spec=Spec,
    architectures=ROBUST_ARCHITECTURES,
    train=train,
    passes=passes,
)
