"""The lockstep HopSkipJump against ART: time on a forest and on sign networks, accuracy, memory.

Forest: 100 trees on generated heartbeats. ART asks scikit-learn's own forest, as its authors would
(a few runs; they are alike), and, for the distances too, this project's compiled one. Paired are
the least distances over the restarts at each point. Sign networks: 100 members trained by
coordinate descent; ART asks the same vectorised predict.

Linear models: distance on the boundary by the true distance; beside it the limit of what averaging
one-bit answers allows. Both engines have the same settings; the native one takes at most 100
iterations, fewer where it would ask more than ART did.

Memory: the peak of a process that attacks many points of a linear model at 27,648 values.

    python benchmarks/bench_hopskipjump.py [--points 30] [--restarts 10] [--only forest ...]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
from medrobust.attacks import AttackResult, run_attack
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.data.standins.ecg import ecg_standin
from medrobust.models import forest, sign_network
from medrobust.models.ensembles import build_ensemble
from medrobust.runtime.devices import fix_threads
from medrobust.training import bagged_trees, scd
from medrobust.training.engine.work import Work

FEATURES, ITERATIONS = 187, 100
FIVE = ("N", "S", "V", "F", "Q")
MEMORY_BAR = 2000


@dataclass
class Timed:
    """A model whose predict is timed."""

    predict_rows: object
    n_classes: int
    input_shape: tuple[int, ...]
    fixed_shape: bool = True
    seconds: float = 0.0

    def predict(self, x: np.ndarray) -> np.ndarray:
        begin = time.perf_counter()
        labels = self.predict_rows(x)
        self.seconds += time.perf_counter() - begin
        return labels


class Linear:
    """Two classes on the two sides of a plane."""

    n_classes, fixed_shape = 2, True

    def __init__(self, d: int, seed: int) -> None:
        normal = np.random.default_rng(seed).standard_normal(d)
        self.normal = (normal / np.linalg.norm(normal)).astype(np.float32)
        self.offset = float(self.normal.astype(np.float64).sum() / 2 + 0.03 * np.sqrt(d / FEATURES))
        self.input_shape = (d,)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x @ self.normal > self.offset).astype(np.int64)

    def distance(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x.astype(np.float64) @ self.normal - self.offset)


def spec(engine: str, restarts: int, **changes: object) -> HopSkipJumpSpec:
    """Returns the settings of the sign-network paper."""
    values = {"max_iter": ITERATIONS, "start": "random", "clip_min": 0.0, "clip_max": 1.0}
    values |= changes
    return HopSkipJumpSpec(engine=engine, restarts=restarts, **values)


def attack(
    model: object, x: np.ndarray, settings: HopSkipJumpSpec, root: int
) -> tuple[AttackResult, float]:
    """Attacks points of whatever label the model gives them; returns the result and seconds."""
    seeds = np.random.default_rng(root).integers(0, 2**62, (len(x), settings.restarts))
    labels = model.predict(x)
    begin = time.perf_counter()
    result = run_attack("hopskipjump", model, x, labels, settings, seeds)
    return result, time.perf_counter() - begin


def least(result: AttackResult, x: np.ndarray) -> np.ndarray:
    """Returns the least L2 distance over restarts of each point, infinity without success."""
    moves = result.x_adv.astype(np.float64) - x[:, None]
    distances = np.sqrt(np.square(moves).sum(axis=2))
    return np.where(np.isfinite(distances), distances, np.inf).min(axis=1)


def ratio_text(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Returns the geometric mean of paired ratios, with its 95 % interval over points."""
    logs = np.log(ours / theirs)
    draws = np.random.default_rng(0).choice(logs, (2000, len(logs))).mean(axis=1)
    low, high = np.exp(np.quantile(draws, [0.025, 0.975]))
    return f"{np.exp(logs.mean()):.3f} [{low:.3f}, {high:.3f}]"


def heartbeats(classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns generated heartbeats: rows and labels to train on, test rows."""
    data = ecg_standin(8000, 200, classes, seed=0)
    x, y = data.x.astype(np.float32), np.asarray(data.y, dtype=np.int64)
    return x[:8000], y[:8000], x[8000:]


def ensemble(architecture: str, settings: object, parameters: dict, vote: str, n: int) -> Timed:
    """Returns an ensemble for ``n`` classes as the workflow evaluates it."""
    model = build_ensemble(
        architecture, settings, [parameters], vote=vote, input_shape=(FEATURES,), n_classes=n,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    return Timed(model.predict, n, (FEATURES,))


def grown_forests() -> tuple[Timed, Timed]:
    """Returns a forest of 100 trees of scikit-learn's, and one of the same settings compiled."""
    from sklearn.ensemble import RandomForestClassifier

    x, y, _ = heartbeats(FIVE)
    plain = RandomForestClassifier(100, min_samples_leaf=10, max_features=None, random_state=0)
    plain.fit(x[:4000], y[:4000])
    members = list(range(100))
    trained = bagged_trees.train(
        bagged_trees.Spec(min_samples_leaf=10), "forest", forest.Spec(),
        Work(x[:4000], y[:4000], 5, members, members),
    )  # fmt: skip
    compiled = ensemble("forest", forest.Spec(), trained.parameters, "soft", 5)
    return Timed(plain.predict, 5, (FEATURES,)), compiled


def forest_line(points: int, restarts: int, runs_of_scikit_learn: int) -> None:
    """Prints time and distances on the forest."""
    plain, compiled = grown_forests()
    x = heartbeats(FIVE)[2][:points]
    attack(compiled, x[:1], spec("native", 1, max_iter=2), 0)  # compiles
    ours, seconds = attack(compiled, x, spec("native", restarts), 1)
    each = seconds / points / restarts
    _, slow = attack(plain, x[:runs_of_scikit_learn], spec("art", 1), 2)
    theirs, quick = attack(compiled, x, spec("art", restarts), 2)
    slow, quick = slow / runs_of_scikit_learn, quick / points / restarts
    print(f"forest, {points} points x {restarts} restarts x {ITERATIONS} iterations")
    print(f"  native                 {each:8.3f} s per (point, restart)")
    print(f"  ART, scikit-learn      {slow:8.3f} s   {slow / each:6.1f} x  (bar 25)")
    print(f"  ART, compiled predict  {quick:8.3f} s   {quick / each:6.1f} x")
    print(f"  least distances, native / ART: {ratio_text(least(ours, x), least(theirs, x))}"
          "  (bar 1.02)")  # fmt: skip
    refined, _ = attack(compiled, x, spec("native", restarts, refinement=0.2), 1)
    print(f"  the same, refinement 0.2:      {ratio_text(least(refined, x), least(theirs, x))}")


def sign_line(classes: Sequence[str], points: int) -> None:
    """Prints time on the sign networks, one of each member, or one for each of more classes."""
    x, y, test = heartbeats(classes)
    n = len(classes)
    members = list(range(100))
    settings = scd.Spec(loss="zero_one", iterations=100, row_share=0.25, features_per_iteration=128)
    work = Work(x, y, n, members, members, threads=os.cpu_count() or 1)
    trained = scd.train(settings, "sign_network", sign_network.Spec(), work)
    model = ensemble("sign_network", sign_network.Spec(), trained.parameters, "majority", n)
    attack(model, test[:1], spec("native", 1, max_iter=2), 0)
    model.seconds = 0.0
    ours, seconds = attack(model, test[:points], spec("native", 1), 1)
    inside = 100 * model.seconds / seconds
    theirs, slow = attack(model, test[:points], spec("art", 1), 1)
    rate = seconds / ours.queries.sum(), slow / theirs.queries.sum()
    print(f"sign networks, 100 members, {n} classes, {points} points, one thread")
    print(
        f"  native  {1e6 * rate[0]:7.1f} us per query, {inside:.0f} % inside the model (bar 75 %)"
    )
    print(f"  ART     {1e6 * rate[1]:7.1f} us per query, {rate[1] / rate[0]:.1f} x (bar 2)")


def linear_line(d: int, points: int, bar: float) -> None:
    """Prints how near both engines come to the truth on linear models."""
    rows = []
    for seed in range(points):
        model = Linear(d, seed)
        x = np.random.default_rng(seed).uniform(0.3, 0.7, (1, d)).astype(np.float32)
        theirs, _ = attack(model, x, spec("art", 1), seed)
        budget = int(theirs.queries[0, 0])
        row = [least(theirs, x)[0] / model.distance(x)[0], budget]
        for refinement in (0.0, 0.2):
            iterations = ITERATIONS
            while True:
                settings = spec("native", 1, max_iter=iterations, refinement=refinement)
                ours, _ = attack(model, x, settings, seed)
                if ours.queries[0, 0] <= budget:
                    break
                iterations -= 1
            row += [least(ours, x)[0] / model.distance(x)[0], int(ours.queries[0, 0])]
        rows.append(row)
    art, budget, geometric, n, refined, m = np.mean(rows, axis=0)
    limit = np.sqrt(1 + np.pi / 2 * d / budget)
    print(f"  {d:>6} {limit:>7.4f} {art:>8.4f} {geometric:>8.4f} {refined:>9.4f} {bar:>6.3f}"
          f"  {budget:,.0f} {n:,.0f} {m:,.0f}")  # fmt: skip


def memory_line(points: int, iterations: int) -> None:
    """Attacks many points of many values; prints the peak memory of this process."""
    d = 27648
    model, x = Linear(d, 0), np.random.default_rng(0).random((points, d), dtype=np.float32)
    attack(model, x, spec("native", 1, max_iter=iterations), 0)
    # The kernel's own record: getrusage also counts the process that this one was forked from.
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    print(f"memory, {points} points of {d:,} values: peak {peak:,.0f} MB (bar {MEMORY_BAR:,}), "
          f"of it {x.nbytes / 1e6:,.0f} MB the points and as many the results twice")  # fmt: skip


def main() -> None:
    """Reads the command line and prints the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=30, help="on the forest")
    parser.add_argument("--restarts", type=int, default=10, help="on the forest")
    parser.add_argument("--only", nargs="+", choices=("forest", "sign", "linear", "memory"))
    parser.add_argument("--largest", type=int, default=27648, help="largest linear model")
    parser.add_argument("--memory-inside", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    fix_threads(1)
    if options.memory_inside:
        memory_line(options.memory_inside, 2)
        return
    chosen = options.only or ("forest", "sign", "linear", "memory")
    if "forest" in chosen:
        forest_line(options.points, options.restarts, 3)
    if "sign" in chosen:
        sign_line(("normal", "abnormal"), 8)
        sign_line(FIVE, 8)
    if "linear" in chosen:
        print("linear models: distance on the boundary / true distance, and queries of each")
        print("       d   limit      ART   native   refined    bar")
        for d, points, bar in ((187, 8, 1.01), (3072, 4, 1.045), (27648, 1, 1.30)):
            if d <= options.largest:
                linear_line(d, points, bar)
    if "memory" in chosen:
        # A process of its own: the peak of this one is that of everything before.
        command = [sys.executable, __file__, "--memory-inside", "300"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
