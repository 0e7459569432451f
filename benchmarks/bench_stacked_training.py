"""Training of signnet's networks against the plain ways of doing the same.

MLP: one epoch of 100 networks of 20 units, at the size of MIT-BIH, as the workflow trains them
(stacks of 25, each network with its own order of points; on one thread, and on two with a network
each) against a loop over scikit-learn's MLPClassifier, one fit of one epoch each, on one thread.
scikit-learn computes in the type of its data; ours is float32. CNN, on one thread: training and
evaluation of one network against a PyTorch module of the same layers. Data are random numbers;
times do not depend on them.

    python benchmarks/bench_stacked_training.py [--rows 87554] [--fits 8] [--repeat 3]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
import torch
from medrobust.models import cnn1d, mlp
from medrobust.runtime.devices import fix_threads
from medrobust.training import adam_cross_entropy, sgd_cross_entropy
from medrobust.training.engine.work import Work
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import nn

FEATURES, CLASSES, UNITS, BATCH = 187, 5, 20, 200
MEMBERS, PER_JOB = 100, 25
CNN_BATCH, CNN_STEPS = 64, 12


def fastest(work: Callable[[], object], repeat: int) -> float:
    """Returns the least seconds of ``repeat`` runs; the rest is noise of the machine."""
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def scikit_learn_seconds(x: np.ndarray, y: np.ndarray, fits: int) -> float:
    """Returns the seconds of ``MEMBERS`` fits of one epoch, from the mean of ``fits`` of them."""

    def fit(seed: int) -> None:
        MLPClassifier(
            (UNITS,), activation="logistic", solver="sgd", learning_rate_init=0.01,
            batch_size=BATCH, max_iter=1, random_state=seed,
        ).fit(x, y)  # fmt: skip

    fit(0)  # pays the imports
    begin = time.perf_counter()
    for seed in range(fits):
        fit(seed)
    return (time.perf_counter() - begin) / fits * MEMBERS


def stacked_seconds(x: np.ndarray, y: np.ndarray, repeat: int, threads: int) -> float:
    """Returns the seconds of one epoch of ``MEMBERS`` networks in jobs of ``PER_JOB``."""
    spec = sgd_cross_entropy.Spec(
        learning_rate=0.01, l2_penalty=1e-4, batch_size=BATCH, max_epochs=1
    )

    def job(first: int) -> None:
        members = list(range(first, first + PER_JOB))
        work = Work(x, y, CLASSES, members, members, threads=threads)
        sgd_cross_entropy.train(spec, "mlp", mlp.Spec(hidden_units=UNITS), work)

    return sum(fastest(lambda f=first: job(f), repeat) for first in range(0, MEMBERS, PER_JOB))


def product_seconds(rows: int) -> float:
    """Returns the least seconds for the products of an epoch at this machine's full speed.

    Counted are the first layer's two products, the points with the weights and with the gradient
    of the hidden units; the speed is that of a product of two 1,024 x 1,024 matrices.
    """
    a = torch.rand(1024, 1024)
    speed = 2 * 1024**3 / fastest(lambda: a @ a, 20)
    return 2 * 2 * MEMBERS * rows * FEATURES * UNITS / speed


def plain_cnn() -> nn.Sequential:
    """Returns the network of signnet's section II.C, written the usual way."""
    return nn.Sequential(
        nn.Conv1d(1, 64, 16, padding="same"), nn.ReLU(), nn.MaxPool1d(4),
        nn.Conv1d(64, 128, 16, padding="same"), nn.ReLU(), nn.MaxPool1d(4),
        nn.Conv1d(128, 256, 16, padding="same"), nn.ReLU(), nn.MaxPool1d(2),
        nn.Flatten(), nn.Linear(5 * 256, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    )  # fmt: skip


def plain_cnn_seconds(x: np.ndarray, y: np.ndarray, repeat: int) -> tuple[float, float]:
    """Returns the seconds of an epoch and of evaluating one block, as a plain module."""
    points, labels = torch.from_numpy(x)[:, None], torch.from_numpy(y)
    module = plain_cnn()
    adam = torch.optim.Adam(module.parameters(), lr=1e-3)

    def epoch() -> None:
        for index in torch.randperm(len(x)).split(CNN_BATCH):
            adam.zero_grad()
            nn.functional.cross_entropy(module(points[index]), labels[index]).backward()
            adam.step()

    def block() -> None:
        with torch.inference_mode():
            module(points[:CNN_BATCH])

    block()
    return fastest(epoch, repeat), fastest(block, 5 * repeat)


def our_cnn_seconds(x: np.ndarray, y: np.ndarray, repeat: int) -> tuple[float, float]:
    """Returns the seconds of an epoch and of evaluating one block, as the workflow does it."""
    spec = adam_cross_entropy.Spec(learning_rate=1e-3, batch_size=CNN_BATCH, max_epochs=1)
    work = Work(x, y, CLASSES, [0], [0])
    parameters = cnn1d.initial_parameters(cnn1d.Spec(), (FEATURES,), CLASSES, [0])
    scores = cnn1d.member_scores(cnn1d.Spec(), parameters, (FEATURES,), CLASSES, "cpu")
    block = x[:CNN_BATCH]
    scores(block)
    return (
        fastest(lambda: adam_cross_entropy.train(spec, "cnn1d", cnn1d.Spec(), work), repeat),
        fastest(lambda: scores(block), 5 * repeat),
    )


def print_line(what: str, plain: float, ours: float, bar: float) -> None:
    """Prints seconds of the plain way and of ours, their ratio, and the ratio to reach."""
    print(f"{what:<44} {plain:>9.3f} {ours:>9.3f} {plain / ours:>7.1f} {bar:>5.0f}")


def main() -> None:
    """Reads the command line and prints one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=87554)
    parser.add_argument("--fits", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    fix_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Using padding='same'")
    rng = np.random.default_rng(0)
    x = rng.random((options.rows, FEATURES), dtype=np.float32)
    y = rng.integers(0, CLASSES, options.rows)
    print(f"rows: {options.rows:,} x {FEATURES}; seconds, fastest of runs\n")
    print(f"{'':<44} {'plain':>9} {'ours':>9} {'ratio':>7} {'bar':>5}")
    alone, pair = (stacked_seconds(x, y, options.repeat, threads) for threads in (1, 2))
    single = scikit_learn_seconds(x, y, options.fits)
    double = scikit_learn_seconds(x.astype(np.float64), y, options.fits)
    for kind, plain in (("float32", single), ("float64", double)):
        print_line(f"MLP x {MEMBERS}, epoch, 2 threads: {kind}", plain, pair, 10)
        print_line(f"MLP x {MEMBERS}, epoch, 1 thread: {kind}", plain, alone, 10)
    least = product_seconds(options.rows)
    print_line("  (its products alone at full speed, 1 thread)", single, least, 10)
    few = slice(0, CNN_BATCH * CNN_STEPS)
    plain, mine = plain_cnn_seconds(x[few], y[few], 3), our_cnn_seconds(x[few], y[few], 3)
    print_line(f"CNN, epoch of {CNN_BATCH * CNN_STEPS} points", plain[0], mine[0], 1)
    print_line(f"CNN, evaluation of {CNN_BATCH} points", plain[1], mine[1], 1)


if __name__ == "__main__":
    main()
