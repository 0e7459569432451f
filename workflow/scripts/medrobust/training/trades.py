"""TRADES (Zhang et al. 2019): cross-entropy plus the divergence from it within a ball.

The loss is ``CE(x, y) + beta KL(p(x) || p(x'))``, mean over the batch, where x' is what projected
gradient ascent of the divergence found in the ball, from ``x + 0.001 N(0, 1)``. Ima gives it the
steps of its other methods: 20, each 4 epsilon / 20 long. Its authors' own port has beta 0.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from medrobust.attacks.engine.gradient_ascent import Slopes, ascend
from medrobust.attacks.engine.norm_balls import Balls
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

__all__ = ["METHOD", "Spec", "divergence", "train"]

#: Standard deviation of the noise of the start: at the point itself the divergence has no slope.
START_NOISE = 0.001


class Spec(BallSettings):
    """Settings of TRADES."""

    beta: float = Field(default=0.5, ge=0, description="weight of the divergence")


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan."""
    return spec.max_epochs * (2 + ascent_passes(spec.steps))


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`."""
    import torch

    networks = networks_of(architecture, architecture_spec)

    def loss(member: FlatMember, x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        learning, fixed = networks(member)
        logits = learning.logits(x)
        radius = x.new_full((len(x),), spec.epsilon)
        start = torch.empty_like(x).normal_(0, START_NOISE, generator=draws).add_(x)
        noisy = ascend(
            fixed,
            _divergence_slopes(logits.detach()),
            start,
            Balls(x, radius, spec.norm, work.input_range),
            spec.step_lengths(radius),
            spec.steps,
        )
        total = cross_entropy(logits, y) + spec.beta * divergence(logits, learning.logits(noisy))
        return total, (logits.detach().argmax(dim=1) == y).sum()

    return descend(spec, architecture, architecture_spec, work, loss)


def divergence(clean: Tensor, noisy: Tensor) -> Tensor:
    """Returns the mean over points of ``KL(softmax(clean) || softmax(noisy))``.

    Args:
        clean: logits of the points, ``[n, c]``; part of the graph, as in TRADES.
        noisy: logits of the noisy points, ``[n, c]``.
    """
    from torch.nn.functional import kl_div, log_softmax

    return kl_div(
        log_softmax(noisy, dim=1), log_softmax(clean, dim=1), reduction="batchmean", log_target=True
    )


def _divergence_slopes(clean: Tensor) -> Slopes:
    """Returns the slopes of the divergence with respect to the noisy points' logits."""
    probabilities = clean.softmax(dim=1)
    return lambda logits, rows: logits.softmax(dim=1) - probabilities[rows]


METHOD = Method(
    spec=Spec,
    architectures=ROBUST_ARCHITECTURES,
    train=train,
    passes=passes,
)
