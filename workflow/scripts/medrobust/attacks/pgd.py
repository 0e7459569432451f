"""Projected gradient descent in the maximum norm (Madry et al. 2018), many runs side by side.

A step goes up the sign of the input gradient of a loss, by ``step_size`` (``optimizer: sign``) or
as Adam or Adamax move a perturbation whose gradient is minus that sign. Then the row is projected
to the ball around its point and to the clip box. The noise-to-signal-ratio paper says sign steps
(section 3.1, equation 12); its authors' code evaluates with Adamax, learning rate 0.01.

Points that the model gets wrong are not attacked. A run ends when the model's own ``predict``
gives its row another label (``early_stop``), or after ``num_steps`` steps; where it fails, its last
iterate is kept. No run sees another: its start is drawn from its own seed.

Gradients are computed in blocks of one shape (``model.gradient_block`` rows), each row of which
holds one run (:mod:`medrobust.attacks.slots`): blocks stay full until the last runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from medrobust.attacks import AttackResult, ProgressSink
from medrobust.attacks.ball import GradientModel, SteppedSpec, check_attack, check_logits
from medrobust.attacks.ledger import Ledger
from medrobust.attacks.slots import Slots

if TYPE_CHECKING:
    from medrobust.gradients import Loss
    from medrobust.progress import Journal


class Spec(SteppedSpec):
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083), maximum norm, untargeted.

    Defaults are those of the noise-to-signal-ratio paper's text; its authors' code uses
    `optimizer: adamax`.
    """

    loss: Literal["cross_entropy", "margin"] = Field(
        default="cross_entropy",
        description="what is raised: cross_entropy, or margin, the largest other logit less the "
        "label's",
    )

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
    check_logits(model, "pgd")
    ledger = Ledger(x, y, seeds, spec, gradients=True, journal=journal, progress=progress)
    if (left := ledger.start(model)).size:
        guide = _Gradients(model, spec.loss)
        Slots(model.gradient_block, guide, model, spec, ledger, left).run()
    return ledger.result()


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
        self._slopes = slopes.reshape(rows.shape)
        queries += taken
        return logits.argmax(axis=1) != labels

    def slopes(self, *_: np.ndarray) -> np.ndarray:
        """Returns the gradients of the pass that :meth:`suspects` made."""
        return self._slopes
