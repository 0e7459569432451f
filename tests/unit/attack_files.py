"""Files of an attack with chosen distances: records and, if wanted, traces that agree with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from medrobust.core import io
from medrobust.reporting.attack_runs import AttackFiles


def write_records(path: Path, boundary, iterate, *, points=None, wrong=(), iterations=20) -> str:
    """Writes records whose restart r of point i ends at ``boundary[i][r]`` (NaN: it failed).

    Args:
        path: parquet file to write.
        boundary, iterate: ``[n, R]``, distances at the boundary and of the last iterate.
        points: their ids, 0 to n - 1 if not given.
        wrong: positions of points that the model gets wrong without attack.
        iterations: of every run.
    """
    boundary, iterate = np.asarray(boundary, float), np.asarray(iterate, float)
    n, restarts = boundary.shape
    points = np.arange(n) if points is None else np.asarray(points)
    rows = []
    for i, restart in np.ndindex(n, restarts):
        missed = i in wrong
        success = missed or np.isfinite(boundary[i, restart])
        distance = 0.0 if missed else boundary[i, restart]
        rows.append(
            {
                "point_id": points[i],
                "epsilon": np.nan,
                "loss": None,
                "restart": restart,
                "label": 0,
                "clean_prediction": 1 if missed else 0,
                "adversarial_prediction": 1 if success else None,
                "success": success,
                "l1": 2 * distance,
                "l2": distance,
                "linf": distance / 2,
                "l2_final_iterate": 0.0 if missed else iterate[i, restart],
                "queries": 100,
                "gradient_evaluations": 0,
                "iterations": iterations,
                "seed": 5,
                "init_ok": success,
                "box_violation": False,
            }
        )
    io.write_table(path, pd.DataFrame(rows))
    return str(path)


def write_traces(path: Path, boundary, iterate, queries, *, points=None) -> str:
    """Writes traces ``[n, R, T + 1]`` as an attack does."""
    boundary = np.asarray(boundary, np.float32)
    points = np.arange(len(boundary)) if points is None else points
    tensors = {
        "point_id": np.asarray(points, np.int64),
        "trace_boundary": boundary,
        "trace_iterate": np.asarray(iterate, np.float32),
        "trace_queries": np.asarray(queries, np.int64),
    }
    io.write_tensors(path, tensors)
    return str(path)


def made_traces(seed: int, n: int, restarts: int, max_iter: int, level: float = 0.3):
    """Returns boundary, iterate and queries of runs that come nearer as real ones do.

    Distances fall towards a level of the point's own, in each restart by another way; iteration
    t costs about 100 sqrt(t) queries; the start costs 1 to 1,000.
    """
    random = np.random.default_rng(seed)
    t = np.arange(max_iter + 1)
    floor = level * random.lognormal(0, 0.5, (n, 1, 1)) * random.lognormal(0, 0.1, (n, restarts, 1))
    start = random.uniform(4, 6, (n, restarts, 1))
    rate = random.uniform(0.8, 1.6, (n, restarts, 1))
    noise = random.lognormal(0, 0.03, (n, restarts, max_iter + 1))
    path = floor + (start - floor) / (1 + t) ** rate
    boundary = np.minimum.accumulate(path * noise, axis=-1)
    iterate = boundary * (1 + 0.15 * random.random((n, restarts, max_iter + 1)))
    first = random.integers(1, 1000, (n, restarts, 1))
    steps = 100 * np.sqrt(np.maximum(t, 1)) * (t > 0) + 25 * (t > 0)
    queries = first + 20 + np.cumsum(steps).astype(np.int64)
    return boundary, iterate, queries


def attack_files(
    folder: Path, model: str, boundary, iterate, queries=None, *, dataset="MIT-BIH", source="kaggle"
) -> AttackFiles:
    """Writes one replicate; traces ``[n, R, T + 1]``, or distances ``[n, R]`` without traces."""
    boundary, iterate = np.asarray(boundary, float), np.asarray(iterate, float)
    stem = folder / f"{dataset}-{model}"
    arrays = f"{stem}.safetensors"
    if queries is None:
        io.write_tensors(arrays, {"point_id": np.arange(len(boundary))})
        final = boundary, iterate
    else:
        write_traces(Path(arrays), boundary, iterate, queries)
        final = boundary[..., -1].astype(np.float32), iterate[..., -1].astype(np.float32)
    iterations = 20 if queries is None else boundary.shape[-1] - 1
    records = write_records(Path(f"{stem}.parquet"), *final, iterations=iterations)
    return AttackFiles(dataset, model, source, [[records]], [[arrays]])


def evaluated_by(file: Path, members: list[str]) -> str:
    """Writes what a clean evaluation says of its members; returns the file."""
    hashes = {Path(name).name: io.sha256_of_file(name) for name in members}
    io.write_json(file, {"made_from": hashes})
    return str(file)
