"""Residual maps against the same written out in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from medrobust.core.errors import InputError
from medrobust.evaluation.residuals import (
    POOLINGS,
    Pairs,
    own_pooling,
    pooled_maps,
    residuals,
)
from medrobust.models import batch_norm_resnet18, resnet50
from medrobust.models.contract import first_pooling_of
from torch.nn import functional

from tests.unit.marked_device import pretended
from tests.unit.models.residual_oracles import moved

SHAPE, N = (3, 33, 33), 5
SCALED = resnet50.Spec(stages=[4, 3], blocks=[1, 1], pooling="drop_max")
AS_THEY_ARE = batch_norm_resnet18.Spec(stages=[4, 6])
CASES = [(resnet50, SCALED), (batch_norm_resnet18, AS_THEY_ARE)]
networks = pytest.mark.parametrize(("module", "spec"), CASES, ids=["resnet50", "resnet18"])


def members_of(module, spec) -> dict[str, np.ndarray]:
    """Returns two members with scales, shifts and running averages of their own."""
    return moved(module.initial_parameters(spec, SHAPE, 2, [4, 5]))


def points() -> tuple[np.ndarray, np.ndarray]:
    """Returns points, the first one with itself as its adversarial version."""
    rng = np.random.default_rng(0)
    x = rng.random((N, *SHAPE), dtype=np.float32)
    x_adv = x + rng.uniform(-0.05, 0.05, x.shape).astype(np.float32)
    x_adv[0] = x[0]
    return x, x_adv


def second_largest(maps: torch.Tensor) -> torch.Tensor:
    """Returns the second of the nine sorted values of each window."""
    padded = functional.pad(maps, (1, 1, 1, 1), value=-torch.inf)
    columns = functional.unfold(padded, 3, stride=2).view(*maps.shape[:2], 9, -1)
    side = (maps.shape[2] + 1) // 2
    return columns.sort(dim=2, descending=True).values[:, :, 1].view(*maps.shape[:2], side, side)


def plain_maps(spec, arrays, k: int, x: np.ndarray, pooling: str) -> torch.Tensor:
    """Returns what the first pooling of member ``k`` hands on, in float64."""
    own = {name: torch.from_numpy(value[k]).double() for name, value in arrays.items()}
    images, count = torch.from_numpy(x).double(), len(own["w1"])
    if hasattr(spec, "deviation"):
        mean, deviation = (torch.tensor(v)[:, None, None] for v in (spec.mean, spec.deviation))
        images = (images - mean) / deviation
    maps = functional.batch_norm(
        functional.conv2d(images, own["w1"], stride=2, padding=3),
        own["mean"][:count], own["variance"][:count], own["scale1"], own["shift1"],
        training=False, eps=1e-5,
    ).relu()  # fmt: skip
    pool = functional.max_pool2d(maps, 3, stride=2, padding=1)
    return pool if pooling == "max" else second_largest(maps)


def plain_residuals(spec, arrays, x, x_adv, pooling) -> dict[str, np.ndarray]:
    """Returns the means over two members of what :func:`residuals` returns."""
    of_members = []
    for k in range(2):
        clean, adversarial = (plain_maps(spec, arrays, k, own, pooling) for own in (x, x_adv))
        gap = adversarial - clean
        norm = gap.flatten(1).norm(p=1, dim=1) / clean.flatten(1).norm(p=1, dim=1)
        of_members.append({"absolute": gap.abs().sum(1), "signed": gap.sum(1), "change": norm})
    return {
        name: torch.stack([one[name] for one in of_members]).mean(dim=0).numpy()
        for name in of_members[0]
    }


def found_residuals(module, spec, arrays, x, x_adv, pooling, block=64):
    maps = pooled_maps(module.ARCHITECTURE, spec, arrays, pooling, "cpu")
    return residuals(maps, x, x_adv, block)


@networks
@pytest.mark.parametrize("pooling", POOLINGS)
def test_residuals_are_those_written_out(module, spec, pooling):
    arrays, (x, x_adv) = members_of(module, spec), points()
    expected = plain_residuals(spec, arrays, x, x_adv, pooling)
    found = found_residuals(module, spec, arrays, x, x_adv, pooling)
    assert found["absolute"].shape == (N, 9, 9) and found["change"].shape == (N,)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
    # The two are not the same thing: signs cancel.
    assert (found["absolute"][1:] > np.abs(found["signed"][1:]) + 1e-3).any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_point_that_was_not_moved_has_no_residual(pooling):
    arrays, (x, x_adv) = members_of(resnet50, SCALED), points()
    found = found_residuals(resnet50, SCALED, arrays, x, x_adv, pooling)
    for values in found.values():
        assert not values[0].any() and values[1:].any()


def test_on_a_device_residuals_are_those_of_the_cpu():
    arrays, (x, x_adv) = members_of(resnet50, SCALED), points()
    expected = found_residuals(resnet50, SCALED, arrays, x, x_adv, "drop_max")
    with pretended() as seen:
        maps = pooled_maps(resnet50.ARCHITECTURE, SCALED, arrays, "drop_max", "cuda:0")
        assert seen.to_device == len(arrays)
        found = residuals(maps, x, x_adv)
        # The points go there, the maps come back.
        assert (seen.to_device, seen.to_host, seen.reads) == (len(arrays) + 2, 2, 0)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)


def test_blocks_change_nothing_but_last_bits():
    arrays, (x, x_adv) = members_of(resnet50, SCALED), points()
    whole, parts = (
        found_residuals(resnet50, SCALED, arrays, x, x_adv, "max", block) for block in (64, 2)
    )
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-5, atol=1e-6)


def test_nothing_is_compared_with_clean_maps_of_nothing():
    """Of points whose maps are 0 no share can be said, whatever the attack makes of them."""
    x, x_adv = np.zeros((2, 3, 2, 2), np.float32), np.zeros((2, 3, 2, 2), np.float32)
    x_adv[1] = -1
    found = residuals(lambda own: own[None], x, x_adv)
    assert np.isnan(found["change"]).all()
    assert (found["absolute"][1] == 3).all() and (found["signed"][1] == -3).all()
    assert not found["absolute"][0].any()


def test_own_poolings_are_those_of_the_settings():
    assert first_pooling_of({"name": "resnet50"}) == own_pooling({"name": "resnet50"}) == "max"
    assert own_pooling({"name": "resnet50", "pooling": "drop_max"}) == "drop_max"
    assert own_pooling({"name": "batch_norm_resnet18"}) == "max"
    for none in ({"name": "batch_norm_resnet18", "stem": "cifar"}, {"name": "mlp"}):
        assert first_pooling_of(none) is None
        with pytest.raises(InputError, match="no first pooling"):
            own_pooling(none)


def made_arrays() -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, np.ndarray]]:
    """Returns the points of a data set of ten, and arrays of three of them at two epsilons."""
    rng = np.random.default_rng(1)
    x, ids = rng.random((10, 2, 2), dtype=np.float32), np.array([1, 4, 8])
    x_adv = np.stack([x[ids] + np.float32(step) for step in (0.25, 0.5)], axis=1)
    arrays = {"point_id": ids, "x": x[ids], "x_adv": x_adv, "epsilon": np.array([0.25, 0.5])}
    return x.__getitem__, arrays


def test_pairs_are_of_each_point_and_variant_that_an_attack_found():
    points_of, arrays = made_arrays()
    arrays["x_adv"][1, 0, 0, 1] = np.nan  # the attack found nothing
    pairs = Pairs.of(points_of, arrays, where="f")
    assert pairs.point_id.tolist() == [1, 1, 4, 8, 8]
    assert pairs.variant.tolist() == [0, 1, 1, 0, 1]
    assert pairs.epsilon.tolist() == [0.25, 0.5, 0.5, 0.25, 0.5]
    np.testing.assert_array_equal(pairs.x, points_of(pairs.point_id))
    np.testing.assert_array_equal(pairs.x_adv[2], arrays["x_adv"][1, 1])
    np.testing.assert_allclose(pairs.linf(), pairs.epsilon, atol=1e-6)
    assert pairs.linf().dtype == np.float32


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "epsilon"}, "missing: epsilon"),
        (lambda a: {}, "keeps those of points of a split"),
        (lambda a: a | {"x": a["x"] + np.float32(0.01)}, "not the arrays of this data set"),
        (lambda a: a | {"point_id": a["point_id"] + 1}, "not the arrays of this data set"),
        (lambda a: a | {"x_adv": a["x_adv"][..., :1]}, "not the arrays of this data set"),
    ],
)
def test_arrays_of_something_else_are_refused(spoil, said):
    points_of, arrays = made_arrays()
    with pytest.raises(InputError, match=said) as caught:
        Pairs.of(points_of, spoil(arrays), where="kept.safetensors")
    assert caught.value.where == "kept.safetensors" and caught.value.remedy
