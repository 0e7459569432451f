"""Where runs within a ball go: away from a point's label, or towards a target.

An untargeted run raises a loss of the label and is over when the label is another one. A targeted
run lowers the same loss of its target and is over when the label is the target. Targets that need
no setting for each point are the class after the label and the least likely one (Kurakin,
Goodfellow and Bengio 2017, "Adversarial Machine Learning at Scale"). With two classes
there is one other class: the margin of the target is minus that of the label, and the slopes of the
cross-entropies have one direction, so both kinds of runs take the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from medrobust.attacks.engine.ball import ScoreModel
from medrobust.models.engine.answers import checked_scores

if TYPE_CHECKING:
    from torch import Tensor

Target = Literal["next", "least_likely"]


@dataclass(frozen=True)
class Aims:
    """A class for each point, and whether runs go towards it or away from it.

    Attributes:
        classes: int64 ``[n]``: labels, or targets.
        towards: whether they are targets.
    """

    classes: np.ndarray
    towards: bool = False


def reached(
    labels: np.ndarray | Tensor, classes: np.ndarray | Tensor, *, towards: bool
) -> np.ndarray | Tensor:
    """Returns which runs are where they go, bool ``[k]``.

    Args:
        labels: int64 ``[k]``, what the model calls their rows.
        classes: int64 ``[k]``, see :class:`Aims`.
        towards: whether these are targets.
    """
    return labels == classes if towards else labels != classes


def aims_of(model: ScoreModel, x: np.ndarray, y: np.ndarray, target: Target | None) -> Aims:
    """Returns where the runs of points go.

    Args:
        model: asked for the logits of the points where the target is the least likely class.
        x: float32 ``[n, *shape]``.
        y: int64 ``[n]``, labels.
        target: None: away from the label; "next": to the class after it, the first one after the
            last; "least_likely": to the class with the least logit of all others, the lowest number
            of equals.

    Raises:
        InputError: a logit that is needed is NaN or infinite.
    """
    if target is None:
        return Aims(y)
    if target == "next":
        return Aims((y + 1) % model.n_classes, towards=True)
    logits = _logits(model, x).astype(np.float64)
    np.put_along_axis(logits, y[:, None], np.inf, axis=1)
    return Aims(logits.argmin(axis=1).astype(np.int64), towards=True)


def _logits(model: ScoreModel, x: np.ndarray) -> np.ndarray:
    """Returns the logits of points, asked for in blocks of one size; padding is 0."""
    size, found = model.gradient_block, np.empty((len(x), model.n_classes), dtype=np.float32)
    for first in range(0, len(x), size):
        part = x[first : first + size]
        rows = np.zeros((size, *x.shape[1:]), dtype=np.float32)
        rows[: len(part)] = part
        answer = model.logits(rows)[: len(part)]
        found[first : first + len(part)] = checked_scores(answer, len(part), model.n_classes)
    return found
