"""GPUs for the jobs of a run: which jobs claim one, how many run at once, and why.

A job that uses a GPU claims Snakemake's resource ``gpu``. On this machine there are as many as the
process that starts the jobs sees; jobs beyond wait unstarted and hold no core. An executor takes
the claim to its scheduler.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medrobust.core.words import counted
from medrobust.experiment.graph import Graph
from medrobust.models.contract import architecture_of
from medrobust.runtime import gpus
from medrobust.training import trains_on_gpu

#: Jobs that compute on a GPU where the model or its training has a use for one.
ON_GPU = frozenset(
    {"train_members", "evaluate_clean", "map_plane", "attack_chunk", "map_residuals"}
    | {"train_pixels", "attack_pixels"}
)


@dataclass(frozen=True)
class Gpus:
    """What a run asks of GPUs.

    Attributes:
        claimed: whether jobs that use a GPU claim one.
        at_once: how many there are for the jobs of this machine; None: whoever runs them knows.
        said: what the plan says of it; "" where there is nothing to say.
    """

    claimed: bool
    at_once: int | None
    said: str


@functools.lru_cache(maxsize=16)
def gpus_of_run(graph: Graph) -> Gpus:
    """Returns what a run asks of GPUs, by its setting ``device`` and where its jobs run."""
    device = graph.resolved.config.device
    if device == "cpu" or graph.resolved.config.records_from is not None:
        return Gpus(claimed=False, at_once=None, said="")
    if graph.executor is not None:
        return _handed_over(device, graph.executor)
    names = gpus.visible(os.environ)
    seen = counted(len(names), "GPU", "GPUs")
    if device == "cuda":
        if not names:
            return Gpus(claimed=True, at_once=None, said="")  # preflight and jobs refuse it
        return Gpus(claimed=True, at_once=len(names), said=_taken(device, seen, len(names)))
    if missing := _why_none(names, same_packages=graph.same_packages):
        said = f"device auto: everything computes on the CPU: {missing}"
        return Gpus(claimed=False, at_once=None, said=said)
    return Gpus(claimed=True, at_once=len(names), said=_taken(device, seen, len(names)))


def claims(graph: Graph, job: str, work: Mapping[str, Any]) -> int:
    """Returns how many GPUs a job claims: 0 or 1; ``work`` has its wildcards."""
    if job not in ON_GPU or not gpus_of_run(graph).claimed:
        return 0
    settings = graph.study(work["study"]).models[work["model"]]
    architecture = settings.architecture["name"]
    if job == "train_members":
        return int(trains_on_gpu(architecture, settings.method["name"]))
    return int(architecture_of(architecture).uses_gpu)


def _handed_over(device: str, executor: str) -> Gpus:
    if device == "cuda":
        said = f"device cuda: each job that uses a GPU asks the executor {executor} for one"
        return Gpus(claimed=True, at_once=None, said=said)
    said = (
        f"device auto: NO GPU IS ASKED FOR: the executor {executor} may start jobs on machines "
        "that have none, and there they compute on the CPU; to ask for GPUs, set device=cuda"
    )
    return Gpus(claimed=False, at_once=None, said=said)


def _taken(device: str, seen: str, count: int) -> str:
    jobs = "one job that uses it" if count == 1 else f"{count} jobs that use one"
    return f"device {device}: networks compute on a GPU; {seen} seen here, so {jobs} at a time"


def _why_none(names: tuple[str, ...], *, same_packages: bool) -> str:
    """Returns why jobs of this machine compute on the CPU, "" where they take a GPU."""
    if gpus.under_scheduler(os.environ) and not gpus.given(os.environ):
        return "the scheduler gave this allocation no GPU"
    if not names:
        hidden = os.environ.get(gpus.VISIBLE)
        return "no GPU is seen here" + ("" if hidden is None else f" ({gpus.VISIBLE}={hidden})")
    # In environments of their own jobs have another PyTorch.
    if same_packages and gpu_state() == "none":
        return f"{counted(len(names), 'GPU', 'GPUs')} seen here, but this PyTorch cannot use a GPU"
    return ""


_ASKS_TORCH = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)"


def gpu_state() -> Literal["usable", "none", "unknown"]:
    """Returns whether PyTorch finds a CUDA device; asked in a process of its own.

    The driver of a run need not have PyTorch, and one that started CUDA would hold the device.
    """
    try:
        importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    asked = subprocess.run([sys.executable, "-c", _ASKS_TORCH], capture_output=True, check=False)
    return "usable" if asked.returncode == 0 else "none"
