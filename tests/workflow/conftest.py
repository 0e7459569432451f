"""The real workflow in copies of the project, on tiny amounts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from medrobust.core import io
from numba.core.caching import _CacheLocator

PARTS = ("Snakefile", "config", "workflow", "profiles", "envs", "pyproject.toml")
LIBRARY = "workflow/scripts/medrobust"
RESOURCES = ("resources/published", "resources/checksums")


def _copy_compiled(source: Path, target: Path) -> None:
    """Copies compiled kernels from one copy of the library to another of the same content.

    Each copy would else compile all of them again, for some 20 s. numba files them in a folder
    that is named by the path of the module's folder, and checks time and size of the module.
    """
    for module in source.rglob("*_kernels.py"):
        copy = target / module.relative_to(source)
        names = [_CacheLocator.get_suitable_cache_subpath(str(file)) for file in (module, copy)]
        for cache in (source / "__pycache__").glob("numba-*"):
            for file in (cache / names[0]).glob("*.nb[ci]"):
                place = target / "__pycache__" / cache.name / names[1] / file.name
                if not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with io.atomic_path(place) as temporary:
                        shutil.copyfile(file, temporary)


class Project:
    """A copy of the project in which Snakemake can be run."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__")
        for part in (*PARTS, *RESOURCES):
            target = folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / part).is_dir():
                shutil.copytree(source / part, target, ignore=ignore)
            else:
                shutil.copy(source / part, target)
        self._compiled_here = partial(_copy_compiled, folder / LIBRARY, source / LIBRARY)
        _copy_compiled(source / LIBRARY, folder / LIBRARY)

    def command(self, *arguments: str, cores: int = 2, listed: bool = True) -> list[str]:
        """Returns the command line of Snakemake; ``listed``: a dry run lists every job."""
        listing = ["--quiet", "host"] if listed and "-n" in arguments else []
        return [sys.executable, "-m", "snakemake", *listing, "--cores", str(cores), *arguments]

    def snakemake(
        self, *arguments: str, cores: int = 2, fails: bool = False, listed: bool = True
    ) -> str:
        """Runs Snakemake and returns what it printed; checks whether it failed."""
        done = subprocess.run(
            self.command(*arguments, cores=cores, listed=listed),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._compiled_here()
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-6000:]
        return output

    def medrobust(self, *arguments: str, fails: bool = False) -> str:
        """Runs ``python -m medrobust`` of this copy."""
        done = subprocess.run(
            [sys.executable, "-m", "medrobust", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(self.folder / "workflow/scripts")},
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-6000:]
        return output

    def medrobust_facts(self, study: str, settings: list[str]) -> dict:
        """Returns what committed records of this copy's run would state."""
        code = (
            "import json, sys; from pathlib import Path; import yaml;"
            "from medrobust.experiment.sources import build_graph;"
            "pairs = [word.partition('=')[::2] for word in sys.argv[2:]];"
            "graph = build_graph({key: yaml.safe_load(value) for key, value in pairs}, Path('.'));"
            "print(json.dumps(graph.run_facts(sys.argv[1])))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, study, *settings[1:]],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(self.folder / "workflow/scripts")},
        )
        return json.loads(done.stdout)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replaces ``old`` by ``new`` in a file; ``old`` must be there once."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} holds {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def shrink_standins(self, train: int, test: int) -> None:
        """Makes stand-ins of so many points, where those of scale ``smoke`` take too long."""
        small = f"standin: {{train: {train}, test: {test}}}"
        self.edit("config/scales/smoke.yaml", "standin: {train: 1200, test: 400}", small)

    def files(self, pattern: str) -> dict[str, str]:
        """Returns the hash of every file below results/ that matches, by its path there."""
        results = self.folder / "results"
        return {
            str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(results.glob(pattern))
            if path.is_file()
        }


@contextlib.contextmanager
def start(project: Project, *arguments: str, cores: int = 2) -> Iterator[subprocess.Popen]:
    """Starts Snakemake in the background; its messages go to a file in the project."""
    with open(project.folder / "background.log", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            project.command(*arguments, cores=cores), cwd=project.folder, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Waits until ``condition()`` holds; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def jobs_of(project: Project) -> list[int]:
    """Returns the process ids of the project's jobs."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            here = os.path.realpath(entry / "cwd") == os.path.realpath(project.folder)
            if here and ".run_job.py" in command and "snakemake" in command:
                found.append(int(entry.name))
    return found


# Smaller than `smoke`: every part runs, with two models on one data set, in as few seconds as
# possible. test_every_model_of_the_study_runs has the others.
COHORT = "cohort: {models: [mlp, random_forest]}"
LEFT_OUT = "[chest_xray, kather, ptbdb, ptbdb_8020, scd01, scdce, bnn, cnn]"
TINY = (
    f"{{signnet: {{{COHORT}, datasets: {{mitbih: {{points: 3}}}}, "
    "models: {mlp: {members: 4, members_per_job: 2}, "
    "random_forest: {members: 4, members_per_job: 2}}, "
    "attacks: {hopskipjump: {points_per_job: 1, options: {restarts: 2, max_iter: 3}}}}}"
)


def tiny(**settings: object) -> list[str]:
    """Returns the arguments that select the tiny run."""
    amounts = {"overrides": TINY, "leave_out": LEFT_OUT}
    chosen = {"scale": "smoke", "studies": "[signnet]", **amounts, **settings}
    return ["--config", *[f"{key}={value}" for key, value in chosen.items()]]


@pytest.fixture(scope="session")
def make_project(root, tmp_path_factory):
    """A function that makes copies of the project."""

    def make() -> Project:
        return Project(root, tmp_path_factory.mktemp("project"))

    return make


@pytest.fixture(scope="session")
def finished(make_project, tmp_path_factory, worker_id) -> Project:
    """A project in which the tiny run is done; of several processes one makes it, all copy it."""
    if worker_id == "master":
        return finish_tiny(make_project())
    shared = tmp_path_factory.getbasetemp().parent / "finished"
    with open(shared.with_suffix(".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.with_suffix(".txt").exists():
            shutil.rmtree(shared, ignore_errors=True)
            made = finish_tiny(make_project())
            shutil.copytree(made.folder, shared, symlinks=True)
            shared.with_suffix(".txt").write_text(made.first_output, encoding="utf-8")
    project = copy_of(shared, tmp_path_factory.mktemp("finished") / "project")
    project.first_output = shared.with_suffix(".txt").read_text(encoding="utf-8")
    return project


def finish_tiny(project: Project) -> Project:
    """Runs the tiny run in a project to its end."""
    project.first_output = project.snakemake(*tiny())
    return project


def copy_of(source: Path, folder: Path) -> Project:
    """Returns a copy of a project with its results and Snakemake's own notes."""
    project = Project.__new__(Project)
    project.folder = folder
    project._compiled_here = lambda: None
    shutil.copytree(source, folder, symlinks=True)
    return project


@pytest.fixture
def copy_of_finished(finished, tmp_path) -> Project:
    """A copy of the finished project, with Snakemake's own notes, to edit."""
    return copy_of(finished.folder, tmp_path / "copy")
