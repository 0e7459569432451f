"""A job is spelled once: what the rules hand over is what `python -m medrobust` calls."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from pathlib import Path

import pytest
from medrobust import jobs
from medrobust.core.errors import InputError
from medrobust.experiment import calls
from medrobust.experiment.sources import build_graph
from medrobust.jobs import JOBS, job_named

#: With an attack that is not the same against every model.
OTHERS = {"for_models": {"cnn": {"restarts": 1}}, "for_datasets": {"ptbdb": {"start": "outward"}}}
SETTINGS = {
    "scale": "smoke",
    "studies": ["signnet", "nsr", "ima", "ima_segmentation", "mirst"],
    "include_extras": ["extended"],  # the one attack on points drawn at random
    "overrides": {"signnet": {"attacks": {"hopskipjump": OTHERS}}},
}
#: What Snakemake must see and no job's function asks for: files that lie in a folder that it gets,
#: what a caption says, and the hash of the code.
SEEN_BY_SNAKEMAKE_ALONE = {
    "x", "y", "split", "card", "about", "definition", "code", "html", "text", "latex", "provenance",
    "summaries", "predictions", "records", "arrays", "tallies", "attack_arrays", "margins",
    "kept_records", "probabilities", "residuals", "planes", "searches", "states", "keep_arrays",
    "md", "csv", "tex", "provenance_json", "pdf", "svg", "ids", "plans", "slices", "pixel_records",
    "pixel_arrays",
}  # fmt: skip
#: Of a data set with several folds.
SPLITS = {f"split{fold}" for fold in range(1, 5)}


@pytest.fixture(scope="module")
def graph():
    return build_graph(SETTINGS, Path(__file__).parents[3])


@pytest.fixture(scope="module")
def snakemake_jobs(tmp_path_factory):
    """Every job of a dry run of all studies, as Snakemake sees it, with the values of its rule."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings

    root = Path(__file__).parents[3]
    folder = tmp_path_factory.mktemp("dry")
    for name in ("config", "resources"):
        (folder / name).symlink_to(root / name)
    before = list(sys.path)
    with SnakemakeApi(OutputSettings(quiet=set())) as api:
        workflow = api.workflow(
            resource_settings=_cores(),
            config_settings=ConfigSettings(config=dict(SETTINGS)),
            snakefile=root / "Snakefile",
            workdir=folder,
        )
        dag = workflow.dag(DAGSettings(targets={"all"}))
        inner = dag.workflow_api._workflow
        inner._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        inner._build_dag()
        yield list(inner.dag.jobs)
    sys.path[:] = before


def _cores():
    from snakemake.settings.types import ResourceSettings

    return ResourceSettings(cores=1)


def given(job):
    """Returns what the script of a job would hand over."""
    import run_job

    return run_job.given_by(job)


def test_a_lost_file_of_an_artefact_is_asked_for(graph, snakemake_jobs):
    """Else a figure without its SVG counts as made."""
    asked = {str(file) for job in snakemake_jobs if job.name == "all" for file in job.input}
    for study in graph.resolved.studies:
        for name in graph.study(study).artefacts:
            outputs = calls.artefact_outputs(graph, study, name)
            assert set(outputs.values()) <= asked, (study, name)


def test_every_job_is_a_kind_and_the_other_way_round():
    assert set(calls.KINDS) == set(JOBS)


@pytest.mark.parametrize("name", sorted(JOBS))
def test_a_job_has_no_parameter_that_nobody_gives(name):
    parameters = inspect.signature(job_named(name)).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    known = {*calls.KINDS[name].outputs, *calls.KINDS[name].params, *jobs.CIRCUMSTANCES}
    needed = {p.name for p in parameters if p.default is p.empty}
    inputs = {
        "members",
        "evaluated",
        "cohort",
        "extras",
        "margins",
        "predictions",
        "chunks",
        "arrays",
        "network",
        "trained",
    }
    inputs |= {"card", "text", "preview", "timings", "published", "tables", "manifest", "out"}
    assert needed <= known | inputs


def test_every_study_is_asked_for():
    known = (Path(__file__).parents[3] / "config/studies").glob("*.yaml")
    assert sorted(SETTINGS["studies"]) == sorted(file.stem for file in known)


def test_both_callers_hand_over_the_same(graph, snakemake_jobs):
    seen = Counter()
    for job in snakemake_jobs:
        name = job.params.get("job")
        if name is None:
            continue  # a target
        seen[name] += 1
        wildcards = dict(job.wildcards.items())
        if name == "build_artefact":
            study, artefact = (job.params.call[key] for key in ("study", "artefact"))
            wildcards = {"study": study, "artefact": artefact, "run": graph.resolved.run}
        call = calls.call_of(graph, name, **wildcards)
        expected = {**call.inputs, **call.outputs, **call.params}
        if name == "build_artefact":
            expected |= calls.artefact_outputs(graph, study, artefact)
        function = job_named(name)
        by_rule = jobs.arguments_of(function, given(job), jobs.circumstances_of({}))
        by_hand = jobs.arguments_of(function, expected, graph.resolved.config.model_dump())
        assert by_rule == by_hand, job
        needed = {
            p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty
        }
        assert needed <= set(by_hand), name
        unused = set(given(job)) - set(inspect.signature(function).parameters)
        if name.startswith("prepare"):
            unused -= {"ids", "card_text", "preview", "nnunet_splits", *SPLITS}
        assert unused <= SEEN_BY_SNAKEMAKE_ALONE, (name, unused)
    # Of stand-ins nothing is fetched, and networks on them begin at random.
    assert set(seen) == set(JOBS) - {"fetch", "fetch_weights"}


def test_an_attack_has_the_options_of_its_data_set_and_model(graph):
    def options(dataset, model):
        own = next(c for c in graph.cells("signnet") if c.dataset == dataset)
        work = vars(own) | {"model": model, "attack": "hopskipjump", "chunk": 0}
        return calls.call_of(graph, "attack_chunk", **work).params["attack"]

    usual = options("mitbih", "mlp")
    assert (usual["restarts"], usual["start"]) == (2, "blended")
    assert options("mitbih", "cnn") == usual | {"restarts": 1}
    assert options("ptbdb", "mlp") == usual | {"start": "outward"}
    assert options("ptbdb", "cnn") == usual | {"restarts": 1, "start": "outward"}
    queries = [
        graph.queries_per_point("signnet", "mitbih", m, "hopskipjump") for m in ("mlp", "cnn")
    ]
    assert queries[0] == 2 * queries[1]


def test_the_plan_counts_the_jobs_of_the_graph(graph, snakemake_jobs):
    # A tally or joined records: the artefacts decide.
    same = {"gather_records": "tally_attack"}
    names = Counter(same.get(name, name) for name in (j.params.get("job") for j in snakemake_jobs))
    counted = Counter(
        same.get(name, name)
        for study in graph.resolved.studies
        for name, _ in calls.work_of(graph, study)
    )
    assert {name: names[name] for name in counted} == dict(counted)


def test_a_file_of_another_run_or_an_unknown_part_is_refused(graph):
    cell = vars(graph.cells("signnet")[0])
    with pytest.raises(InputError, match="makes the run 'smoke-code-"):
        calls.call_of(graph, "evaluate_clean", **{**cell, "run": "paper-code"}, model="mlp")
    with pytest.raises(InputError, match="is unknown"):
        calls.call_of(graph, "evaluate_clean", **cell, model="mpl")
    with pytest.raises(InputError, match="attack"):
        calls.call_of(graph, "select_points", **cell, attack="hsj")
    with pytest.raises(InputError, match="attack"):
        calls.call_of(graph, "gather_records", **cell, model="mlp", attack="hsj")
    for job in ("compare", "check_published"):
        with pytest.raises(InputError, match="study 'elsewhere' was asked for"):
            calls.call_of(graph, job, run=graph.resolved.run, study="elsewhere")


@pytest.mark.parametrize(("text", "means"), [("True", True), ("false", False), (None, False)])
def test_settings_that_snakemake_hands_over_as_text_are_read_as_meant(text, means):
    assert jobs.circumstances_of({"allow_subset": text})["allow_subset"] is means
