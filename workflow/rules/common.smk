# What rules take from the library: the checked configuration, and what each job is called with.
# Every remote job parses these files again: no heavy import here.
import dataclasses
import functools
import gc
import inspect
import sys

# What Snakemake knows of 1,000 jobs stays until the end: to look through it for garbage again and
# again took a tenth of a dry run. Garbage is still looked for, but seldom.
gc.freeze()
gc.set_threshold(1_000_000, 50, 100)

from snakemake import sourcecache
from snakemake.common import overwrite_function_params
from snakemake.resources import Resource

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.yaml_files import read_yaml
from medrobust.experiment import (
    calls,
    layout,
    sources,
    terminal,
)
from medrobust.experiment.catalogue import artefacts_of, parts_of, report_label
from medrobust.runtime.journal import clear as clear_journals

# As a module of another workflow, or included by it: not every name and setting is ours.
ALONE = Path(workflow.main_snakefile) in (ROOT / "Snakefile", ROOT / "workflow/Snakefile")


def command_line():
    # The workflow gets to know these only when everything is read, in a dry run not all of them.
    program = Path(sys.argv[0])  # the command, or its package
    if "snakemake" not in (program.name, program.parent.name):
        return None, []
    from snakemake.cli import parse_args

    given = parse_args(sys.argv[1:])[1]
    here = not workflow.is_main_process or given.executor in ("local", "dryrun", "touch")
    return None if here else given.executor, given.target_jobs or []


EXECUTOR, HANDED_JOBS = command_line()


try:
    if config is workflow.modifier_stack[0].globals["config"]:
        for settings_file in workflow.configfiles:
            read_yaml(settings_file)  # Snakemake itself takes a key given twice
    if workflow.modifier.path_modifier.replace_prefix("results/") != "results/":
        raise InputError(
            "This workflow does not work with a prefix of its module.",
            where="module, key prefix or replace_prefix",
            remedy="leave it out: everything it makes lies in results/data and results/<run>; a "
            "folder of its own is that of `snakemake --directory`.",
        )
    GRAPH = dataclasses.replace(
        sources.build_graph(config, ROOT, Path()),
        executor=EXECUTOR,
        same_packages=not workflow.deployment_settings.deployment_method,
    )
except InputError as error:
    raise WorkflowError(str(error)) from None

CONFIG = GRAPH.resolved.config
RUN = GRAPH.resolved.run
PUBLISHED = ROOT / "resources/published"
DATA = layout.DATA
MODEL = layout.MODEL
FOLD = f"{layout.EVALUATIONS}/{layout.FOLD}"
CELL = f"{layout.EVALUATIONS}/{layout.CELL}"


VOLUMES = "|".join(name for name, entry in GRAPH.registry.items() if entry.form == "volumes")


def datasets_by_folds():
    # Number of folds to a pattern of names. Any name that no other rule prepares, a misspelt one too,
    # is taken for arrays of one fold: preparing them says what is wrong.
    several = {}
    for name, entry in GRAPH.registry.items():
        if entry.folds > 1:
            several.setdefault(entry.folds, []).append(name)
    others = "|".join([VOLUMES, *(name for names in several.values() for name in names)])
    return {1: rf"(?!(?:{others})@)[a-z0-9_]+"} | {
        folds: "|".join(names) for folds, names in several.items()
    }


DATASETS_BY_FOLDS = datasets_by_folds()


wildcard_constraints:
    run=r"[a-z]+-[a-z]+(-[0-9a-f]{6})?",
    study=r"[a-z][a-z0-9_]*",
    dataset=r"[a-z0-9_]+",
    weights=r"[a-z0-9_]+",
    source=r"[a-z]+",
    fold=r"\d+",
    replicate=r"\d+",
    model=r"[a-z0-9_]+",
    attack=r"[a-z0-9_]+",
    first=r"\d+",
    last=r"\d+",
    chunk=r"\d+",


CALLS = {}


def call_of(job, wildcards):
    # Snakemake asks for inputs, each parameter and resources of a job one by one.
    key = (job, *wildcards.items())
    if key not in CALLS:
        try:
            CALLS[key] = calls.call_of(GRAPH, job, **dict(wildcards.items()))
        except InputError as error:
            raise WorkflowError(str(error)) from None
    return CALLS[key]


def inspected(function):
    # Snakemake inspects what a function takes whenever it calls it, several times per job; it looks
    # here first.
    overwrite_function_params(function, inspect.signature(function).parameters)
    return function


inspected(Resource.evaluate)  # through which it asks for each resource of each job
# The address of the one script, taken apart for each job.
sourcecache.parse_uri = functools.lru_cache(sourcecache.parse_uri)


def inputs_of(job):
    return inspected(lambda wildcards: call_of(job, wildcards).inputs)


def outputs_of(job, **shown):
    # `shown` replaces outputs, by what the report says of them.
    return calls.KINDS[job].outputs | shown


def params_of(job, call=call_of):
    # One parameter holds all that the job is called with: Snakemake inspects each function of
    # each job, which for 5,000 jobs took longer than anything else. Captions need theirs apart.
    def without_captions(wildcards):
        params = call(job, wildcards).params
        return {name: value for name, value in params.items() if name != "about"}

    params = {"job": job, "call": inspected(without_captions)}
    if "about" in calls.KINDS[job].params:
        params["about"] = inspected(lambda wildcards: call(job, wildcards).params["about"])
    return params


def data_cards():
    if CONFIG.records_from is not None:
        return []
    return [f"{DATA.format(dataset=d, source=s)}/card.html" for d, s in GRAPH.sources.items()]


def comparison_files(study):
    if GRAPH.study(study).published is None:
        return []
    jobs = ["compare", *(["check_published"] if parts_of(study).printed_averages else [])]
    return [
        file.format(run=RUN, study=study)
        for job in jobs
        for file in calls.KINDS[job].outputs.values()
    ]


def artefact_files(study):
    # All formats: a file that got lost is drawn again.
    return [
        file
        for name in GRAPH.study(study).artefacts
        for file in calls.artefact_outputs(GRAPH, study, name).values()
    ]


def study_files(*studies):
    # Asked for when the targets are known: what is missing can be told without any data.
    def files(_):
        try:
            sources.refuse_without_data(GRAPH)
        except InputError as error:
            raise WorkflowError(str(error)) from None
        return [
            file for study in studies for file in (*artefact_files(study), *comparison_files(study))
        ]

    return files


def studies_with(artefact):
    return [name for name, study in GRAPH.resolved.studies.items() if artefact in study.artefacts]


def start_page(files):
    # What the report opens on; the template workflow/report/workflow.rst calls it.
    from medrobust.experiment.overview import page_of_report

    return page_of_report(GRAPH, PUBLISHED, [file.path for file in files])
