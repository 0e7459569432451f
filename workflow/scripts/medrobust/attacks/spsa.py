"""SPSA: climbing a loss by slopes that are estimated from its values alone (Uesato et al. 2018).

An estimate takes ``directions`` random sign vectors v and averages ``(f(x + delta v) - f(x - delta
v)) / (2 delta) v``, f the margin ``max_{i != y} z_i - z_y``. Its sign goes to the optimiser, as in
:mod:`medrobust.attacks.pgd`; the row is then projected to the ball and to the clip box. As in the
noise-to-signal-ratio paper (appendix C; its authors' code: start uniform in the ball, 2,048
directions, delta 0.01, Adamax 0.01, at most 100 steps, until the label changes). The perturbed rows
themselves are not clipped.

Directions are drawn from streams of the run's own seed, one for each step, so no run sees another.
Values are computed without automatic differentiation, in blocks of ``model.gradient_block`` rows.
Where the model computes on a GPU, rows and directions are made there
(:mod:`medrobust.attacks.engine.tensor_estimates`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from medrobust.attacks import AttackResult, ProgressSink
from medrobust.attacks.contract import Attack
from medrobust.attacks.engine.ball import (
    STEP_STREAMS,
    Optimizer,
    Positive,
    ScoreModel,
    SteppedSpec,
    check_attack,
    check_logits,
)
from medrobust.attacks.engine.ledger import Ledger
from medrobust.attacks.engine.moves import LinfMoves
from medrobust.attacks.engine.slots import ArrayBoard, Board, Slots
from medrobust.attacks.engine.spec import Count
from medrobust.attacks.engine.tensor_board import TensorBoard
from medrobust.attacks.engine.tensor_estimates import TensorEstimates
from medrobust.attacks.engine.tensor_moves import moves_of
from medrobust.models.engine.answers import checked_scores
from medrobust.models.on_device import side_of

if TYPE_CHECKING:
    from medrobust.runtime.journal import Journal

# A run fills many blocks by itself. A few side by side share the block that asks for labels; a
# killed job loses the runs in its slots.
_SLOTS = 4


class Spec(SteppedSpec):
    """SPSA (Uesato et al. 2018, arXiv 1802.05666), maximum norm, untargeted, margin loss.

    Defaults are those of the noise-to-signal-ratio paper (appendix C) and its authors' code.
    """

    optimizer: Optimizer = Field(
        default="adamax",
        description="sign: steps of step_size; adam, adamax: these optimisers, given minus the "
        "sign of the estimate",
    )
    directions: Count = Field(
        default=2048, description="random sign vectors per estimate, two queries each"
    )
    delta: Positive = Field(
        default=0.01, description="size of the perturbations of an estimate, in units of the data"
    )

    def expected_queries(self) -> int:
        """Returns the most queries of one point, all restarts together (for plans)."""
        return 1 + self.restarts * (self.num_steps * (2 * self.directions + 1) + 1)


def attack(
    model: ScoreModel,
    x: np.ndarray,
    y: np.ndarray,
    spec: Spec,
    seeds: np.ndarray,
    *,
    x_start: np.ndarray | None = None,
    journal: Journal | None = None,
    progress: ProgressSink | None = None,
) -> AttackResult:
    """Attacks each point ``spec.restarts`` times; see ``medrobust.attacks.run_attack``.

    ``queries`` of a run counts rows: two for each direction, the label of each iterate, and the
    clean label (for the first restart of a point).

    Raises:
        InputError: the model has no logits; the number of seeds is not that of the restarts; starts
            are given; the box has an open end.
    """
    check_attack(spec, seeds, x_start)
    check_logits(model, "spsa")
    ledger = Ledger(x, y, seeds, spec, gradients=False, journal=journal, progress=progress)
    if (left := ledger.start(model)).size:
        Slots(_SLOTS, _board(model, spec, ledger.x.shape[1]), spec, ledger, left).run()
    return ledger.result()


def _board(model: ScoreModel, spec: Spec, d: int) -> Board:
    """Returns where the rows lie: in arrays, or in tensors on the model's device."""
    shape = (_SLOTS, d)
    if (on_device := side_of(model)) is None:
        return ArrayBoard(_Estimates(model, spec), LinfMoves(spec, shape), model, shape)
    estimates = TensorEstimates(on_device, spec.directions, spec.delta, model.gradient_block)
    return TensorBoard(estimates, moves_of(spec, shape, on_device.device), on_device, shape)


class Estimator:
    """Estimates slopes of the margin from pairs of rows.

    Args:
        model: gives logits.
        directions: sign vectors per estimate.
        delta: size of the perturbations.
    """

    def __init__(self, model: ScoreModel, directions: int, delta: float) -> None:
        self._model, self._directions, self._delta = model, directions, np.float32(delta)
        d = int(np.prod(model.input_shape))
        self._pairs = max(model.gradient_block // 2, 1)
        self._rows = np.empty((2 * self._pairs, d), dtype=np.float32)
        self._bits = np.empty((self._pairs, (d + 63) // 64), dtype=np.uint64)

    def estimate(self, row: np.ndarray, label: int, seed: int, step: int) -> np.ndarray:
        """Returns the estimated slope at a row, float64 ``[d]``.

        Args:
            row: float32 ``[d]``.
            label: the true label.
            seed: of the run.
            step: number of the step, names the stream.
        """
        from medrobust.attacks.engine import spsa_kernels

        total = np.zeros(len(row))
        for first in range(0, self._directions, self._pairs):
            pairs = min(self._pairs, self._directions - first)
            bits = self._bits[:pairs]
            plus, minus = self._rows[:pairs], self._rows[pairs : 2 * pairs]
            spsa_kernels.perturb(
                row, seed, STEP_STREAMS + step, first, self._delta, bits, plus, minus
            )
            losses = self._losses(self._rows[: 2 * pairs], label)
            spsa_kernels.add_weighted(losses[:pairs] - losses[pairs:], bits, total)
        return total / (2 * float(self._delta) * self._directions)

    def _losses(self, rows: np.ndarray, label: int) -> np.ndarray:
        from medrobust.models.engine import loss_kernels

        answer = self._model.logits(rows.reshape(len(rows), *self._model.input_shape))
        logits = checked_scores(answer, len(rows), None)
        losses = np.empty(len(rows))
        loss_kernels.margins(logits, np.full(len(rows), label), losses)
        return losses


class _Estimates:
    """Leads runs by estimated slopes."""

    def __init__(self, model: ScoreModel, spec: Spec) -> None:
        self._estimator = Estimator(model, spec.directions, spec.delta)
        self._queries_of_a_step = 2 * spec.directions

    def suspects(
        self, rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, taken: np.ndarray
    ) -> np.ndarray:
        """Returns all: nothing is known of their labels before ``predict`` is asked."""
        return taken

    def slopes(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        queries: np.ndarray,
        active: np.ndarray,
        seeds: np.ndarray,
        steps: np.ndarray,
    ) -> np.ndarray:
        """Returns the estimates of the active rows."""
        found = np.zeros_like(rows)
        for i in np.flatnonzero(active):
            slope = self._estimator.estimate(rows[i], int(labels[i]), int(seeds[i]), int(steps[i]))
            found[i] = np.sign(slope)
            queries[i] += self._queries_of_a_step
        return found


ATTACK = Attack(
    spec=Spec,
    attack=attack,
    unit_seconds={"relu_mlp": 1.8e-6, "kachuee_cnn": 1.1e-4, "cnn1d": 2.2e-4},
)
