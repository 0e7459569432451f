"""Compiled searches of stochastic coordinate descent: exact thresholds by sorting (numba).

A **threshold** of rank k divides n sorted projections into the first k, off, and the others,
on. It lies midway between its neighbours, or 0.01 below the smallest projection for rank 0.
A rank within a group of equal projections divides nothing: as in ``projection - threshold > 0``
the whole group is then off.

A search maximises a **gain**: the sum of integer weights of the points that are on. Integer
sums do not depend on their order, so equal gains are equal to the last bit and every shortcut
here finds what a full scan finds. Ties go to the lowest rank, then to the first candidate.

A point's hidden code is one ``uint64``: bit j says whether node j is on.
"""

from __future__ import annotations

import math

import numpy as np

from medrobust.runtime.compiled import compiled

BELOW_ALL = 0.01
"""Distance of the threshold of rank 0 from the smallest projection (signnet-code)."""

_RADIX_BITS = 11
_RADIX = 1 << _RADIX_BITS
_BINS = 1024
_FEW = 160


@compiled
def argsort(values: np.ndarray) -> np.ndarray:
    """Returns the stable ascending order of finite float64 values, int64.

    Radix sort of 32-bit keys, then insertion by the values themselves where keys are equal.
    """
    n = values.size
    low = high = values[0]
    for i in range(1, n):
        low, high = min(low, values[i]), max(high, values[i])
    scale = 4294967295.0 / (high - low) if high > low else 0.0
    if not math.isfinite(scale):
        scale = 0.0
    # Key in the upper, number of the value in the lower half.
    source, target = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.uint64)
    start = np.zeros((3, _RADIX), dtype=np.int64)
    for i in range(n):
        key = np.uint64(np.int64((values[i] - low) * scale))
        source[i] = key << np.uint64(32) | np.uint64(i)
        for digit in range(3):
            start[digit, key >> np.uint64(digit * _RADIX_BITS) & np.uint64(_RADIX - 1)] += 1
    for digit in range(3):
        total = 0
        for b in range(_RADIX):
            size = start[digit, b]
            start[digit, b] = total
            total += size
        shift = np.uint64(32 + digit * _RADIX_BITS)
        for i in range(n):
            b = source[i] >> shift & np.uint64(_RADIX - 1)
            target[start[digit, b]] = source[i]
            start[digit, b] += 1
        source, target = target, source
    order = np.empty(n, dtype=np.int64)
    last = -math.inf
    for i in range(n):
        item = np.int64(source[i] & np.uint64(0xFFFFFFFF))
        value = values[item]
        place = i - 1
        if value < last:
            while place >= 0 and values[order[place]] > value:
                order[place + 1] = order[place]
                place -= 1
        else:
            last = value
        order[place + 1] = item
    return order


@compiled
def best_threshold(
    values: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    n: int,
    position: int,
    below: int,
    total: int,
    lowest: int,
    highest: int,
) -> tuple[int, int, int]:
    """Returns the best threshold with a rank in ``lowest .. highest``.

    Args:
        values: float64 sorted projections, or a part of them that holds the ranks asked for
            and every point equal to one of them.
        counts: int64, how many points share an entry.
        weights: int64, their summed weight.
        n: number of entries.
        position: rank of the first entry.
        below: summed weight of the points before it.
        total: summed weight of all points.
        lowest, highest: the ranks to try.

    Returns:
        gain, rank, and the number of points that are off (the rank itself, or the end of the
        group of equal projections that it falls into).
    """
    best_gain, best_rank, best_off = np.int64(-(2**63)), np.int64(-1), np.int64(-1)
    i = 0
    while i < n and position <= highest:
        if position >= lowest and total - below > best_gain:
            best_gain, best_rank, best_off = total - below, position, position
        first = position
        value = values[i]
        while i < n and values[i] == value:
            below += weights[i]
            position += counts[i]
            i += 1
        inside = max(first + 1, lowest)
        if inside <= min(position - 1, highest) and total - below > best_gain:
            best_gain, best_rank, best_off = total - below, inside, position
    return best_gain, best_rank, best_off


@compiled
def bias_at(values: np.ndarray, counts: np.ndarray, n: int, off: int) -> float:
    """Returns the bias of the threshold with ``off`` points off, midway between its neighbours."""
    if off == 0:
        return -values[0] + BELOW_ALL
    position = 0
    for i in range(n):
        position += counts[i]
        if position >= off:
            if i + 1 == n:
                return -values[i] - BELOW_ALL
            return -(values[i] + values[i + 1]) / 2
    return -values[n - 1] - BELOW_ALL


@compiled
def _lower_bound(values: np.ndarray, n: int, wanted: float) -> int:
    """Returns how many of the sorted ``values[:n]`` are below ``wanted``."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def window_ranks(rank: int, window: int, n: int) -> tuple[int, int]:
    """Returns the first and last of the ranks ``rank - window .. rank + window - 1`` that exist."""
    return max(0, rank - window), min(n, rank + window) - 1


@compiled
def best_coordinate(
    projections: np.ndarray,
    rows: np.ndarray,
    weights: np.ndarray,
    n: int,
    rank: int,
    window: int,
    features: np.ndarray,
    steps: np.ndarray,
    columns: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[int, int, int, int]:
    """Finds the best change of one weight of a hidden node, with a threshold for each.

    For every step s and feature f the projections become ``p + s * x[f]``; only thresholds
    with a rank near ``rank`` (:func:`window_ranks`) are tried. These are found without sorting: a
    projection moves by no more than the feature's range, so points far from the ranks asked
    for stay on their side; of the others a histogram shows which bins hold the ranks, and only
    those bins are sorted.

    Args:
        projections: float64 sorted projections before the change.
        rows: int64, row of ``columns`` of each.
        weights: int64, gain of each if it is on.
        n: number of points.
        rank, window: the ranks to try.
        features: int64 ``[F]``, in order of preference.
        steps: float64 ``[F, S]``, the changes of each feature's weight; NaN for none.
        columns: float32 ``[d, all rows]``, the inputs.
        low, high: float64 ``[d]``, range of each feature over all rows.

    Returns:
        gain, number of the feature in ``features``, number of the step, number of points off.
    """
    first_rank, last_rank = window_ranks(rank, window, n)
    smallest, largest = projections[first_rank], projections[last_rank]
    before = np.empty(n + 1, dtype=np.int64)
    before[0] = 0
    for i in range(n):
        before[i + 1] = before[i] + weights[i]
    total = before[n]
    x = np.empty(n)
    moved = np.empty(n)
    bins = np.empty(n, dtype=np.int32)
    # Neighbours often share a bin: four histograms, so that no count waits for the one before.
    histogram = np.empty((4, _BINS), dtype=np.int32)
    near = np.empty(n)
    near_weights = np.empty(n, dtype=np.int64)
    ones = np.ones(n, dtype=np.int64)
    best_gain, best = np.int64(-(2**63)), (-1, -1, -1)
    for f in range(features.size):
        feature = features[f]
        column = columns[feature]
        gathered_from = gathered_to = 0
        for s in range(steps.shape[1]):
            step = steps[f, s]
            if math.isnan(step):
                continue
            one, other = step * low[feature], step * high[feature]
            least, most = min(one, other), max(one, other)
            # Wider than rounding errors of the sums: a few points more, never one too few.
            slack = 1e-9 * (1 + abs(smallest) + abs(largest) + abs(least) + abs(most))
            reach = most - least + slack
            start = _lower_bound(projections, n, smallest - reach)
            stop = _lower_bound(projections, n, largest + reach)
            if start != gathered_from or stop != gathered_to:
                _gather(column, rows[start:stop], x)
                gathered_from, gathered_to = start, stop
            # The bins hold every point between start and stop, wherever the step moves it.
            bottom = smallest - reach + least - slack
            span = largest - smallest + 2 * reach + (most - least) + 2 * slack
            n_bins = min(_BINS, max(32, (stop - start) // 2))
            _move(projections[start:stop], x, step, bottom, n_bins / span, moved, bins)
            histogram[:, :n_bins] = 0
            _count(bins[: stop - start], histogram)
            first_bin, position = 0, start
            while position + histogram[:, first_bin].sum() <= first_rank:
                position += histogram[:, first_bin].sum()
                first_bin += 1
            last_bin, through = first_bin, position + histogram[:, first_bin].sum()
            while through <= last_rank:
                last_bin += 1
                through += histogram[:, last_bin].sum()
            below, found = _collect(
                bins[: stop - start], weights[start:stop], moved,
                np.int32(first_bin), np.int32(last_bin), near, near_weights,
            )  # fmt: skip
            below += before[start]
            _sort_together(near, near_weights, found)
            gain, _, off = best_threshold(
                near, ones, near_weights, found, position, below, total, first_rank, last_rank
            )
            # Of equal gains the first step wins, then the first feature.
            if gain > best_gain or (gain == best_gain and s < best[1]):
                best_gain, best = gain, (f, s, off)
    return best_gain, best[0], best[1], best[2]


# The loops below run over whole slices from 0: only then does the compiler use vectors.
@compiled
def _gather(column: np.ndarray, rows: np.ndarray, x: np.ndarray) -> None:
    for i in range(rows.size):
        x[i] = column[np.uint64(rows[i])]


@compiled
def _move(
    projections: np.ndarray,
    x: np.ndarray,
    step: float,
    bottom: float,
    scale: float,
    moved: np.ndarray,
    bins: np.ndarray,
) -> None:
    """Moves projections by ``step * x`` and numbers the bins that they fall into."""
    for i in range(projections.size):
        moved[i] = projections[i] + step * x[i]
        bins[i] = np.int32((moved[i] - bottom) * scale)


@compiled
def _count(bins: np.ndarray, histogram: np.ndarray) -> None:
    """Counts bins, spread over the four rows of ``histogram``."""
    for i in range(bins.size):
        histogram[i & 3, np.uint32(bins[i])] += 1


@compiled
def _collect(
    bins: np.ndarray,
    weights: np.ndarray,
    moved: np.ndarray,
    first: int,
    last: int,
    near: np.ndarray,
    near_weights: np.ndarray,
) -> tuple[int, int]:
    """Copies the points in the bins ``first .. last``.

    Returns:
        the summed weight of the bins before them, and how many points were copied.
    """
    below = np.int64(0)
    for i in range(bins.size):
        below += weights[i] if bins[i] < first else 0
    found = 0
    for i in range(bins.size):
        if first <= bins[i] <= last:
            near[found], near_weights[found] = moved[i], weights[i]
            found += 1
    return below, found


@compiled
def _sort_together(values: np.ndarray, weights: np.ndarray, n: int) -> None:
    """Sorts ``values[:n]`` ascending and ``weights`` with them."""
    if n > _FEW:
        order = np.argsort(values[:n])
        sorted_values, sorted_weights = values[:n][order], weights[:n][order]
        values[:n], weights[:n] = sorted_values, sorted_weights
        return
    for i in range(1, n):
        value, weight = values[i], weights[i]
        place = i - 1
        while place >= 0 and values[place] > value:
            values[place + 1], weights[place + 1] = values[place], weights[place]
            place -= 1
        values[place + 1], weights[place + 1] = value, weight


@compiled
def merge_step(
    values: np.ndarray,
    codes: np.ndarray,
    n: int,
    node: int,
    step: float,
    order: np.ndarray,
    moved: np.ndarray,
) -> None:
    """Sorts groups of points after ``step`` was added to the output weight of one node.

    Groups with the node off stay, the others move together: two sorted lists to merge.

    Args:
        values: float64 sorted projections of the groups on the output.
        codes: uint64 code of each group.
        n: number of groups.
        node: the hidden node.
        step: change of its output weight.
        order: int64, overwritten: group at each new place.
        moved: float64, overwritten: its new projection.
    """
    bit = np.uint64(1) << np.uint64(node)
    off = on = 0
    for place in range(n):
        while off < n and codes[off] & bit:
            off += 1
        while on < n and not codes[on] & bit:
            on += 1
        if on >= n or (off < n and values[off] <= values[on] + step):
            order[place], moved[place] = off, values[off]
            off += 1
        else:
            order[place], moved[place] = on, values[on] + step
            on += 1


@compiled
def thresholds(
    values: np.ndarray, counts: np.ndarray, n: int, lowest: int, highest: int, out: np.ndarray
) -> None:
    """Writes the thresholds of rank ``lowest .. highest`` to ``out``, ascending.

    Within a group of equal projections the threshold is that projection.
    """
    position = 0
    for i in range(n):
        for rank in range(max(position, lowest), min(position + counts[i] - 1, highest) + 1):
            if rank == 0:
                out[0] = values[0] - BELOW_ALL
            elif rank == position:
                out[rank - lowest] = (values[i - 1] + values[i]) / 2
            else:
                out[rank - lowest] = values[i]
        position += counts[i]
        if position > highest:
            return


@compiled
def logistic_loss(
    values: np.ndarray, counts: np.ndarray, ones: np.ndarray, n: int, threshold: float
) -> tuple[float, float]:
    """Returns the summed binary cross-entropy of ``sigmoid(value - threshold)``, and its slope.

    Args:
        values: float64 projections of groups of points.
        counts: int64, points of each group.
        ones: int64, how many of them have label 1.
        n: number of groups.
        threshold: minus the bias.

    Returns:
        the loss and its derivative by the threshold.
    """
    loss = slope = 0.0
    for i in range(n):
        logit = values[i] - threshold
        small = math.exp(-abs(logit))
        loss += counts[i] * (math.log1p(small) + max(logit, 0.0)) - ones[i] * logit
        sigmoid = 1 / (1 + small) if logit >= 0 else small / (1 + small)
        slope -= counts[i] * sigmoid - ones[i]
    return loss, slope


@compiled
def best_logistic_threshold(
    values: np.ndarray,
    counts: np.ndarray,
    ones: np.ndarray,
    n: int,
    candidates: np.ndarray,
    m: int,
    bound: float,
) -> tuple[float, int]:
    """Returns the least loss over sorted thresholds and the first place of its threshold.

    The loss is convex in the threshold: where its slope changes sign lies the minimum, and a
    tangent shows when none of the thresholds can be below ``bound``.

    Args:
        values, counts, ones, n: groups of points, as in :func:`logistic_loss`.
        candidates: float64 ascending thresholds.
        m: number of candidates.
        bound: only a loss below it is of interest.

    Returns:
        the loss and the place in ``candidates``; infinity and -1 if none is below ``bound``.
    """
    low, high = 0, m - 1
    best, place = bound, -1
    while low <= high:
        middle = (low + high) // 2
        loss, slope = logistic_loss(values, counts, ones, n, candidates[middle])
        if loss < best:
            best, place = loss, middle
        # What remains lies on the side where the loss falls, above the tangent.
        far = candidates[low] if slope > 0 else candidates[high]
        if loss + slope * (far - candidates[middle]) >= best:
            break
        if slope > 0:
            high = middle - 1
        else:
            low = middle + 1
    if place < 0:
        return math.inf, -1
    while place > 0 and candidates[place - 1] == candidates[place]:
        place -= 1
    return best, place
