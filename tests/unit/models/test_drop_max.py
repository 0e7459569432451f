"""Drop-max pooling against windows written out one by one, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from medrobust.models.engine.drop_max import drop_max_pool
from torch.nn.functional import max_pool2d

from tests.unit.marked_device import is_marked, pretended


def windows(height: int, width: int) -> list[tuple[tuple[int, int], list[tuple[int, int]]]]:
    """Returns the place of each window and the places of its values, row by row."""
    return [
        ((i, j), [(a, b)
                  for a in range(2 * i - 1, 2 * i + 2) for b in range(2 * j - 1, 2 * j + 2)
                  if 0 <= a < height and 0 <= b < width])
        for i in range((height + 1) // 2) for j in range((width + 1) // 2)
    ]  # fmt: skip


def selected(image: np.ndarray) -> dict[tuple[int, int], tuple[int, int]]:
    """Returns the place of the second largest value of each window, the first of equal ones."""
    found = {}
    for window, places in windows(*image.shape):
        values = sorted((image[place] for place in places), reverse=True)
        second = values[min(1, len(values) - 1)]
        found[window] = next(place for place in places if image[place] == second)
    return found


def brute_force(maps: np.ndarray) -> np.ndarray:
    n, k, height, width = maps.shape
    out = np.empty((n, k, (height + 1) // 2, (width + 1) // 2), maps.dtype)
    for index in np.ndindex(n, k):
        for window, place in selected(maps[index]).items():
            out[index][window] = maps[index][place]
    return out


def drawn(shape, kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "few values":  # many ties
        return rng.integers(0, 3, shape).astype(np.float64)
    values = rng.normal(size=shape)
    if kind == "after ReLU":
        return np.maximum(values, 0)
    if kind == "infinite":
        values[rng.random(shape) < 0.3] = -np.inf
        values[rng.random(shape) < 0.1] = np.inf
    return values


KINDS = ["normal", "after ReLU", "few values", "infinite"]


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000), last=st.booleans(),
)  # fmt: skip
@example(height=1, width=1, kind="normal", seed=0, last=False)
@example(height=1, width=1, kind="infinite", seed=0, last=False)
@settings(max_examples=150, deadline=None)
def test_each_window_gives_its_second_largest_value(height, width, kind, seed, last):
    maps = drawn((2, 3, height, width), kind, seed)
    given_maps = torch.from_numpy(maps)
    if last:  # channels side by side, as some convolutions give them
        given_maps = given_maps.contiguous(memory_format=torch.channels_last)
    found = drop_max_pool(given_maps)
    assert found.is_contiguous() and found.dtype == torch.float64
    np.testing.assert_array_equal(found.numpy(), brute_force(maps))


@given(side=st.integers(2, 8), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_it_is_the_largest_value_once_that_is_gone(side, seed):
    """Of different values: PyTorch's pooling of the map without each window's largest value."""
    image = np.random.default_rng(seed).permutation(side**2).reshape(side, side).astype(float)
    maps = torch.from_numpy(image)[None, None]
    found, (largest, places) = drop_max_pool(maps), max_pool2d(maps, 3, 2, 1, return_indices=True)
    assert found.shape == largest.shape and (found < largest).all()
    for window in np.ndindex(found.shape[2:]):
        without = maps.clone()
        without.view(-1)[places[0, 0][window]] = -torch.inf
        assert found[0, 0][window] == max_pool2d(without, 3, 2, 1)[0, 0][window]


def test_the_size_is_that_of_the_pooling_it_replaces():
    for side in range(1, 12):
        maps = torch.rand(1, 2, side, side + 1)
        assert drop_max_pool(maps).shape == max_pool2d(maps, 3, stride=2, padding=1).shape


def test_where_the_largest_value_occurs_twice_it_is_handed_on():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 0, 0] = maps[0, 0, 1, 1] = 5.0
    assert drop_max_pool(maps)[0, 0].tolist() == [[5.0, 0.0], [0.0, 0.0]]


@given(side=st.integers(1, 7), kind=st.sampled_from(KINDS[:3]), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_gradient_goes_to_the_first_of_equal_values_alone(side, kind, seed):
    image = drawn((side, side), kind, seed)
    maps = torch.from_numpy(image)[None, None].requires_grad_()
    found = drop_max_pool(maps)
    weights = np.random.default_rng(seed).normal(size=found.shape)
    expected = np.zeros_like(image)
    for window, place in selected(image).items():
        expected[place] += weights[0, 0][window]
    found.backward(torch.from_numpy(weights))
    np.testing.assert_allclose(maps.grad[0, 0].numpy(), expected, rtol=1e-12, atol=1e-12)


def test_of_nine_equal_values_one_gets_the_whole_gradient():
    maps = torch.ones(1, 1, 7, 7, dtype=torch.float64, requires_grad=True)
    drop_max_pool(maps)[0, 0, 1, 1].backward()  # its window: rows and columns 1 to 3
    assert maps.grad.sum() == 1 and maps.grad[0, 0, 1, 1] == 1


@pytest.mark.parametrize("side", [1, 4, 5])
def test_gradients_and_gradients_of_gradients_are_those_of_differences(side):
    rng = np.random.default_rng(side)
    # Different by more than the differences move them.
    values = rng.permutation(2 * side**2).reshape(1, 2, side, side) / 10.0
    maps = torch.from_numpy(values).requires_grad_()
    assert torch.autograd.gradcheck(drop_max_pool, maps)
    # Squared, for a second derivative that is not 0.
    assert torch.autograd.gradcheck(lambda x: drop_max_pool(x**2), maps)
    assert torch.autograd.gradgradcheck(lambda x: drop_max_pool(x**2), maps)


def test_a_window_with_a_nan_gives_nan_as_pytorchs_pooling_does():
    maps = torch.rand(2, 2, 6, 7)
    maps[0, 0, 2, 3] = maps[1, 1, 5, 6] = torch.nan
    found = drop_max_pool(maps).isnan()
    torch.testing.assert_close(found, max_pool2d(maps, 3, 2, 1).isnan())
    assert 0 < found.sum() < 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_it_keeps_the_type_of_its_values(dtype):
    maps = torch.rand(1, 2, 6, 6).to(dtype)
    found = drop_max_pool(maps)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.float().numpy(), brute_force(maps.float().numpy()))


def test_its_argument_is_not_changed():
    maps = torch.rand(2, 3, 5, 6)
    before = maps.clone()
    drop_max_pool(maps)
    torch.testing.assert_close(maps, before, rtol=0, atol=0)


def test_on_a_device_the_host_does_not_wait():
    maps = torch.rand(2, 3, 7, 8)
    with pretended() as seen:
        there = maps.to("cuda:0")
        before = seen.waits
        found = drop_max_pool(there)
        assert is_marked(found) and seen.waits == before
        there_again = found.cpu()
    torch.testing.assert_close(there_again, drop_max_pool(maps), rtol=0, atol=0)
