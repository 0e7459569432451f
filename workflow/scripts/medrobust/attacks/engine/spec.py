"""Settings of the attacks, as far as several engines share them. Importing this is cheap."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings

Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def check_box(clip_min: float | None, clip_max: float | None) -> None:
    """Checks the ends of a clip box, as far as they are given.

    Raises:
        ValueError: the box is empty, or too wide for float32.
    """
    if clip_min is None or clip_max is None:
        return
    low, high = clip_box(clip_min, clip_max)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"clip_min ({clip_min}) must be smaller than clip_max ({clip_max}), "
            "both within the range of float32"
        )


def clip_box(clip_min: float | None, clip_max: float | None) -> tuple[np.float32, np.float32]:
    """Returns a clip box as float32, the type in which every query is made.

    Raises:
        InputError: an end of the box is still open.
    """
    if clip_min is None or clip_max is None:
        raise InputError(
            "The clip box of the attack has an open end.",
            where="clip_min, clip_max",
            remedy="set both in the attack's options.",
        )
    with np.errstate(over="ignore"):
        return np.float32(clip_min), np.float32(clip_max)


class HopSkipJumpSpec(Settings):
    """HopSkipJump (Chen, Jordan and Wainwright 2020, arXiv 1904.02144).

    The defaults are those of the ECG experiments of the sign-network paper ("an initial pool
    size of 1000 random points and 100 iterations", 10 runs; the rest as in the Adversarial
    Robustness Toolbox, ART), but for the start: the published one is ``random``. The attack is
    against the model's own clean prediction.
    """

    engine: Literal["native", "art"] = Field(
        default="native",
        description="implementation: native, all points and restarts in lockstep, or art, the one "
        "that the paper used, point by point",
    )
    norm: Literal[2, "inf"] = Field(default=2, description="distance to minimise")
    targeted: bool = Field(
        default=False,
        description="true: towards the class `target` (engine native); a point that the model "
        "misclassifies already counts as distance 0 in any case",
    )
    target: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="class that a targeted attack aims at"
    )
    max_iter: Count = Field(default=100, description="iterations")
    max_eval: Count = Field(default=10000, description="most queries for one gradient estimate")
    init_eval: Count = Field(
        default=100,
        description="queries of the first estimate; iteration t uses "
        "min(init_eval * sqrt(t), max_eval)",
    )
    init_size: Count = Field(
        default=1000,
        description="random points to try for an adversarial start; most queries of a search "
        "outwards",
    )
    restarts: Count = Field(default=10, description="runs per point")
    clip_min: Finite | None = Field(
        default=None,
        description="lower end of the box that no query leaves, in the units of the data "
        "(kept as float32); null: the smallest training value, as in the paper",
    )
    clip_max: Finite | None = Field(
        default=None, description="upper end of that box; null: the largest training value"
    )
    start: Literal["random", "blended", "outward", "fixed"] = Field(
        default="outward",
        description="random: uniform in the box, as published; blended: where none of these is "
        "adversarial, init_size points more, among them blends of the point with noise; outward: "
        "the nearest adversarial point on lines from the point, searched outwards with at most "
        "init_size queries, and where there is none, a start as blended and the line to it; fixed: "
        "given by the caller for each point",
    )
    refinement: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        default=0.0,
        description="part of the iterations, the last ones, that search in the tangent plane of "
        "the boundary instead (engine native, norm 2); 0 as published",
    )
    batch_size: Count = Field(
        default=1024, description="most rows handed to the model at once; changes no result"
    )
    projection_tolerance: Annotated[float, Field(ge=1e-7, lt=1.0)] = Field(
        default=1e-5,
        description="the final bisection stops when the bracket is at most this fraction of the "
        "segment from the point to the last iterate",
    )

    @model_validator(mode="after")
    def _consistent(self) -> HopSkipJumpSpec:
        if self.init_eval > self.max_eval:
            raise ValueError(
                f"init_eval ({self.init_eval}) must not exceed max_eval ({self.max_eval})"
            )
        if self.targeted != (self.target is not None):
            raise ValueError("`targeted: true` and `target` need each other")
        if self.engine == "art" and (self.targeted or self.refinement):
            raise ValueError("targeted attacks and refinement need `engine: native`")
        if self.norm != 2 and self.refinement:
            raise ValueError("refinement needs `norm: 2`")
        check_box(self.clip_min, self.clip_max)
        return self

    def box(self) -> tuple[np.float32, np.float32]:
        """Returns the clip box as float32, the type in which every query is made.

        Raises:
            InputError: an end of the box is still open.
        """
        return clip_box(self.clip_min, self.clip_max)

    def estimate_size(self, iteration: int) -> int:
        """Returns the queries of the gradient estimate of an iteration, counted from 0."""
        return min(int(self.init_eval * math.sqrt(iteration + 1)), self.max_eval)

    def estimates(self, iterations: int) -> int:
        """Returns the queries of the gradient estimates of the first iterations together."""
        return sum(self.estimate_size(t) for t in range(iterations))

    def refinement_iterations(self) -> int:
        """Returns how many of the last iterations search in the tangent plane."""
        return min(round(self.refinement * self.max_iter), self.max_iter - 1)

    def expected_queries(self) -> int:
        """Returns about how many queries one point costs, all restarts together (for plans).

        Gradient estimates, and for each iteration some 13 queries to step and to bisect (ART
        spends 68,400 on 100 iterations, of which the estimates are 67,146); half of what a search
        outwards may spend.
        """
        start = self.init_size // 2 if self.start == "outward" else 30
        estimates = self.estimates(self.max_iter)
        return round(self.restarts * (estimates + 13 * self.max_iter + start))
