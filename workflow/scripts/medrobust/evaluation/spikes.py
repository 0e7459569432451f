"""Spikes: what makes an adversarial heartbeat look jagged, as numbers.

The sign-network paper describes its Figure 2 in words ("more spikes", "one unusual spike").
The measures here are ours:

* a *spike* is a local maximum or minimum whose prominence is at least :data:`PROMINENCE`;
* the *largest spike of a change* is the run of neighbouring samples, all moved up or all moved
  down, that holds most of the change's squared L2 length.

Nothing here knows of models or attacks.
"""

from __future__ import annotations

import numpy as np

#: Least prominence of a spike: a twentieth of a heartbeat's range, which is scaled to [0, 1].
PROMINENCE = 0.05


def count_spikes(signals: np.ndarray, prominence: float = PROMINENCE) -> np.ndarray:
    """Counts the spikes of each signal.

    The prominence of a maximum is its height above the higher of the lowest points between it
    and the next higher maximum, or the end, on either side; of a minimum that of the maximum of
    the mirrored signal. The ends of a signal are no maxima.

    Args:
        signals: ``[n, samples]`` finite numbers.
        prominence: least prominence, above 0, in the units of the signals.

    Returns:
        int64 ``[n]``.
    """
    from scipy.signal import find_peaks

    signals = np.asarray(signals, dtype=np.float64)
    return np.array(
        [
            sum(len(find_peaks(side, prominence=prominence)[0]) for side in (signal, -signal))
            for signal in signals
        ],
        dtype=np.int64,
    )


def largest_spike_share(changes: np.ndarray, within: int | None = None) -> np.ndarray:
    """Returns the share of each change's squared length that its largest spike holds.

    Args:
        changes: ``[n, samples]`` finite numbers, adversarial minus original.
        within: only spikes that begin in the first so many samples; by default anywhere.

    Returns:
        float64 ``[n]`` in [0, 1]; 0 where nothing changes or no spike begins there, and of a
        change of constant sign 1.
    """
    changes = np.asarray(changes, dtype=np.float64)
    return np.array([_largest_share(change, within) for change in changes], dtype=np.float64)


def _largest_share(change: np.ndarray, within: int | None) -> float:
    squares = change**2
    if not squares.any():
        return 0.0
    starts = np.append(0, np.flatnonzero(np.diff(np.sign(change))) + 1)
    lengths = np.add.reduceat(squares, starts)
    if within is not None:
        lengths = lengths[starts < within]
    return float(lengths.max() / squares.sum())
