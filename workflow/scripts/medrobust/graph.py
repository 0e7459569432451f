"""The experiment graph: which files a run consists of.

A study is a list of cells (data set, fold, replicate) times models times attacks. This module
turns the resolved configuration into file names and numbers of points; the Snakemake rules and
the plan both read it, so neither can drift from the other. It imports nothing heavy.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrobust.artefact_list import ARTEFACTS, Artefact
from medrobust.artefacts import SOURCES
from medrobust.codehash import code_hash
from medrobust.config import (
    Attack,
    Config,
    Model,
    Resolved,
    Study,
    chunk_size,
    named_datasets,
    resolve,
    with_parts,
)
from medrobust.data.fetch import choose_source, locate
from medrobust.data.registry import STANDIN, Dataset, get_dataset
from medrobust.errors import InputError
from medrobust.io import read_json, sha256_of_json
from medrobust.registry import ARCHITECTURES, ATTACKS, MARGINS, METHODS
from medrobust.schema import checked, unknown_name

DATA = "results/data/{dataset}@{source}"
MODEL = "results/{run}/{study}/models/{dataset}@{source}/fold{fold}/rep{replicate}/{model}"
EVALUATIONS = "results/{run}/{study}/evaluations"
FOLD = "{dataset}@{source}/fold{fold}"
CELL = f"{FOLD}/rep{{replicate}}"
PROGRESS = "results/.progress"
RAW = Path("resources/raw")
SUBSET = "subset"
RUN_FACTS = "run.json"  # beside committed records
#: Folder and suffix of the main file of each kind of artefact.
PLACES = {"table": ("tables", "html"), "figure": ("figures", "png"), "claims": ("claims", "html")}


@dataclass(frozen=True)
class Cell:
    """One data set, fold and replicate of a study."""

    run: str
    study: str
    dataset: str
    source: str
    fold: int = 0
    replicate: int = 0

    @property
    def path(self) -> str:
        """The cell's part of a path, e.g. ``mitbih@kaggle/fold0/rep0``."""
        return CELL.format(**vars(self))

    @property
    def names(self) -> list[Any]:
        """What seeds derive from: not the run, so a member starts alike at every scale."""
        return [self.study, f"{self.dataset}@{self.source}", self.fold, self.replicate]

    @property
    def data(self) -> str:
        """The folder of the cell's data set."""
        return DATA.format(**vars(self))


@dataclass(frozen=True)
class Graph:
    """File names of a run.

    Attributes:
        resolved: the checked configuration.
        sources: label of each data set's source, as it stands in paths.
        origins: the registry's source behind that label ("subset" is a part of one).
        raw_dirs: folders that may hold raw files, in order of preference.
        skipped: studies, and data sets of ``also_prepare``, that are left out because their data
            cannot be had (on_missing_data: skip).
    """

    resolved: Resolved
    sources: dict[str, str]
    origins: dict[str, str]
    raw_dirs: tuple[Path, ...]
    skipped: tuple[str, ...] = ()

    @property
    def registry(self) -> dict[str, Dataset]:
        """Every known data set."""
        return self.resolved.registry

    def study(self, name: str) -> Study:
        """Returns a study's settings."""
        return self.resolved.studies[name]

    def cells(self, study: str) -> list[Cell]:
        """Returns the cells of a study, in the order of its configuration."""
        settings = self.study(study)
        return [
            Cell(self.resolved.run, study, dataset, self.sources[dataset], 0, replicate)
            for dataset, use in settings.datasets.items()
            for replicate in range(use.replicates or settings.replicates)
        ]

    def models(self, study: str, dataset: str) -> dict[str, Model]:
        """Returns the models that are trained on a data set."""
        return {
            name: model
            for name, model in self.study(study).models.items()
            if model.datasets is None or dataset in model.datasets
        }

    def training_rows(self, study: str, dataset: str) -> int:
        """Returns how many points models are trained on (val included where it has no place)."""
        rows = self.rows(dataset, "train")
        return min(rows, self.study(study).datasets[dataset].training_points or rows)

    def evaluations(self, study: str) -> str:
        """Returns the folder of a study's evaluations, or of committed records."""
        committed = self.resolved.config.records_from
        if committed is not None:
            return f"{committed.rstrip('/')}/{self.resolved.run}/evaluations"
        return EVALUATIONS.format(run=self.resolved.run, study=study)

    def cohort(self, cell: Cell) -> str:
        """Returns the file of the points to attack: one for all replicates of a fold."""
        return "/".join([self.evaluations(cell.study), FOLD.format(**vars(cell)), "cohort.csv"])

    def points_file(self, cell: Cell, attack: str) -> str:
        """Returns the file of the points that an attack takes: the cohort, or its own."""
        if self.study(cell.study).attacks[attack].select == "cohort":
            return self.cohort(cell)
        fold = FOLD.format(**vars(cell))
        return "/".join([self.evaluations(cell.study), fold, attack, "points.csv"])

    def attack_points(self, study: str, dataset: str, attack: str) -> int:
        """Returns how many points an attack takes (of a subset of a release, at most so many)."""
        settings = self.study(study)
        chosen = settings.attacks[attack]
        if chosen.select == "cohort":
            return int(settings.datasets[dataset].points or 0)
        points = self.rows(dataset, chosen.select)
        if chosen.points_per_class is not None:
            points = min(points, chosen.points_per_class * len(self.registry[dataset].classes))
        return min(points, chosen.points or points)

    def rows(self, dataset: str, split: str) -> int:
        """Returns the rows that a split of a data set should have: train (with val), val, test."""
        size = self.resolved.scale.standin
        if self.sources.get(dataset) == STANDIN and size is not None:
            return size.test if split == "test" else size.train
        if split == "val" and not self.registry[dataset].official_rows("val"):
            return self.registry[dataset].official_rows("train")
        return self.registry[dataset].official_rows(split)

    def attacked_models(self, study: str, attack: str, dataset: str) -> list[str]:
        """Returns the models of a data set that an attack is run on, in configuration order."""
        wanted = self.study(study).attacks[attack].models
        return [name for name in self.models(study, dataset) if wanted is None or name in wanted]

    def attacks(self, study: str, dataset: str) -> dict[str, Attack]:
        """Returns the attacks that are run on models of a data set."""
        return {
            name: attack
            for name, attack in self.study(study).attacks.items()
            if self.attacked_models(study, name, dataset)
        }

    def member_files(self, cell: Cell, model: str) -> list[str]:
        """Returns the files of a model's trained members in a cell."""
        folder = MODEL.format(model=model, **vars(cell))
        ranges = self.member_ranges(cell, model)
        return [f"{folder}/members_{a}-{b}.safetensors" for a, b in ranges]

    def member_ranges(self, cell: Cell, model: str) -> list[tuple[int, int]]:
        """Returns the first and last member (inclusive) that each training job of a cell trains."""
        n_classes = len(self.registry[cell.dataset].classes)
        return member_ranges(self.study(cell.study).models[model], n_classes)

    def evaluation(self, cell: Cell, *parts: str) -> str:
        """Returns a file of a cell's evaluations."""
        return "/".join([self.evaluations(cell.study), cell.path, *parts])

    def chunks(self, study: str, dataset: str, attack: str) -> list[tuple[int, int]]:
        """Returns the [start, stop) positions in the cohort that each job attacks."""
        points = self.attack_points(study, dataset, attack)
        size = chunk_size(self.study(study).attacks[attack], points)
        return [(start, min(start + size, points)) for start in range(0, points, size)]

    def chunk_files(self, cell: Cell, model: str, attack: str) -> list[str]:
        """Returns the record files of an attack on a model in a cell."""
        count = len(self.chunks(cell.study, cell.dataset, attack))
        return [self.evaluation(cell, model, attack, f"chunk{k}.parquet") for k in range(count)]

    def entries(self, study: str, artefact: Artefact) -> list[dict[str, Any]]:
        """Returns the results that an artefact shows, as :class:`medrobust.studies.Entry`.

        What there is not of a model is left out: results of attacks that are not run on it,
        margins of training points where its method has none, and so on. A model that none of the
        artefact's attacks are run on is left out as a whole: nothing of it would be shown, and
        nobody should wait for it.
        """
        return [
            self._entry(cell, name, artefact)
            for cell in self.shown_cells(study, artefact)
            for name in self.models(study, cell.dataset)
            if self._shows(cell, name, artefact)
        ]

    def _shows(self, cell: Cell, name: str, artefact: Artefact) -> bool:
        settings = self.study(cell.study)
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

    def shown_cells(self, study: str, artefact: Artefact) -> list[Cell]:
        """Returns the cells that an artefact shows; none where a selection left them all out."""
        cells = [
            cell
            for cell in self.cells(study)
            if not artefact.datasets or cell.dataset in artefact.datasets
        ]
        return cells[:1] if artefact.first_cell else cells

    def _entry(self, cell: Cell, name: str, artefact: Artefact) -> dict[str, Any]:
        settings = self.study(cell.study)
        use, model = settings.datasets[cell.dataset], settings.models[name]
        folders = {
            attack: self.evaluation(cell, name, attack)
            for attack, chosen in settings.attacks.items()
            if (not artefact.attacks or attack in artefact.attacks)
            and (chosen.models is None or name in chosen.models)
        }
        splits = {a: f for a, f in folders.items() if settings.attacks[a].select == "test"}
        kept = {a: f for a, f in folders.items() if settings.attacks[a].keep_arrays}
        files: dict[str, Any] = {
            "summary": self.evaluation(cell, name, "clean.json"),
            "predictions": self.evaluation(cell, name, "clean.parquet"),
            # Of the first attack.
            "records": [f"{folder}/records.parquet" for folder in list(folders.values())[:1]],
            "arrays": [f"{folder}/arrays.safetensors" for folder in list(folders.values())[:1]],
            "tallies": {attack: f"{folder}/tally.csv" for attack, folder in splits.items()},
            "attack_arrays": {
                attack: f"{folder}/arrays.safetensors" for attack, folder in kept.items()
            },
            **self._knowledge(cell, name),
        }
        return {
            "dataset": use.published_name or cell.dataset,
            "model": model.published_name or model.label,
            "source": cell.source,
            "replicate": cell.replicate,
            "training_points": use.training_points,
            "epochs": model.method.get("max_epochs"),
            **{need: files[need] for need in artefact.needs if need in files},
        }

    def _knowledge(self, cell: Cell, name: str) -> dict[str, str]:
        """Returns the files of what is known of a model beside attacks, as far as there are any."""
        method = self.study(cell.study).models[name].method["name"]
        files: dict[str, str] = {}
        if cell.replicate > 0:
            return files  # one training is drawn: those of all would fill the evidence
        if method in MARGINS:
            files["margins"] = self.evaluation(cell, name, "margins.safetensors")
        if self.registry[cell.dataset].shape == [2]:
            files["plane"] = self.evaluation(cell, name, "plane.safetensors")
            if method == "ima":
                files["search"] = self.evaluation(cell, name, "search.safetensors")
        return files

    def knowledge_jobs(self, cell: Cell, name: str) -> int:
        """Returns how many jobs make what artefacts show of a model beside attacks."""
        settings = self.study(cell.study)
        shown = {n for a in settings.artefacts for n in ARTEFACTS[cell.study][a].needs}
        return sum(need in shown for need in self._knowledge(cell, name))

    # What a job is called with. The rules state the same as inputs, outputs and params, which
    # Snakemake must see; a test holds the two against each other.

    def fetch_arguments(self, dataset: str, folder: str) -> dict[str, Any]:
        """Returns the arguments of the job ``fetch``."""
        return {
            "dataset": dataset,
            "source": self.origins[dataset],
            "raw_dir": self.resolved.config.raw_dir,
            "allow_subset": self.resolved.config.allow_subset,
            "manifest": f"{folder}/raw.json",
        }

    def prepare_arguments(self, dataset: str, folder: str) -> dict[str, Any]:
        """Returns the arguments of the job ``prepare``."""
        synthetic = self.sources[dataset] == STANDIN
        size = self.resolved.scale.standin
        return {
            "dataset": dataset,
            "source": self.origins[dataset],
            "label": self.sources[dataset],
            "manifest": None if synthetic else f"{folder}/raw.json",
            "out_dir": folder,
            "seed": self.resolved.config.seed,
            "standin": size.model_dump() if synthetic and size else None,
            "allow_subset": self.resolved.config.allow_subset,
            "processes": 2,
        }

    def training_arguments(self, cell: Cell, model: str, first: int, last: int) -> dict[str, Any]:
        """Returns the arguments of the job ``train_members``."""
        settings = self.study(cell.study).models[model]
        stem = f"{MODEL.format(model=model, **vars(cell))}/members_{first}-{last}"
        return {
            "data": cell.data,
            "out": f"{stem}.safetensors",
            "card": f"{stem}.json",
            "timing": f"{stem}.timing.json",
            "extras": f"{stem}.extras.safetensors",
            "training_points": self.study(cell.study).datasets[cell.dataset].training_points,
            "model": training_params(settings),
            "members": [first, last],
            "names": [*cell.names, model],
            "code": training_code(settings),
            "progress_dir": PROGRESS,
            **self._common(),
        }

    def clean_arguments(self, cell: Cell, model: str) -> dict[str, Any]:
        """Returns the arguments of the job ``evaluate_clean``."""
        common = self._common()
        del common["seed"]
        return {
            "data": cell.data,
            "members": self.member_files(cell, model),
            "predictions": self.evaluation(cell, model, "clean.parquet"),
            "summary": self.evaluation(cell, model, "clean.json"),
            "model": prediction_params(self.study(cell.study).models[model]),
            **common,
        }

    def margins_arguments(self, cell: Cell, model: str) -> dict[str, Any]:
        """Returns the arguments of the job ``join_margins``."""
        return {
            "extras": self.extra_files(cell, model),
            "out": self.evaluation(cell, model, "margins.safetensors"),
        }

    def plane_arguments(self, cell: Cell, model: str) -> dict[str, Any]:
        """Returns the arguments of the job ``map_plane``."""
        common = self._common()
        del common["seed"]
        return {
            "data": cell.data,
            "members": self.member_files(cell, model),
            "model": prediction_params(self.study(cell.study).models[model]),
            "out": self.evaluation(cell, model, "plane.safetensors"),
            **common,
        }

    def search_arguments(self, cell: Cell, model: str) -> dict[str, Any]:
        """Returns the arguments of the job ``trace_search``."""
        common = self._common()
        del common["device"]
        return {
            "data": cell.data,
            "members": self.member_files(cell, model),
            "margins": self.evaluation(cell, model, "margins.safetensors"),
            "model": search_params(self.study(cell.study).models[model]),
            "out": self.evaluation(cell, model, "search.safetensors"),
            "names": [*cell.names, model],
            **common,
        }

    def extra_files(self, cell: Cell, model: str) -> list[str]:
        """Returns the files of what the training jobs of a model know of the training points."""
        files = self.member_files(cell, model)
        return [file.replace(".safetensors", ".extras.safetensors") for file in files]

    def cohort_arguments(self, cell: Cell) -> dict[str, Any]:
        """Returns the arguments of the job ``choose_cohort``."""
        study = self.study(cell.study)
        if study.cohort is None:
            raise InputError(
                f"The study {cell.study} has no cohort: each attack takes points of a split.",
                remedy="nothing has to be chosen; run the attack.",
            )
        return {
            "predictions": {
                model: self.evaluation(replace(cell, replicate=0), model, "clean.parquet")
                for model in study.cohort.models
            },
            "cohort": self.cohort(cell),
            "points": study.datasets[cell.dataset].points,
            "select": study.cohort.select,
            "names": cell.names[:-1],
            "seed": self.resolved.config.seed,
        }

    def points_arguments(self, cell: Cell, attack: str) -> dict[str, Any]:
        """Returns the arguments of the job ``select_points``."""
        settings = self.study(cell.study).attacks[attack]
        return {
            "data": cell.data,
            "out": self.points_file(cell, attack),
            "split": settings.select,
            "points_per_class": settings.points_per_class,
            "points": settings.points,
        }

    def tally_arguments(self, cell: Cell, model: str, attack: str) -> dict[str, Any]:
        """Returns the arguments of the job ``tally_attack``."""
        return {
            "predictions": self.evaluation(cell, model, "clean.parquet"),
            "chunks": self.chunk_files(cell, model, attack),
            "timings": [
                file.replace(".parquet", ".timing.json")
                for file in self.chunk_files(cell, model, attack)
            ],
            "out": self.evaluation(cell, model, attack, "tally.csv"),
            "made_with": self.evaluation(cell, model, attack, "counted_with.json"),
            "subset_per_class": self.subset_per_class(cell.study, attack),
        }

    def subset_per_class(self, study: str, attack: str) -> int | None:
        """Returns the points per class of the smallest attack on a part of the test split.

        The tallies of the other attacks on the same models tell these points apart, so that both
        can be compared.
        """
        attacks = self.study(study).attacks
        aim = attacks[attack].models
        counts = [
            other.points_per_class
            for other in attacks.values()
            if other.select == "test"
            and (aim is None or other.models is None or set(aim) & set(other.models))
        ]
        return min((count for count in counts if count is not None), default=None)

    def attack_arguments(self, cell: Cell, model: str, attack: str, chunk: int) -> dict[str, Any]:
        """Returns the arguments of the job ``attack_chunk``."""
        settings = self.study(cell.study).models[model]
        options = self.study(cell.study).attacks[attack]
        stem = self.evaluation(cell, model, attack, f"chunk{chunk}")
        return {
            "data": cell.data,
            "members": self.member_files(cell, model),
            "cohort": self.points_file(cell, attack),
            "records": f"{stem}.parquet",
            "arrays": f"{stem}.safetensors",
            "timing": f"{stem}.timing.json",
            "model": prediction_params(settings),
            "attack": attack_params(options),
            "points": self.chunks(cell.study, cell.dataset, attack)[chunk],
            "names": [*cell.names, model, attack],
            "code": attack_code(settings, options.name),
            "progress_dir": PROGRESS,
            **self._common(),
        }

    def gather_arguments(self, cell: Cell, model: str, attack: str) -> dict[str, Any]:
        """Returns the arguments of the job ``gather_records``."""
        chunks = self.chunk_files(cell, model, attack)
        return {
            "chunks": chunks,
            "arrays": [file.replace(".parquet", ".safetensors") for file in chunks],
            "timings": [file.replace(".parquet", ".timing.json") for file in chunks],
            "made_with": self.evaluation(cell, model, attack, "made_with.json"),
            "records": self.evaluation(cell, model, attack, "records.parquet"),
            "joined_arrays": self.evaluation(cell, model, attack, "arrays.safetensors"),
        }

    def _common(self) -> dict[str, Any]:
        config = self.resolved.config
        return {
            "seed": config.seed,
            "device": config.device,
            "compute_threads": config.compute_threads,
        }

    def run_facts(self, study: str) -> dict[str, Any]:
        """Returns what committed records must state to be redrawn: all that shaped them."""
        return {
            "run": self.resolved.run,
            "seed": self.resolved.config.seed,
            "study": self.study(study).model_dump(mode="json"),
        }

    def study_hash(self, study: str) -> str:
        """Returns the hash of a study's settings, protocol and scale applied."""
        return sha256_of_json(self.study(study).model_dump())[:16]

    def artefacts(self, study: str) -> list[str]:
        """Returns the main file of every table and figure of a study."""
        return [self.artefact(study, name) for name in self.study(study).artefacts]

    def artefact(self, study: str, name: str) -> str:
        """Returns the main file of a table or the claims (a web page), or of a figure (PNG)."""
        folder, suffix = PLACES[ARTEFACTS[study][name].kind]
        return f"results/{self.resolved.run}/{study}/{folder}/{name}.{suffix}"


def build_graph(values: Mapping[str, Any], root: Path, *, telling: bool = False) -> Graph:
    """Checks the configuration and chooses the source of every data set in use.

    Only names and sizes of files are looked at, nothing is opened or asked over the network.

    Args:
        values: content of config/config.yaml with command line settings applied.
        root: the project's folder.
        telling: only to tell what is there (plan, preflight): no data is no reason to stop.

    Raises:
        InputError: the configuration is wrong; see :func:`medrobust.config.resolve`.
    """
    resolved = resolve(values, root)
    if resolved.config.records_from is not None:
        resolved = _as_committed(_study_of_records(resolved), values, root)
    config = resolved.config
    raw_dirs = (*([Path(config.raw_dir)] if config.raw_dir else []), RAW)
    if config.raw_dir and not raw_dirs[0].is_dir():
        raise InputError(
            "This folder does not exist.",
            where=f"config/config.yaml, key raw_dir: {config.raw_dir}",
            remedy="correct the path, or set raw_dir to null.",
        )
    if config.records_from is not None:
        sources = _committed_sources(resolved)
        graph = Graph(resolved, sources, dict(sources), raw_dirs)
        for study in resolved.studies:
            _check_committed(graph, study)
        return graph
    resolved, skipped = _without_missing(resolved, raw_dirs, telling)
    also = also_prepared(resolved)
    without = _not_to_be_had(resolved, {name: [name] for name in also}, raw_dirs)
    graph = Graph(resolved, {}, {}, raw_dirs, (*skipped, *without))
    used = sorted({d for study in resolved.studies.values() for d in study.datasets})
    for dataset in [*used, *(name for name in also if name not in without)]:
        graph = with_dataset(graph, dataset)
    return graph


def also_prepared(resolved: Resolved) -> list[str]:
    """Returns the data sets of ``also_prepare`` that no selected study uses."""
    used = {dataset for study in resolved.studies.values() for dataset in study.datasets}
    names = named_datasets(resolved.config.also_prepare, resolved.registry)
    return [name for name in names if name not in used and name not in resolved.config.leave_out]


def with_dataset(graph: Graph, dataset: str) -> Graph:
    """Returns ``graph`` with the source of a data set, also of one that no study selects.

    Raises:
        InputError: the registry has no such data set, or calls its source by an unknown name.
    """
    if dataset in graph.sources:
        return graph
    get_dataset(graph.registry, dataset)
    origin = _origin(graph.resolved, dataset, graph.raw_dirs)
    if origin not in SOURCES:
        where = f"config/datasets.yaml, key datasets.{dataset}.sources"
        raise unknown_name("source", origin, SOURCES, where=where)
    label = _label(graph.resolved, dataset, origin, graph.raw_dirs)
    return replace(
        graph,
        sources={**graph.sources, dataset: label},
        origins={**graph.origins, dataset: origin},
    )


def _origin(resolved: Resolved, dataset: str, raw_dirs: tuple[Path, ...]) -> str:
    if resolved.scale.data == STANDIN:
        return STANDIN
    if dataset in resolved.config.sources:
        return resolved.config.sources[dataset]
    entry = resolved.registry[dataset]
    return choose_source(entry, raw_dirs, allow_subset=resolved.config.allow_subset)[0]


def _label(resolved: Resolved, dataset: str, origin: str, raw_dirs: tuple[Path, ...]) -> str:
    """Returns ``origin``, or "subset" where an incomplete release is accepted."""
    if origin == STANDIN or not resolved.config.allow_subset:
        return origin
    found = locate(resolved.registry[dataset], origin, raw_dirs)
    cut = found.anything and not found.complete
    for file in found.source.files:
        sizes = {content.bytes for content in (file, *file.alternatives)}
        if file.name in found.files and None not in sizes:
            cut |= found.files[file.name].stat().st_size not in sizes
    return SUBSET if cut else origin


def _without_missing(
    resolved: Resolved, raw_dirs: tuple[Path, ...], telling: bool
) -> tuple[Resolved, tuple[str, ...]]:
    """Leaves out the studies whose data cannot be had, if the configuration says so."""
    skipped = _not_to_be_had(resolved, _datasets_of_studies(resolved), raw_dirs)
    if not skipped:
        return resolved, ()
    can_run = [name for name in resolved.studies if name not in skipped]
    if not can_run and telling:
        return resolved, tuple(resolved.studies)
    if not can_run:
        raise InputError(
            "The data of none of the selected studies can be had.",
            where="config/config.yaml, key on_missing_data: skip",
            remedy="run `snakemake --cores 1 preflight` to see what each needs.",
        )
    kept = {name: study for name, study in resolved.studies.items() if name in can_run}
    return replace(resolved, studies=kept), skipped


def _not_to_be_had(
    resolved: Resolved, wanted: Mapping[str, Sequence[str]], raw_dirs: tuple[Path, ...]
) -> tuple[str, ...]:
    """Returns whose data cannot be had, if the configuration says to leave it out.

    Args:
        resolved: the checked configuration.
        wanted: study (or data set) -> its data sets.
        raw_dirs: folders that may hold raw files.
    """
    if resolved.config.on_missing_data != "skip" or resolved.scale.data == STANDIN or not wanted:
        return ()
    from medrobust.preflight import runnable

    can_run = runnable(_preflight(resolved, wanted, raw_dirs, thorough=False), list(wanted))
    return tuple(name for name in wanted if name not in can_run)


def _preflight(
    resolved: Resolved,
    wanted: Mapping[str, Sequence[str]],
    raw_dirs: tuple[Path, ...],
    *,
    thorough: bool,
) -> list[Any]:
    """Returns the findings on studies (or data sets) and their data sets."""
    from medrobust.preflight import preflight

    chosen = resolved.config.sources

    def setting(dataset: str) -> str:
        return STANDIN if resolved.scale.data == STANDIN else chosen.get(dataset, "auto")

    return preflight(
        {name: [(d, setting(d)) for d in datasets] for name, datasets in wanted.items()},
        registry=resolved.registry,
        raw_dirs=raw_dirs,
        download_dir=RAW,
        results_dir="results",
        allow_subset=resolved.config.allow_subset,
        check_network=thorough,
        check_files=thorough,
    )


def _datasets_of_studies(resolved: Resolved) -> dict[str, list[str]]:
    return {name: list(study.datasets) for name, study in resolved.studies.items()}


# Settings that change no result: where files lie, where to compute, what to do without data.
CIRCUMSTANCES = (
    "device",
    "raw_dir",
    "allow_subset",
    "on_missing_data",
    "records_from",
    "studies",
    "also_prepare",
)


def shown_settings(config: Config, without: Sequence[str] = ()) -> str:
    """Returns the settings that differ from the defaults, as arguments of Snakemake.

    Args:
        config: the settings.
        without: names to leave out.
    """
    defaults = Config()
    changed = {
        name: getattr(config, name)
        for name in Config.model_fields
        if name not in without and getattr(config, name) != getattr(defaults, name)
    }
    words = [
        f"{name}={json.dumps(value) if isinstance(value, dict | list) else value}"
        for name, value in changed.items()
    ]
    return " --config " + " ".join(shlex.quote(word) for word in words) if words else ""


def preflight_text(graph: Graph, datasets: Sequence[str] = (), *, thorough: bool = False) -> str:
    """Returns what is still needed, and the command that can be run now.

    Args:
        graph: of the configuration.
        datasets: data sets to tell of, whoever uses them ("all": every one); none: the selected
            studies and the data sets of ``also_prepare``.
        thorough: ask the servers and read the files at hand; else names and sizes only.

    Raises:
        InputError: the registry has no such data set.
    """
    from medrobust.preflight import format_preflight

    resolved = graph.resolved
    names = named_datasets(datasets, graph.registry) if datasets else also_prepared(resolved)
    for name in names:
        get_dataset(graph.registry, name)
    wanted = {} if datasets else _datasets_of_studies(resolved)
    wanted |= {name: [name] for name in names}
    findings = _preflight(resolved, wanted, graph.raw_dirs, thorough=thorough)
    settings = shown_settings(
        resolved.config, without=["also_prepare", "studies"] if datasets else []
    )
    return format_preflight(findings, list(wanted), settings=settings, targets=_cards(graph, names))


def _cards(graph: Graph, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns the card of each data set, and that of its stand-in: targets of Snakemake."""
    cards = {}
    for name in names:
        real = with_dataset(graph, name).sources[name]
        cards[name] = tuple(
            DATA.format(dataset=name, source=source) + "/card.md" for source in (real, STANDIN)
        )
    return cards


def _study_of_records(resolved: Resolved) -> Resolved:
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


def _as_committed(resolved: Resolved, values: Mapping[str, Any], root: Path) -> Resolved:
    """Returns the configuration with the data sets and models that the committed records hold."""
    file = Path(str(resolved.config.records_from)) / resolved.run / RUN_FACTS
    if not file.is_file():
        return resolved
    everything = resolve({**values, "include_extras": True, "leave_out": []}, root)
    made = read_json(file)["study"]
    studies = {
        name: with_parts(study, made["datasets"], made["models"], made["attacks"])
        for name, study in everything.studies.items()
        if name in resolved.studies
    }
    return replace(resolved, studies=studies)


def _check_committed(graph: Graph, study: str) -> None:
    """Refuses records that were made with other settings than those that captions would state."""
    file = Path(str(graph.resolved.config.records_from)) / graph.resolved.run / RUN_FACTS
    if not file.is_file():
        raise InputError("The committed records do not say how they were made.", where=str(file))
    made, now = read_json(file), graph.run_facts(study)
    # Settings that did not exist then have their defaults.
    made["study"] = checked(Study, made["study"], file=str(file)).model_dump(mode="json")
    for facts in (made, now):
        # What is drawn from records does not shape them.
        facts["study"].pop("artefacts", None)
    if made != now:
        raise InputError(
            f"The committed records were made with other settings: {_difference(made, now)}.",
            where=str(file),
            remedy="set the configuration to theirs, or run the study itself.",
        )


def _difference(made: Any, now: Any, place: str = "") -> str:
    """Returns the first place where two nested values differ."""
    if isinstance(made, dict) and isinstance(now, dict):
        for key in sorted({*made, *now}):
            if made.get(key) != now.get(key):
                return _difference(made.get(key), now.get(key), f"{place}.{key}".lstrip("."))
    return f"{place} was {made!r}, is {now!r}"


def _committed_sources(resolved: Resolved) -> dict[str, str]:
    folder = Path(str(resolved.config.records_from)) / resolved.run / "evaluations"
    found = [path.name for path in sorted(folder.glob("*@*")) if path.is_dir()]
    if not found:
        raise InputError(
            f"There are no committed records of the run {resolved.run!r} here.",
            where=f"config/config.yaml, key records_from: {folder}",
            remedy="set `scale` and `protocol` to those of a run that lies there.",
        )
    sources = dict(name.split("@", 1) for name in found)
    for study in resolved.studies.values():
        for dataset in [d for d in study.datasets if d not in sources]:
            raise InputError(
                f"The committed records hold nothing of the data set {dataset!r}.",
                where=str(folder),
                remedy="leave it out, or run the study itself (records_from: null).",
            )
    return sources


def member_ranges(model: Model, n_classes: int) -> list[tuple[int, int]]:
    """Returns the first and last member (inclusive) that each training job trains."""
    members = model.members
    if model.members_multiclass is not None and n_classes > 2:
        members = model.members_multiclass
    step = model.members_per_job
    return [(a, min(a + step, members) - 1) for a in range(0, members, step)]


def training_code(model: Model) -> str:
    """Returns the hash of the code that training a model depends on."""
    return code_hash(
        "medrobust.jobs.train:train_members",
        ARCHITECTURES[model.architecture["name"]],
        METHODS[model.method["name"]],
    )


def prediction_code(model: Model) -> str:
    """Returns the hash of the code that a trained model's predictions depend on."""
    return code_hash(
        "medrobust.jobs.evaluate:evaluate_clean", ARCHITECTURES[model.architecture["name"]]
    )


def attack_code(model: Model, attack: str) -> str:
    """Returns the hash of the code that attacking a model depends on."""
    return code_hash(
        "medrobust.jobs.attack:attack_chunk",
        ATTACKS[attack],
        ARCHITECTURES[model.architecture["name"]],
    )


def plane_code(model: Model) -> str:
    """Returns the hash of the code that maps and traces of the plane depend on."""
    return code_hash(
        "medrobust.jobs.plane",
        ARCHITECTURES[model.architecture["name"]],
        METHODS[model.method["name"]],
    )


#: What writes the data sets of each form.
PREPARED_BY = {
    "arrays": "medrobust.data.prepare:prepare",
    "volumes": "medrobust.data.prepare_volumes:prepare_volumes",
}


def preparation_code(entry: Dataset) -> str:
    """Returns the hash of the code that preparing a data set depends on."""
    # How a card reads and looks, and how files were fetched, changes no array.
    shown = [
        f"medrobust.data.{name}"
        for name in ("cards", "previews", "volume_previews", "audit", "volume_audit", "fetch")
    ]
    return code_hash(PREPARED_BY[entry.form], f"medrobust.data.{entry.adapter}", without=shown)


def dataset_definition(entry: Dataset) -> str:
    """Returns the hash of what defines a data set's arrays in the registry."""
    fields = {"adapter", "options", "classes", "shape", "input_range", "counts"}
    return sha256_of_json(entry.model_dump(mode="json", include=fields))[:16]


def training_params(model: Model) -> dict[str, Any]:
    """Returns what a training job needs to know of its model (not its name or votes)."""
    return {"architecture": model.architecture, "method": model.method}


def prediction_params(model: Model) -> dict[str, Any]:
    """Returns what a job that queries a model needs to know of it."""
    return {"architecture": model.architecture, "vote": model.vote}


def search_params(model: Model) -> dict[str, Any]:
    """Returns what a job that follows a training's search needs to know of its model."""
    return prediction_params(model) | {"method": model.method}


def attack_params(attack: Attack) -> dict[str, Any]:
    """Returns what an attack job needs to know of its attack."""
    params: dict[str, Any] = {"name": attack.name, **attack.options}
    if attack.grid:
        params["grid"] = attack.grid
    if attack.select != "cohort":
        params["keep_arrays"] = attack.keep_arrays
    return params


def attack_facts(attack: Attack) -> dict[str, Any]:
    """Returns what captions say of an attack: name, options, grid and points per class."""
    facts: dict[str, Any] = {"name": attack.name, **attack.options, "grid": attack.grid}
    return facts | {"points_per_class": attack.points_per_class}
