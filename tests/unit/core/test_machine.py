"""What is said of the machine: the commands that work on it, and the commit of the code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from medrobust.core import machine
from medrobust.reporting.provenance import run_context


@pytest.mark.parametrize(("there", "option"), [("conda", " --use-conda"), ("mamba", "")])
def test_conda_is_recommended_where_snakemake_can_use_it(
    there: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / there
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.snakemake_command() == f"snakemake --cores 8{option}"


@pytest.mark.parametrize("made_by_snakemake", [True, False])
def test_provenance_names_the_command_that_made_it(
    made_by_snakemake: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "0a1b_"))
    if made_by_snakemake:
        (tmp_path / "0a1b_.yaml").write_text("dependencies: [python]\n")
    # Whatever lies on PATH: this is where it ran.
    monkeypatch.setattr(shutil, "which", lambda name: None if made_by_snakemake else "/bin/conda")
    facts = dict.fromkeys(("scale", "protocol", "run", "config_hash"), "x") | {"seed": 1}
    context = run_context(facts | {"command": "ima --config seed=1"}, "ima")
    option = " --use-conda" if made_by_snakemake else ""
    assert context.command == f"snakemake --cores 8{option} ima --config seed=1"


def _git(folder: Path, *arguments: str) -> str:
    names = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in
             ("NAME", "EMAIL")}  # fmt: skip
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | names,
    )
    return done.stdout.strip()


def _commit_stated_in(project: Path) -> str:
    code = "from medrobust.core.machine import commit; print(commit())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(project / "workflow/scripts")},
    )
    return done.stdout.strip()


def test_the_commit_is_that_of_this_code(root: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    package = project / "workflow/scripts/medrobust"
    (package / "core").mkdir(parents=True)
    for file in ("__init__.py", "core/__init__.py", "core/machine.py"):
        shutil.copy(root / "workflow/scripts/medrobust" / file, package / file)
    for file in (".gitattributes", ".git_archival.txt"):
        shutil.copy(root / file, project / file)
    assert _commit_stated_in(project) == ""
    _git(project, "init", "-q")
    _git(project, "add", "-A")
    _git(project, "commit", "-qm", "x")
    head = _git(project, "rev-parse", "HEAD")
    assert _commit_stated_in(project) == head
    # An archive, in a checkout of somebody's own work.
    work = tmp_path / "work"
    _git(tmp_path, "init", "-q", "work")
    (work / "mine.txt").write_text("x")
    _git(work, "add", "-A")
    _git(work, "commit", "-qm", "mine")
    _git(project, "archive", "-o", str(tmp_path / "a.tar"), "HEAD")
    with tarfile.open(tmp_path / "a.tar") as files:
        files.extractall(work / "inner", filter="data")
    assert _commit_stated_in(work / "inner") == head
    (package / "__init__.py").write_text("# edited\n__version__ = '0'\n")
    assert _commit_stated_in(project) == f"{head}+changes"
