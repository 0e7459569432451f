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

What others have names of their own for is a setting here. The fast gradient sign method
(Goodfellow, Shlens and Szegedy 2015, section 4) is one step of epsilon from the point. What papers
call the attack of Carlini and Wagner within a ball is the loss ``margin``. Their objective has a
gradient until the margin exceeds kappa and none beyond (Carlini and Wagner 2017): such a row stays
where it is, so ``early_stop`` ends its run there, with kappa as ``confidence``. Without
``early_stop`` rows are moved on.

With a ``target`` runs lower the loss of that class (:mod:`medrobust.attacks.engine.aims`).

Gradients are computed in blocks of one shape (``model.gradient_block`` rows), each row of which
holds one run (:mod:`medrobust.attacks.engine.slots`): blocks stay full until the last runs. Where
the model computes on a GPU, rows stay there (:mod:`medrobust.attacks.engine.tensor_board`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from medrobust.attacks import AttackResult, ProgressSink
from medrobust.attacks.contract import Attack
from medrobust.attacks.engine.aims import Target, aims_of, reached
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
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083).

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
    target: Target | None = Field(
        default=None,
        description="class that runs go to, by lowering its loss, until the label is this class; "
        "next: the one after the label (after the last: 0); least_likely: the one with the least "
        "logit at the point; null: away from the label, to any other",
    )
    confidence: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="a run ends early only where the margin, of the target or away from the label, "
        "exceeds this (kappa of Carlini and Wagner); null, as 0: where the label says so",
    )

    @model_validator(mode="after")
    def _steps_fit_the_norm(self) -> Spec:
        if self.norm == "l2" and self.optimizer != "sign":
            raise ValueError(
                f"norm l2 takes steps along the gradient itself: set `optimizer: sign`, not "
                f"{self.optimizer}"
            )
        if self.confidence and not self.early_stop:
            raise ValueError(
                "confidence says where a run ends early: set `early_stop: true`, or leave it out"
            )
        return self

    def clean_queries(self) -> int:
        """Returns how many rows a point costs before its runs: its label, and its logits."""
        return 2 if self.target == "least_likely" else 1

    def expected_queries(self) -> int:
        """Returns the most queries and gradients of one point, all restarts (for plans)."""
        return self.clean_queries() + self.restarts * (2 * self.num_steps + 1)


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

    ``queries`` of a run counts rows: the clean label and, where the target is the least likely
    class, the clean logits (for the first restart of a point), one pass for each iterate, and the
    labels that confirm an end. ``gradient_evaluations`` counts its steps, one gradient each; the
    pass that finds a run over computes a gradient too, which is not used.

    Raises:
        InputError: the model has no gradients; the number of seeds is not that of the restarts;
            starts are given; the box has an open end.
    """
    check_attack(spec, seeds, x_start)
    check_gradients(model, "pgd")
    aims = aims_of(model, x, y, spec.target)
    ledger = Ledger(
        x, y, seeds, spec, gradients=True, asked=spec.clean_queries(), journal=journal,
        progress=progress,
    )  # fmt: skip
    if (left := ledger.start(model)).size:
        size = model.gradient_block
        board = _board(model, spec, (size, ledger.x.shape[1]))
        Slots(size, board, spec, ledger, left, aims).run()
    result = ledger.result()
    if not aims.towards:
        return result
    targets = np.repeat(aims.classes[:, None], seeds.shape[1], axis=1)
    return dataclasses.replace(result, targets=targets)


def _board(model: GradientModel, spec: Spec, shape: tuple[int, int]) -> Board:
    """Returns where the rows lie: in arrays, or in tensors on the model's device."""
    goal = {"towards": spec.target is not None, "confidence": spec.confidence or 0.0}
    if (on_device := side_of(model)) is None:
        return ArrayBoard(_Gradients(model, spec.loss, **goal), _moves(spec, shape), model, shape)
    moves = moves_of(spec, shape, on_device.device)
    return TensorBoard(TensorGradients(on_device, spec.loss, **goal), moves, on_device, shape)


def _moves(spec: Spec, shape: tuple[int, int]) -> Moves:
    return L2Moves(spec, shape) if spec.norm == "l2" else LinfMoves(spec, shape)


class _Gradients:
    """Leads runs by the gradient of a loss; one pass gives logits and gradients of all slots.

    Args: as of :class:`medrobust.attacks.engine.tensor_board.TensorGradients`.
    """

    def __init__(
        self, model: GradientModel, loss: Loss, *, towards: bool, confidence: float
    ) -> None:
        self._model, self._loss = model, loss
        self._towards, self._confidence = towards, confidence
        self._slopes = np.empty(0, dtype=np.float32)

    def suspects(
        self, rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, taken: np.ndarray
    ) -> np.ndarray:
        """Returns who is suspect; ``predict``, whose blocks round otherwise, decides."""
        shaped = rows.reshape(-1, *self._model.input_shape)
        logits, slopes = self._model.loss_gradients(shaped, labels, self._loss)
        if logits.shape != (len(rows), self._model.n_classes) or not np.isfinite(logits).all():
            # Places without a run are no points that anyone asked about.
            checked_scores(logits[taken], int(taken.sum()), self._model.n_classes)
        self._slopes = (-slopes if self._towards else slopes).reshape(rows.shape)
        queries += taken
        return self._over(logits, labels)

    def _over(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns whose logits say that they are where they go, bool ``[slots]``."""
        if not self._confidence:
            return reached(logits.argmax(axis=1), labels, towards=self._towards)
        from medrobust.models.engine import loss_kernels

        margins = np.empty(len(labels))
        loss_kernels.margins(np.ascontiguousarray(logits, dtype=np.float32), labels, margins)
        return (-margins if self._towards else margins) > self._confidence

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
        "resnet50": 0.012,
    },
    # A pass with its gradient, two units: of 224 pixels a side .21 s, of 64 .04 s. Measured beside
    # other work, as parts of what resnet18 took then.
    value_seconds={"resnet50": 6.3e-7},
)
