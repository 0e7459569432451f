"""Convolutions of maps with channels side by side, against PyTorch's own ways back."""

from __future__ import annotations

import itertools

import pytest
import torch
from medrobust.models.engine import convolutions
from medrobust.models.engine.convolutions import convolution
from torch.nn.functional import conv2d

#: Side of maps, width of kernels, stride, images: the first three are products.
CASES = [(5, 1, 1, 3), (6, 1, 2, 3), (3, 3, 2, 2), (9, 3, 1, 3), (10, 3, 2, 3), (13, 7, 2, 2)]
each = pytest.mark.parametrize(("side", "width", "stride", "n"), CASES)


def made(side: int, width: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(side)
    shapes = (n, 3, side, side), (4, 3, width, width)
    drawn = (torch.randn(shape, generator=draws, dtype=torch.double) for shape in shapes)
    x, kernels = (one.to(memory_format=torch.channels_last).requires_grad_() for one in drawn)
    return x, kernels


@each
@pytest.mark.parametrize("twice", [False, True])
def test_ways_back_equal_pytorchs(side, width, stride, n, twice):
    """Values, slopes, and those of a loss that contains slopes at the points."""
    x, kernels = made(side, width, n)

    def ways(maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (slopes,) = torch.autograd.grad(maps.pow(3).sum(), x, create_graph=True)
        loss = slopes.square().sum() + maps.square().sum()
        return maps, slopes, *torch.autograd.grad(loss, (x, kernels))

    found = ways(convolution(x, kernels, None, stride, twice=twice))
    expected = ways(conv2d(x, kernels, stride=stride, padding=width // 2))
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other)
    for own in found if twice else found[:1]:
        assert own.is_contiguous(memory_format=torch.channels_last)


def test_what_the_cases_and_the_networks_shortcuts_take(monkeypatch):
    """A product where it should be one, with a bias too, and PyTorch's functions elsewhere."""
    taken = []
    for name in ("_product", "conv2d"):
        own = getattr(convolutions, name)
        monkeypatch.setattr(
            convolutions, name, lambda *a, _n=name, _f=own, **k: taken.append(_n) or _f(*a, **k)
        )
    bias = torch.randn(4, dtype=torch.double)
    for (side, width, stride, n), lies in itertools.product(CASES, (True, False)):
        x, kernels = (t.detach() if lies else t.detach().contiguous() for t in made(side, width, n))
        for own in (None, bias):
            expected = conv2d(x, kernels, own, stride=stride, padding=width // 2)
            found = convolution(x, kernels, own, stride, twice=True)
            torch.testing.assert_close(found, expected)
    first, second = ["_product"] * 2, ["conv2d"] * 2
    assert taken == (first + second) * 3 + (second + second) * 3


def test_slopes_at_kernels_are_not_computed_on_the_way_to_the_points(monkeypatch):
    asked, own = [], convolutions.slopes_at
    monkeypatch.setattr(convolutions, "slopes_at", lambda *a: asked.append(a[-1]) or own(*a))
    x, kernels = made(9, 3, 3)
    maps = convolution(x, kernels, None, 1, twice=True)
    (slopes,) = torch.autograd.grad(maps.pow(2).sum(), x, create_graph=True)
    assert asked == [[True, False, False]]
    torch.autograd.grad(slopes.pow(2).sum(), kernels)
    assert [wanted.index(True) for wanted in asked[1:]].count(1) == 2


def test_a_third_way_back_is_refused():
    x, kernels = made(9, 3, 3)
    maps = convolution(x, kernels, None, 1, twice=True)
    (slopes,) = torch.autograd.grad(maps.pow(3).sum(), kernels, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slopes.sum().backward()
