"""HopSkipJump by the Adversarial Robustness Toolbox (ART), made reproducible and honest.

ART's implementation is what the sign-network paper ran. As shipped it cannot be seeded, can
loop for ever, reports a failure as distance 0, and stops short of the boundary. Around it:

* **Seeds.** ART draws from NumPy's global generator, which is seeded for each (point, restart)
  and put back afterwards. Its own random start comes from a generator that nobody can seed, so
  the start is drawn here and handed over.
* **Bounds.** ART halves its step, and its search, until a point is adversarial. After
  ``_MAX_HALVINGS`` halvings a step is far below the resolution of float32, so a longer row of
  misses means that it would never end: the run is stopped. A second bound on all queries,
  derived from the spec, stops whatever else does not end.
* **Fallback.** Where a run is stopped, or ART returns a point that is not adversarial, the
  closest (in the spec's norm) of the single points that ART asked about and that were
  adversarial takes its place: its start, the adversarial sides of its boundary searches, its
  accepted steps, but none of the noise around them (unless an estimate has one row only). If
  that is not adversarial when asked again, the attack has failed.
* **Projection.** Bisection between the last iterate and the point, in float32 and within the
  box, until the bracket is at most ``projection_tolerance`` of the segment. What is kept is the
  very float32 row that the model called adversarial.
* **Censoring.** A failure is NaN, never the unchanged point. A point that the model already
  misclassifies is its own adversarial point after the one query that shows it.

Not done here: batching over points or restarts; ART attacks one point at a time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.attacks import AttackResult, LabelModel, ProgressSink
from medrobust.attacks.engine.runs import Run, result_of, run_name
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.attacks.engine.starts import find_starts
from medrobust.core.logs import logger
from medrobust.models.engine.answers import checked_labels

if TYPE_CHECKING:
    from medrobust.runtime.journal import Journal

# A step halved this often is 2**-64 of the distance: adding it changes no float32.
_MAX_HALVINGS = 64
# Rows that ART asks about outside its iterations: the point and the start at the beginning, the
# point and the result for its log message at the end; doubled as a margin.
_ROWS_OUTSIDE_ITERATIONS = 8


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
    """Attacks every (point, restart) in turn; see ``medrobust.attacks.run_attack``.

    The result of a (point, restart) depends on the model, the point, its label, the spec, its
    seed and its start alone. A unit in the journal carries a name made of these (without the
    model, which the journal's key covers), so regrouping points cannot mix units up.
    """
    finished = journal.finished() if journal is not None else {}
    points, restarts = seeds.shape
    units: list[Run] = []
    for i in range(points):
        start = None if x_start is None else x_start[i]
        for r in range(restarts):
            name = run_name(x[i], int(y[i]), start, int(seeds[i, r]), spec)
            if name in finished:
                unit = Run.from_arrays(finished[name])
            else:
                unit = _attack_unit(model, x[i], int(y[i]), start, int(seeds[i, r]), spec)
                if journal is not None:
                    journal.append(name, unit.to_arrays())
            units.append(unit)
            if progress is not None:
                progress.update(len(units) / restarts)
    return result_of(units, x.shape[1:], seeds)


class _Oracle:
    """Asks the model for labels and counts the rows; knows what counts as adversarial."""

    def __init__(self, model: LabelModel, x: np.ndarray) -> None:
        self.model = model
        self.rows = 0
        self.clean_label = int(self.labels(x[None])[0])

    def labels(self, rows: np.ndarray) -> np.ndarray:
        self.rows += len(rows)
        return checked_labels(self.model.predict(rows), len(rows), self.model.n_classes)

    def is_adversarial(self, row: np.ndarray) -> bool:
        return int(self.labels(row[None])[0]) != self.clean_label


def _attack_unit(
    model: LabelModel,
    x: np.ndarray,
    y: int,
    given_start: np.ndarray | None,
    seed: int,
    spec: HopSkipJumpSpec,
) -> Run:
    """Attacks one point once."""
    oracle = _Oracle(model, x)
    if oracle.clean_label != y:
        return Run(x, x, oracle.rows, 0, True, {})
    failure = np.full_like(x, np.nan)
    start = _start(oracle, x, given_start, seed, spec)
    if start is None:
        return Run(failure, failure, oracle.rows, 0, False, {})
    candidates, iterations = _run_art(oracle, x, start, seed, spec)
    for candidate in candidates:
        if oracle.is_adversarial(candidate):
            projected = _project(oracle, x, candidate, spec)
            return Run(projected, candidate, oracle.rows, iterations, True, {})
    return Run(failure, failure, oracle.rows, iterations, True, {})


def _start(
    oracle: _Oracle,
    x: np.ndarray,
    given: np.ndarray | None,
    seed: int,
    spec: HopSkipJumpSpec,
) -> np.ndarray | None:
    """Returns an adversarial start, or None: the given one, or one that is drawn."""
    if given is not None:
        return given if oracle.is_adversarial(given) else None
    found = find_starts(
        x[None], [seed], spec, lambda rows, _: oracle.labels(rows) != oracle.clean_label
    )
    return found[0]


def _project(
    oracle: _Oracle, x: np.ndarray, adversarial: np.ndarray, spec: HopSkipJumpSpec
) -> np.ndarray:
    """Returns the adversarial end of a bisection on the segment from ``x`` to ``adversarial``."""
    low_clip, high_clip = spec.box()
    origin = x.astype(np.float64)
    direction = adversarial.astype(np.float64) - origin
    clean_side, adversarial_side = 0.0, 1.0
    while adversarial_side - clean_side > spec.projection_tolerance:
        middle = (clean_side + adversarial_side) / 2
        row = np.clip(origin + middle * direction, low_clip, high_clip).astype(np.float32)
        if oracle.is_adversarial(row):
            adversarial, adversarial_side = row, middle
        else:
            clean_side = middle
    return adversarial


class _StoppedError(Exception):
    """ART's run was ended from outside because it would not end by itself."""


@dataclass(frozen=True)
class _Limits:
    """What a run of ART may ask for: all rows, and single misses in a row."""

    rows: int
    misses: int

    @classmethod
    def of(cls, spec: HopSkipJumpSpec, x: np.ndarray) -> _Limits:
        """Derives the limits that no run which ends by itself can exceed."""
        searches = _search_steps(spec, x)
        gradients = sum(
            min(int(spec.init_eval * math.sqrt(t + 1)), spec.max_eval) for t in range(spec.max_iter)
        )
        each = searches + _MAX_HALVINGS
        # A gradient estimate from a single row looks like one more miss.
        return cls(_ROWS_OUTSIDE_ITERATIONS + gradients + spec.max_iter * each, each + 1)


def _search_steps(spec: HopSkipJumpSpec, x: np.ndarray) -> int:
    """Returns the most steps of ART's boundary search: its bracket halves down to theta.

    theta is 0.01 / sqrt(d) for norm 2, where the bracket starts at 1; for the maximum norm it is
    0.01 / d, times the starting bracket (the distance) where that is below 1.
    """
    if spec.norm == 2:
        return math.ceil(math.log2(100 * math.sqrt(x.size)))
    low, high = spec.box()
    widest = max(1.0, float(np.abs(x - low).max()), float(np.abs(high - x).max()))
    return math.ceil(math.log2(100 * x.size * widest)) + 1


class _AnswersForArt:
    """The function that ART queries: one-hot labels, bounded, remembering the best point.

    Attributes:
        best: float32 ``[*shape]`` or None, the closest adversarial point among those asked about
            singly.
    """

    def __init__(self, oracle: _Oracle, x: np.ndarray, spec: HopSkipJumpSpec) -> None:
        self.best: np.ndarray | None = None
        self._oracle, self._x = oracle, x
        self._norm = 2 if spec.norm == 2 else np.inf
        self._limits = _Limits.of(spec, x)
        self._one_hot = np.eye(oracle.model.n_classes, dtype=np.float32)
        self._rows = self._misses = 0
        self._best_distance = math.inf

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        # ART computes in float64 from its second iteration on; the model sees float32 only.
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        self._rows += len(rows)
        if self._rows > self._limits.rows:
            raise _StoppedError(f"more than {self._limits.rows} queries")
        if len(rows) == 1 and not np.isfinite(rows).all():
            raise _StoppedError("it arrived at a point that is not finite")
        labels = self._oracle.labels(rows)
        if len(rows) == 1:
            self._note(rows[0], int(labels[0]))
        return self._one_hot[labels]

    def _note(self, row: np.ndarray, label: int) -> None:
        if label == self._oracle.clean_label:
            self._misses += 1
            if self._misses > self._limits.misses:
                raise _StoppedError(f"{self._misses} misses in a row")
            return
        self._misses = 0
        distance = float(np.linalg.norm((row - self._x).ravel(), self._norm))
        if distance < self._best_distance:
            self._best_distance, self.best = distance, row.copy()


def _run_art(
    oracle: _Oracle, x: np.ndarray, start: np.ndarray, seed: int, spec: HopSkipJumpSpec
) -> tuple[list[np.ndarray], int]:
    """Runs ART from ``start``.

    Returns:
        The points to use, in order of preference (float32; ART's own result first, if it came to
        one), and the number of iterations completed.
    """
    answers = _AnswersForArt(oracle, x, spec)
    art = _art_attack(answers, oracle.model, spec)
    # Untargeted ART does not use y; giving it saves a query.
    own_label = np.eye(oracle.model.n_classes, dtype=np.float32)[[oracle.clean_label]]
    candidates = []
    try:
        with _global_numpy_seed(seed), np.errstate(divide="ignore", invalid="ignore"):
            final = art.generate(x[None].copy(), y=own_label, x_adv_init=start[None].copy())[0]
        candidates.append(final)
    except _StoppedError as reason:
        logger.warning(
            "HopSkipJump with seed %d was stopped in iteration %d: %s",
            seed,
            art.curr_iter + 1,
            reason,
        )
    if answers.best is not None:
        candidates.append(answers.best)
    return candidates, int(art.curr_iter)


def _art_attack(answers: _AnswersForArt, model: LabelModel, spec: HopSkipJumpSpec) -> Any:
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import BlackBoxClassifier

    classifier = BlackBoxClassifier(
        answers, tuple(model.input_shape), model.n_classes, clip_values=spec.box()
    )
    return HopSkipJump(
        classifier,
        batch_size=spec.batch_size,
        targeted=False,
        norm=spec.norm,
        max_iter=spec.max_iter,
        max_eval=spec.max_eval,
        init_eval=spec.init_eval,
        init_size=spec.init_size,
        verbose=False,
    )


@contextlib.contextmanager
def _global_numpy_seed(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator for a block and restores its state afterwards."""
    state = np.random.get_state()
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    try:
        yield
    finally:
        np.random.set_state(state)
