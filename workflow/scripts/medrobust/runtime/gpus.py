"""GPUs as the environment tells of them, without PyTorch: which there are, and who gave them.

``CUDA_VISIBLE_DEVICES`` is read as CUDA reads it (CUDA C++ programming guide, "CUDA Environment
Variables"): numbers, UUIDs (``GPU-...``) or instances of a divided GPU (``MIG-...``), separated by
commas; the first name that is none of these ends the list, and a name given twice empties it.
Without the variable every GPU that ``nvidia-smi -L`` lists is seen.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping

VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Set for the processes of a job that Snakemake handed over as the only one of its submission.
HANDED_OVER = "MEDROBUST_HANDED_OVER"
#: What Slurm sets where a job, or a step of it, was given GPUs: their numbers.
_GIVEN_BY_SLURM = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
_NAME = re.compile(r"\d+|(?:GPU|MIG)-\S+")


def visible(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names of the GPUs that a process with this environment sees, in no CUDA order.

    Of a divided GPU, a process that no variable gives an instance sees one of them.
    """
    if VISIBLE in environment:
        return named(environment[VISIBLE])
    return _listed()


def named(value: str) -> tuple[str, ...]:
    """Returns the names in a value of ``CUDA_VISIBLE_DEVICES``, in their order."""
    names: list[str] = []
    for part in value.split(","):
        name = part.strip()
        if not _NAME.fullmatch(name) or (names and _kind(name) != _kind(names[0])):
            break
        if name in names:
            return ()
        names.append(name)
    return tuple(names)


def instances(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the instances of divided GPUs that are named, if so; CUDA uses but the first."""
    names = named(environment.get(VISIBLE, ""))
    return names if names and _kind(names[0]) == "MIG" else ()


def under_scheduler(environment: Mapping[str, str]) -> bool:
    """Tells whether a scheduler started this process: what it did not give is not to be taken."""
    return "SLURM_JOB_ID" in environment or HANDED_OVER in environment


def given(environment: Mapping[str, str]) -> bool:
    """Tells whether the scheduler of this process says that it gave GPUs."""
    return _given_by_slurm(environment) or bool(named(environment.get(VISIBLE, "")))


def of_this_job_alone(environment: Mapping[str, str]) -> bool:
    """Tells whether Slurm gave GPUs to this very job, so no other job of ours uses them.

    Within one allocation that Snakemake itself runs in (``salloc``, then ``snakemake --cores N``),
    and for several jobs in one submission (groups), the GPUs are those of all the jobs together.
    """
    return HANDED_OVER in environment and _given_by_slurm(environment)


def _given_by_slurm(environment: Mapping[str, str]) -> bool:
    # Snakemake's plugin clears what is said of the job, so only that of the step may be left.
    number = environment.get("SLURM_GPUS_ON_NODE", "")
    return number not in ("", "0") or any(environment.get(name) for name in _GIVEN_BY_SLURM)


def _kind(name: str) -> str:
    return name[:3] if name[:4] in ("GPU-", "MIG-") else "number"


def _listed() -> tuple[str, ...]:
    """Returns the UUIDs of the GPUs that the driver lists; none where it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        answer = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    text = answer.stdout if answer.returncode == 0 else ""
    divided = re.findall(r"^\s+MIG .*\(UUID: (MIG-[^)]+)\)", text, re.MULTILINE)
    if divided:
        return (divided[0],)
    return tuple(re.findall(r"^GPU \d+: .*\(UUID: (GPU-[^)]+)\)", text, re.MULTILINE))
