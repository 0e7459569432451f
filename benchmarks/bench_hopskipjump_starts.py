"""Starts of HopSkipJump on models with several ways out: distance found by the exact one.

Polytopes, unions of balls and checkerboards of tests/start_oracles.py, a plane of
tests/attack_models.py. Every run has the same number of queries, its start included: what counts
is the trace at the last iteration within what a run from a random start spends.

    python benchmarks/bench_hopskipjump_starts.py [--points 20] [--iterations 25] [--only balls ...]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
from medrobust.attacks import Traces
from medrobust.runtime.devices import fix_threads

from tests.attack_models import Linear, attack, make_spec, points_in_the_box, seeds_for
from tests.start_oracles import ORACLES

STARTS = ("random", "blended", "outward")
RESTARTS = 10


def within(traces: Traces, budget: int) -> np.ndarray:
    """Returns the distances at the last entry within a budget, ``[n, r]``; inf without one."""
    last = (traces.queries <= budget).sum(axis=2) - 1
    found = np.take_along_axis(traces.boundary, last[..., None], axis=2)[..., 0]
    return np.where(np.isfinite(found), found, np.inf)


def oracle_line(name: str, model: object, x: np.ndarray, iterations: int) -> None:
    """Prints how far each start ends, of one restart and of the best of all."""
    seeds = seeds_for(len(x), RESTARTS)
    cells, budget = [], None
    for start in STARTS:
        spec = make_spec(start=start, restarts=RESTARTS, max_iter=iterations)
        result = attack(model, x, spec, seeds)
        budget = budget or round(float(result.queries.mean()))
        ratio = within(result.traces, budget) / model.distance(x)[:, None]
        spent = int(np.median(result.traces.queries[..., 0]))
        for found in (ratio[:, 0], ratio.min(axis=1)):
            cells.append(f"{np.median(found):.3f}, {found.max():.2f}")
        cells[-1] += f" ({spent})"
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--only", nargs="+", default=[""], help="models whose names begin so")
    options = parser.parse_args()
    fix_threads(1)
    print(f"found / exact: median, largest over {options.points} points (median queries to start)")
    print("| model |", " | ".join(f"{s}, {r}" for s in STARTS for r in ("1", RESTARTS)), "|")
    plane = Linear(50)
    plane.fixed_shape = True
    cases = {"plane, d = 50": (plane, points_in_the_box(50, options.points))}
    cases |= {name: (model, model.points(options.points, 3)) for name, model in ORACLES.items()}
    for name, (model, x) in cases.items():
        if name.startswith(tuple(options.only)):
            oracle_line(name, model, x, options.iterations)


if __name__ == "__main__":
    main()
