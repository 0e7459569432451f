"""The plan: how many jobs, hours and bytes a run will take, before it starts.

Predictions multiply the amounts in the configuration by unit costs, which methods, architectures
and attacks state; they were measured on one core of a 2-core x86-64 machine. Once jobs have run,
the timing files beside their results replace them by the medians measured here.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrobust.core.errors import InputError
from medrobust.core.grid import grid_variants
from medrobust.core.registry import parse_spec
from medrobust.data.fetching.transfer import megabytes
from medrobust.data.registry import STANDIN
from medrobust.experiment.calls import work_of
from medrobust.experiment.catalogue import parts_of
from medrobust.experiment.costs import (
    attack_unit_seconds,
    query_seconds,
    training_unit_seconds,
)
from medrobust.experiment.entries import knowledge_jobs
from medrobust.experiment.fitting import lowered_text
from medrobust.experiment.gpus import claims, gpus_of_run
from medrobust.experiment.graph import Graph
from medrobust.experiment.initial_weights import weights_of_studies
from medrobust.experiment.layout import Cell
from medrobust.experiment.sources import also_prepared
from medrobust.models import nnunet
from medrobust.models.contract import architecture_of
from medrobust.training import planned_passes

SECONDS_PER_JOB = 4.0  # start of Python, imports, reading the data
GPU_SPEEDUP = 20.0
SHORTEST_MEASURED = 20.0  # CPU seconds of a job that tells what a unit costs
BYTES_PER_RECORD, BYTES_PER_FIGURE = 400, 600_000
#: Patches and batches that version 1 of nnU-Net planned for the hippocampus; slices that contain
#: every class and are for testing, of each case of the release (245 of 200 cases, a part of it).
PLANNED_PATCH, PLANNED_BATCH, TEST_SLICES_PER_CASE = (56, 40), 366, 1.3
#: Jobs that train or attack on slices of volumes.
ON_SLICES = ("train_pixels", "attack_pixels")
#: Jobs whose hours count; others take little more than their start.
TIMED = ("train_members", "evaluate_clean", "attack_chunk", *ON_SLICES)


@dataclass(frozen=True)
class StudyPlan:
    """What one study will take.

    Attributes:
        study: name of the study.
        jobs: jobs of the workflow, artefacts included.
        cpu_hours, gpu_hours: predicted hours of computing on one core or one GPU.
        longest_job_hours: the longest single job, a bound on the time however many cores.
        disk_gb: results in GB.
        download_gb: raw files and weights still to download, in GB.
        queries: model queries of all attacks.
    """

    study: str
    jobs: int
    cpu_hours: float
    gpu_hours: float
    longest_job_hours: float
    disk_gb: float
    download_gb: float
    queries: int


@dataclass(frozen=True)
class MeasuredCost:
    """What finished jobs of one kind took here.

    Attributes:
        kind: ``train:<method>:<architecture>:<values>`` or ``attack:<attack>:...`` of points of so
            many values.
        jobs: how many were measured.
        unit_seconds: their median CPU seconds per unit of work.
        lowest, highest: single jobs, as parts of the median.
        stated: seconds per unit that the library states, measured elsewhere; None: not known.
    """

    kind: str
    jobs: int
    unit_seconds: float
    lowest: float
    highest: float
    stated: float | None


def plan_text(graph: Graph) -> str:
    """Returns the plan as text, with the costs that were measured here."""
    costs = measured_costs(Path("results"))
    return format_plan(make_plan(graph, costs), graph, costs)


def make_plan(graph: Graph, costs: Sequence[MeasuredCost] = ()) -> list[StudyPlan]:
    """Returns the plan of every selected study; ``costs``: what jobs took here."""
    measured = {cost.kind: cost.unit_seconds for cost in costs}
    return [_plan_study(graph, study, measured) for study in graph.resolved.studies]


def format_plan(plans: list[StudyPlan], graph: Graph, costs: Sequence[MeasuredCost] = ()) -> str:
    """Returns the plan as a text table."""
    header = [
        "study",
        "jobs",
        "CPU h",
        "GPU h",
        "longest job h",
        "disk GB",
        "download GB",
        "queries",
    ]
    rows = [header]
    for plan in plans:
        rows.append(
            [
                plan.study,
                str(plan.jobs),
                f"{plan.cpu_hours:.2f}",
                f"{plan.gpu_hours:.2f}",
                f"{plan.longest_job_hours:.2f}",
                f"{plan.disk_gb:.2f}",
                f"{plan.download_gb:.2f}",
                f"{plan.queries:,}",
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    config = graph.resolved.config
    how = f"scale {config.scale}, protocol {config.protocol}"
    head = f"Plan of the run {graph.resolved.run} ({how}); finished jobs are not taken off:"
    weights = [
        f"weights {named.name} of {named.study}: {named.text}"
        + (f"; what to do: {named.remedy}" if named.remedy else "")
        for named in weights_of_studies(graph.resolved, graph.raw_dirs)
    ]
    left_out = [f"left out, its data cannot be had: {name}" for name in graph.skipped]
    also = [f"also prepared: {text}" for text in _also_prepared(graph)]
    lowered = [
        f"lowered to what the data hold: {text}"
        for study in graph.resolved.studies.values()
        if (text := lowered_text(study, graph.registry))
    ]
    measured = _measured_lines(costs)
    device = [said] if (said := gpus_of_run(graph).said) else []
    return "\n".join([head, *lines, *device, *measured, *weights, *lowered, *also, *left_out])


def _also_prepared(graph: Graph) -> list[str]:
    """Returns the data sets that no study uses, with their downloads."""
    if graph.resolved.config.records_from is not None:
        return []
    texts = []
    for name in also_prepared(graph.resolved):
        source = graph.sources.get(name)  # none: left out
        if source is not None:
            download = 0 if source == STANDIN else _download_bytes(graph, name)
            texts.append(f"{name}@{source}" + (f", {megabytes(download)}" if download else ""))
    return texts


def training_seconds(
    graph: Graph, cell: Cell, model: str, members: int, measured: Mapping[str, float] | None = None
) -> float:
    """Returns the predicted seconds to train ``members`` members on one core."""
    settings = graph.study(cell.study).models[model]
    unit = training_unit_seconds(
        settings.method["name"],
        settings.architecture["name"],
        measured,
        values=graph.values(cell.dataset),
    )
    rows = graph.training_rows(cell.study, cell.dataset)
    passes = planned_passes(settings.method, len(graph.registry[cell.dataset].classes), rows)
    return unit * members * passes * rows


def attack_seconds(
    graph: Graph,
    cell: Cell,
    model: str,
    attack: str,
    points: int,
    measured: Mapping[str, float] | None = None,
) -> float:
    """Returns the predicted seconds to attack ``points`` points on one core."""
    study, members = graph.study(cell.study), graph.n_members(cell.study, cell.dataset, model)
    unit = query_seconds(
        study.attacks[attack],
        study.models[model],
        members,
        measured,
        values=graph.values(cell.dataset),
    )
    return unit * points * graph.queries_per_point(cell.study, cell.dataset, model, attack)


def work_seconds(
    graph: Graph, job: str, work: Mapping[str, Any], measured: Mapping[str, float] | None = None
) -> float:
    """Returns the predicted seconds of a job that trains or attacks, on one core.

    Without the start of the job. Other jobs take little more than that: 0.

    Args:
        graph: of the configuration.
        job: name of the job, a key of ``calls.KINDS``.
        work: the job's wildcards; numbers may be text.
        measured: see :func:`measured_unit_seconds`.
    """
    if job == "train_members":
        return training_seconds(graph, Cell.of(work), work["model"], _members(work), measured)
    if job == "attack_chunk":
        points = _chunk_points(graph, work)
        return attack_seconds(graph, Cell.of(work), work["model"], work["attack"], points, measured)
    if job in ON_SLICES:
        return pixel_seconds(graph, job, work)
    return 0.0


def pixel_seconds(graph: Graph, job: str, work: Mapping[str, Any]) -> float:
    """Returns the predicted seconds of a job on slices, on one core.

    Where sizes are left to nnU-Net, or hang on the volumes, those of the hippocampus count.
    """
    study, name = graph.study(work["study"]), work["model"]
    model, dataset = study.models[name], work["dataset"]
    sides = model.architecture.get("patch_size") or PLANNED_PATCH
    plain = math.prod(sides) * (architecture_of(model.architecture["name"]).step_value_seconds or 0)
    if job == "train_pixels":
        spec = parse_spec("method", model.method, file="settings of the model", prefix="method")
        patches = spec.batches_per_epoch * (spec.batch_size or PLANNED_BATCH)
        return (
            plain * patches * planned_passes(model.method, len(graph.registry[dataset].classes), 0)
        )
    # A gradient with respect to the points is two thirds of a plain step.
    return plain * pixel_queries(graph, work) * 2 / 3


def pixel_graph_bytes(graph: Graph, job: str, work: Mapping[str, Any]) -> int:
    """Returns what passes of a job on slices keep for the way back, at most, in bytes.

    Where sizes are left to nnU-Net, those of the hippocampus count.
    """
    study, name = graph.study(work["study"]), work["model"]
    model = study.models[name]
    sides = model.architecture.get("patch_size") or PLANNED_PATCH
    if job == "train_pixels":
        batch, levels = model.method.get("batch_size"), 1
    else:
        attack = graph.attack(work["study"], work["dataset"], name, work["attack"])
        batch = attack.options.get("batch_size")
        levels = sum(variant.get("epsilon", 1) > 0 for variant in grid_variants(attack.grid))
    batch = batch or PLANNED_BATCH
    together = min(levels, nnunet.levels_at_once(batch, sides))
    return batch * together * math.prod(sides) * nnunet.GRAPH_BYTES


def pixel_queries(graph: Graph, work: Mapping[str, Any]) -> int:
    """Returns about how many passes, forward or backward, an attack on slices takes of each."""
    study, dataset = work["study"], work["dataset"]
    attack = graph.attack(study, dataset, work["model"], work["attack"])
    cases = sum(graph.registry[dataset].counts.official.get("all", {}).values())
    slices = attack.points or round(cases * TEST_SLICES_PER_CASE)
    return slices * graph.queries_per_point(study, dataset, work["model"], work["attack"])


def job_seconds(
    graph: Graph, job: str, work: Mapping[str, Any], measured: Mapping[str, float] | None = None
) -> tuple[float, bool]:
    """Returns the predicted seconds of a job, its start included, and whether a GPU computes.

    Arguments as for :func:`work_seconds`.
    """
    gpu = bool(claims(graph, job, work))
    seconds = work_seconds(graph, job, work, measured)
    return SECONDS_PER_JOB + (seconds / GPU_SPEEDUP if gpu else seconds), gpu


def _members(work: Mapping[str, Any]) -> int:
    return int(work["last"]) - int(work["first"]) + 1


def _member_bytes(graph: Graph, cell: Cell, model: str) -> int:
    """Returns the size of a trained member, 0 where its architecture does not say it."""
    settings, entry = graph.models(cell.study, cell.dataset)[model], graph.registry[cell.dataset]
    size_of = architecture_of(settings.architecture["name"]).member_bytes
    if size_of is None:
        return 0
    spec = parse_spec(
        "architecture", settings.architecture, file="settings of the model", prefix="architecture"
    )
    return int(size_of(spec, tuple(entry.shape), len(entry.classes)))


def _chunk_points(graph: Graph, work: Mapping[str, Any]) -> int:
    study, dataset, attack = work["study"], work["dataset"], work["attack"]
    start, stop = graph.chunks(study, dataset, work["model"], attack)[int(work["chunk"])]
    return min(stop - start, graph.attack_points(study, dataset, attack))


def dataset_megabytes(graph: Graph, dataset: str) -> int:
    """Returns the size of a data set's arrays in MB."""
    rows = graph.rows(dataset, "train") + graph.rows(dataset, "test")
    return math.ceil(4 * rows * math.prod(graph.registry[dataset].shape) / 1e6)


def measured_costs(results: Path) -> list[MeasuredCost]:
    """Returns what jobs that ran here took, by kind, from the timing files beside their results."""
    rates: dict[str, list[float]] = {}
    for file in results.glob("*/*/[em]*/**/*.timing.json"):
        try:
            timing: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            # Short jobs measure the start of Python, not the work.
            of_one_size = timing["kind"].count(":") == 3  # since points of all sizes are attacked
            if timing["cpu_s"] > SHORTEST_MEASURED and timing["units"] > 0 and of_one_size:
                rates.setdefault(timing["kind"], []).append(timing["cpu_s"] / timing["units"])
        except (ValueError, KeyError, OSError):
            continue
    costs = []
    for kind, values in sorted(rates.items()):
        median = statistics.median(values)
        low, high = min(values) / median, max(values) / median
        costs.append(MeasuredCost(kind, len(values), median, low, high, _stated(kind)))
    return costs


def measured_unit_seconds(results: Path) -> dict[str, float]:
    """Returns the median CPU seconds per unit of each kind of job that has run here."""
    return {cost.kind: cost.unit_seconds for cost in measured_costs(results)}


def _stated(kind: str) -> float | None:
    """Returns what the library states of a kind of job; None where a name is not known (now)."""
    work, name, architecture, values = kind.split(":")
    stated = {"train": training_unit_seconds, "attack": attack_unit_seconds}[work]
    try:
        return stated(name, architecture, values=int(values))
    except InputError:
        return None


def _measured_lines(costs: Sequence[MeasuredCost]) -> list[str]:
    """Returns what the plan says of costs measured here: how far off the stated ones were."""
    if not costs:
        return []
    lines = [
        "Costs of finished jobs here (CPU time, jobs of over "
        f"{SHORTEST_MEASURED:.0f} s) replace the stated ones:"
    ]
    for cost in costs:
        jobs = f"{cost.jobs} job" + ("s" if cost.jobs > 1 else "")
        text = f"  {cost.kind}: {jobs}"
        if cost.stated is not None:
            text += f", {cost.unit_seconds / cost.stated:.2g} times what was stated"
        if cost.jobs > 1:
            text += f"; single jobs {cost.lowest:.2f} to {cost.highest:.2f} of their median"
        lines.append(text)
    return lines


def _plan_study(graph: Graph, study: str, measured: Mapping[str, float]) -> StudyPlan:
    settings = graph.study(study)
    redraw = graph.resolved.config.records_from is not None
    jobs, queries, disk, longest = 0, 0, 0.0, 0.0
    hours = {"cpu": 0.0, "gpu": 0.0}

    for job, work in [] if redraw else work_of(graph, study):
        jobs += 1
        if "model" not in work:
            continue
        cell, name = Cell.of(work), work["model"]
        if job == "train_members":
            disk += _members(work) * _member_bytes(graph, cell, name)
        if job in TIMED:
            seconds, gpu = job_seconds(graph, job, work, measured)
            hours["gpu" if gpu else "cpu"] += seconds / 3600
            longest = max(longest, seconds / 3600)
        if job == "evaluate_clean":
            jobs += knowledge_jobs(graph, cell, name)  # margins, maps
        elif job == "attack_pixels":
            queries += pixel_queries(graph, work)
        elif job == "attack_chunk":
            points = _chunk_points(graph, work)
            queries += points * graph.queries_per_point(study, cell.dataset, name, work["attack"])
            # Chunks and the joined file; of a cohort also arrays.
            chosen = settings.attacks[work["attack"]]
            records = points * len(grid_variants(chosen.grid))
            disk += BYTES_PER_RECORD * records * (0.2 if chosen.of_split else 10)
    download = 0
    for dataset in [] if redraw else settings.datasets:
        fetched = graph.sources[dataset] != STANDIN
        jobs += 2 + fetched  # its arrays, its card as a page
        disk += 1e6 * dataset_megabytes(graph, dataset)
        if fetched:
            download += _download_bytes(graph, dataset)
    for named in weights_of_studies(graph.resolved, graph.raw_dirs):
        if named.study == study:
            jobs += named.fetched
            download += named.download_bytes
    jobs += len(settings.artefacts)
    if settings.published is not None:
        # The comparison, and the check of the printed numbers.
        jobs += 1 + bool(parts_of(study).printed_averages)
    disk += BYTES_PER_FIGURE * len(settings.artefacts)
    return StudyPlan(
        study,
        jobs,
        hours["cpu"],
        hours["gpu"],
        longest,
        disk / 1e9,
        download / 1e9,
        queries,
    )


def _download_bytes(graph: Graph, dataset: str) -> int:
    from medrobust.data.fetching.fetch import locate
    from medrobust.experiment.preflight import still_to_download

    entry, origin = graph.registry[dataset], graph.origins[dataset]
    located = locate(entry, origin, graph.raw_dirs)
    return 0 if located.complete else still_to_download(located)
