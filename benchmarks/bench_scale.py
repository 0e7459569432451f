"""What many points and many jobs cost: dry runs up to 100,000 points, and 10,000 points run.

Dry runs plan an attack on six models, five points to a job: 1,000 points in 200 jobs up to 100,000
in 20,000. Time, memory and the exponent of their growth are printed. Then 10,000 points of a plane
are really attacked (uniform noise on a small network, which costs next to nothing), in jobs of
several sizes: what is left is what the workflow itself takes for a point.

    python benchmarks/bench_scale.py [--only dry,run] [--most 100000]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_dry_run import ENVIRONMENT, copy_project

MODELS, PER_JOB = 6, 5
SECONDS_BAR, MEGABYTES_BAR = 30.0, 1000.0
POINTS = 10_000
STUDY = """
title: Noise on a plane
citation: none
datasets:
  moons_large: {training_points: 400}
models:
  small:
    label: small
    architecture: {name: mlp, hidden_units: 4}
    method: {name: sgd_cross_entropy, learning_rate: 0.1, max_epochs: 5}
attacks:
  noise:
    name: uniform_noise
    select: test
    points_per_job: PER_JOB
    options: {restarts: 1}
    grid: {epsilon: [0.1]}
artefacts: [robust_accuracy]
"""


def run(arguments: list[str], folder: Path) -> tuple[float, float, float, str]:
    """Runs Snakemake; returns wall and CPU seconds, most memory in MB, and what it printed."""
    report = folder / "usage.json"
    code = (
        "import json, resource, subprocess, sys, time; b = time.perf_counter();"
        "d = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT);"
        "w = time.perf_counter() - b; u = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "json.dump([w, u.ru_utime + u.ru_stime, u.ru_maxrss / 1024], open(sys.argv[1], 'w'));"
        "sys.stdout.buffer.write(d.stdout); sys.exit(d.returncode)"
    )
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(
        [sys.executable, "-c", code, str(report), *command],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    wall, cpu, megabytes = json.loads(report.read_text())
    return wall, cpu, megabytes, done.stdout


def dry_runs(folder: Path, most: int) -> None:
    """Prints time and memory of dry runs from 1,000 points on, and how they grow."""
    print(f"{'points':>8} {'jobs':>7} {'wall s':>7} {'CPU s':>7} {'MB':>6}  exponents of jobs")
    before: tuple[int, float, float] | None = None
    points, cpu, megabytes, wall = 1000, 0.0, 0.0, 0.0
    while points <= most:
        each = math.ceil(points / MODELS)
        study = {"datasets": {"mitbih": {"points": each}}}
        study["attacks"] = {"hopskipjump": {"points_per_job": PER_JOB}}
        settings = [
            "studies=signnet",
            "leave_out=ptbdb",
            f"overrides={json.dumps({'signnet': study})}",
        ]
        wall, cpu, megabytes, said = run(
            ["--cores", "1", "-n", "signnet_tab4", "--config", *settings], folder
        )
        jobs = int(re.search(r"^total +([\d,]+)", said, re.M)[1].replace(",", ""))
        grown = ""
        if before:
            times = math.log(jobs / before[0])
            exponents = [math.log(cpu / before[1]), math.log(megabytes / before[2])]
            grown = "CPU {:.2f}, memory {:.2f}".format(*(x / times for x in exponents))
        print(
            f"{points:>8,} {jobs:>7,} {wall:>7.2f} {cpu:>7.2f} {megabytes:>6.0f}  {grown}",
            flush=True,
        )
        before = (jobs, cpu, megabytes)
        points *= 10
    print(
        f"last: {wall:.1f} s of {SECONDS_BAR:.0f} s ({wall / SECONDS_BAR:.2f}), "
        f"{megabytes:.0f} MB of {MEGABYTES_BAR:.0f} MB ({megabytes / MEGABYTES_BAR:.2f})"
    )


def seconds_in_jobs(study: Path) -> tuple[int, float, float]:
    """Returns number, seconds of the processes, and of the attacks within them."""
    lasted = [
        file.read_text().splitlines()[1].split("\t") for file in study.rglob("chunk*.benchmark.tsv")
    ]
    timings = [json.loads(file.read_text())["wall_s"] for file in study.rglob("chunk*.timing.json")]
    return len(lasted), sum(float(row[0]) for row in lasted), sum(timings)


def real_runs(folder: Path, sizes: list[int], cores: int) -> None:
    """Prints what an attack on 10,000 points takes that costs nothing itself."""
    registry = folder / "config/datasets.yaml"
    text = registry.read_text(encoding="utf-8")
    entry = re.search(r"^  moons:\n.*?(?=^  \w)", text, re.M | re.S)[0]
    half = POINTS // 2
    large = (
        entry.replace("  moons:", "  moons_large:", 1)
        .replace("n_test: 2000", f"n_test: {POINTS}")
        .replace("test: {upper: 1000, lower: 1000}", f"test: {{upper: {half}, lower: {half}}}")
    )
    large = re.sub(r"      paper:\n(?: {8,}.*\n)+", "", large)
    registry.write_text(text.rstrip("\n") + "\n\n" + large.rstrip() + "\n", encoding="utf-8")
    print(f"{POINTS:,} points, {cores} cores; milliseconds per point:")
    heads = [f"{head:>9}" for head in ("a job", "jobs", "wall s", "all", "attack", "start")]
    print(*heads, f"{'Snakemake':>11}", sep="")
    for size in sizes:
        name = f"noise{size}"
        (folder / f"{name}.yaml").write_text(STUDY.replace("PER_JOB", str(size)), encoding="utf-8")
        settings = ["--config", f"studies={folder / name}.yaml"]
        cell = f"results/paper-code/{name}/evaluations/moons_large@generated/fold0"
        # All that comes before the attack.
        run(
            [
                "--cores",
                str(cores),
                f"{cell}/rep0/small/clean.json",
                f"{cell}/noise/points.csv",
                *settings,
            ],
            folder,
        )
        wall, _, _, _ = run(
            ["--cores", str(cores), f"{cell}/rep0/small/noise/tally.csv", *settings], folder
        )
        jobs, lasted, attacking = seconds_in_jobs(folder / f"results/paper-code/{name}")
        each = 1000 / POINTS
        # Jobs run side by side: what Snakemake adds is the time in which the cores had no job.
        idle = wall - lasted / min(cores, jobs)
        print(
            f"{size:>9,}{jobs:>9,}{wall:>9.1f}{each * wall:>9.3f}{each * attacking:>9.3f}"
            f"{each * (lasted - attacking):>9.3f}{each * idle:>11.3f}",
            flush=True,
        )


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="dry,run")
    parser.add_argument("--most", type=int, default=100_000, help="points of the last dry run")
    parser.add_argument("--sizes", default="5000,500,100", help="points per job of the real runs")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        if "dry" in options.only:
            dry_runs(folder, options.most)
        if "run" in options.only:
            real_runs(folder, [int(size) for size in options.sizes.split(",")], options.cores)


if __name__ == "__main__":
    main()
