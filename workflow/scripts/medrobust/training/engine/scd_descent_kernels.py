"""Stochastic coordinate descent of one sign network: the iteration, compiled (numba).

Signnet, section II.A and signnet-code. One network has one hidden layer of sign nodes, written
{0, 1}, and one output node. Each iteration draws rows class by class, searches the output node
(bias, then one weight with a bias), then one hidden node drawn at random (bias, then one of
some drawn weights with a bias), and scores the network on all rows; the best is kept.

Rows must be sorted so that the rows of label 1 are a range: ``Problem.first .. Problem.stop``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from medrobust.runtime.compiled import compiled
from medrobust.training.engine.scd_search_kernels import (
    argsort,
    best_coordinate,
    best_logistic_threshold,
    best_threshold,
    bias_at,
    logistic_loss,
    merge_step,
    thresholds,
    window_ranks,
)

LOSS_UNIT = 2.0**-32
"""Losses enter the integer gains of a hidden node in this unit."""

ROUNDING = 1e-6
"""Bound of the relative rounding error of an output in float32."""


class Problem(NamedTuple):
    """Data of a two-class problem.

    Attributes:
        columns: float32 ``[d, n]``, inputs, one feature after the other.
        low, high: float64 ``[d]``, range of each feature.
        first, stop: rows of label 1; all others have label 0.
    """

    columns: np.ndarray
    low: np.ndarray
    high: np.ndarray
    first: int
    stop: int


class Rules(NamedTuple):
    """Settings of the descent; see :class:`medrobust.training.scd.Spec`."""

    cross_entropy: bool
    binary_weights: bool
    row_share: float
    hidden_step: float
    output_step: float
    features: int
    window: int
    balanced_iterations: int
    median_bias: bool


class Sample(NamedTuple):
    """Rows drawn for one iteration.

    Attributes:
        rows: int64 ``[r]``, ascending.
        labels: uint8 ``[r]``.
        one, zero: what a point of label 1 and of label 0 counts if it is classified correctly, in
            units of 1 / (2 r r1 r0): a sum of these is the balanced accuracy, or accuracy plus
            balanced accuracy.
    """

    rows: np.ndarray
    labels: np.ndarray
    one: int
    zero: int


class Network(NamedTuple):
    """A network and what follows from it for all rows; changed in place.

    Attributes:
        w: float64 ``[h, d]``, weights of the hidden nodes.
        b: float64 ``[h]``, their biases.
        v: float64 ``[h]``, weights of the output node.
        c: float64 ``[1]``, its bias.
        projections: float64 ``[h, n]``, ``w @ columns``.
        codes: uint64 ``[n]``, bit j says whether node j is on.
        best_w, best_b, best_v, best_c: the best snapshot.
        best: float64 ``[4]``, its score, accuracy, balanced accuracy, and iteration.
        latest: float64 ``[3]``, objective on the drawn rows, accuracy and balanced accuracy on
            all rows after the last iteration.
    """

    w: np.ndarray
    b: np.ndarray
    v: np.ndarray
    c: np.ndarray
    projections: np.ndarray
    codes: np.ndarray
    best_w: np.ndarray
    best_b: np.ndarray
    best_v: np.ndarray
    best_c: np.ndarray
    best: np.ndarray
    latest: np.ndarray


@compiled
def project(columns: np.ndarray, w: np.ndarray, projections: np.ndarray) -> None:
    """Writes ``w @ columns``, summed feature by feature, whatever the machine."""
    projections[:] = 0.0
    for j in range(w.shape[0]):
        for f in range(w.shape[1]):
            for i in range(columns.shape[1]):
                projections[j, i] += w[j, f] * columns[f, i]


@compiled
def descend(
    problem: Problem,
    rules: Rules,
    network: Network,
    rng: np.random.Generator,
    start: int,
    stop: int,
) -> None:
    """Takes the iterations ``start .. stop - 1``.

    Args:
        problem: the data.
        rules: the settings.
        network: changed in place; before iteration 0 its weights and projections are set.
        rng: the network's own random stream.
        start: iterations taken so far.
        stop: iterations taken after this call.
    """
    n = problem.columns.shape[1]
    drawn = np.zeros(n, dtype=np.uint8)
    for iteration in range(start, stop):
        balanced = iteration < rules.balanced_iterations
        sample = _draw_rows(rng, problem, rules.row_share, balanced, drawn)
        if iteration == 0:
            _first_biases(rules, network, rng, sample)
        _update_output(rules, network, rng, sample)
        _update_hidden(problem, rules, network, rng, sample)
        _snapshot(problem, network, iteration, balanced)


@compiled
def _draw_rows(
    rng: np.random.Generator, problem: Problem, share: float, balanced: bool, drawn: np.ndarray
) -> Sample:
    """Draws ``floor(share * count)`` rows of each label, at least 2; ``drawn`` is all 0."""
    n = drawn.size
    ones = problem.stop - problem.first
    size, taken = 0, np.zeros(2, dtype=np.int64)
    for label in range(2):
        count = ones if label else n - ones
        wanted = min(max(int(share * count), 2), count)
        taken[label] = wanted
        size += wanted
        # Whichever is less is drawn: the rows to take or the rows to leave out.
        take = 2 * wanted <= count
        for _ in range(wanted if take else count - wanted):
            row = _new_row(rng, problem, drawn, label, count)
            drawn[row] = 1
        if not take:
            for row in range(n):
                if (problem.first <= row < problem.stop) == (label == 1):
                    drawn[row] = 1 - drawn[row]
    rows, labels = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.uint8)
    place = 0
    for row in range(n):
        if drawn[row]:
            rows[place] = row
            labels[place] = problem.first <= row < problem.stop
            place += 1
            drawn[row] = 0
    one, zero = size * taken[0], size * taken[1]
    if not balanced:
        one += 2 * taken[0] * taken[1]
        zero += 2 * taken[0] * taken[1]
    return Sample(rows, labels, one, zero)


@compiled
def _new_row(
    rng: np.random.Generator, problem: Problem, drawn: np.ndarray, label: int, count: int
) -> int:
    """Draws a row of a label that is not drawn yet."""
    while True:
        row = int(rng.random() * count)
        if label:
            row += problem.first
        elif row >= problem.first:
            row += problem.stop - problem.first
        if not drawn[row]:
            return row


@compiled
def _output_tables(v: np.ndarray) -> np.ndarray:
    """Returns the summed output weights of every byte of a code, float64 ``[bytes, 256]``."""
    tables = np.zeros(((v.size + 7) // 8, 256))
    for node in range(v.size):
        for byte in range(256):
            if (byte >> (node % 8)) & 1:
                tables[node // 8, byte] += v[node]
    return tables


@compiled
def _output(tables: np.ndarray, code: int) -> float:
    """Returns the projection of a code on the output node."""
    total = 0.0
    for t in range(tables.shape[0]):
        total += tables[t, (code >> np.uint64(8 * t)) & np.uint64(255)]
    return total


@compiled
def _set_codes(network: Network, node: int) -> None:
    """Brings bit ``node`` of all codes up to date."""
    bit = np.uint64(1) << np.uint64(node)
    bias = network.b[node]
    projections, codes = network.projections[node], network.codes
    for i in range(codes.size):
        codes[i] = codes[i] | bit if projections[i] + bias > 0 else codes[i] & ~bit


@compiled
def _group(
    network: Network, sample: Sample
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Joins the drawn rows with equal codes, sorted by their projection on the output.

    Returns:
        projections, codes, points, points of label 1, and gain if on, of each group.
    """
    size = sample.rows.size
    drawn = network.codes[sample.rows]
    order = argsort(drawn.astype(np.float64))
    codes = np.empty(size, dtype=np.uint64)
    counts, ones = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    groups = 0
    for i in order:
        if groups == 0 or codes[groups - 1] != drawn[i]:
            codes[groups] = drawn[i]
            groups += 1
        counts[groups - 1] += 1
        ones[groups - 1] += sample.labels[i]
    tables = _output_tables(network.v)
    values = np.empty(groups)
    for g in range(groups):
        values[g] = _output(tables, codes[g])
    order = np.argsort(values)
    counts, ones = counts[:groups][order], ones[:groups][order]
    gains = ones * sample.one - (counts - ones) * sample.zero
    return values[order], codes[:groups][order], counts, ones, gains


@compiled
def _node_gains(
    rules: Rules, network: Network, node: int, sample: Sample
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Returns what each drawn row gains if a hidden node is on for it, sorted by projection.

    Returns:
        projections on the node, rows, gains, and the objective with the node off everywhere
        (correct points by weight, or summed loss).
    """
    size = sample.rows.size
    bit = np.uint64(1) << np.uint64(node)
    tables, c = _output_tables(network.v), network.c[0]
    values, gains = np.empty(size), np.empty(size, dtype=np.int64)
    base = 0.0
    for i in range(size):
        values[i] = network.projections[node, sample.rows[i]]
        code = network.codes[sample.rows[i]]
        on, off = _output(tables, code | bit) + c, _output(tables, code & ~bit) + c
        if rules.cross_entropy:
            loss = _point_loss(off, sample.labels[i])
            gains[i] = np.int64(round((loss - _point_loss(on, sample.labels[i])) / LOSS_UNIT))
            base += loss
        else:
            weight = sample.one if sample.labels[i] else sample.zero
            right = (off > 0) == (sample.labels[i] == 1)
            gains[i] = weight * (np.int64((on > 0) == (sample.labels[i] == 1)) - np.int64(right))
            base += weight if right else 0
    order = argsort(values)
    return values[order], sample.rows[order], gains[order], base


@compiled
def _point_loss(logit: float, label: int) -> float:
    """Returns the binary cross-entropy of one point."""
    return math.log1p(math.exp(-abs(logit))) + max(logit, 0.0) - label * logit


@compiled
def _objective(rules: Rules, base: float, gain: int) -> float:
    """Returns the objective with a node on where that gains ``gain``; greater is better."""
    return gain * LOSS_UNIT - base if rules.cross_entropy else base + gain


@compiled
def _first_biases(rules: Rules, network: Network, rng: np.random.Generator, sample: Sample) -> None:
    """Sets all biases before the first iteration (signnet-code).

    Hidden nodes start at the mean of their projections (text: minus the median), the output node at
    its best threshold; then each hidden node, in random order, takes its best threshold if
    that beats the best so far, else the bias 0.
    """
    size = sample.rows.size
    hidden = network.b.size
    for node in range(hidden):
        drawn = network.projections[node][sample.rows]
        network.b[node] = -np.median(drawn) if rules.median_bias else drawn.mean()
        _set_codes(network, node)
    values, _, counts, ones, gains = _group(network, sample)
    if rules.cross_entropy:
        _, threshold, _ = _scan_logistic(values, counts, ones, size)
        network.c[0] = _output_bias(network.v, threshold)
        loss, _ = logistic_loss(values, counts, ones, values.size, -network.c[0])
        best, rounding = -loss, LOSS_UNIT * size
    else:
        gain, _, off = _scan(values, counts, gains, size)
        network.c[0] = bias_at(values, counts, values.size, off)
        best, rounding = float(gain + sample.zero * (counts - ones).sum()), 0.0
    for node in _draw(rng, hidden, hidden):
        values, _, gains, base = _node_gains(rules, network, node, sample)
        counts = np.ones(size, dtype=np.int64)
        gain, _, off = _scan(values, counts, gains, size)
        found = _objective(rules, base, gain)
        network.b[node] = 0.0
        if found > best + rounding:
            best = found
            network.b[node] = bias_at(values, counts, size, off)
        _set_codes(network, node)


@compiled
def _scan(
    values: np.ndarray, counts: np.ndarray, gains: np.ndarray, size: int
) -> tuple[int, int, int]:
    """Returns gain, rank and points off of the best of all thresholds."""
    return best_threshold(values, counts, gains, values.size, 0, 0, gains.sum(), 0, size - 1)


@compiled
def _scan_logistic(
    values: np.ndarray, counts: np.ndarray, ones: np.ndarray, size: int
) -> tuple[float, float, int]:
    """Returns least loss, threshold and rank over all thresholds."""
    candidates = np.empty(size)
    thresholds(values, counts, values.size, 0, size - 1, candidates)
    loss, rank = best_logistic_threshold(
        values, counts, ones, values.size, candidates, size, math.inf
    )
    return loss, candidates[rank], rank


@compiled
def _output_bias(v: np.ndarray, threshold: float) -> float:
    """Returns the bias of a threshold of the cross-entropy search.

    Such a threshold can lie on the projection of many rows, whose output is then exactly 0, that is
    class 0. The margin keeps them there when the sum is rounded in another way.
    """
    return -threshold - ROUNDING * (1 + abs(threshold) + np.abs(v).sum())


@compiled
def _draw(rng: np.random.Generator, n: int, wanted: int) -> np.ndarray:
    """Draws ``wanted`` of ``0 .. n - 1`` without replacement, in random order."""
    items = np.arange(n)
    for i in range(wanted):
        j = i + int(rng.random() * (n - i))
        items[i], items[j] = items[j], items[i]
    return items[:wanted]


@compiled
def _output_steps(rules: Rules, v: float) -> tuple[float, float]:
    """Returns the changes to try of one output weight; NaN for none."""
    if rules.binary_weights:
        return -2 * v, math.nan
    return rules.output_step, -rules.output_step


@compiled
def _update_output(
    rules: Rules, network: Network, rng: np.random.Generator, sample: Sample
) -> None:
    """Gives the output node its best bias, then the best change of one weight if that is better."""
    size = sample.rows.size
    values, codes, counts, ones, gains = _group(network, sample)
    groups = values.size
    if rules.cross_entropy:
        best, threshold, rank = _scan_logistic(values, counts, ones, size)
        network.c[0] = _output_bias(network.v, threshold)
        gain = np.int64(0)
    else:
        best, threshold = 0.0, 0.0
        gain, rank, off = _scan(values, counts, gains, size)
        network.c[0] = bias_at(values, counts, groups, off)
    lowest, highest = window_ranks(rank, rules.window, size)
    total = gains.sum()
    order, moved = np.empty(groups, dtype=np.int64), np.empty(groups)
    candidates = np.empty(2 * rules.window + 1)
    best_node, best_step = -1, 0.0
    nodes = _draw(rng, network.v.size, network.v.size)
    for sign in range(2):
        for node in nodes:
            step = _output_steps(rules, network.v[node])[sign]
            if math.isnan(step):
                continue
            merge_step(values, codes, groups, node, step, order, moved)
            if rules.cross_entropy:
                thresholds(moved, counts[order], groups, lowest, highest, candidates)
                loss, place = best_logistic_threshold(
                    moved, counts[order], ones[order], groups, candidates,
                    highest - lowest + 1, best,
                )  # fmt: skip
                if place >= 0:
                    best, best_node, best_step = loss, node, step
                    threshold = candidates[place]
            else:
                found, _, off = best_threshold(
                    moved, counts[order], gains[order], groups, 0, 0, total, lowest, highest
                )
                if found > gain:
                    gain, best_node, best_step = found, node, step
                    network.c[0] = bias_at(moved, counts[order], groups, off)
    if best_node >= 0:
        network.v[best_node] += best_step
        if rules.cross_entropy:
            network.c[0] = _output_bias(network.v, threshold)
        if not rules.cross_entropy and not rules.binary_weights:
            norm = math.sqrt((network.v * network.v).sum())
            network.v[:] /= norm
            network.c[0] /= norm


@compiled
def _update_hidden(
    problem: Problem, rules: Rules, network: Network, rng: np.random.Generator, sample: Sample
) -> None:
    """Gives a random hidden node its best bias, then the best change of one drawn weight."""
    size = sample.rows.size
    node = int(rng.random() * network.b.size)
    values, sorted_rows, gains, base = _node_gains(rules, network, node, sample)
    counts = np.ones(size, dtype=np.int64)
    gain, rank, off = _scan(values, counts, gains, size)
    network.b[node] = bias_at(values, counts, size, off)
    features = _draw(rng, network.w.shape[1], rules.features)
    steps = np.empty((features.size, 2))
    for f in range(features.size):
        if rules.binary_weights:
            steps[f, 0], steps[f, 1] = -2 * network.w[node, features[f]], math.nan
        else:
            steps[f, 0], steps[f, 1] = rules.hidden_step, -rules.hidden_step
    found, f, s, off = best_coordinate(
        values, sorted_rows, gains, size, rank, rules.window, features, steps,
        problem.columns, problem.low, problem.high,
    )  # fmt: skip
    if found > gain:
        gain = found
        _change_weight(problem, rules, network, node, features[f], steps[f, s], sample, off)
    _set_codes(network, node)
    network.latest[0] = _objective(rules, base, gain)
    if rules.cross_entropy:
        network.latest[0] /= -size
    else:
        ones = sample.labels.sum()
        network.latest[0] /= 2.0 * size * ones * (size - ones)


@compiled
def _change_weight(
    problem: Problem,
    rules: Rules,
    network: Network,
    node: int,
    feature: int,
    step: float,
    sample: Sample,
    off: int,
) -> None:
    """Changes one weight of a hidden node, with the bias that turns ``off`` drawn rows off."""
    projections, column = network.projections[node], problem.columns[feature]
    for i in range(projections.size):
        projections[i] += step * column[i]
    network.w[node, feature] += step
    size = sample.rows.size
    drawn = projections[sample.rows]
    network.b[node] = bias_at(drawn[argsort(drawn)], np.ones(size, dtype=np.int64), size, off)
    if not rules.cross_entropy and not rules.binary_weights:
        norm = math.sqrt((network.w[node] * network.w[node]).sum())
        network.w[node] /= norm
        network.b[node] /= norm
        projections /= norm


@compiled
def _snapshot(problem: Problem, network: Network, iteration: int, balanced: bool) -> None:
    """Scores the network on all rows and keeps it if it beats the best so far.

    The score is balanced accuracy in the first iterations and accuracy plus balanced accuracy
    afterwards, against the same best, so that a later network replaces an early one.
    """
    tables, c, codes = _output_tables(network.v), network.c[0], network.codes
    on = np.int64(0)
    for i in range(codes.size):
        on += _output(tables, codes[i]) + c > 0
    right = np.int64(0)
    for i in range(problem.first, problem.stop):
        right += _output(tables, codes[i]) + c > 0
    ones = problem.stop - problem.first
    zeros = codes.size - ones
    right_zeros = zeros - (on - right)
    accuracy = (right + right_zeros) / codes.size
    both = (right / ones + right_zeros / zeros) / 2
    network.latest[1], network.latest[2] = accuracy, both
    score = both if balanced else accuracy + both
    if score > network.best[0]:
        network.best[0], network.best[1] = score, accuracy
        network.best[2], network.best[3] = both, iteration
        network.best_w[:], network.best_b[:] = network.w, network.b
        network.best_v[:], network.best_c[:] = network.v, network.c
