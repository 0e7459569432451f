"""HopSkipJump on images of 96 x 96 x 3: how much it costs beside what no attack can do without.

Query phase: directions are drawn, rows perturbed and asked about, answers summed, against the 100
sign networks and the 100 perceptrons of the sign-network paper, 20 hidden units each. Beside it the
bare product of its first layer, [rows, 27648] x [27648, 2000] in float32 on as many threads,
measured in turn with it, the faster of two numbers of rows. Weights are drawn: a product does not
care. Memory: the peak of a process that does that alone, and what of it is the model.

Forest: 100 trees grown on generated images; ART asks the same compiled predict. ART takes fewer
iterations, its time is extrapolated by queries; those of the native engine are counted.

    python benchmarks/bench_image_attack.py [--only queries memory forest] [--threads 1]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
from medrobust.attacks import run_attack
from medrobust.attacks.engine.lockstep import Normals, Setting
from medrobust.attacks.engine.queries import Queries
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.data.formats.images import ImageSpec
from medrobust.data.standins.medical_images import medical_standin
from medrobust.models import forest, mlp, sign_network
from medrobust.models.ensembles import Ensemble, build_ensemble
from medrobust.runtime.devices import fix_threads
from medrobust.training import bagged_trees
from medrobust.training.engine.work import Work

SHAPE, MEMBERS, HIDDEN = (3, 96, 96), 100, 20
D = int(np.prod(SHAPE))
#: Share of the bare product's speed, and the speed of ART, that are asked for.
SPEED_BAR, ART_BAR = 0.6, 10.0
#: Rows of an estimate, and directions that may lie in memory: the buffer of lockstep.Normals.
ROWS, DIRECTIONS_MB = 1024, 2**25 / 1e6


def ensemble(architecture: str) -> Ensemble:
    """Returns 100 members of drawn weights for two classes."""
    random = np.random.default_rng(0)
    if architecture == "mlp":
        spec: object = mlp.Spec(hidden_units=HIDDEN)
        parameters = mlp.initial_parameters(spec, SHAPE, 2, list(range(MEMBERS)))
        vote = "soft"
    else:
        spec, vote = sign_network.Spec(hidden_units=HIDDEN), "majority"
        shapes = {
            "hidden_weights": (MEMBERS, 1, HIDDEN, D), "hidden_bias": (MEMBERS, 1, HIDDEN),
            "output_weights": (MEMBERS, 1, HIDDEN), "output_bias": (MEMBERS, 1),
        }  # fmt: skip
        parameters = {
            name: random.standard_normal(size, dtype=np.float32) for name, size in shapes.items()
        }
    return build_ensemble(
        architecture, spec, [parameters], vote=vote, input_shape=SHAPE, n_classes=2,
        input_range=(0.0, 1.0),
    )  # fmt: skip


def estimator(model: object) -> Normals:
    """Returns the query phase of ten runs against a model."""
    x = np.random.default_rng(1).random((10, D), dtype=np.float32)
    queries = Queries(model, len(x), batch_size=1024)
    setting = Setting(x, queries, 2, np.float32(0), np.float32(1))
    return Normals(setting, list(range(len(x))), batch_size=1024)


def ask(normals: Normals, iteration: int) -> int:
    """Takes an estimate of all runs; returns the rows asked about."""
    x = normals._setting.x
    counts = np.full(len(x), -(-ROWS // len(x)))
    counts[-1] -= counts.sum() - ROWS
    normals.estimate(x, np.full(len(x), 0.05), counts, iteration)
    return int(counts.sum())


def seconds(work: object, threads: int) -> float:
    """Returns how long a call takes: of one thread on the processor, which others may share."""
    clock = time.process_time if threads == 1 else time.perf_counter
    begin = clock()
    work()
    return clock() - begin


def queries_line(architecture: str, repeat: int, threads: int) -> None:
    """Prints the query phase against the bare product, medians of turns."""
    import torch

    normals, turn = estimator(ensemble(architecture)), iter(range(10_000))
    weights = torch.randn(D, MEMBERS * HIDDEN)
    points = {rows: torch.rand(rows, D) for rows in (256, ROWS)}
    ask(normals, next(turn))
    bare: dict[int, list[float]] = {rows: [] for rows in points}
    phase = []
    for _ in range(repeat):
        for rows, x in points.items():
            bare[rows].append(seconds(lambda x=x: torch.mm(x, weights), threads) / rows)
        phase.append(seconds(lambda: ask(normals, next(turn)), threads) / ROWS)
    best = min(float(np.median(times)) for times in bare.values())
    ours = float(np.median(phase))
    print(
        f"  {architecture:<14} {1e6 * best:7.0f} us per row bare, {1e6 * ours:7.0f} us in all: "
        f"{best / ours:.2f} of its speed  (bar {SPEED_BAR})"
    )


def memory_line(architecture: str) -> None:
    """Prints what an estimate of all runs adds to the memory of this process, at its peak."""
    model = ensemble(architecture)
    normals = estimator(model)
    ask(normals, 0)  # loads and compiles
    del normals
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _megabytes("VmHWM")
    ask(estimator(model), 1)
    added = _megabytes("VmHWM") - before
    print(
        f"  {architecture:<14} {before:,.0f} MB with the model, {added:,.0f} more at the peak; "
        f"directions: at most {DIRECTIONS_MB:.0f}, whatever their number"
    )


def _megabytes(key: str) -> float:
    """Returns the kernel's own record: getrusage counts the parent process too."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(key)) / 1024


def grown_forest() -> tuple[Ensemble, np.ndarray]:
    """Returns 100 trees grown on generated images, and test images."""
    size = ImageSpec(SHAPE[1], "rgb")
    data = medical_standin("tissue", ("mucosa", "adipose"), size, 600, 20, seed=0)
    x = (data.x.astype(np.float32) / 255).reshape(len(data.x), *SHAPE)
    y = np.asarray(data.y, dtype=np.int64)
    members = list(range(MEMBERS))
    work = Work(x[:600].reshape(600, -1), y[:600], 2, members, members, threads=os.cpu_count() or 1)
    settings = bagged_trees.Spec(min_samples_leaf=10, max_features=1000)  # 27 times as soon grown
    trained = bagged_trees.train(settings, "forest", forest.Spec(), work)
    model = build_ensemble(
        "forest", forest.Spec(), [trained.parameters], vote="soft", input_shape=SHAPE, n_classes=2,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    return model, x[600:]


def forest_line(restarts: int, iterations: int, art_iterations: int) -> None:
    """Prints the time of a (point, restart) on the forest, of both engines."""
    model, points = grown_forest()
    start = points[model.predict(points) == 1][:1]
    point = points[model.predict(points) == 0][:1]
    common = {"clip_min": 0.0, "clip_max": 1.0, "start": "fixed"}

    def run(engine: str, runs: int, steps: int) -> tuple[float, float]:
        spec = HopSkipJumpSpec(engine=engine, restarts=runs, max_iter=steps, **common)
        begin = time.process_time()
        seeds = np.arange(runs)[None]
        found = run_attack("hopskipjump", model, point, np.array([0]), spec, seeds, x_start=start)
        return time.process_time() - begin, float(found.queries.sum())

    run("native", 1, 1)
    run("art", 1, 1)
    slow, asked = run("art", 1, art_iterations)
    ours, spent = run("native", restarts, iterations)
    again, more = run("art", 1, art_iterations)
    each = ours / restarts
    theirs = (slow + again) / (asked + more) * spent / restarts
    print(f"forest of {MEMBERS} trees, 1 point x {restarts} restarts x {iterations} iterations")
    print(f"  native {each:8.2f} s per (point, restart), {1e6 * ours / spent:6.0f} us per query")
    print(
        f"  ART    {theirs:8.2f} s, extrapolated by queries from {art_iterations} iterations, "
        f"{theirs / each:.1f} x  (bar {ART_BAR:.0f})"
    )


def main() -> None:
    """Reads the command line and prints the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=("queries", "memory", "forest"))
    parser.add_argument("--threads", type=int, default=1, help="of products")
    parser.add_argument("--repeat", type=int, default=5, help="turns of the query phase")
    parser.add_argument("--restarts", type=int, default=10, help="on the forest")
    parser.add_argument("--iterations", type=int, default=100, help="on the forest")
    parser.add_argument("--art-iterations", type=int, default=20, help="on the forest")
    parser.add_argument("--memory-inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    fix_threads(options.threads)
    if options.memory_inside:
        memory_line(options.memory_inside)
        return
    chosen = options.only or ("queries", "memory", "forest")
    kinds = ("sign_network", "mlp")
    if "queries" in chosen:
        print(f"query phase, {ROWS} rows of {D:,} values, {options.threads} thread(s)")
        for kind in kinds:
            queries_line(kind, options.repeat, options.threads)
    if "memory" in chosen:
        print(f"memory, 100 members ({4 * D * MEMBERS * HIDDEN / 1e6:,.0f} MB of weights)")
        for kind in kinds:
            # A process of its own: the peak of this one is that of everything before.
            subprocess.run([sys.executable, __file__, "--memory-inside", kind], check=True)
    if "forest" in chosen:
        forest_line(options.restarts, options.iterations, options.art_iterations)


if __name__ == "__main__":
    main()
