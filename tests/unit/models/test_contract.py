"""What holds for every registered architecture: shapes, bytes, rows on their own, bad input."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.core.registry import ARCHITECTURES
from medrobust.evaluation.residuals import POOLINGS
from medrobust.models import blocks
from medrobust.models.contract import architecture_of
from medrobust.models.ensembles import build_ensemble

from tests import registered

every = pytest.mark.parametrize("name", registered.of_points(ARCHITECTURES))
CLASSES = 3
#: Methods that give parameters where an architecture draws no first values itself.
TRAINED_BY = {"forest": "bagged_trees", "sign_network": "scd"}


@functools.cache
def parameters_of(name: str) -> dict[str, np.ndarray]:
    """Returns three members, each from its own seed."""
    entry, shape = architecture_of(name), registered.ARCHITECTURES[name][1]
    if entry.initial_parameters is None:
        return registered.train(TRAINED_BY[name], name, [0, 1, 2]).parameters
    spec = registered.architecture_spec(name)
    return entry.initial_parameters(spec, shape, CLASSES, [11, 12, 13])


def ensemble(name: str, *parts: dict[str, np.ndarray], vote="soft"):
    return build_ensemble(
        name, registered.architecture_spec(name), list(parts) or [parameters_of(name)],
        vote=vote, input_shape=registered.ARCHITECTURES[name][1], n_classes=CLASSES,
        input_range=(0.0, 1.0),
    )  # fmt: skip


def block_of(name: str) -> np.ndarray:
    """Returns points that fill one block."""
    rows = blocks.label_block(architecture_of(name), "cpu")
    return registered.points(registered.ARCHITECTURES[name][1], rows, CLASSES)[0]


@every
def test_there_is_an_example(name):
    assert name in registered.ARCHITECTURES


@every
def test_the_docstring_cites_its_source(name):
    assert registered.cites("architecture", name)


@every
def test_first_values_are_float32_and_of_each_members_own_seed(name):
    entry, shape = architecture_of(name), registered.ARCHITECTURES[name][1]
    if entry.initial_parameters is None:
        assert name in TRAINED_BY
        return
    spec, together = registered.architecture_spec(name), parameters_of(name)
    alone = entry.initial_parameters(spec, shape, CLASSES, [12])
    assert set(alone) == set(together) and entry.untrained <= set(together)
    for key, value in together.items():
        assert value.dtype == np.float32 and len(value) == 3
        assert value[1:2].tobytes() == alone[key].tobytes()
    assert any((value[0] != value[1]).any() for value in together.values())


@every
def test_scores_have_their_shape_and_kind(name):
    entry, x = architecture_of(name), block_of(name)
    scores = ensemble(name).member_scores(x)
    assert scores.shape == (3, len(x), CLASSES) and scores.dtype == np.float32
    assert np.isfinite(scores).all()
    if entry.scores == "probabilities":
        np.testing.assert_allclose(scores.sum(axis=2), 1, atol=1e-6)
        assert scores.min() >= 0
    if entry.scores == "votes":
        assert set(np.unique(scores)) <= {0.0, 1.0}
    labels = ensemble(name).predict(x)
    assert labels.dtype == np.int64 and set(labels) <= set(range(CLASSES))


@every
def test_scores_do_not_see_other_rows(name):
    """Bytes of a row stay whatever stands beside it, in a whole block or in what is left of one."""
    x, model = block_of(name), ensemble(name)
    scores = model.member_scores(x)
    assert model.member_scores(x).tobytes() == scores.tobytes()
    others = np.random.default_rng(1).random(x.shape, dtype=np.float32)
    for row in (0, len(x) // 2, len(x) - 1):
        mixed = others.copy()
        mixed[row] = x[row]
        assert model.member_scores(mixed)[:, row].tobytes() == scores[:, row].tobytes()
        assert model.member_scores(x[: row + 1])[:, row].tobytes() == scores[:, row].tobytes()


@every
def test_members_do_not_see_each_other(name):
    """Joined members score as each does, and where they are computed apart in every bit."""
    entry, x, parts = architecture_of(name), block_of(name), []
    if entry.initial_parameters is None:
        parts = [registered.train(TRAINED_BY[name], name, [m]).parameters for m in (0, 1, 2)]
    else:
        parts = [{k: v[m : m + 1] for k, v in parameters_of(name).items()} for m in range(3)]
    together = ensemble(name, *parts).member_scores(x)
    alone = np.concatenate([ensemble(name, part).member_scores(x) for part in parts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.tobytes() == ensemble(name).member_scores(x).tobytes()
    if entry.members_apart:
        assert together.tobytes() == alone.tobytes()


def follows_points(name: str) -> bool:
    """Tells whether automatic differentiation gets from ``forward`` back to the points."""
    import torch

    entry, x = architecture_of(name), block_of(name)
    tensors = {key: torch.from_numpy(value) for key, value in parameters_of(name).items()}
    leaf = torch.from_numpy(x.reshape(len(x), -1)).requires_grad_()
    outputs = entry.forward(registered.architecture_spec(name), tensors, leaf)
    return outputs.requires_grad


@every
def test_gradients_do_not_see_other_rows(name):
    entry, model = architecture_of(name), ensemble(name)
    differentiable = entry.scores == "logits" and entry.forward is not None and entry.has_gradients
    assert model.has_gradients == differentiable
    if not differentiable:
        with pytest.raises(InputError, match="no gradients"):
            model.logits(block_of(name))
        if entry.forward is not None:
            assert not follows_points(name)
        return
    rows = blocks.gradient_block(entry, "cpu")
    assert model.gradient_block == rows
    x, y = registered.points(registered.ARCHITECTURES[name][1], rows, CLASSES)
    logits, slopes = model.loss_gradients(x, y, "margin")
    assert logits.shape == (rows, CLASSES) and slopes.shape == x.shape
    assert logits.dtype == slopes.dtype == np.float32 and np.abs(slopes).max() > 0
    for row in (0, rows - 1):
        mixed = np.random.default_rng(1).random(x.shape, dtype=np.float32)
        mixed[row] = x[row]
        found = model.loss_gradients(mixed, y, "margin")
        assert found[0][row].tobytes() == logits[row].tobytes()
        assert found[1][row].tobytes() == slopes[row].tobytes()


@every
def test_functions_of_one_member_agree_with_those_of_all(name):
    import torch

    entry = architecture_of(name)
    if entry.logits is None:
        return
    spec, x = registered.architecture_spec(name), block_of(name)
    rows = torch.from_numpy(x.reshape(len(x), -1))
    tensors = {key: torch.from_numpy(value) for key, value in parameters_of(name).items()}
    member = {key: value[1] for key, value in tensors.items()}
    expected = entry.forward(spec, tensors, rows)[1]
    torch.testing.assert_close(entry.logits(spec, member, rows), expected)
    if entry.training_logits is not None:
        moving = {name: member[name].clone() for name in entry.untrained}
        trained = {name: value for name, value in member.items() if name not in entry.untrained}
        found = entry.training_logits(spec, trained, moving, rows)
        changed = {name: value.clone() for name, value in tensors.items()}
        own = entry.training_forward(spec, changed, rows.expand(3, *rows.shape))[1]
        torch.testing.assert_close(found, own)
        for name, value in moving.items():
            assert not value.equal(member[name])
            torch.testing.assert_close(value, changed[name][1])
    logits, pattern = entry.logits_and_pattern(spec, member, rows.clone())
    torch.testing.assert_close(logits, expected)
    slopes = entry.pull_back(spec, member, pattern, torch.ones_like(logits))
    leaf = rows.clone().requires_grad_()
    entry.forward(spec, tensors, leaf)[1].sum().backward()
    torch.testing.assert_close(slopes.detach(), leaf.grad, rtol=1e-3, atol=1e-5)
    if entry.normalised_kernels is not None:
        assert {f"w{layer}" for layer in entry.normalised_kernels(spec)} <= set(member)


@every
def test_the_first_pooling_can_be_replaced(name):
    """What is handed on is no less with max-pooling, and that of a point is its own."""
    import torch

    entry, spec = architecture_of(name), registered.architecture_spec(name)
    if entry.first_pooling is None:
        return
    assert entry.first_pooling(spec) in POOLINGS
    x = block_of(name)
    rows = torch.from_numpy(x.reshape(len(x), -1))
    member = {key: torch.from_numpy(value[1]) for key, value in parameters_of(name).items()}
    maps = {pooling: entry.pooled_features(spec, member, rows, pooling) for pooling in POOLINGS}
    for pooling, found in maps.items():
        assert found.dim() == 4 and len(found) == len(x) and found.isfinite().all()
        alone = entry.pooled_features(spec, member, rows[2:3], pooling)
        torch.testing.assert_close(alone, found[2:3])
    assert maps["max"].shape == maps["drop_max"].shape
    assert (maps["max"] >= maps["drop_max"]).all() and (maps["max"] > maps["drop_max"]).any()


REFUSED = [
    ("cnn1d", (31,), "signals of at least 32"),
    ("cnn1d", (1, 28, 28), r"\[1, 28, 28\]"),
    ("kachuee_cnn", (90,), "longer signals"),
    ("kachuee_cnn", (3, 32, 32), r"\[3, 32, 32\]"),
    ("instance_norm_cnn", (187,), "larger square images"),
    ("instance_norm_cnn", (1, 28, 29), "larger square images"),
    ("instance_norm_cnn", (1, 12, 12), "larger square images"),
    ("resnet18", (187,), "square images"),
    ("resnet18", (1, 40, 41), "square images"),
    ("resnet18", (1, 8, 8), "9 pixels a side"),
    ("batch_norm_resnet18", (187,), "square images"),
    ("batch_norm_resnet18", (1, 28, 27), "square images"),
    ("batch_norm_resnet18", (3, 8, 8), "9 pixels a side"),
    ("resnet50", (187,), "square images"),
    ("resnet50", (1, 28, 27), "square images"),
    ("resnet50", (1, 8, 8), "9 pixels a side"),
    ("resnet50", (3, 28, 28), "these images have 3 channels"),
    ("lenet", (187,), "square images"),
    ("lenet", (3, 96, 95), "square images"),
    ("lenet", (3, 3, 3), "4 pixels a side"),
]


@pytest.mark.parametrize(("name", "shape", "said"), REFUSED)
def test_points_that_do_not_fit_are_refused(name, shape, said):
    entry, spec = architecture_of(name), registered.architecture_spec(name)
    with pytest.raises(InputError, match=said) as caught:
        entry.initial_parameters(spec, shape, CLASSES, [1])
    assert caught.value.remedy


@every
def test_what_is_not_refused_can_be_evaluated(name):
    """An architecture takes points of any shape, or refuses some in words."""
    entry, spec = architecture_of(name), registered.architecture_spec(name)
    if entry.initial_parameters is None or name in {refused for refused, *_ in REFUSED}:
        return
    for shape in ((5,), (1, 4, 4), (3, 2, 2)):
        arrays = entry.initial_parameters(spec, shape, CLASSES, [1])
        scores = entry.member_scores(spec, arrays, shape, CLASSES, "cpu")
        assert scores(np.zeros((2, *shape), dtype=np.float32)).shape == (1, 2, CLASSES)
