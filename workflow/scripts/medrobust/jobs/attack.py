"""Jobs that attack a chunk of points, and that join chunks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import io
from medrobust.core.contract import timing_kind
from medrobust.core.grid import grid_variants
from medrobust.core.logs import Progress, logger
from medrobust.core.machine import hardware, versions
from medrobust.core.registry import parse_spec
from medrobust.models.blocks import stated_block
from medrobust.models.contract import architecture_of
from medrobust.models.failures import failure_in
from medrobust.runtime.devices import choose_device, fix_threads, gpu_slot
from medrobust.runtime.journal import Journal, mark_done, progress_key

if TYPE_CHECKING:
    from medrobust.data.prepared.store import Dataset
    from medrobust.evaluation.given_starts import GivenStarts


def attack_chunk(
    *,
    data: str,
    members: Sequence[str],
    evaluated: str,
    cohort: str,
    records: str,
    arrays: str,
    timing: str,
    model: Mapping[str, Any],
    attack: Mapping[str, Any],
    points: Sequence[int],
    names: Sequence[object],
    seed: int,
    device: str,
    compute_threads: int,
    code: str,
    progress_dir: str,
    fold: int = 0,
) -> None:
    """Attacks the cohort's points at positions ``points[0] .. points[1] - 1``.

    A model whose training failed is not attacked: the files then hold no records and no arrays.

    Args:
        data: folder of the data set.
        fold: number of its split.
        members: safetensors files of the attacked model's training jobs.
        evaluated: JSON file of the model's clean evaluation, which states its members' hashes.
        cohort: CSV file of the points.
        records: parquet file to write, one row per (point, restart) and value of the grid.
        arrays: safetensors file to write: clean and adversarial points.
        timing: JSON file to write: seconds.
        model: ``architecture`` and ``vote`` of the attacked model, and whether records
            ``keep_probabilities``.
        attack: ``name`` and settings; the clip box, where not given, is the range of the
            training points (as in the authors' code). With a ``grid``, the points are attacked
            once for each of its values. ``keep_arrays``, given for points of a split: how many
            of the first points have their arrays kept.
        points: start and stop position.
        names: names of the piece of work; with ``seed``, the point and the restart they give
            the seed of each attack run, whatever the chunk.
        seed: root seed.
        device: "auto", "cpu" or "cuda".
        compute_threads: threads of the numerical libraries.
        code: hash of the code, part of the journal's key.
        progress_dir: folder of journals.

    Raises:
        InputError: a file of members is lost, or is not the one that was evaluated.
    """
    fix_threads(compute_threads)
    from medrobust.data.prepared.store import load_dataset
    from medrobust.evaluation.attacked import attack_variants
    from medrobust.evaluation.given_starts import given_starts, with_starts
    from medrobust.evaluation.grids import Variant, save_grid_chunk
    from medrobust.evaluation.records import no_records, save_chunk, save_records
    from medrobust.jobs.shared import (
        Stopwatch,
        evaluated_members,
        journal_file,
        load_ensemble,
    )

    watch = Stopwatch()
    dataset = load_dataset(data, fold)
    values = math.prod(dataset.x.shape[1:])
    work_kind = timing_kind("attack", attack["name"], model["architecture"]["name"], values)
    architecture = architecture_of(model["architecture"]["name"])
    kind = choose_device(device, architecture.uses_gpu)
    made_with = {"device": kind, "versions": versions(), "hardware": hardware()}
    inputs = evaluated_members(members, evaluated)
    made_with |= stated_block(architecture, kind)
    if failed := failure_in(members):
        logger.warning("training failed: %s; nothing is attacked", failed)
        io.write_tensors(arrays, {})
        watch.write(timing, work_kind, 0, **made_with)
        save_records(records, no_records())
        return
    settings = _settings(attack, dataset)
    variants = [
        (v, parse_spec("attack", settings | v, file="parameters of the job", prefix="attack"))
        for v in grid_variants(attack.get("grid", {}))
    ]
    chosen = io.read_table(cohort).iloc[points[0] : points[1]]
    ids = chosen["point_id"].to_numpy()
    x = dataset.points(ids)
    y = chosen["label"].to_numpy(dtype=np.int64)
    key = progress_key(
        {
            "model": dict(model),
            "attack": settings | ({"grid": attack["grid"]} if "grid" in attack else {}),
            "points": ids.tolist(),
            "seed": seed,
            "names": [str(n) for n in names],
            "threads": compute_threads,
            "device": kind,
            "versions": versions(),
        },
        inputs | {"x": hashlib.sha256(x.tobytes()).hexdigest()},
        code,
    )
    place = journal_file(progress_dir, "attack", key).with_suffix(".journal")
    results: list[Variant] = []
    kept = max(0, min(attack.get("keep_arrays", 0) - points[0], len(ids)))
    with gpu_slot(kind) as device_name, Journal(place, key) as journal:
        ensemble = load_ensemble(members, model, dataset, device_name)
        total = len(ids) * len(variants)
        progress = Progress(f"attacking with {attack['name']}", total, unit="points")
        starts = None
        if attack.get("start") == "fixed":
            starts = given_starts(ensemble, dataset, chosen, attack.get("target"))
            _tell_own_starts(starts, ids)
        for attacked in attack_variants(
            attack["name"],
            variants,
            ensemble,
            x,
            y,
            ids,
            seed=seed,
            names=names,
            input_range=dataset.input_range,
            x_start=None if starts is None else starts.x,
            probabilities=bool(model.get("keep_probabilities")),
            journal=journal,
            progress=progress,
        ):
            result, frame = attacked.result, attacked.records
            if starts is not None:
                frame = with_starts(frame, ids, starts)
            # A copy: the rows of a whole split at every epsilon would be gigabytes.
            results.append(Variant(attacked.options, result.x_adv[:kept].copy(), frame))
        spent = sum(
            float((v.records["queries"] + v.records["gradient_evaluations"]).sum()) for v in results
        )
        # Members computed one after the other cost one by one.
        apart = architecture.members_apart
        each = len(ensemble.member_scores(dataset.points([0]))) if apart else 1
        watch.write(timing, work_kind, each * spent, **made_with)
        # The records last: where they are, the rest is.
        if "keep_arrays" in attack:
            save_grid_chunk(records, arrays, results, x=x[:kept], point_ids=ids[:kept])
        else:
            # The cohort's: one variant, the last result.
            save_chunk(records, arrays, records=frame, x=x, point_ids=ids, result=result)
    mark_done(place)


def _settings(attack: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Returns name and options of an attack, the clip box filled in."""
    without = ("grid", "keep_arrays")
    given = {k: value for k, value in attack.items() if value is not None and k not in without}
    if "clip_min" not in given or "clip_max" not in given:
        low, high = float(dataset.x_train.min()), float(dataset.x_train.max())
        given = {"clip_min": low, "clip_max": high, **given}
    return given


def _tell_own_starts(starts: GivenStarts, ids: np.ndarray) -> None:
    own = ~starts.shared
    for point, start in zip(ids[own], starts.ids[own], strict=True):
        if start >= 0:
            what = f"begins at test point {start}, a start of the model's own"
        else:
            what = "has no start: the model calls no test point by another class than its own"
        logger.warning("point %d %s", point, what)


def gather_records(
    *,
    chunks: Sequence[str],
    arrays: Sequence[str],
    timings: Sequence[str],
    records: str,
    joined_arrays: str,
    made_with: str,
) -> None:
    """Joins the chunks of an attack into one table and one file of arrays, both by point.

    Args:
        chunks, arrays: the files that :func:`attack_chunk` wrote, in the order of points.
        timings: the timing files beside them.
        records: parquet file to write.
        joined_arrays: safetensors file to write.
        made_with: JSON file to write: on what the attacks ran, each combination once.

    Raises:
        InputError: arrays or timings of a chunk are lost.
    """
    from medrobust.evaluation.grids import BY_VARIANT
    from medrobust.evaluation.records import read_records, save_records
    from medrobust.jobs.shared import machines, require_beside

    require_beside([*arrays, *timings])
    save_records(records, read_records(chunks))
    parts = [io.read_tensors(file) for file in arrays]
    joined = {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
        if name not in BY_VARIANT
    }
    if joined:
        # Chunks are ordered each by itself; how points were divided into them may change nothing.
        order = np.argsort(joined["point_id"], kind="stable")
        joined = {name: values[order] for name, values in joined.items()}
    io.write_tensors(joined_arrays, {**parts[0], **joined})
    io.write_json(made_with, machines(timings))
