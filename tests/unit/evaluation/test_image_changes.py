"""Total variation, structural similarity and frequencies, against what is known of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.evaluation import image_changes


def picture():
    rows, columns = np.mgrid[0:24, 0:20]
    channels = [0.5 + 0.4 * np.sin(rows / 3.0), 0.5 + 0.4 * np.cos(columns / 2.0)]
    return np.stack([*channels, (rows + columns) / 44.0])


def dotted(x):
    dots = np.zeros_like(x)
    dots[:, ::3, ::4] = 0.2
    return np.clip(x + dots, 0, 1)


def waved(x):
    return np.clip(x + 0.1 * np.sin(2 * np.pi * np.arange(24) / 12.0)[:, None], 0, 1)


# --- total variation ---


def test_total_variation_of_a_ramp_a_checkerboard_and_nothing():
    ramp = np.tile(np.arange(6.0), (3, 4, 1))  # 1 across, 0 down
    board = np.indices((4, 6)).sum(axis=0) % 2 * np.ones((3, 1, 1))
    found = image_changes.total_variation(np.stack([ramp, board, np.full((3, 4, 6), 0.3)]))
    assert found == pytest.approx([20 / 38, 1.0, 0.0])


def test_total_variation_equals_the_sum_over_pairs_of_neighbours():
    x = np.random.default_rng(0).random((2, 3, 5, 7))
    for image, found in zip(x, image_changes.total_variation(x), strict=True):
        pairs = [
            abs(channel[i, j] - channel[i + down, j + right])
            for channel in image
            for down, right in ((1, 0), (0, 1))
            for i in range(5 - down)
            for j in range(7 - right)
        ]
        assert found == pytest.approx(np.mean(pairs))


# --- structural similarity ---


def similarity_by_windows(x, y):
    """Wang et al. 2004, equation 13, window by window; constants of their section III.B."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for a, b in zip(x, y, strict=True):
        for i in range(5, a.shape[0] - 5):
            for j in range(5, a.shape[1] - 5):
                u, v = (c[i - 5 : i + 6, j - 5 : j + 6] for c in (a, b))
                mean_u, mean_v = (weights * u).sum(), (weights * v).sum()
                spread_u = (weights * (u - mean_u) ** 2).sum()
                spread_v = (weights * (v - mean_v) ** 2).sum()
                both = (weights * (u - mean_u) * (v - mean_v)).sum()
                found.append(
                    (2 * mean_u * mean_v + 1e-4)
                    * (2 * both + 9e-4)
                    / ((mean_u**2 + mean_v**2 + 1e-4) * (spread_u + spread_v + 9e-4))
                )
    return np.mean(found)


def test_structural_similarity_is_the_mean_over_windows():
    x = picture()
    changed = np.stack([dotted(x), waved(x), 1 - x])
    found = image_changes.structural_similarity(np.stack([x] * 3), changed)
    assert found == pytest.approx([similarity_by_windows(x, y) for y in changed], abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 255.0))
def test_structural_similarity_of_equal_images_is_1_and_units_do_not_matter(seed, units):
    x, y = np.random.default_rng(seed).random((2, 1, 2, 13, 12))
    assert image_changes.structural_similarity(x, x) == pytest.approx([1.0])
    found = image_changes.structural_similarity(x, y)
    assert found == pytest.approx(image_changes.structural_similarity(y, x))
    scaled = image_changes.structural_similarity(x * units, y * units, value_range=units)
    assert scaled == pytest.approx(found)
    assert (np.abs(found) <= 1).all()


# --- frequencies ---


def test_high_frequency_share_of_single_waves():
    rows, columns = np.mgrid[0:24, 0:24]
    waves = [
        np.cos(2 * np.pi * rows / 2),  # the finest there is
        np.cos(2 * np.pi * columns / 12),
        # 1/6 cycle per pixel along both axes: .236 together, no high one; 1/5 would be .283.
        np.cos(2 * np.pi * (rows + columns) / 6),
        np.cos(2 * np.pi * rows / 2) + np.cos(2 * np.pi * rows / 12) * np.sqrt(2),
        np.zeros((24, 24)),
    ]
    found = image_changes.high_frequency_share(np.stack(waves)[:, None])
    assert found == pytest.approx([1, 0, 0, 0.5, 0], abs=1e-12)


def test_high_frequency_share_of_noise_is_that_of_the_frequencies():
    noise = np.random.default_rng(1).normal(size=(20, 3, 96, 96))
    found = image_changes.high_frequency_share(noise)
    assert found.mean() == pytest.approx(1 - np.pi / 16, abs=0.005)
    # Neither size nor sign matters.
    assert image_changes.high_frequency_share(-7 * noise) == pytest.approx(found)
