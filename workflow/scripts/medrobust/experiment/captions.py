"""What captions and provenance say of a run: amounts, attacks, sources, points, in words."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from medrobust.data.registry import STANDIN
from medrobust.experiment.config import Attack
from medrobust.experiment.entries import cells_of_artefact
from medrobust.experiment.graph import Graph
from medrobust.experiment.sources import NOT_IN_CAPTIONS, changed_settings
from medrobust.reporting.catalogue import Artefact


@functools.lru_cache(maxsize=64)
def run_facts(graph: Graph, study: str) -> dict[str, Any]:
    """Returns what every file of a study states of the run that made it."""
    config = graph.resolved.config
    # What was drawn from committed records is drawn again from these alone.
    left_out = [name for name in NOT_IN_CAPTIONS if name != "records_from"]
    settings = changed_settings(config, without=left_out)
    return {
        "run": graph.resolved.run,
        "scale": config.scale,
        "protocol": config.protocol,
        "seed": config.seed,
        "config_hash": graph.study_hash(study),
        "command": f"{study}{settings}",
        "unlike_the_paper": graph.resolved.unlike_the_paper(study),
        "drawn_from": config.records_from or "",
    }


@functools.lru_cache(maxsize=64)
def about(graph: Graph, study: str) -> dict[str, Any]:
    """Returns what a reader of the report must know before he believes a number."""
    config, settings = graph.resolved.config, graph.study(study)
    data = ", ".join(
        f"{setting.published_name or name} ({_amounts(graph, study, name)})"
        for name, setting in settings.datasets.items()
    )
    named = "; ".join(_attack_in_words(attack) for attack in settings.attacks.values())
    unlike = graph.resolved.unlike_the_paper(study)
    return {
        "scale": config.scale,
        "scale_text": f"{graph.resolved.scale.description} {unlike}".strip(),
        "protocol": config.protocol,
        "data": data,
        "attack": f"{named}, {cohort_rule(graph, study)}",
        "synthetic": STANDIN in graph.sources.values(),
    }


def _amounts(graph: Graph, study: str, dataset: str) -> str:
    """Returns the source of a data set, how many points its first attack takes, what was cut."""
    parts = [graph.sources[dataset]]
    first = next(iter(graph.attacks(study, dataset)), None)
    if first is not None:
        parts.append(f"n = {graph.attack_points(study, dataset, first)} attacked points")
    if graph.study(study).datasets[dataset].training_points is not None:
        parts.append(f"{graph.training_rows(study, dataset)} training points")
    return ", ".join(parts)


def _attack_in_words(attack: Attack) -> str:
    budget = ", ".join(f"{key} {value}" for key, value in attack.options.items())
    levels = "".join(
        f", {key} {' '.join(str(value) for value in values)}" for key, values in attack.grid.items()
    )
    return f"{attack.name} ({budget}{levels})"


def cohort_rule(graph: Graph, study: str) -> str:
    """Returns in words which points are attacked."""
    settings = graph.study(study)
    if settings.cohort is None:
        return "on test points whatever the models say of them"
    if settings.cohort.select == "random":
        return "on test points drawn at random"
    names = [settings.models[model].label for model in settings.cohort.models]
    return f"on test points that all of {', '.join(names)} classify correctly"


def first_attack(graph: Graph, study: str) -> dict[str, Any]:
    """Returns name and settings of a study's first attack."""
    attack = next(iter(graph.study(study).attacks.values()))
    return {"name": attack.name, **attack.options}


def attacks(graph: Graph, study: str) -> dict[str, dict[str, Any]]:
    """Returns of each attack its name, options, grid, and points per class."""
    return {
        name: {"name": attack.name, **attack.options, "grid": attack.grid}
        | {"points_per_class": attack.points_per_class}
        for name, attack in graph.study(study).attacks.items()
    }


def class_names(graph: Graph, study: str, artefact: Artefact) -> Sequence[str]:
    """Returns the names of the classes of the first data set that an artefact shows."""
    cells = cells_of_artefact(graph, study, artefact) or graph.cells(study)
    return graph.registry[cells[0].dataset].classes


def printed_sources(graph: Graph, study: str) -> dict[str, str]:
    """Returns the source of each data set, by its name in the published numbers."""
    names = graph.study(study).datasets
    return {setting.published_name or name: graph.sources[name] for name, setting in names.items()}
