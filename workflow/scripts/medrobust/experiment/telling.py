"""What the terminal says of a run: before it the plan, what is missing, or that a part is asked
for; before and after it, which trainings failed.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from medrobust.core import io
from medrobust.experiment.gpus import gpus_of_run
from medrobust.experiment.graph import Graph
from medrobust.experiment.plan import plan_text
from medrobust.experiment.sources import not_there, preflight_text


def opening_text(graph: Graph, targets: Collection[str]) -> str:
    """Returns what is said first.

    A full run, and the target ``plan``, begin with the plan and what is not there; ``preflight``
    with all that is missing.
    One figure takes a part of what the plan would tell.
    """
    texts = []
    if "preflight" in targets:
        texts.append(preflight_text(graph, thorough=True))
    if "plan" in targets or set(targets) <= {"all", *graph.resolved.studies}:
        texts += [plan_text(graph), *failed_trainings(graph)]
        if "preflight" not in targets:
            texts += not_there(graph)
    elif "preflight" not in targets:
        texts.append("A part of the plan is asked for; the same command with -n tells its jobs.")
        texts += [said] if (said := gpus_of_run(graph).said) else []
    return "\n".join(texts)


def failed_trainings(graph: Graph) -> list[str]:
    """Returns a line on each model of the selected studies that is known to have failed.

    See :mod:`medrobust.models.failures`.
    """
    lines = []
    for study in graph.resolved.studies:
        for cell in graph.cells(study):
            for model in graph.trained(cell):
                summary = graph.evaluation(cell, model, "clean.json")
                failed = io.read_json(summary).get("failed") if Path(summary).is_file() else None
                if failed is not None:
                    lines.append(
                        f"TRAINING FAILED: {study}, {model}, {cell.path}: {failed}. Nothing of it "
                        "is shown or counted."
                    )
    return lines
