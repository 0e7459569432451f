"""What the attacks within a ball share: settings, checks, starting rows in the maximum norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field, model_validator

from medrobust.attacks import LabelModel
from medrobust.attacks.engine.spec import Count, Finite, check_box, clip_box
from medrobust.core.errors import InputError
from medrobust.core.schema import Settings

if TYPE_CHECKING:
    from medrobust.models.gradients import Loss

#: Streams of random numbers that a run's seed gives; those from STEP_STREAMS on are for its steps.
START_STREAM, STEP_STREAMS = 1, 16

Norm = Literal["linf", "l2"]
Optimizer = Literal["sign", "adam", "adamax"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ScoreModel(LabelModel, Protocol):
    """What attacks by scores need of a model.

    ``logits`` is asked about ``gradient_block`` rows at a time, padding included, so a row's answer
    may depend on nothing but the row. A model that gives logits and no gradients says so by
    ``has_logits = True``.
    """

    gradient_block: int

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Returns float32 ``[n, n_classes]`` for float32 ``[n, *input_shape]``."""
        ...


class GradientModel(ScoreModel, Protocol):
    """What attacks by gradients need of a model; ``medrobust.models.ensembles.Ensemble`` is one.

    ``loss_gradients`` is asked about blocks as ``logits`` is.
    """

    has_gradients: bool

    def loss_gradients(
        self, x: np.ndarray, y: np.ndarray, loss: Loss
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the logits and, float32 ``[n, *input_shape]``, each row's gradient."""
        ...


class BallSpec(Settings):
    """Settings of an attack within a ball, of the maximum norm unless it says otherwise."""

    epsilon: Positive = Field(description="radius of the ball, in the units of the data")
    clip_min: Finite | None = Field(
        default=None,
        description="lower end of the box that no value leaves, in the units of the data; null: "
        "the smallest training value",
    )
    clip_max: Finite | None = Field(
        default=None, description="upper end of that box; null: the largest training value"
    )

    @model_validator(mode="after")
    def _box_is_not_empty(self) -> BallSpec:
        check_box(self.clip_min, self.clip_max)
        return self

    def box(self) -> tuple[np.float32, np.float32]:
        """Returns the clip box.

        Raises:
            InputError: an end of the box is still open.
        """
        return clip_box(self.clip_min, self.clip_max)


class SteppedSpec(BallSpec):
    """Settings of an attack within a ball that takes steps."""

    num_steps: Count = Field(default=100, description="most steps of a run")
    step_size: float | None = Field(
        default=0.01,
        gt=0,
        allow_inf_nan=False,
        description="length of a step in the units of the data; learning rate of adam and adamax; "
        "null, the default beside step_share: a share of epsilon",
    )
    step_share: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="the same as a share of epsilon, in place of step_size",
    )
    optimizer: Optimizer = Field(
        default="sign",
        description="sign: steps of step_size; adam, adamax: these optimisers, given minus the "
        "sign of the gradient",
    )
    random_start: bool = Field(
        default=True, description="start at a uniform draw from the ball, not at the point"
    )
    restarts: Count = Field(default=1, description="runs per point")
    early_stop: bool = Field(
        default=True, description="whether a run ends as soon as its label changes"
    )

    @model_validator(mode="before")
    @classmethod
    def _share_replaces_the_default(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("step_share") is not None:
            return {"step_size": None, **values}
        return values

    @model_validator(mode="after")
    def _one_step_is_given(self) -> SteppedSpec:
        if (self.step_size is None) == (self.step_share is None):
            raise ValueError("give exactly one of step_size and step_share")
        return self

    def step_length(self) -> float:
        """Returns the length of a step, in the units of the data."""
        if self.step_size is not None:
            return self.step_size
        assert self.step_share is not None  # checked when the settings were made
        return self.step_share * self.epsilon


def check_attack(spec: BallSpec, seeds: np.ndarray, x_start: np.ndarray | None) -> None:
    """Checks what an attack within a ball is given.

    Raises:
        InputError: the number of seeds is not that of the restarts, starts are given, or the box
            has an open end.
    """
    spec.box()
    if seeds.shape[1] != spec.restarts:
        raise InputError(
            f"There are seeds for {seeds.shape[1]} restarts, but the settings ask for "
            f"{spec.restarts}."
        )
    if x_start is not None:
        raise InputError("Starting points were given, but this attack starts at the points.")


def check_logits(model: ScoreModel, attack: str) -> None:
    """Checks that a model gives logits.

    Raises:
        InputError: it does not.
    """
    if not (getattr(model, "has_logits", False) or getattr(model, "has_gradients", False)):
        raise InputError(
            f"The attack {attack} needs scores (logits), which this model does not give.",
            remedy="attack it by labels (hopskipjump, uniform_noise), let it return scores of all "
            "classes, or, for an ensemble, join its members by `vote: soft`.",
        )


def check_gradients(model: GradientModel, attack: str) -> None:
    """Checks that a model gives logits and their gradients.

    Raises:
        InputError: it does not.
    """
    if not getattr(model, "has_gradients", False):
        raise InputError(
            f"The attack {attack} needs gradients, which this model does not give.",
            remedy="attack it by its scores (spsa) or by its labels (hopskipjump, uniform_noise); "
            "a torch.nn.Module has gradients, and so has an ensemble of such members joined by "
            "`vote: soft`.",
        )


def starting_rows(
    x: np.ndarray, seeds: np.ndarray, spec: BallSpec, *, random: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns where runs begin, and the least and the most that their values may become.

    Args:
        x: float32 ``[k, d]``, their points.
        seeds: int64 ``[k]``.
        spec: the attack's settings.
        random: whether rows are drawn uniformly from the ball, else they are the points.

    Returns:
        float32 ``[k, d]`` each; see :func:`medrobust.attacks.engine.ball_kernels.limits`.
    """
    from medrobust.attacks.engine import ball_kernels

    least, most, rows = np.empty((3, *x.shape), dtype=np.float32)
    ball_kernels.limits(x, spec.epsilon, *spec.box(), least, most)
    if random:
        ball_kernels.uniform_start(x, seeds, START_STREAM, spec.epsilon, least, most, rows)
    else:
        rows[:] = x
    return rows, least, most
