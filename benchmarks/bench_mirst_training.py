"""Trainings of mirst on ResNet-50: steps beside their passes and beside a plain one, and memory.

Images are random numbers in batches of 8, as published. A step of MIRST and RST, as the workflow
takes it, stands beside the forward and backward passes within it; one of each defence beside that
of the baseline; and the most memory that a process takes that trains MIRST for a step.

    python benchmarks/bench_mirst_training.py [--size 64] [--steps 6] [--memory-size 224]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
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

STUDY = Path(__file__).parents[1] / "config/studies/mirst.yaml"
# Most that a step may take by its passes; GR's by the baseline's; memory in gigabytes.
SLOWER, GR, GIGABYTES = 1.15, 2.2, 6.0
PLAIN = "baseline"
BATCH = 8


def train(model: str, size: int, batches: int) -> None:
    """Trains a model of the study for an epoch of so many batches."""
    rng = np.random.default_rng(0)
    x = rng.random((BATCH * batches, 3, size, size), dtype=np.float32)
    work = Work(x, rng.integers(0, 2, len(x)), 2, [0], [1], input_range=(0.0, 1.0))
    chosen = yaml.safe_load(STUDY.read_text(encoding="utf-8"))["models"][model]
    where: dict[str, Any] = {"file": str(STUDY), "prefix": model}
    architecture, method = chosen["architecture"], chosen["method"] | {"max_epochs": 1}
    method_of(method["name"]).train(
        parse_spec("method", method, **where),
        architecture["name"],
        parse_spec("architecture", architecture, **where),
        work,
    )


def seconds(model: str, size: int, steps: int) -> float:
    """Returns the CPU seconds of a step: those of ``steps + 1`` less those of one."""

    def spent(batches: int) -> float:
        before = time.process_time()
        train(model, size, batches)
        return time.process_time() - before

    return (spent(steps + 1) - spent(1)) / steps


def passes(models: list[str], size: int, steps: int) -> None:
    """Prints what steps take by the passes within them."""
    watch = Stopwatch()
    for name in ("logits", "logits_and_pattern", "pull_back"):
        watch.passes(gradient_ascent.Network, name)
    watch.passes(flat_updates.FlatMember, "gradient")
    watch.whole(apart_steps._Slot, "step", "step")
    print(f"\n{f'{size} px, a step':<18}{'CPU s':>8}{'passes':>8}{'ratio':>8}{'bar':>8}")
    for model in models:
        watch.seconds.clear()
        train(model, size, steps)
        whole, inside = watch.seconds["step"] / steps, watch.seconds["step passes"] / steps
        print(f"{model:<18}{whole:>8.2f}{inside:>8.2f}{whole / inside:>8.3f}{SLOWER:>8.2f}")


def by_the_baseline(models: list[str], size: int, steps: int) -> None:
    """Prints steps by that of the baseline; the least of three each, in turn."""
    found: dict[str, list[float]] = {name: [] for name in (PLAIN, *models)}
    for _ in range(3):
        for name, taken in found.items():
            taken.append(seconds(name, size, steps))
    plain = min(found[PLAIN])
    print(f"\n{f'{size} px, a step':<18}{'CPU s':>8}{'by plain':>10}{'bar':>8}")
    for name, taken in found.items():
        bar = f"{GR:>8.1f}" if name == "gr" else ""
        print(f"{name:<18}{min(taken):>8.2f}{min(taken) / plain:>10.2f}{bar}")


def memory(model: str, size: int) -> None:
    """Prints the most memory of a process that trains a model for two steps."""
    command = [sys.executable, __file__, "--train", model, "--size", str(size)]
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{f'{model}, {size} px, memory in GB':<34}{peak:>8.2f}{GIGABYTES:>8.1f}")


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="pixels a side of the timed images")
    parser.add_argument("--memory-size", type=int, default=224, help="of those for the memory")
    parser.add_argument("--steps", type=int, default=6, help="that are timed")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    fix_threads(1)
    if options.train:
        train(options.train, options.size, 2)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
        return
    passes(["rst", "mirst", "mirst_dm", "at", "trades"], options.size, options.steps)
    by_the_baseline(["gr", "llr", "at", "rst", "mirst"], options.size, options.steps)
    print(f"\n{'Batch of 8':<34}{'found':>8}{'bar':>8}")
    for model in (PLAIN, "gr", "mirst"):
        memory(model, options.memory_size)


if __name__ == "__main__":
    main()
