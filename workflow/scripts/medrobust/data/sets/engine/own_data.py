"""What adapters of a user's own data share: labels, patients, the split, and notes for the card.

The split is drawn from the root seed: whole patients where patients are known, else a share of each
class (:mod:`medrobust.data.prepared.drawn_splits`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medrobust.core.errors import InputError
from medrobust.data.prepared.drawn_splits import patient_fold, shares, sized_fold
from medrobust.data.prepared.splits import Fold

LEAST_PER_CLASS = 3
"""Two for training, which some methods need of each class, and one for testing."""
FEW_PER_CLASS = 30
_DRAWS = 50
_SHOWN = 10


def labels_of(
    cells: Sequence[str], classes: Sequence[str], texts: Sequence[str], *, where: str
) -> np.ndarray:
    """Returns the label of each row, int64, by what stands in its cell.

    Args:
        cells: text of each row.
        classes: name of each label.
        texts: what stands for each label.
        where: the file and column, for messages.

    Raises:
        InputError: a cell is none of ``texts``.
    """
    found, number = np.unique(np.asarray(cells, dtype=str), return_inverse=True)
    known = {text: label for label, text in enumerate(texts)}
    strange = [text for text in found.tolist() if text not in known]
    if strange:
        count = np.bincount(number)
        shown = ", ".join(
            f"{text!r} ({count[place]:,})"
            for place, text in enumerate(found.tolist())
            if text not in known
        )
        raise InputError(
            f"Labels that are none of {', '.join(map(repr, texts))}: {shown[:600]}.",
            where=where,
            remedy="name all classes in `classes` (and in `labels` what stands in the file for "
            "each), or delete these rows.",
        )
    return np.array([known[text] for text in found.tolist()], np.int64)[number]


def check_classes(y: np.ndarray, classes: Sequence[str], what: str, *, where: str) -> list[str]:
    """Returns notes for the card on small classes.

    Args:
        y: labels.
        classes: name of each label.
        what: what is counted, such as "rows".
        where: the file or folder, for messages.

    Raises:
        InputError: a class has fewer than ``LEAST_PER_CLASS``.
    """
    count = np.bincount(y, minlength=len(classes)).tolist()
    counted = ", ".join(f"{name} {n:,}" for name, n in zip(classes, count, strict=True))
    if min(count) < LEAST_PER_CLASS:
        lone = sum(n > 0 for n in count) < 2
        said = "There is only one class here" if lone else "A class is too small"
        raise InputError(
            f"{said} ({what}: {counted}): each class needs at least {LEAST_PER_CLASS} {what}, two "
            "for training and one for testing.",
            where=where,
            remedy="add data of the small class, or take it out of `classes` and out of the data.",
        )
    small = [name for name, n in zip(classes, count, strict=True) if n < FEW_PER_CLASS]
    if not small:
        return []
    return [
        f"Fewer than {FEW_PER_CLASS} {what} of {', '.join(small)}: what is said of so few says "
        "little."
    ]


def own_fold(
    y: np.ndarray, patient: np.ndarray | None, share: float, *, seed: int, name: str, where: str
) -> tuple[Fold, str]:
    """Draws test rows: whole patients where they are known, else of each class a share.

    A draw of patients may leave a class without test rows; up to 50 draws are tried.

    Args:
        y: labels, of each class at least ``LEAST_PER_CLASS``.
        patient: patient of each row, or None.
        share: share of each class for testing (at most, for patients).
        seed: root seed.
        name: of the data set's file, part of the seed.
        where: the file or folder, for messages.

    Returns:
        The fold, without validation rows, and a note for the card.

    Raises:
        InputError: patients cannot be divided.
    """
    if patient is None:
        sizes = shares(y, share)
        count = np.bincount(y)
        sizes = {label: (0, min(test, int(count[label]) - 2)) for label, (_, test) in sizes.items()}
        fold = sized_fold(y, sizes, seed=seed, name=name)
        how = f"{share:.0%} of each class at random for testing (seed {seed})"
        return fold, f"Split: {how}; patients are not known."
    for draw in range(_DRAWS):
        try:
            fold = patient_fold(y, patient, share, seed=seed, name=f"{name}-{draw}")
        except InputError:
            continue
        if np.bincount(y[fold[0]], minlength=int(y.max()) + 1)[np.unique(y)].min() >= 2:
            break
    else:
        of_class = [len(np.unique(patient[y == label])) for label in np.unique(y)]
        raise InputError(
            f"The {len(np.unique(patient)):,} patients cannot be divided so that every class has "
            f"training rows and {share:.0%} at most of its rows for testing (patients per class: "
            f"{', '.join(map(str, of_class))}).",
            where=where,
            remedy="raise `test_share`, add patients of the class that has the fewest, or give no "
            "`patient`, which divides rows at random and says so on the card.",
        )
    how = f"whole patients, drawn at random (seed {seed}) as long as they fit into {share:.0%} of "
    return fold, f"Split: {how}each class, are for testing; all others are for training."


def check_stated(
    dataset: str,
    found: Mapping[str, Mapping[str, int]],
    stated: Mapping[str, Mapping[str, int]],
) -> None:
    """Raises an InputError where an entry states other numbers of rows than there are.

    Args:
        dataset: its name.
        found: split -> class -> number of rows.
        stated: the same, as far as the entry says it (``counts.official``).
    """
    differences = [
        f"{split} {name}: {found.get(split, {}).get(name, 0):,} found, {number:,} stated"
        for split, numbers in stated.items()
        for name, number in numbers.items()
        if name != "all" and found.get(split, {}).get(name, 0) != number
    ]
    if differences:
        raise InputError(
            f"The data of {dataset} are not those that its entry tells of:\n    "
            + "\n    ".join(differences),
            where=f"entry {dataset}, key counts.official",
            remedy="correct the entry (`python -m medrobust describe` writes it anew), or put the "
            "former data back.",
        )
