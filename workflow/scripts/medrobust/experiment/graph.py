"""The experiment graph: which files a run consists of.

A study is a list of cells (data set, fold, replicate) times models times attacks. This module
turns the resolved configuration into file names and numbers of points; the Snakemake rules and
the plan both read it, so neither can drift from the other. It imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrobust.core.errors import InputError
from medrobust.core.io import sha256_of_json
from medrobust.core.registry import MARGINS
from medrobust.data.registry import STANDIN, Dataset
from medrobust.experiment.calls import (
    attack_code,
    attack_params,
    prediction_params,
    search_params,
    training_code,
    training_params,
)
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.config import (
    Attack,
    Model,
    Resolved,
    Study,
    chunk_size,
)
from medrobust.experiment.layout import (
    EVALUATIONS,
    FOLD,
    MODEL,
    PLACES,
    PROGRESS,
    Cell,
)
from medrobust.reporting.catalogue import Artefact


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
        """Returns the results that an artefact shows, as
        :class:`medrobust.reporting.request.Entry`.

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
        shown = {n for a in settings.artefacts for n in artefacts_of(cell.study)[a].needs}
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
        folder, suffix = PLACES[artefacts_of(study)[name].kind]
        return f"results/{self.resolved.run}/{study}/{folder}/{name}.{suffix}"


def member_ranges(model: Model, n_classes: int) -> list[tuple[int, int]]:
    """Returns the first and last member (inclusive) that each training job trains."""
    members = model.members
    if model.members_multiclass is not None and n_classes > 2:
        members = model.members_multiclass
    step = model.members_per_job
    return [(a, min(a + step, members) - 1) for a in range(0, members, step)]
