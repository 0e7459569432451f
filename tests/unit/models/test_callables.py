"""A user's own model as attacks want it: blocks, answers, gradients, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.models.callables import own_model

D, CLASSES, BLOCK = 5, 3, 8
RANDOM = np.random.default_rng(0)
W, B = RANDOM.normal(size=(CLASSES, D)), RANDOM.normal(size=CLASSES)
X = RANDOM.uniform(size=(30, D)).astype(np.float32)


def scores_of(x: np.ndarray) -> np.ndarray:
    """Scores of a linear model, one row after the other in float64."""
    return (np.asarray(x, dtype=np.float64)[:, None] * W).sum(axis=-1) + B


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def adapted(model, sample=X, block=BLOCK, **options):
    return own_model(model, sample, block=block, **options)


def linear_module(scale: float = 1.0):
    import torch

    module = torch.nn.Linear(D, CLASSES)
    with torch.no_grad():
        module.weight[:] = torch.from_numpy(scale * W)
        module.bias[:] = torch.from_numpy(scale * B)
    return module


# --- callables --------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 40), block=st.integers(1, 20), labels=st.booleans())
def test_a_callable_is_asked_in_whole_blocks_and_its_answers_are_kept(n, block, labels):
    asked = []

    def model(rows):
        asked.append(rows.copy())
        assert rows.dtype == np.float32 and rows.shape == (block, D)
        scores = scores_of(rows)
        rows[:] = np.nan  # the copy is the model's own
        return scores.argmax(axis=1) if labels else scores

    x = np.random.default_rng(n).uniform(size=(n, D)).astype(np.float32)
    before = x.copy()
    with adapted(model, block=block) as found:
        asked.clear()
        np.testing.assert_array_equal(found.predict(x), scores_of(x).argmax(axis=1))
        rows = np.concatenate(asked)
        assert len(asked) == -(-n // block) and (rows[:n] == x).all() and (rows[n:] == x[-1]).all()
        assert found.has_logits != labels and not found.has_gradients
        if not labels:
            assert found.n_classes == CLASSES and found.logits(x).dtype == np.float32
            np.testing.assert_allclose(found.logits(x), scores_of(x), rtol=1e-6)
    assert x.tobytes() == before.tobytes()


def test_of_equal_scores_the_first_wins_and_shapes_are_the_users():
    sample = RANDOM.uniform(size=(12, 2, 3)).astype(np.float32)

    def model(rows):
        assert rows.shape[1:] == (2, 3)
        high = rows[:, 1, 2] > 0.5
        return np.stack([np.zeros(len(rows)), 1.0 * high, 1.0 * high], axis=1)

    with adapted(model, sample) as found:
        assert found.input_shape == (2, 3)
        assert (found.predict(sample) == (sample[:, 1, 2] > 0.5)).all()


def test_probabilities_become_logarithms_where_logits_are_asked_for():
    with adapted(lambda rows: softmax(scores_of(rows))) as found:
        assert found.probabilities
        np.testing.assert_allclose(found.logits(X), np.log(softmax(scores_of(X))), rtol=1e-5)
        np.testing.assert_allclose(found.scores(X), softmax(scores_of(X)), rtol=1e-5)
    sure = [[1.0, 0.0], [0.0, 1.0]]
    with adapted(lambda rows: np.array(sure)[(rows[:, 0] > 0.5).astype(int)]) as found:
        assert np.isfinite(found.logits(X)).all() and found.logits(X).min() < -87
    for scores in (scores_of, lambda rows: softmax(scores_of(rows)) * 0.5):
        with adapted(scores) as found:
            assert not found.probabilities


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda x: np.where(x[:, :1] > 0.9, np.nan, scores_of(x)), "NaN or infinite"),
        (lambda x: 1e39 * scores_of(x), "NaN or infinite"),
        (lambda x: scores_of(x)[:-1], r"shape \(7, 3\) for 8 rows"),
        (lambda x: scores_of(x)[:, :1], r"shape \(8, 1\).*two scores \[-s, s\]"),
        (lambda x: scores_of(x)[:, 0], r"labels of type float64.*two scores \[-s, s\]"),
        (lambda x: scores_of(x).astype(str), "scores of type <U"),
        (lambda x: scores_of(x).argmax(axis=1)[:-1], r"labels of shape \(7,\) for 8 rows"),
        (lambda x: scores_of(x).argmax(axis=1) - 1, "from -1 to ., outside the numbers from 0"),
        (lambda x: 1, r"labels of shape \(\) for 8 rows"),
        (lambda x: np.ones((len(x), 3)), "same scores for 30 different points"),
        (lambda x: scores_of(x) - scores_of(x).mean(axis=0), "depends on the other rows"),
        (lambda x: (x[:, 0] > x[:, 0].mean()).astype(int), "depends on the other rows"),
        (lambda x: scores_of(x) + np.random.normal(size=(len(x), 3)), "asked about the same"),
        (lambda x: np.random.randint(0, 2, len(x)), "asked about the same points again"),
        ("model.pt", "A str is no model"),
    ],
)
def test_answers_that_no_attack_can_use_are_refused(model, told):
    x = np.concatenate([X, X[:2]])[:30]
    with pytest.raises(InputError, match=f"(?s){told}"), adapted(model, x):
        pass


def test_the_number_of_classes_is_held():
    def labels(rows):
        return scores_of(rows).argmax(axis=1) + 1

    with pytest.raises(InputError, match="outside the 2 classes 0 to 1"):  # noqa: SIM117
        with adapted(labels, n_classes=2):
            pass
    with pytest.raises(InputError, match=r"expected \(8, 4\)"), adapted(scores_of, n_classes=4):
        pass
    with adapted(labels, n_classes=4) as found:
        assert found.n_classes == 4


def test_an_answer_that_breaks_later_is_refused_too():
    def model(rows):
        scores = scores_of(rows)
        scores[rows[:, 0] > 2] = np.inf
        return scores

    with adapted(model) as found, pytest.raises(InputError, match="for 1 of 8 rows"):
        found.predict(np.array([X[0], X[0] + 3, X[0]]))


def test_an_error_of_the_model_tells_what_it_was_handed():
    def model(rows):
        raise KeyError("weights")

    with pytest.raises(KeyError) as caught, adapted(model):
        pass
    assert "float32 of shape (8, 5)" in caught.value.__notes__[0]


# --- torch modules ----------------------------------------------------------------------


def test_a_module_gives_labels_logits_and_the_gradients_of_its_losses():
    module = linear_module()
    x, y = X[:11], scores_of(X[:11]).argmax(axis=1)
    y[::3] = (y[::3] + 1) % CLASSES
    with adapted(module) as found:
        assert found.has_logits and found.has_gradients and found.n_classes == CLASSES
        np.testing.assert_array_equal(found.predict(x), scores_of(x).argmax(axis=1))
        for loss in ("cross_entropy", "margin"):
            logits, gradients = found.loss_gradients(x, y, loss)
            np.testing.assert_allclose(logits, scores_of(x), rtol=1e-4, atol=1e-5)
            own = np.arange(CLASSES) == y[:, None]
            slopes = softmax(scores_of(x)) - own
            if loss == "margin":
                rival = np.where(own, -np.inf, scores_of(x)).argmax(axis=1)
                slopes = (np.arange(CLASSES) == rival[:, None]) - own.astype(float)
            np.testing.assert_allclose(gradients, slopes @ W, rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_module_that_ends_in_softmax_has_the_gradients_of_its_logits():
    import torch

    plain, wrapped = (
        linear_module(30.0),
        torch.nn.Sequential(linear_module(30.0), torch.nn.Softmax(1)),
    )
    y = scores_of(X).argmax(axis=1)
    assert softmax(30 * scores_of(X)).max() > 1 - 1e-6  # sure of itself: a softmax on top is flat
    with adapted(plain) as one, adapted(wrapped) as other:
        assert other.probabilities and not one.probabilities
        for loss in ("cross_entropy", "margin"):
            expected, found = (model.loss_gradients(X, y, loss)[1] for model in (one, other))
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6 * abs(expected).max())
        np.testing.assert_array_equal(one.predict(X), other.predict(X))


def test_a_module_is_in_evaluation_mode_and_gets_its_own_modes_back():
    import torch

    module = torch.nn.Sequential(
        torch.nn.BatchNorm1d(D),
        torch.nn.Dropout(0.5),
        linear_module(),
        torch.nn.BatchNorm1d(CLASSES),
    )
    module.train()
    module[3].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ZeroDivisionError), adapted(module) as found:
        assert not any(part.training for part in module.modules())
        found.loss_gradients(X, np.zeros(len(X), dtype=np.int64), "margin")
        raise ZeroDivisionError
    assert [part.training for part in module] == [True, True, True, False] and module.training
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_module_in_double_precision_gets_rows_in_its_own_type():
    with adapted(linear_module().double()) as found:
        np.testing.assert_allclose(found.logits(X), scores_of(X), rtol=1e-5, atol=1e-6)
        assert (
            found.loss_gradients(X, np.zeros(30, dtype=np.int64), "margin")[1].dtype == np.float32
        )


def module_of(forward):
    """Returns a module with a parameter, whose forward is a function of (linear layer, rows)."""
    import torch

    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear_module()

        def forward(self, rows):
            return forward(self.linear, rows)

    return Own()


def test_a_module_that_cuts_the_way_back_has_no_gradients():
    for forward in (
        lambda linear, rows: linear(rows.detach()),
        lambda linear, rows: linear(rows).detach(),
    ):
        with adapted(module_of(forward)) as found:
            assert found.has_logits and not found.has_gradients


def test_gradients_that_are_not_finite_are_refused_but_not_those_of_empty_places():
    # The root's slope at 0 is infinite, times 0 NaN.
    steep = module_of(lambda linear, rows: linear(((rows - 0.5).abs() * (rows != 0)).sqrt()))
    x, y = X[:3].copy(), np.zeros(3, dtype=np.int64)
    x[1] = 0.0
    with adapted(steep) as found:
        assert np.isnan(found._passes.loss_gradients(x, y, "margin")[1][1]).any()
        found.loss_gradients(x, y, "margin")
        x[1, 0] = 0.5
        with pytest.raises(InputError, match=r"(?s)gradients of 1 of 3 rows are NaN.*spsa"):
            found.loss_gradients(x, y, "margin")


@pytest.mark.parametrize(
    ("forward", "told"),
    [
        (lambda linear, rows: (linear(rows), rows), "returns a tuple"),
        (lambda linear, rows: linear(rows)[:, 0], r"shape \(8,\) for 8 rows"),
        (lambda linear, rows: linear(rows)[:, :1], r"shape \(8, 1\) for 8 rows.*two scores"),
        (lambda linear, rows: linear(rows) - linear(rows).mean(0), "depends on the other rows"),
    ],
)
def test_modules_that_return_something_else_are_refused(forward, told):
    with pytest.raises(InputError, match=f"(?s){told}"), adapted(module_of(forward)):
        pass


# --- scikit-learn -----------------------------------------------------------------------


class Fitted:
    """Looks like a fitted classifier; its labels are not those of its largest probability."""

    n_features_in_ = D

    def __init__(self, classes) -> None:
        self.classes_ = np.array(classes)

    def get_params(self):
        return {}

    def predict(self, x):
        assert x.ndim == 2
        return self.classes_[scores_of(x).argmin(axis=1)]

    def predict_proba(self, x):
        return softmax(scores_of(x))


def test_a_classifiers_own_labels_are_mapped_and_predict_decides():
    names = np.array(["V", "N", "S"])  # not sorted
    model = Fitted(names)
    with adapted(model) as found:
        assert found.n_classes == 3 and found.classes == ("V", "N", "S")
        np.testing.assert_array_equal(found.labels_of(names[[2, 0, 1, 1]]), [2, 0, 1, 1])
        np.testing.assert_array_equal(found.predict(X), scores_of(X).argmin(axis=1))
        np.testing.assert_allclose(found.logits(X), np.log(softmax(scores_of(X))), rtol=1e-5)
        with pytest.raises(InputError, match=r"1 labels are none.*'Q'"):
            found.labels_of(np.array(["N", "Q"]))
    with adapted(Fitted([0, 1, 2])) as found:
        assert found.classes is None


def test_a_classifier_without_probabilities_gives_labels_alone():
    from sklearn.svm import LinearSVC

    y = 10 + scores_of(X).argmax(axis=1)
    svm = LinearSVC().fit(X, y)
    with adapted(svm) as found:
        assert not found.has_logits and found.classes == tuple(np.unique(y).tolist())
        np.testing.assert_array_equal(found.classes, np.unique(y))
        np.testing.assert_array_equal(np.array(found.classes)[found.predict(X)], svm.predict(X))


def test_classifiers_that_cannot_be_asked_are_refused():
    from sklearn.linear_model import LinearRegression, LogisticRegression

    for model in (LogisticRegression(), LinearRegression().fit(X, X[:, 0])):
        with pytest.raises(InputError, match="not a fitted classifier"), adapted(model):
            pass
    wide, two = Fitted([0, 1, 2]), Fitted([[0, 1], [0, 1]])
    wide.n_features_in_ = 7
    for model, told in (
        (wide, "takes 7 values"),
        (two, "no single list"),
        (Fitted([0]), "no sing"),
    ):
        with pytest.raises(InputError, match=told), adapted(model):
            pass
    with (
        pytest.raises(InputError, match="3 classes, but 2"),
        adapted(Fitted([0, 1, 2]), n_classes=2),
    ):
        pass
