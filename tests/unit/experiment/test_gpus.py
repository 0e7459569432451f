"""What a run asks of GPUs, and that the plan says why."""

from __future__ import annotations

import dataclasses
import os
import re

import pytest
from medrobust.experiment import gpus, plan, telling
from medrobust.experiment.sources import build_graph
from medrobust.experiment.terminal import dry_run_text


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("SLURM", "CUDA_VISIBLE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(gpus, "gpu_state", lambda: "usable")


def graph(root, device="auto", **fields):
    values = {"scale": "smoke", "studies": ["signnet"], "device": device}
    return dataclasses.replace(build_graph(values, root), **fields)


def claims(graph):
    """What training the MLP and the forest claims."""
    names = ("mlp", "random_forest")
    works = [{"study": "signnet", "model": name} for name in names]
    return [gpus.claims(graph, "train_members", work) for work in works]


def test_auto_takes_what_is_seen(root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-not-a-number")
    assert gpus.gpus_of_run(graph(root)).at_once == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    there = graph(root)
    found = gpus.gpus_of_run(there)
    assert found.claimed and found.at_once == 2 and claims(there) == [1, 0]
    assert "2 GPUs seen here, so 2 jobs that use one at a time" in found.said
    made = plan.make_plan(there)
    assert made[0].gpu_hours > 0 and made[0].cpu_hours > 0
    assert found.said in plan.format_plan(made, there)
    assert found.said in dry_run_text(there, [], [], 1)
    assert found.said in telling.opening_text(there, ["signnet_tab4"])


@pytest.mark.parametrize(
    ("variables", "state", "why"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, "usable", r"no GPU is seen here \(CUDA_VISIBLE_DEVICES=\)"),
        (
            {"CUDA_VISIBLE_DEVICES": "0"},
            "none",
            "1 GPU seen here, but this PyTorch cannot use a GPU",
        ),
        ({"SLURM_JOB_ID": "7"}, "usable", "the scheduler gave this allocation no GPU"),
    ],
)
def test_auto_says_why_it_takes_none(root, monkeypatch, variables, state, why):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpus, "gpu_state", lambda: state)
    there = graph(root)
    found = gpus.gpus_of_run(there)
    assert not found.claimed and found.at_once is None and claims(there) == [0, 0]
    assert re.fullmatch(f"device auto: everything computes on the CPU: {why}", found.said)
    assert plan.make_plan(there)[0].gpu_hours == 0


def test_jobs_with_packages_of_their_own_have_their_own_pytorch(root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(gpus, "gpu_state", lambda: "none")
    assert gpus.gpus_of_run(graph(root, same_packages=False)).claimed


def test_auto_asks_no_cluster_for_a_gpu_and_says_so_aloud(root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # of the login node, whoever cares
    found = gpus.gpus_of_run(graph(root, executor="slurm"))
    assert not found.claimed and "NO GPU IS ASKED FOR" in found.said and "slurm" in found.said
    asked = graph(root, "cuda", executor="slurm")
    assert gpus.gpus_of_run(asked).at_once is None and claims(asked) == [1, 0]


def test_cuda_is_limited_to_what_is_seen(root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0,1")
    assert gpus.gpus_of_run(graph(root, "cuda")).at_once == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    there = graph(root, "cuda")
    assert gpus.gpus_of_run(there) == gpus.Gpus(claimed=True, at_once=None, said="")
    assert claims(there) == [1, 0]


def test_cpu_says_nothing(root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    there = graph(root, "cpu")
    assert gpus.gpus_of_run(there) == gpus.Gpus(claimed=False, at_once=None, said="")
    assert claims(there) == [0, 0]
