"""The machine and software that compute: versions, hardware, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from medrobust import __version__

#: `git archive` puts the commit here (.gitattributes).
ARCHIVED = ".git_archival.txt"
PACKAGES = (
    "adversarial-robustness-toolbox",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "snakemake",
    "torch",
)


def versions(*more: str) -> dict[str, str]:
    """Returns the versions of Python, medrobust and the packages that compute or draw.

    Args:
        more: packages that some jobs need beside those; one that is not installed is left out.
    """
    installed = {"python": platform.python_version(), "medrobust": __version__}
    for package in (*PACKAGES, *more):
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def hardware() -> str:
    """Returns the machine in words: processor, usable cores, memory."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {cores} cores, {memory:.0f} GiB"


def conda_found() -> bool:
    """Returns whether Snakemake can make conda environments here: it calls ``conda`` alone."""
    return shutil.which("conda") is not None


def snakemake_command(conda: bool | None = None) -> str:
    """Returns how to call Snakemake: with ``--use-conda`` where that works.

    Args:
        conda: whether it does; None: whether conda is found on this machine.
    """
    usable = conda_found() if conda is None else conda
    return "snakemake --cores 8" + (" --use-conda" if usable else "")


def in_environment_of_snakemake() -> bool:
    """Returns whether this Python is of a conda environment that Snakemake made."""
    # It keeps the description of each beside it.
    return Path(f"{sys.prefix}.yaml").is_file()


def commit() -> str:
    """Returns the commit of this checkout, with "+changes" if files differ.

    Of an archive that git made it is the archive's; "" where neither is known. A checkout of
    something else that this lies in is not meant.
    """
    folder = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    if not git("ls-files", "--error-unmatch", "core/machine.py"):
        return _archived(folder.parents[2] / ARCHIVED)
    head = git("rev-parse", "HEAD")
    # Only what shapes results: an edited README is no reason for doubt.
    changed = head and git("status", "--porcelain", "--", ".", "../../../config")
    return f"{head}+changes" if changed else head


def _archived(file: Path) -> str:
    """Returns the commit that git wrote into an archive; "" where it did not."""
    text = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return text if re.fullmatch("[0-9a-f]{40,64}", text) else ""
