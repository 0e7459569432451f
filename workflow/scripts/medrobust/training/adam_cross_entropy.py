"""Cross-entropy by Adam for a fixed number of epochs.

Signnet-code trains its binary network so with Keras and its convolutional networks with skorch:
shuffled batches of 64, step 0.001, 100 epochs, the last state counts. Skorch holds out a part of
the training points by default, which the authors never used: ``validation_share``.

Adam (Kingma and Ba 2015) is PyTorch's, with decay 0.9 and 0.999, which are Keras's too. Keras
adds epsilon to the root of the second moment before that is corrected for its start at 0,
PyTorch after it: in the first steps Keras's epsilon weighs up to 32 times as much.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.training.contract import Method
from medrobust.training.engine.cross_entropy import descend
from medrobust.training.engine.loop import StoppingRule
from medrobust.training.engine.work import Trained, Work


class Spec(Settings):
    """Settings of Adam on the cross-entropy."""

    learning_rate: float = Field(gt=0, description="step size, constant")
    epsilon: float = Field(
        default=1e-8, gt=0, description="added to the root of the second moment of the gradient"
    )
    batch_size: int = Field(default=64, ge=1, description="points per step")
    max_epochs: int = Field(ge=1, description="passes over the data; there is no earlier stop")
    validation_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="part of the training points that is held out and never used",
    )


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members as one stack.

    Args:
        spec: the method's settings.
        architecture: registered name of the architecture.
        architecture_spec: its settings.
        work: data, members, seeds, device and checkpoint.

    Raises:
        InputError: no class has more points than are held out.
    """
    import torch

    kept = ~held_out(work.y, spec.validation_share)
    if not kept.any():
        raise InputError(
            f"No training point is left when {spec.validation_share:g} of each class is held out.",
            remedy="set validation_share to 0, or train on more points.",
        )
    if not kept.all():
        work = dataclasses.replace(work, x=work.x[kept], y=work.y[kept])
    return descend(
        work,
        architecture,
        architecture_spec,
        # Not fused: there the last bits depend on the place in the stack.
        lambda tensors: torch.optim.Adam(tensors, lr=spec.learning_rate, eps=spec.epsilon),
        batch_size=spec.batch_size,
        stopping=StoppingRule(spec.max_epochs),
    )


def held_out(y: np.ndarray, share: float) -> np.ndarray:
    """Returns which points skorch holds out, bool ``[n]``: the first ones of every class.

    Skorch takes the first of ``1 / share`` stratified folds, unshuffled; in the scikit-learn of
    the authors (0.21) these are the first points of each class, their number rounded up.

    Args:
        y: labels, int64 ``[n]``.
        share: part to hold out, in [0, 0.5].
    """
    held = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        held[rows[: int(np.ceil(len(rows) * share))]] = True
    return held


METHOD = Method(
    spec=Spec,
    architectures=frozenset({"mlp", "bnn", "cnn1d", "lenet", "batch_norm_resnet18", "resnet50"}),
    train=train,
    unit_seconds={"bnn": 1.1e-6, "cnn1d": 7.5e-4},
    value_seconds={"bnn": 1.3e-8},
)
