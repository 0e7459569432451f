"""Cross-entropy by stochastic gradient descent, with scikit-learn's MLPClassifier as the model.

Signnet-code trains its MLP with ``MLPClassifier(solver="sgd")``. This module computes the same
steps for many members at once: mean cross-entropy of the batch plus
``l2_penalty / 2 * sum(w**2) / batch points`` over the weights (not the biases), Nesterov
momentum, a constant learning rate, and its stopping rule.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from medrobust.registry import module_of
from medrobust.schema import Settings
from medrobust.training.loop import StoppingRule, train_stacked
from medrobust.training.work import Trained, Work

ARCHITECTURES = frozenset({"mlp"})


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
    import torch.nn.functional as functional

    module = module_of("architecture", architecture)
    initial = module.initial_parameters(
        architecture_spec, work.x.shape[1:], work.n_classes, work.seeds
    )

    def batch_loss(parameters: dict[str, Any], x: Any, y: Any) -> Any:
        outputs = module.forward(architecture_spec, parameters, x.flatten(2))
        if outputs.shape[2] == 1:
            losses = functional.binary_cross_entropy_with_logits(
                outputs[:, :, 0], y.to(outputs.dtype), reduction="none"
            )
        else:
            losses = functional.cross_entropy(outputs.transpose(1, 2), y, reduction="none")
        weights = [value for name, value in parameters.items() if name.startswith("w")]
        penalty = sum(w.square().flatten(1).sum(dim=1) for w in weights)
        return losses.mean(dim=1) + 0.5 * spec.l2_penalty / x.shape[1] * penalty

    def optimizer(tensors: list[Any]) -> Any:
        return torch.optim.SGD(
            tensors, lr=spec.learning_rate, momentum=spec.momentum, nesterov=spec.nesterov
        )

    parameters, history = train_stacked(
        work,
        initial,
        batch_loss,
        optimizer,
        batch_size=min(spec.batch_size, len(work.x)),
        stopping=StoppingRule(spec.max_epochs, spec.tolerance, spec.patience),
        what=f"training {len(work.members)} members of {architecture}",
    )
    return Trained(parameters, history)
