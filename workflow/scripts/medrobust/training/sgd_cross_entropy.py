"""Cross-entropy by stochastic gradient descent, with scikit-learn's MLPClassifier as the model.

Signnet-code (Yang et al. 2020) trains its MLP with ``MLPClassifier(solver="sgd")``. This module
computes the same steps for many members at once: mean cross-entropy of the batch plus ``l2_penalty
/ 2 * sum(w**2) / batch points`` over the weights (not the biases), Nesterov momentum, a constant
learning rate, and its stopping rule.
"""

from __future__ import annotations

import functools
from typing import Any

from pydantic import Field

from medrobust.core.schema import Settings
from medrobust.models.contract import architecture_of
from medrobust.training.contract import Method
from medrobust.training.engine.cross_entropy import descend
from medrobust.training.engine.loop import MemberEpoch, StoppingRule
from medrobust.training.engine.work import Trained, Work


class Spec(Settings):
    """Settings of stochastic gradient descent on the cross-entropy."""

    learning_rate: float = Field(gt=0, description="step size, constant")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum")
    nesterov: bool = Field(default=True, description="Nesterov's form of momentum")
    l2_penalty: float = Field(default=0.0, ge=0, description="weight of the L2 penalty (alpha)")
    batch_size: int = Field(default=200, ge=1, description="points per step")
    max_epochs: int = Field(ge=1, description="most passes over the data")
    tolerance: float = Field(default=1e-4, ge=0, description="least fall of the loss that counts")
    patience: int = Field(default=10, ge=1, description="epochs without such a fall before a stop")


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members as one stack.

    Args:
        spec: the method's settings.
        architecture: registered name of the architecture.
        architecture_spec: its settings.
        work: data, members, seeds, device and checkpoint.
    """
    import torch

    def penalty(parameters: dict[str, Any], points: int) -> Any:
        weights = [value for name, value in parameters.items() if name.startswith("w")]
        squares = sum(w.square().flatten(1).sum(dim=1) for w in weights)
        return 0.5 * spec.l2_penalty / points * squares

    def optimizer(tensors: list[Any]) -> Any:
        return torch.optim.SGD(
            tensors, lr=spec.learning_rate, momentum=spec.momentum, nesterov=spec.nesterov
        )

    return descend(
        work,
        architecture,
        architecture_spec,
        optimizer,
        batch_size=spec.batch_size,
        stopping=StoppingRule(spec.max_epochs, spec.tolerance, spec.patience),
        penalty=penalty,
        member_epoch=_member_epoch(spec, architecture, architecture_spec, len(work.x)),
    )


def _member_epoch(
    spec: Spec, architecture: str, architecture_spec: Settings, points: int
) -> MemberEpoch | None:
    """Returns the architecture's function ``momentum_epoch``, if it has one, with the settings.

    What such a function does: :func:`medrobust.models.mlp.momentum_epoch`.
    """
    written_out = architecture_of(architecture).momentum_epoch
    return written_out and functools.partial(
        written_out,
        architecture_spec,
        batch_size=min(spec.batch_size, points),
        learning_rate=spec.learning_rate,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        l2_penalty=spec.l2_penalty,
    )


METHOD = Method(
    spec=Spec,
    architectures=frozenset({"mlp"}),
    train=train,
    unit_seconds={"mlp": 3e-7},
)
