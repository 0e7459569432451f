"""The runs of an attack within a ball: which are left, what became of the others, their journal.

A run is one (point, restart). A point that the model misclassifies without attack is its own
adversarial point and costs the one query that shows it. A run that fails keeps its last row, which
has the point's own label: whether a run succeeded is decided by a fresh forward pass
(:mod:`medrobust.evaluation.records`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medrobust.attacks import AttackResult, LabelModel, ProgressSink
from medrobust.attacks.engine.queries import Queries
from medrobust.attacks.engine.runs import run_name
from medrobust.core.schema import Settings

if TYPE_CHECKING:
    from medrobust.runtime.journal import Journal

_LABEL_ROWS = 4096
_JOURNAL_SECONDS = 10.0


@dataclass(frozen=True)
class Ended:
    """Runs that are over.

    Attributes:
        runs: int64 ``[k]``, numbers of runs: ``point * restarts + restart``.
        rows: float32 ``[k, d]``, where they ended.
        queries, steps: int64 ``[k]``; one gradient per step where there are gradients.
        lost: int64 ``[k]``, steps without a gradient to go along.
    """

    runs: np.ndarray
    rows: np.ndarray
    queries: np.ndarray
    steps: np.ndarray
    lost: np.ndarray


class Ledger:
    """The runs of an attack: which are left, what became of the others.

    Ended runs go to the journal in groups, some seconds' worth at a time.

    Args:
        x: float32 ``[n, *shape]``.
        y: int64 ``[n]``.
        seeds: int64 ``[n, restarts]``.
        spec: the attack's settings.
        gradients: whether a step takes a gradient.
        steps: whether there are steps, so that some may lack a gradient (or its estimate).
        asked: queries of a clean point: its label, and what else an attack asks beforehand.
        journal, progress: as ``medrobust.attacks.run_attack`` gets them.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        seeds: np.ndarray,
        spec: Settings,
        *,
        gradients: bool,
        steps: bool = True,
        asked: int = 1,
        journal: Journal | None,
        progress: ProgressSink | None,
    ) -> None:
        n, self.restarts = seeds.shape
        self._asked = asked
        runs = n * self.restarts
        self.x = np.ascontiguousarray(x).reshape(n, int(np.prod(x.shape[1:])))
        self.y, self.seeds = y, seeds.reshape(-1)
        self._shape, self._gradients, self._has_steps = x.shape[1:], gradients, steps
        self._journal, self._progress = journal, progress
        self._rows = np.empty((runs, self.x.shape[1]), dtype=np.float32)
        self._queries, self._steps, self._lost = np.zeros((3, runs), dtype=np.int64)
        self._done = np.zeros(runs, dtype=bool)
        self._waiting: list[Ended] = []
        self._last = time.monotonic()
        self._names: list[bytes] = []
        if journal is not None:
            self._take_from(journal, spec)

    def start(self, model: LabelModel) -> np.ndarray:
        """Asks for the clean labels of the points at work; ends the runs of those that are wrong.

        Queries of clean points count for the first restart of each.

        Returns:
            int64, the numbers of the runs that are left to be attacked.
        """
        left = np.flatnonzero(~self._done)
        if not left.size:
            return left
        points = np.unique(left // self.restarts)
        labels = labels_of(model, self.x[points])
        wrong = points[labels != self.y[points]]
        over = left[np.isin(left // self.restarts, wrong)]
        none = np.zeros_like(over)
        self.end(Ended(over, self.x[over // self.restarts], self.clean_queries(over), none, none))
        return left[~np.isin(left // self.restarts, wrong)]

    def clean_queries(self, runs: np.ndarray) -> np.ndarray:
        """Returns the queries of clean points that count for runs, int64 ``[k]``."""
        return self._asked * (runs % self.restarts == 0).astype(np.int64)

    def end(self, ended: Ended) -> None:
        """Notes runs that are over."""
        if not ended.runs.size:
            return
        self._note(ended)
        if self._journal is None:
            return
        self._waiting.append(ended)
        if time.monotonic() - self._last > _JOURNAL_SECONDS:
            self._write()

    def tell(self, under_way: float = 0.0, note: str = "") -> None:
        """Reports the progress; ``under_way`` is the work done on runs not over, in runs."""
        if self._progress is not None:
            done = float(self._done.sum() + under_way)
            self._progress.update(done / self.restarts, note)

    def result(self) -> AttackResult:
        """Returns the result, when all runs are over."""
        self._write()
        self.tell()
        shape = (len(self.x), self.restarts)
        rows = self._rows.reshape(*shape, *self._shape)
        steps = self._steps.reshape(shape)
        return AttackResult(
            x_adv=rows,
            x_final_iterate=rows,
            queries=self._queries.reshape(shape),
            gradient_evaluations=steps.copy() if self._gradients else np.zeros_like(steps),
            iterations=steps,
            init_ok=np.ones(shape, dtype=bool),
            seeds=self.seeds.reshape(shape),
            steps_without_gradient=self._lost.reshape(shape) if self._has_steps else None,
        )

    def _note(self, ended: Ended) -> None:
        runs = ended.runs
        self._rows[runs] = ended.rows
        self._queries[runs], self._steps[runs] = ended.queries, ended.steps
        self._lost[runs] = ended.lost
        self._done[runs] = True

    def _take_from(self, journal: Journal, spec: Settings) -> None:
        for run, seed in enumerate(self.seeds):
            i = run // self.restarts
            name = run_name(self.x[i], int(self.y[i]), None, int(seed), spec)
            self._names.append(bytes.fromhex(name))
        numbers: dict[bytes, list[int]] = {}
        for run, name in enumerate(self._names):
            numbers.setdefault(name, []).append(run)
        for group in journal.finished().values():
            counts = zip(group["queries"], group["steps"], group["lost"], strict=True)
            names = (bytes(name) for name in group["names"])
            for name, row, of_run in zip(names, group["rows"], counts, strict=True):
                runs = np.array(numbers.get(name, []), dtype=np.int64)
                self._note(Ended(runs, row, *of_run))

    def _write(self) -> None:
        """Appends the waiting runs to the journal as one unit."""
        if self._journal is None or not self._waiting:
            return
        runs = np.concatenate([ended.runs for ended in self._waiting])
        names = b"".join(self._names[run] for run in runs)
        arrays = {
            "names": np.frombuffer(names, dtype=np.uint8).reshape(len(runs), -1),
            "rows": np.concatenate([ended.rows for ended in self._waiting]),
            "queries": np.concatenate([ended.queries for ended in self._waiting]),
            "steps": np.concatenate([ended.steps for ended in self._waiting]),
            "lost": np.concatenate([ended.lost for ended in self._waiting]),
        }
        # No run ends twice, so its name is one that no other group has.
        self._journal.append(self._names[runs[0]].hex(), arrays)
        self._waiting, self._last = [], time.monotonic()


def labels_of(model: LabelModel, rows: np.ndarray) -> np.ndarray:
    """Returns the labels of rows float32 ``[k, d]``, int64 ``[k]``."""
    queries = Queries(model, 1, _LABEL_ROWS)
    return queries.labels(rows, np.zeros(len(rows), dtype=np.int64))
