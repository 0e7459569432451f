"""A training that diverges is known as failed, whatever the method."""

from __future__ import annotations

import math

import pytest
from medrobust.models.failures import failures_of
from medrobust.training.contract import method_of
from medrobust.training.engine.work import Work

from tests import registered

#: Networks that bound nothing themselves come first: batch normalisation keeps the values of any
#: finite weights finite, so in `resnet50` the weights themselves must pass the largest float.
PLAIN = ("mlp", "relu_mlp", "instance_norm_cnn", "resnet50")
#: Hidden units of `mlp` stay within [0, 1]: only the last layer can overflow.
RATES = {"mlp": 3e37, "relu_mlp": 1e30, "instance_norm_cnn": 1e30, "resnet50": 3e37}
#: Each method that descends by gradients, with such a network.
DESCENTS = [
    (name, next(one for one in PLAIN if one in method_of(name).architectures))
    for name in registered.METHOD_SETTINGS
    if "learning_rate" in method_of(name).spec.model_fields
]


@pytest.mark.parametrize(("name", "architecture"), DESCENTS)
def test_a_huge_learning_rate_ends_as_a_failure(name, architecture):
    x, y = registered.points(registered.ARCHITECTURES[architecture][1], 40, 3)
    work = Work(x, y, 3, [4, 5], [15, 16], input_range=(0.0, 1.0))
    spec = registered.method_spec(name, learning_rate=RATES[architecture], max_epochs=4)
    trained = method_of(name).train(
        spec, architecture, registered.architecture_spec(architecture), work
    )
    found = failures_of(work.members, trained.parameters, trained.history)
    assert set(found) == {4, 5}
    assert all("not finite" in happened and "epoch" in happened for happened in found.values())
    for entry in trained.history:
        assert all(not isinstance(v, float) or math.isfinite(v) for v in entry.values()), (
            "the card is JSON, which has no NaN"
        )
