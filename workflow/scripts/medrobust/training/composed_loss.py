"""A loss composed of parts, as the nine methods of nsr (Ma and Liang 2020) are.

Each of them is one choice of settings.

The loss of a batch is the sum of

* ``clean_weight`` times the loss of the points (cross-entropy or squared error to one-hot labels);
* ``adversarial_weight`` times the same loss of adversarial examples of them, if there is an
  ``adversary``;
* a margin term, ``r1_weight`` times R1 and ``r2_weight`` times log(1 + R2), which are of the
  points that the network classifies correctly;
* ``jacobian_weight`` times the mean size of the Jacobian.

Around it: the order of an epoch, kernels of fixed length, decay, several moves per batch. The
last state counts. What each method of nsr is, by the authors' code and by the paper:
docs/nsr-training.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture, architecture_of
from medrobust.training.contract import Method
from medrobust.training.engine.adversarial_examples import signed_ascent
from medrobust.training.engine.apart_steps import ApartSteps, Descent
from medrobust.training.engine.class_balance import balanced_order
from medrobust.training.engine.first_values import first_values
from medrobust.training.engine.input_penalties import alignment, log_noise_to_signal, mean_jacobian
from medrobust.training.engine.kernel_norms import normaliser
from medrobust.training.engine.loop import StoppingRule, run_epochs
from medrobust.training.engine.losses import (
    cross_entropy,
    plain_margin,
    squared_error,
    windowed_margin,
)
from medrobust.training.engine.member_passes import Passes
from medrobust.training.engine.work import Trained, Work

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from medrobust.training.engine.flat_updates import FlatMember


class Adversary(Settings):
    """How adversarial examples for training are made: projected gradient ascent."""

    epsilon: float = Field(gt=0, description="radius in the largest norm, in the unit of the data")
    steps: int = Field(default=10, ge=1, description="signed gradient steps")
    step_size: float = Field(default=0.01, gt=0, description="size of a step in each coordinate")


class Spec(Settings):
    """Settings of a composed loss and of its descent."""

    loss: Literal["cross_entropy", "squared_error"] = Field(
        description="of the points; squared_error is to one-hot labels, summed over classes"
    )
    clean_weight: float = Field(default=1.0, ge=0, description="weight of the loss of the points")
    adversarial_weight: float = Field(
        default=0.0, ge=0, description="weight of the loss of adversarial examples"
    )
    adversary: Adversary | None = Field(
        default=None, description="how these are made; needed where their weight is not 0"
    )
    margin: Literal["none", "windowed", "plain"] = Field(
        default="none",
        description="terms 1 - z_y + z_i of correct points: windowed is the mean of those between "
        "0 and 2, plain the sum over classes of those above 0, mean over the batch",
    )
    r1_weight: float = Field(
        default=0.0, ge=0, description="weight of R1, the alignment of gradient and point"
    )
    r2_weight: float = Field(
        default=0.0, ge=0, description="weight of log(1 + R2), R2 being the noise-to-signal ratio"
    )
    r2_offset: float = Field(default=0.0, ge=0, description="added to |z_y| in R2")
    penalty_mean: Literal["correct", "batch"] = Field(
        default="correct",
        description="R1 and R2 are means over the correct points, or their sums over the number "
        "of points in the batch",
    )
    jacobian_weight: float = Field(
        default=0.0, ge=0, description="weight of the Jacobian: sum over classes of mean |dz/dx|"
    )
    normalise_kernels: bool = Field(
        default=False, description="scale the architecture's kernels to L2 norm 1 before each batch"
    )
    revive_kernels: bool = Field(
        default=False,
        description="draw those kernels anew that had no gradient in the epoch before",
    )
    l1_decay: float = Field(
        default=0.0,
        ge=0,
        description="learning_rate * l1_decay * sign(p) is taken off before every move",
    )
    l2_decay: float = Field(
        default=0.0,
        ge=0,
        description="learning_rate * l2_decay * p is taken off before every move",
    )
    class_balanced: bool = Field(
        default=False, description="classes alternate, each repeated to the size of the largest"
    )
    optimizer: Literal["adamax", "adam"] = Field(
        default="adamax", description="optimiser, with PyTorch's defaults"
    )
    learning_rate: float = Field(default=0.001, gt=0, description="step size, constant")
    batch_size: int = Field(default=128, ge=1, description="points per batch")
    max_epochs: int = Field(ge=1, description="epochs; there is no earlier stop")
    epoch_points: int | None = Field(
        default=None,
        ge=1,
        description="points of an epoch, the first of its order; null: all (balanced: five times "
        "the largest class, if there are five)",
    )
    updates_per_batch: int = Field(
        default=1, ge=1, description="moves of the optimiser with the gradient of one batch"
    )

    @model_validator(mode="after")
    def _adversary_and_its_weight(self) -> Self:
        if (self.adversary is None) != (self.adversarial_weight == 0):
            raise ValueError("adversary and adversarial_weight belong together: give both or none")
        return self


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan.

    A balanced epoch has at most ``n_classes * n_rows`` points. Slopes with respect to the points
    cost about as much as a plain step, of all classes ``n_classes`` times as much, and each step of
    an adversary two thirds of it.
    """
    points = n_rows * (n_classes if spec.class_balanced else 1)
    points = min(points, spec.epoch_points or points)
    cost = 1.0 + bool(spec.r1_weight or spec.r2_weight)
    cost += n_classes * bool(spec.jacobian_weight)
    if spec.adversary is not None:
        cost += 1 + spec.adversary.steps * 2 / 3
    return spec.max_epochs * points / n_rows * cost


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one, batch by batch.

    Args:
        spec: the method's settings.
        architecture: registered name of the architecture.
        architecture_spec: its settings.
        work: data, members, seeds, device, input range and checkpoint.
    """
    network = architecture_of(architecture)
    parameters, history = run_epochs(
        work,
        first_values(architecture, architecture_spec, work),
        ApartSteps(work, descent(spec, network, architecture_spec, work)),
        stopping=StoppingRule(spec.max_epochs),
        what=f"training {len(work.members)} members of {architecture}",
        ghosts=False,
    )
    return Trained(parameters, history)


def descent(spec: Spec, network: Architecture, architecture_spec: Settings, work: Work) -> Descent:
    """Returns how the steps are taken.

    Args:
        spec: the method's settings.
        network: the architecture.
        architecture_spec: its settings.
        work: data, input range and device.
    """
    gradient = _Gradient(spec, network, architecture_spec, work)
    layers = _layers(spec, network, architecture_spec)
    return Descent(
        gradient=gradient,
        order=_order(spec),
        batch_size=spec.batch_size,
        optimizer=spec.optimizer,
        learning_rate=spec.learning_rate,
        updates_per_batch=spec.updates_per_batch,
        l1_decay=spec.l1_decay,
        l2_decay=spec.l2_decay,
        examples=gradient.examples if spec.adversary is not None else None,
        before_batch=_normalisation(layers) if spec.normalise_kernels else None,
        revived=tuple(layers) if spec.revive_kernels else (),
        channels_last=network.channels_last,
    )


def _order(spec: Spec) -> Any:
    """Returns the function from labels and a generator to the rows of an epoch."""

    def order(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows = balanced_order(y, rng) if spec.class_balanced else rng.permutation(len(y))
        return rows[: spec.epoch_points]

    return order


def _layers(spec: Spec, network: Architecture, architecture_spec: Settings) -> list[str]:
    """Returns the layers whose kernels are rescaled or drawn anew; none where neither is asked."""
    keys = [key for key in ("normalise_kernels", "revive_kernels") if getattr(spec, key)]
    if not keys:
        return []
    if network.normalised_kernels is None:
        raise InputError(
            "This architecture does not say which of its kernels may be rescaled or drawn anew.",
            where=f"key method.{keys[0]}",
            remedy=f"set `{keys[0]}: false`, or use {' or '.join(_with_kernel_names())}.",
        )
    return network.normalised_kernels(architecture_spec)


def _normalisation(layers: list[str]) -> Any:
    return lambda values: normaliser(values, layers)


def _with_kernel_names() -> list[str]:
    """Returns the architectures of this method that say which kernels may be rescaled."""
    return sorted(n for n in METHOD.architectures if architecture_of(n).normalised_kernels)


class _Gradient:
    """The gradient of one member's loss on a batch, the loss, and how many points are correct."""

    def __init__(
        self, spec: Spec, network: Architecture, architecture_spec: Settings, work: Work
    ) -> None:
        import torch

        self._spec, self._network, self._network_spec = spec, network, architecture_spec
        self._input_range = work.input_range
        self._eye = torch.eye(work.n_classes, device=work.device)

    def __call__(
        self,
        member: FlatMember,
        x: Tensor,
        y: Tensor,
        draws: Generator,
        examples: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        spec, passes = self._spec, Passes(self._network, self._network_spec, member)
        hot = self._eye.index_select(0, y)
        logits, pattern = passes.logits(x)
        correct = logits.detach().argmax(dim=1) == y
        loss = spec.clean_weight * self._of_points(logits, y, hot)
        if spec.margin != "none" or spec.r1_weight or spec.r2_weight:
            loss = loss + self._of_correct(passes, x, logits, pattern, hot, correct.to(x.dtype))
        if spec.jacobian_weight:
            w = passes.slopes(pattern, self._eye[:, None, :])
            loss = loss + spec.jacobian_weight * mean_jacobian(w)
        if examples is not None:
            of_adversarial = self._of_points(passes.logits(examples)[0], y, hot)
            loss = loss + spec.adversarial_weight * of_adversarial
        return passes.gradient(loss), loss.detach(), correct.sum()

    def _of_points(self, logits: Tensor, y: Tensor, hot: Tensor) -> Tensor:
        if self._spec.loss == "cross_entropy":
            return cross_entropy(logits, y)
        return squared_error(logits, hot)

    def _of_correct(
        self,
        passes: Passes,
        x: Tensor,
        logits: Tensor,
        pattern: Any,
        hot: Tensor,
        correct: Tensor,
    ) -> Tensor | float:
        """Returns the sum of the terms that are of correct points only."""
        spec, total, values = self._spec, 0.0, 0.0
        if spec.margin != "none":
            margin = windowed_margin if spec.margin == "windowed" else plain_margin
            total = margin(logits, hot, correct)
        if not (spec.r1_weight or spec.r2_weight):
            return total
        w_y = passes.slopes(pattern, hot)
        if spec.r1_weight:
            values = spec.r1_weight * alignment(w_y, x)
        if spec.r2_weight:
            z_y = (logits * hot).sum(dim=1)
            values = values + spec.r2_weight * log_noise_to_signal(w_y, z_y, spec.r2_offset)
        points = len(x) if spec.penalty_mean == "batch" else correct.sum().clamp_(min=1)
        return total + (values * correct).sum() / points

    def examples(self, member: FlatMember, x: Tensor, y: Tensor, draws: Generator) -> Tensor:
        """Returns adversarial examples ``[n, d]`` of a batch, by the member as it is."""
        adversary, hot = self._spec.adversary, self._eye.index_select(0, y)
        passes = Passes(self._network, self._network_spec, member)

        def gradient(points: Tensor) -> Tensor:
            logits, pattern = passes.unwatched(points)
            # Up to a positive factor, to which signs are blind.
            called = logits.softmax(dim=1) if self._spec.loss == "cross_entropy" else logits
            return passes.slopes(pattern, called - hot, watched=False)

        return signed_ascent(
            gradient,
            x,
            epsilon=adversary.epsilon,
            steps=adversary.steps,
            step_size=adversary.step_size,
            input_range=self._input_range,
            generator=draws,
        )


METHOD = Method(
    spec=Spec,
    architectures=frozenset(
        {"relu_mlp", "kachuee_cnn", "layer_norm_mlp", "instance_norm_cnn", "resnet18"}
    ),
    train=train,
    passes=passes,
    unit_seconds={"relu_mlp": 7e-6, "kachuee_cnn": 2.9e-4},
)
