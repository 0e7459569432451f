"""What a job asks of the machine: memory, time, a GPU.

A profile of a cluster sets the most that a job may ask for (``resources:`` in ``profiles/slurm``);
Snakemake lowers what is beyond. Training and attacks keep journals, so a job that is killed at its
limit goes on in its next attempt: an estimate decides how long a job waits, not whether it ends.
"""

from __future__ import annotations

from typing import Any

from medrobust.experiment import plan
from medrobust.experiment.gpus import claims
from medrobust.experiment.graph import Graph

LEAST_MINUTES = 10
#: Room for a machine three times slower than the one that unit costs were measured on.
SLOWER = 3
#: How much faster than one core a GPU is taken to be where time is asked for. Assumed, as is the
#: plan's expectation (``plan.GPU_SPEEDUP``), but with caution: small networks gain little.
LEAST_GPU_SPEEDUP = 5
#: Memory of the host that CUDA takes on top of a job on the CPU, in MB. Not measured here: users of
#: PyTorch report 1,200 to 2,000 (issues 19397, 106511 and 113326 of pytorch/pytorch).
CUDA_MB = 3000
#: PyTorch, nnU-Net and the slices of a data set, in MB.
SLICES_MB = 4000
#: Attempts ask for at most so many times the memory of the first: most follow a time limit.
MOST_MEMORY = 3


def memory_mb(graph: Graph, job: str, wildcards: dict[str, Any], attempt: int) -> int:
    """Returns the memory of a job that holds a data set, in MB; early attempts get more each."""
    gpus = claims(graph, job, wildcards)
    if job in plan.ON_SLICES:
        # What passes keep lies on the GPU, where there is one.
        graphs = 0 if gpus else plan.pixel_graph_bytes(graph, job, wildcards) // 10**6
        own = SLICES_MB + graphs
    else:
        own = 1000 + 4 * plan.dataset_megabytes(graph, wildcards["dataset"])
    return own * min(attempt, MOST_MEMORY) + CUDA_MB * gpus


def minutes(graph: Graph, job: str, wildcards: dict[str, Any], attempt: int) -> int:
    """Returns the time limit of a job that trains or attacks; each attempt gets more."""
    seconds = plan.work_seconds(graph, job, wildcards)
    if claims(graph, job, wildcards):
        seconds /= LEAST_GPU_SPEEDUP
    return max(LEAST_MINUTES, round(SLOWER * seconds / 60)) * attempt
