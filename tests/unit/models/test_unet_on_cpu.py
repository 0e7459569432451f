"""nnU-Net's network made fast on a CPU, against the network as nnU-Net builds it."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from medrobust.data.standins.slices import plans
from medrobust.models import nnunet
from medrobust.models.engine import first_convolution, unet_on_cpu, winograd, winograd_convolution
from medrobust.models.engine.first_convolution import FirstConvolution
from medrobust.models.engine.instance_norm import LeakyNormalised
from torch.nn.functional import conv2d, instance_norm, leaky_relu

from tests.unit.slice_files import needs_nnunet

EPSILON, SLOPE = 1e-5, 0.01
SIDE_BY_SIDE = torch.channels_last


def own(x, scale, shift):
    return LeakyNormalised.apply(x, scale, shift, EPSILON, SLOPE)


def pytorchs(x, scale, shift):
    return leaky_relu(instance_norm(x, weight=scale, bias=shift, eps=EPSILON), SLOPE)


def there_and_back(function, values, slopes, dtype=torch.float32):
    """Returns the result, and the slopes at the three values."""
    leaves = [value.to(dtype).requires_grad_() for value in values]
    result = function(*leaves)
    return result, *torch.autograd.grad(result, leaves, slopes.to(dtype))


def made(n: int, channels: int, height: int, width: int, seed: int, offset: float = 0.0):
    """Returns maps, scales and shifts, and slopes at the result."""
    draws = torch.Generator().manual_seed(seed)
    shapes = [(n, channels, height, width), (channels,), (channels,), (n, channels, height, width)]
    x, scale, shift, slopes = (torch.randn(shape, generator=draws) for shape in shapes)
    return (x + offset, scale, shift), slopes


@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(2, 13),
    st.integers(0, 2**32 - 1), st.booleans(), st.booleans(),
)  # fmt: skip
def test_values_and_slopes_are_those_of_normalisation_and_leaky_relu(
    n, channels, height, width, seed, beside, slopes_beside
):
    values, slopes = made(n, channels, height, width, seed)
    expected = there_and_back(pytorchs, values, slopes, torch.float64)
    if beside:
        values = (values[0].contiguous(memory_format=SIDE_BY_SIDE), *values[1:])
    if slopes_beside:
        slopes = slopes.contiguous(memory_format=SIDE_BY_SIDE)
    found = there_and_back(own, values, slopes)
    assert found[0].is_contiguous(memory_format=SIDE_BY_SIDE)
    for one, other in zip(found, expected, strict=True):
        # A map of few pixels may have next to no variance, which makes rounding errors larger.
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("offset", [0.0, 3.0, 100.0])
def test_rounding_errors_are_not_larger_than_pytorchs(offset):
    """On maps as large as those of the networks."""
    values, slopes = made(4, 8, 56, 40, 1, offset)
    exact = there_and_back(pytorchs, values, slopes, torch.float64)
    mine, theirs = (there_and_back(way, values, slopes) for way in (own, pytorchs))
    for one, other, right in zip(mine, theirs, exact, strict=True):
        off, bar = ((value - right).square().mean().sqrt() for value in (one, other))
        assert off <= 1.25 * bar + 1e-9


def test_constant_maps_become_their_shift():
    (x, scale, shift), slopes = made(2, 5, 7, 3, 2)
    values = (torch.full_like(x, 1234.567), scale, shift)
    found = there_and_back(own, values, slopes)
    expected = there_and_back(pytorchs, values, slopes, torch.float64)
    assert torch.equal(found[0], leaky_relu(shift, SLOPE).view(1, -1, 1, 1).expand_as(x))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-3)


def test_a_value_that_is_not_a_number_spoils_its_own_map_alone():
    (x, *rest), _ = made(2, 3, 4, 5, 3)
    x[0, 1, 2, 3] = torch.nan
    spoilt = own(x, *rest).isnan().all(dim=(2, 3))
    assert spoilt.tolist() == [[False, True, False], [False] * 3]


def test_only_slopes_that_are_asked_for_come_back_and_not_twice():
    (x, scale, shift), _ = made(2, 3, 4, 5, 4)
    x.requires_grad_()
    (slopes,) = torch.autograd.grad(own(x, scale, shift).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slopes.sum().backward()
    scale.requires_grad_()
    own(x.detach(), scale, shift).sum().backward()
    assert scale.grad is not None and shift.grad is None and x.grad is None


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("sides", [(1, 1), (3, 3), (5, 3)])
def test_slopes_of_the_first_convolution_are_pytorchs(channels, sides):
    draws = torch.Generator().manual_seed(5)
    shapes = [(2, channels, 7, 4), (6, channels, *sides), (6,)]
    values = [torch.randn(s, generator=draws, dtype=torch.float64) for s in shapes]
    border = [side // 2 for side in sides]
    for wanted in itertools.product((True, False), repeat=3):
        if not any(wanted):
            continue
        found = []
        for way in (FirstConvolution.apply, lambda *v: conv2d(*v, padding=border)):
            leaves = [v.clone().requires_grad_(w) for v, w in zip(values, wanted, strict=True)]
            result = way(*leaves)
            result.pow(3).sum().backward()
            found.append([result, *(leaf.grad for leaf in leaves if leaf.requires_grad)])
        assert all(slopes is not None for slopes in found[0])
        torch.testing.assert_close(*found)


def test_which_convolutions_are_the_first():
    def known(channels=1, side=3, **changes):
        settings = {"padding": side // 2} | changes
        return first_convolution.is_known(torch.nn.Conv2d(channels, 4, side, **settings))

    assert known() and known(4, 5) and known(bias=False) and known(side=1)
    for changes in ({"padding": 0}, {"stride": 2}, {"dilation": 2}, {"padding_mode": "reflect"}):
        assert not known(**changes)
    assert not known(5) and not known(2, groups=2) and not known(side=2)


#: Height and width of a patch, channels of an image, features, and changed settings of the network.
NETWORKS = {
    "small": ((16, 16), 1, (4, 6, 8), {}),
    "channels": ((8, 24), 3, (5, 7, 6), {"conv_bias": False}),
    "many": ((8, 8), 5, (4, 6, 5), {"nonlin_kwargs": {"negative_slope": 0.2}}),
    "deep": ((32, 16), 2, (8, 16, 32), {"n_conv_per_stage": [1, 2, 3]}),
    "first halved": ((16, 16), 1, (4, 6, 5), {"strides": [[2, 2], [2, 1], [1, 2]]}),
    "wide": ((20, 16), 1, (32, 40, 48), {}),
}


def built(name: str = "small", **changes) -> torch.nn.Module:
    sides, channels, features, settings = NETWORKS[name]
    planned = plans(sides, features, convolutions=2)
    planned["configurations"]["2d"]["architecture"]["arch_kwargs"] |= settings | changes
    return nnunet.build(planned, channels, 3, seed=1)


def patches(name: str = "small", n: int = 3) -> torch.Tensor:
    sides, channels, *_ = NETWORKS[name]
    return torch.randn((n, channels, *sides), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def convolved(monkeypatch) -> list[int]:
    """Returns the channels of each convolution with fewer products, there and back, on a thread."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    made, convolve = [], winograd.convolve
    monkeypatch.setattr(
        winograd, "convolve", lambda x, *a, **k: made.append(x.shape[-1]) or convolve(x, *a, **k)
    )
    return made


@needs_nnunet
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("together", [1, unet_on_cpu.MAP_BYTES])
def test_outputs_and_all_slopes_are_the_networks_own(name, together, monkeypatch, convolved):
    """In float64 the network as it is; its last head, of no weight in the loss, has no slopes."""
    monkeypatch.setattr(unet_on_cpu, "MAP_BYTES", together)
    module = built(name)
    double = copy.deepcopy(module).double()
    found, expected = [], []
    for run, parts, into in (
        (nnunet.fast(module), module, found), (double, double, expected)
    ):  # fmt: skip
        x = patches(name).to(next(parts.parameters()).dtype).requires_grad_()
        outputs = run(x)
        sum(output.square().mean() for output in outputs[:-1]).backward()
        assert all(output.is_contiguous() for output in outputs)
        into += [*outputs, x.grad, *(value.grad for value in parts.parameters())]
    missing = [one is None for one in found]
    assert missing == [other is None for other in expected]
    for one, other in zip(found, expected, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other.float(), rtol=1e-3, atol=2e-5)
    assert bool(convolved) == (name == "wide")


@needs_nnunet
def test_slopes_at_images_alone_are_the_same_and_those_at_parameters_are_not_computed():
    module, x, found = built("wide"), patches("wide"), []
    for to_parameters in (True, False):
        points = x.clone().requires_grad_()
        outputs = nnunet.fast(module, to_parameters=to_parameters)(points)
        total = sum(output.square().mean() for output in outputs)
        found.append([total.detach(), *torch.autograd.grad(total, points, retain_graph=True)])
        if not to_parameters:
            total.backward()
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert all(value.grad is None for value in module.parameters())


@needs_nnunet
def test_with_and_without_slopes_at_parameters_kernels_are_transformed_once(monkeypatch, convolved):
    module, count, transformed = built("wide"), [], winograd.transformed
    monkeypatch.setattr(winograd, "transformed", lambda k: count.append(1) or transformed(k))
    for to_parameters in (True, False, True):
        points = patches("wide").requires_grad_()
        outputs = nnunet.fast(module, to_parameters=to_parameters)(points)
        sum(output.sum() for output in outputs).backward()
    used = {k for k in module.modules() if isinstance(k, torch.nn.Conv2d)}
    ways = sum(winograd_convolution.is_known(layer) for layer in used) * 2
    # Those of the smallest maps are PyTorch's, as there are few tiles.
    assert 0 < len(count) <= ways and len(count) % 2 == 0
    assert len(convolved) == 3 * len(count)  # each way of each layer, three times


@needs_nnunet
def test_more_threads_have_pytorchs_convolutions(monkeypatch, convolved):
    network = nnunet.fast(built("wide"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    network(patches("wide"))
    assert not convolved


@needs_nnunet
def test_the_parameters_stay_what_they_are_and_may_be_replaced():
    module = built()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    names = [name for name, _ in module.named_parameters()]
    network = nnunet.fast(module)
    assert network is not module
    assert names == [name for name, _ in module.named_parameters()]
    arrays = nnunet.arrays_of(module)
    assert list(arrays) == list(before)
    for name, value in before.items():
        assert arrays[name].flags.c_contiguous
        assert arrays[name].tobytes() == value.numpy().tobytes()
    other = {name: value + np.float32(0.01) for name, value in arrays.items()}
    nnunet.with_arrays(module, other)
    expected = nnunet.with_arrays(built(), other)
    with torch.inference_mode():
        torch.testing.assert_close(network(patches()), expected(patches()))
        assert len(network(patches(n=1))) == 2


OTHERS = {
    "batches": {"norm_op": "torch.nn.modules.batchnorm.BatchNorm2d"},
    "averages": {"norm_op_kwargs": {"affine": True, "track_running_stats": True}},
    "no scale": {"norm_op_kwargs": {"affine": False}},
    "relu": {"nonlin": "torch.nn.ReLU"},
    "dropout": {"dropout_op": "torch.nn.Dropout2d", "dropout_op_kwargs": {"p": 0.1}},
    "other order": {"nonlin_first": True},
}


@needs_nnunet
@pytest.mark.parametrize("name", OTHERS)
def test_networks_of_other_parts_stay_as_they_are(name):
    module = built(**OTHERS[name])
    kernels = module.encoder.stages[0][0].convs[1].conv.weight
    assert nnunet.fast(module) is module and kernels.is_contiguous()


@needs_nnunet
def test_networks_elsewhere_of_other_numbers_or_classes_stay_as_they_are():
    shallow, double, elsewhere, mirrored = (
        built(), built().double(), built().to("meta"), built()
    )  # fmt: skip
    shallow.decoder.deep_supervision = False
    mirrored.encoder.stages[1][0].convs[0].conv.padding_mode = "reflect"
    for module in (shallow, double, elsewhere, mirrored, torch.nn.Conv2d(1, 2, 3)):
        assert nnunet.fast(module) is module


@needs_nnunet
def test_maps_of_one_pixel_are_refused_as_by_pytorch():
    module = built()
    tiny = torch.zeros((1, 1, 4, 4))
    for network in (module, nnunet.fast(copy.deepcopy(module))):
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            network(tiny)
