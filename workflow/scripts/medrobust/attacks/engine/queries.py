"""Queries: labels of rows, counted, in blocks of one shape.

A row's label may not depend on the rows beside it, or a record would depend on how points are
grouped into jobs. A matrix product, though, may round a row otherwise in a batch of another size.
So the model is always asked in blocks of :data:`BLOCK` rows, the last one padded by its last row;
a model that takes care of this itself says so by ``fixed_shape = True``. Such a model may answer
many rows at once faster in larger blocks: by ``predict_bulk``, in blocks of ``bulk_block``. Its
labels may differ in a last bit from those of ``predict``, so each use of labels keeps to one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medrobust.models.engine.answers import checked_labels

if TYPE_CHECKING:
    from medrobust.attacks import LabelModel

BLOCK = 64


class Queries:
    """Asks a model about rows that belong to runs, and counts them per run.

    Args:
        model: the model under attack.
        runs: number of runs.
        batch_size: most rows handed at once to a model of ``fixed_shape``; others get blocks.

    Attributes:
        counts: int64 ``[runs]``, rows asked about so far; padding does not count.
        bulk_block: rows of the blocks in which many are asked; 0: the model has no others.
        goal: int64 ``[runs]`` and ``targeted``: a row is adversarial where its label differs from
            the goal or, in a targeted attack, equals it.
    """

    def __init__(self, model: LabelModel, runs: int, batch_size: int) -> None:
        self.counts = np.zeros(runs, dtype=np.int64)
        self.goal = np.zeros(runs, dtype=np.int64)
        self.targeted = False
        self._model, self._shape = model, tuple(model.input_shape)
        self._fixed = bool(getattr(model, "fixed_shape", False))
        self._step = max(batch_size, 1) if self._fixed else BLOCK
        self.bulk_block = int(getattr(model, "bulk_block", 0)) if self._fixed else 0

    def labels(self, rows: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """Returns the labels of rows, int64 ``[k]``.

        Args:
            rows: float32 ``[k, d]``.
            runs: int64 ``[k]``, the run that each row is counted for.

        Raises:
            InputError: the model answers in another shape, or by anything but classes.
        """
        np.add.at(self.counts, runs, 1)
        labels = np.empty(len(rows), dtype=np.int64)
        for start in range(0, len(rows), self._step):
            part = rows[start : start + self._step]
            labels[start : start + len(part)] = self._ask(part)
        return labels

    def adversarial(self, rows: np.ndarray, runs: np.ndarray, *, bulk: bool = False) -> np.ndarray:
        """Returns which rows reach the goal of their run, bool ``[k]``; arguments as above.

        ``bulk``: in blocks of ``bulk_block``.
        """
        labels = self._bulk_labels(rows, runs) if bulk else self.labels(rows, runs)
        reached = labels == self.goal[runs]
        return reached if self.targeted else ~reached

    def _bulk_labels(self, rows: np.ndarray, runs: np.ndarray) -> np.ndarray:
        np.add.at(self.counts, runs, 1)
        labels = self._model.predict_bulk(rows.reshape(len(rows), *self._shape))
        return checked_labels(labels, len(rows), self._model.n_classes)

    def _ask(self, rows: np.ndarray) -> np.ndarray:
        n = len(rows)
        if not self._fixed and n < BLOCK:
            rows = np.concatenate([rows, np.repeat(rows[-1:], BLOCK - n, axis=0)])
        labels = self._model.predict(np.ascontiguousarray(rows).reshape(len(rows), *self._shape))
        return checked_labels(labels, len(rows), self._model.n_classes)[:n]
