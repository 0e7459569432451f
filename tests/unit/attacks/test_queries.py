"""Queries: labels in blocks of one shape, counted per run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks.engine.queries import BLOCK, Queries
from medrobust.core.errors import InputError

from tests.attack_models import Linear, Recorder


def rows_of(count: int, d: int = 4) -> np.ndarray:
    return np.random.default_rng(count).uniform(size=(count, d)).astype(np.float32)


@settings(deadline=None)
@given(count=st.integers(0, 3 * BLOCK), batch_size=st.integers(1, 2 * BLOCK), fixed=st.booleans())
def test_labels_are_the_models_and_every_row_is_asked_once(count, batch_size, fixed):
    model, rows = Linear(4), rows_of(count)
    model.fixed_shape = fixed
    recorder = Recorder(model)
    runs = np.arange(count) % 3
    queries = Queries(recorder, 5, batch_size)
    assert (queries.labels(rows, runs) == model.predict(rows)).all()
    assert (queries.counts == np.bincount(runs, minlength=5)).all()
    asked = np.concatenate([np.empty((0, 4), np.float32), *recorder.batches])
    assert asked[:count].tobytes() == rows.tobytes()
    if fixed:
        assert len(asked) == count
        assert all(len(batch) <= batch_size for batch in recorder.batches)
    else:
        assert all(len(batch) == BLOCK for batch in recorder.batches)
        assert len(asked) - count < BLOCK
        assert (asked[count:] == rows[-1:]).all()


def test_rows_reach_the_model_in_its_own_shape():
    class Image:
        n_classes, input_shape = 2, (2, 1, 3)

        def predict(self, x):
            assert x.shape[1:] == (2, 1, 3)
            return (x[:, 1, 0, 2] > 0.5).astype(np.int64)

    rows = rows_of(10, 6)
    labels = Queries(Image(), 1, 8).labels(rows, np.zeros(10, dtype=int))
    assert (labels == (rows[:, 5] > 0.5)).all()


@pytest.mark.parametrize("targeted", [False, True])
def test_what_is_adversarial(targeted):
    class Thirds:
        n_classes, input_shape = 3, (1,)

        def predict(self, x):
            return (3 * x[:, 0]).astype(np.int64)

    queries = Queries(Thirds(), 2, 8)
    queries.goal, queries.targeted = np.array([0, 2]), targeted
    rows = np.array([[0.1], [0.5], [0.9], [0.1], [0.5], [0.9]], dtype=np.float32)
    reached = queries.adversarial(rows, np.array([0, 0, 0, 1, 1, 1]))
    same = [True, False, False, False, False, True]
    assert reached.tolist() == (same if targeted else [not value for value in same])
    assert queries.counts.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda labels: labels[:, None], r"labels of shape \(64, 1\) for 64 rows"),
        (lambda labels: labels + 0.5, "of type float64"),
        (lambda labels: labels - 1, "from -1 to 0, outside the 2 classes 0 to 1"),
        (lambda labels: labels + 1, "from 1 to 2, outside the 2 classes"),
    ],
)
def test_answers_that_are_no_classes_are_refused(broken, told):
    class Broken(Linear):
        def predict(self, x):
            return broken(super().predict(x))

    rows = rows_of(64)
    assert set(Linear(4).predict(rows)) == {0, 1}
    with pytest.raises(InputError, match=told):
        Queries(Broken(4), 1, 8).labels(rows, np.zeros(64, dtype=int))
