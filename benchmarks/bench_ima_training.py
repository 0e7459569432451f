"""Training of ima: Moons as published, and what IMA's step takes beside its passes on images.

Moons: 20,000 points, 30 epochs, cross-entropy and IMA with the sweeps after each epoch, one
thread each; the bars are for two processors. Images: 28 x 28 random numbers through the paper's
network; a step as the workflow takes it (points gathered, the search in the balls, bisection, loss,
Adam) against the forward and backward passes within it. Margins grow from step to step, so that
points with and without a noisy one both occur. Wall time includes waiting for other programs, the
time on the processor (CPU) does not.

    python benchmarks/bench_ima_training.py [--images 2560] [--norms linf l2] [--no-moons]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
import yaml
from medrobust.attacks.engine import gradient_ascent
from medrobust.core.registry import parse_spec
from medrobust.runtime.devices import fix_threads
from medrobust.training.contract import method_of
from medrobust.training.engine import apart_steps, flat_updates
from medrobust.training.engine.work import Work
from stopwatch import Stopwatch

STUDY = Path(__file__).parents[1] / "config/studies/ima.yaml"
# Seconds on two processors; most that a step may take by its passes.
MOONS_BARS = {"moons_ce": 8.0, "moons_ima": 45.0}
SLOWER = 1.15


def settings_of(model: str, **changed: Any) -> tuple[str, Any, str, Any]:
    """Returns names and settings of a model's architecture and method, as in the study."""

    def code(node: Any) -> Any:
        if isinstance(node, dict):
            return node["code"] if set(node) == {"code", "text"} else {
                key: code(value) for key, value in node.items()
            }  # fmt: skip
        return node

    chosen = code(yaml.safe_load(STUDY.read_text(encoding="utf-8"))["models"][model])
    architecture, method = chosen["architecture"], chosen["method"] | changed
    return (
        architecture["name"],
        parse_spec("architecture", architecture, file=str(STUDY), prefix=model),
        method["name"],
        parse_spec("method", method, file=str(STUDY), prefix=model),
    )


def train(model: str, work: Work, **changed: Any) -> tuple[float, float]:
    """Trains a model of the study; returns wall and CPU seconds."""
    architecture, architecture_spec, method, spec = settings_of(model, **changed)
    wall, cpu = time.perf_counter(), time.process_time()
    method_of(method).train(spec, architecture, architecture_spec, work)
    return time.perf_counter() - wall, time.process_time() - cpu


def moons() -> None:
    """Prints the times of the trainings on Moons."""
    from sklearn.datasets import make_moons

    x, y = make_moons(20_000, noise=0.05, random_state=0)
    work = Work(x.astype(np.float32), y.astype(np.int64), 2, [0], [1], input_range=(-2.0, 3.0))
    print(f"\n{'Moons, seconds':<16}{'wall':>8}{'CPU':>8}{'bar':>8}")
    for model, bar in MOONS_BARS.items():
        wall, cpu = train(model, work)
        print(f"{model:<16}{wall:>8.1f}{cpu:>8.1f}{bar:>8.1f}")


def images(count: int, norms: list[str]) -> None:
    """Prints a step's and a sweep's time by that of their passes."""
    rng = np.random.default_rng(0)
    x = rng.random((count, 1, 28, 28), dtype=np.float32)
    work = Work(x, rng.integers(0, 10, count), 10, [0], [1], input_range=(0.0, 1.0))
    watch = Stopwatch()
    for name in ("logits", "logits_and_pattern", "pull_back"):
        watch.passes(gradient_ascent.Network, name)
    watch.passes(flat_updates.FlatMember, "gradient")
    watch.whole(apart_steps._Slot, "step", "step")
    watch.whole(apart_steps.ApartSteps, "_sweep", "sweep")
    print(f"\n{'IMA, images':<16}{'CPU s':>8}{'passes':>8}{'ratio':>8}{'bar':>8}")
    for norm in norms:
        watch.seconds.clear()
        model = "fashion_ima" if norm == "linf" else "fashion_l2_ima"
        train(model, work, max_epochs=2)
        for what in ("step", "sweep"):
            whole, passes = watch.seconds[what], watch.seconds[f"{what} passes"]
            cells = f"{whole:>8.1f}{passes:>8.1f}{whole / passes:>8.3f}{SLOWER:>8.2f}"
            print(f"{norm + ', ' + what:<16}{cells}")


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2560, help="images of an epoch, of two")
    parser.add_argument("--norms", nargs="+", choices=["linf", "l2"], default=["linf", "l2"])
    parser.add_argument("--no-moons", action="store_true", help="images only")
    options = parser.parse_args()
    fix_threads(1)
    if not options.no_moons:
        moons()
    images(options.images, options.norms)


if __name__ == "__main__":
    main()
