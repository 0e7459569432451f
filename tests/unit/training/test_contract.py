"""What holds for every registered training method and each architecture that it trains."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.core.registry import METHODS, parse_spec
from medrobust.models.contract import architecture_of
from medrobust.training import planned_passes, trains_on_gpu
from medrobust.training.contract import method_of
from medrobust.training.engine.work import Trained

from tests import registered

every = pytest.mark.parametrize("name", registered.of_points(METHODS))
pairs = pytest.mark.parametrize(("name", "architecture"), registered.PAIRS)
CLASSES, POINTS = 3, 40


@functools.cache
def two_members(name: str, architecture: str) -> Trained:
    return registered.train(name, architecture, [3, 4], CLASSES, POINTS)


def member(architecture: str, arrays: dict[str, np.ndarray], number: int) -> dict[str, bytes]:
    """Returns the bytes of one member's arrays; a forest's members lie one after the other."""
    if architecture != "forest":
        return {key: value[number].tobytes() for key, value in arrays.items()}
    first, last = arrays["offset"][number : number + 2]
    return {k: v[first:last].tobytes() for k, v in arrays.items() if k != "offset"}


@every
def test_there_is_an_example(name):
    assert name in registered.METHOD_SETTINGS
    assert method_of(name).architectures <= set(registered.ARCHITECTURES)


@every
def test_the_docstring_cites_its_source(name):
    assert registered.cites("method", name)


@pairs
def test_trained_arrays_are_those_of_the_architecture(name, architecture):
    trained, entry = two_members(name, architecture), architecture_of(architecture)
    assert [h["member"] for h in trained.history] == [3, 4]
    if entry.initial_parameters is not None:
        spec, shape = (
            registered.architecture_spec(architecture),
            registered.ARCHITECTURES[architecture][1],
        )
        first = entry.initial_parameters(spec, shape, CLASSES, [14, 15])
        assert {k: (v.shape, v.dtype) for k, v in trained.parameters.items()} == {
            k: (v.shape, v.dtype) for k, v in first.items()
        }
        assert any((trained.parameters[key] != first[key]).any() for key in first)
    scores = entry.member_scores(
        registered.architecture_spec(architecture),
        entry.concatenate([trained.parameters]),
        registered.ARCHITECTURES[architecture][1],
        CLASSES,
        "cpu",
    )(registered.points(registered.ARCHITECTURES[architecture][1], 5, CLASSES)[0])
    assert scores.shape == (2, 5, CLASSES) and np.isfinite(scores).all()


@pairs
def test_margins_are_kept_where_the_method_says_so(name, architecture):
    trained = two_members(name, architecture)
    assert ("margin" in trained.extras) == method_of(name).keeps_margins
    for value in trained.extras.values():
        assert value.dtype == np.float32 and value.shape[:2] == (2, POINTS)


@pairs
def test_a_member_depends_on_its_seed_alone(name, architecture):
    """Not on the members beside it, to the last bit; and another seed gives another member."""
    together = two_members(name, architecture)
    alone = registered.train(name, architecture, [4], CLASSES, POINTS)
    expected = member(architecture, together.parameters, 1)
    assert member(architecture, alone.parameters, 0) == expected
    assert member(architecture, together.parameters, 0) != expected
    assert alone.history == together.history[1:]
    for key, value in alone.extras.items():
        assert value[0].tobytes() == together.extras[key][1].tobytes()


@every
def test_the_plan_knows_its_passes(name):
    values = {"name": name, **registered.METHOD_SETTINGS[name]}
    assert planned_passes(values, CLASSES, POINTS) > 0
    for architecture in method_of(name).architectures:
        both = method_of(name).uses_gpu and architecture_of(architecture).uses_gpu
        assert trains_on_gpu(architecture, name) == both


@every
def test_wrong_settings_are_refused(name):
    values = {"name": name, **registered.METHOD_SETTINGS[name]}
    known = sorted(values)[0]
    for changes, said in (
        ({"not_a_setting": 1}, "unknown key 'not_a_setting'"),
        ({known + "s": values[known]}, f"Did you mean '{known}'"),
        ({next(iter(registered.METHOD_SETTINGS[name])): [None]}, "in the test, key method"),
    ):
        with pytest.raises(InputError) as caught:
            parse_spec("method", values | changes, file="in the test", prefix="method")
        assert said in str(caught.value)
