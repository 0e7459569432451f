"""What captions and provenance say of a run: amounts, attacks, sources, points, in words."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from medrobust.data.registry import STANDIN
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.config import Model, Study, choosers, trained_on
from medrobust.experiment.entries import cells_of_artefact
from medrobust.experiment.fitting import lowered_text
from medrobust.experiment.graph import Graph
from medrobust.experiment.sentences import facts_of
from medrobust.experiment.sources import NOT_IN_CAPTIONS, changed_settings
from medrobust.reporting import artefacts
from medrobust.reporting.catalogue import Artefact
from medrobust.reporting.generic import GENERIC


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
        "unlike_the_paper": _unlike(graph, study),
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
    named = "; ".join(_attack_in_words(graph, study, name) for name in settings.attacks)
    unlike = _unlike(graph, study)
    return {
        "scale": config.scale,
        "scale_text": f"{graph.resolved.scale.description} {unlike}".strip(),
        "protocol": config.protocol,
        "data": data,
        "attack": f"{named}, {cohort_rule(graph, study)}",
        "synthetic": STANDIN in graph.sources.values(),
    }


def _unlike(graph: Graph, study: str) -> str:
    """Returns in words in what a run differs from the study's file."""
    lowered = lowered_text(graph.study(study), graph.registry)
    parts = [random_init(graph, study), graph.resolved.unlike_the_paper(study), lowered]
    return " ".join(part for part in parts if part)


def random_init(graph: Graph, study: str) -> str:
    """Returns the sentence on models whose weights were not at hand, "" if there are none."""
    models = [graph.study(study).models[name].label for name in graph.random_init(study)]
    if not models:
        return ""
    return (
        "RANDOM INIT: networks began at random values, not with the pretrained weights that the "
        f"study names ({', '.join(dict.fromkeys(models))})."
    )


def _amounts(graph: Graph, study: str, dataset: str) -> str:
    """Returns the source of a data set, how many points its first attack takes, what was cut."""
    parts = [graph.sources[dataset]]
    first = next(iter(graph.attacks(study, dataset)), None)
    if first is not None:
        parts.append(f"n = {graph.attack_points(study, dataset, first)} attacked points")
    if graph.study(study).datasets[dataset].training_points is not None:
        what = "cases" if graph.of_volumes(dataset) else "points"
        parts.append(f"{graph.training_rows(study, dataset)} training {what}")
    return ", ".join(parts)


def _attack_in_words(graph: Graph, study: str, name: str) -> str:
    attack = graph.study(study).attacks[name]
    options = _options(graph, study, name, graph.study(study).datasets)
    others = artefacts.others_in_words(options.pop(artefacts.OTHERS, {}))
    budget = ", ".join(f"{key} {value}" for key, value in options.items())
    levels = "".join(
        f", {key} {' '.join(str(value) for value in values)}" for key, values in attack.grid.items()
    )
    return f"{attack.name} ({budget}{levels}{others})"


def _shown(graph: Graph, study: str, artefact: Artefact | None) -> list[str]:
    """Returns the data sets that an artefact shows; None: all of the study."""
    settings = graph.study(study)
    if artefact is None:
        return list(settings.datasets)
    cells = cells_of_artefact(graph, study, artefact)
    return list(dict.fromkeys(cell.dataset for cell in cells)) or list(settings.datasets)


def cohort_rule(graph: Graph, study: str, artefact: Artefact | None = None) -> str:
    """Returns in words which points of the data sets of an artefact (None: all) are attacked."""
    settings = graph.study(study)
    if settings.cohort is None:
        return "on test points whatever the models say of them"
    if settings.cohort.select == "random":
        return "on test points drawn at random"
    chosen_by: dict[str, list[str]] = {}
    fewer = []
    for dataset in _shown(graph, study, artefact):
        of_kind = [m for m in settings.cohort.models if _of_kind(settings.models[m], dataset)]
        there = choosers(settings, dataset)
        names, missing = (
            ", ".join(settings.models[m].label for m in of_kind if m in some)
            for some in (of_kind, set(of_kind) - set(there))
        )
        chosen_by.setdefault(names, []).append(dataset)
        fewer += [f"{dataset}: without {missing}"] if missing else []
    lists = [
        f"all of {names}" + (f" ({', '.join(datasets)})" if len(chosen_by) > 1 else "")
        for names, datasets in chosen_by.items()
    ]
    rule = f"on test points that {' or '.join(lists)} classify correctly"
    return f"{rule} ({'; '.join(fewer)})" if fewer else rule


def _of_kind(model: Model, dataset: str) -> bool:
    """Tells whether a model is for a data set, whether or not that goes without it."""
    return model.datasets is None or dataset in model.datasets


def _options(graph: Graph, study: str, name: str, datasets: Iterable[str]) -> dict[str, Any]:
    """Returns an attack's options, and under :data:`artefacts.OTHERS` who is attacked by others.

    What all ``datasets`` have in common stands among the options.
    """
    settings = graph.study(study)
    attack, shown = settings.attacks[name], list(datasets)
    own = [attack.for_datasets.get(dataset, {}) for dataset in shown]
    common = dict(own[0].items()) if own else {}
    for options in own[1:]:
        common = {k: v for k, v in common.items() if k in options and options[k] == v}
    usual = attack.options | common
    others: dict[str, dict[str, Any]] = {}
    for dataset, options in zip(shown, own, strict=True):
        label = settings.datasets[dataset].published_name or dataset
        others[label] = {k: v for k, v in options.items() if usual.get(k) != v}
    for model, options in attack.for_models.items():
        there = [d for d in shown if model in graph.attacked_models(study, name, d)]
        # Said where it is as usual too: on a data set that may be otherwise.
        others |= {_label(settings, model, there, shown): options} if there else {}
    others = {label: options for label, options in others.items() if options}
    return usual | ({artefacts.OTHERS: others} if others else {})


def _label(settings: Study, model: str, there: Sequence[str], shown: Sequence[str]) -> str:
    """Returns how a model is called, with its data sets where another on those shown is alike."""
    label = settings.models[model].label
    known = {name: one for dataset in shown for name, one in trained_on(settings, dataset).items()}
    alike = [name for name, one in known.items() if one.label == label and name != model]
    return f"{label} ({', '.join(there)})" if alike else label


def first_attack(graph: Graph, study: str, artefact: Artefact | None = None) -> dict[str, Any]:
    """Returns name and settings of a study's first attack, on the data sets of an artefact."""
    name, attack = next(iter(graph.study(study).attacks.items()))
    options = _options(graph, study, name, _shown(graph, study, artefact))
    return {"name": attack.name, **options}


def attacks(
    graph: Graph, study: str, artefact: Artefact | None = None
) -> dict[str, dict[str, Any]]:
    """Returns of each attack its name, options, grid, and points per class."""
    shown = _shown(graph, study, artefact)
    return {
        name: {"name": attack.name, **_options(graph, study, name, shown), "grid": attack.grid}
        | {"points_per_class": attack.points_per_class}
        for name, attack in graph.study(study).attacks.items()
    }


def claims(graph: Graph, study: str, name: str) -> dict[str, dict[str, Any]]:
    """Returns the sentences of a study's file for the artefact that judges them, else none."""
    if artefacts_of(study)[name] is not GENERIC.get("claims"):
        return {}
    settings = graph.study(study)
    datasets = {key: one.published_name or key for key, one in settings.datasets.items()}
    models = {key: one.published_name or one.label for key, one in settings.models.items()}
    trained = {dataset: list(trained_on(settings, dataset)) for dataset in settings.datasets}
    return {
        key: facts_of(sentence, trained, datasets, models)
        for key, sentence in settings.claims.items()
    }


def class_names(graph: Graph, study: str, artefact: Artefact) -> Sequence[str]:
    """Returns the names of the classes of the first data set that an artefact shows."""
    cells = cells_of_artefact(graph, study, artefact) or graph.cells(study)
    return graph.registry[cells[0].dataset].classes


def printed_sources(graph: Graph, study: str) -> dict[str, str]:
    """Returns the source of each data set, by its name in the published numbers."""
    names = graph.study(study).datasets
    return {setting.published_name or name: graph.sources[name] for name, setting in names.items()}
