"""Many members as one model: labels, votes and mean scores of an ensemble.

All members are evaluated at once, on blocks of a fixed number of points (the last one padded
with zeros; :mod:`medrobust.models.blocks`): a row of a matrix product can differ in its last bit
with the shape of the batch, and a label must depend on the point alone.

How members are joined (signnet-code: ``round(mean of votes)`` or scikit-learn's soft vote):

* ``majority``: each member votes for its best class; the class with most votes wins, and a
  tie goes to the lowest class number (for two classes this is the authors' banker's rounding
  of 0.5 to 0).
  Sign networks give votes themselves (their ``scores`` are "votes"): one against the rest, a member
  may vote for several classes or for none, and all its votes count.
* ``soft``: the class with the highest mean probability wins (softmax of logits; trees give
  probabilities themselves), a tie again going to the lowest number.

Scores that are NaN or infinite are no answer: an ensemble with such a member is asked in vain
(:class:`medrobust.core.errors.NotFiniteError`).

An ensemble has gradients where its members give logits through a differentiable ``forward``, and
there is one member or a soft vote; see :mod:`medrobust.models.gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models import blocks, gradients
from medrobust.models.contract import Architecture, Scores, architecture_of
from medrobust.models.engine.answers import check_member_scores
from medrobust.models.gradients import InputGradients, Loss
from medrobust.models.on_device import NO_ANSWER, OnDevice, check_answers
from medrobust.runtime.devices import in_halves

if TYPE_CHECKING:
    import torch

Vote = Literal["majority", "soft"]
#: Kinds of devices on which rows of an attack stay.
KEPT_ON = {"cuda"}


class Ensemble:
    """Members of one architecture as one classifier.

    Args:
        scores: function from float32 ``[block, *shape]`` to float32 ``[M, block, n_classes]``.
        kind: "logits", "probabilities" or "votes" (0 or 1), what ``scores`` returns.
        vote: how members are joined.
        input_shape: shape of one point.
        n_classes: number of classes.
        input_range: (low, high) of valid inputs, in the unit of the data set.
        block: points per evaluation.
        bulk_block: points per evaluation of :meth:`predict_bulk`; 0: as many as of the others.
        gradients: logits and input gradients of the same members; None where there are none.
        on_device: the same members for rows that stay on their device; None where the device is
            the CPU.
    """

    fixed_shape = True

    def __init__(
        self,
        scores: Callable[[np.ndarray], np.ndarray],
        *,
        kind: Scores,
        vote: Vote,
        input_shape: tuple[int, ...],
        n_classes: int,
        input_range: tuple[float, float],
        block: int = blocks.LABELS,
        bulk_block: int = 0,
        gradients: InputGradients | None = None,
        on_device: OnDevice | None = None,
    ) -> None:
        self._scores = scores
        self.kind, self.vote = kind, vote
        self.input_shape, self.n_classes = tuple(input_shape), n_classes
        self.input_range, self._block, self.bulk_block = input_range, block, bulk_block
        self._gradients, self.on_device = gradients, on_device

    @property
    def has_gradients(self) -> bool:
        """Whether there are logits of the ensemble and gradients of losses."""
        return self._gradients is not None

    @property
    def gradient_block(self) -> int:
        """Points per pass of :meth:`logits` and :meth:`loss_gradients`."""
        return self._differentiable().block

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Returns the ensemble's logits, float32 ``[n, n_classes]``.

        Raises:
            InputError: the ensemble has none.
        """
        return self._differentiable().logits(x)

    def loss_gradients(
        self, x: np.ndarray, y: np.ndarray, loss: Loss
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits and each row's gradient of its own loss.

        See :meth:`medrobust.models.gradients.InputGradients.loss_gradients`.

        Raises:
            InputError: the ensemble has no gradients.
        """
        return self._differentiable().loss_gradients(x, y, loss)

    def _differentiable(self) -> InputGradients:
        if self._gradients is None:
            raise InputError(
                "This model has no gradients: units or members that give signs, votes or "
                "probabilities have none, and the majority vote of several members has none.",
                remedy="attack it by labels (hopskipjump, uniform_noise), or join its members by "
                "`vote: soft`.",
            )
        return self._gradients

    def member_scores(self, x: np.ndarray) -> np.ndarray:
        """Returns all members' scores as float32 ``[M, n, n_classes]``."""
        return np.concatenate(list(self._blocks(x, lambda scores: scores)), axis=1)

    def member_predictions(self, x: np.ndarray) -> np.ndarray:
        """Returns every member's label, int64 ``[M, n]``."""
        return np.concatenate(list(self._blocks(x, lambda s: s.argmax(axis=2))), axis=1)

    def votes(self, x: np.ndarray) -> np.ndarray:
        """Returns how many members vote for each class, int64 ``[n, n_classes]``."""
        return np.concatenate(list(self._blocks(x, self._count)))

    def mean_probabilities(self, x: np.ndarray) -> np.ndarray:
        """Returns the mean over members of the class probabilities, float64 ``[n, n_classes]``."""
        return np.concatenate(list(self._blocks(x, self._mean_probabilities)))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the ensemble's labels, int64 ``[n]``; ties go to the lowest class number."""
        if self.on_device is not None:
            parts = [self.on_device.labels(rows) for rows in self._put(x)]
            return self._answers(parts, x)
        return np.concatenate(list(self._blocks(x, self._joined)))

    def predict_bulk(self, x: np.ndarray) -> np.ndarray:
        """Returns labels of many points as :meth:`predict`, in blocks of ``bulk_block``.

        Where scores are level but for rounding, a label may differ from that of ``predict``.
        """
        if not self.bulk_block:
            return self.predict(x)
        return np.concatenate(list(self._blocks(x, self._joined, self.bulk_block)))

    def all_predictions(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ensemble's labels and every member's, from one evaluation of the members.

        Returns:
            int64 ``[n]`` as of :meth:`predict`, int64 ``[M, n]`` as of :meth:`member_predictions`.
        """
        if self.on_device is not None:
            return self._all_from_device(x)
        labels = list(self._blocks(x, lambda s: (self._joined(s), s.argmax(axis=2))))
        joined, members = zip(*labels, strict=True)
        return np.concatenate(joined), np.concatenate(members, axis=1)

    def _all_from_device(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch

        found = [self.on_device.all_labels(rows) for rows in self._put(x)]
        members = torch.cat([of_members for _, of_members in found], dim=1)
        return self._answers([joined for joined, _ in found], x), members.cpu().numpy()

    def _put(self, x: np.ndarray) -> Iterator[torch.Tensor]:
        """Yields one block of points after the other as rows on the device."""
        if len(x) == 0:
            raise ValueError("an ensemble needs at least one point")
        for start in range(0, len(x), self._block):
            part = np.asarray(x[start : start + self._block], dtype=np.float32)
            yield self.on_device.put(part.reshape(len(part), -1))

    def _answers(self, labels: list[torch.Tensor], x: np.ndarray) -> np.ndarray:
        """Returns labels from the device.

        Raises:
            NotFiniteError: a member has no answer.
        """
        import torch

        found = torch.cat(labels).cpu().numpy()
        if (missing := found == NO_ANSWER).any():
            self.member_scores(x[missing])  # says which members
        return check_answers(found)

    def _blocks(
        self, x: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray], size: int | None = None
    ):
        """Yields ``reduce(scores)`` of one block after the other, padding cut off."""
        size = size or self._block
        if len(x) == 0:
            raise ValueError("an ensemble needs at least one point")
        for start in range(0, len(x), size):
            block = np.asarray(x[start : start + size], dtype=np.float32)
            rows = len(block)
            if rows < size:
                padding = np.zeros((size - rows, *self.input_shape), dtype=np.float32)
                block = np.concatenate([block, padding])
            scores = self._scores(block)[:, :rows]
            check_member_scores(scores, rows, self.n_classes)
            yield reduce(scores)

    def _joined(self, scores: np.ndarray) -> np.ndarray:
        join = self._count if self.vote == "majority" else self._mean_probabilities
        return join(scores).argmax(axis=1)

    def _count(self, scores: np.ndarray) -> np.ndarray:
        if self.kind == "votes":
            return scores.sum(axis=0).astype(np.int64)
        labels = scores.argmax(axis=2)
        return (labels[:, :, None] == np.arange(self.n_classes)).sum(axis=0)

    def _mean_probabilities(self, scores: np.ndarray) -> np.ndarray:
        if self.kind != "logits":
            return scores.mean(axis=0, dtype=np.float64)
        shifted = np.exp((scores - scores.max(axis=2, keepdims=True)).astype(np.float64))
        return (shifted / shifted.sum(axis=2, keepdims=True)).mean(axis=0)


def build_ensemble(
    architecture: str,
    spec: Settings,
    parts: list[dict[str, np.ndarray]],
    *,
    vote: Vote,
    input_shape: tuple[int, ...],
    n_classes: int,
    input_range: tuple[float, float],
    device: str = "cpu",
) -> Ensemble:
    """Returns the ensemble of the members in ``parts`` (one dict of arrays per training job)."""
    entry = architecture_of(architecture)
    parameters = entry.concatenate(parts)
    scores = entry.member_scores(spec, parameters, tuple(input_shape), n_classes, device)
    slopes = _input_gradients(entry, spec, parameters, vote, tuple(input_shape), n_classes, device)
    return Ensemble(
        scores,
        kind=entry.scores,
        vote=vote,
        input_shape=input_shape,
        n_classes=n_classes,
        input_range=input_range,
        block=blocks.label_block(entry, device),
        bulk_block=blocks.bulk_block(entry, tuple(input_shape), device),
        gradients=slopes,
        on_device=_on_device(entry, scores, vote, device, slopes),
    )


def _on_device(
    architecture: Architecture,
    scores: Callable[[np.ndarray], np.ndarray],
    vote: Vote,
    device: str,
    slopes: InputGradients | None,
) -> OnDevice | None:
    """Returns an architecture's members for tensors, or None where all is asked on arrays."""
    on_tensors = getattr(scores, "on_tensors", None)
    if device.partition(":")[0] not in KEPT_ON or on_tensors is None:
        return None
    return OnDevice(
        on_tensors,
        kind=architecture.scores,
        vote=vote,
        device=device,
        block=blocks.label_block(architecture, device),
        gradients=slopes,
    )


def _input_gradients(
    architecture: Architecture,
    spec: Settings,
    parameters: dict[str, np.ndarray],
    vote: Vote,
    input_shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> InputGradients | None:
    """Returns the gradients of an architecture's members, or None where there are none."""
    differentiable = architecture.forward is not None and architecture.has_gradients
    if architecture.scores != "logits" or not differentiable:
        return None
    members = len(next(iter(parameters.values())))
    if vote == "majority" and members > 1:
        return None
    from medrobust.models.engine import stacked

    by_channel = architecture.channels_last and device == "cpu"
    tensors = stacked.tensors(parameters, device, by_channel=by_channel)

    @in_halves(0, recorded=True)
    def logits(x: torch.Tensor) -> torch.Tensor:
        return gradients.joined_logits(architecture.forward(spec, tensors, x), n_classes)

    recorded = None
    if members == 1 and architecture.pull_back is not None:
        recorded = _recorded(architecture, spec, tensors)
    return InputGradients(
        logits,
        input_shape=input_shape,
        device=device,
        block=blocks.gradient_block(architecture, device),
        recorded=recorded,
    )


def _recorded(
    architecture: Architecture, spec: Settings, tensors: dict[str, torch.Tensor]
) -> gradients.Pass:
    """Returns the pass of one member by its architecture's own way back, which costs less.

    Such architectures have a logit for each class; see :mod:`medrobust.models.engine.apart`.
    """
    import torch

    member = {name: values[0] for name, values in tensors.items()}

    def recorded(x: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        with torch.no_grad():
            logits, pattern = architecture.logits_and_pattern(spec, member, x)

        def back(slopes: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return architecture.pull_back(spec, member, pattern, slopes)

        return logits, back

    return recorded
