"""How long Snakemake takes before the first job: reading the workflow, and a dry run.

Runs in a fresh copy of the project, so that finished results play no part. The dry run plans
the default studies at scale ``paper`` with many attacked points, at the default chunk sizes; the
time to read the workflow, which every job on a cluster pays again, is that of the cheapest
target less the start of Python. Wall time is held against the bar; CPU time, which hardly
depends on what else the machine does, stands beside it.

    python benchmarks/bench_dry_run.py [--points 10000] [--repeat 3]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = (
    "Snakefile",
    "config",
    "workflow",
    "profiles",
    "envs",
    "resources/published",
    "resources/checksums",
)
DRY_RUN_BAR, PARSE_BAR = 5.0, 1.5
# Compiled modules are kept, as they are for users.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Timing:
    """Seconds of one run of a command: on the clock, and of its processes."""

    wall: float
    cpu: float


def copy_project(folder: Path) -> None:
    """Copies what Snakemake reads, without results."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy(source, target)


def time_command(arguments: list[str], folder: Path) -> Timing:
    """Runs Python with ``arguments`` in ``folder``; stops with its output if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"python {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(wall, cpu)


def commands(points: int) -> dict[str, list[str]]:
    """Returns what is timed, by name."""
    overrides = f"overrides={{signnet: {{datasets: {{mitbih: {{points: {points}}}}}}}}}"
    snakemake = ["-m", "snakemake"]
    dry = [*snakemake, "--cores", "1", "-n"]
    return {
        "start of Python": ["-c", "pass"],
        "start of Snakemake": [*snakemake, "--version"],
        "cheapest target": [*dry, "plan", "--config", "scale=paper"],
        f"dry run, {points:,} points": [*dry, "--config", "scale=paper", overrides],
    }


def print_row(name: str, timings: list[Timing], bar: float | None, less: float = 0.0) -> None:
    """Prints one line; ``less`` seconds are taken off the wall times."""
    walls = [timing.wall - less for timing in timings]
    held = f"{bar:>7.1f} {min(walls) / bar:>7.2f}" if bar else f"{'-':>7} {'-':>7}"
    cpu = min(timing.cpu for timing in timings)
    print(f"{name:<34} {min(walls):>7.2f} {statistics.median(walls):>7.2f} {cpu:>7.2f} {held}")


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    timed = commands(options.points)
    timings: dict[str, list[Timing]] = {name: [] for name in timed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        time_command(list(timed.values())[-1], folder)  # compiles the modules
        # In turns, so that a busy moment of the machine does not fall on one of them alone.
        for _ in range(options.repeat):
            for what, arguments in timed.items():
                timings[what].append(time_command(arguments, folder))
    python, snakemake, cheapest, dry_run = timings.values()
    start = min(timing.wall for timing in python)
    print(f"{'seconds':<34} {'min':>7} {'median':>7} {'CPU':>7} {'bar':>7} {'min/bar':>7}")
    print_row("start of Python", python, None)
    print_row("start of Snakemake alone", snakemake, None)
    print_row("reading the workflow (less Python)", cheapest, PARSE_BAR, less=start)
    print_row(f"dry run, {options.points:,} points", dry_run, DRY_RUN_BAR)


if __name__ == "__main__":
    main()
