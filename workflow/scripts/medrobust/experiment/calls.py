"""What each job is called with: one spelling for the rules, ``python -m medrobust`` and the tests.

A :class:`Kind` says of a job which files it writes and which parameters it takes. The values of the
wildcards of a path (data set, model, chunk and so on) choose one piece of work of that kind, a
:class:`Call`. A rule takes its inputs, outputs and parameters from here, so Snakemake sees all
that a result depends on; the script ``run_job.py`` hands those that the job's function asks for by
name to it. What changes no result (:data:`medrobust.jobs.CIRCUMSTANCES`) is no parameter: a job
reads it from the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from medrobust.core.errors import InputError
from medrobust.core.schema import unknown_name
from medrobust.data.prepared.slices import FOLDER as SLICED
from medrobust.data.prepared.slices import PLANS, SLICES
from medrobust.data.registry import STANDIN
from medrobust.evaluation.residuals import FILE as RESIDUALS
from medrobust.evaluation.residuals import own_pooling
from medrobust.evaluation.segmentation import PIXEL_ARRAYS, PIXEL_RECORDS, PIXEL_SUMMARY
from medrobust.experiment import captions, codes
from medrobust.experiment.catalogue import artefacts_of, parts_of
from medrobust.experiment.codehash import code_hash
from medrobust.experiment.config import Attack, Model, Study, choosers
from medrobust.experiment.entries import attacks_shown, cells_of_artefact, entries_of, entry_files
from medrobust.experiment.graph import Graph
from medrobust.experiment.layout import (
    CELL,
    DATA,
    EVALUATIONS,
    FOLD,
    JOURNALS,
    MODEL,
    SUBSET,
    SUFFIXES,
    WEIGHTS,
    Cell,
)
from medrobust.experiment.sources import with_dataset
from medrobust.reporting.generic import GENERIC

Files = str | list[str]


@dataclass(frozen=True)
class Call:
    """One piece of work.

    Attributes:
        job: name of the job, a key of :data:`KINDS`.
        inputs: name to the file or files that must be there.
        outputs: name to the file that is written.
        params: name to what else shapes the result, ``code`` among it.
    """

    job: str
    inputs: Mapping[str, Files]
    outputs: Mapping[str, str]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """All pieces of work of one job.

    Attributes:
        outputs: name to the path, with wildcards in braces; what is not known beforehand (the files
            of an artefact) comes from the call.
        params: names of the parameters.
        needs: returns the inputs and the parameters of one piece of work. Its second argument has
            the wildcards of the outputs as attributes.
    """

    outputs: Mapping[str, str]
    params: tuple[str, ...]
    needs: Callable[[Graph, Any], tuple[dict[str, Files], dict[str, Any]]]


def call_of(graph: Graph, job: str, **wildcards: Any) -> Call:
    """Returns what one piece of work is called with.

    Args:
        graph: of the configuration.
        job: a key of :data:`KINDS`.
        wildcards: values of the wildcards of its outputs; text, or numbers.

    Raises:
        InputError: the configuration makes no such file.
    """
    kind = KINDS[job]
    inputs, params = kind.needs(graph, SimpleNamespace(**wildcards))
    outputs = {name: path.format(**wildcards) for name, path in kind.outputs.items()}
    if set(params) != set(kind.params):
        raise ValueError(f"{job}: {set(params) ^ set(kind.params)}")
    return Call(job, inputs, outputs, params)


# --- data -------------------------------------------------------------------------------


def _fetch(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    # No input on purpose: where files lie does not change what they are, and a download must not
    # count as a changed input of the job that made it.
    return {}, {"dataset": work.dataset, "source": origin_of(graph, work.dataset, work.source)}


def _prepare(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    folder = DATA.format(dataset=work.dataset, source=work.source)
    synthetic = work.source == STANDIN
    if work.dataset not in graph.registry:
        raise unknown_name("data set", work.dataset, graph.registry, where="config/datasets.yaml")
    entry = graph.registry[work.dataset]
    return {} if synthetic else {"manifest": f"{folder}/raw.json"}, {
        "dataset": work.dataset,
        "source": origin_of(graph, work.dataset, work.source),
        "label": work.source,
        "out_dir": folder,
        "seed": graph.resolved.config.seed,
        "standin": _standin_size(graph, work.dataset) if synthetic else None,
        "processes": 2,
        "definition": codes.dataset_definition(entry),
        "code": codes.preparation_code(entry),
    }


def _show_card(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    folder = DATA.format(dataset=work.dataset, source=work.source)
    files: dict[str, Files] = {
        "card": f"{folder}/card.json",
        "text": f"{folder}/card.md",
        "preview": f"{folder}/preview.png",
    }
    return files, {"code": code_hash("medrobust.jobs.artefacts:show_card")}


def _fetch_weights(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    known = graph.resolved.weights
    if work.weights not in known:
        raise unknown_name("initial weights", work.weights, known, where="config/weights.yaml")
    return {}, {
        "name": work.weights,
        "definition": known[work.weights].model_dump(),
        "code": code_hash("medrobust.jobs.data:fetch_weights"),
    }


def _standin_size(graph: Graph, dataset: str) -> dict[str, int]:
    size = graph.resolved.scale.standin
    if size is None:
        raise InputError(
            f"{dataset}@standin was asked for, but the scale {graph.resolved.config.scale!r} runs "
            "on real data; stand-ins belong to --config scale=smoke."
        )
    return size.model_dump()


def origin_of(graph: Graph, dataset: str, source: str) -> str:
    """Returns the registry's source behind a label in a path, also of what no study selects.

    Raises:
        InputError: there is no such data set, or it would not get this label.
    """
    graph = with_dataset(graph, dataset)
    label = graph.sources[dataset]
    if label == source:
        return graph.origins[dataset]
    if source == SUBSET:
        raise InputError(
            f"{dataset}@{SUBSET} was asked for, but it would be {dataset}@{label}: a subset needs "
            "allow_subset=true and some files of the release, named as in docs/data.md, in "
            f"{' or '.join(map(str, graph.raw_dirs))}."
        )
    return source


def _data_files(work: Any) -> dict[str, Files]:
    """Returns the files of a prepared data set that a job with ``data`` and ``fold`` reads."""
    folder = DATA.format(dataset=work.dataset, source=work.source)
    return {
        "x": f"{folder}/x.npy",
        "y": f"{folder}/y.npy",
        "split": f"{folder}/split_fold{work.fold}.csv",
        "card": f"{folder}/card.json",
    }


def _data_params(work: Any) -> dict[str, Any]:
    folder = DATA.format(dataset=work.dataset, source=work.source)
    return {"data": folder, "fold": int(work.fold)}


# --- models -----------------------------------------------------------------------------


def _train(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    model, files = _model(graph, work), _data_files(work)
    if weights := graph.weights_file(work.study, work.model):
        files["weights"] = weights
    return files, {
        **_data_params(work),
        "model": training_params(model),
        "members": [int(work.first), int(work.last)],
        "training_points": _study(graph, work).datasets[work.dataset].training_points,
        "names": [*_cell(work).names, work.model],
        "seed": graph.resolved.config.seed,
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.training_code(model),
        "progress_dir": JOURNALS,
    }


def _evaluate_clean(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    model = _model(graph, work)
    return {**_data_files(work), "members": graph.member_files(_cell(work), work.model)}, {
        **_data_params(work),
        "model": prediction_params(model) | _kept(_study(graph, work)),
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.prediction_code(model),
    }


def _join_margins(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    _model(graph, work)
    return {"extras": graph.extra_files(_cell(work), work.model)}, {
        "code": code_hash("medrobust.jobs.evaluate:join_margins")
    }


def _map_plane(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    model = _model(graph, work)
    return {**_data_files(work), "members": graph.member_files(_cell(work), work.model)}, {
        **_data_params(work),
        "model": prediction_params(model),
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.plane_code(model, "map_plane"),
    }


def _trace_search(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    model, cell = _model(graph, work), _cell(work)
    files = {
        "members": graph.member_files(cell, work.model),
        "margins": graph.evaluation(cell, work.model, "margins.safetensors"),
    }
    return {**_data_files(work), **files}, {
        **_data_params(work),
        "model": prediction_params(model) | {"method": model.method},
        "names": [*cell.names, work.model],
        "seed": graph.resolved.config.seed,
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.plane_code(model, "trace_search"),
    }


def training_params(model: Model) -> dict[str, Any]:
    """Returns what a training job needs to know of its model (not its name or votes)."""
    return {"architecture": model.architecture, "method": model.method}


def prediction_params(model: Model) -> dict[str, Any]:
    """Returns what a job that queries a model needs to know of it."""
    return {"architecture": model.architecture, "vote": model.vote}


def _kept(study: Study) -> dict[str, bool]:
    """Returns what predictions and records hold beside labels; nothing where nobody asks."""
    return {"keep_probabilities": True} if study.keep_probabilities else {}


# --- attacks ----------------------------------------------------------------------------


def _choose_cohort(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    study = _study(graph, work)
    if study.cohort is None:
        raise InputError(
            f"The study {work.study} has no cohort: each attack takes points of a split.",
            remedy="nothing has to be chosen; run the attack.",
        )
    # Every replicate attacks the same points.
    cell = Cell(work.run, work.study, work.dataset, work.source, int(work.fold))
    models = choosers(study, work.dataset)
    files = [graph.evaluation(cell, model, "clean.parquet") for model in models]
    return {"predictions": files}, {
        "models": models,
        "points": study.datasets[work.dataset].points,
        "select": study.cohort.select,
        "names": cell.names[:-1],
        "seed": graph.resolved.config.seed,
        "fixed_starts": _from_fixed_starts(graph, work),
        "code": code_hash("medrobust.jobs.evaluate:choose_cohort"),
    }


def _from_fixed_starts(graph: Graph, work: Any) -> bool:
    """Tells whether an attack on the cohort begins at the points that the cohort names."""
    return any(
        attack.select == "cohort"
        and graph.attack(work.study, work.dataset, model, name).options.get("start") == "fixed"
        for name, attack in graph.attacks(work.study, work.dataset).items()
        for model in graph.attacked_models(work.study, name, work.dataset)
    )


def _draw_points(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    attack = _attack_of(graph, work)
    if attack.select != "random":
        raise InputError(f"The attack {work.attack!r} takes no points drawn at random.")
    files, params = _choose_cohort(graph, work)
    return files, {
        **{name: params[name] for name in ("models", "seed")},
        "points": attack.points,
        "names": [*params["names"], work.attack],
        "code": code_hash("medrobust.jobs.evaluate:draw_points"),
    }


def _select_points(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    attack = _attack_of(graph, work)
    if not attack.of_split:
        raise InputError(f"The attack {work.attack!r} takes no points of a split in their order.")
    return _data_files(work), {
        **_data_params(work),
        "split": attack.select,
        "points_per_class": attack.points_per_class,
        "points": attack.points,
        "code": code_hash("medrobust.jobs.evaluate:select_points"),
    }


def _attack(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    model, cell, attack = _model(graph, work), _cell(work), _attack_of(graph, work)
    # Data and members are known by the hashes that the evaluation states. As inputs of each of
    # thousands of jobs they took Snakemake longer than anything else.
    files: dict[str, Files] = {
        "evaluated": graph.evaluation(cell, work.model, "clean.json"),
        "cohort": graph.points_file(cell, work.attack),
    }
    return files, {
        **_data_params(work),
        "members": graph.member_files(cell, work.model),
        "model": prediction_params(model) | _kept(_study(graph, work)),
        "attack": attack_params(attack.amended(work.dataset, work.model)),
        "points": graph.chunks(work.study, work.dataset, work.model, work.attack)[int(work.chunk)],
        "names": [*cell.names, work.model, work.attack],
        "seed": graph.resolved.config.seed,
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.attack_code(model, attack.name),
        "progress_dir": JOURNALS,
    }


def _gather_records(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    _model(graph, work), _attack_of(graph, work)
    chunks = graph.chunk_files(_cell(work), work.model, work.attack)
    return {"chunks": chunks}, {
        **_beside(chunks, arrays=".safetensors", timings=".timing.json"),
        # Other arrays can come with the same records.
        "keep_arrays": _attack_of(graph, work).keep_arrays,
        "code": code_hash("medrobust.jobs.attack:gather_records"),
    }


def _tally_attack(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    cell = _cell(work)
    _model(graph, work), _attack_of(graph, work)
    chunks = graph.chunk_files(cell, work.model, work.attack)
    files: dict[str, Files] = {
        "predictions": graph.evaluation(cell, work.model, "clean.parquet"),
        "chunks": chunks,
    }
    return files, {
        **_beside(chunks, timings=".timing.json"),
        "subset_per_class": graph.subset_per_class(work.study, work.attack),
        "code": code_hash("medrobust.jobs.tally:tally_attack"),
    }


def _map_residuals(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    model, cell, attack = _model(graph, work), _cell(work), _attack_of(graph, work)
    own_pooling(model.architecture)
    if not attack.keep_arrays or work.model not in graph.attacked_models(
        work.study, work.attack, work.dataset
    ):
        raise InputError(
            f"The attack {work.attack!r} keeps no adversarial versions of points of a split "
            f"against the model {work.model!r}, so there are no residual maps.",
            where=f"study {work.study}, key attacks.{work.attack}",
            remedy="give it keep_arrays, a number of points, and the model.",
        )
    files: dict[str, Files] = {
        "members": graph.member_files(cell, work.model),
        "arrays": graph.evaluation(cell, work.model, work.attack, "arrays.safetensors"),
    }
    return {**_data_files(work), **files}, {
        **_data_params(work),
        "model": prediction_params(model),
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.residual_code(model),
    }


# --- volumes ----------------------------------------------------------------------------


def _slice_volumes(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    folder = DATA.format(dataset=work.dataset, source=work.source)
    files = {"card": "card.json", "ids": "ids.csv", "split": "split_fold0.csv"}
    return {name: f"{folder}/{file}" for name, file in files.items()}, {
        "data": folder,
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.slicing_code(),
    }


def _slices_of(work: Any) -> dict[str, Files]:
    outputs = KINDS["slice_volumes"].outputs
    known = {"dataset": work.dataset, "source": work.source}
    return {name: file.format(**known) for name, file in outputs.items()}


def _train_pixels(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    model = _model(graph, work)
    return _slices_of(work), {
        "data": DATA.format(dataset=work.dataset, source=work.source),
        "model": training_params(model),
        "training_points": _study(graph, work).datasets[work.dataset].training_points,
        "names": [*_cell(work).names, work.model],
        "seed": graph.resolved.config.seed,
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.pixel_training_code(model),
        "progress_dir": JOURNALS,
    }


def _attack_pixels(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    model, cell, attack = _model(graph, work), _cell(work), _attack_of(graph, work)
    outputs, known = KINDS["train_pixels"].outputs, {**vars(cell), "model": work.model}
    files: dict[str, Files] = {
        "network": outputs["out"].format(**known),
        "trained": outputs["card"].format(**known),
    }
    own = attack_params(attack.amended(work.dataset, work.model))
    return _slices_of(work) | files, {
        "data": DATA.format(dataset=work.dataset, source=work.source),
        "model": {"architecture": model.architecture},
        "attack": own | {"points": attack.points},
        "names": [*cell.names, work.model, work.attack],
        "seed": graph.resolved.config.seed,
        "compute_threads": graph.resolved.config.compute_threads,
        "code": codes.pixel_attack_code(model, attack.name),
        "progress_dir": JOURNALS,
    }


def _beside(chunks: list[str], **suffixes: str) -> dict[str, list[str]]:
    """Returns what a job wrote together with its records; one input a chunk is enough to see."""
    return {
        name: [file.replace(".parquet", suffix) for file in chunks]
        for name, suffix in suffixes.items()
    }


def attack_params(attack: Attack) -> dict[str, Any]:
    """Returns what an attack job needs to know of its attack, which is that on its model."""
    params: dict[str, Any] = {"name": attack.name, **attack.options}
    if attack.grid:
        params["grid"] = attack.grid
    if attack.of_split:
        params["keep_arrays"] = attack.keep_arrays
    return params


# --- tables, figures, comparison --------------------------------------------------------


def _build_artefact(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    study, name = work.study, work.artefact
    artefact = artefacts_of(study)[name]
    entries = entries_of(graph, study, artefact)
    files: dict[str, Files] = dict(entry_files(entries))
    if artefact.first_cell and graph.study(study).cohort is not None:
        for cell in cells_of_artefact(graph, study, artefact):
            files["cohort"] = graph.cohort(cell)
    return files | _published(graph, graph.study(study)), {
        "study": study,
        "artefact": name,
        "entries": entries,
        "attack": captions.first_attack(graph, study, artefact),
        "attacks": captions.attacks(graph, study, artefact),
        "claims": captions.claims(graph, study, name),
        "cohort_rule": captions.cohort_rule(graph, study, artefact),
        "class_names": captions.class_names(graph, study, artefact),
        "run": captions.run_facts(graph, study),
        "about": captions.about(graph, study),
        "code": code_hash("medrobust.jobs.artefacts:build_artefact", artefact.draw),
    }


def _compare(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    settings, remark = _study(graph, work), parts_of(work.study).remark
    tables = [
        graph.artefact_file(work.study, name, ".csv")
        for name in compared_tables(work.study, settings)
    ]
    return _published(graph, settings) | {"tables": tables}, {
        "study": work.study,
        "sources": captions.printed_sources(graph, work.study),
        "run": captions.run_facts(graph, work.study),
        "about": captions.about(graph, work.study),
        "code": code_hash("medrobust.jobs.artefacts:compare", *([remark] if remark else [])),
    }


def compared_tables(name: str, study: Study) -> list[str]:
    """Returns the tables whose numbers are held against print: a study's own, else generic ones."""
    own = [artefact for artefact in study.artefacts if artefact.startswith("table")]
    known = artefacts_of(name)
    return own or [
        artefact
        for artefact in study.artefacts
        if known[artefact] is GENERIC.get(artefact) and known[artefact].kind == "table"
    ]


def _check_published(graph: Graph, work: Any) -> tuple[dict[str, Files], dict[str, Any]]:
    settings, draw = _study(graph, work), parts_of(work.study).printed_averages
    return _published(graph, settings), {
        "study": work.study,
        "run": captions.run_facts(graph, work.study),
        "code": code_hash("medrobust.jobs.artefacts:check_published", draw),
    }


def _published(graph: Graph, settings: Study) -> dict[str, Files]:
    file = settings.published
    return {} if file is None else {"published": graph.resolved.file(file)}


_MEMBERS = f"{MODEL}/members_{{first}}-{{last}}"
_OF_MODEL = f"{EVALUATIONS}/{CELL}/{{model}}"
_OF_ATTACK = f"{_OF_MODEL}/{{attack}}"
_CHUNK = f"{_OF_ATTACK}/chunk{{chunk}}"
_COMPARISON = "results/{run}/{study}/comparison"
_DATA = ("data", "fold")

KINDS: dict[str, Kind] = {
    "fetch": Kind({"manifest": f"{DATA}/raw.json"}, ("dataset", "source"), _fetch),
    "prepare": Kind(
        {},  # the files of a data set; the rules name them
        (
            *("dataset", "source", "label", "out_dir", "seed", "standin", "processes"),
            *("definition", "code"),
        ),
        _prepare,
    ),
    "fetch_weights": Kind({"manifest": WEIGHTS}, ("name", "definition", "code"), _fetch_weights),
    "show_card": Kind({"page": f"{DATA}/card.html"}, ("code",), _show_card),
    "train_members": Kind(
        {
            "out": f"{_MEMBERS}.safetensors",
            "card": f"{_MEMBERS}.json",
            "timing": f"{_MEMBERS}.timing.json",
            "extras": f"{_MEMBERS}.extras.safetensors",
        },
        (
            *(*_DATA, "model", "members", "training_points", "names", "seed"),
            *("compute_threads", "code", "progress_dir"),
        ),
        _train,
    ),
    "evaluate_clean": Kind(
        {"predictions": f"{_OF_MODEL}/clean.parquet", "summary": f"{_OF_MODEL}/clean.json"},
        (*_DATA, "model", "compute_threads", "code"),
        _evaluate_clean,
    ),
    "join_margins": Kind({"out": f"{_OF_MODEL}/margins.safetensors"}, ("code",), _join_margins),
    "map_plane": Kind(
        {"out": f"{_OF_MODEL}/plane.safetensors"},
        (*_DATA, "model", "compute_threads", "code"),
        _map_plane,
    ),
    "trace_search": Kind(
        {"out": f"{_OF_MODEL}/search.safetensors"},
        (*_DATA, "model", "names", "seed", "compute_threads", "code"),
        _trace_search,
    ),
    "choose_cohort": Kind(
        {"cohort": f"{EVALUATIONS}/{FOLD}/cohort.csv"},
        ("models", "points", "select", "names", "seed", "fixed_starts", "code"),
        _choose_cohort,
    ),
    "draw_points": Kind(
        {"drawn": f"{EVALUATIONS}/{FOLD}/{{attack}}/drawn.csv"},
        ("models", "points", "names", "seed", "code"),
        _draw_points,
    ),
    "select_points": Kind(
        {"out": f"{EVALUATIONS}/{FOLD}/{{attack}}/points.csv"},
        (*_DATA, "split", "points_per_class", "points", "code"),
        _select_points,
    ),
    "attack_chunk": Kind(
        {
            "records": f"{_CHUNK}.parquet",
            "arrays": f"{_CHUNK}.safetensors",
            "timing": f"{_CHUNK}.timing.json",
        },
        (
            *(*_DATA, "members", "model", "attack", "points", "names", "seed"),
            *("compute_threads", "code", "progress_dir"),
        ),
        _attack,
    ),
    "gather_records": Kind(
        {
            "records": f"{_OF_ATTACK}/records.parquet",
            "joined_arrays": f"{_OF_ATTACK}/arrays.safetensors",
            "made_with": f"{_OF_ATTACK}/made_with.json",
        },
        ("arrays", "timings", "keep_arrays", "code"),
        _gather_records,
    ),
    "map_residuals": Kind(
        {"out": f"{_OF_ATTACK}/{RESIDUALS}"},
        (*_DATA, "model", "compute_threads", "code"),
        _map_residuals,
    ),
    "slice_volumes": Kind(
        {name: f"{DATA}/{SLICED}/{file}" for name, file in (("slices", SLICES), ("plans", PLANS))},
        ("data", "compute_threads", "code"),
        _slice_volumes,
    ),
    "train_pixels": Kind(
        {
            "out": f"{MODEL}/network.safetensors",
            "card": f"{MODEL}/network.json",
            "timing": f"{MODEL}/network.timing.json",
            "extras": f"{MODEL}/network.extras.safetensors",
        },
        (
            *("data", "model", "training_points", "names", "seed"),
            *("compute_threads", "code", "progress_dir"),
        ),
        _train_pixels,
    ),
    "attack_pixels": Kind(
        {
            "records": f"{_OF_ATTACK}/{PIXEL_RECORDS}",
            "arrays": f"{_OF_ATTACK}/{PIXEL_ARRAYS}",
            "summary": f"{_OF_ATTACK}/{PIXEL_SUMMARY}",
            "timing": f"{_OF_ATTACK}/slices.timing.json",
        },
        ("data", "model", "attack", "names", "seed", "compute_threads", "code", "progress_dir"),
        _attack_pixels,
    ),
    "tally_attack": Kind(
        {
            "out": f"{_OF_ATTACK}/tally.csv",
            "made_with": f"{_OF_ATTACK}/counted_with.json",
            "outcomes": f"{_OF_ATTACK}/outcomes.parquet",
        },
        ("timings", "subset_per_class", "code"),
        _tally_attack,
    ),
    "build_artefact": Kind(
        {},  # by the kind of artefact: artefact_outputs
        (
            *("study", "artefact", "entries", "attack", "attacks", "claims", "cohort_rule"),
            *("class_names", "run", "about", "code"),
        ),
        _build_artefact,
    ),
    "compare": Kind(
        {
            "out": f"{_COMPARISON}/comparison.csv",
            "html": f"{_COMPARISON}/comparison.html",
            "text": f"{_COMPARISON}/comparison.md",
            "provenance": f"{_COMPARISON}/comparison.provenance.json",
        },
        ("study", "sources", "run", "about", "code"),
        _compare,
    ),
    "check_published": Kind(
        {
            "out": f"{_COMPARISON}/printed.csv",
            "html": f"{_COMPARISON}/printed.html",
            "text": f"{_COMPARISON}/printed.md",
            "latex": f"{_COMPARISON}/printed.tex",
            "provenance": f"{_COMPARISON}/printed.provenance.json",
        },
        ("study", "run", "code"),
        _check_published,
    ),
}


def artefact_outputs(graph: Graph, study: str, name: str) -> dict[str, str]:
    """Returns the files of a table, figure or list: ``out``, which the report shows, and others."""
    suffixes = SUFFIXES[artefacts_of(study)[name].kind]
    others = {suffix.strip("."): graph.artefact_file(study, name, suffix) for suffix in suffixes}
    return {"out": graph.artefact(study, name)} | {
        key.replace(".", "_"): path for key, path in others.items()
    }


# --- all of it --------------------------------------------------------------------------


def work_of(graph: Graph, study: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields job and wildcards of every training, evaluation and attack of a study.

    Attacks that no artefact shows of a cell are left out, as Snakemake does not run them.
    """
    settings, shown = graph.study(study), attacks_shown(graph, study)
    for cell in graph.cells(study):
        own, known = vars(cell), graph.attacks(study, cell.dataset)
        attacks = {name: known[name] for name in known if name in shown.get(cell, ())}
        if cell.replicate == 0:
            if settings.cohort is not None:
                yield "choose_cohort", own
            for attack, chosen in attacks.items():
                if chosen.select != "cohort" and not graph.of_volumes(cell.dataset):
                    listed = "select_points" if chosen.of_split else "draw_points"
                    yield listed, own | {"attack": attack}
        for name in graph.trained(cell):
            of_model = own | {"model": name}
            if graph.of_volumes(cell.dataset):
                yield "train_pixels", of_model
                for attack in attacks:
                    if name in graph.attacked_models(study, attack, cell.dataset):
                        yield "attack_pixels", of_model | {"attack": attack}
                continue
            for first, last in graph.member_ranges(cell, name):
                yield "train_members", of_model | {"first": first, "last": last}
            yield "evaluate_clean", of_model
            for attack, chosen in attacks.items():
                if name not in graph.attacked_models(study, attack, cell.dataset):
                    continue
                of_attack = of_model | {"attack": attack}
                for chunk in range(len(graph.chunks(study, cell.dataset, name, attack))):
                    yield "attack_chunk", of_attack | {"chunk": chunk}
                yield "tally_attack" if chosen.tallied else "gather_records", of_attack


def _cell(work: Any) -> Cell:
    return Cell.of(vars(work))


def _study(graph: Graph, work: Any) -> Study:
    studies = graph.resolved.studies
    if work.run != graph.resolved.run or work.study not in studies:
        raise InputError(
            f"The configuration makes the run {graph.resolved.run!r} of {', '.join(studies)}; "
            f"a file of run {work.run!r}, study {work.study!r} was asked for."
        )
    return studies[work.study]


def _model(graph: Graph, work: Any) -> Model:
    models = _study(graph, work).models
    if work.model not in graph.models(work.study, work.dataset):
        known = "is not trained on" if work.model in models else "is unknown; asked for on"
        raise InputError(f"The model {work.model!r} {known} {work.dataset}.")
    trained = graph.trained(_cell(work))
    if work.model not in trained:
        trainings = models[work.model].replicates
        raise InputError(
            f"The model {work.model!r} has {trainings} trainings (models.{work.model}.replicates), "
            f"numbered from 0; replicate {work.replicate} was asked for."
        )
    return trained[work.model]


def _attack_of(graph: Graph, work: Any) -> Attack:
    attacks = _study(graph, work).attacks
    if work.attack not in attacks:
        raise unknown_name("attack", work.attack, attacks, where=f"study {work.study}")
    return attacks[work.attack]
