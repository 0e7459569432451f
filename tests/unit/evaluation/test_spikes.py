"""Spikes against their definition, written out."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.evaluation import spikes


def prominent_maxima(signal, least):
    """Counts maxima by the definition: look both ways for something higher, note the lowest."""
    count = 0
    for i in range(1, len(signal) - 1):
        if not signal[i - 1] < signal[i] > signal[i + 1]:
            continue
        lowest = []
        for step in (-1, 1):
            low, j = signal[i], i + step
            while 0 <= j < len(signal) and signal[j] <= signal[i]:
                low, j = min(low, signal[j]), j + step
            lowest.append(low)
        count += signal[i] - max(lowest) >= least
    return count


# Whole numbers without equal neighbours: plateaus are counted once, which the loop does not do.
signals = st.lists(st.integers(0, 20), min_size=3, max_size=30).filter(
    lambda values: all(a != b for a, b in itertools.pairwise(values))
)


@given(signals, st.integers(1, 8))
@settings(max_examples=200, deadline=None)
def test_spikes_are_extremes_of_enough_prominence(values, least):
    signal = np.array(values, float)
    expected = prominent_maxima(signal, least) + prominent_maxima(-signal, least)
    assert spikes.count_spikes(signal[None], least).tolist() == [expected]


def test_spikes_of_known_signals():
    flat = np.zeros(187)
    one, both, small = flat.copy(), flat.copy(), flat.copy()
    one[40] = 0.3
    both[40], both[90] = 0.3, -0.3
    small[40] = spikes.PROMINENCE * 0.99
    found = spikes.count_spikes(np.stack([flat, one, both, small]))
    assert found.tolist() == [0, 1, 2, 0]
    assert found.dtype == np.int64
    assert spikes.count_spikes(np.empty((0, 187))).tolist() == []


def test_the_largest_spike_is_the_heaviest_run_of_one_sign():
    change = np.array([0.0, 1.0, 2.0, -3.0, 0.0, 0.5, -0.5, -0.5])
    total = 1 + 4 + 9 + 0.25 + 0.25 + 0.25
    changes = np.stack([change, -2 * change])
    assert spikes.largest_spike_share(changes) == pytest.approx([9 / total] * 2)
    # The run of -3 begins at sample 3.
    assert spikes.largest_spike_share(changes, within=4) == pytest.approx([9 / total] * 2)
    assert spikes.largest_spike_share(changes, within=3) == pytest.approx([5 / total] * 2)
    assert spikes.largest_spike_share(changes, within=1) == pytest.approx([0.0] * 2)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_shares_are_those_of_a_plain_loop(values, within):
    change = np.round(values, 3)
    runs, start = [], 0
    for i in range(1, len(change) + 1):
        if i == len(change) or np.sign(change[i]) != np.sign(change[start]):
            if start < within:
                runs.append(float((change[start:i] ** 2).sum()))
            start = i
    total = float((change**2).sum())
    expected = max(runs) / total if total else 0.0
    found = spikes.largest_spike_share(change[None], within)
    assert found == pytest.approx([expected])
    assert 0 <= found[0] <= 1 + 1e-12
