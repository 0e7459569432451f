"""What a job asks of the machine: memory, time, a GPU."""

from __future__ import annotations

from typing import Any

from medrobust.experiment import plan
from medrobust.experiment.gpus import gpus_of_run
from medrobust.experiment.graph import Graph
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
    seconds = plan.work_seconds(graph, job, wildcards)
    return max(LEAST_MINUTES, round(SLOWER * seconds / 60)) * attempt


def gpus(graph: Graph, job: str, study: str, model: str) -> int:
    """Returns how many GPUs a job on a model claims: 0 or 1."""
    settings = graph.study(study).models[model]
    architecture = settings.architecture["name"]
    if not gpus_of_run(graph).claimed:
        return 0
    if job == "train_members":
        return int(trains_on_gpu(architecture, settings.method["name"]))
    return int(architecture_of(architecture).uses_gpu)
