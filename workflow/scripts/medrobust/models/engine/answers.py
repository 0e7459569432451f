"""What a model may answer: classes, or finite scores of all classes; anything else is refused.

A score that is NaN would be an arbitrary label, and a label that is no class a success of every
attack.
"""

from __future__ import annotations

import numpy as np

from medrobust.core.errors import InputError, NotFiniteError


def checked_labels(labels: object, rows: int, n_classes: int | None) -> np.ndarray:
    """Returns labels as int64 ``[rows]``.

    Args:
        labels: what a model answered; ``[rows]``, integer or bool.
        rows: number of points that it was asked about.
        n_classes: number of classes; None: not known, any integer from 0 on is one.

    Raises:
        InputError: they have another shape or type, or are outside the classes.
    """
    found = np.asarray(labels)
    if found.shape != (rows,):
        raise InputError(
            f"The model gave labels of shape {found.shape} for {rows} rows.",
            remedy="let it return one label for each row it is given.",
        )
    if found.dtype != np.bool_ and not np.issubdtype(found.dtype, np.integer):
        raise InputError(
            f"The model gave labels of type {found.dtype}.",
            remedy="let it return integers (`.astype(int)`), or scores of all classes, "
            "[rows, classes]; a single score s of class 1 is the two scores [-s, s].",
        )
    if found.size and (found.min() < 0 or (n_classes is not None and found.max() >= n_classes)):
        classes = "numbers from 0 on"
        if n_classes is not None:
            classes = f"{n_classes} classes 0 to {n_classes - 1}"
        raise InputError(
            f"The model gave labels from {found.min()} to {found.max()}, outside the {classes}."
        )
    return found.astype(np.int64)


def checked_scores(scores: object, rows: int, n_classes: int | None) -> np.ndarray:
    """Returns scores as float32 ``[rows, classes]``.

    Args:
        scores: what a model answered; ``[rows, classes]``, real numbers.
        rows: number of points that it was asked about.
        n_classes: number of classes; None: any from 2 on.

    Raises:
        InputError: they have another shape or type.
        NotFiniteError: they are NaN or infinite (as float32).
    """
    found = np.asarray(scores)
    wide = found.ndim == 2 and found.shape[1] == (n_classes or max(found.shape[1], 2))
    if not wide or len(found) != rows:
        expected = n_classes or "classes"
        raise InputError(
            f"The model gave scores of shape {found.shape} for {rows} rows; expected "
            f"({rows}, {expected}).",
            remedy="let it return one score for each class and each row it is given; a single "
            "score s of class 1 is the two scores [-s, s].",
        )
    if found.dtype.kind not in "fiu":
        raise InputError(
            f"The model gave scores of type {found.dtype}.", remedy="let it return real numbers."
        )
    with np.errstate(over="ignore"):
        found = found.astype(np.float32)
    if not (finite := np.isfinite(found).all(axis=1)).all():
        raise NotFiniteError(
            f"The model gave scores that are NaN or infinite, for {int((~finite).sum())} of {rows} "
            "rows.",
            remedy="ask it about finite points alone and see where the scores come from; attacks "
            "ask about any point of the clip box.",
        )
    return found


def check_member_scores(scores: np.ndarray, rows: int, n_classes: int) -> None:
    """Checks scores of the members of an ensemble.

    Args:
        scores: ``[members, rows, classes]``.
        rows: number of points that the members were asked about.
        n_classes: number of classes.

    Raises:
        InputError: they have another shape, so that there are more or fewer classes.
        NotFiniteError: they are NaN or infinite. One such member would decide a soft vote, and a
            majority vote would count its first class.
    """
    if scores.ndim != 3 or scores.shape[1:] != (rows, n_classes):
        raise InputError(
            f"The members gave scores of shape {scores.shape} for {rows} rows; expected "
            f"(members, {rows}, {n_classes})."
        )
    if not np.isfinite(scores).all():
        broken = np.flatnonzero(~np.isfinite(scores).all(axis=(1, 2)))
        raise NotFiniteError(
            f"{len(broken)} of {len(scores)} members gave scores that are NaN or infinite (the "
            f"first: member {broken[0]}).",
            remedy="train the model again with a smaller learning rate; a training that ends so "
            "counts as failed.",
            members=broken.tolist(),
        )
