"""Stochastic coordinate descent: time of a vote-iteration, growth with rows, accuracy of 100 votes.

The data are generated heartbeats of 187 values. A vote-iteration is one iteration of one
network; the time is wall time divided by networks and iterations, with networks trained side by
side in ``--threads`` threads, so members in parallel count. The baseline is a plain NumPy version
of the same algorithm (tests/scd_reference.py); the authors' code took 1.7 to 3.0 s for the first
line on two cores.

    python benchmarks/bench_scd.py [--threads 2] [--iterations 200]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from medrobust.data.standins.ecg import ecg_standin
from medrobust.models import sign_network
from medrobust.models.ensembles import build_ensemble
from medrobust.training import scd
from medrobust.training.engine.work import Trained, Work

from tests import scd_reference

PTBDB_ROWS, MITBIH_ROWS = 13_096, 87_554
BAR_SECONDS = 0.012
KINDS = {"SCD01": "zero_one", "SCDCE": "cross_entropy"}


def heartbeats(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns generated rows of two classes: x float32 ``[rows, 187]`` and labels."""
    data = ecg_standin(rows, 10, ["normal", "abnormal"], seed=0)
    return data.x[:rows], data.y[:rows]


def train(kind: str, x: np.ndarray, y: np.ndarray, votes: int, threads: int, **settings) -> Trained:
    """Trains ``votes`` networks with 20 hidden units."""
    work = Work(x, y, 2, list(range(votes)), list(range(votes)), threads=threads)
    spec = scd.Spec(loss=KINDS[kind], **settings)
    return scd.train(spec, "sign_network", sign_network.Spec(), work)


def seconds_per_vote_iteration(kind: str, rows: int, threads: int, iterations: int) -> float:
    """Returns wall seconds per iteration and network, two networks per thread."""
    x, y = heartbeats(rows)
    votes = 2 * threads
    settings = {"row_share": 0.25, "features_per_iteration": 128}
    train(kind, x[:400], y[:400], 1, 1, iterations=2, **settings)  # compiles
    begin = time.perf_counter()
    train(kind, x, y, votes, threads, iterations=iterations, **settings)
    return (time.perf_counter() - begin) / votes / iterations


def reference_seconds(kind: str, rows: int, iterations: int = 3) -> float:
    """Returns seconds per iteration of the plain version, one thread."""
    x, y = heartbeats(rows)
    begin = time.perf_counter()
    scd_reference.train(
        x.astype(float), y, kind.lower(), 0,
        row_share=0.25, features_per_iteration=128, iterations=iterations,
    )  # fmt: skip
    return (time.perf_counter() - begin) / iterations


def accuracies(kind: str, seed: int, votes: int, threads: int) -> tuple[float, float]:
    """Returns the accuracy on 4,000 points of ``votes`` votes of ours and of the plain version."""
    x, y = scd_reference.linear_boundary(4300, 12, seed=seed)
    amounts = {"row_share": 0.5, "iterations": 40, "features_per_iteration": 6}
    train_x, test_x, test_y = x[:300], x[300:], y[300:]
    trained = train(kind, train_x.astype(np.float32), y[:300], votes, threads, **amounts)
    ensemble = build_ensemble(
        "sign_network", sign_network.Spec(), [trained.parameters], vote="majority",
        input_shape=(12,), n_classes=2, input_range=(0.0, 1.0),
    )  # fmt: skip
    ours = (ensemble.predict(test_x.astype(np.float32)) == test_y).mean()
    plain = scd_reference.train_votes(train_x, y[:300], kind.lower(), votes, 0, **amounts)
    return float(ours), float((scd_reference.predict_votes(plain, test_x) == test_y).mean())


def main() -> None:
    """Reads the command line and prints three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--votes", type=int, default=100)
    options = parser.parse_args()
    how = f"187 features, 128 tried, 25 % of rows, 20 units, {options.threads} threads"
    print(f"seconds per vote-iteration ({how})")
    print(f"{'':<8}{'rows':>8}{'ours':>10}{'bar':>8}{'ours/bar':>10}{'plain':>9}{'plain/ours':>12}")
    small = {}
    for kind in KINDS:
        small[kind] = seconds_per_vote_iteration(
            kind, PTBDB_ROWS, options.threads, options.iterations
        )
        plain = reference_seconds(kind, PTBDB_ROWS)
        print(
            f"{kind:<8}{PTBDB_ROWS:>8,}{small[kind]:>10.5f}{BAR_SECONDS:>8.3f}"
            f"{small[kind] / BAR_SECONDS:>10.3f}{plain:>9.2f}{plain / small[kind]:>12.0f}"
        )
    n_log_n = MITBIH_ROWS * math.log(MITBIH_ROWS) / (PTBDB_ROWS * math.log(PTBDB_ROWS))
    print(f"\ngrowth from {PTBDB_ROWS:,} to {MITBIH_ROWS:,} rows (bar: n log n)")
    print(f"{'':<8}{'ours':>10}{'growth':>8}{'n log n':>9}{'growth/bar':>12}")
    for kind in KINDS:
        large = seconds_per_vote_iteration(
            kind, MITBIH_ROWS, options.threads, max(20, options.iterations // 4)
        )
        growth = large / small[kind]
        print(f"{kind:<8}{large:>10.5f}{growth:>8.2f}{n_log_n:>9.2f}{growth / n_log_n:>12.2f}")
    print(f"\naccuracy of {options.votes} votes, linear boundary (bar: the plain version)")
    print(f"{'':<8}{'draw':>6}{'ours':>8}{'plain':>8}{'ours-plain':>12}")
    for kind in KINDS:
        for seed in (1, 2):
            ours, plain = accuracies(kind, seed, options.votes, options.threads)
            print(f"{kind:<8}{seed:>6}{ours:>8.4f}{plain:>8.4f}{ours - plain:>+12.4f}")


if __name__ == "__main__":
    main()
