# Helpers of all rules: the checked configuration, file names, resources.
# Every remote job parses this file again: no heavy import here.
import functools
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from medrobust.experiment import plan as planning
from medrobust.experiment.catalogue import artefacts_of, parts_of
from medrobust.experiment.codehash import code_hash
from medrobust.runtime.devices import trains_on_gpu
from medrobust.core.errors import InputError
from medrobust.experiment import calls, layout, sources
from medrobust.core.registry import module_of
from medrobust.runtime.journal import clear as clear_progress_files


def told_only():
    return bool({"plan", "preflight"} & set(sys.argv))


try:
    GRAPH = sources.build_graph(config, ROOT, telling=told_only())
except InputError as error:
    raise WorkflowError(str(error)) from None

CONFIG = GRAPH.resolved.config
RUN = GRAPH.resolved.run
DATA = layout.DATA
MODEL = layout.MODEL
FOLD = f"{layout.EVALUATIONS}/{layout.FOLD}"
CELL = f"{layout.EVALUATIONS}/{layout.CELL}"


wildcard_constraints:
    run=r"[a-z]+-[a-z]+(-[0-9a-f]{6})?",
    study=r"[a-z]+",
    dataset=r"[a-z0-9_]+",
    source=r"[a-z]+",
    fold=r"\d+",
    replicate=r"\d+",
    model=r"[a-z0-9_]+",
    attack=r"[a-z0-9_]+",
    first=r"\d+",
    last=r"\d+",
    chunk=r"\d+",


def opening_text():
    # A full run, and the target `plan`, begin with the plan; `preflight` with what is missing. One
    # figure takes a part of what the plan would tell.
    targets = set(workflow.dag_settings.targets)
    texts = []
    if "preflight" in targets:
        texts.append(sources.preflight_text(GRAPH, thorough=True))
    if "plan" in targets or targets <= {"all", *GRAPH.resolved.studies}:
        texts.append(planning.format_plan(planning.make_plan(GRAPH), GRAPH))
    elif "preflight" not in targets:
        texts.append("A part of the plan is asked for; the same command with -n tells its jobs.")
    return "\n".join(texts)


def clear_progress():
    clear_progress_files(layout.PROGRESS)


def cell_of(wildcards):
    return layout.Cell(
        wildcards.run,
        wildcards.study,
        wildcards.dataset,
        wildcards.source,
        int(wildcards.fold),
        int(wildcards.replicate),
    )


def study_of(wildcards):
    if wildcards.run != RUN or wildcards.study not in GRAPH.resolved.studies:
        raise WorkflowError(
            f"The configuration makes the run {RUN!r} of {', '.join(GRAPH.resolved.studies)}; "
            f"a file of run {wildcards.run!r}, study {wildcards.study!r} was asked for."
        )
    return GRAPH.study(wildcards.study)


def model_of(wildcards):
    models = study_of(wildcards).models
    if wildcards.model not in GRAPH.models(wildcards.study, wildcards.dataset):
        known = "is not trained on" if wildcards.model in models else "is unknown; asked for on"
        raise WorkflowError(f"The model {wildcards.model!r} {known} {wildcards.dataset}.")
    return models[wildcards.model]


def attack_of(wildcards):
    return study_of(wildcards).attacks[wildcards.attack]


def work_names(wildcards):
    return cell_of(wildcards).names


def model_names(wildcards):
    return [*work_names(wildcards), wildcards.model]


def attack_names(wildcards):
    return [*model_names(wildcards), wildcards.attack]


def study_files(study):
    return [*GRAPH.artefacts(study), *comparison_files(study)]


def comparison_files(study):
    folder = f"results/{RUN}/{study}/comparison"
    printed = [f"{folder}/printed.csv"] if parts_of(study).printed_averages else []
    return [f"{folder}/comparison.csv", f"{folder}/comparison.html", *printed]


def data_cards():
    if CONFIG.records_from is not None:
        return []
    return [f"{DATA.format(dataset=d, source=s)}/card.md" for d, s in GRAPH.sources.items()]


def gpus(wildcards):
    architecture = model_of(wildcards).architecture["name"]
    return int(CONFIG.device == "cuda" and module_of("architecture", architecture).USES_GPU)


def training_gpus(wildcards):
    model = model_of(wildcards)
    names = model.architecture["name"], model.method["name"]
    return int(CONFIG.device == "cuda" and trains_on_gpu(*names))


def minutes(seconds, attempt):
    # Room for a machine three times slower than the one the unit costs were measured on.
    return max(10, round(3 * seconds / 60)) * attempt


def train_minutes(wildcards, attempt):
    cell = cell_of(wildcards)
    members = int(wildcards.last) - int(wildcards.first) + 1
    return minutes(planning.training_seconds(GRAPH, cell, wildcards.model, members), attempt)


def attack_minutes(wildcards, attempt):
    start, stop = chunk_of(wildcards)
    seconds = planning.attack_seconds(
        GRAPH, cell_of(wildcards), wildcards.model, wildcards.attack, stop - start
    )
    return minutes(seconds, attempt)


def data_mb(wildcards, attempt):
    return (1000 + 4 * planning.dataset_megabytes(GRAPH, wildcards.dataset)) * attempt


def chunk_of(wildcards):
    return GRAPH.chunks(wildcards.study, wildcards.dataset, wildcards.attack)[int(wildcards.chunk)]


@functools.cache
def run_facts(study):
    config = GRAPH.resolved.config
    shown = sources.shown_settings(config, without=sources.CIRCUMSTANCES)
    return {
        "run": RUN,
        "scale": config.scale,
        "protocol": config.protocol,
        "seed": config.seed,
        "config_hash": GRAPH.study_hash(study),
        "command": f"snakemake --cores 8 --use-conda {study}{shown}",
        "unlike_the_paper": GRAPH.resolved.unlike_the_paper(study),
    }


def artefact_of(study, name):
    return artefacts_of(study)[name]


def entry_files(entries):
    # The files of entries, by kind; a tally or kept arrays stand under their attack's name.
    files = {}
    for entry in entries:
        for need in NEEDS:
            found = entry.get(need, [])
            if isinstance(found, dict):
                found = list(found.values())
            files.setdefault(NEEDS[need], []).extend([found] if isinstance(found, str) else found)
    return {name: paths for name, paths in files.items() if paths}


# Field of an entry to the name of a rule's input.
NEEDS = {
    "summary": "summaries",
    "predictions": "predictions",
    "records": "records",
    "arrays": "arrays",
    "tallies": "tallies",
    "attack_arrays": "attack_arrays",
    "margins": "margins",
    "plane": "planes",
    "search": "searches",
}


def artefact_inputs(study, name):
    artefact = artefact_of(study, name)
    files = entry_files(GRAPH.entries(study, artefact))
    if artefact.first_cell and GRAPH.study(study).cohort is not None:
        files["cohort"] = GRAPH.cohort(GRAPH.cells(study)[0])
    return files


def artefact_outputs(study, name):
    # All files but the first, which the report shows.
    main = Path(GRAPH.artefact(study, name))
    return [str(main.with_suffix(suffix)) for suffix in SUFFIXES[artefact_of(study, name).kind]]


SUFFIXES = {
    "table": [".md", ".csv", ".tex", ".provenance.json"],
    "figure": [".pdf", ".svg", ".csv", ".provenance.json"],
    "claims": [".csv", ".md", ".provenance.json"],
}
SUBCATEGORIES = {"table": "Tables", "figure": "Figures", "claims": "Claims"}


def attack_facts(study):
    # Of the study's first attack.
    attack = next(iter(GRAPH.study(study).attacks.values()))
    return {"name": attack.name, **attack.options}


def all_attacks(study):
    attacks = GRAPH.study(study).attacks
    return {name: calls.attack_facts(attack) for name, attack in attacks.items()}


def first_classes(study, name):
    cells = GRAPH.shown_cells(study, artefact_of(study, name)) or GRAPH.cells(study)
    return GRAPH.registry[cells[0].dataset].classes


def cohort_rule(study):
    settings = GRAPH.study(study)
    if settings.cohort is None:
        return "on test points whatever the models say of them"
    if settings.cohort.select == "random":
        return "on test points drawn at random"
    names = [settings.models[model].label for model in settings.cohort.models]
    return f"on test points that all of {', '.join(names)} classify correctly"


def printed_sources(study):
    names = GRAPH.study(study).datasets
    return {setting.published_name or name: GRAPH.sources[name] for name, setting in names.items()}


def attack_in_words(study, name):
    attack = GRAPH.study(study).attacks[name]
    budget = ", ".join(f"{key} {value}" for key, value in attack.options.items())
    levels = "".join(
        f", {key} {' '.join(str(value) for value in values)}" for key, values in attack.grid.items()
    )
    return f"{attack.name} ({budget}{levels})"


def amounts(study, name):
    # Source of a data set, how many points its first attack takes, and what was cut.
    setting = GRAPH.study(study).datasets[name]
    parts = [GRAPH.sources[name]]
    attacks = GRAPH.attacks(study, name)
    if attacks:
        parts.append(f"n = {GRAPH.attack_points(study, name, next(iter(attacks)))} attacked points")
    if setting.training_points is not None:
        parts.append(f"{GRAPH.training_rows(study, name)} training points")
    return ", ".join(parts)


def about(study):
    # For captions: what a reader must know before he believes a number.
    config = GRAPH.resolved.config
    settings = GRAPH.study(study)
    data = ", ".join(
        f"{setting.published_name or name} ({amounts(study, name)})"
        for name, setting in settings.datasets.items()
    )
    attacks = "; ".join(attack_in_words(study, name) for name in settings.attacks)
    scale_text, unlike = GRAPH.resolved.scale.description, run_facts(study)["unlike_the_paper"]
    if unlike:
        scale_text += f" Amounts unlike the paper's, over all that ran: {unlike}."
    return {
        "scale": config.scale,
        "scale_text": scale_text,
        "protocol": config.protocol,
        "data": data,
        "attack": f"{attacks}, {cohort_rule(study)}",
        "synthetic": "standin" in GRAPH.sources.values(),
    }


def raw_manifest(wildcards):
    if wildcards.source == "standin":
        return []
    return f"{DATA}/raw.json"


VOLUMES = "|".join(name for name, entry in GRAPH.registry.items() if entry.form == "volumes")
# Any other name, a misspelt one too, is taken for arrays. Preparing them says what is wrong.
ARRAYS = rf"(?!(?:{VOLUMES})@)[a-z0-9_]+"


def standin_size(wildcards):
    if wildcards.source != "standin":
        return None
    size = GRAPH.resolved.scale.standin
    if size is None:
        raise WorkflowError(
            f"{wildcards.dataset}@standin was asked for, but the scale {CONFIG.scale!r} runs on "
            "real data; stand-ins belong to --config scale=smoke."
        )
    return size.model_dump()


def origin_of(wildcards):
    # The registry's source behind the label in the path, also for a data set of no selected study.
    try:
        graph = sources.with_dataset(GRAPH, wildcards.dataset)
    except InputError as error:
        raise WorkflowError(str(error)) from None
    label = graph.sources[wildcards.dataset]
    if label == wildcards.source:
        return graph.origins[wildcards.dataset]
    if wildcards.source == layout.SUBSET:
        raise WorkflowError(
            f"{wildcards.dataset}@{layout.SUBSET} was asked for, but it would be "
            f"{wildcards.dataset}@{label}: a subset needs allow_subset=true and some files of the "
            f"release, named as in docs/data.md, in {' or '.join(map(str, GRAPH.raw_dirs))}."
        )
    return wildcards.source


def dataset_definition(wildcards):
    return calls.dataset_definition(GRAPH.registry[wildcards.dataset])


def prepare_code(wildcards):
    return calls.preparation_code(GRAPH.registry[wildcards.dataset])


def training_params(wildcards):
    return calls.training_params(model_of(wildcards))


def training_points(wildcards):
    return study_of(wildcards).datasets[wildcards.dataset].training_points


def training_code(wildcards):
    return calls.training_code(model_of(wildcards))


def members_of(wildcards):
    return GRAPH.member_files(cell_of(wildcards), wildcards.model)


def extras_of(wildcards):
    return GRAPH.extra_files(cell_of(wildcards), wildcards.model)


def prediction_params(wildcards):
    return calls.prediction_params(model_of(wildcards))


def prediction_code(wildcards):
    return calls.prediction_code(model_of(wildcards))


def search_params(wildcards):
    return calls.search_params(model_of(wildcards))


def plane_code(wildcards):
    return calls.plane_code(model_of(wildcards))


def cohort_predictions(wildcards):
    cell = layout.Cell(
        wildcards.run,
        wildcards.study,
        wildcards.dataset,
        wildcards.source,
        int(wildcards.fold),
    )
    return GRAPH.cohort_arguments(cell)["predictions"]


def fold_names(wildcards):
    # Every replicate attacks the same points.
    return [wildcards.study, f"{wildcards.dataset}@{wildcards.source}", int(wildcards.fold)]


def cohort_points(wildcards):
    return study_of(wildcards).datasets[wildcards.dataset].points


def cohort_select(wildcards):
    cohort = study_of(wildcards).cohort
    if cohort is None:
        raise WorkflowError(f"The study {wildcards.study!r} has no cohort.")
    return cohort.select


def attack_params(wildcards):
    return calls.attack_params(attack_of(wildcards))


def points_file(wildcards):
    return GRAPH.points_file(cell_of(wildcards), wildcards.attack)


def attacked_split(wildcards):
    split = attack_of(wildcards).select
    if split == "cohort":
        raise WorkflowError(f"The attack {wildcards.attack!r} takes the points of the cohort.")
    return split


def attacked_per_class(wildcards):
    return attack_of(wildcards).points_per_class


def attacked_points(wildcards):
    return attack_of(wildcards).points


def tally_subset(wildcards):
    return GRAPH.subset_per_class(study_of(wildcards) and wildcards.study, wildcards.attack)


def attack_code(wildcards):
    return calls.attack_code(model_of(wildcards), attack_of(wildcards).name)


def chunk_records(wildcards):
    return GRAPH.chunk_files(cell_of(wildcards), wildcards.model, wildcards.attack)


def chunk_timings(wildcards):
    return [file.replace(".parquet", ".timing.json") for file in chunk_records(wildcards)]


def chunk_arrays(wildcards):
    return [file.replace(".parquet", ".safetensors") for file in chunk_records(wildcards)]


def published_numbers(wildcards):
    return study_of(wildcards).published


def study_tables(wildcards):
    tables = [name for name in study_of(wildcards).artefacts if name.startswith("table")]
    return [str(Path(GRAPH.artefact(wildcards.study, t)).with_suffix(".csv")) for t in tables]


def studies_with(artefact):
    return [name for name, study in GRAPH.resolved.studies.items() if artefact in study.artefacts]


def comparison_sources(wildcards):
    return printed_sources(wildcards.study)


def study_code(wildcards):
    remark = parts_of(wildcards.study).remark
    return code_hash("medrobust.jobs.artefacts:compare", *([remark] if remark else []))


def study_facts(wildcards):
    return run_facts(wildcards.study)


def study_about(wildcards):
    return about(wildcards.study)
