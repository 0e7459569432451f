"""Multi-instance robust self-training, and with one instance robust self-training.

Mirst, equations 1 to 3: the cross-entropy of the points plus ``adversarial_weight`` (alpha) times
the weighted cross-entropy of several points on the way of one projected gradient ascent, from weak
to strong: ``l(x, y) + alpha sum_j beta_j l(x_j, y)``. ``instances`` are the numbers of steps after
which such a point is taken, ``weights`` their beta.

* MIRST: four instances, weights .34, .28, .22, .16. Which four of the ten is illegible in print; by
  default every other one from the last, the largest weight on the strongest.
* RST in its supervised form (Raghunathan et al. 2019, Carmon et al. 2019): one instance, the last.
* Adversarial training (Madry et al. 2018): the same with ``clean_weight: 0``.

The ascent begins at the point itself, as equation 3 says; its steps are as long as ``reach`` says,
which print does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from medrobust.attacks.engine.gradient_ascent import AttackLoss, Network, Slopes, ascend, away_from
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
    from collections.abc import Iterator

    from torch import Generator, Tensor

    from medrobust.training.engine.flat_updates import FlatMember

__all__ = ["METHOD", "Spec", "train"]


class Spec(BallSettings):
    """Settings of multi-instance robust self-training."""

    steps: int = Field(default=10, ge=1, description="gradient steps (T)")
    reach: float = Field(
        default=2.5, gt=0, description="length of all steps together, in radii (T gamma / epsilon)"
    )
    random_start: bool = Field(
        default=False, description="begin at a uniform draw from the ball, not at the point"
    )
    loss: AttackLoss = Field(default="cross_entropy", description="that the steps raise")
    instances: list[int] = Field(
        default=[10, 8, 6, 4],
        min_length=1,
        description="steps after which an instance is taken, each number once",
    )
    weights: list[float] = Field(
        default=[0.34, 0.28, 0.22, 0.16],
        description="of the instances, in their order (beta)",
    )
    clean_weight: float = Field(default=1.0, ge=0, description="of the points themselves")
    adversarial_weight: float = Field(
        default=1.0, ge=0, description="of the weighted sum over instances (alpha)"
    )

    @model_validator(mode="after")
    def _instances_lie_on_the_way(self) -> Self:
        if len(self.weights) != len(self.instances):
            raise ValueError(
                f"{len(self.instances)} instances have {len(self.weights)} weights: give one each"
            )
        if len(set(self.instances)) < len(self.instances):
            raise ValueError(f"instances {self.instances} name a step twice")
        if min(self.instances) < 1 or max(self.instances) > self.steps:
            raise ValueError(f"instances {self.instances} must lie in 1 .. steps ({self.steps})")
        if min(self.weights) < 0:
            raise ValueError(f"weights {self.weights} must not be negative")
        return self


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan.

    The ascent ends with the strongest instance; later steps would make nothing that is used.
    """
    learnt = len(spec.instances) + (spec.clean_weight > 0)
    return spec.max_epochs * (learnt + ascent_passes(max(spec.instances)))


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`."""
    networks = networks_of(architecture, architecture_spec)
    weights = dict(zip(spec.instances, spec.weights, strict=True))

    def loss(member: FlatMember, x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        learning, fixed = networks(member)
        radius = x.new_full((len(x),), spec.epsilon)
        start = x
        if spec.random_start:
            start = uniform_start(x, radius, spec.norm, work.input_range, draws)
        balls = Balls(x, radius, spec.norm, work.input_range)
        slopes = away_from(y, spec.loss, work.n_classes)
        on_the_way = list(_instances(spec, fixed, slopes, start, balls, radius))
        total, right = x.new_zeros(()), None
        if spec.clean_weight:
            logits = learning.logits(x)
            total = spec.clean_weight * cross_entropy(logits, y)
            right = (logits.detach().argmax(dim=1) == y).sum()
        for step, noisy in on_the_way:
            logits = learning.logits(noisy)
            weight = spec.adversarial_weight * weights[step]
            total = total + weight * cross_entropy(logits, y)
            # Without the points themselves, the accuracy is that of the strongest instance.
            right = (logits.detach().argmax(dim=1) == y).sum() if not spec.clean_weight else right
        return total, right

    return descend(spec, architecture, architecture_spec, work, loss)


def _instances(
    spec: Spec,
    network: Network,
    slopes: Slopes,
    points: Tensor,
    balls: Balls,
    radius: Tensor,
) -> Iterator[tuple[int, Tensor]]:
    """Yields, from weak to strong, the number of steps and the points after so many."""
    done, size = 0, spec.step_lengths(radius)
    for step in sorted(spec.instances):
        # The ascent lets balls go whose rows are finished; the next part needs all of them.
        points = ascend(network, slopes, points, balls.copy(), size, step - done)
        done = step
        yield step, points


METHOD = Method(
    spec=Spec,
    architectures=ROBUST_ARCHITECTURES,
    train=train,
    passes=passes,
)
