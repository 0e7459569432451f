"""The jobs of the workflow: files in, files out, one function each.

The script of the rules, ``run_job.py``, and ``python -m medrobust`` call the same function with
plain values (paths, numbers, mappings), so a step can be run and debugged without Snakemake. Each
job writes its outputs whole and, where it takes long, keeps a journal in ``results/.progress``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from medrobust.runtime.devices import asked_device

#: Settings that a job reads from the configuration, because they change no result; what of an own
#: data set does is in the parameter ``definition``.
CIRCUMSTANCES = ("device", "raw_dir", "allow_subset", "own_datasets")

JOBS: dict[str, str] = {
    "fetch": "medrobust.jobs.data",
    "fetch_weights": "medrobust.jobs.data",
    "prepare": "medrobust.jobs.data",
    "train_members": "medrobust.jobs.train",
    "evaluate_clean": "medrobust.jobs.evaluate",
    "join_margins": "medrobust.jobs.evaluate",
    "map_plane": "medrobust.jobs.plane",
    "trace_search": "medrobust.jobs.plane",
    "map_residuals": "medrobust.jobs.residuals",
    "slice_volumes": "medrobust.jobs.segmentation",
    "train_pixels": "medrobust.jobs.segmentation",
    "attack_pixels": "medrobust.jobs.segmentation",
    "choose_cohort": "medrobust.jobs.evaluate",
    "draw_points": "medrobust.jobs.evaluate",
    "select_points": "medrobust.jobs.evaluate",
    "attack_chunk": "medrobust.jobs.attack",
    "gather_records": "medrobust.jobs.attack",
    "tally_attack": "medrobust.jobs.tally",
    "show_card": "medrobust.jobs.artefacts",
    "build_artefact": "medrobust.jobs.artefacts",
    "compare": "medrobust.jobs.artefacts",
    "check_published": "medrobust.jobs.artefacts",
}


def job_named(name: str) -> Callable[..., None]:
    """Returns the job called ``name``; only the modules that this job needs are imported."""
    return getattr(importlib.import_module(JOBS[name]), name)


def arguments_of(
    function: Callable[..., Any], given: Mapping[str, Any], circumstances: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the arguments that a job's function asks for by name.

    Args:
        function: the job.
        given: inputs, outputs and parameters of the call. Those that the function has no parameter
            for are what Snakemake alone must see.
        circumstances: settings of the configuration.
    """
    known = {**{name: circumstances.get(name) for name in CIRCUMSTANCES}, **given}
    names = inspect.signature(function).parameters
    return {name: known[name] for name in names if name in known}


def circumstances_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings :data:`CIRCUMSTANCES` of a configuration that was read, not checked."""

    # Snakemake hands over as text what is not spelled as in Python.
    def true(name: str) -> bool:
        return str(config.get(name)).lower() == "true"

    return {
        "device": asked_device(config.get("device") or "auto", allow_tf32=true("allow_tf32")),
        "raw_dir": config.get("raw_dir"),
        "allow_subset": true("allow_subset"),
        "own_datasets": config.get("own_datasets") or {},
    }
