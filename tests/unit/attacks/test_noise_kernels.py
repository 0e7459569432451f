"""Noise of the attacks: bits to normal and uniform values."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.attacks.engine import noise_kernels
from scipy import stats


def bits(rows: int, d: int, seed: int = 0) -> np.ndarray:
    raw = np.random.SFC64(seed).random_raw(rows * ((d + 1) // 2))
    return raw.view(np.uint32).reshape(rows, -1)


def filled(kind: str, rows: int, d: int, room: int = 1024) -> np.ndarray:
    values = np.full((rows, d), np.nan, dtype=np.float32)
    if kind == "signed":
        noise_kernels.signed(bits(rows, d), values)
        return values
    state, words = stream(0), np.empty(room, dtype=np.uint64)
    for row in values:
        getattr(noise_kernels, kind)(state, words, row)
    return values


def stream(seed: int) -> np.ndarray:
    return np.random.SFC64(seed).state["state"]["state"].copy()


@pytest.mark.parametrize("size", [0, 1, 7, 2000])
def test_words_are_those_of_numpy(size):
    state, words = stream(3), np.empty(size, dtype=np.uint64)
    numpy = np.random.SFC64(3)
    for _ in range(2):
        noise_kernels.draw_words(state, words)
        np.testing.assert_array_equal(words, numpy.random_raw(size))


def box_muller(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The definition in float64: radius from the upper 23 bits, angle from 24 of the next word."""
    uniform = ((words[:, ::2] >> 9) + 0.5) / 2**23
    turn = ((words[:, 1::2] >> 8) + 0.5) / 2**24 - 1 / 8
    radius = np.sqrt(-2 * np.log(uniform))
    return radius * np.cos(2 * np.pi * turn), radius * np.sin(2 * np.pi * turn)


@pytest.mark.parametrize("d", [1, 2, 7, 188])
def test_pairs_are_those_of_box_and_muller(d):
    values, (first, second) = filled("draw_normal", 500, d), box_muller(bits(500, d))
    half = d // 2
    np.testing.assert_allclose(values[:, :half], first[:, :half], atol=2e-6)
    np.testing.assert_allclose(values[:, half : 2 * half], second[:, :half], atol=2e-6)
    if d % 2:
        np.testing.assert_allclose(values[:, -1], first[:, -1], atol=2e-6)


def test_extreme_bits_give_finite_values():
    middle = 2**29  # of the first of four directions
    words = np.array([0, middle, 2**32 - 1, 2**32 - 1, 0, 0], dtype=np.uint32)
    values = np.empty((2, 3), dtype=np.float32)
    noise_kernels._pairs(words, *values)
    assert np.isfinite(values).all()
    assert values[0, 0] == pytest.approx(np.sqrt(48 * np.log(2)), rel=1e-6)


@pytest.mark.parametrize("kind", ["draw_normal", "draw_signed"])
@pytest.mark.parametrize("d", [1, 2, 7, 188])
def test_the_room_for_words_changes_nothing(kind, d):
    np.testing.assert_array_equal(filled(kind, 20, d, room=3), filled(kind, 20, d))


@pytest.mark.parametrize("d", [1, 2, 7, 188])
def test_drawn_signed_values_are_those_of_the_bits(d):
    np.testing.assert_array_equal(filled("draw_signed", 20, d), filled("signed", 20, d))


def test_normal_values_are_normal_and_independent():
    values = filled("draw_normal", 20_000, 10)
    assert stats.kstest(values.ravel(), "norm").pvalue > 0.01
    np.testing.assert_allclose(values.T @ values / len(values), np.eye(10), atol=0.04)
    # Pairs are uncorrelated in their squares too, and no direction is special.
    squares = values.astype(np.float64) ** 2
    np.testing.assert_allclose(np.corrcoef(squares.T), np.eye(10), atol=0.04)
    along = values @ np.ones(10) / np.sqrt(10)
    assert stats.kstest(along, "norm").pvalue > 0.01


def test_signed_values_are_uniform():
    values = filled("signed", 20_000, 9)
    assert values.min() >= -1 and values.max() < 1.0000001
    assert stats.kstest(values.ravel(), "uniform", args=(-1, 2)).pvalue > 0.01
    assert np.abs(np.corrcoef(values.T) - np.eye(9)).max() < 0.04
