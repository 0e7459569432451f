"""Killed jobs: the run that follows ends with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import signal

import pytest

from tests.workflow.conftest import COHORT, Project, jobs_of, start, tiny, wait_for

pytestmark = pytest.mark.workflow

# Long enough to be caught in the act: some seconds of training, of growing trees, of attacking.
LONG = (
    f"{{signnet: {{{COHORT}, datasets: {{mitbih: {{points: 2}}}}, "
    "models: {mlp: {members: 2, members_per_job: 2, method: {max_epochs: 150, tolerance: 0.0}}, "
    "random_forest: {members: 4, members_per_job: 4}}, "
    "attacks: {hopskipjump: {points_per_job: 2, options: {restarts: 6, max_iter: 40}}}}}"
)
SETTINGS = tiny(overrides=LONG)
KEPT = (
    "*/signnet/models/**/*.safetensors",
    "*/signnet/evaluations/**/*.parquet",
    "*/signnet/tables/*.csv",
)


def long_project(make_project) -> Project:
    project = make_project()
    # In this copy, so that a job of seconds has a checkpoint to be killed after.
    project.edit(
        "workflow/scripts/medrobust/training/engine/loop.py",
        "CHECKPOINT_SECONDS = 5.0",
        "CHECKPOINT_SECONDS = 0.2",
    )
    return project


@pytest.fixture(scope="module")
def undisturbed(make_project) -> dict[str, str]:
    project = long_project(make_project)
    project.snakemake("signnet_tab4", *SETTINGS)
    return kept(project)


def kept(project: Project) -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern in KEPT:
        found |= project.files(pattern)
    assert len(found) > 8
    return found


def progress(project: Project, kind: str, suffix: str) -> list[int]:
    """Returns the sizes of the journals or checkpoints of a kind of job."""
    folder = project.folder / "results/.progress" / kind
    return [path.stat().st_size for path in folder.glob(f"*{suffix}")] if folder.exists() else []


def kill_jobs(project: Project, script: str) -> None:
    found = jobs_of(project)
    assert found, f"no job of {script} is running"
    for process in found:
        os.kill(process, signal.SIGKILL)


def test_jobs_killed_in_training_and_in_an_attack_resume(make_project, undisturbed):
    project = long_project(make_project)
    with start(project, "signnet_tab4", *SETTINGS) as run:
        wait_for(lambda: any(size > 1000 for size in progress(project, "train", ".checkpoint")))
        kill_jobs(project, "train")
        assert run.wait(timeout=120) != 0
    assert not project.files("*/signnet/models/**/mlp/*.safetensors")
    checkpoints = progress(project, "train", ".checkpoint")
    with start(project, "signnet_tab4", *SETTINGS) as run:
        # One journal holds a header of 100 bytes; more means that a run of the attack is in it.
        wait_for(lambda: any(size > 3000 for size in progress(project, "attack", ".journal")))
        kill_jobs(project, "attack")
        assert run.wait(timeout=120) != 0
    assert checkpoints and not project.files("*/signnet/tables/table4.csv")
    project.snakemake("signnet_tab4", *SETTINGS)
    assert kept(project) == undisturbed
    logs = list((project.folder / "results").glob("*/signnet/models/**/mlp/*.log"))
    assert any("continu" in log.read_text() or "resum" in log.read_text() for log in logs)


def test_a_killed_snakemake_leaves_an_orphan_that_its_successor_waits_for(
    make_project, undisturbed
):
    project = long_project(make_project)
    with start(project, "signnet_tab4", *SETTINGS) as run:
        wait_for(lambda: any(size > 3000 for size in progress(project, "attack", ".journal")))
        orphans = jobs_of(project)
        assert orphans
        run.send_signal(signal.SIGKILL)
        run.wait()
    locked = project.snakemake("signnet_tab4", *SETTINGS, fails=True)
    assert "unlock" in locked
    project.snakemake("--unlock", *SETTINGS)
    project.snakemake("signnet_tab4", *SETTINGS)
    assert kept(project) == undisturbed
    # Nothing is left behind: neither orphans nor their journals.
    wait_for(lambda: not jobs_of(project))
