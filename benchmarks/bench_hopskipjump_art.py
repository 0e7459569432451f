"""What HopSkipJump by ART costs beside the model: time per query and where it goes.

The model is a threshold on one input value, so nearly all the time is the attack's own. Prints
three tables: time per query of ART as shipped and as wrapped here, for several input sizes;
the shares of model, wrapper and ART; and the functions that take the most time.

    python benchmarks/bench_hopskipjump_art.py [--iterations 100] [--repeat 3] [--sizes 187 3072]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from medrobust.attacks import run_attack
from medrobust.attacks.engine import hopskipjump_art
from medrobust.attacks.engine.spec import HopSkipJumpSpec


class Threshold:
    """Class 1 where the first value exceeds 0.5; keeps count and time of its queries."""

    n_classes = 2

    def __init__(self, size: int) -> None:
        self.input_shape = (size,)
        self.calls = self.rows = 0
        self.seconds = 0.0

    def predict(self, x: np.ndarray) -> np.ndarray:
        begin = time.perf_counter()
        labels = (x[:, 0] > 0.5).astype(np.int64)
        self.calls += 1
        self.rows += len(x)
        self.seconds += time.perf_counter() - begin
        return labels


@dataclass(frozen=True)
class Timing:
    """One run: seconds in all, in the callback that ART queries, in the model."""

    total: float
    callback: float
    model: float
    calls: int
    rows: int


def clean_point(size: int) -> np.ndarray:
    """Returns one point of class 0 in the middle of the box."""
    x = np.random.default_rng(0).uniform(0.3, 0.7, (1, size)).astype(np.float32)
    x[0, 0] = 0.4
    return x


def time_wrapped(size: int, spec: HopSkipJumpSpec, seed: int) -> Timing:
    """Times one (point, restart) through ``run_attack``."""
    model, x = Threshold(size), clean_point(size)
    inside = 0.0
    answer = hopskipjump_art._AnswersForArt.__call__

    def timed(self: object, rows: np.ndarray) -> np.ndarray:
        nonlocal inside
        begin = time.perf_counter()
        try:
            return answer(self, rows)
        finally:
            inside += time.perf_counter() - begin

    hopskipjump_art._AnswersForArt.__call__ = timed
    try:
        begin = time.perf_counter()
        run_attack("hopskipjump", model, x, np.array([0]), spec, np.array([[seed]]))
        total = time.perf_counter() - begin
    finally:
        hopskipjump_art._AnswersForArt.__call__ = answer
    return Timing(total, inside, model.seconds, model.calls, model.rows)


def time_bare(size: int, spec: HopSkipJumpSpec, seed: int) -> Timing:
    """Times ART as shipped, with a one-hot function as small as can be."""
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import BlackBoxClassifier

    model, x, eye = Threshold(size), clean_point(size), np.eye(2, dtype=np.float32)
    classifier = BlackBoxClassifier(
        lambda rows: eye[model.predict(rows)], (size,), 2, clip_values=spec.box()
    )
    attack = HopSkipJump(
        classifier,
        batch_size=spec.batch_size,
        max_iter=spec.max_iter,
        max_eval=spec.max_eval,
        init_eval=spec.init_eval,
        init_size=spec.init_size,
        verbose=False,
    )
    np.random.seed(seed)
    begin = time.perf_counter()
    attack.generate(x)
    total = time.perf_counter() - begin
    return Timing(total, model.seconds, model.seconds, model.calls, model.rows)


def fastest(measure: object, size: int, spec: HopSkipJumpSpec, repeat: int) -> Timing:
    """Returns the fastest of ``repeat`` runs; the rest is noise of the machine."""
    runs = [measure(size, spec, seed) for seed in range(repeat)]
    return min(runs, key=lambda run: run.total / run.rows)


def time_noise(size: int, spec: HopSkipJumpSpec) -> float:
    """Times what ART cannot do without: its normal draws alone, in its own calls and type."""
    begin = time.perf_counter()
    for t in range(spec.max_iter):
        count = min(int(spec.init_eval * np.sqrt(t + 1)), spec.max_eval)
        np.random.randn(count, size).astype(np.float32)
    return time.perf_counter() - begin


def print_times(sizes: list[int], spec: HopSkipJumpSpec, repeat: int) -> None:
    """Prints the tables of times and shares."""
    print(f"{'size':>6} {'engine':<8} {'queries':>8} {'calls':>6} {'seconds':>8} {'us/query':>9}")
    shares = []
    for size in sizes:
        for name, measure in (("bare", time_bare), ("wrapped", time_wrapped)):
            run = fastest(measure, size, spec, repeat)
            each = 1e6 * run.total / run.rows
            print(
                f"{size:>6} {name:<8} {run.rows:>8} {run.calls:>6} {run.total:>8.3f} {each:>9.2f}"
            )
        outside = run.total - run.callback
        wrapper = run.callback - run.model
        noise = min(time_noise(size, spec) for _ in range(repeat))
        parts = (run.model, wrapper, outside, noise)
        shares.append((size, *(100 * part / run.total for part in parts)))
    print(f"\n{'size':>6} {'model %':>8} {'wrapper %':>10} {'ART %':>7} {'of it noise %':>14}")
    for size, model, wrapper, outside, noise in shares:
        print(f"{size:>6} {model:>8.1f} {wrapper:>10.1f} {outside:>7.1f} {noise:>14.1f}")


def print_profile(size: int, spec: HopSkipJumpSpec, lines: int) -> None:
    """Prints the functions with the most time of their own in one wrapped run."""
    model, x = Threshold(size), clean_point(size)
    profile = cProfile.Profile()
    profile.enable()
    run_attack("hopskipjump", model, x, np.array([0]), spec, np.array([[0]]))
    profile.disable()
    stats = pstats.Stats(profile)
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:lines]
    print(f"\nsize {size}: own time by function (with the profiler's overhead)")
    print(f"{'%':>6} {'seconds':>8} {'calls':>8}  function")
    for (file, _, name), (_, calls, own, _, _) in rows:
        place = f"{Path(file).name}:{name}" if file != "~" else name
        print(f"{100 * own / stats.total_tt:>6.1f} {own:>8.3f} {calls:>8}  {place}")


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 187, 3072])
    parser.add_argument("--lines", type=int, default=14)
    options = parser.parse_args()
    spec = HopSkipJumpSpec(
        engine="art", max_iter=options.iterations, restarts=1, clip_min=0.0, clip_max=1.0
    )
    # The first run pays ART's import.
    time_wrapped(
        2, HopSkipJumpSpec(engine="art", max_iter=1, restarts=1, clip_min=0.0, clip_max=1.0), 0
    )
    print_times(options.sizes, spec, options.repeat)
    for size in options.sizes:
        print_profile(size, spec, options.lines)


if __name__ == "__main__":
    main()
