"""SPSA's estimates of slopes on tensors: :class:`medrobust.attacks.spsa.Estimator` for a GPU.

Signs are the bits of the same streams as there (:mod:`medrobust.attacks.engine.tensor_draws`); sums
over directions are float64, in another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medrobust.attacks.engine import tensor_draws
from medrobust.attacks.engine.ball import STEP_STREAMS
from medrobust.models.engine import loss_slopes
from medrobust.models.on_device import OnDevice

if TYPE_CHECKING:
    from torch import Tensor

_WORD = 64


class TensorEstimates:
    """Leads runs by estimated slopes: a :class:`medrobust.attacks.engine.tensor_board.TensorGuide`.

    Args:
        model: gives logits.
        directions: sign vectors per estimate.
        delta: size of the perturbations.
        block: rows that the model is asked about at a time, two for each direction.
    """

    def __init__(self, model: OnDevice, directions: int, delta: float, block: int) -> None:
        self._model, self._directions = model, directions
        self._delta, self._pairs = float(np.float32(delta)), max(block // 2, 1)
        self._taken = np.empty(0, dtype=bool)

    def see(self, rows: Tensor, labels: Tensor, taken: np.ndarray, queries: np.ndarray) -> None:
        """Looks at nothing: of labels nothing is known before they are asked for."""
        self._taken = taken.copy()

    def suspects(self) -> np.ndarray:
        """Returns all."""
        return self._taken

    def slopes(
        self,
        rows: Tensor,
        labels: Tensor,
        seeds: Tensor,
        active: np.ndarray,
        steps: np.ndarray,
        queries: np.ndarray,
    ) -> Tensor:
        """Returns the signs of the estimates of the active rows, 0 of the others."""
        import torch

        found = torch.zeros_like(rows)
        for i in np.flatnonzero(active).tolist():
            keys = tensor_draws.stream_keys(seeds[i : i + 1], STEP_STREAMS + int(steps[i]))
            found[i] = self.estimate(rows[i], labels[i], keys).sign().float()
            queries[i] += 2 * self._directions
        return found

    def estimate(self, row: Tensor, label: Tensor, key: Tensor) -> Tensor:
        """Returns the estimated slope at a row, float64 ``[d]``.

        Args:
            row: float32 ``[d]``.
            label: int64, a single value.
            key: of the stream, int64 ``[1]``.
        """
        import torch

        total = torch.zeros(len(row), dtype=torch.float64, device=row.device)
        for first in range(0, self._directions, self._pairs):
            pairs = min(self._pairs, self._directions - first)
            signs = self._signs(key, first, pairs, len(row))
            total += self._differences(row, label, signs) @ signs.double()
        return total / (2 * self._delta * self._directions)

    def _signs(self, key: Tensor, first: int, pairs: int, d: int) -> Tensor:
        """Returns directions ``first``, ``first + 1``, ..., float32 1 and -1, ``[pairs, d]``."""
        import torch

        words = -(-d // _WORD)
        bits = tensor_draws.words(key, first * words, pairs * words).view(pairs, words, 1)
        lowered = (bits >> torch.arange(_WORD, device=bits.device)) & 1
        return 1.0 - 2.0 * lowered.view(pairs, -1)[:, :d].float()

    def _differences(self, row: Tensor, label: Tensor, signs: Tensor) -> Tensor:
        """Returns the losses of rows ahead less those of rows behind, float64 ``[pairs]``."""
        import torch

        moves = self._delta * signs
        logits = self._model.logits(torch.cat([row + moves, row - moves]))
        losses = loss_slopes.margins(logits, label.expand(len(logits)))
        return losses[: len(signs)] - losses[len(signs) :]
