"""The experiment graph: which files a run consists of.

A study is a list of cells (data set, fold, replicate) times models times attacks. This module
turns the resolved configuration into file names and numbers of points; the Snakemake rules and
the plan both read it, so neither can drift from the other. It imports nothing heavy.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrobust.core.io import sha256_of_json
from medrobust.data.registry import STANDIN, DatasetEntry, fold_rows
from medrobust.data.weights import RANDOM
from medrobust.experiment import costs
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.config import Attack, Model, Resolved, Study, trained_on
from medrobust.experiment.fitting import fitted
from medrobust.experiment.layout import (
    EVALUATIONS,
    FOLD,
    MODEL,
    PLACES,
    WEIGHTS,
    Cell,
)

#: Stands for all points where their number is not known beforehand.
ALL_POINTS = 2**31


@dataclass(frozen=True, eq=False)
class Graph:
    """File names of a run.

    Attributes:
        resolved: the checked configuration.
        sources: label of each data set's source, as it stands in paths.
        origins: the registry's source behind that label ("subset" is a part of one).
        raw_dirs: folders that may hold raw files, in order of preference.
        skipped: studies, and data sets of ``also_prepare``, that are left out because their data
            cannot be had (on_missing_data: skip).
        executor: what jobs are handed over to, such as "slurm"; None: they run on this machine.
        same_packages: whether jobs use the packages of this process, not conda environments.
    """

    resolved: Resolved
    sources: dict[str, str]
    origins: dict[str, str]
    raw_dirs: tuple[Path, ...]
    skipped: tuple[str, ...] = ()
    executor: str | None = None
    same_packages: bool = True

    @property
    def registry(self) -> dict[str, DatasetEntry]:
        """Every known data set."""
        return self.resolved.registry

    def study(self, name: str) -> Study:
        """Returns a study's settings."""
        return self.resolved.studies[name]

    def cells(self, study: str) -> list[Cell]:
        """Returns the cells of a study, in the order of its configuration."""
        settings = self.study(study)
        return [
            Cell(self.resolved.run, study, dataset, self.sources[dataset], fold, replicate)
            for dataset, use in settings.datasets.items()
            for fold in range(self.folds(study, dataset))
            for replicate in range(use.replicates or settings.replicates)
        ]

    def folds(self, study: str, dataset: str) -> int:
        """Returns how many folds of a data set a study runs."""
        known = self.registry[dataset].folds
        return min(known, self.study(study).datasets[dataset].folds or known)

    @functools.lru_cache(maxsize=1024)  # noqa: B019, a graph lives as long as its process
    def models(self, study: str, dataset: str) -> dict[str, Model]:
        """Returns the models that are trained on a data set, with the settings they have there."""
        settings, entry = self.study(study), self.registry[dataset]
        known = trained_on(settings, dataset)
        if settings.datasets[dataset].published_name is not None:
            return known  # as in the study's file, or refused
        return {name: fitted(model, entry) for name, model in known.items()}

    def trained(self, cell: Cell) -> dict[str, Model]:
        """Returns the models that are trained in a cell: some may have fewer replicates."""
        return {
            name: model
            for name, model in self.models(cell.study, cell.dataset).items()
            if model.replicates is None or cell.replicate < model.replicates
        }

    def of_volumes(self, dataset: str) -> bool:
        """Tells whether a data set is one of volumes, whose slices are segmented."""
        return self.registry[dataset].form == "volumes"

    def training_rows(self, study: str, dataset: str) -> int:
        """Returns how many points models are trained on (val included where it has no place)."""
        rows = self.rows(dataset, "train")
        return min(rows, self.study(study).datasets[dataset].training_points or rows)

    def evaluations(self, study: str) -> str:
        """Returns the folder of a study's evaluations, or of committed records."""
        if self.resolved.config.records_from is not None:
            return f"{self.resolved.records}/{self.resolved.run}/evaluations"
        return EVALUATIONS.format(run=self.resolved.run, study=study)

    def cohort(self, cell: Cell) -> str:
        """Returns the file of the points to attack: one for all replicates of a fold."""
        return "/".join([self.evaluations(cell.study), FOLD.format(**vars(cell)), "cohort.csv"])

    def points_file(self, cell: Cell, attack: str) -> str:
        """Returns the file of the points that an attack takes: the cohort, or its own."""
        select = self.study(cell.study).attacks[attack].select
        if select == "cohort":
            return self.cohort(cell)
        fold, name = FOLD.format(**vars(cell)), "drawn" if select == "random" else "points"
        return "/".join([self.evaluations(cell.study), fold, attack, f"{name}.csv"])

    def attack_points(self, study: str, dataset: str, attack: str) -> int:
        """Returns how many points an attack takes, 0 if unknown (of a subset, at most so many)."""
        settings = self.study(study)
        chosen = settings.attacks[attack]
        if chosen.select == "cohort":
            return int(settings.datasets[dataset].points or 0)
        points = self.rows(dataset, chosen.select if chosen.of_split else "test")
        if chosen.points_per_class is not None:
            points = min(points, chosen.points_per_class * len(self.registry[dataset].classes))
        return min(points, chosen.points or points)

    def values(self, dataset: str) -> int:
        """Returns how many values a point of a data set has."""
        return math.prod(self.registry[dataset].shape)

    def rows(self, dataset: str, split: str) -> int:
        """Returns the rows that a split of a data set should have: train (with val), val, test."""
        size = self.resolved.scale.standin
        folds = self.registry[dataset].folds
        if self.sources.get(dataset) == STANDIN and size is not None:
            if folds > 1:
                return fold_rows(size.train + size.test, folds, split)
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

    @functools.lru_cache(maxsize=1024)  # noqa: B019, one list for the thousands of jobs that ask
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

    def n_members(self, study: str, dataset: str, model: str) -> int:
        """Returns how many members a model has on a data set."""
        n_classes = len(self.registry[dataset].classes)
        return member_ranges(self.study(study).models[model], n_classes)[-1][1] + 1

    @functools.lru_cache(maxsize=1024)  # noqa: B019
    def attack(self, study: str, dataset: str, model: str, attack: str) -> Attack:
        """Returns an attack of a study with the options that it has against a model."""
        return self.study(study).attacks[attack].amended(dataset, model)

    @functools.lru_cache(maxsize=1024)  # noqa: B019
    def queries_per_point(self, study: str, dataset: str, model: str, attack: str) -> int:
        """Returns :func:`medrobust.experiment.costs.queries_per_point` of :meth:`attack`."""
        return costs.queries_per_point(self.attack(study, dataset, model, attack))

    @functools.lru_cache(maxsize=1024)  # noqa: B019
    def chunks(self, study: str, dataset: str, model: str, attack: str) -> list[tuple[int, int]]:
        """Returns the [start, stop) positions among an attack's points that each job attacks."""
        points = self.attack_points(study, dataset, attack)
        if not points:
            # Nobody says how many there are: one job takes all.
            return [(0, ALL_POINTS)]
        chosen, members = self.study(study).models[model], self.n_members(study, dataset, model)
        run = self.attack(study, dataset, model, attack)
        size = costs.chunk_size(run, chosen, members, points, values=self.values(dataset))
        return [(start, min(start + size, points)) for start in range(0, points, size)]

    def chunk_files(self, cell: Cell, model: str, attack: str) -> list[str]:
        """Returns the record files of an attack on a model in a cell."""
        count = len(self.chunks(cell.study, cell.dataset, model, attack))
        return [self.evaluation(cell, model, attack, f"chunk{k}.parquet") for k in range(count)]

    def weights_file(self, study: str, model: str) -> str | None:
        """Returns the file that says which weights a model begins with; None: it has none."""
        name = self.study(study).models[model].initial_weights
        return None if name in (None, RANDOM) else WEIGHTS.format(weights=name)

    def random_init(self, study: str) -> list[str]:
        """Returns the models that began at random because their weights were not at hand."""
        models = self.study(study).models.items()
        return [name for name, model in models if model.initial_weights == RANDOM]

    def extra_files(self, cell: Cell, model: str) -> list[str]:
        """Returns the files of what the training jobs of a model know of the training points."""
        files = self.member_files(cell, model)
        return [file.replace(".safetensors", ".extras.safetensors") for file in files]

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

    def run_facts(self, study: str) -> dict[str, Any]:
        """Returns what committed records must state to be redrawn: all that shaped them."""
        return {
            "run": self.resolved.run,
            "seed": self.resolved.config.seed,
            # What is said of results does not shape them.
            "study": self.study(study).model_dump(mode="json", exclude={"claims"}),
        }

    def study_hash(self, study: str) -> str:
        """Returns the hash of a study's settings, protocol and scale applied."""
        settings = self.study(study).model_dump()
        # Keys that came later: where nothing of them is used, a hash is what it was.
        later = [(settings, "keep_probabilities"), (settings, "claims")]
        later += [(use, "without") for use in settings["datasets"].values()]
        later += [(model, "initial_weights") for model in settings["models"].values()]
        for attack in settings["attacks"].values():
            later += [(attack, "for_datasets"), (attack, "for_models"), (attack, "extra")]
        for part, key in later:
            if not part[key]:
                del part[key]
        return sha256_of_json(settings)[:16]

    def artefacts(self, study: str) -> list[str]:
        """Returns the main file of every table and figure of a study."""
        return [self.artefact(study, name) for name in self.study(study).artefacts]

    def artefact_file(self, study: str, name: str, suffix: str) -> str:
        """Returns one of the files of a table, figure or list."""
        return str(Path(self.artefact(study, name)).with_suffix(suffix))

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
