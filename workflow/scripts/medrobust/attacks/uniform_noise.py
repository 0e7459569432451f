"""Uniform noise: does a random draw from the ball change the label?

Each restart is one draw ``x + U(-epsilon, epsilon)``, cut to the clip box; nothing is learnt from
one draw for the next. The share of restarts whose record says success is the share of draws that
flip the label, and a point resists if none does. An attack by gradients that finds less than noise
does is masked (Athalye et al. 2018, section 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from medrobust.attacks import AttackResult, LabelModel, ProgressSink
from medrobust.attacks.contract import Attack
from medrobust.attacks.engine import tensor_moves
from medrobust.attacks.engine.ball import BallSpec, check_attack, starting_rows
from medrobust.attacks.engine.ledger import Ended, Ledger
from medrobust.attacks.engine.spec import Count
from medrobust.models.on_device import side_of

if TYPE_CHECKING:
    from medrobust.runtime.journal import Journal

# Draws computed at a time: bounds the memory.
_BATCH = 4096


class Spec(BallSpec):
    """Uniform noise within a ball of the maximum norm."""

    restarts: Count = Field(default=10, description="draws per point")

    def expected_queries(self) -> int:
        """Returns the queries of one point, all draws together (for plans)."""
        return 1 + self.restarts


def attack(
    model: LabelModel,
    x: np.ndarray,
    y: np.ndarray,
    spec: Spec,
    seeds: np.ndarray,
    *,
    x_start: np.ndarray | None = None,
    journal: Journal | None = None,
    progress: ProgressSink | None = None,
) -> AttackResult:
    """Draws ``spec.restarts`` times for each point; see ``medrobust.attacks.run_attack``.

    ``x_adv`` of every draw is kept, also where the label stays. Its one query is the one by which
    the records tell whether it succeeded.

    Raises:
        InputError: the number of seeds is not that of the restarts; starts are given; the box has
            an open end.
    """
    check_attack(spec, seeds, x_start)
    # Drawing again is faster than reading what a journal of all draws would hold.
    ledger = Ledger(
        x, y, seeds, spec, gradients=False, steps=False, journal=None, progress=progress
    )
    left = ledger.start(model)
    for first in range(0, len(left), _BATCH):
        runs = left[first : first + _BATCH]
        points = ledger.x[runs // ledger.restarts]
        rows = _draws(model, points, ledger.seeds[runs], spec)
        queries = 1 + ledger.clean_queries(runs)
        ledger.end(Ended(runs, rows, queries, np.ones_like(runs), np.zeros_like(runs)))
        ledger.tell()
    return ledger.result()


def _draws(model: LabelModel, points: np.ndarray, seeds: np.ndarray, spec: Spec) -> np.ndarray:
    """Returns one draw from the ball around each point, made where the model computes."""
    if (on_device := side_of(model)) is None:
        return starting_rows(points, seeds, spec, random=True)[0]
    put = on_device.put
    return tensor_moves.starting_rows(put(points), put(seeds), spec, random=True)[0].cpu().numpy()


ATTACK = Attack(
    spec=Spec,
    attack=attack,
    unit_seconds={
        "relu_mlp": 4e-6,
        "kachuee_cnn": 1.2e-4,
        "layer_norm_mlp": 9e-6,
        "instance_norm_cnn": 5.6e-4,
        "resnet18": 0.04,
    },
)
