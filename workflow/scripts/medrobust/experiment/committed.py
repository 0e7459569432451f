"""Records that are committed instead of made: what they hold, and whether they fit the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrobust.core.errors import InputError
from medrobust.core.io import read_json
from medrobust.core.schema import checked
from medrobust.data.weights import RANDOM
from medrobust.experiment.config import Resolved, Study, resolve, with_parts, with_random_weights
from medrobust.experiment.graph import Graph
from medrobust.experiment.layout import RUN_FACTS


def study_of_records(resolved: Resolved) -> Resolved:
    """Leaves the one study that the folder of committed records is named after."""
    folder = str(resolved.config.records_from)
    name = Path(folder).name
    if name in resolved.studies:
        return replace(resolved, studies={name: resolved.studies[name]})
    if len(resolved.studies) > 1:
        raise InputError(
            "These are the records of one study, and several are selected.",
            where=f"config/config.yaml, key records_from: {folder}",
            remedy=f"select one (studies: [{next(iter(resolved.studies))}]), or give a folder that "
            "has a study's name.",
        )
    return resolved


def as_committed(resolved: Resolved, values: Mapping[str, Any]) -> Resolved:
    """Returns the configuration with the data sets and models that the committed records hold."""
    file = resolved.records / resolved.run / RUN_FACTS
    if not file.is_file():
        return resolved
    with_all = {**values, "include_extras": True, "leave_out": []}
    everything = resolve(with_all, resolved.root, resolved.here, to_run=False)
    committed = read_json(file)["study"]
    at_random = {
        name
        for name, model in committed["models"].items()
        if model.get("initial_weights") == RANDOM
    }
    studies = {
        name: with_random_weights(
            with_parts(study, committed["datasets"], committed["models"], committed["attacks"]),
            at_random,
        )
        for name, study in everything.studies.items()
        if name in resolved.studies
    }
    return replace(resolved, studies=studies)


def check_committed(graph: Graph, study: str) -> None:
    """Refuses records that were made with other settings than those that captions would state."""
    file = graph.resolved.records / graph.resolved.run / RUN_FACTS
    if not file.is_file():
        raise InputError("The committed records do not say how they were made.", where=str(file))
    committed, current = read_json(file), graph.run_facts(study)
    # Settings that did not exist then have their defaults.
    committed["study"] = checked(Study, committed["study"], file=str(file)).model_dump(mode="json")
    for facts in (committed, current):
        # What is drawn from records does not shape them, nor does their division into jobs.
        for key in ("artefacts", "claims"):
            facts["study"].pop(key, None)
        for attack in facts["study"]["attacks"].values():
            attack.pop("points_per_job", None)
        _say_data_sets_alike(facts["study"])
    if committed != current:
        difference = _difference(committed, current)
        raise InputError(
            f"The committed records were made with other settings: {difference}.",
            where=str(file),
            remedy="set the configuration to theirs, or run the study itself.",
        )


def _say_data_sets_alike(study: dict[str, Any]) -> None:
    """Names the data sets of each model that are there; null: all, however the file says so."""
    there = list(study["datasets"])
    for model in study["models"].values():
        named = [name for name in there if name in (model["datasets"] or there)]
        model["datasets"] = None if named == there else named


def _difference(committed: Any, current: Any, place: str = "") -> str:
    """Returns the first place where two nested values differ."""
    if isinstance(committed, dict) and isinstance(current, dict):
        for key in sorted({*committed, *current}):
            if committed.get(key) != current.get(key):
                inner = f"{place}.{key}".lstrip(".")
                return _difference(committed.get(key), current.get(key), inner)
    return f"{place} was {committed!r}, is {current!r}"


def committed_sources(resolved: Resolved) -> dict[str, str]:
    folder = resolved.records / resolved.run / "evaluations"
    folders = [path.name for path in sorted(folder.glob("*@*")) if path.is_dir()]
    if not folders:
        raise InputError(
            f"There are no committed records of the run {resolved.run!r} here.",
            where=f"config/config.yaml, key records_from: {folder}",
            remedy="set `scale` and `protocol` to those of a run that lies there.",
        )
    sources = dict(name.split("@", 1) for name in folders)
    for study in resolved.studies.values():
        for dataset in [d for d in study.datasets if d not in sources]:
            raise InputError(
                f"The committed records hold nothing of the data set {dataset!r}.",
                where=str(folder),
                remedy="leave it out, or run the study itself (records_from: null).",
            )
    return sources
