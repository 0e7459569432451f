"""HopSkipJump in lockstep: all points and restarts advance together, one batch of queries a step.

The iterations are those of Chen, Jordan and Wainwright (2020, algorithm 2) in the form of the
Adversarial Robustness Toolbox (ART), which the sign-network paper ran: bisection to the boundary,
an estimate of its normal there, a step along it of ``distance / sqrt(iteration)``, halved until
the row is adversarial. Added to that:

* **Places.** Where the model computes on a GPU, the estimates, which ask nearly all queries, are
  made there: :mod:`medrobust.attacks.engine.tensor_normals`.
* **Streams.** Each (point, restart) draws from streams of its own, one for each iteration, so its
  result depends neither on its neighbours nor on an interruption.
* **Bounds.** A step is halved at most ``_MAX_HALVINGS`` times, then the run stays on the boundary.
* **Nearest.** The result is the nearest row found on the boundary in any iteration, bisected to
  ``projection_tolerance`` (after a refinement, to what its search finds). The last unprojected
  iterate, which ART returns and the paper reports, is kept beside it.
* **Refinement** (optional): the last iterations search in the tangent plane; see
  :mod:`medrobust.attacks.engine.tangent_search`.
* **Traces.** Distances and queries after every iteration.
* **Censoring.** A run without an adversarial start is NaN. A point that the model already gets
  wrong is its own adversarial point after the one query that shows it.

Runs are computed in waves whose memory is bounded. With a journal, finished runs are kept there
and the state of the wave at work in a checkpoint beside it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np

from medrobust.attacks import AttackResult, LabelModel, ProgressSink
from medrobust.attacks.engine.lockstep import Setting, smallest_radius, to_boundary
from medrobust.attacks.engine.queries import Queries
from medrobust.attacks.engine.runs import Run, result_of, run_name
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.attacks.engine.starts import find_starts
from medrobust.attacks.engine.tangent_search import TangentSearch
from medrobust.attacks.engine.tensor_normals import normals_of

if TYPE_CHECKING:
    from medrobust.runtime.journal import Checkpoint, Journal

# A step halved this often is 2**-64 of the distance: adding it changes no float32.
_MAX_HALVINGS = 64
# ART's theta is this over sqrt(d), or over d in the maximum norm.
_THETA = 0.01
_FIRST_RADIUS = 0.1
_WAVE_BYTES = 2**28
# Rows of float32 that a run needs at a time (measured: 65, with refinement 99): its state, sums in
# float64, candidates of a search.
_ROWS_PER_RUN = 100
_CHECKPOINT_SECONDS = 30.0


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
    """Attacks all points and restarts together; see ``medrobust.attacks.run_attack``.

    The result of a (point, restart) depends on the model, the point, its label, the spec, its
    seed and its start alone.
    """
    work = []
    for i, r in np.ndindex(*seeds.shape):
        start = None if x_start is None else x_start[i]
        name = run_name(x[i], int(y[i]), start, int(seeds[i, r]), spec)
        work.append(_Work(name, x[i], int(y[i]), start, int(seeds[i, r])))
    kept = journal.finished() if journal is not None else {}
    runs = {item.name: Run.from_arrays(kept[item.name]) for item in work if item.name in kept}
    left = {item.name: item for item in work if item.name not in runs}
    with _WaveCheckpoint(journal) as checkpoint:
        for wave, state in _waves(left, checkpoint.saved(left), x[0].size if len(x) else 1):
            report = _WaveProgress(progress, len(runs), len(wave), seeds.shape[1], spec)
            for name, run in _run_wave(model, spec, wave, state, checkpoint, report):
                runs[name] = run
                if journal is not None:
                    journal.append(name, run.to_arrays())
        checkpoint.discard()
    if progress is not None:
        progress.update(len(x))
    return result_of([runs[item.name] for item in work], x.shape[1:], seeds)


@dataclass(frozen=True)
class _Work:
    """A run to do: its name, point, label, given start and seed."""

    name: str
    x: np.ndarray
    y: int
    start: np.ndarray | None
    seed: int


@dataclass
class _State:
    """What the next iteration of the runs of a wave depends on, row by row.

    ``current`` is the last iterate, before its projection; ``nearest`` the nearest row that was
    found on the boundary, at ``distance``. The last three are the trace.
    """

    goal: np.ndarray
    queries: np.ndarray
    current: np.ndarray
    nearest: np.ndarray
    distance: np.ndarray
    step: np.ndarray
    overspent: np.ndarray
    trace_queries: np.ndarray
    trace_boundary: np.ndarray
    trace_iterate: np.ndarray

    @classmethod
    def at(cls, starts: np.ndarray, goal: np.ndarray, queries: np.ndarray, entries: int) -> _State:
        """Returns the state at adversarial starts, float32 ``[runs, d]``."""
        n = len(starts)
        distances = np.full((n, entries), np.nan, dtype=np.float32)
        return cls(
            goal=goal,
            queries=queries,
            current=starts,
            nearest=starts.copy(),
            distance=np.full(n, np.inf),
            step=np.zeros(n),
            overspent=np.zeros(n, dtype=np.int64),
            trace_queries=np.zeros((n, entries), dtype=np.int64),
            trace_boundary=distances,
            trace_iterate=distances.copy(),
        )


@dataclass(frozen=True)
class _Saved:
    """A state, the names of its runs and the number of iterations behind it."""

    names: list[str]
    iteration: int
    state: _State


class _WaveCheckpoint:
    """Keeps the state of the wave at work in a checkpoint beside the journal, if there is one."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._checkpoint: Checkpoint | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self._journal is not None:
            from medrobust.runtime.journal import Checkpoint

            path = self._journal.path.with_suffix(".state")
            self._checkpoint = Checkpoint(path, self._journal.key)
        return self

    def __exit__(self, *_: object) -> None:
        if self._checkpoint is not None:
            self._checkpoint.close()

    def saved(self, left: dict[str, _Work]) -> _Saved | None:
        """Returns the state of an interrupted wave, of those of its runs still to be done."""
        loaded = self._checkpoint.load() if self._checkpoint is not None else None
        if loaded is None:
            return None
        arrays, info = loaded
        rows = [i for i, name in enumerate(info["names"]) if name in left]
        if not rows:
            return None
        # Rows chosen by a list are copies: what is read from a file cannot be written to.
        state = _State(**{name: values[rows] for name, values in arrays.items()})
        return _Saved([info["names"][i] for i in rows], info["iteration"], state)

    def keep(self, saved: _Saved) -> None:
        """Saves a state, unless the last one is young."""
        if self._checkpoint is None or time.monotonic() - self._last < _CHECKPOINT_SECONDS:
            return
        arrays = {field.name: getattr(saved.state, field.name) for field in fields(saved.state)}
        self._checkpoint.save(arrays, {"names": saved.names, "iteration": saved.iteration})
        self._last = time.monotonic()

    def discard(self) -> None:
        """Removes the saved state: its runs are in the journal."""
        if self._checkpoint is not None:
            self._checkpoint.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _WaveProgress:
    """Reports the progress in points, as a fraction where a wave is at work."""

    sink: ProgressSink | None
    finished: int
    wave: int
    restarts: int
    spec: HopSkipJumpSpec

    def update(self, iteration: int, distance: float) -> None:
        """Reports that the runs of the wave have taken so many iterations."""
        if self.sink is None:
            return
        # Later iterations ask more: what counts is the part of the queries.
        asked, everything = map(self.spec.estimates, (iteration, self.spec.max_iter))
        done = self.finished + self.wave * asked / everything
        note = f"iteration {iteration} of {self.spec.max_iter}, mean distance {distance:.4g}"
        self.sink.update(done / self.restarts, note)


def _waves(
    left: dict[str, _Work], saved: _Saved | None, values: int
) -> Iterator[tuple[list[_Work], _Saved | None]]:
    """Divides what is left to do; a state comes with its own runs, first."""
    if saved is not None:
        yield [left[name] for name in saved.names], saved
    again = set(saved.names) if saved is not None else set()
    fresh = [item for name, item in left.items() if name not in again]
    size = max(_WAVE_BYTES // (4 * values * _ROWS_PER_RUN), 1)
    for first in range(0, len(fresh), size):
        yield fresh[first : first + size], None


def _run_wave(
    model: LabelModel,
    spec: HopSkipJumpSpec,
    wave: list[_Work],
    saved: _Saved | None,
    checkpoint: _WaveCheckpoint,
    progress: _WaveProgress,
) -> Iterator[tuple[str, Run]]:
    """Yields the runs of a wave by name as they end: those without iterations first."""
    iteration = 0
    if saved is not None:
        state, iteration = saved.state, saved.iteration
    else:
        state, wave, ended = _begin(model, spec, wave)
        yield from ended
    if not wave:
        return
    steps = _Steps(model, spec, wave, state)
    for t in range(iteration, spec.max_iter):
        steps.take(t)
        progress.update(t + 1, float(np.mean(state.distance)))
        checkpoint.keep(_Saved([item.name for item in wave], t + 1, state))
    shape = wave[0].x.shape
    for i, item in enumerate(wave):
        trace = {
            "queries": state.trace_queries[i].copy(),
            "boundary": state.trace_boundary[i].copy(),
            "iterate": state.trace_iterate[i].copy(),
        }
        rows = state.nearest[i].reshape(shape).copy(), state.current[i].reshape(shape).copy()
        yield item.name, Run(*rows, int(state.queries[i]), spec.max_iter, True, trace)


def _begin(
    model: LabelModel, spec: HopSkipJumpSpec, wave: list[_Work]
) -> tuple[_State, list[_Work], list[tuple[str, Run]]]:
    """Asks for the clean labels and finds starts.

    Returns:
        the state of the runs that have a start, those runs, and the runs that end here.
    """
    queries = Queries(model, len(wave), spec.batch_size)
    x = np.stack([item.x for item in wave])
    points = x.reshape(len(wave), -1)
    labels = queries.labels(points, np.arange(len(wave)))
    queries.goal, queries.targeted = labels, spec.targeted
    if spec.targeted:
        queries.goal = np.full(len(wave), spec.target, dtype=np.int64)
    right = np.array([i for i, item in enumerate(wave) if labels[i] == item.y], dtype=np.int64)
    drawn = _starts([wave[i] for i in right], x[right], right, queries, spec)
    found = dict(zip(right, drawn, strict=True))
    chosen, starts, ended = [], [], []
    for i, item in enumerate(wave):
        if i not in found:
            ended.append((item.name, _ended(item.x, spec, 0.0, queries.counts[i], ok=True)))
        elif (start := found[i]) is None:
            failure = np.full_like(item.x, np.nan)
            ended.append((item.name, _ended(failure, spec, np.nan, queries.counts[i], ok=False)))
        else:
            chosen.append(i)
            starts.append(start.reshape(-1))
    at = np.stack(starts) if starts else np.empty((0, points.shape[1]), dtype=np.float32)
    state = _State.at(at, queries.goal[chosen], queries.counts[chosen], spec.max_iter + 1)
    return state, [wave[i] for i in chosen], ended


def _starts(
    work: list[_Work],
    x: np.ndarray,
    runs: np.ndarray,
    queries: Queries,
    spec: HopSkipJumpSpec,
) -> list[np.ndarray | None]:
    """Returns a start of each of some runs of the wave, those of number ``runs``."""

    def asks(rows: np.ndarray, owners: np.ndarray) -> np.ndarray:
        return queries.adversarial(rows.reshape(len(rows), -1), runs[owners])

    if spec.start != "fixed":
        return find_starts(x, [item.seed for item in work], spec, asks)
    return [
        item.start if asks(item.start[None], np.array([i]))[0] else None
        for i, item in enumerate(work)
    ]


def _ended(
    row: np.ndarray, spec: HopSkipJumpSpec, distance: float, queries: int, *, ok: bool
) -> Run:
    """Returns a run without iterations."""
    distances = np.full(spec.max_iter + 1, distance, dtype=np.float32)
    counts = np.full(spec.max_iter + 1, queries if ok else 0, dtype=np.int64)
    trace = {"queries": counts, "boundary": distances, "iterate": distances.copy()}
    return Run(row, row, int(queries), 0, ok, trace)


class _Steps:
    """Iterations of the runs of a wave; changes ``state``."""

    def __init__(
        self, model: LabelModel, spec: HopSkipJumpSpec, wave: list[_Work], state: _State
    ) -> None:
        queries = Queries(model, len(wave), spec.batch_size)
        queries.counts, queries.goal, queries.targeted = state.queries, state.goal, spec.targeted
        x = np.stack([item.x.reshape(-1) for item in wave])
        low, high = spec.box()
        d = x.shape[1]
        self._state, self._spec = state, spec
        self._everyone = np.arange(len(wave))
        self._setting = Setting(x, queries, spec.norm, low, high)
        seeds = [item.seed for item in wave]
        self._normals = normals_of(model, self._setting, seeds, spec.batch_size)
        self._theta = _THETA / (math.sqrt(d) if spec.norm == 2 else d)
        self._radius = self._theta * (math.sqrt(d) if spec.norm == 2 else d)
        self._tangent = TangentSearch(self._setting, self._normals, self._theta)
        self._geometric = spec.max_iter - spec.refinement_iterations()

    def take(self, t: int) -> None:
        """Takes iteration ``t``, counted from 0."""
        if t < self._geometric:
            self._take_geometric(t)
            if t + 1 == self._geometric:
                self._project()
                self._trace(t + 1)
            return
        state, counts = self._state, self._spec.estimate_size(t)
        state.nearest, state.distance = self._tangent.take(
            state.nearest, state.distance, state.step, state.overspent, counts, t
        )
        self._trace(t + 1)

    def _take_geometric(self, t: int) -> None:
        setting, state, everyone = self._setting, self._state, self._everyone
        radius = self._radius * setting.distance(state.current, everyone)
        if t == 0:
            radius = np.full(
                len(everyone), _FIRST_RADIUS * (float(setting.high) - float(setting.low))
            )
        boundary = to_boundary(setting, state.current, self._tolerance())
        distance = self._note(boundary)
        self._trace(t)
        radius = np.maximum(radius, smallest_radius(setting))
        counts = np.full(len(everyone), self._spec.estimate_size(t), dtype=np.int64)
        normal = self._normals.estimate(boundary, radius, counts, t)
        if setting.norm == 2:
            length = np.sqrt(np.square(normal).sum(axis=1))
            normal /= np.where(length > 0, length, 1.0)[:, None]
        else:
            normal = np.sign(normal)
        state.current = self._step(boundary, normal, distance / math.sqrt(t + 1))

    def _tolerance(self) -> np.ndarray:
        """Returns ART's tolerance of the bisection, in units of the extent."""
        if self._setting.norm == 2:
            return np.full(len(self._everyone), self._theta)
        extent = self._setting.distance(self._state.current, self._everyone)
        return self._theta * np.minimum(extent, 1.0)

    def _note(self, boundary: np.ndarray) -> np.ndarray:
        """Keeps what is nearer than before; returns the distances."""
        state = self._state
        distance = self._setting.distance(boundary, self._everyone)
        nearer = distance < state.distance
        state.nearest[nearer], state.distance[nearer] = boundary[nearer], distance[nearer]
        return distance

    def _step(self, boundary: np.ndarray, normal: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Returns adversarial rows ahead of the boundary, or the boundary's own."""
        setting, found = self._setting, boundary.copy()
        active, length = self._everyone, length.copy()
        for _ in range(_MAX_HALVINGS):
            tried = setting.box(boundary[active] + length[active, None] * normal[active])
            hit = setting.queries.adversarial(tried, active)
            found[active[hit]] = tried[hit]
            active = active[~hit]
            if not active.size:
                break
            length[active] /= 2
        return found

    def _project(self) -> None:
        """Bisects the last iterate, and the nearest row so far, to the final tolerance."""
        setting, state = self._setting, self._state
        for rows in (state.current, state.nearest.copy()):
            tolerance = np.full(len(rows), self._spec.projection_tolerance)
            if setting.norm != 2:
                tolerance *= setting.distance(rows, self._everyone)
            self._note(to_boundary(setting, rows, tolerance))

    def _trace(self, entry: int) -> None:
        state = self._state
        state.trace_queries[:, entry] = self._setting.queries.counts
        state.trace_boundary[:, entry] = state.distance
        state.trace_iterate[:, entry] = self._setting.distance(state.current, self._everyone)
