"""The Containerfile, read as a builder would: no image is built here."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tests.workflow.conftest import PARTS, RESOURCES

HOME = "/opt/medrobust"


@pytest.fixture(scope="module")
def steps(root) -> list[tuple[str, str]]:
    """Returns (instruction, arguments) of each step, lines joined and comments left out."""
    text = (root / "Containerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line]


def arguments(steps: list[tuple[str, str]], instruction: str) -> list[str]:
    return [rest for name, rest in steps if name == instruction]


def copied(steps: list[tuple[str, str]]) -> dict[str, str]:
    """Returns each path that is copied, and where to."""
    found = {}
    for line in arguments(steps, "COPY"):
        *sources, target = shlex.split(line)
        assert target.endswith("/") or len(sources) == 1
        for source in sources:
            found[source] = target + source if target.endswith("/") else target
    return found


def test_its_python_is_one_that_the_project_allows(root, steps):
    (base,) = arguments(steps, "FROM")
    version = re.fullmatch(r"docker\.io/library/python:(\d\.\d+)-slim-\w+", base)[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version in SpecifierSet(project["requires-python"])
    for file in (root / "envs").glob("*.yaml"):
        (python,) = [
            line.split(" ")[1]
            for line in yaml.safe_load(file.read_text(encoding="utf-8"))["dependencies"]
            if isinstance(line, str) and line.startswith("python ")
        ]
        assert version in SpecifierSet(python)


def test_it_copies_what_is_there_and_what_a_run_needs(root, steps):
    places = copied(steps)
    for source, target in places.items():
        assert (root / source).exists(), source
        assert target == f"{HOME}/{source}"
    assert set(places) >= {*PARTS, *RESOURCES, "requirements.txt"}
    lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == set(places)
    assert lines[1] == "*" and lines[-1] == "**/__pycache__"


def test_it_does_not_run_as_root(steps):
    names = [name for name, _ in steps]
    assert arguments(steps, "USER") == ["medrobust"]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])


def test_what_it_copies_plans_a_run_in_another_folder(root, steps, tmp_path):
    image, work = tmp_path / "image", tmp_path / "work"
    for source, target in copied(steps).items():
        place = image / Path(target).relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if (root / source).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / source, place, ignore=ignore)
        else:
            shutil.copy(root / source, place)
    work.mkdir()
    (entry,) = arguments(steps, "ENTRYPOINT")
    command = [word.replace(HOME, f"{image}{HOME}") for word in yaml.safe_load(entry)]
    assert command[0] == "snakemake"
    committed = ["scale=laptop", "studies=nsr", "records_from=docs/evidence/nsr"]
    for settings in (["scale=smoke", "studies=signnet"], committed):
        done = subprocess.run(
            [sys.executable, "-m", *command, "-n", "--config", *settings],
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert "This was a dry-run" in done.stdout + done.stderr
