"""Runs side by side, each in a slot of its own: steps, ends, and the next run in its place.

All slots advance together, so the rows of a pass are always as many as there are slots; each
counts its own steps. The rows themselves lie on a :class:`Board`: in arrays, where a :class:`Guide`
leads them and :class:`Moves` take them there, or in tensors on the model's device
(:class:`medrobust.attacks.engine.tensor_board.TensorBoard`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from medrobust.attacks import LabelModel
from medrobust.attacks.engine.aims import Aims, reached
from medrobust.attacks.engine.ball import SteppedSpec
from medrobust.attacks.engine.ledger import Ended, Ledger, labels_of
from medrobust.attacks.engine.moves import Moves


class Guide(Protocol):
    """Tells where runs may be over, and which way up is.

    Rows are float32 ``[slots, d]``, one per slot; ``runs`` are the numbers of the runs in them.
    """

    def suspects(
        self, rows: np.ndarray, labels: np.ndarray, queries: np.ndarray, taken: np.ndarray
    ) -> np.ndarray:
        """Returns the rows whose label ``predict`` is to be asked for, bool ``[slots]``.

        Args:
            rows: where the runs are.
            labels: int64 ``[slots]``, the classes that they leave or go to
                (:class:`medrobust.attacks.engine.aims.Aims`).
            queries: int64 ``[slots]``, counts; raised by the rows that are asked about.
            taken: bool ``[slots]``, which slots hold a run.
        """
        ...

    def slopes(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        queries: np.ndarray,
        active: np.ndarray,
        seeds: np.ndarray,
        steps: np.ndarray,
    ) -> np.ndarray:
        """Returns what to climb, float32 ``[slots, d]``; of rows that are not active, anything.

        A row that is all 0, or not all finite, leads nowhere: such steps are counted.

        Args:
            rows, labels, queries: as above, after the call of :meth:`suspects`.
            active: bool ``[slots]``, the rows that will move.
            seeds: int64 ``[slots]``.
            steps: int64 ``[slots]``, steps that each run has taken.
        """
        ...


class Board(Protocol):
    """Rows of runs, each in a place, wherever they lie.

    ``taken`` and ``active`` are bool ``[places]``, ``steps`` and ``queries`` int64 ``[places]``;
    queries are raised by what the model is asked for.
    """

    def put(self, places: np.ndarray, x: np.ndarray, y: np.ndarray, seeds: np.ndarray) -> None:
        """Starts runs in places.

        Args:
            places: int64 ``[k]``.
            x: float32 ``[k, d]``, their points.
            y: int64 ``[k]``, the classes that they leave or go to.
            seeds: int64 ``[k]``.
        """
        ...

    def see(self, taken: np.ndarray, queries: np.ndarray) -> None:
        """Finds out what it can about the rows as they are, before a step."""
        ...

    def suspects(self) -> np.ndarray:
        """Returns the rows whose label ``predict`` is to be asked for, bool ``[places]``."""
        ...

    def labels(self, places: np.ndarray) -> np.ndarray:
        """Returns the labels of the rows in places, by ``predict`` as for the records."""
        ...

    def climb(self, active: np.ndarray, steps: np.ndarray, queries: np.ndarray) -> None:
        """Moves the active rows one step; ``steps`` are those that each has taken."""
        ...

    def take(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows float32 ``[k, d]``, and int64 ``[k]`` how many steps led nowhere.

        Such are steps along slopes that were all 0, or not all finite.
        """
        ...


class ArrayBoard:
    """A board of arrays; see :class:`Board`.

    Args:
        guide: leads the runs.
        moves: starts and moves the rows of as many places.
        model: is asked for the labels that end a run.
        shape: places and values per row.
    """

    def __init__(
        self, guide: Guide, moves: Moves, model: LabelModel, shape: tuple[int, int]
    ) -> None:
        self._guide, self._moves, self._model = guide, moves, model
        self._rows = np.zeros(shape, dtype=np.float32)
        self._labels, self._seeds, self._lost = np.zeros((3, shape[0]), dtype=np.int64)
        self._suspects = np.zeros(shape[0], dtype=bool)

    def put(self, places: np.ndarray, x: np.ndarray, y: np.ndarray, seeds: np.ndarray) -> None:
        """Starts runs in places."""
        self._rows[places] = self._moves.start(places, x, seeds)
        self._labels[places], self._seeds[places], self._lost[places] = y, seeds, 0

    def see(self, taken: np.ndarray, queries: np.ndarray) -> None:
        """Asks the guide."""
        self._suspects = self._guide.suspects(self._rows, self._labels, queries, taken)

    def suspects(self) -> np.ndarray:
        """Returns what the guide suspects."""
        return self._suspects

    def labels(self, places: np.ndarray) -> np.ndarray:
        """Returns the labels of the rows in places."""
        return labels_of(self._model, self._rows[places])

    def climb(self, active: np.ndarray, steps: np.ndarray, queries: np.ndarray) -> None:
        """Moves the active rows one step."""
        slopes = self._guide.slopes(self._rows, self._labels, queries, active, self._seeds, steps)
        _count_unusable(active, slopes, self._lost)
        self._moves.step(active, steps, slopes, self._rows)

    def take(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows, and how many of their steps led nowhere."""
        return self._rows[places], self._lost[places]


class Slots:
    """A fixed number of places for runs.

    Args:
        size: number of places.
        board: holds and moves the rows of as many places.
        spec: the attack's settings.
        ledger: the attack's runs.
        waiting: int64, numbers of the runs to be attacked.
        aims: where they go; None: away from the points' labels.
    """

    def __init__(
        self,
        size: int,
        board: Board,
        spec: SteppedSpec,
        ledger: Ledger,
        waiting: np.ndarray,
        aims: Aims | None = None,
    ) -> None:
        self._board, self._spec, self._ledger = board, spec, ledger
        self._waiting, self._next, self._aims = waiting, 0, aims or Aims(ledger.y)
        self._taken = np.zeros(size, dtype=bool)
        self._runs, self._classes, self._steps, self._queries = np.zeros((4, size), dtype=np.int64)
        self._fill(np.arange(size))

    def run(self) -> None:
        """Attacks until no run is left."""
        while self._taken.any():
            self._advance()

    def _advance(self) -> None:
        """Ends the runs that are over, moves the others one step, lets the next ones in."""
        self._board.see(self._taken, self._queries)
        over = self._taken & (self._steps == self._spec.num_steps)
        if self._spec.early_stop:
            over |= self._arrived(self._board.suspects() & self._taken)
        active = self._taken & ~over
        if active.any():
            self._board.climb(active, self._steps, self._queries)
            self._steps += active
        if over.any():
            places = np.flatnonzero(over)
            self._end(places)
            self._fill(places)
        self._ledger.tell(float(self._steps.sum()) / self._spec.num_steps)

    def _arrived(self, suspects: np.ndarray) -> np.ndarray:
        """Returns which of the suspects are where they go, by ``predict`` as for the records."""
        arrived = suspects.copy()
        places = np.flatnonzero(suspects)
        if places.size:
            self._queries[places] += 1
            labels, towards = self._board.labels(places), self._aims.towards
            arrived[places] = reached(labels, self._classes[places], towards=towards)
        return arrived

    def _end(self, places: np.ndarray) -> None:
        runs = self._runs[places]
        queries = self._queries[places] + self._ledger.clean_queries(runs)
        rows, lost = self._board.take(places)
        self._ledger.end(Ended(runs, rows, queries, self._steps[places], lost))
        self._taken[places] = False
        self._steps[places] = 0

    def _fill(self, places: np.ndarray) -> None:
        """Puts the next runs into free places, as long as there are any."""
        runs = self._waiting[self._next : self._next + len(places)]
        if not runs.size:
            return
        self._next += len(runs)
        places = places[: len(runs)]
        ledger = self._ledger
        points = runs // ledger.restarts
        classes = self._aims.classes[points]
        self._board.put(places, ledger.x[points], classes, ledger.seeds[runs])
        self._runs[places], self._classes[places] = runs, classes
        self._queries[places] = self._steps[places] = 0
        self._taken[places] = True


def _count_unusable(active: np.ndarray, slopes: np.ndarray, counts: np.ndarray) -> None:
    """Adds 1 to the counts of active rows whose slopes are all 0, or not all finite."""
    if slopes.dtype == np.float32:
        from medrobust.attacks.engine import ball_kernels

        ball_kernels.count_unusable(active, slopes.view(np.uint32), counts)
    else:  # a user's own model may give float64
        largest = np.abs(slopes).max(axis=1)
        counts += active & ~((largest > 0) & np.isfinite(largest))
