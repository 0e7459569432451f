"""Which device a job computes on, who decides, and how; on GPUs that are not there."""

from __future__ import annotations

import logging
import os

import pytest
import torch
from medrobust.core.errors import InputError
from medrobust.runtime import devices, gpus
from medrobust.runtime.devices import asked_device, choose_device, gpu_slot

from tests.unit import pretended_gpus
from tests.unit.pretended_gpus import MACHINE, start

FIRST, SECOND, THIRD = (f"GPU-{uuid}" for uuid in MACHINE)


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM", "CUDA_VISIBLE", "MEDROBUST_HANDED")):
            monkeypatch.delenv(name)


@pytest.fixture
def jobs(tmp_path):
    """Starts jobs that are ended with the test."""
    started = []

    def job(**environment):
        started.append(start(tmp_path, **environment))
        return started[-1]

    yield job
    for each in started:
        each.kill()


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(devices.logger, "propagate", True)
    caplog.set_level(logging.INFO, logger="medrobust")
    return lambda: caplog.text


def pretend(monkeypatch):
    pretended_gpus.pretend(monkeypatch.setattr)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("0,1", ("0", "1")),
        (" 2 , 0", ("2", "0")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,-1,1", ("0",)),
        ("1,1", ()),
        ("GPU-5d5ba0d6-d33d,GPU-1111", ("GPU-5d5ba0d6-d33d", "GPU-1111")),
        ("GPU-5d5b,0", ("GPU-5d5b",)),
        ("MIG-a1,MIG-b2", ("MIG-a1", "MIG-b2")),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(value, names):
    assert gpus.named(value) == names
    assert gpus.visible({gpus.VISIBLE: value}) == names
    assert gpus.instances({gpus.VISIBLE: value}) == (names if value.startswith("MIG") else ())


LISTED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-6e6cb1e7-e44e-3c3d)
"""
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d)
  MIG 3g.20gb     Device  1: (UUID: MIG-0c9a7f4b-11aa)
"""


@pytest.mark.parametrize(
    ("text", "status", "names"),
    [
        (LISTED, 0, ("GPU-5d5ba0d6-d33d-2b2c", "GPU-6e6cb1e7-e44e-3c3d")),
        (DIVIDED, 0, ("MIG-c7384736-a75d",)),
        (LISTED, 9, ()),
        ("No devices found.", 0, ()),
    ],
)
def test_without_the_variable_the_driver_lists_them(tmp_path, monkeypatch, text, status, names):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpus.visible({}) == names


def test_without_a_driver_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible({}) == ()


def test_each_job_gets_a_gpu_and_one_too_many_waits(jobs):
    first, second = jobs(CUDA_VISIBLE_DEVICES="0,1"), jobs(CUDA_VISIBLE_DEVICES="0,1")
    held = {first.device()[0], second.device()[0]}
    assert held == {"cuda:0", "cuda:1"}
    third = jobs(CUDA_VISIBLE_DEVICES="0,1")
    assert third.waits()
    second.end()
    assert third.device()[0] in held


def test_a_gpu_is_the_same_under_any_number_and_name(jobs):
    # Both see theirs as cuda:0; only the lock of the GPU itself can tell that they differ.
    assert jobs(CUDA_VISIBLE_DEVICES="1").device()[0] == "cuda:0"
    assert jobs(CUDA_VISIBLE_DEVICES="0").device()[0] == "cuda:0"
    # The second one again, by its UUID, beside the third.
    assert jobs(CUDA_VISIBLE_DEVICES=f"{SECOND},{THIRD}").device()[0] == "cuda:1"
    assert jobs(CUDA_VISIBLE_DEVICES=SECOND).waits()
    assert jobs().waits()


def test_a_killed_job_gives_its_gpu_back(jobs):
    first = jobs(CUDA_VISIBLE_DEVICES="0")
    assert first.device()
    second = jobs(CUDA_VISIBLE_DEVICES="0")
    assert second.waits()
    first.kill()
    assert second.device()[0] == "cuda:0"


def test_instances_of_a_divided_gpu_are_shown_one_by_one(jobs):
    both = "MIG-a1,MIG-b2"
    found = [jobs(CUDA_VISIBLE_DEVICES=both).device() for _ in range(2)]
    assert sorted(found) == [("cuda:0", "MIG-a1"), ("cuda:0", "MIG-b2")]
    assert jobs(CUDA_VISIBLE_DEVICES=both).waits()


ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0", "CUDA_VISIBLE_DEVICES": "0"}


def test_jobs_in_one_allocation_share_its_gpus_one_at_a_time(jobs):
    step = {**ALLOCATION, "SLURM_STEP_ID": "0"}  # an interactive shell is a step too
    assert jobs(**step).device()[0] == "cuda:0"
    assert jobs(**step).waits()


def test_a_job_with_a_gpu_of_its_own_locks_nothing(jobs):
    own = {**ALLOCATION, gpus.HANDED_OVER: "1"}
    assert jobs(**own).device()[0] == "cuda:0"
    # As where several jobs are to share a GPU (shards).
    assert jobs(**own).device()[0] == "cuda:0"


def test_jobs_that_another_scheduler_started_lock(jobs):
    # It may have started all of them with the variables of the shell.
    handed = {gpus.HANDED_OVER: "1", "CUDA_VISIBLE_DEVICES": "0"}
    assert jobs(**handed).device()[0] == "cuda:0"
    assert jobs(**handed).waits()


@pytest.mark.parametrize(
    ("variables", "given"),
    [
        ({"SLURM_JOB_GPUS": "0"}, True),  # its number
        ({"SLURM_STEP_GPUS": "2,3"}, True),
        ({"SLURM_GPUS_ON_NODE": "1"}, True),  # how many
        ({"SLURM_GPUS_ON_NODE": "0"}, False),
        ({"SLURM_JOB_GPUS": ""}, False),
        ({}, False),
    ],
)
def test_slurm_says_of_a_job_or_of_its_step_what_it_gave(variables, given):
    handed_over = {"SLURM_JOB_ID": "7", gpus.HANDED_OVER: "1", **variables}
    assert gpus.given(handed_over) == gpus.of_this_job_alone(handed_over) == given
    assert not gpus.of_this_job_alone({"SLURM_JOB_ID": "7", **variables})


def test_auto_takes_a_gpu_that_is_there_and_says_so(monkeypatch, said):
    pretend(monkeypatch)
    assert choose_device("auto", uses_gpu=True) == "cuda"
    assert "computes on a GPU (cuda): device is auto" in said()


def test_auto_says_why_it_takes_none(monkeypatch, said):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    assert choose_device("auto", uses_gpu=True) == "cpu"
    assert "on the CPU: device is auto, and this PyTorch is a CPU build" in said()
    pretend(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto", uses_gpu=True) == "cpu"
    assert "CUDA_VISIBLE_DEVICES is '', which hides every GPU" in said()


@pytest.mark.parametrize("scheduler", [{"SLURM_JOB_ID": "7"}, {gpus.HANDED_OVER: "1"}])
def test_auto_leaves_a_gpu_that_the_scheduler_did_not_give(monkeypatch, said, scheduler):
    pretend(monkeypatch)
    for name, value in scheduler.items():
        monkeypatch.setenv(name, value)
    assert choose_device("auto", uses_gpu=True) == "cpu"
    assert "the scheduler gave this job no GPU" in said()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert choose_device("auto", uses_gpu=True) == "cuda"


def test_work_without_use_for_a_gpu_gets_none(monkeypatch):
    pretend(monkeypatch)
    assert choose_device("cuda", uses_gpu=False) == "cpu"
    assert choose_device("cpu", uses_gpu=True) == "cpu"


def test_a_gpu_that_is_asked_for_must_be_there(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(InputError, match="PyTorch finds none: this PyTorch is a CPU build"):
        choose_device("cuda", uses_gpu=True)


def test_tf32_stands_in_the_name_of_the_device(monkeypatch):
    pretend(monkeypatch)
    for device in ("auto", "cuda"):
        assert choose_device(asked_device(device, allow_tf32=True), uses_gpu=True) == "cuda+tf32"
        assert choose_device(asked_device(device, allow_tf32=False), uses_gpu=True) == "cuda"
    assert asked_device("cpu", allow_tf32=True) == "cpu"
    assert choose_device("cuda+tf32", uses_gpu=False) == "cpu"


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("cpu", (False, False, False, True)),  # PyTorch's own: nothing is touched
        ("cuda", (True, True, False, False)),
        ("cuda+tf32", (True, True, True, True)),
    ],
)
def test_a_gpu_computes_alike_and_in_full_precision(tmp_path, kind, settings):
    logged = kind != "cpu"  # what PyTorch warns of there
    assert pretended_gpus.settings_within(kind, tmp_path) == (*settings, ":4096:8", logged)


def test_a_full_gpu_is_told_in_words(monkeypatch, tmp_path):
    pretend(monkeypatch)
    monkeypatch.setattr(devices.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(devices, "compute_alike", lambda **_: None)
    with pytest.raises(InputError, match="memory of the GPU is too small"), gpu_slot("cuda"):
        raise torch.OutOfMemoryError("CUDA out of memory.")
