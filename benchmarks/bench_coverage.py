"""How often the intervals of the tables cover the truth, in simulations whose truth is known.

Every kind of interval that a table prints: shares of test points, means and medians of distances,
accuracy and precision on a balanced test set, gains of an attack, each of one training and of
three to five that share their points; and what one further training gives. Of the cases of a
kind the worst is printed, with what chance may have taken off it.

    PYTHONPATH=workflow/scripts python benchmarks/bench_coverage.py [--trials 2000]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from medrobust.evaluation import balanced, effort, intervals, statistics
from medrobust.evaluation.balanced import Cells

BAR = 0.93
#: Resamples of an interval: fewer than the tables' 9,999 move its ends by little.
RESAMPLES = 999

Trial = Callable[[np.random.Generator], bool]
"""Draws data, makes an interval; whether it holds the truth."""


def inside(low: float | None, high: float | None, truth: float) -> bool:
    """Tells whether an interval holds the truth; one that does not exist claims nothing."""
    return low is None or high is None or low <= truth <= high


# --- shares -----------------------------------------------------------------------------


def share(n: int, truth: float, replicates: int, points_sd: float, sd: float) -> Trial:
    """A share of n points; trainings and points differ normally in their chance."""

    def trainings(random: np.random.Generator, k: int, hard: np.ndarray) -> np.ndarray:
        better = random.normal(0, sd, (k, 1))
        return (random.random((k, n)) < truth + hard + better).sum(axis=1)

    def trial(random: np.random.Generator) -> bool:
        right = trainings(random, replicates, random.normal(0, points_sd, n))
        found = statistics.accuracy_estimate(right.tolist(), n)
        return inside(found.ci_low, found.ci_high, truth)

    return trial


def further(n: int, truth: float, replicates: int, points_sd: float, sd: float) -> Trial:
    """The share of one further training on other points."""

    def draw(random: np.random.Generator, k: int) -> np.ndarray:
        hard, better = random.normal(0, points_sd, n), random.normal(0, sd, (k, 1))
        return (random.random((k, n)) < truth + hard + better).sum(axis=1)

    def trial(random: np.random.Generator) -> bool:
        found = statistics.accuracy_estimate(draw(random, replicates).tolist(), n)
        return inside(found.further_low, found.further_high, draw(random, 1)[0] / n)

    return trial


def shares() -> Iterator[tuple[str, str, Trial]]:
    """Yields cases of shares; those of one training at shares near 0 as well."""
    for n in (20, 60, 200, 2000):
        for truth in (0.2 / n, 1 / n, 0.05, 0.3, 0.5, 0.9):
            yield "share, one training", f"{truth:.4f} of {n}", share(n, truth, 1, 0.0, 0.0)
    for k in (3, 4, 5):
        for points_sd, sd in ((0.15, 0.0), (0.15, 0.02), (0.15, 0.08), (0.0, 0.05)):
            name = f"{k} trainings, sd of points {points_sd}, of trainings {sd}"
            yield f"share, {k} trainings", name, share(400, 0.6, k, points_sd, sd)
            yield "share of one further training", name, further(400, 0.6, k, points_sd, sd)


# --- distances --------------------------------------------------------------------------

POPULATIONS: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], float, float]] = {
    "exponential": (lambda r, n: r.exponential(size=n), 1.0, float(np.log(2))),
    "log-normal .5": (lambda r, n: np.exp(0.5 * r.standard_normal(n)), float(np.exp(0.125)), 1.0),
    "log-normal .8": (lambda r, n: np.exp(0.8 * r.standard_normal(n)), float(np.exp(0.32)), 1.0),
    "a fifth wrong without attack": (
        lambda r, n: r.exponential(size=n) * (r.random(n) > 0.2),
        0.8,
        float(np.log(1.6)),
    ),
}
"""Name -> draws of n distances, their mean, their median."""


def distance(name: str, n: int, replicates: int, sd: float, statistic: str) -> Trial:
    """A mean or median distance; the trainings' distances differ by a factor."""
    draw, mean, median = POPULATIONS[name]
    estimate = {"mean": statistics.mean_estimate, "median": statistics.median_estimate}[statistic]
    truth = (mean if statistic == "mean" else median) * float(np.exp(sd**2 / 2))

    def trial(random: np.random.Generator) -> bool:
        factors = np.exp(random.normal(0, sd, (replicates, 1)))
        values = list(draw(random, n) * factors)
        found = estimate(values, generator=random, resamples=RESAMPLES)
        return inside(found.ci_low, found.ci_high, truth)

    return trial


def gain(n: int, replicates: int, sd: float) -> Trial:
    """The gain of more restarts: a tenth on average, more at some points than at others."""

    def trial(random: np.random.Generator) -> bool:
        before = random.exponential(size=n)
        after = before * random.uniform(0.8, 1.0, n)
        factors = 1 + random.normal(0, sd, (replicates, 1))
        found = effort.relative_gain(
            [before] * replicates, list(after * factors), generator=random, resamples=RESAMPLES
        )
        return inside(*found[1:], 0.1)

    return trial


def distances() -> Iterator[tuple[str, str, Trial]]:
    """Yields cases of distances."""
    for statistic in ("mean", "median"):
        for name in POPULATIONS:
            for n in (21, 37, 100):
                case = f"{name}, {n} points"
                yield f"{statistic}, one training", case, distance(name, n, 1, 0.0, statistic)
            for k in (3, 5):
                case = f"{name}, 37 points, {k} trainings"
                yield f"{statistic}, 3 and 5 trainings", case, distance(name, 37, k, 0.2, statistic)
    for k, sd in ((1, 0.0), (3, 0.02), (5, 0.02)):
        yield "gain of an attack", f"21 points, {k} trainings", gain(21, k, sd)


# --- balanced test sets -----------------------------------------------------------------


def balanced_metric(
    metric: str, sizes: tuple[int, ...], right: tuple[float, ...], replicates: int, sd: float
) -> Trial:
    """Accuracy or precision where wrong predictions go to the next class most often."""
    mean = np.array(right)
    elsewhere = np.array([0, 0.7, 0.1, 0.1, 0.1])

    def rows(shares: np.ndarray) -> np.ndarray:
        matrix = np.stack([(1 - s) * np.roll(elsewhere, k) for k, s in enumerate(shares)])
        matrix[np.arange(5), np.arange(5)] = shares
        return matrix

    # Of trainings that differ the truth is a mean, found once.
    better = np.random.default_rng(0).normal(0, sd, 20_000 if sd else 1)
    every = np.stack([rows(np.clip(mean + one, 0, 1)) for one in better])
    truth = float(balanced.METRICS[metric](every).mean())
    weights = np.rint(max(sizes) / np.array(sizes)).astype(np.int64)

    def trial(random: np.random.Generator) -> bool:
        trainings = []
        for better in random.normal(0, sd, replicates):
            shares = rows(np.clip(mean + better, 0, 1))
            counts = np.stack(
                [random.multinomial(n, p) for n, p in zip(sizes, shares, strict=True)]
            )
            label, prediction = np.nonzero(counts)
            trainings.append(Cells(label, prediction, weights[label], counts[label, prediction]))
        found = balanced.metric_estimate(trainings, metric, 5, random, RESAMPLES)
        return inside(found.ci_low, found.ci_high, truth)

    return trial


def metrics() -> Iterator[tuple[str, str, Trial]]:
    """Yields cases of both metrics: SPSA's first points of each class, and whole test sets."""
    levels = {
        "clean": (0.98, 0.6, 0.9, 0.75, 0.97),
        "half": (0.5, 0.5, 0.5, 0.5, 0.5),
        "nearly all wrong": (0.02, 0.0, 0.01, 0.0, 0.05),
    }
    for metric in balanced.METRICS:
        for name, right in levels.items():
            for sizes in ((12,) * 5, (162,) * 5, (1812, 56, 145, 16, 161)):
                case = f"{name}, {'/'.join(map(str, sizes))} points"
                kind = f"{metric} of the balanced set, one training"
                yield kind, case, balanced_metric(metric, sizes, right, 1, 0.0)
            kind = f"{metric} of the balanced set, 3 and 4 trainings"
            for k in (3, 4):
                if name != "nearly all wrong":
                    case = f"{name}, {k} trainings"
                    yield kind, case, balanced_metric(metric, (162,) * 5, right, k, 0.02)


def folds() -> Iterator[tuple[str, str, Trial]]:
    """Yields cases of folds whose models are independent; real folds share training points."""
    for k in (3, 5, 10):
        for truth, sd in ((0.8, 0.03), (0.97, 0.0)):

            def trial(
                random: np.random.Generator, k: int = k, truth: float = truth, sd: float = sd
            ) -> bool:
                right = random.binomial(50, np.clip(random.normal(truth, sd, k), 0, 1))
                found = statistics.fold_estimate(
                    (right / 50).tolist(),
                    n=50 * k,
                    points=intervals.share_interval(int(right.sum()), 50 * k),
                    limits=(0.0, 1.0),
                )
                return inside(found.ci_low, found.ci_high, truth)

            yield "folds, independent", f"{k} folds, {truth}", trial


def main() -> None:
    """Prints the worst case of each kind of interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000, help="data sets drawn for each case")
    trials = parser.parse_args().trials
    worst: dict[str, tuple[float, str, int]] = {}
    for kind, case, trial in (*shares(), *distances(), *metrics(), *folds()):
        hits = [trial(np.random.default_rng([k, len(case)])) for k in range(trials)]
        least, where, cases = worst.get(kind, (2.0, "", 0))
        covered = float(np.mean(hits))
        worst[kind] = (*min((least, where), (covered, case)), cases + 1)
    chance = 2 * np.sqrt(BAR * (1 - BAR) / trials)
    print(f"{'interval':<45} cases  least coverage (bar {BAR}, chance ±{chance:.3f})")
    for kind, (covered, case, cases) in worst.items():
        print(f"{kind:<45} {cases:5d}  {covered:.3f}  {case}")


if __name__ == "__main__":
    main()
