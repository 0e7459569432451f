"""What the methods of ima share: settings of the descent, and members with data of each point.

Ima, "Experiments on Classification": Adam with PyTorch's defaults, a fixed number of epochs, the
last state counts. What a method keeps of each training point, such as its margin, travels with a
member's parameters through checkpoints, and is handed back apart from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from medrobust.attacks.engine.gradient_ascent import Network
from medrobust.attacks.engine.norm_balls import Norm
from medrobust.core.schema import Settings
from medrobust.models.contract import architecture_of
from medrobust.training.engine.apart_steps import ApartSteps, Descent
from medrobust.training.engine.first_values import first_values
from medrobust.training.engine.loop import StoppingRule, run_epochs
from medrobust.training.engine.point_values import Sweep
from medrobust.training.engine.work import Trained, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ROBUST_ARCHITECTURES = frozenset(
    {"layer_norm_mlp", "instance_norm_cnn", "resnet18", "batch_norm_resnet18", "resnet50"}
)


class DescentSettings(Settings):
    """Settings of the descent, the same for all methods of ima."""

    learning_rate: float = Field(default=0.001, gt=0, description="step size of Adam, constant")
    batch_size: int = Field(default=128, ge=1, description="points per batch")
    max_epochs: int = Field(ge=1, description="epochs; there is no earlier stop")


class BallSettings(DescentSettings):
    """Settings of methods that take gradient steps within a ball around each point."""

    norm: Norm = Field(default="linf", description="of the perturbations")
    epsilon: float = Field(gt=0, description="radius, in the unit of the data")
    steps: int = Field(default=20, ge=1, description="gradient steps")
    reach: float = Field(
        default=4.0, gt=0, description="length of all steps together, in radii (alpha)"
    )

    def step_lengths(self, radius: Tensor) -> Tensor:
        """Returns the length of a step in the balls of these radii, ``[n]``."""
        return radius * (self.reach / self.steps)


def descend(
    spec: DescentSettings,
    architecture: str,
    architecture_spec: Settings,
    work: Work,
    loss: Callable[..., tuple[Any, Any]],
    *,
    per_point: dict[str, float] | None = None,
    sweep: Sweep | None = None,
    initial: dict[str, np.ndarray] | None = None,
) -> Trained:
    """Trains ``work``'s members one by one, batch by batch.

    Args:
        spec: settings of the descent.
        architecture: registered name of the architecture.
        architecture_spec: its settings.
        work: data, members, seeds, device, input range and checkpoint.
        loss: ``(member, x [b, d], y [b], generator) -> (loss, number of points classified
            correctly)``, and with ``per_point`` a fifth argument, a
            :class:`medrobust.training.engine.point_values.PerPoint`.
        per_point: what is kept of each training point, by name, and what it is at first.
        sweep: over all points after each epoch.
        initial: what the members begin with, other arrays than the architecture's among it; by
            default its first values.
    """
    first, entry = per_point or {}, architecture_of(architecture)
    if initial is None:
        initial = first_values(architecture, architecture_spec, work)
    size = (len(work.members), len(work.x))
    kept = {name: np.full(size, value, dtype=np.float32) for name, value in first.items()}

    def gradient(member: Any, *batch: Any) -> tuple[Any, Any, Any]:
        total, right = loss(member, *batch)
        return member.gradient(total), total.detach(), right

    descent = Descent(
        gradient=gradient,
        order=lambda y, rng: rng.permutation(len(y)),
        batch_size=spec.batch_size,
        optimizer="adam",
        learning_rate=spec.learning_rate,
        untrained=entry.untrained,
        per_point=tuple(kept),
        sweep=sweep,
        channels_last=entry.channels_last,
    )
    arrays, history = run_epochs(
        work,
        initial | kept,
        ApartSteps(work, descent),
        stopping=StoppingRule(spec.max_epochs),
        what=f"training {len(work.members)} members of {architecture}",
        ghosts=False,
    )
    extras = {name: arrays.pop(name) for name in kept}
    return Trained(arrays, history, extras)


def ascent_passes(steps: int, evaluations: int = 0) -> float:
    """Returns the cost of a gradient ascent in plain steps of training, for the plan.

    A plain step is a forward pass and two backward ones, to the weights and to the values between;
    a step of the ascent has one of each, and an evaluation is a forward pass.
    """
    return (2 * steps + evaluations) / 3


def networks_of(
    architecture: str, architecture_spec: Settings
) -> Callable[[Any], tuple[Network, Network]]:
    """Returns the function from a member to its network twice: one that learns, and a fixed one.

    The one that learns has gradients of the weights. Where an architecture normalises batches, it
    normalises each by its own statistics and adds these to the running averages; the fixed one,
    which noisy points are made for, has the averages, as when it is evaluated.
    """
    entry = architecture_of(architecture)

    def networks(member: Any) -> tuple[Network, Network]:
        moving = None if entry.training_logits is None else member.untrained
        return (
            Network(entry, architecture_spec, member.leaves, moving),
            Network(entry, architecture_spec, member.values),
        )

    return networks
