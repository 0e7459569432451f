"""What Snakemake makes of GPUs: how many jobs at once, and what a job knows of who started it."""

from __future__ import annotations

import pytest

from tests.workflow.conftest import tiny

pytestmark = pytest.mark.workflow


def test_as_many_jobs_that_use_a_gpu_at_once_as_are_seen(make_project, monkeypatch):
    project = make_project()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    asked = ("--quiet", "host", *tiny(device="cuda"))
    assert 'gpu=Resource("gpu", 3)' in project.snakemake("plan", *asked, cores=4)
    fewer = project.snakemake("plan", "--resources", "gpu=2", *asked)
    assert 'gpu=Resource("gpu", 2)' in fewer
    # This PyTorch may be a CPU build: then auto asks for none.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    output = project.snakemake("plan", "--quiet", "host", *tiny())
    assert "Provided resources" not in output
    assert "on the CPU: no GPU is seen here (CUDA_VISIBLE_DEVICES=)" in output


def test_a_job_knows_that_it_was_handed_over(copy_of_finished):
    """As an executor calls Snakemake again where the job runs."""
    (run,) = (copy_of_finished.folder / "results").glob("smoke-code-*")
    model = "signnet/models/mitbih@standin/fold0/rep0/mlp"

    def log_of(*ranges: str) -> str:
        cell = f"run={run.name},study=signnet,dataset=mitbih,source=standin,fold=0,replicate=0"
        jobs = [f"train:{cell},model=mlp,{members}" for members in ranges]
        copy_of_finished.snakemake(
            "--mode", "remote", "--nolock", "--force", "--allowed-rules", "train",
            "--target-jobs", *jobs, *tiny(),
        )  # fmt: skip
        return (run / model / "members_0-1.log").read_text(encoding="utf-8")

    assert "the scheduler gave this job no GPU" in log_of("first=0,last=1")
    # Several in one submission share what it was given, as jobs of one machine do.
    assert "the scheduler" not in log_of("first=0,last=1", "first=2,last=3")
