"""Gradient regularization: cross-entropy plus the length of its gradient at the points.

Ross and Doshi-Velez (2018) add ``weight * ||d CE / dx||_2^2``, mirst (section 2.1: "introduces the
L2 norm of gradients with respect to the input into the loss function") the norm itself, with weight
1. The gradient is that of each point's own cross-entropy; the loss is differentiated through it
(double backpropagation: Drucker and LeCun 1992).

With batch normalisation, a point's gradient in training is that of the sum over its batch, since
each point shapes the statistics that normalise the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from medrobust.core.schema import Settings
from medrobust.training.contract import Method
from medrobust.training.engine.input_penalties import losses_and_gradients
from medrobust.training.engine.robust_descent import (
    ROBUST_ARCHITECTURES,
    DescentSettings,
    descend,
    networks_of,
)
from medrobust.training.engine.work import Trained, Work

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from medrobust.training.engine.flat_updates import FlatMember

__all__ = ["METHOD", "Spec", "train"]

#: Added under the root: at a gradient of 0 the norm has no slope of its own.
TINY = 1e-24


class Spec(DescentSettings):
    """Settings of gradient regularization."""

    weight: float = Field(default=1.0, ge=0, description="of the penalty")
    penalty: Literal["norm", "squared_norm"] = Field(
        default="norm", description="of each point's gradient in L2, mean over the batch"
    )


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan.

    A plain step is a forward pass and twice as much backward; here the way back to the points is
    walked once more, and the way back through both is twice as long.
    """
    return spec.max_epochs * 2.0


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`."""
    networks = networks_of(architecture, architecture_spec)

    def loss(member: FlatMember, x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        logits, losses, gradients = losses_and_gradients(networks(member)[0], x, y)
        lengths = gradients.square().sum(dim=1)
        if spec.penalty == "norm":
            lengths = (lengths + TINY).sqrt()
        total = losses.mean() + spec.weight * lengths.mean()
        return total, (logits.detach().argmax(dim=1) == y).sum()

    return descend(spec, architecture, architecture_spec, work, loss)


METHOD = Method(
    spec=Spec,
    architectures=ROBUST_ARCHITECTURES,
    train=train,
    passes=passes,
)
