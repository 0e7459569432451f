"""Probabilities of the classes, kept beside predictions where a study asks for them.

Labels tell how often a model is right; the area under the curve and calibration need how sure it
is. With the key ``keep_probabilities`` of a study, clean predictions and attack records have a
column ``probability_<k>`` for each class k.

Of a soft vote, or of a single member, it is the mean over members of the class's probability
(softmax of logits), whose largest is the label. Of a majority vote it is the share of the members
that vote for the class; members of sign networks vote for several classes or for none, so shares of
theirs need not add up to 1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.models.ensembles import Ensemble

_COLUMN = re.compile(r"probability_\d+")


def class_probabilities(model: Ensemble, x: np.ndarray) -> np.ndarray:
    """Returns the probability of each class at points, or the share of votes for it.

    Args:
        model: an ensemble.
        x: float32 ``[n, *model.input_shape]``, at least one point.

    Returns:
        float64 ``[n, n_classes]`` in [0, 1].

    Raises:
        NotFiniteError: a member's scores are NaN or infinite.
    """
    if model.vote == "majority":
        members = len(model.member_predictions(x[:1]))
        if members > 1:
            return model.votes(x) / members
    return model.mean_probabilities(x)


def probability_columns(n_classes: int) -> list[str]:
    """Returns the names of the columns of so many classes."""
    return [f"probability_{k}" for k in range(n_classes)]


def kept_probabilities(frame: pd.DataFrame) -> list[str]:
    """Returns the columns of probabilities of a table, in the order of the classes; none: []."""
    number = len([name for name in frame.columns if _COLUMN.fullmatch(str(name))])
    return probability_columns(number)


def check_probabilities(frame: pd.DataFrame, *, where: str) -> list[str]:
    """Returns the columns of probabilities of a table; none: [].

    Raises:
        InputError: a class is left out, or a value is no share (null is allowed).
    """
    columns = kept_probabilities(frame)
    lost = [name for name in columns if name not in frame.columns]
    wrong = [
        name
        for name in columns
        if not lost
        and (frame[name].dtype.kind != "f" or not frame[name].dropna().between(0, 1).all())
    ]
    if lost or wrong:
        what = f"there is none of {lost[0]}" if lost else f"{wrong[0]} holds others than shares"
        raise InputError(
            f"The probabilities of classes are not complete: {what}.",
            where=where,
            remedy="run the job that wrote them again.",
        )
    return columns
