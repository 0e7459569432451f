"""A model whose rows stay on the device where it computes: what attacks ask on tensors.

Where the device is a GPU, an attack keeps its rows there, asks for labels and gradients of tensors
and moves them by tensor operations; of an answer only what decides on the host crosses. Blocks are
those of :mod:`medrobust.models.blocks`, the last one padded with zeros, as for arrays.

Members are joined by the rules of :mod:`medrobust.models.ensembles`. A row of which a member gives
a score that is NaN or infinite has no answer: its label is :data:`NO_ANSWER`, which whoever reads
labels on the host has to refuse (:func:`check_answers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from medrobust.core.errors import NotFiniteError
from medrobust.models.contract import Scores

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from medrobust.models.gradients import InputGradients, Loss

NO_ANSWER = -1


class OnDevice:
    """Labels, logits and gradients of tensors ``[n, d]`` on one device.

    Args:
        scores: function from float32 ``[block, d]`` to float32 ``[M, block, c]``.
        kind: what ``scores`` returns.
        vote: how members are joined.
        device: such as "cuda:0".
        block: rows of a block.
        gradients: of the same members; None where there are none.
    """

    def __init__(
        self,
        scores: Callable[[Tensor], Tensor],
        *,
        kind: Scores,
        vote: Literal["majority", "soft"],
        device: str,
        block: int,
        gradients: InputGradients | None,
    ) -> None:
        self._scores, self._kind, self._vote = scores, kind, vote
        self._gradients = gradients
        self.device, self.block = device, block

    def put(self, values: np.ndarray, dtype: torch.dtype | None = None) -> Tensor:
        """Returns an array as a tensor on the device; rows ``[n, *shape]`` stay in shape."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, dtype)

    def labels(self, rows: Tensor) -> Tensor:
        """Returns the joined label of each row, int64 ``[n]``; ties go to the lowest number.

        Args:
            rows: float32 ``[n, d]``.
        """
        import torch

        return torch.cat([self._label(scores) for scores in self._each_block(rows)])

    def all_labels(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Returns joined labels ``[n]`` and those of every member ``[M, n]``, int64."""
        import torch

        found = [(self._label(s), s.argmax(dim=2)) for s in self._each_block(rows)]
        joined, members = zip(*found, strict=True)
        return torch.cat(joined), torch.cat(members, dim=1)

    def logits(self, rows: Tensor) -> Tensor:
        """Returns the joined logits of rows ``[n, d]``, float32 ``[n, c]``."""
        import torch

        passes = self._passes()
        blocks = (passes.logits_of(block)[:size] for block, size in _blocks(rows, passes.block))
        return torch.cat(list(blocks))

    def loss_gradients(self, rows: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Returns logits and each row's gradient of its own loss, from one pass.

        Args:
            rows: float32 ``[gradient block, d]``: a whole block.
            labels: int64 ``[gradient block]``.
            loss: see :mod:`medrobust.models.gradients`.

        Returns:
            float32 ``[n, c]`` and ``[n, d]``.
        """
        passes = self._passes()
        if len(rows) != passes.block:
            raise ValueError(f"{len(rows)} rows are no block of {passes.block}")
        return passes.gradients_of(rows, labels, loss)

    def _passes(self) -> InputGradients:
        if self._gradients is None:
            raise ValueError("this model has no gradients")
        return self._gradients

    def _each_block(self, rows: Tensor) -> Iterator[Tensor]:
        """Yields scores ``[M, k, c]`` of one block after the other, padding cut off."""
        for block, size in _blocks(rows, self.block):
            yield self._scores(block)[:, :size]

    def _label(self, scores: Tensor) -> Tensor:
        import torch

        with torch.inference_mode():
            join = self._count if self._vote == "majority" else self._mean_probabilities
            answered = torch.isfinite(scores).all(dim=2).all(dim=0)
            return join(scores).argmax(dim=1).where(answered, NO_ANSWER)

    def _count(self, scores: Tensor) -> Tensor:
        import torch

        if self._kind == "votes":
            return scores.sum(dim=0).long()
        classes = torch.arange(scores.shape[2], device=scores.device)
        return (scores.argmax(dim=2)[:, :, None] == classes).sum(dim=0)

    def _mean_probabilities(self, scores: Tensor) -> Tensor:
        scores = scores.double()
        if self._kind != "logits":
            return scores.mean(dim=0)
        shifted = (scores - scores.amax(dim=2, keepdim=True)).exp()
        return (shifted / shifted.sum(dim=2, keepdim=True)).mean(dim=0)


def side_of(model: object) -> OnDevice | None:
    """Returns the side of a model that attacks may ask on tensors; None: they ask it on arrays.

    Here it is chosen where the steps and draws of an attack are computed.
    """
    return getattr(model, "on_device", None)


def check_answers(labels: np.ndarray) -> np.ndarray:
    """Returns labels that were read from a device.

    Raises:
        NotFiniteError: one of them is no answer.
    """
    missing = int((labels == NO_ANSWER).sum())
    if missing:
        raise NotFiniteError(
            f"The model gave scores that are NaN or infinite, for {missing} of {len(labels)} rows.",
            remedy="train the model again with a smaller learning rate; a training that ends so "
            "counts as failed.",
        )
    return labels


def _blocks(rows: Tensor, block: int) -> Iterator[tuple[Tensor, int]]:
    """Yields whole blocks, the last one padded with zeros, and how many of their rows count."""
    import torch

    if len(rows) == 0:
        raise ValueError("a model needs at least one point")
    for first in range(0, len(rows), block):
        part = rows[first : first + block]
        size = len(part)
        if size < block:
            part = torch.cat([part, part.new_zeros((block - size, part.shape[1]))])
        yield part, size
