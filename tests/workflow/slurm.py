"""A Slurm of one node in a folder: controller, node and munge run as children of this process.

Nothing outside of the folder is touched: configuration, keys, sockets and state lie in it, and
ports are free ones. Needs root and Debian's packages ``slurm-wlm`` and ``munge``. The GPU of the
node is ``/dev/null``: Slurm counts it and tells jobs its number.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")

# Daemons lie where only root looks.
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

# Without accounting, so that `squeue` tells how jobs ended: an hour long. What the machine really
# has does not count (config_overrides).
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
MinJobAge=3600
KillWait=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=32000 Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime={minutes} State=UP
PartitionName=gpu Nodes={host} MaxTime={minutes} State=UP
"""


def lacking() -> str:
    """Returns what is missing to start a Slurm here, in words, "" if nothing."""
    if os.getuid() != 0:
        return "a Slurm of one node can be started by root only"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed (requirements-dev.txt)"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    if missing:
        return f"{', '.join(missing)} not found (apt-get install slurm-wlm munge)"
    return ""


def through_slurm(minutes: int) -> list[str]:
    """Returns the options that run a workflow by the shipped profile on this one node.

    What it needs otherwise than the profile has it: it keeps no accounts, and its time limit.
    """
    return [
        *("--profile", "profiles/slurm"),
        *("--slurm-status-command", "squeue"),
        *("--slurm-init-seconds-before-status-checks", "5"),
        *("--resources", f"runtime={minutes}", "mem_mb=16000"),
    ]


class Slurm:
    """A running Slurm; use it as a context manager, or call :meth:`stop` whatever happens.

    Attributes:
        environment: with it, Slurm's commands reach this Slurm.
    """

    def __init__(self, folder: Path, minutes: int) -> None:
        """Starts it.

        Args:
            folder: absolute; for everything that it writes.
            minutes: time limit of both partitions, ``cpu`` and ``gpu``.
        """
        self._folder = folder
        self._daemons: list[subprocess.Popen] = []
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(folder / "bin"), PATH]),
        }
        try:
            self._start(minutes)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Slurm:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, *command: str) -> str:
        """Runs a command of Slurm and returns what it printed."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Returns what Slurm knows of every job, finished ones too, in the order of submission."""
        said = self("scontrol", "--oneliner", "show", "job")
        found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in said.splitlines()]
        return sorted((job for job in found if "JobId" in job), key=lambda job: int(job["JobId"]))

    def stop(self) -> None:
        """Ends all jobs and daemons; calling it twice does no harm."""
        if len(self._daemons) == 3 and all(daemon.poll() is None for daemon in self._daemons):
            self._end_jobs()
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    def _start(self, minutes: int) -> None:
        host = socket.gethostname().partition(".")[0]
        for name, mode in (("munge", 0o711), ("state", 0o700), ("spool", 0o755)):
            (self._folder / name).mkdir(parents=True, mode=mode)
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        text = CONFIGURATION.format(
            host=host, folder=self._folder, ports=_free_ports(2), minutes=minutes
        )
        (self._folder / "slurm.conf").write_text(text, encoding="utf-8")
        gres = f"NodeName={host} Name=gpu File=/dev/null\n"
        (self._folder / "gres.conf").write_text(gres, encoding="utf-8")
        # The plugin's step inside a job (snakemake-executor-plugin-slurm-jobstep 0.6.1) takes all
        # variables SLURM_* from the environment of its srun, that of the configuration among them.
        srun = self._folder / "bin/srun"
        srun.parent.mkdir()
        found = shutil.which("srun", path=PATH)
        call = f"SLURM_CONF={self._folder}/slurm.conf exec {found}"
        srun.write_text(f'#!/bin/sh\n{call} "$@"\n', encoding="utf-8")
        srun.chmod(0o755)
        # pytest's folders are closed to other users, which munge warns of (--force).
        munge = self._folder / "munge"
        names = ("key-file", "socket", "pid-file", "log-file", "seed-file")
        places = (key, *(munge / name for name in ("socket", "pid", "log", "seed")))
        given = [f"--{name}={place}" for name, place in zip(names, places, strict=True)]
        self._run("munged", "--foreground", "--force", *given)
        self._wait(lambda: (munge / "socket").exists(), "munged")
        configuration = str(self._folder / "slurm.conf")
        self._run("slurmctld", "-D", "-c", "-f", configuration)
        self._run("slurmd", "-D", "-f", configuration)
        self._wait(lambda: self("sinfo", "-h", "-N", "-p", "cpu", "-o", "%T") == "idle\n", "Slurm")

    def _run(self, program: str, *arguments: str) -> None:
        with open(self._folder / f"{program}.log", "w", encoding="utf-8") as log:
            daemon = subprocess.Popen(
                [str(shutil.which(program, path=PATH)), *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )
        self._daemons.append(daemon)

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(daemon.poll() is not None for daemon in self._daemons):
                break
            try:
                if condition():
                    return
            except AssertionError:
                pass  # the controller does not listen yet
            time.sleep(0.1)
        logs = [path.read_text(errors="replace")[-2000:] for path in self._folder.glob("*.log")]
        raise RuntimeError(f"{what} does not start:\n" + "\n".join(logs))

    def _end_jobs(self) -> None:
        try:
            self("scancel", "--signal=KILL", "--full", "--me")
            self("scancel", "--me")
            self._wait(lambda: not self("squeue", "-h"), "the end of all jobs", seconds=15)
        except (AssertionError, RuntimeError, subprocess.SubprocessError):
            pass  # the daemons end in any case


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _end_with_parent() -> None:
    """Lets the kernel end a daemon when this process ends, however that happens (Linux)."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
