"""Attacks and records refuse what is no answer: labels that are no class, scores that are NaN."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.attacks import pgd, run_attack, spsa, uniform_noise
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core.errors import InputError, NotFiniteError
from medrobust.evaluation.records import records_from_result

from tests.gradient_models import LinearLogits, seeds_for

D = 6
BOX = {"clip_min": 0.0, "clip_max": 1.0}
SPECS = {
    "hopskipjump": HopSkipJumpSpec(restarts=1, max_iter=2, max_eval=20, init_eval=10, **BOX),
    "hopskipjump, art": HopSkipJumpSpec(
        restarts=1, max_iter=2, max_eval=20, init_eval=10, engine="art", **BOX
    ),
    "pgd": pgd.Spec(epsilon=0.3, num_steps=3, **BOX),
    "pgd, l2": pgd.Spec(epsilon=0.3, num_steps=3, norm="l2", **BOX),
    "spsa": spsa.Spec(epsilon=0.3, num_steps=2, directions=8, **BOX),
    "uniform_noise": uniform_noise.Spec(epsilon=0.3, restarts=2, **BOX),
}
X = np.random.default_rng(3).random((5, D)).astype(np.float32)


def attack(name, model, y):
    if name.endswith("art"):
        pytest.importorskip("art")
    spec = SPECS[name]
    return spec, run_attack(name.split(",")[0], model, X, y, spec, seeds_for(len(X), spec.restarts))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda labels: np.full(len(labels), 7), "labels from 7 to 7, outside the 2 classes"),
        (lambda labels: np.full(len(labels), np.nan), "labels of type float64"),
        (lambda labels: labels - 1, "outside the 2 classes"),
    ],
)
def test_labels_that_are_no_class_are_no_success(name, broken, told):
    class Broken(LinearLogits):
        def predict(self, x):
            return broken(super().predict(x))

    y = LinearLogits(D).predict(X)
    with pytest.raises(InputError, match=told):
        attack(name, Broken(D), y)


@pytest.mark.parametrize("name", ["pgd", "pgd, l2", "spsa"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(name, bad):
    class Broken(LinearLogits):
        def logits(self, x):
            return super().logits(x) + np.float32(bad)

        def loss_gradients(self, x, y, loss):
            logits, slopes = super().loss_gradients(x, y, loss)
            return logits + np.float32(bad), slopes

    model = Broken(D)
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        attack(name, model, LinearLogits(D).predict(X))


def test_places_of_pgd_that_hold_no_run_are_not_asked_about():
    class Ratio(LinearLogits):
        """Its scores are NaN where all values are 0, as in places without a run."""

        def scores(self, x):
            with np.errstate(invalid="ignore"):
                return super().scores(x) * (x.sum(axis=1) / x.sum(axis=1))[:, None]

    model = Ratio(D, block=8)
    _, result = attack("pgd", model, model.predict(X))
    assert np.isfinite(result.x_adv).all()


@pytest.mark.parametrize("when", ["clean", "attacked"])
def test_records_refuse_them_too(when):
    class Later(LinearLogits):
        calls = 0

        def predict(self, x):
            self.calls += 1
            broken = self.calls > (when == "attacked")
            return super().predict(x) + 5 * broken

    y = LinearLogits(D).predict(X)
    spec, result = attack("pgd", LinearLogits(D), y)
    with pytest.raises(InputError, match="outside the 2 classes"):
        records_from_result(Later(D), X, y, np.arange(5), result, spec, (0, 1))
