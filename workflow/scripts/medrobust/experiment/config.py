"""The configuration: what may be set, what it means, and how the files are put together.

``config/config.yaml`` names a scale, a protocol and studies. Each study is described by
``config/studies/<study>.yaml``; where a value is a mapping of ``code`` and ``text``, the
protocol chooses one. ``config/scales/<scale>.yaml`` then replaces numbers (and only numbers, one
for both protocols or one for each), and the user's ``overrides`` replace anything. The classes
below are the only definition of every key; config/README.md is generated from them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, model_validator

from medrobust.core.errors import InputError
from medrobust.core.grid import grid_variants
from medrobust.core.io import sha256_of_json
from medrobust.core.registry import parse_spec
from medrobust.core.schema import Settings, checked, unknown_name
from medrobust.core.yaml_files import read_yaml, typed
from medrobust.data.registry import STANDIN, DatasetEntry, load_registry
from medrobust.data.weights import RANDOM, Weights, load_weights
from medrobust.experiment.amounts import TRAINED_OTHERWISE, differences, trained_otherwise
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.layout import project_file
from medrobust.experiment.sentences import Sentence, check_sentence
from medrobust.models.contract import architecture_of
from medrobust.reporting.generic import GENERIC
from medrobust.training.contract import method_of

SCALES = ("paper", "laptop", "smoke")
STUDIES_FOLDER = "config/studies"
#: The artefact of a study's sentences.
CLAIMS = "claims"
#: Names of targets that no study can have.
TARGETS = frozenset({"all", "data", "cards", "plan", "preflight", "comparison", "claims"})
#: Options of an attack that say what is measured, which numbers in one table have in common.
SAME_FOR_ALL = frozenset({"norm", "epsilon", "loss"})
#: Into which jobs an attack is divided: of about this time on one core, and at most so many.
CHUNK_SECONDS, CHUNKS_PER_ATTACK = 3600, 64


class Config(Settings):
    """config/config.yaml: the one file a user edits."""

    scale: Literal["paper", "laptop", "smoke"] = Field(
        default="paper",
        description="how much: the published amounts, real data with smaller amounts (hours to a "
        "day a study), or stand-ins",
    )
    protocol: Literal["code", "text"] = Field(
        default="code", description="what the authors' code did, or what the paper's text says"
    )
    studies: list[str] = Field(
        default=["signnet", "nsr", "ima", "ima_segmentation", "mirst"],
        min_length=1,
        description="the studies to run: names of files in config/studies, or paths of such files "
        "that lie elsewhere (`my_folder/my_study.yaml`)",
    )
    include_extras: bool | list[str] = Field(
        default=False,
        description="also run the data sets, models and attacks that the papers do not have: all, "
        "or these",
    )
    leave_out: list[str] = Field(
        default=[],
        description="data sets, models and attacks not to run; results of the others stay the same",
    )
    also_prepare: bool | list[str] = Field(
        default=False,
        description="data sets to prepare that no selected study uses: all (but `leave_out`), "
        "or these",
    )
    seed: int = Field(default=20201024, ge=0, description="root of every random draw")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="where networks compute: auto takes a GPU if there is one, on a cluster if the "
        "job was given one; cuda asks for one GPU for each job that uses one, and insists on it",
    )
    allow_tf32: bool = Field(
        default=False,
        description="whether a GPU may round the factors of matrix products to 10 bits (TF32): "
        "faster, other results; stated in provenance",
    )
    compute_threads: int = Field(
        default=1, ge=1, description="threads inside one job; results can differ in the last bit"
    )
    own_datasets: dict[str, Any] = Field(
        default={},
        description="data sets of your own, in the form of config/datasets.yaml (docs/data.md)",
    )
    raw_dir: str | None = Field(
        default=None, description="folder with `<dataset>/` sub-folders of raw files you have"
    )
    sources: dict[str, str] = Field(
        default={},
        description="source per data set (config/datasets.yaml); else chosen by what is there",
    )
    allow_subset: bool = Field(
        default=False, description="accept an incomplete release, labelled `subset`"
    )
    initial_weights: Literal["auto", "random"] = Field(
        default="auto",
        description="auto: models begin with the weights that they name, where the file is at hand "
        "or can be downloaded, else at random (RANDOM INIT in captions); random: all at random",
    )
    own_weights: dict[str, Any] = Field(
        default={},
        description="weights of your own to begin with, in the form of config/weights.yaml "
        "(docs/weights.md)",
    )
    on_missing_data: Literal["stop", "skip"] = Field(
        default="stop", description="what to do with a study whose data cannot be had"
    )
    records_from: str | None = Field(
        default=None, description="folder of committed records to redraw tables and figures from"
    )
    overrides: dict[str, Any] = Field(
        default={},
        description="study settings to change: `{study: {...}}` in the shape of config/studies",
    )


class StandIn(Settings):
    """Size of a generated stand-in data set."""

    train: int = Field(ge=10, description="training points")
    test: int = Field(ge=10, description="test points")


class Scale(Settings):
    """config/scales/<scale>.yaml: amounts that differ from the paper's."""

    description: str = Field(description="one sentence for captions and reports")
    data: Literal["official", "standin"] = Field(description="real data or generated stand-ins")
    standin: StandIn | None = Field(default=None, description="size of the stand-ins")
    studies: dict[str, dict[str, Any]] = Field(
        default={}, description="numbers to replace, in the shape of config/studies"
    )


class StudyDataset(Settings):
    """How a study uses a data set."""

    published_name: str | None = Field(
        default=None, description="its name in the published numbers"
    )
    points: int | None = Field(
        default=None, ge=1, description="points of the cohort; null: no attack takes a cohort"
    )
    training_points: int | None = Field(
        default=None,
        ge=10,
        description="train on so many points only (of volumes: cases), drawn at random, the same "
        "for every model and replicate; null: all",
    )
    replicates: int | None = Field(
        default=None, ge=1, description="repetitions of its trainings; null: the study's"
    )
    folds: int | None = Field(
        default=None, ge=1, description="of its folds, the first so many; null: all"
    )
    protocol: Literal["code", "text"] | None = Field(
        default=None, description="the one protocol that uses it; null: both"
    )
    without: list[str] = Field(
        default=[],
        description="models of the study that are not trained on it, such as a network for longer "
        "signals; where it is not one of the paper's also models that choose its cohort",
    )
    extra: bool = Field(default=False, description="not in the paper; run with include_extras")


class Model(Settings):
    """A model: architecture, training method, number of members, and how they vote."""

    label: str = Field(min_length=1, description="name in tables and figures")
    published_name: str | None = Field(
        default=None, description="its name in the published numbers"
    )
    members: int = Field(default=1, ge=1, description="independently trained members")
    members_multiclass: int | None = Field(
        default=None,
        ge=1,
        description="members instead where a data set has more than two classes; null: the same",
    )
    members_per_job: int = Field(default=1, ge=1, description="members trained in one job")
    vote: Literal["soft", "majority"] = Field(default="soft", description="how members are joined")
    architecture: dict[str, Any] = Field(description="`name` and the architecture's own settings")
    method: dict[str, Any] = Field(description="`name` and the training method's own settings")
    initial_weights: str | None = Field(
        default=None,
        description="weights that it begins with, by their name in config/weights.yaml or "
        "`own_weights`; null: drawn at random",
    )
    datasets: list[str] | None = Field(
        default=None, min_length=1, description="data sets it is trained on; null: all of the study"
    )
    replicates: int | None = Field(
        default=None,
        ge=1,
        description="of the trainings of its data sets, the first so many; null: all",
    )
    extra: bool = Field(default=False, description="not in the paper; run with include_extras")


class Attack(Settings):
    """An attack and its budget."""

    name: str = Field(description="registered name of the attack")
    points_per_job: int | Literal["auto"] | dict[str, int] = Field(
        default="auto",
        description="points per job, of all models or by architecture; auto, or not named: of each "
        f"model as many as take about {CHUNK_SECONDS // 60} minutes on one core, in at most "
        f"{CHUNKS_PER_ATTACK} jobs",
    )
    options: dict[str, Any] = Field(default={}, description="the attack's own settings")
    for_datasets: dict[str, dict[str, Any]] = Field(
        default={},
        description="data sets on which some of these options are others, e.g. "
        "`kather: {start: fixed}`",
    )
    for_models: dict[str, dict[str, Any]] = Field(
        default={},
        description="models against which some are others, e.g. `cnn: {restarts: 3, max_iter: 50}` "
        "so that a slow one does not hold back the rest; captions say so; they count before those "
        "of a data set",
    )
    grid: dict[Literal["epsilon", "loss"], list[float | str]] = Field(
        default={},
        description="options that take several values in turn, e.g. `epsilon: [0.01, 0.1]`",
    )
    select: Literal["cohort", "random", "test", "val"] = Field(
        default="cohort",
        description="points to attack: the study's cohort; or, whatever the models say of them, "
        "`points` test points drawn at random, or those of the test or validation split",
    )
    points_per_class: int | None = Field(
        default=None,
        ge=1,
        description="of a split, the first so many of each class; null: all",
    )
    points: int | None = Field(
        default=None, ge=1, description="of these, the first so many; null: all"
    )
    keep_arrays: int = Field(
        default=0,
        ge=0,
        description="points of a split whose adversarial versions are kept; a cohort's always are",
    )
    models: list[str] | None = Field(
        default=None, min_length=1, description="models to attack; null: all of the study"
    )
    extra: bool = Field(default=False, description="not in the paper; run with include_extras")

    @property
    def has_radius(self) -> bool:
        """Whether it stays within a ball of given radius; others search for the nearest point."""
        return "epsilon" in self.options or "epsilon" in self.grid

    @property
    def of_split(self) -> bool:
        """Whether it takes the points of a split in their order; others have a list drawn."""
        return self.select in ("test", "val")

    @property
    def tallied(self) -> bool:
        """Whether a tally counts what it did: at radii, on test points in equal shares of classes.

        A tally knows all test points, or the first of each class, but not the first of all.
        """
        return self.select == "test" and self.has_radius and self.points is None

    def amended(self, dataset: str, model: str | None = None) -> Attack:
        """Returns the attack as it is run on a data set, and against one of its models."""
        if not (self.for_datasets or self.for_models):
            return self
        changes = self.for_datasets.get(dataset, {}) | self.for_models.get(model or "", {})
        options = self.options | changes
        return self.model_copy(update={"options": options, "for_datasets": {}, "for_models": {}})

    @model_validator(mode="after")
    def _consistent(self) -> Attack:
        for key in ("for_datasets", "for_models"):
            for name, options in getattr(self, key).items():
                if fixed := sorted(SAME_FOR_ALL & options.keys()):
                    raise ValueError(
                        f"{key}.{name} cannot set {fixed[0]!r}: what is measured is the same on "
                        "all data sets and models"
                    )
        given = self.points_per_job
        counts = given.values() if isinstance(given, dict) else [given]
        if any(count != "auto" and count < 1 for count in counts):
            raise ValueError("points_per_job must be at least 1")
        of_a_split = self.points_per_class or self.keep_arrays or self.grid
        if not self.of_split and of_a_split:
            raise ValueError("points_per_class, keep_arrays and grid need `select: test` or val")
        if self.select == "cohort" and self.points:
            raise ValueError("points needs `select: random`, test or val")
        if self.select == "random" and not self.points:
            raise ValueError("`select: random` needs points, a number")
        empty = [key for key, values in self.grid.items() if not values]
        repeated = [key for key, values in self.grid.items() if len(set(values)) < len(values)]
        if empty or repeated:
            raise ValueError(f"grid.{(empty + repeated)[0]} is empty or names a value twice")
        both = [key for key in self.grid if key in self.options]
        if both:
            raise ValueError(f"{both[0]!r} stands both in options and in grid")
        return self


class Cohort(Settings):
    """Which test points are attacked."""

    models: list[str] = Field(
        min_length=1,
        description="frozen list of models that choose points: on each data set those of them that "
        "are trained there",
    )
    select: Literal["all_correct", "random"] = Field(
        default="all_correct",
        description="only points that all these models classify correctly, or any points",
    )


class Study(Settings):
    """config/studies/<study>.yaml: what one paper ran."""

    title: str = Field(description="title of the paper")
    citation: str = Field(description="citation of the paper")
    published: str | None = Field(
        default=None, description="file of the published numbers; null: there are none"
    )
    replicates: int = Field(default=1, ge=1, description="repetitions of the whole training")
    datasets: dict[str, StudyDataset] = Field(min_length=1, description="data sets by name")
    models: dict[str, Model] = Field(min_length=1, description="models by name")
    attacks: dict[str, Attack] = Field(min_length=1, description="attacks by name")
    cohort: Cohort | None = Field(
        default=None,
        description="choice of the cohort; null: every attack takes points of a split",
    )
    keep_probabilities: bool = Field(
        default=False,
        description="keep the probability of each class beside predictions and in attack records, "
        "for `binary_scores` (area under the curve, calibration)",
    )
    claims: dict[str, Sentence] = Field(
        default={},
        description="sentences to hold against the results, by names of their own, for the "
        "artefact `claims` (docs/extending.md)",
    )
    artefacts: list[str] = Field(
        default=[],
        description="tables, figures and lists to make; none named: of the generic ones "
        "`accuracy`, `robust_accuracy`, `robust_curves`, `distances` those that its attacks can "
        "fill, and `claims` where it has some; `binary_metrics` and `binary_scores` (data sets of "
        "two classes) are to be named",
    )


def attack_variants(study: Study, attack: str, dataset: str) -> dict[str | None, Attack]:
    """Returns an attack as it is run on a data set: the usual one (None), and by model the others.

    Only models that are trained there and attacked.
    """
    chosen = study.attacks[attack]
    aimed = [m for m in trained_on(study, dataset) if chosen.models is None or m in chosen.models]
    named = [model for model in aimed if model in chosen.for_models]
    return {model: chosen.amended(dataset, model) for model in (None, *named)}


def trained_on(study: Study, dataset: str) -> dict[str, Model]:
    """Returns the models of a study that are trained on a data set, as its file describes them."""
    without = study.datasets[dataset].without
    return {
        name: model
        for name, model in study.models.items()
        if name not in without and (model.datasets is None or dataset in model.datasets)
    }


def choosers(study: Study, dataset: str) -> list[str]:
    """Returns the models that choose the cohort of a data set: of ``cohort.models`` those there."""
    known = trained_on(study, dataset)
    return [name for name in study.cohort.models if name in known] if study.cohort else []


@dataclass(frozen=True)
class Resolved:
    """Everything a run needs to know, checked.

    Attributes:
        config: the user's settings.
        scale: the chosen scale.
        studies: the studies to run, protocol and scale applied, extras left out unless asked for.
        registry: every known data set.
        files: name of each study to its file.
        run: name of the run's results folder, ``<scale>-<protocol>`` plus a hash of overrides.
        root: the workflow's folder.
        weights: every known set of initial weights, where a model names one.
        named_weights: study -> model -> the weights that it names, whether or not they are at hand.
        here: the folder that the user works in. Where it has a file of ``root``'s configuration,
            that one counts.
    """

    config: Config
    scale: Scale
    studies: dict[str, Study]
    registry: dict[str, DatasetEntry]
    files: dict[str, str]
    run: str
    root: Path
    here: Path
    weights: dict[str, Weights] = field(default_factory=dict)
    named_weights: dict[str, dict[str, str]] = field(default_factory=dict)

    def file(self, path: str) -> str:
        """Returns where a file lies that the configuration names, seen from the user's folder."""
        found = project_file(path, self.root, self.here)
        return path if found == self.here / path else str(found)

    @property
    def records(self) -> Path:
        """The folder of committed records, which can be one of the workflow's own."""
        given = Path(str(self.config.records_from))
        own = self.root / given
        return own if own.exists() and not given.exists() else given

    def unlike_the_paper(self, name: str) -> str:
        """Returns a sentence on the amounts that differ from the paper's; "" if none does.

        A study without published numbers re-runs no paper: its own file is what it differs from.
        """
        if name not in self.scale.studies and name not in self.config.overrides:
            return ""
        file = self.files[name]
        where = project_file(file, self.root, self.here)
        values = _choose_protocol(read_yaml(where), self.config.protocol)
        paper = checked(Study, values, file=file)
        settings, printed = self.studies[name].model_dump(), paper.model_dump()
        if paper.published is None:
            unlike, whose = differences(settings, printed, "its file"), "those of the study's file"
        else:
            unlike, whose = differences(settings, printed), "the paper's"
        if not unlike:
            return ""
        sentence = f"Amounts unlike {whose}, over all that ran: {unlike}."
        less = trained_otherwise(settings, printed)
        return f"{sentence} {TRAINED_OTHERWISE}" if less else sentence


def resolve(
    values: Mapping[str, Any], root: Path, here: Path | None = None, *, to_run: bool = True
) -> Resolved:
    """Checks and joins all configuration files.

    Args:
        values: content of config/config.yaml with command line settings applied.
        root: the workflow's folder, which holds ``config/``.
        here: the folder that the user works in, where it is another: its files of ``config/scales``
            and ``config/studies``, and files named by path, count before those of ``root``.
        to_run: whether all that is selected is to run; if not, parts of it will be chosen, and
            points need no models that choose them.

    Raises:
        InputError: anything is unknown, missing, of a wrong type or out of range; it names the
            file, the key, what is allowed, and the nearest valid name.
    """
    here = root if here is None else here
    values = {
        key: typed(value) if key == "overrides" else _WORDS.get(str(value), value)
        for key, value in values.items()
    }
    for key in ("studies", "include_extras", "leave_out", "also_prepare"):
        if isinstance(values.get(key), str):
            values[key] = [values[key]]
    config = checked(Config, values, file="config/config.yaml")
    scale_file = f"config/scales/{config.scale}.yaml"
    scale = checked(Scale, read_yaml(project_file(scale_file, root, here)), file=scale_file)
    if scale.data == "standin" and scale.standin is None:
        raise InputError(
            "A scale with stand-in data must state their size.", where=f"{scale_file}, key standin"
        )
    files = study_files(config.studies, root, here)
    known = list(dict.fromkeys([*study_names(root, here), *files]))
    for place, overlay in (
        (scale_file + ", key studies", scale.studies),
        ("config/config.yaml, key overrides", config.overrides),
    ):
        for name in overlay:
            if name not in known:
                raise unknown_name("study", name, known, where=place)
    registry = load_registry(
        root / "config/datasets.yaml",
        own=here / "config/datasets.yaml",
        entries=config.own_datasets,
    )
    _check_sources(config, scale, registry)
    also = named_datasets(config.also_prepare, registry)
    _check_known(also, registry)
    whole = {
        name: _resolve_study(
            name, read_yaml(project_file(file, root, here)), file, config, scale, registry
        )
        for name, file in files.items()
    }
    weights = _known_weights(whole, config, root, files)
    studies = {name: _select(study, config, files[name]) for name, study in whole.items()}
    _check_selection(config, whole, studies, also)
    if to_run:
        _check_choosers(whole, studies)
    run = f"{config.scale}-{config.protocol}"
    defaults = Config()
    changed: dict[str, Any] = {"overrides": config.overrides} if config.overrides else {}
    # With no weights named, or none for stand-ins, nothing depends on where they are had from.
    of_weights = ["initial_weights"] if weights and scale.data != STANDIN else []
    for name in ("seed", "compute_threads", *of_weights):
        if getattr(config, name) != getattr(defaults, name):
            changed[name] = getattr(config, name)
    without = {
        name: list(_without_choosers(study, studies[name], config)) for name, study in whole.items()
    }
    if any(without.values()):
        # Other points are attacked then.
        changed["cohort_without"] = {name: left for name, left in without.items() if left}
    if changed:
        # Other results must neither overwrite nor be taken for the scale's own.
        run += "-" + sha256_of_json(changed)[:6]
    named = {name: named_weights(study) for name, study in studies.items()}
    return Resolved(config, scale, studies, registry, files, run, root, here, weights, named)


def named_weights(study: Study) -> dict[str, str]:
    """Returns the weights that a study's models name, by model; of none or "random" nothing."""
    return {
        name: model.initial_weights
        for name, model in study.models.items()
        if model.initial_weights not in (None, RANDOM)
    }


def _known_weights(
    studies: Mapping[str, Study], config: Config, root: Path, files: Mapping[str, str]
) -> dict[str, Weights]:
    """Returns the weights that there are, if any model or the user names some.

    Raises:
        InputError: an entry is wrong, or a model names weights that there are not.
    """
    named = {
        (study, model): name
        for study, settings in studies.items()
        for model, name in named_weights(settings).items()
    }
    if not named and not config.own_weights:
        return {}
    known = load_weights(root / "config/weights.yaml", config.own_weights)
    for (study, model), name in named.items():
        where = f"{files[study]}, key models.{model}.initial_weights"
        if name not in known:
            raise unknown_name("initial weights", name, [*known, RANDOM], where=where)
        architecture = studies[study].models[model].architecture["name"]
        if architecture_of(architecture).read_weights is None:
            raise InputError(
                f"The architecture {architecture!r} reads no pretrained weights.",
                where=where,
                remedy="leave the key out, or choose an architecture that reads some.",
            )
    return known


def model_specs(model: Model, *, file: str = "", prefix: str = "") -> tuple[Settings, Settings]:
    """Returns the checked settings of a model's architecture and training method.

    Raises:
        InputError: a name or option is wrong, or the method cannot train the architecture.
    """
    architecture = parse_spec(
        "architecture", model.architecture, file=file, prefix=f"{prefix}.architecture"
    )
    method = parse_spec("method", model.method, file=file, prefix=f"{prefix}.method")
    trains = method_of(model.method["name"]).architectures
    if model.architecture["name"] not in trains:
        raise InputError(
            f"The method {model.method['name']!r} cannot train the architecture "
            f"{model.architecture['name']!r}.",
            where=f"{file}, key {prefix}",
            remedy="architectures it trains: " + ", ".join(sorted(trains)),
        )
    return architecture, method


def attack_specs(
    attack: Attack, *, file: str = "", prefix: str = "", key: str = "options"
) -> list[Settings]:
    """Returns the checked settings of an attack, of each variant of its grid.

    ``key``: where below ``prefix`` its options stand, for the message.
    """
    return [
        parse_spec(
            "attack",
            {"name": attack.name, **attack.options, **variant},
            file=file,
            prefix=f"{prefix}.{key}",
        )
        for variant in grid_variants(attack.grid)
    ]


def named_datasets(names: bool | Sequence[str], registry: Mapping[str, DatasetEntry]) -> list[str]:
    """Returns the data sets that ``also_prepare`` or a command names; true or "all": every one."""
    if isinstance(names, bool):
        return list(registry) if names else []
    return list(registry) if "all" in names else list(dict.fromkeys(names))


def _check_known(names: Sequence[str], registry: Mapping[str, DatasetEntry]) -> None:
    for name in names:
        if name not in registry:
            place = "config/config.yaml, key also_prepare"
            raise unknown_name("data set", name, sorted(registry), where=place)


def _check_sources(config: Config, scale: Scale, registry: Mapping[str, DatasetEntry]) -> None:
    for dataset, source in config.sources.items():
        place = "config/config.yaml, key sources"
        if scale.standin is not None and source != STANDIN:
            raise InputError(
                f"The scale {config.scale!r} runs on generated stand-ins, not on {source!r}.",
                where=f"{place}.{dataset}",
                remedy="leave the source out, or choose the scale laptop or paper.",
            )
        if dataset not in registry:
            raise unknown_name("data set", dataset, sorted(registry), where=place)
        allowed = [*registry[dataset].sources, *([STANDIN] if scale.standin else [])]
        if source not in allowed:
            raise unknown_name("source", source, allowed, where=f"{place}.{dataset}")


def study_names(*folders: Path) -> list[str]:
    """Returns the names of the studies in config/studies of any of the folders."""
    return sorted({file.stem for f in folders for file in (f / STUDIES_FOLDER).glob("*.yaml")})


def study_files(wanted: Sequence[str], root: Path, here: Path) -> dict[str, str]:
    """Returns the file of each wanted study by its name, which is that of the file.

    Args:
        wanted: names of files in config/studies, or paths that end in ``.yaml``.
        root: the workflow's folder.
        here: the folder that the user works in.

    Raises:
        InputError: there is no such file, two have one name, or a name cannot be that of a target.
    """
    files: dict[str, str] = {}
    for study in wanted:
        elsewhere = study.endswith((".yaml", ".yml"))
        name = Path(study).stem if elsewhere else study
        file = study if elsewhere else f"{STUDIES_FOLDER}/{name}.yaml"
        place = f"config/config.yaml, key studies: {study}"
        if not elsewhere and name not in study_names(root, here):
            raise unknown_name("study", name, study_names(root, here), where=place)
        if elsewhere and not project_file(file, root, here).is_file():
            raise InputError(
                "This file does not exist.",
                where=place,
                remedy="correct the path; it is relative to the folder that you work in.",
            )
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in TARGETS:
            raise InputError(
                f"A study cannot be called {name!r}.",
                where=place,
                remedy="a name has small letters, digits and underscores, begins with a letter, "
                f"and is none of {', '.join(sorted(TARGETS))}; the file's name is the study's.",
            )
        if files.setdefault(name, file) != file:
            raise InputError(f"Two of the studies are called {name!r}.", where=place)
    return files


def _resolve_study(
    name: str,
    values: Any,
    file: str,
    config: Config,
    scale: Scale,
    registry: Mapping[str, DatasetEntry],
) -> Study:
    values = _with_defaults(_choose_protocol(values, config.protocol))
    if name in scale.studies:
        numbers = _choose_protocol(scale.studies[name], config.protocol)
        place = f"config/scales/{config.scale}.yaml, key studies.{name}"
        values = _overlay(values, numbers, place, numbers_only=True)
    if name in config.overrides:
        place = f"config/config.yaml, key overrides.{name}"
        values = _overlay(values, config.overrides[name], place, numbers_only=False)
    laid_over = [
        *(["the scale's numbers"] if name in scale.studies else []),
        *(["your overrides"] if name in config.overrides else []),
    ]
    if laid_over:
        file += f" (with {' and '.join(laid_over)})"
    study = checked(Study, values, file=file)
    if not study.artefacts:
        filled = [k for k, one in GENERIC.items() if not one.classes and _fills(study, k)]
        study = study.model_copy(update={"artefacts": filled})
    _check_names(name, study, file, registry, scale)
    return study


def _fills(study: Study, generic: str) -> bool:
    """Tells whether a study has something to draw a generic artefact from."""
    if generic == CLAIMS:  # of whatever results its sentences are about
        return bool(study.claims)
    return set(GENERIC[generic].needs) <= _results_of(study)


def _results_of(study: Study) -> set[str]:
    """Returns what there is of a study's models to draw generic artefacts from."""
    attacks = study.attacks.values()
    there = {
        "summary": True,
        "tallies": any(attack.tallied for attack in attacks),
        "attack_records": any(not attack.has_radius for attack in attacks),
        "probabilities": study.keep_probabilities and any(attack.tallied for attack in attacks),
    }
    return {need for need, known in there.items() if known}


#: Parts of a study that have names, and what is not said of each.
_NAMED_PARTS: dict[str, type[Settings]] = {
    "datasets": StudyDataset,
    "models": Model,
    "attacks": Attack,
    "claims": Sentence,
}


def _with_defaults(values: Any) -> Any:
    """Returns a study's values with defaults where nothing is said, so that these can be changed.

    Values of a wrong form stay as they are; checking them says what is wrong.
    """
    if not isinstance(values, dict):
        return values
    filled = {**_defaults(Study), **values}
    for key, kind in _NAMED_PARTS.items():
        if isinstance(values.get(key), dict):
            filled[key] = {
                name: {**_defaults(kind), **part} if isinstance(part, dict) else part
                for name, part in values[key].items()
            }
    return filled


def _defaults(kind: type[Settings]) -> dict[str, Any]:
    fields = kind.model_fields.items()
    return {name: field.default for name, field in fields if not field.is_required()}


def _select(study: Study, config: Config, file: str) -> Study:
    """Returns a study with the data sets and models that are to run."""
    place = f"{file}, key datasets"
    datasets = _of_protocol(study.datasets, config.protocol, place)
    parts = (_chosen(one, config) for one in (datasets, study.models, study.attacks))
    return with_parts(study, *parts)


def with_parts(
    study: Study, datasets: Collection[str], models: Collection[str], attacks: Collection[str]
) -> Study:
    """Returns a study with these parts only, by their names.

    Models of other data sets go too, attacks on other models, and models from the list of those
    that choose a cohort.
    """
    trained = {name for dataset in datasets for name in trained_on(study, dataset)}
    kept = {n: model for n, model in study.models.items() if n in models and n in trained}
    aimed = {}
    for name, attack in study.attacks.items():
        aim = attack.models and [model for model in attack.models if model in kept]
        if name in attacks and aim != []:
            named = {
                "for_datasets": _named(attack.for_datasets, datasets),
                "for_models": _named(attack.for_models, kept),
            }
            aimed[name] = attack.model_copy(update={"models": aim, **named})
    used = {name: use for name, use in study.datasets.items() if name in datasets}
    cohort = study.cohort
    if cohort is not None:
        there = [name for name in cohort.models if name in kept]
        cohort = cohort.model_copy(update={"models": there})
    parts = {"datasets": used, "models": kept, "attacks": aimed, "cohort": cohort}
    return study.model_copy(update=parts)


def with_random_weights(study: Study, models: Collection[str]) -> Study:
    """Returns the study in which these of its models that name weights begin at random."""
    changed = {
        name: model.model_copy(update={"initial_weights": RANDOM})
        for name, model in study.models.items()
        if name in models and model.initial_weights is not None
    }
    return study.model_copy(update={"models": study.models | changed}) if changed else study


def _named(parts: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if name in names}


Part = TypeVar("Part", StudyDataset, Model, Attack)


def _chosen(parts: Mapping[str, Part], config: Config) -> dict[str, Part]:
    """Returns the data sets, models or attacks that ``include_extras`` and ``leave_out`` select."""
    extras = config.include_extras
    return {
        name: part
        for name, part in parts.items()
        if name not in config.leave_out
        and (not part.extra or extras is True or (isinstance(extras, list) and name in extras))
    }


def _check_selection(
    config: Config,
    whole: Mapping[str, Study],
    studies: Mapping[str, Study],
    also: Sequence[str],
) -> None:
    """Refuses names that no selected study has, and selections that leave nothing to do."""
    known = {
        name
        for study in whole.values()
        for name in (*study.datasets, *study.models, *study.attacks)
    }
    known |= set(also)
    extras = config.include_extras if isinstance(config.include_extras, list) else []
    for key, names in (("include_extras", extras), ("leave_out", config.leave_out)):
        for name in set(names) - known:
            place = f"config/config.yaml, key {key}"
            raise unknown_name("data set, model or attack", name, sorted(known), where=place)
    for study_name, study in studies.items():
        for model, datasets in _without_choosers(whole[study_name], study, config).items():
            of_paper = [name for name in datasets if study.datasets[name].published_name]
            if not of_paper:
                continue
            raise InputError(
                f"The model {model!r} of {study_name} chooses the points to attack, also "
                f"those of {', '.join(of_paper)}, whose numbers are held against print.",
                where="config/config.yaml, key leave_out",
                remedy="leave out models that `cohort.models` does not name; or, to leave it out "
                f"on other data sets alone, also {', '.join(of_paper)}, or set `without: "
                f"[{model}]` under these data sets in the study's file.",
            )
        parts = {"data set": study.datasets, "model": study.models, "attack": study.attacks}
        for what, left in parts.items():
            if not left:
                raise InputError(
                    f"No {what} of {study_name} is left to run.",
                    where="config/config.yaml, key leave_out",
                    remedy="leave out fewer, or select other studies.",
                )


def _check_choosers(whole: Mapping[str, Study], studies: Mapping[str, Study]) -> None:
    for name, study in studies.items():
        for dataset in study.datasets if study.cohort is not None else ():
            if not choosers(study, dataset):
                _refuse_without_choosers(name, whole[name], dataset)


def _refuse_without_choosers(name: str, whole: Study, dataset: str) -> None:
    """Raises an InputError for a data set whose points no model chooses."""
    if choosers(whole, dataset):
        raise InputError(
            f"No model is left to choose the points of {dataset} that are attacked: {name} names "
            f"{', '.join(whole.cohort.models)}.",
            where="config/config.yaml, key leave_out",
            remedy="leave one of them in, or name others under `cohort.models`.",
        )
    known = trained_on(whole, dataset).items()
    there = ", ".join(model for model, one in known if not one.extra) or "none"
    raise InputError(
        f"No model chooses the points of {dataset} that are attacked: of those trained there "
        f"({there}) the list names none.",
        where=f"study {name}, key cohort.models",
        remedy=f"name models that are trained there, or leave {dataset} out (`leave_out`).",
    )


def _without_choosers(whole: Study, study: Study, config: Config) -> dict[str, list[str]]:
    """Returns the models that the user leaves out, with the data sets that they choose points of.

    Args:
        whole: the study as its file describes it.
        study: what of it is to run.
        config: with ``leave_out``.
    """
    chosen = {dataset: choosers(whole, dataset) for dataset in study.datasets}
    left_out = {
        model: [dataset for dataset, models in chosen.items() if model in models]
        for model in (whole.cohort.models if whole.cohort is not None else [])
        if model in config.leave_out
    }
    return {model: datasets for model, datasets in left_out.items() if datasets}


def _of_protocol(
    datasets: Mapping[str, StudyDataset], protocol: str, place: str
) -> dict[str, StudyDataset]:
    """Returns the data sets that a protocol uses; no two may stand for one of the paper's."""
    used = {name: use for name, use in datasets.items() if use.protocol in (None, protocol)}
    by_published: dict[str, str] = {}
    for name, use in used.items():
        if use.published_name is None:
            continue
        other = by_published.setdefault(use.published_name, name)
        if other != name:
            raise InputError(
                f"The data sets {other} and {name} both stand for {use.published_name!r} under "
                f"the protocol {protocol!r}.",
                where=place,
                remedy="give each of them another `protocol`.",
            )
    return used


def _check_division(attack: Attack, study: Study, where: str) -> None:
    known = {model.architecture["name"] for model in study.models.values()}
    named = attack.points_per_job
    for architecture in named if isinstance(named, dict) else ():
        if architecture not in known:
            raise unknown_name("architecture", architecture, sorted(known), where=where)


def _check_variants(attack: str, study: Study, file: str) -> None:
    """Refuses options for data sets and models that are unknown, not attacked, or wrong."""
    chosen, place = study.attacks[attack], f"attacks.{attack}"
    attacked = study.models if chosen.models is None else chosen.models
    known: dict[str, tuple[str, Collection[str]]] = {
        "for_datasets": ("data set", study.datasets),
        "for_models": ("attacked model", attacked),
    }
    for key, (kind, names) in known.items():
        for name in getattr(chosen, key):
            if name not in names:
                raise unknown_name(kind, name, names, where=f"{file}, key {place}.{key}")
    for name in chosen.for_models:
        attack_specs(chosen.amended("", name), file=file, prefix=place, key=f"for_models.{name}")
    for dataset in chosen.for_datasets:
        for name, variant in attack_variants(study, attack, dataset).items():
            key = f"for_datasets.{dataset}" + (f" with for_models.{name}" if name else "")
            attack_specs(variant, file=file, prefix=place, key=key)


def _check_names(
    name: str, study: Study, file: str, registry: Mapping[str, DatasetEntry], scale: Scale
) -> None:
    for model_name, model in study.models.items():
        model_specs(model, file=file, prefix=f"models.{model_name}")
        for dataset in model.datasets or []:
            if dataset not in study.datasets:
                where = f"{file}, key models.{model_name}.datasets"
                raise unknown_name("data set", dataset, study.datasets, where=where)
    for attack_name, attack in study.attacks.items():
        place = f"attacks.{attack_name}"
        attack_specs(attack, file=file, prefix=place)
        _check_division(attack, study, f"{file}, key {place}.points_per_job")
        for model_name in attack.models or []:
            if model_name not in study.models:
                where = f"{file}, key {place}.models"
                raise unknown_name("model", model_name, study.models, where=where)
        _check_variants(attack_name, study, file)
    _check_cohort(study, file)
    known = artefacts_of(name)
    for artefact in study.artefacts:
        if artefact not in known:
            raise unknown_name("artefact", artefact, known, where=f"{file}, key artefacts")
        chosen = known[artefact]
        if chosen is GENERIC.get(artefact) and not _fills(study, artefact):
            raise InputError(
                f"Nothing fills {artefact!r}: {chosen.what}.",
                where=f"{file}, key artefacts",
                remedy=_FILLED_BY[artefact],
            )
        _check_classes(artefact, chosen.classes, study, registry, file)
    _check_claims(name, study, registry, file)
    for dataset, use in study.datasets.items():
        for model_name in use.without:
            if model_name not in study.models:
                where = f"{file}, key datasets.{dataset}.without"
                raise unknown_name("model", model_name, study.models, where=where)
        if dataset not in registry:
            raise unknown_name("data set", dataset, sorted(registry), where=f"{file}, key datasets")
        test = scale.standin.test if scale.standin else registry[dataset].official_rows("test")
        if use.points is not None:
            check_points(dataset, use.points, test, f"{file}, key datasets.{dataset}.points")


def _check_claims(name: str, study: Study, registry: Mapping[str, DatasetEntry], file: str) -> None:
    """Refuses sentences that nothing tests, or that the study cannot tell anything of."""
    if study.claims and artefacts_of(name)[CLAIMS] is not GENERIC[CLAIMS]:
        raise InputError(
            f"The claims of {name} are in Python, medrobust/studies/{name}.",
            where=f"{file}, key claims",
            remedy="add the sentences there.",
        )
    if study.claims and CLAIMS not in study.artefacts:
        raise InputError(
            "These sentences would not be judged: `claims` is not among the artefacts.",
            where=f"{file}, key artefacts",
            remedy="add `claims` to artefacts, or leave the sentences out.",
        )
    # Of volumes there are no accuracies.
    trained = {
        dataset: list(trained_on(study, dataset))
        for dataset in study.datasets
        if dataset in registry and registry[dataset].form != "volumes"
    }
    for key, sentence in study.claims.items():
        place = f"{file}, key claims.{key}"
        check_sentence(sentence, trained, list(study.models), study.attacks, place)


def _check_classes(
    artefact: str, classes: int, study: Study, registry: Mapping[str, DatasetEntry], file: str
) -> None:
    """Refuses an artefact for data sets of so many classes where the study has none of these."""
    known = [registry[name].classes for name in study.datasets if name in registry]
    if classes and not any(len(names) == classes for names in known):
        raise InputError(
            f"Nothing fills {artefact!r}: it shows data sets of {classes} classes, and the study "
            "has none.",
            where=f"{file}, key artefacts",
            remedy="leave it out.",
        )


_FILLED_BY = {
    CLAIMS: "describe sentences under `claims`, or leave the artefact out.",
    "binary_scores": "set `keep_probabilities: true` and add an attack with `select: test` and an "
    "epsilon, without `points`, or leave the artefact out.",
    **dict.fromkeys(
        ("robust_accuracy", "robust_curves", "binary_metrics"),
        "add an attack with `select: test` and an epsilon (in its options or grid), without "
        "`points`, or leave the artefact out.",
    ),
    "distances": "add an attack without epsilon, such as hopskipjump, or leave the artefact out.",
}


def _check_cohort(study: Study, file: str) -> None:
    """Refuses a cohort that is missing or cannot be chosen."""
    if study.cohort is None:
        for name, attack in study.attacks.items():
            if not attack.of_split:
                raise InputError(
                    f"The attack {name!r} takes the points of a cohort, but the study has none.",
                    where=f"{file}, key attacks.{name}.select",
                    remedy="set `select: test`, or describe a `cohort`.",
                )
        return
    for dataset, use in study.datasets.items():
        if use.points is None:
            raise InputError(
                f"How many points of {dataset} are in the cohort is not said.",
                where=f"{file}, key datasets.{dataset}.points",
                remedy="set a number of points.",
            )
    for dataset, use in study.datasets.items():
        chooses = [name for name in use.without if name in study.cohort.models]
        if chooses and use.published_name is not None:
            raise InputError(
                f"The model {chooses[0]!r} chooses the points of {dataset}, whose numbers are held "
                "against print.",
                where=f"{file}, key datasets.{dataset}.without",
                remedy="leave it out on data sets without `published_name` alone.",
            )
    for model_name in study.cohort.models:
        if model_name not in study.models:
            raise unknown_name(
                "model", model_name, study.models, where=f"{file}, key cohort.models"
            )
        if study.models[model_name].extra:
            raise InputError(
                f"The model {model_name!r} cannot choose the points to attack: it is an extra.",
                where=f"{file}, key cohort.models",
                remedy="name models of the paper only.",
            )


def check_points(dataset: str, points: int, most: int, place: str) -> None:
    """Refuses more points than the test split holds, before any work starts."""
    if most and points > most:
        raise InputError(
            f"{points} points of {dataset} are to be attacked, but its test split has {most}.",
            where=place,
            remedy=f"ask for at most {most} points.",
        )


def _choose_protocol(node: Any, protocol: str) -> Any:
    if isinstance(node, dict):
        if set(node) == {"code", "text"}:
            return node[protocol]
        return {key: _choose_protocol(value, protocol) for key, value in node.items()}
    return node


#: Keys whose content is not said beforehand: what is laid over may name others.
_OPEN = frozenset({"for_datasets", "for_models"})

# Snakemake takes only "True" and "False" on its command line for what YAML writes so.
_WORDS = {"true": True, "false": False, "null": None}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_as_many_numbers(base: Any, value: Any) -> bool:
    """Tells whether both are lists of numbers of one length, such as the widths of layers."""
    both_lists = isinstance(base, list) and isinstance(value, list) and len(base) == len(value)
    return both_lists and all(map(_is_number, [*base, *value]))


def _overlay(
    base: dict[str, Any], changes: Any, place: str, *, numbers_only: bool, new_keys: bool = False
) -> dict[str, Any]:
    """Returns ``base`` with ``changes`` laid over it; keys must exist already, or ``new_keys``."""
    if not isinstance(changes, dict):
        raise InputError("Expected keys and values here.", where=place)
    result = dict(base)
    for key, value in changes.items():
        key_place = f"{place}.{key}"
        if key not in base and not new_keys:
            raise unknown_name("key", key, base, where=key_place)
        below = base.get(key, {})
        if isinstance(below, dict) and isinstance(value, dict):
            result[key] = _overlay(
                below,
                value,
                key_place,
                numbers_only=numbers_only,
                new_keys=new_keys or key in _OPEN,
            )
        elif numbers_only and not _is_number(value) and not _are_as_many_numbers(below, value):
            raise InputError(
                f"A scale changes numbers only; found {value!r}.",
                where=key_place,
                remedy="put other changes into the study's file or into `overrides`.",
            )
        else:
            result[key] = value
    return result
