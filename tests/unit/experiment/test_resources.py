"""What jobs ask for, and the most that the profile of a cluster lets them ask for."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from medrobust.experiment import gpus, plan, resources
from medrobust.experiment.calls import work_of
from medrobust.experiment.sources import build_graph
from medrobust.models import nnunet

ROOT = Path(__file__).parents[3]
SLURM = yaml.safe_load((ROOT / "profiles/slurm/profile.v9+.yaml").read_text(encoding="utf-8"))
#: Rules of seconds, and downloads, which nodes of a cluster cannot always make.
LOCAL = {
    *(
        "fetch",
        "fetch_weights",
        "show_card",
        "choose_cohort",
        "draw_points",
        "select_points",
        "join_margins",
    ),
    *("gather_records", "tally", "compare", "check_published"),
}
SUBMITTED = {
    *("prepare", "prepare_5_folds", "prepare_volumes"),
    *("train", "evaluate_clean", "attack", "map_plane", "trace_search", "map_residuals"),
    *("slice_volumes", "train_pixels", "attack_pixels"),
}


def graph_of(device: str):
    return build_graph({"device": device, "studies": ["signnet", "ima"]}, ROOT)


@pytest.fixture(scope="module")
def on_cpu():
    return graph_of("cpu")


@pytest.fixture(scope="module")
def on_gpu():
    return graph_of("cuda")


def work(graph, job: str, model: str) -> dict:
    """Returns the first piece of work of a job on a model."""
    (study,) = (s for s in graph.resolved.studies if model in graph.study(s).models)
    return next(w for j, w in work_of(graph, study) if j == job and w["model"] == model)


@pytest.mark.parametrize("model", ["mlp", "svhn_ima"])
def test_a_gpu_job_has_its_own_time_and_memory(on_cpu, on_gpu, model):
    job = work(on_cpu, "train_members", model)
    assert job == work(on_gpu, "train_members", model)
    assert gpus.claims(on_cpu, "train_members", job) == 0
    assert gpus.claims(on_gpu, "train_members", job) == 1
    slow, fast = (resources.minutes(g, "train_members", job, 1) for g in (on_cpu, on_gpu))
    assert fast == pytest.approx(max(10, slow / 5), abs=1)
    # The plan hopes for more than is asked for.
    assert resources.LEAST_GPU_SPEEDUP < plan.GPU_SPEEDUP
    memory = [resources.memory_mb(g, "train_members", job, 1) for g in (on_cpu, on_gpu)]
    assert memory[1] == memory[0] + 3000


def test_jobs_without_a_use_for_a_gpu_ask_for_none(on_cpu, on_gpu):
    """Forests, the training of sign networks, and jobs that query no model."""
    for name, model in [
        ("train_members", "random_forest"),
        ("attack_chunk", "random_forest"),
        ("train_members", "scd01"),
    ]:
        job = work(on_gpu, name, model)
        assert gpus.claims(on_gpu, name, job) == 0
        for ask in (resources.minutes, resources.memory_mb):
            assert ask(on_gpu, name, job, 1) == ask(on_cpu, name, job, 1)
    assert gpus.claims(on_gpu, "attack_chunk", work(on_gpu, "attack_chunk", "scd01")) == 1
    assert gpus.claims(on_gpu, "prepare", {"dataset": "mitbih", "source": "physionet"}) == 0


def test_later_attempts_ask_for_more_but_not_without_end(on_gpu):
    job = work(on_gpu, "train_members", "svhn_ima")
    first = resources.minutes(on_gpu, "train_members", job, 1)
    assert [resources.minutes(on_gpu, "train_members", job, n) for n in (2, 6)] == [
        2 * first,
        6 * first,
    ]
    memory = [resources.memory_mb(on_gpu, "train_members", job, n) for n in (1, 2, 3, 4, 6)]
    # What CUDA takes does not grow.
    rest = memory[0] - 3000
    assert memory == [3000 + rest * times for times in (1, 2, 3, 3, 3)]


def test_jobs_on_slices_ask_for_what_their_passes_keep():
    """Bytes of a pixel by patch, batch and levels that go together; on a GPU they lie there."""
    config = {"studies": ["ima_segmentation"], "allow_subset": True}
    graphs = [build_graph(config | {"device": device}, ROOT) for device in ("cpu", "cuda")]
    mb = nnunet.GRAPH_BYTES / 1e6
    for job, model, patches, sides in (
        ("train_pixels", "heart_ima", 40, (320, 256)),
        ("attack_pixels", "heart_ima", 40, (320, 256)),  # one level at a time
        ("train_pixels", "hippocampus_adv5", 366, (56, 40)),
        ("attack_pixels", "hippocampus_adv5", 4 * 366, (56, 40)),  # level 0 needs nothing
    ):
        own = work(graphs[0], job, model)
        on_cpu, on_gpu = (resources.memory_mb(g, job, own, 1) for g in graphs)
        assert on_cpu == pytest.approx(4000 + patches * math.prod(sides) * mb, abs=1)
        assert on_gpu == 4000 + 3000
        assert resources.memory_mb(graphs[0], job, own, 2) == 2 * on_cpu


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """A dry run of ima at the paper's amounts with what the profile for Slurm says of resources."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        ResourceSettings,
    )

    folder = tmp_path_factory.mktemp("dry")
    for name in ("config", "resources"):
        (folder / name).symlink_to(ROOT / name)
    before = list(sys.path)
    settings = ResourceSettings(
        cores=1,
        resources=SLURM["resources"],
        overwrite_resource_scopes=SLURM["set-resource-scopes"],
        default_resources=SLURM["default-resources"],
    )
    with SnakemakeApi(OutputSettings(quiet=set())) as api:
        given = api.workflow(
            resource_settings=settings,
            config_settings=ConfigSettings(config={"studies": ["ima"], "device": "cuda"}),
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )
        inner = given.dag(DAGSettings(targets={"all"})).workflow_api._workflow
        inner._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        inner._build_dag()
        yield inner
    sys.path[:] = before


def test_no_job_asks_a_cluster_for_more_than_its_profile_allows(workflow, on_gpu):
    most = SLURM["resources"]
    asked = {job: job.resources.get("runtime") for job in workflow.dag.jobs if job.log}
    wanted = [
        resources.minutes(on_gpu, job, work, 1)
        for job, work in work_of(on_gpu, "ima")
        if job in ("train_members", "attack_chunk")
    ]
    assert len(asked) > 700 and max(wanted) > 5 * most["runtime"]
    assert max(asked.values()) == most["runtime"]
    lowered = [job for job, minutes in asked.items() if minutes == most["runtime"]]
    assert len(lowered) == sum(minutes >= most["runtime"] for minutes in wanted) > 3
    # Retries ask for more, and never for more than that.
    for job in lowered[:1] + [j for j in asked if j.rule.name in ("attack", "evaluate_clean")][:20]:
        minutes, memory = job.resources.runtime, job.resources.mem_mb
        job.attempt = SLURM["retries"] + 1
        assert min(6 * minutes, most["runtime"]) == job.resources.runtime
        assert memory < job.resources.mem_mb <= most["mem_mb"]


def test_time_is_a_limit_of_each_job_and_no_supply_of_all(workflow):
    scopes = workflow.resource_scopes
    assert scopes.is_local("runtime") and scopes.is_local("mem_mb")


def test_short_rules_run_where_snakemake_runs(workflow):
    """Each would cost a place in the queue; all that computes for minutes is submitted."""
    rules = {rule.name: rule for rule in workflow.rules if not rule.norun and rule.log}
    local = workflow._localrules & set(rules)
    artefacts = {name for name in rules if name.startswith("ima_")}
    assert len(artefacts) > 20 and local == LOCAL | artefacts
    assert set(rules) - local == SUBMITTED
    counts = Counter(job.rule.name in local for job in workflow.dag.jobs if job.log)
    assert counts[True] > 100 and counts[False] > 500
