"""Rows of runs on the model's device: :class:`medrobust.attacks.engine.slots.Board` on tensors.

Only what decides on the host crosses: for each step which rows are suspect, and their labels; rows
when a run begins or ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from medrobust.attacks.engine.aims import reached
from medrobust.attacks.engine.tensor_moves import TensorMoves
from medrobust.models.on_device import OnDevice, check_answers

if TYPE_CHECKING:
    from torch import Tensor

    from medrobust.models.gradients import Loss


class TensorGuide(Protocol):
    """Tells where runs may be over, and which way up is.

    ``rows`` float32 ``[places, d]``, ``labels`` (the classes that runs leave or go to) and
    ``seeds`` int64 ``[places]`` are tensors; all else are arrays of the host: ``queries`` int64
    ``[places]``, raised by what the model is asked.
    """

    def see(self, rows: Tensor, labels: Tensor, taken: np.ndarray, queries: np.ndarray) -> None:
        """Looks at the rows as they are; ``taken`` tells which places hold a run."""
        ...

    def suspects(self) -> np.ndarray:
        """Returns the rows whose label is to be asked for, bool ``[places]``."""
        ...

    def slopes(
        self,
        rows: Tensor,
        labels: Tensor,
        seeds: Tensor,
        active: np.ndarray,
        steps: np.ndarray,
        queries: np.ndarray,
    ) -> Tensor:
        """Returns what to climb, float32 ``[places, d]``, where rows are active."""
        ...


class TensorBoard:
    """A board of tensors; see :class:`medrobust.attacks.engine.slots.Board`.

    Args:
        guide: leads the runs.
        moves: starts and moves the rows of as many places.
        model: is asked for the labels that end a run.
        shape: places and values per row.
    """

    def __init__(
        self, guide: TensorGuide, moves: TensorMoves, model: OnDevice, shape: tuple[int, int]
    ) -> None:
        import torch

        self._guide, self._moves, self._model = guide, moves, model
        self._rows = torch.zeros(shape, device=model.device)
        self._labels, self._seeds, self._lost, self._steps = (
            torch.zeros(shape[0], dtype=torch.int64, device=model.device) for _ in range(4)
        )
        self._known = np.zeros(shape[0], dtype=bool)
        self._active = self._lost.bool()

    def put(self, places: np.ndarray, x: np.ndarray, y: np.ndarray, seeds: np.ndarray) -> None:
        """Starts runs in places."""
        where, labels, seeds = self._model.put(np.stack([places, y, seeds]))
        self._rows[where] = self._moves.start(where, self._model.put(x), seeds)
        self._labels[where], self._seeds[where] = labels, seeds
        self._lost[where] = 0
        self._steps[where] = 0

    def see(self, taken: np.ndarray, queries: np.ndarray) -> None:
        """Asks the guide."""
        self._guide.see(self._rows, self._labels, taken, queries)

    def suspects(self) -> np.ndarray:
        """Returns what the guide suspects."""
        return self._guide.suspects()

    def labels(self, places: np.ndarray) -> np.ndarray:
        """Returns the labels of the rows in places.

        Raises:
            NotFiniteError: the model has none for one of them.
        """
        labels = self._model.labels(self._rows[self._model.put(places)])
        return check_answers(labels.cpu().numpy())

    def climb(self, active: np.ndarray, steps: np.ndarray, queries: np.ndarray) -> None:
        """Moves the active rows one step."""
        if (active != self._known).any():
            self._known, self._active = active.copy(), self._model.put(active)
        slopes = self._guide.slopes(self._rows, self._labels, self._seeds, active, steps, queries)
        self._lost += self._active & _unusable(slopes)
        self._rows = self._moves.step(self._active, self._steps, slopes, self._rows)
        self._steps += self._active

    def take(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows, and how many of their steps led nowhere."""
        where = self._model.put(places)
        return self._rows[where].cpu().numpy(), self._lost[where].cpu().numpy()


class TensorGradients:
    """Leads runs by the gradient of a loss; one pass gives logits and gradients of all places.

    Args:
        model: gives both.
        loss: which.
        towards: whether runs go to classes, and so lower their loss.
        confidence: margin beyond which a run is over; 0: its label tells.
    """

    def __init__(
        self, model: OnDevice, loss: Loss, *, towards: bool = False, confidence: float = 0.0
    ) -> None:
        self._model, self._loss = model, loss
        self._towards, self._confidence = towards, confidence
        self._slopes: Tensor
        self._suspects: Tensor

    def see(self, rows: Tensor, labels: Tensor, taken: np.ndarray, queries: np.ndarray) -> None:
        """Takes one pass."""
        import torch

        logits, slopes = self._model.loss_gradients(rows, labels, self._loss)
        self._slopes = -slopes if self._towards else slopes
        # Who has no answer is asked for a label, and found out.
        answered = torch.isfinite(logits).all(dim=1)
        self._suspects = self._over(logits, labels) | ~answered
        queries += taken

    def _over(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns whose logits say that they are where they go, bool ``[places]``."""
        if not self._confidence:
            return reached(logits.argmax(dim=1), labels, towards=self._towards)
        from medrobust.models.engine import loss_slopes

        margins = loss_slopes.margins(logits, labels)
        return (-margins if self._towards else margins) > self._confidence

    def suspects(self) -> np.ndarray:
        """Returns who is suspect; the labels, whose blocks round otherwise, decide."""
        return self._suspects.cpu().numpy()

    def slopes(self, *_: Tensor | np.ndarray) -> Tensor:
        """Returns the gradients of the pass that :meth:`see` took."""
        return self._slopes


def _unusable(slopes: Tensor) -> Tensor:
    """Returns which rows of slopes are all 0, or not all finite, bool ``[k]``."""
    import torch

    largest = slopes.abs().amax(dim=1)
    return ~((largest > 0) & torch.isfinite(largest))
