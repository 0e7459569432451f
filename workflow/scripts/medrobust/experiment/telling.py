"""What the terminal says before a run: the plan, what is missing, or that a part is asked for."""

from __future__ import annotations

from collections.abc import Collection

from medrobust.experiment.graph import Graph
from medrobust.experiment.plan import format_plan, make_plan
from medrobust.experiment.sources import preflight_text


def opening_text(graph: Graph, targets: Collection[str]) -> str:
    """Returns what is said first.

    A full run, and the target ``plan``, begin with the plan; ``preflight`` with what is missing.
    One figure takes a part of what the plan would tell.
    """
    texts = []
    if "preflight" in targets:
        texts.append(preflight_text(graph, thorough=True))
    if "plan" in targets or set(targets) <= {"all", *graph.resolved.studies}:
        texts.append(format_plan(make_plan(graph), graph))
    elif "preflight" not in targets:
        texts.append("A part of the plan is asked for; the same command with -n tells its jobs.")
    return "\n".join(texts)
