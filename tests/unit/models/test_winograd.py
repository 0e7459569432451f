"""Winograd's convolutions against PyTorch's in float64, there and back."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.models.engine import winograd, winograd_convolution
from medrobust.models.engine.winograd_convolution import TransformedKernels, WinogradConvolution
from torch.nn.functional import conv2d


@given(
    height=st.integers(1, 11), width=st.integers(1, 11), inputs=st.integers(1, 20),
    outputs=st.integers(1, 20), n=st.integers(1, 9), added=st.booleans(), rectified=st.booleans(),
    tiles=st.sampled_from([1, 20_000, winograd.TILES]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_it_is_a_convolution(height, width, inputs, outputs, n, added, rectified, tiles):
    rng = np.random.default_rng(height + 100 * inputs)
    x = rng.normal(size=(n, height, width, inputs)).astype(np.float32)
    kernels = rng.normal(size=(outputs, inputs, 3, 3)).astype(np.float32)
    biases = rng.normal(size=outputs).astype(np.float32)
    y = rng.normal(size=(n, height, width, outputs)).astype(np.float32)
    maps, weights = (torch.from_numpy(v).double() for v in (x, kernels))
    expected = conv2d(maps.permute(0, 3, 1, 2), weights, padding=1).permute(0, 2, 3, 1)
    expected = expected + torch.from_numpy(biases) + (torch.from_numpy(y) if added else 0)
    expected = expected.relu() if rectified else expected
    memory = winograd.Memory()
    memory.array("values", 7).fill(np.nan)  # what is there counts for nothing
    with mock.patch.object(winograd, "TILES", tiles):
        ready = torch.from_numpy(winograd.transformed(kernels))
        winograd.convolve(x, ready, biases, y, memory, added=added, rectified=rectified)
    spread = float(expected.std()) if expected.numel() > 1 else 1.0
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * (spread + 1))


@pytest.mark.parametrize("rectified", [True, False])
def test_what_is_not_a_number_stays_so_around_itself(rectified):
    x = np.ones((2, 12, 12, 4), np.float32)
    x[1, 6, 6, 2] = np.nan
    y, kernels = np.empty_like(x), np.ones((4, 4, 3, 3), np.float32)
    ready = torch.from_numpy(winograd.transformed(kernels))
    winograd.convolve(x, ready, y[0, 0, 0] * 0, y, winograd.Memory(), rectified=rectified)
    spoilt = np.isnan(y).all(axis=-1)
    assert spoilt[1, 5:8, 5:8].all() and not spoilt[0].any()
    # Tiles that see it, and no others.
    assert not spoilt[1, :3].any() and not spoilt[1, :, 9:].any()


def made(height=7, width=10, inputs=5, outputs=6, n=3, *, bias=True):
    """Returns maps and a layer, in float32."""
    draws = torch.Generator().manual_seed(height)
    layer = torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(torch.randn(value.shape, generator=draws))
    return torch.randn((n, inputs, height, width), generator=draws), layer


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_slopes_are_pytorchs(bias, beside):
    x, layer = made(bias=bias)
    values = [x, *layer.parameters()]
    for wanted in itertools.product((True, False), repeat=len(values)):
        if not any(wanted):
            continue
        found = []
        for dtype, own in (
            (torch.float32, TransformedKernels(layer, winograd.Memory())),
            (torch.double, None),
        ):
            lies = torch.channels_last if beside else torch.contiguous_format
            leaves = [
                v.detach().to(dtype).clone().requires_grad_(w)
                for v, w in zip(values, wanted, strict=True)
            ]
            maps = leaves[0].contiguous(memory_format=lies)
            biases = leaves[2] if bias else None
            if own is None:
                result = conv2d(maps, leaves[1], biases, padding=1)
            else:
                result = WinogradConvolution.apply(maps, leaves[1], biases, own)
                assert result.is_contiguous(memory_format=torch.channels_last)
            result.pow(2).sum().backward()
            found.append([result, *(leaf.grad for leaf in leaves if leaf.requires_grad)])
        assert all(slopes is not None for slopes in found[0])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_kernels_are_transformed_once_and_again_when_they_changed(monkeypatch):
    x, layer = made()
    own, count = TransformedKernels(layer, winograd.Memory()), []
    transformed = winograd.transformed
    monkeypatch.setattr(winograd, "transformed", lambda k: count.append(1) or transformed(k))

    def holds() -> None:
        maps = x.clone().requires_grad_()
        result = WinogradConvolution.apply(maps, *layer.parameters(), own)
        torch.testing.assert_close(result, layer(x), rtol=1e-4, atol=1e-4)
        (found,) = torch.autograd.grad(result.pow(2).sum(), maps)
        (expected,) = torch.autograd.grad(layer(maps).pow(2).sum(), maps)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)

    for _ in range(3):
        holds()
    assert len(count) == 2  # one for each way
    for change in (
        lambda: layer.weight.data.mul_(2),
        lambda: layer.load_state_dict(made(8)[1].state_dict()),
        lambda: setattr(layer, "weight", torch.nn.Parameter(layer.weight.detach() + 1)),
        lambda: layer.to(memory_format=torch.channels_last),
    ):
        change()
        holds()
    assert len(count) == 8  # the last changed no value


def test_which_layers_are_known_and_where_they_are_quicker(monkeypatch):
    def known(inputs=32, outputs=64, side=3, **changes):
        layer = torch.nn.Conv2d(inputs, outputs, side, **{"padding": side // 2} | changes)
        return winograd_convolution.is_known(layer)

    assert known() and known(512, 512) and known(bias=False)
    for changes in (
        {"padding": 0}, {"stride": 2}, {"dilation": 2}, {"padding_mode": "reflect"}, {"groups": 2},
    ):  # fmt: skip
        assert not known(**changes)
    assert not known(31) and not known(outputs=31) and not known(side=5) and not known(1024, 512)

    quicker = winograd_convolution.is_quicker
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert quicker(torch.empty(4, 32, 7, 5)) and not quicker(torch.empty(4, 32, 6, 6))
    assert not quicker(torch.empty(0, 32, 56, 40))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert not quicker(torch.empty(4, 32, 56, 40))
