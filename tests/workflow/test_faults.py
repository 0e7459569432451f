"""Killed runs: the one that follows ends with the bytes of an undisturbed run.

The short form of `make faults`: some kills at random moments, and two at chosen ones.
"""

from __future__ import annotations

import random

import pytest

from tests.workflow import faults
from tests.workflow.conftest import Project, start, wait_for

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, str], dict[str, float]]:
    """What an undisturbed run makes, and the seconds of its jobs."""
    project = faults.long_project(tmp_path_factory.mktemp("undisturbed"))
    lasted = faults.durations(project, *faults.SETTINGS)
    assert list(lasted)[:1] == ["prepare"] and {"train_members", "attack_chunk"} < set(lasted)
    return faults.kept(project), lasted


def test_five_kills_at_random_moments_change_nothing(tmp_path, undisturbed):
    expected, lasted = undisturbed
    assert len(expected) > 20
    outcome, project = faults.Outcome(), faults.long_project(tmp_path / "project")
    rng = random.Random(0)
    faults.one_life(outcome, project, faults.SETTINGS, expected, lasted, rng, 5)
    assert outcome.kills >= 3 and outcome.wrong == []


def progress(project: Project, kind: str, suffix: str) -> list[int]:
    """Returns the sizes of the journals or checkpoints of a kind of job."""
    folder = project.folder / "results/.progress" / kind
    return [path.stat().st_size for path in folder.glob(f"*{suffix}")] if folder.exists() else []


def kill(project: Project, job: str) -> None:
    found = [process for process, name in faults.running(project).items() if name == job]
    assert found, f"{job} is not running"
    faults.kill(found)


def test_jobs_killed_in_training_and_in_an_attack_resume(tmp_path, undisturbed):
    project = faults.long_project(tmp_path / "project")
    with start(project, *faults.SETTINGS) as run:
        wait_for(lambda: any(size > 1000 for size in progress(project, "train", ".checkpoint")))
        kill(project, "train_members")
        assert run.wait(timeout=120) != 0
    assert not project.files("*/signnet/models/**/mlp/*.safetensors")
    checkpoints = progress(project, "train", ".checkpoint")
    with start(project, *faults.SETTINGS) as run:
        # One journal holds a header of 100 bytes; more means that a run of the attack is in it.
        wait_for(lambda: any(size > 3000 for size in progress(project, "attack", ".journal")))
        kill(project, "attack_chunk")
        assert run.wait(timeout=120) != 0
    assert checkpoints and not project.files("*/signnet/tables/table4.csv")
    project.snakemake(*faults.SETTINGS)
    assert faults.kept(project) == undisturbed[0]
    logs = list((project.folder / "results").glob("*/signnet/models/**/mlp/*.log"))
    assert any("continu" in log.read_text() or "resum" in log.read_text() for log in logs)


def test_what_is_lost_changed_or_left_behind_is_found(tmp_path):
    """The comparison itself, on files made by hand."""
    project = Project.__new__(Project)
    project.folder = tmp_path
    results = tmp_path / "results"
    (results / ".progress/train").mkdir(parents=True)
    for name in ("same", "changed", ".half.part.csv"):
        (results / f"{name}").write_text(name)
    (results / ".progress/train/0.journal").write_text("")
    (results / "run.log").write_text("12:00")
    expected = faults.kept(project)
    del expected[".half.part.csv"]
    expected |= {"lost": "0", "changed": "0"}
    outcome = faults.Outcome()
    faults.compare(outcome, project, expected)
    said = "; ".join(outcome.wrong)
    for part in ("lost: ['lost']", "changed: ['changed']", "left behind: ['.half.part.csv']"):
        assert part in said
    assert "0.journal" in said and "run.log" not in said and len(outcome.wrong) == 4
