"""What a job asks of the machine: memory, time, a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from medrobust.experiment import plan
from medrobust.experiment.graph import Graph
from medrobust.experiment.layout import Cell
from medrobust.models.contract import architecture_of
from medrobust.training import trains_on_gpu

LEAST_MINUTES = 10
#: Room for a machine three times slower than the one that unit costs were measured on.
SLOWER = 3


def memory_mb(graph: Graph, dataset: str, attempt: int) -> int:
    """Returns the memory of a job that holds a data set, in MB; each attempt gets more."""
    return (1000 + 4 * plan.dataset_megabytes(graph, dataset)) * attempt


def minutes(graph: Graph, job: str, wildcards: dict[str, Any], attempt: int) -> int:
    """Returns the time limit of a job that trains or attacks; each attempt gets more."""
    return max(LEAST_MINUTES, round(SLOWER * _seconds(graph, job, wildcards) / 60)) * attempt


def _seconds(graph: Graph, job: str, wildcards: dict[str, Any]) -> float:
    work = SimpleNamespace(**wildcards)
    cell = Cell(
        work.run, work.study, work.dataset, work.source, int(work.fold), int(work.replicate)
    )
    if job == "train_members":
        members = int(work.last) - int(work.first) + 1
        return plan.training_seconds(graph, cell, work.model, members)
    start, stop = graph.chunks(work.study, work.dataset, work.model, work.attack)[int(work.chunk)]
    points = min(stop - start, graph.attack_points(work.study, work.dataset, work.attack))
    return plan.attack_seconds(graph, cell, work.model, work.attack, points)


def gpus(graph: Graph, job: str, study: str, model: str) -> int:
    """Returns how many GPUs a job on a model uses: 0 or 1."""
    settings = graph.study(study).models[model]
    architecture = settings.architecture["name"]
    if graph.resolved.config.device != "cuda":
        return 0
    if job == "train_members":
        return int(trains_on_gpu(architecture, settings.method["name"]))
    return int(architecture_of(architecture).uses_gpu)
