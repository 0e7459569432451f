"""HopSkipJump: a decision-based boundary attack (Chen, Jordan and Wainwright 2020).

Published use: Tables II and IV of the sign-network paper. This module chooses the engine that
the spec names; see the engine's module for what it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medrobust.attacks import AttackResult, LabelModel, ProgressSink
from medrobust.attacks.contract import Attack
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core.errors import InputError

if TYPE_CHECKING:
    from medrobust.runtime.journal import Journal


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
            has an open end; a point belongs to the target already.
    """
    if seeds.shape[1] != spec.restarts:
        raise InputError(
            f"There are seeds for {seeds.shape[1]} restarts, but the settings ask for "
            f"{spec.restarts}."
        )
    spec.box()
    _check_starts(spec, x_start)
    _check_target(spec, model, y)
    from medrobust.attacks.engine import hopskipjump_art, hopskipjump_native

    attack_by = hopskipjump_art.attack if spec.engine == "art" else hopskipjump_native.attack
    return attack_by(model, x, y, spec, seeds, x_start=x_start, journal=journal, progress=progress)


def _check_target(spec: HopSkipJumpSpec, model: LabelModel, y: np.ndarray) -> None:
    if not spec.targeted:
        return
    if spec.target >= model.n_classes:
        raise InputError(
            f"The target is class {spec.target}, but the model has {model.n_classes} classes "
            f"(0 to {model.n_classes - 1}).",
            where="target",
        )
    if (there := np.flatnonzero(y == spec.target)).size:
        raise InputError(
            f"{there.size} point(s) belong to the target, class {spec.target}, already.",
            where=f"row(s) {', '.join(map(str, there[:10]))}",
            remedy="attack points of the other classes.",
        )


def _check_starts(spec: HopSkipJumpSpec, x_start: np.ndarray | None) -> None:
    if spec.start == "fixed" and x_start is None:
        raise InputError(
            "HopSkipJump with `start: fixed` needs a starting point for every point.",
            remedy="give x_start, or set `start: outward` or `start: random`.",
        )
    if spec.start != "fixed" and x_start is not None:
        raise InputError(
            f"Starting points were given, but `start: {spec.start}` draws its own.",
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


ATTACK = Attack(
    spec=HopSkipJumpSpec,
    attack=attack,
    unit_seconds={
        "sign_network": 2.2e-5,
        "mlp": 1.8e-5,
        "bnn": 2.5e-5,
        "cnn1d": 2.4e-4,
        "lenet": 3.8e-4,
        "batch_norm_resnet18": 4.6e-3,
        "forest": 8e-6,
    },
)
