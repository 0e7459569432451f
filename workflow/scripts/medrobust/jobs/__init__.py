"""The jobs of the workflow: files in, files out, one function each.

A rule's script and ``python -m medrobust`` call the same function with plain values (paths,
numbers, mappings), so a step can be run and debugged without Snakemake. Each job writes its
outputs whole and, where it takes long, keeps its progress in ``results/.progress``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

JOBS: dict[str, str] = {
    "fetch": "medrobust.jobs.data",
    "prepare": "medrobust.jobs.data",
    "train_members": "medrobust.jobs.train",
    "evaluate_clean": "medrobust.jobs.evaluate",
    "join_margins": "medrobust.jobs.evaluate",
    "map_plane": "medrobust.jobs.plane",
    "trace_search": "medrobust.jobs.plane",
    "choose_cohort": "medrobust.jobs.evaluate",
    "select_points": "medrobust.jobs.evaluate",
    "attack_chunk": "medrobust.jobs.attack",
    "gather_records": "medrobust.jobs.attack",
    "tally_attack": "medrobust.jobs.tally",
    "build_artefact": "medrobust.jobs.artefacts",
    "compare": "medrobust.jobs.artefacts",
    "check_published": "medrobust.jobs.artefacts",
}


def job_named(name: str) -> Callable[..., None]:
    """Returns the job called ``name``; only the modules that this job needs are imported."""
    return getattr(importlib.import_module(JOBS[name]), name)
