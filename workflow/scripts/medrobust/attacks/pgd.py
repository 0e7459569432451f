"""Projected gradient descent in the maximum norm (Madry et al. 2018), many runs side by side.

A step goes up the sign of the input gradient of a loss, by ``step_size`` (``optimizer: sign``) or
as Adam or Adamax move a perturbation whose gradient is minus that sign. Then the row is projected
to the ball around its point and to the clip box. The noise-to-signal-ratio paper says sign steps
(section 3.1, equation 12); its authors' code evaluates with Adamax, learning rate 0.01.

Points that the model gets wrong are not attacked. A run ends when the model's own ``predict``
gives its row another label (``early_stop``), or after ``num_steps`` steps; where it fails, its last
iterate is kept. No run sees another: its start is drawn from its own seed.

Gradients are computed in blocks of one shape (``model.gradient_block`` rows). Each row of the block
is a slot that holds one run, with its own count of steps; a run that ends makes room for the next,
so blocks stay full until the last runs. One compiled kernel moves all slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from medrobust.attacks import AttackResult, ProgressSink
from medrobust.attacks.ball import (
    START_STREAM,
    Ascent,
    BallSpec,
    Ended,
    GradientModel,
    Ledger,
    Optimizer,
    Positive,
    check_attack,
    check_gradients,
)
from medrobust.attacks.spec import Count

if TYPE_CHECKING:
    from medrobust.progress import Journal


class Spec(BallSpec):
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083), maximum norm, untargeted.

    Defaults are those of the noise-to-signal-ratio paper's text (sign steps); its authors' code
    uses `optimizer: adamax`.
    """

    num_steps: Count = Field(default=100, description="most steps of a run")
    step_size: Positive = Field(
        default=0.01,
        description="length of a step in the units of the data; learning rate of adam and adamax",
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
    loss: Literal["cross_entropy", "margin"] = Field(
        default="cross_entropy",
        description="what is raised: cross_entropy, or margin, the largest other logit less the "
        "label's",
    )
    early_stop: bool = Field(
        default=True, description="whether a run ends as soon as its label changes"
    )

    def expected_queries(self) -> int:
        """Returns the most queries of one point, all restarts together (for plans).

        A query here is a row's pass forward and, but for the last, backward.
        """
        return 1 + self.restarts * (self.num_steps + 1)


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
    left = ledger.start(model)
    if left.size:
        slots = _Slots(model, spec, ledger, left)
        while slots.taken_up.any():
            slots.advance()
    return ledger.result()


class _Slots:
    """One block of rows, each the place of a run.

    Attributes:
        taken_up: bool ``[block]``, which slots hold a run.
    """

    def __init__(
        self, model: GradientModel, spec: Spec, ledger: Ledger, waiting: np.ndarray
    ) -> None:
        size, d = model.gradient_block, ledger.x.shape[1]
        self._model, self._spec, self._ledger = model, spec, ledger
        self._waiting, self._next = waiting, 0
        self._ascent = Ascent(spec.optimizer, spec.step_size, spec.num_steps, (size, d))
        self.taken_up = np.zeros(size, dtype=bool)
        self._runs, self._labels, self._steps, self._queries = np.zeros((4, size), dtype=np.int64)
        self._rows, self._least, self._most = np.zeros((3, size, d), dtype=np.float32)
        self._fill(np.arange(size))

    def advance(self) -> None:
        """Computes all gradients, moves the rows, replaces the runs that are over."""
        rows = self._rows.reshape(-1, *self._model.input_shape)
        logits, slopes = self._model.loss_gradients(rows, self._labels, self._spec.loss)
        self._queries += self.taken_up
        over = self.taken_up & (self._steps == self._spec.num_steps)
        if self._spec.early_stop:
            over |= self._fooled(logits)
        active = self.taken_up & ~over
        self._ascent.step(
            active, self._steps, slopes.reshape(self._rows.shape), self._least, self._most,
            self._rows,
        )  # fmt: skip
        self._steps += active
        if over.any():
            places = np.flatnonzero(over)
            self._end(places)
            self._fill(places)
        self._ledger.tell(float(self._steps.sum()) / self._spec.num_steps)

    def _fooled(self, logits: np.ndarray) -> np.ndarray:
        """Returns which runs have another label, bool ``[block]``.

        Logits tell where to look. ``predict`` decides, as it will for the records: its rounding is
        not that of these blocks.
        """
        fooled = self.taken_up & (logits.argmax(axis=1) != self._labels)
        places = np.flatnonzero(fooled)
        if places.size:
            self._queries[places] += 1
            labels = self._ledger.labels(self._model, self._rows[places])
            fooled[places] = labels != self._labels[places]
        return fooled

    def _end(self, places: np.ndarray) -> None:
        runs = self._runs[places]
        self._ledger.end(
            Ended(
                runs,
                self._rows[places],
                self._queries[places] + self._ledger.clean_queries(runs),
                self._steps[places],
            )
        )
        self.taken_up[places] = False
        self._steps[places] = 0

    def _fill(self, places: np.ndarray) -> None:
        """Puts the next runs into free slots, as long as there are any."""
        from medrobust.attacks import ball_kernels

        runs = self._waiting[self._next : self._next + len(places)]
        if not runs.size:
            return
        self._next += len(runs)
        places, ledger, spec = places[: len(runs)], self._ledger, self._spec
        points = runs // ledger.restarts
        x = ledger.x[points]
        least, most, rows = np.empty((3, *x.shape), dtype=np.float32)
        ball_kernels.limits(x, spec.epsilon, *spec.box(), least, most)
        if spec.random_start:
            ball_kernels.uniform_start(
                x, ledger.seeds[runs], START_STREAM, spec.epsilon, least, most, rows
            )
        else:
            rows[:] = x
        self._rows[places], self._least[places], self._most[places] = rows, least, most
        self._runs[places], self._labels[places] = runs, ledger.y[points]
        self._queries[places] = 0
        self._steps[places] = 0
        self._ascent.reset(places)
        self.taken_up[places] = True
