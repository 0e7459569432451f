"""Projected gradient descent (Madry et al. 2018) in the maximum norm or L2, runs side by side.

In the maximum norm a step goes up the sign of the input gradient of a loss, by ``step_size``
(``optimizer: sign``) or as Adam or Adamax move a perturbation whose gradient is minus that sign.
Then the row is projected to the ball around its point and to the clip box. The noise-to-signal-
ratio paper says sign steps (section 3.1, equation 12); its authors' code evaluates with Adamax,
learning rate 0.01.

In L2 a step goes along the gradient divided by its length; see
:class:`medrobust.attacks.engine.moves.L2Moves`. Ima (section "Experiments"; its authors' code)
attacks in both norms: 100 steps of epsilon / 10, once by the cross-entropy and once by the margin.

Points that the model misclassifies are not attacked. A run ends when the model's own ``predict``
gives its row another label (``early_stop``), or after ``num_steps`` steps; where it fails, its last
iterate is kept. No run sees another: its start is drawn from its own seed.

Gradients are computed in blocks of one shape (``model.gradient_block`` rows), each row of which
holds one run (:mod:`medrobust.attacks.engine.slots`): blocks stay full until the last runs. Where
the model computes on a GPU, rows stay there (:mod:`medrobust.attacks.engine.tensor_board`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from medrobust.attacks import AttackResult, ProgressSink
from medrobust.attacks.contract import Attack
from medrobust.attacks.engine.ball import (
    GradientModel,
    Norm,
    Optimizer,
    SteppedSpec,
    check_attack,
    check_gradients,
)
from medrobust.attacks.engine.ledger import Ledger
from medrobust.attacks.engine.moves import L2Moves, LinfMoves, Moves
from medrobust.attacks.engine.slots import ArrayBoard, Board, Slots
from medrobust.attacks.engine.tensor_board import TensorBoard, TensorGradients
from medrobust.attacks.engine.tensor_moves import moves_of
from medrobust.models.engine.answers import checked_scores
from medrobust.models.on_device import side_of

if TYPE_CHECKING:
    from medrobust.models.gradients import Loss
    from medrobust.runtime.journal import Journal


class Spec(SteppedSpec):
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083), untargeted.

    Defaults are those of the noise-to-signal-ratio paper's text; its authors' code uses
    `optimizer: adamax`. Ima uses `step_share: 0.1`, both norms, and both losses.
    """

    norm: Norm = Field(
        default="linf", description="of the ball: linf, the largest value, or l2, the length"
    )
    optimizer: Optimizer = Field(
        default="sign",
        description="sign: steps of step_size, in linf along the sign of the gradient, in l2 along "
        "the gradient divided by its length; adam, adamax (linf only): these optimisers, given "
        "minus the sign of the gradient",
    )

    loss: Literal["cross_entropy", "margin"] = Field(
        default="cross_entropy",
        description="what is raised: cross_entropy, or margin, the largest other logit less the "
        "label's",
    )

    @model_validator(mode="after")
    def _steps_fit_the_norm(self) -> Spec:
        if self.norm == "l2" and self.optimizer != "sign":
            raise ValueError(
                f"norm l2 takes steps along the gradient itself: set `optimizer: sign`, not "
                f"{self.optimizer}"
            )
        return self

    def expected_queries(self) -> int:
        """Returns the most queries and gradients of one point, all restarts (for plans)."""
        return 1 + self.restarts * (2 * self.num_steps + 1)


def attack(
    model: GradientModel,
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

    ``queries`` of a run counts rows: the clean label (for the first restart of a point), one pass
    for each iterate, and the labels that confirm an end. ``gradient_evaluations`` counts its steps,
    one gradient each; the pass that finds a run over computes a gradient too, which is not used.

    Raises:
        InputError: the model has no gradients; the number of seeds is not that of the restarts;
            starts are given; the box has an open end.
    """
    check_attack(spec, seeds, x_start)
    check_gradients(model, "pgd")
    ledger = Ledger(x, y, seeds, spec, gradients=True, journal=journal, progress=progress)
    if (left := ledger.start(model)).size:
        size = model.gradient_block
        board = _board(model, spec, (size, ledger.x.shape[1]))
        Slots(size, board, spec, ledger, left).run()
    return ledger.result()


def _board(model: GradientModel, spec: Spec, shape: tuple[int, int]) -> Board:
    """Returns where the rows lie: in arrays, or in tensors on the model's device."""
    if (on_device := side_of(model)) is None:
        return ArrayBoard(_Gradients(model, spec.loss), _moves(spec, shape), model, shape)
    moves = moves_of(spec, shape, on_device.device)
    return TensorBoard(TensorGradients(on_device, spec.loss), moves, on_device, shape)


def _moves(spec: Spec, shape: tuple[int, int]) -> Moves:
    return L2Moves(spec, shape) if spec.norm == "l2" else LinfMoves(spec, shape)


class _Gradients:
    """Leads runs by the gradient of a loss; one pass gives logits and gradients of all slots."""

    def __init__(self, model: GradientModel, loss: Loss) -> None:
        self._model, self._loss = model, loss
        self._slopes = np.empty(0, dtype=np.float32)

    def suspects(
        self, rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, taken: np.ndarray
    ) -> np.ndarray:
        """Returns whose logits are wrong; ``predict``, whose blocks round otherwise, decides."""
        shaped = rows.reshape(-1, *self._model.input_shape)
        logits, slopes = self._model.loss_gradients(shaped, labels, self._loss)
        if logits.shape != (len(rows), self._model.n_classes) or not np.isfinite(logits).all():
            # Places without a run are no points that anyone asked about.
            checked_scores(logits[taken], int(taken.sum()), self._model.n_classes)
        self._slopes = slopes.reshape(rows.shape)
        queries += taken
        return logits.argmax(axis=1) != labels

    def slopes(self, *_: np.ndarray) -> np.ndarray:
        """Returns the gradients of the pass that :meth:`suspects` made."""
        return self._slopes


ATTACK = Attack(
    spec=Spec,
    attack=attack,
    unit_seconds={
        "relu_mlp": 1.9e-6,
        "kachuee_cnn": 1.3e-4,
        "cnn1d": 3e-4,
        "layer_norm_mlp": 1.3e-6,
        "instance_norm_cnn": 6.5e-4,
        "resnet18": 0.05,
    },
)
