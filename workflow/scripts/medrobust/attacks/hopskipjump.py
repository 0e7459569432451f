"""HopSkipJump: a decision-based boundary attack (Chen, Jordan and Wainwright 2020).

Published use: Tables II and IV of the sign-network paper. This module chooses the engine that
the spec names; see the engine's module for what it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medrobust.attacks import AttackResult, LabelModel, ProgressSink
from medrobust.attacks.spec import HopSkipJumpSpec
from medrobust.errors import InputError

if TYPE_CHECKING:
    from medrobust.progress import Journal

Spec = HopSkipJumpSpec


def attack(
    model: LabelModel,
    x: np.ndarray,
    y: np.ndarray,
    spec: HopSkipJumpSpec,
    seeds: np.ndarray,
    *,
    x_start: np.ndarray | None = None,
    journal: Journal | None = None,
    progress: ProgressSink | None = None,
) -> AttackResult:
    """Attacks each point ``spec.restarts`` times; see ``medrobust.attacks.run_attack``.

    Raises:
        InputError: the number of seeds is not that of the restarts; starts are missing, given
            although the spec draws them, or outside the clip box; the box
            has an open end.
    """
    if seeds.shape[1] != spec.restarts:
        raise InputError(
            f"There are seeds for {seeds.shape[1]} restarts, but the settings ask for "
            f"{spec.restarts}."
        )
    spec.box()
    _check_starts(spec, x_start)
    from medrobust.attacks import hopskipjump_art

    return hopskipjump_art.attack(
        model, x, y, spec, seeds, x_start=x_start, journal=journal, progress=progress
    )


def _check_starts(spec: HopSkipJumpSpec, x_start: np.ndarray | None) -> None:
    if spec.start == "fixed" and x_start is None:
        raise InputError(
            "HopSkipJump with `start: fixed` needs a starting point for every point.",
            remedy="give x_start, or set `start: random`.",
        )
    if spec.start == "random" and x_start is not None:
        raise InputError(
            "Starting points were given, but `start: random` draws its own.",
            remedy="set `start: fixed`, or give no starting points.",
        )
    if x_start is not None and x_start.size:
        low, high = spec.box()
        if x_start.min() < low or x_start.max() > high:
            raise InputError(
                f"The starting points run from {x_start.min()} to {x_start.max()}, outside the "
                f"clip box [{low}, {high}].",
                remedy="set clip_min and clip_max to the range of the data.",
            )
