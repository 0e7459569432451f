"""Generated images: the right shape, repeatable, learnable but not trivial, marked."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.prepared.audit import audit
from medrobust.data.prepared.store import Prepared
from medrobust.data.standins.spots import image_standin

TEN = [f"class {label}" for label in range(10)]
SHAPES = [((1, 28, 28), TEN), ((3, 32, 32), TEN), ((3, 96, 96), ["a", "b"])]


@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_shape_labels_and_splits(shape: tuple[int, ...], classes: list[str]) -> None:
    data = image_standin(120, 45, classes, shape, seed=1, n_val=30)
    assert data.x.shape == (165, *shape) and data.x.dtype == np.uint8 and data.synthetic
    assert [part.tolist() for part in data.folds[0]] == [
        list(range(90)), list(range(90, 120)), list(range(120, 165))
    ]  # fmt: skip
    for part in data.folds[0]:
        count = np.bincount(data.y[part], minlength=len(classes))
        assert count.max() - count.min() <= 1
    assert data.x.min() < 60 and data.x.max() > 190 and len(data.ids) == 165
    codes = {finding.code for finding in audit(data)}
    assert codes <= {"no_duplicates", "near_duplicates_uncertain", "imbalance"}


def test_the_seed_and_the_name_of_a_class_decide() -> None:
    def made(seed: int, classes: list[str]) -> np.ndarray:
        return image_standin(60, 30, classes, (1, 16, 16), seed=seed).x

    first = made(3, ["a", "b"])
    assert np.array_equal(first, made(3, ["a", "b"]))
    assert not np.array_equal(first, made(4, ["a", "b"]))
    assert not np.array_equal(first, made(3, ["a", "c"]))


def balanced_accuracy(data: Prepared) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    train, _, test = data.folds[0]
    # Every fourth row and column are enough to tell soft spots apart.
    x = data.x[..., ::4, ::4].reshape(len(data.y), -1) / 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(max_iter=300).fit(x[train], data.y[train])
    return balanced_accuracy_score(data.y[test], model.predict(x[test]))


@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_learnable_but_not_trivial(shape: tuple[int, ...], classes: list[str]) -> None:
    assert 0.6 < balanced_accuracy(image_standin(1200, 400, classes, shape, seed=3)) < 0.97


def test_impossible_requests() -> None:
    for n_train, n_test, n_val, classes in (
        (100, 4, 0, TEN), (15, 100, 10, TEN), (100, 100, 95, TEN), (100, 100, 5, TEN),
        (9, 100, 0, TEN), (100, 100, 0, ["a"]),
    ):  # fmt: skip
        with pytest.raises(InputError, match="No stand-in"):
            image_standin(n_train, n_test, classes, (1, 8, 8), seed=1, n_val=n_val)
    small = image_standin(20, 10, TEN, (1, 8, 8), seed=1, n_val=10)
    assert all(np.bincount(small.y[part]).tolist() == [1] * 10 for part in small.folds[0])
