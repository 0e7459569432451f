"""Adversarial training with DDN examples, in L2 (Rony et al. 2019, decoupled direction and norm).

For each point of a batch, a search for the nearest wrong point (their Algorithm 1): a step along
the gradient turns the direction, and the distance shrinks by a factor where the point before was
misclassified and grows by one where it was classified correctly. It never passes ``epsilon``. The
network trains on the nearest wrong points found, and where none was found where the search ended:
at most ``epsilon`` away, less if the input range cut the way or steps were few. A point that is
misclassified as it is stands for itself.

Ima names this method in tables of its appendix only, with 100 iterations: docs/ima-training.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from medrobust.attacks.engine.gradient_ascent import Network, away_from
from medrobust.attacks.engine.norm_balls import unit_rows
from medrobust.core.schema import Settings
from medrobust.training.contract import Method
from medrobust.training.engine.losses import cross_entropy
from medrobust.training.engine.robust_descent import (
    ROBUST_ARCHITECTURES,
    DescentSettings,
    ascent_passes,
    descend,
    networks_of,
)
from medrobust.training.engine.work import Trained, Work

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from medrobust.training.engine.flat_updates import FlatMember

__all__ = ["METHOD", "Spec", "nearest_wrong", "train"]

#: Length of the first and of the last step (Rony et al., section 4).
FIRST_STEP, LAST_STEP = 1.0, 0.01


class Spec(DescentSettings):
    """Settings of training with DDN examples."""

    epsilon: float = Field(gt=0, description="largest distance in L2, in the unit of the data")
    steps: int = Field(default=100, ge=1, description="gradient steps")
    factor: float = Field(
        default=0.05, gt=0, lt=1, description="by how much a step changes the distance (gamma)"
    )
    first_distance: float = Field(default=1.0, gt=0, description="distance at first")


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan."""
    return spec.max_epochs * (1 + ascent_passes(spec.steps))


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`."""
    networks = networks_of(architecture, architecture_spec)

    def loss(member: FlatMember, x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        learning, fixed = networks(member)
        noisy, correct = nearest_wrong(spec, fixed, x, y, work.n_classes, work.input_range)
        return cross_entropy(learning.logits(noisy), y), correct.sum()

    return descend(spec, architecture, architecture_spec, work, loss)


def nearest_wrong(
    spec: Spec,
    network: Network,
    x: Tensor,
    y: Tensor,
    n_classes: int,
    input_range: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Returns the nearest wrong points found, ``[n, d]``, and which points are correct themselves.

    Where none was found: the point at which the search ended, at most ``epsilon`` away.

    Args:
        spec: the method's settings.
        network: the member.
        x: points, ``[n, d]``.
        y: labels, int64 ``[n]``.
        n_classes: number of classes.
        input_range: lowest and highest valid value.
    """
    import torch

    slopes, rows = away_from(y, "cross_entropy", n_classes), torch.arange(len(x), device=x.device)
    with torch.no_grad():
        distance = x.new_full((len(x),), min(spec.first_distance, spec.epsilon))
        best, least = x.clone(), torch.full_like(distance, torch.inf)
        points = x
        for step in range(spec.steps + 1):
            logits, pattern = network.logits_and_pattern(points)
            wrong = logits.argmax(dim=1) != y
            away = points - x
            length = away.norm(dim=1)
            nearer = wrong & (length < least)
            best = torch.where(nearer[:, None], points, best)
            least = torch.where(nearer, length, least)
            if step == 0:
                correct = ~wrong
            if step == spec.steps:
                break
            away += _step_length(step, spec.steps) * unit_rows(
                network.pull_back(pattern, slopes(logits, rows))
            )
            distance = distance * torch.where(wrong, 1 - spec.factor, 1 + spec.factor)
            distance.clamp_(max=spec.epsilon)
            points = (x + distance[:, None] * unit_rows(away)).clamp_(*input_range)
        return torch.where(least.isinf()[:, None], points, best), correct


def _step_length(step: int, steps: int) -> float:
    """Returns the length of a step: half a cosine wave from the first to the last."""
    share = (1 + math.cos(math.pi * step / steps)) / 2
    return LAST_STEP + (FIRST_STEP - LAST_STEP) * share


METHOD = Method(
    spec=Spec,
    architectures=ROBUST_ARCHITECTURES,
    train=train,
    passes=passes,
)
