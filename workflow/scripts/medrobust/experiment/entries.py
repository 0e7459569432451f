"""Which results each table or figure shows, and in which files they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medrobust.evaluation.outcomes import FILE
from medrobust.evaluation.plane import is_plane
from medrobust.evaluation.residuals import FILE as RESIDUALS
from medrobust.evaluation.segmentation import PIXEL_ARRAYS, PIXEL_RECORDS, PIXEL_SUMMARY
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.graph import Graph
from medrobust.experiment.layout import Cell
from medrobust.models.contract import first_pooling_of
from medrobust.reporting.catalogue import Artefact, point_kind
from medrobust.training.contract import method_of

#: Field of an entry to the name of a rule's input.
_INPUTS = {
    "summary": "summaries",
    "predictions": "predictions",
    "records": "records",
    "arrays": "arrays",
    "tallies": "tallies",
    "probabilities": "probabilities",
    "attack_records": "attack_records",
    "attack_arrays": "attack_arrays",
    "kept_records": "kept_records",
    "residuals": "residuals",
    "margins": "margins",
    "plane": "planes",
    "search": "searches",
    "pixel_records": "pixel_records",
    "pixel_arrays": "pixel_arrays",
    "state": "states",
}


def entries_of(graph: Graph, study: str, artefact: Artefact) -> list[dict[str, Any]]:
    """Returns the results that an artefact shows, as
    :class:`medrobust.reporting.request.Entry`.

    What there is not of a model is left out: results of attacks that are not run on it,
    margins of training points where its method has none, and so on. A model that none of the
    artefact's attacks are run on is left out as a whole: nothing of it would be shown, and
    nobody should wait for it.
    """
    return [
        _entry(graph, cell, name, artefact)
        for cell in cells_of_artefact(graph, study, artefact)
        for name in graph.trained(cell)
        if _shows(graph, cell, name, artefact)
    ]


def _shows(graph: Graph, cell: Cell, name: str, artefact: Artefact) -> bool:
    settings = graph.study(cell.study)
    model = settings.models[name]
    printed = model.published_name or model.label
    if artefact.architectures and model.architecture["name"] not in artefact.architectures:
        return False
    if artefact.models and printed not in artefact.models:
        return False
    return not artefact.attacks or any(
        attack in artefact.attacks and (chosen.models is None or name in chosen.models)
        for attack, chosen in settings.attacks.items()
    )


def cells_of_artefact(graph: Graph, study: str, artefact: Artefact) -> list[Cell]:
    """Returns the cells that an artefact shows; none where a selection left them all out."""
    cells = [
        cell
        for cell in graph.cells(study)
        if (not artefact.datasets or cell.dataset in artefact.datasets)
        and artefact.points in ("", point_kind(graph.registry[cell.dataset].shape))
        and artefact.classes in (0, len(graph.registry[cell.dataset].classes))
    ]
    return cells[:1] if artefact.first_cell else cells


def attacks_shown(graph: Graph, study: str) -> dict[Cell, set[str]]:
    """Returns which attacks some artefact shows of each cell; of no artefact's cell there is none.

    One that names no attacks may show all.
    """
    shown: dict[Cell, set[str]] = {}
    settings, known = graph.study(study), artefacts_of(study)
    for artefact in map(known.get, settings.artefacts):
        named = artefact.attacks or settings.attacks
        for cell in cells_of_artefact(graph, study, artefact):
            shown.setdefault(cell, set()).update(named)
    return shown


def _entry(graph: Graph, cell: Cell, name: str, artefact: Artefact) -> dict[str, Any]:
    settings = graph.study(cell.study)
    use, model = settings.datasets[cell.dataset], settings.models[name]
    folders = _folders(graph, cell, name, artefact)
    tallied = {a: f for a, f in folders.items() if settings.attacks[a].tallied}
    boundary = {a: f for a, f in folders.items() if not settings.attacks[a].has_radius}
    kept = {a: f for a, f in folders.items() if settings.attacks[a].keep_arrays}
    files: dict[str, Any] = {
        "summary": graph.evaluation(cell, name, "clean.json"),
        "predictions": graph.evaluation(cell, name, "clean.parquet"),
        # Of the first attack.
        "records": [f"{folder}/records.parquet" for folder in list(folders.values())[:1]],
        "arrays": [f"{folder}/arrays.safetensors" for folder in list(folders.values())[:1]],
        "tallies": {attack: f"{folder}/tally.csv" for attack, folder in tallied.items()},
        "probabilities": {attack: f"{folder}/{FILE}" for attack, folder in tallied.items()},
        "attack_records": {
            attack: f"{folder}/records.parquet" for attack, folder in boundary.items()
        },
        "attack_arrays": {
            attack: f"{folder}/arrays.safetensors" for attack, folder in kept.items()
        },
        "kept_records": {attack: f"{folder}/records.parquet" for attack, folder in kept.items()},
        "residuals": _residuals(graph, cell, name, kept),
        "pixel_records": {a: f"{folder}/{PIXEL_RECORDS}" for a, folder in folders.items()},
        "pixel_arrays": {a: f"{folder}/{PIXEL_ARRAYS}" for a, folder in kept.items()},
        **_knowledge(graph, cell, name),
    }
    return {
        "dataset": use.published_name or cell.dataset,
        "model": model.published_name or model.label,
        "source": cell.source,
        "replicate": cell.replicate,
        "fold": cell.fold,
        "training_points": use.training_points,
        "epochs": model.method.get("max_epochs"),
        "points": point_kind(graph.registry[cell.dataset].shape),
        "state": _state(graph, cell, name, folders),
        # Said where it is so alone: most studies name no weights.
        **({"random_init": True} if name in graph.random_init(cell.study) else {}),
        **{need: files[need] for need in artefact.needs if need in files},
    }


def _state(graph: Graph, cell: Cell, name: str, folders: Mapping[str, str]) -> str:
    """Returns the file that tells whether a training failed; "" where there is none."""
    if not graph.of_volumes(cell.dataset):
        return graph.evaluation(cell, name, "clean.json")
    return next((f"{folder}/{PIXEL_SUMMARY}" for folder in folders.values()), "")


def _folders(graph: Graph, cell: Cell, name: str, artefact: Artefact) -> dict[str, str]:
    """Returns the folder of each attack on a model that an artefact shows."""
    return {
        attack: graph.evaluation(cell, name, attack)
        for attack, chosen in graph.study(cell.study).attacks.items()
        if (not artefact.attacks or attack in artefact.attacks)
        and (chosen.models is None or name in chosen.models)
    }


def _residuals(graph: Graph, cell: Cell, name: str, kept: Mapping[str, str]) -> dict[str, str]:
    """Returns the files of residual maps by attack, of networks that have a first pooling.

    Args:
        graph, cell, name: of the model.
        kept: folder of each attack that keeps arrays.
    """
    architecture = graph.study(cell.study).models[name].architecture
    if not _drawn(cell) or first_pooling_of(architecture) is None:
        return {}
    return {attack: f"{folder}/{RESIDUALS}" for attack, folder in kept.items()}


def _drawn(cell: Cell) -> bool:
    """Tells whether single points of a training are drawn: those of all would fill the evidence."""
    return cell.replicate == 0 and cell.fold == 0


def _knowledge(graph: Graph, cell: Cell, name: str) -> dict[str, str]:
    """Returns the files of what is known of a model beside attacks, as far as there are any."""
    method = method_of(graph.study(cell.study).models[name].method["name"])
    data = graph.registry[cell.dataset]
    files: dict[str, str] = {}
    if not _drawn(cell):
        return files
    if method.keeps_margins:
        files["margins"] = graph.evaluation(cell, name, "margins.safetensors")
    if is_plane(data.shape, len(data.classes)):
        files["plane"] = graph.evaluation(cell, name, "plane.safetensors")
        if method.search_can_be_traced:
            files["search"] = graph.evaluation(cell, name, "search.safetensors")
    return files


def knowledge_jobs(graph: Graph, cell: Cell, name: str) -> int:
    """Returns how many jobs make what artefacts show of a model beside attacks."""
    settings = graph.study(cell.study)
    needed = {n for a in settings.artefacts for n in artefacts_of(cell.study)[a].needs}
    mapped = residual_attacks(graph, cell, name)
    # Of an attack that has a tally, nothing else asks for its joined arrays.
    joined = [attack for attack in mapped if settings.attacks[attack].tallied]
    return sum(need in needed for need in _knowledge(graph, cell, name)) + len(mapped + joined)


def residual_attacks(graph: Graph, cell: Cell, name: str) -> list[str]:
    """Returns the attacks on a model of which artefacts show residual maps."""
    found: dict[str, str] = {}
    for artefact in map(artefacts_of(cell.study).get, graph.study(cell.study).artefacts):
        shown = "residuals" in artefact.needs and cell in cells_of_artefact(
            graph, cell.study, artefact
        )
        if shown and _shows(graph, cell, name, artefact):
            found |= _entry(graph, cell, name, artefact)["residuals"]
    return list(found)


def entry_files(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns the files of entries, by kind; a tally or kept arrays stand under their attack."""
    files: dict[str, list[str]] = {}
    for entry in entries:
        for need, name in _INPUTS.items():
            given = entry.get(need, [])
            if isinstance(given, dict):
                given = list(given.values())
            files.setdefault(name, []).extend([given] if isinstance(given, str) else given)
    return {name: paths for name, paths in files.items() if paths}
