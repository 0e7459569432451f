"""Plain reference of SCD01 and SCDCE: the oracle of the tests of the compiled training.

Sign networks trained by stochastic coordinate descent (Yang et al., section II-A; the algorithm as
the authors' code runs it). A network maps a row x ``[d]`` to a hidden code ``h [k]`` in {0, 1}, on
where ``x @ W + b > 0``, and to class 1 where ``h @ v + c > 0``. SCD01 searches the accuracy of
that, SCDCE the cross-entropy of ``sigmoid(h @ v + c)``. Everything is float64.

- ``best_*`` evaluate the whole network for every alternative. Slow: for tiny problems.
- ``search_*`` find the same by sorting and counting. ``train`` uses them.

Conventions of both:

- Of alternatives with equal objective the first wins. Thresholds: lowest rank first. Moves: all
  additions in the order of the coordinates, then all subtractions; ranks within each.
- Equal neighbours among the projections make a threshold that lies on them: ``p - p > 0`` is false,
  so all of them are off. With such a tie at the top, every row is off.
- Sums run in index order (:func:`project`), so equal rows have equal projections to the last bit,
  whatever their position. A matrix product by BLAS does not promise that.

The authors' code differs in details that are not repeated here: it ranks tied rows in the order in
which they happen to be sorted, changes the search's objective one iteration after the snapshot's,
gives a window's lowest rank the bias of rank 0, rates (SCDCE) rank 0 at a margin of 0.05 but
stores 0.01, and sets a hidden unit to 0.5 at exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np

Kind = Literal["scd01", "scdce"]
Phase = Literal["balanced", "both"]

MARGIN = 0.01
"""How far below the smallest projection the threshold of rank 0 lies."""


class Network(NamedTuple):
    """One vote: W ``[d, k]``, b ``[k]``, v ``[k]`` float64, and the output bias c."""

    W: np.ndarray
    b: np.ndarray
    v: np.ndarray
    c: float


class Threshold(NamedTuple):
    """A threshold by its rank, and the objective that it gives."""

    rank: int
    objective: float


class Move(NamedTuple):
    """A changed weight: its coordinate, the change's sign (+1, -1), the rank of the threshold."""

    coordinate: int
    sign: int
    rank: int
    objective: float


# ------------------------------------------------------------------------- the network


def project(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Returns ``x @ w`` for x ``[n, d]`` and w ``[d]`` or ``[d, m]``, summed in index order."""
    total = np.zeros((len(x), *w.shape[1:]))
    for k in range(x.shape[1]):
        total += np.multiply.outer(x[:, k], w[k])
    return total


def hidden_code(X: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the hidden code of the rows of X: float64 ``[n, k]``, 0 or 1 (0 at exactly 0)."""
    return (project(X, W) + b > 0).astype(np.float64)


def logits(network: Network, X: np.ndarray) -> np.ndarray:
    """Returns ``h @ v + c`` for each row of X ``[n, d]``."""
    return project(hidden_code(X, network.W, network.b), network.v) + network.c


def predict(network: Network, X: np.ndarray) -> np.ndarray:
    """Returns the classes of the rows of X: int64 ``[n]``. A logit of exactly 0 is class 0."""
    return (logits(network, X) > 0).astype(np.int64)


def predict_votes(networks: Sequence[Network], X: np.ndarray) -> np.ndarray:
    """Returns the majority class of the networks' rounded votes; a tie is class 0."""
    ones = sum(predict(network, X) for network in networks)
    return (2 * ones > len(networks)).astype(np.int64)


# ------------------------------------------------------------------------- the objective


def objective(logit: np.ndarray, y: np.ndarray, kind: Kind, phase: Phase) -> float:
    """Returns what the search maximises (SCD01) or minimises (SCDCE) over rows with labels y.

    SCD01: balanced accuracy in the phase "balanced", accuracy + balanced accuracy in "both".
    SCDCE: mean binary cross-entropy, whatever the phase.
    """
    if kind == "scdce":
        return float(np.mean(cross_entropy(logit, y)))
    return accuracy_score(logit, y, phase)


def cross_entropy(logit: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns -log of the probability of class y, for each logit."""
    z = np.where(y == 1, -1.0, 1.0) * logit
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def accuracy_score(logit: np.ndarray, y: np.ndarray, phase: Phase) -> float:
    """Returns balanced accuracy, or accuracy + balanced accuracy (phase "both"), of the logits."""
    on = logit > 0
    counts = np.sum(on & (y == 1)), np.sum(~on & (y == 0)), np.sum(y == 1), np.sum(y == 0)
    return float(accuracy_from_counts(*(int(count) for count in counts), phase))


def accuracy_from_counts(
    true_positives: np.ndarray | int,
    true_negatives: np.ndarray | int,
    positives: int,
    negatives: int,
    phase: Phase,
) -> np.ndarray | float:
    """Returns the score of :func:`accuracy_score` from counts of rows.

    The fractions are added as integers over their common denominator, so that scores that are
    equal are equal floats.
    """
    balanced = true_positives * negatives + true_negatives * positives
    denominator = 2 * positives * negatives
    if phase == "balanced":
        return balanced / denominator
    n = positives + negatives
    return (balanced * n + (true_positives + true_negatives) * denominator) / (denominator * n)


def better(one: float, other: float, kind: Kind) -> bool:
    """Whether objective ``one`` is strictly better than ``other``."""
    return one > other if kind == "scd01" else one < other


Alternative = TypeVar("Alternative", Threshold, Move)


def first_best(alternatives: Iterable[Alternative], kind: Kind) -> Alternative:
    """Returns the alternative of best objective; of equal ones the first."""
    pick = max if kind == "scd01" else min
    return pick(alternatives, key=lambda alternative: alternative.objective)


# ------------------------------------------------------------------------- alternatives


def threshold(projections_sorted: np.ndarray, rank: int) -> float:
    """Returns the bias at which rows from ``rank`` on are on; rank 0: every row."""
    if rank == 0:
        return -projections_sorted[0] + MARGIN
    return -(projections_sorted[rank - 1] + projections_sorted[rank]) / 2


def window_ranks(rank: int, window: int, n: int) -> range:
    """Returns the ranks from ``rank - window`` to ``rank + window - 1`` that exist."""
    return range(max(0, rank - window), min(n, rank + window))


def moves(w: np.ndarray, coordinates: Iterable[int], binary: bool) -> list[tuple[int, int]]:
    """Returns (coordinate, sign) of the candidates: both signs, or the flip of a binary weight."""
    coordinates = [int(k) for k in coordinates]
    if binary:
        return [(k, -1 if w[k] > 0 else 1) for k in coordinates]
    return [(k, sign) for sign in (1, -1) for k in coordinates]


def moved(w: np.ndarray, k: int, sign: int, inc: float, kind: Kind, binary: bool) -> np.ndarray:
    """Returns a copy of w ``[d]`` with coordinate k changed.

    Real weights: ``sign * inc`` is added, and for SCD01 the vector is scaled to unit length.
    Binary weights (-1 or 1, never scaled): the weight becomes ``sign``.
    """
    w = w.copy()
    if binary:
        w[k] = sign
        return w
    w[k] += sign * inc
    return unit(w) if kind == "scd01" else w


def unit(w: np.ndarray) -> np.ndarray:
    """Returns w ``[d]`` or the columns of w ``[d, m]`` scaled to length 1."""
    return w / np.sqrt(np.sum(w * w, axis=0))


# ------------------------------------------------------------------------- brute force


def best_output_threshold(
    H: np.ndarray, v: np.ndarray, y: np.ndarray, kind: Kind, phase: Phase
) -> Threshold:
    """Returns the best of all n thresholds of the output node, given codes H ``[n, k]``."""
    sums = project(H, v)
    ordered = np.sort(sums)
    return first_best(
        (
            Threshold(rank, objective(sums + threshold(ordered, rank), y, kind, phase))
            for rank in range(len(y))
        ),
        kind,
    )


def best_output_move(
    H: np.ndarray,
    v: np.ndarray,
    c_rank: int,
    y: np.ndarray,
    inc: float,
    window: int,
    kind: Kind,
    phase: Phase,
    *,
    binary: bool = False,
    order: Sequence[int] | None = None,
) -> Move:
    """Returns the best change of one output weight, with thresholds around ``c_rank``.

    ``order`` is the order of the coordinates, which decides between equals; default 0, 1, ...
    """

    def alternatives() -> Iterator[Move]:
        for k, sign in moves(v, range(len(v)) if order is None else order, binary):
            sums = project(H, moved(v, k, sign, inc, kind, binary))
            ordered = np.sort(sums)
            for rank in window_ranks(c_rank, window, len(y)):
                value = objective(sums + threshold(ordered, rank), y, kind, phase)
                yield Move(k, sign, rank, value)

    return first_best(alternatives(), kind)


def best_hidden_threshold(
    X: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    v: np.ndarray,
    c: float,
    j: int,
    y: np.ndarray,
    kind: Kind,
    phase: Phase,
) -> Threshold:
    """Returns the best of all n thresholds of hidden node j; the rest of the network stays."""
    ordered = np.sort(project(X, W[:, j]))
    return first_best(
        (
            Threshold(rank, _with_node(X, W, b, v, c, j, W[:, j], ordered, rank, y, kind, phase))
            for rank in range(len(y))
        ),
        kind,
    )


def best_hidden_move(
    X: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    v: np.ndarray,
    c: float,
    j: int,
    features: Sequence[int],
    inc: float,
    window: int,
    y: np.ndarray,
    kind: Kind,
    phase: Phase,
    *,
    binary: bool = False,
    rank: int | None = None,
) -> Move:
    """Returns the best change of one weight of hidden node j among ``features``.

    ``rank`` is the middle of the window of thresholds; default: the best of the full scan.
    """
    if rank is None:
        rank = best_hidden_threshold(X, W, b, v, c, j, y, kind, phase).rank

    def alternatives() -> Iterator[Move]:
        for k, sign in moves(W[:, j], features, binary):
            w = moved(W[:, j], k, sign, inc, kind, binary)
            ordered = np.sort(project(X, w))
            for r in window_ranks(rank, window, len(y)):
                value = _with_node(X, W, b, v, c, j, w, ordered, r, y, kind, phase)
                yield Move(k, sign, r, value)

    return first_best(alternatives(), kind)


def _with_node(X, W, b, v, c, j, w, ordered, rank, y, kind, phase) -> float:
    """The objective of the network whose node j has weights w and the threshold of that rank."""
    W, b = W.copy(), b.copy()
    W[:, j], b[j] = w, threshold(ordered, rank)
    return objective(logits(Network(W, b, v, c), X), y, kind, phase)


# ------------------------------------------------------------------------- the same by sorting


def thresholds(projections_sorted: np.ndarray) -> np.ndarray:
    """Returns the biases of all ranks, as :func:`threshold` gives them one by one."""
    midpoints = -(projections_sorted[:-1] + projections_sorted[1:]) / 2
    return np.concatenate([[-projections_sorted[0] + MARGIN], midpoints])


def first_on(projections_sorted: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Returns for each bias the number of rows that are off (p + bias > 0 just if p > -bias)."""
    return np.searchsorted(projections_sorted, -biases, side="right")


def before(values: np.ndarray) -> np.ndarray:
    """Returns the sums of the first 0, 1, ..., n values."""
    return np.concatenate([[0], np.cumsum(values)])


def output_objectives(
    sums: np.ndarray, y: np.ndarray, ranks: range, kind: Kind, phase: Phase
) -> np.ndarray:
    """Returns the objective at each rank, from each row's sum of output weights."""
    order = np.argsort(sums, kind="stable")
    ordered, labels = sums[order], y[order]
    biases = thresholds(ordered)[ranks.start : ranks.stop]
    if kind == "scdce":
        return np.mean(cross_entropy(ordered + biases[:, None], labels), axis=1)
    off = first_on(ordered, biases)
    positives = int(labels.sum())
    missed = before(labels)[off]
    return accuracy_from_counts(
        positives - missed, off - missed, positives, len(y) - positives, phase
    )


def hidden_objectives(
    sums: np.ndarray,
    logit_off: np.ndarray,
    logit_on: np.ndarray,
    y: np.ndarray,
    ranks: range,
    kind: Kind,
    phase: Phase,
) -> np.ndarray:
    """Returns the objective at each rank, from each row's logit with the node off and on."""
    order = np.argsort(sums, kind="stable")
    ordered, labels = sums[order], y[order]
    logit_off, logit_on = logit_off[order], logit_on[order]
    off = first_on(ordered, thresholds(ordered)[ranks.start : ranks.stop])

    def total(if_off: np.ndarray, if_on: np.ndarray) -> np.ndarray:
        return before(if_off)[off] + (if_on.sum() - before(if_on)[off])

    if kind == "scdce":
        return total(cross_entropy(logit_off, labels), cross_entropy(logit_on, labels)) / len(y)
    positive = labels == 1
    hits = total((logit_off > 0) & positive, (logit_on > 0) & positive)
    rejections = total((logit_off <= 0) & ~positive, (logit_on <= 0) & ~positive)
    positives = int(positive.sum())
    return accuracy_from_counts(hits, rejections, positives, len(y) - positives, phase)


def search_output_threshold(
    H: np.ndarray, v: np.ndarray, y: np.ndarray, kind: Kind, phase: Phase
) -> Threshold:
    """Returns what :func:`best_output_threshold` returns."""
    values = output_objectives(project(H, v), y, range(len(y)), kind, phase)
    rank = _first_best_index(values, kind)
    return Threshold(rank, float(values[rank]))


def search_output_move(
    H: np.ndarray,
    v: np.ndarray,
    c_rank: int,
    y: np.ndarray,
    inc: float,
    window: int,
    kind: Kind,
    phase: Phase,
    *,
    binary: bool = False,
    order: Sequence[int] | None = None,
) -> Move:
    """Returns what :func:`best_output_move` returns."""
    candidates = moves(v, range(len(v)) if order is None else order, binary)
    weights = np.stack([moved(v, k, sign, inc, kind, binary) for k, sign in candidates], axis=1)
    ranks = window_ranks(c_rank, window, len(y))
    return _best_of(
        candidates,
        project(H, weights),
        ranks,
        kind,
        lambda sums: output_objectives(sums, y, ranks, kind, phase),
    )


def search_hidden_threshold(
    X: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    v: np.ndarray,
    c: float,
    j: int,
    y: np.ndarray,
    kind: Kind,
    phase: Phase,
) -> Threshold:
    """Returns what :func:`best_hidden_threshold` returns."""
    off_on = _logits_off_and_on(X, W, b, v, c, j)
    values = hidden_objectives(project(X, W[:, j]), *off_on, y, range(len(y)), kind, phase)
    rank = _first_best_index(values, kind)
    return Threshold(rank, float(values[rank]))


def search_hidden_move(
    X: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    v: np.ndarray,
    c: float,
    j: int,
    features: Sequence[int],
    inc: float,
    window: int,
    y: np.ndarray,
    kind: Kind,
    phase: Phase,
    *,
    binary: bool = False,
    rank: int | None = None,
) -> Move:
    """Returns what :func:`best_hidden_move` returns."""
    if rank is None:
        rank = search_hidden_threshold(X, W, b, v, c, j, y, kind, phase).rank
    candidates = moves(W[:, j], features, binary)
    columns = [moved(W[:, j], k, sign, inc, kind, binary) for k, sign in candidates]
    ranks = window_ranks(rank, window, len(y))
    off_on = _logits_off_and_on(X, W, b, v, c, j)
    return _best_of(
        candidates,
        project(X, np.stack(columns, axis=1)),
        ranks,
        kind,
        lambda sums: hidden_objectives(sums, *off_on, y, ranks, kind, phase),
    )


def _logits_off_and_on(X, W, b, v, c, j) -> tuple[np.ndarray, np.ndarray]:
    H = hidden_code(X, W, b)
    H[:, j] = 0
    off = project(H, v) + c
    H[:, j] = 1
    return off, project(H, v) + c


def _best_of(
    candidates: list[tuple[int, int]],
    sums: np.ndarray,
    ranks: range,
    kind: Kind,
    objectives: Callable[[np.ndarray], np.ndarray],
) -> Move:
    """The first best of candidates x ranks, from each candidate's sums ``[n, candidates]``."""
    values = np.stack([objectives(sums[:, i]) for i in range(len(candidates))])
    i, r = np.unravel_index(_first_best_index(values, kind), values.shape)
    return Move(*candidates[i], ranks[r], float(values[i, r]))


def _first_best_index(values: np.ndarray, kind: Kind) -> int:
    return int(np.argmax(values) if kind == "scd01" else np.argmin(values))


# ------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Settings:
    """Settings of one vote; the defaults are the authors' for images (0.25 rows for ECG)."""

    kind: Kind
    row_share: float = 0.75
    step_hidden: float = 0.17
    step_output: float = 0.2
    hidden_units: int = 20
    iterations: int = 1000
    features_per_iteration: int = 128
    window: int = 20
    balanced_share: float = 0.2
    binary: bool = False


class Iteration(NamedTuple):
    """One iteration: objectives on its rows, score on all rows, whether it became the snapshot.

    ``output`` and ``hidden`` hold the objective after the full scan and after the moves of that
    node. The score is always of the accuracy type, for SCDCE too.
    """

    phase: Phase
    output: tuple[float, float]
    hidden: tuple[float, float]
    score: float
    kept: bool


class Vote(NamedTuple):
    """A trained network (the best snapshot) and the history of its training."""

    network: Network
    history: list[Iteration]


def train_votes(
    x: np.ndarray, y: np.ndarray, kind: Kind, votes: int, seed: int, **settings
) -> list[Network]:
    """Returns independent votes; vote i is ``train`` with the seed ``[seed, i]``."""
    return [train(x, y, kind, [seed, i], **settings).network for i in range(votes)]


def train(x: np.ndarray, y: np.ndarray, kind: Kind, seed: int | Sequence[int], **settings) -> Vote:
    """Trains one vote on x float64 ``[n, d]`` with labels y int64 ``[n]``, 0 or 1.

    Args:
        settings: fields of :class:`Settings`.

    Raises:
        ValueError: a class has fewer than 2 rows, or more features are asked for than x has.
    """
    s = Settings(kind, **settings)
    rng = np.random.default_rng(seed)
    network = initial_weights(x.shape[1], s, rng)
    snapshot, best, history = network, -math.inf, []
    for iteration in range(s.iterations):
        phase = phase_of(iteration, s)
        rows = sample_rows(y, s.row_share, rng)
        if iteration == 0:
            network = initial_biases(network, x[rows], y[rows], phase, s, rng)
        network, output = improve_output(network, x[rows], y[rows], phase, s, rng)
        network, hidden = improve_hidden(network, x[rows], y[rows], phase, s, rng)
        score = accuracy_score(logits(network, x), y, phase)
        # The best of the first phase (at most 1) stands against scores up to 2 in the second.
        kept = score > best
        if kept:
            snapshot, best = network, score
        history.append(Iteration(phase, output, hidden, score, kept))
    return Vote(snapshot, history)


def phase_of(iteration: int, s: Settings) -> Phase:
    """Returns "balanced" for the first ``balanced_share`` of the iterations, then "both"."""
    return "balanced" if iteration < int(s.iterations * s.balanced_share) else "both"


def sample_rows(y: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draws floor(share * count) rows, at least 2, of each class without replacement."""
    drawn = []
    for label in (1, 0):
        rows = np.flatnonzero(y == label)
        if len(rows) < 2:
            raise ValueError(f"class {label} has {len(rows)} rows; at least 2 are needed")
        drawn.append(rng.choice(rows, max(2, math.floor(share * len(rows))), replace=False))
    return np.concatenate(drawn)


def initial_weights(d: int, s: Settings, rng: np.random.Generator) -> Network:
    """Draws W and v from N(0, 1), each node of unit length; binary: only their signs."""
    W, v = rng.normal(size=(d, s.hidden_units)), rng.normal(size=s.hidden_units)
    W, v = (np.sign(W), np.sign(v)) if s.binary else (unit(W), unit(v))
    return Network(W, np.zeros(s.hidden_units), v, 0.0)


def initial_biases(
    network: Network,
    X: np.ndarray,
    y: np.ndarray,
    phase: Phase,
    s: Settings,
    rng: np.random.Generator,
) -> Network:
    """Sets c by a full scan with hidden biases at the mean projection, then each hidden bias.

    The hidden nodes follow in random order. A node's best threshold is taken if it beats the best
    objective so far; otherwise its bias becomes 0, and the best so far stays as it was.
    """
    W, _, v, _ = network
    b = project(X, W).mean(axis=0)
    H = hidden_code(X, W, b)
    rank, best = search_output_threshold(H, v, y, s.kind, phase)
    c = threshold(np.sort(project(H, v)), rank)
    for j in rng.permutation(s.hidden_units):
        found = search_hidden_threshold(X, W, b, v, c, j, y, s.kind, phase)
        if better(found.objective, best, s.kind):
            b[j], best = threshold(np.sort(project(X, W[:, j])), found.rank), found.objective
        else:
            b[j] = 0
    return Network(W, b, v, c)


def improve_output(
    network: Network,
    X: np.ndarray,
    y: np.ndarray,
    phase: Phase,
    s: Settings,
    rng: np.random.Generator,
) -> tuple[Network, tuple[float, float]]:
    """Re-searches c, then tries one change of one output weight, kept if strictly better."""
    W, b, v, _ = network
    H = hidden_code(X, W, b)
    rank, scanned = search_output_threshold(H, v, y, s.kind, phase)
    order = rng.permutation(s.hidden_units)
    move = search_output_move(
        H, v, rank, y, s.step_output, s.window, s.kind, phase, binary=s.binary, order=order
    )
    reached = scanned
    if better(move.objective, scanned, s.kind):
        v = moved(v, move.coordinate, move.sign, s.step_output, s.kind, s.binary)
        rank, reached = move.rank, move.objective
    c = threshold(np.sort(project(H, v)), rank)
    return Network(W, b, v, c), (scanned, reached)


def improve_hidden(
    network: Network,
    X: np.ndarray,
    y: np.ndarray,
    phase: Phase,
    s: Settings,
    rng: np.random.Generator,
) -> tuple[Network, tuple[float, float]]:
    """Re-searches one random node's bias, then tries one change of one of its weights."""
    W, b, v, c = network
    W, b = W.copy(), b.copy()
    j = rng.integers(s.hidden_units)
    rank, scanned = search_hidden_threshold(X, W, b, v, c, j, y, s.kind, phase)
    features = rng.choice(X.shape[1], s.features_per_iteration, replace=False)
    move = search_hidden_move(
        *(X, W, b, v, c, j, features, s.step_hidden, s.window, y, s.kind, phase),
        binary=s.binary,
        rank=rank,
    )
    reached = scanned
    if better(move.objective, scanned, s.kind):
        W[:, j] = moved(W[:, j], move.coordinate, move.sign, s.step_hidden, s.kind, s.binary)
        rank, reached = move.rank, move.objective
    b[j] = threshold(np.sort(project(X, W[:, j])), rank)
    return Network(W, b, v, c), (scanned, reached)


# ------------------------------------------------------------------------- data


def linear_boundary(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws rows in [0, 1]^d on two sides of a random hyperplane, with noise on the score.

    Returns:
        x float64 ``[n, d]``, each value exact in float32 too, and y int64 ``[n]``: 40 % ones
        (rounded down). Rows of training and test must come from one call.
    """
    rng = np.random.default_rng(seed)
    x = rng.random((n, d), dtype=np.float32).astype(np.float64)
    score = (x - 0.5) @ unit(rng.normal(size=d)) * math.sqrt(12)
    score += 0.3 * rng.normal(size=n)
    y = np.zeros(n, np.int64)
    y[np.argsort(score)[n - 2 * n // 5 :]] = 1
    return x, y
