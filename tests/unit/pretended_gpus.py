"""GPUs that are not there: what PyTorch would say of them, and jobs in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from medrobust.core import logs
from medrobust.runtime import devices, gpus

#: The GPUs of the machine in the order of their numbers: their UUIDs.
MACHINE = ("aaaa1111", "bbbb2222", "cccc3333")


def seen() -> list[str]:
    """Returns the UUIDs of the GPUs that CUDA would show this process, in its order."""
    names = gpus.named(os.environ.get(gpus.VISIBLE, ",".join(map(str, range(len(MACHINE))))))
    if gpus.instances(os.environ):
        return [name.removeprefix("MIG-") for name in names[:1]]
    of_numbers = {str(number): uuid for number, uuid in enumerate(MACHINE)}
    return [of_numbers.get(name) or name.removeprefix("GPU-") for name in names]


def pretend(patch) -> None:
    """Lets PyTorch see the GPUs of :data:`MACHINE`; ``patch(object, name, value)`` replaces."""
    patch(torch.backends.cuda, "is_built", lambda: True)
    patch(torch.cuda, "is_available", lambda: bool(seen()))
    patch(torch.cuda, "device_count", lambda: len(seen()))
    patch(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=seen()[int(index)])
    )


@dataclass
class Job:
    """A job that holds what it was given until it is told to end."""

    process: multiprocessing.Process
    connection: object

    def device(self) -> tuple[str, str | None]:
        """Returns the device and what CUDA is shown, once the job has one."""
        return self._told() or self._told()

    def waits(self) -> bool:
        """Tells whether the job waits, once it does or has a device."""
        return self._told() is None

    def _told(self) -> tuple[str, str | None] | None:
        assert self.connection.poll(60), "the job says nothing"
        return self.connection.recv()

    def end(self) -> None:
        self.connection.send("end")
        self.process.join(20)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(20)


def start(folder, **environment: str) -> Job:
    """Starts a job with these variables; its locks lie in ``folder``."""
    return _forked(_hold, str(folder), environment)


def settings_within(kind: str, folder) -> tuple:
    """Returns how PyTorch is set where a job computes on ``kind``, in a process of its own.

    The last entry is what the log has of a warning of that job.
    """
    job = _forked(_tell_settings, kind, str(folder))
    told = job.connection.recv()
    job.process.join(20)
    return told


def _forked(target, *arguments) -> Job:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    return Job(process, ours)


def _tell_settings(connection, kind: str, folder: str) -> None:
    tempfile.tempdir = folder
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    pretend(setattr)
    devices.fix_threads(1)
    log = Path(folder) / "job.log"
    logs.log_to(log)
    with devices.gpu_slot(kind):
        warnings.warn("has no deterministic form", stacklevel=1)
        connection.send(
            (
                torch.are_deterministic_algorithms_enabled(),
                torch.backends.cudnn.deterministic,
                torch.backends.cuda.matmul.allow_tf32,
                torch.backends.cudnn.allow_tf32,
                os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
                "has no deterministic form" in log.read_text(),
            )
        )


def _hold(connection, folder: str, environment: dict[str, str]) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM", "CUDA_", "MEDROBUST")):
            del os.environ[name]
    os.environ.update(environment)
    tempfile.tempdir = folder
    pretend(setattr)
    waited = []

    def sleep(seconds: float) -> None:
        if not waited:
            connection.send(None)
        waited.append(seconds)
        time.sleep(0.05)

    devices.time = SimpleNamespace(sleep=sleep)
    with devices.gpu_slot(devices.choose_device("cuda", uses_gpu=True)) as device:
        connection.send((device, os.environ.get(gpus.VISIBLE)))
        connection.recv()
