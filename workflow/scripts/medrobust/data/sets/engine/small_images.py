"""What the sets of small images (Fashion-MNIST, SVHN) share: options, validation rows, stand-in.

Both releases consist of training and test images. The study ima also needs validation images; the
public code of its authors for SVHN (SarielMa/Adaptive-Margin-Evolution, ``SVHN_Dataset.py``) takes
them from the training images: shuffled by ``numpy.random.RandomState(0)``, the first nine tenths
are for training. For Fashion-MNIST nobody says how; it is done in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.data.prepared.store import Prepared
from medrobust.data.standins.spots import image_standin


class Options(Settings):
    """What the registry may ask of these adapters."""

    train_share: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="share of the release's training rows, rounded down; others are for validation",
    )
    random_state: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="seed of numpy.random.RandomState, which shuffles",
    )
    n_train: int = Field(
        default=1200, ge=10, description="training and validation rows of a stand-in"
    )
    n_test: int = Field(default=400, ge=10, description="test rows of a stand-in")


@dataclass(frozen=True)
class Part:
    """The training or the test images of a release.

    Attributes:
        file: name of the raw file of the images.
        x: uint8 ``[n, channels, height, width]``, any strides.
        y: ``[n]``, whole numbers from 0.
    """

    file: str
    x: np.ndarray
    y: np.ndarray


def standin(options: Options, classes: Sequence[str], shape: Sequence[int], seed: int) -> Prepared:
    """Returns a generated stand-in with the shares of training and validation rows asked for."""
    n_val = options.n_train - math.floor(options.train_share * options.n_train)
    return image_standin(options.n_train, options.n_test, classes, shape, seed=seed, n_val=n_val)


def official_file(files: Mapping[str, Path], name: str, together: Sequence[str]) -> Path:
    """Returns the path of the raw file ``name``.

    Raises:
        InputError: it is not among ``files``; the message names all that are needed (``together``).
    """
    if name not in files:
        raise InputError(
            f"The file {name} is missing.",
            where=f"raw files: {', '.join(sorted(files)) or 'none'}",
            remedy=f"put {', '.join(together)} into the raw folder.",
        )
    return Path(files[name])


def divided(
    train: Part,
    test: Part,
    classes: Sequence[str],
    options: Options,
    *,
    official_rows: tuple[int, int],
    note: str,
) -> Prepared:
    """Returns a release with validation rows taken from its training rows.

    Args:
        train, test: the two parts; rows keep their order, those of ``train`` come first.
        classes: name of each label.
        options: share and seed of the division.
        official_rows: training and test rows of the release.
        note: for the card, on how the images were read.

    Raises:
        InputError: images and labels are not as many, or a label has no class.
    """
    import pandas as pd

    for part in (train, test):
        _check(part, classes)
    sizes = (len(train.y), len(test.y))
    x = np.empty((sum(sizes), *train.x.shape[1:]), np.uint8)
    x[: sizes[0]], x[sizes[0] :] = train.x, test.x
    for_training, for_validation = first_part(sizes[0], options.train_share, options.random_state)
    division = (
        f"Split: of the release's {sizes[0]:,} training rows, shuffled by "
        f"numpy.random.RandomState({options.random_state}), the first {len(for_training):,} are "
        f"for training, the other {len(for_validation):,} for validation; rows are in ascending "
        "order."
    )
    return Prepared(
        x=x,
        y=np.concatenate([train.y, test.y]).astype(np.int64),
        ids=pd.DataFrame(
            {
                "row_id": np.arange(sum(sizes)),
                "file": np.repeat([train.file, test.file], sizes),
                "position": np.concatenate([np.arange(size) for size in sizes]),
            }
        ),
        folds=[(for_training, for_validation, np.arange(sizes[0], sum(sizes)))],
        class_names=tuple(classes),
        input_range=(0.0, 1.0),
        synthetic=False,
        complete=sizes == official_rows,
        notes=(note, division),
        of_patients=False,
    )


def first_part(n_rows: int, share: float, random_state: int) -> tuple[np.ndarray, np.ndarray]:
    """Divides shuffled rows: the first ``share`` of them, rounded down, and the others.

    Args:
        n_rows: number of rows.
        share: in (0, 1].
        random_state: seed of ``numpy.random.RandomState``, whose stream NumPy keeps unchanged.

    Returns:
        Both parts, ascending int64; the second may be empty.
    """
    order = np.random.RandomState(random_state).permutation(n_rows)
    n_first = math.floor(share * n_rows)
    return np.sort(order[:n_first]), np.sort(order[n_first:])


def _check(part: Part, classes: Sequence[str]) -> None:
    if len(part.x) != len(part.y):
        raise InputError(
            f"There are {len(part.x):,} images and {len(part.y):,} labels.",
            where=part.file,
            remedy="get the files again.",
        )
    wrong = np.flatnonzero((part.y < 0) | (part.y >= len(classes)))
    if len(wrong):
        raise InputError(
            f"The label of image {wrong[0]} (from 0) is {part.y[wrong[0]]}; there are "
            f"{len(classes)} classes.",
            where=part.file,
            remedy="get the files again.",
        )
