"""The workflow under ``--use-conda``, from the environment files as they stand.

What docs/conda.md says of these tests is true of them: packages come from channels made of what
is installed here, and py-rattler stands in for conda.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conda import channel, stand_in
from tests.workflow.conftest import Project, tiny

pytestmark = [pytest.mark.workflow]
for package in ("rattler", "conda_package_streaming"):
    pytest.importorskip(package, reason="py-rattler or conda-package-streaming is not installed")
if sys.platform != "linux":
    pytest.skip("environments are linked as on Linux", allow_module_level=True)

#: One model, and a chunk of attacks: eight jobs of all environments.
SMALL = (
    "{signnet: {cohort: {models: [mlp]}, datasets: {mitbih: {points: 2}}, "
    "models: {mlp: {members: 2, members_per_job: 2}}, "
    "attacks: {hopskipjump: {points_per_job: 2, options: {restarts: 2, max_iter: 2}}}}}"
)
LEFT_OUT = "[chest_xray, kather, ptbdb, ptbdb_8020, scd01, scdce, bnn, cnn, random_forest]"
ASKED = ("signnet_fig2", "signnet_tab4", *tiny(overrides=SMALL, leave_out=LEFT_OUT))
#: Files that hold times, or the command by which they were made.
OF_THE_RUN = (".log", ".tsv", ".timing.json", ".provenance.json", "made_with.json")
#: What packages of an environment import where it is there, and do without: numpy's f2py, numba,
#: itables. Nothing of the project's.
OPTIONAL = {
    "data": set(),
    "torch": {"charset_normalizer", "yaml"},
    "analysis": {"charset_normalizer", "platformdirs"},
}


@dataclass(frozen=True)
class Conda:
    """The stand-in for conda with its channels, and an environment of envs/driver.yaml."""

    folder: Path
    commands: Path

    @property
    def driver(self) -> Path:
        return self.folder / "driver"

    @property
    def strangers(self) -> Path:
        """The file in which jobs note what they import from other environments."""
        return self.folder / "strangers.txt"

    def environment(self) -> dict[str, str]:
        """Returns the variables of a shell in which the driver's environment is active."""
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        return kept | {
            "PATH": os.pathsep.join([f"{self.driver}/bin", str(self.commands), os.environ["PATH"]]),
            "CONDA_CHANNEL_ALIAS": f"file://{self.folder}/channels",
            "CONDA_PKGS_DIRS": str(self.folder / "cache"),
            "CONDA_ROOT": str(self.commands.parent),
            "MEDROBUST_STRANGERS": str(self.strangers),
        }

    def run(self, *command: str | Path, cwd: Path, fails: bool = False) -> str:
        """Runs a command in that shell and returns what it printed."""
        done = subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-6000:]
        return output

    def create(self, file: Path, prefix: Path, *, fails: bool = False) -> str:
        """Makes an environment, as ``conda env create`` does."""
        asked = ("--file", file, "--prefix", prefix)
        return self.run("conda", "env", "create", *asked, cwd=self.folder, fails=fails)


@pytest.fixture(scope="module")
def conda(root, tmp_path_factory) -> Iterator[Conda]:
    """A conda whose channels hold what is installed here."""
    folder = tmp_path_factory.mktemp("conda")
    channel.make_channels(root, folder / "channels")
    made = Conda(folder, stand_in.install(folder / "root"))
    made.create(root / "envs/driver.yaml", made.driver)
    yield made
    shutil.rmtree(folder)  # some gigabytes


def result_files(project: Project) -> dict[str, object]:
    """Returns each file of results: its hash, and of JSON what it says."""
    found: dict[str, object] = {}
    for name, content in project.files("**/*").items():
        if name.endswith(".json") and not name.endswith(OF_THE_RUN):
            said = json.loads((project.folder / "results" / name).read_text(encoding="utf-8"))
            # Of the packages that are installed: those of all environments, or of one.
            found[name] = {key: value for key, value in said.items() if key != "versions"}
        elif not name.endswith(OF_THE_RUN):
            found[name] = content
    return found


def test_jobs_in_conda_environments_make_the_same_files(conda, make_project, root):
    here, there = make_project(), make_project()
    for project in (here, there):
        project.shrink_standins(200, 80)
    here.snakemake(*ASKED)
    snakemake = (conda.driver / "bin/python", "-m", "snakemake", "--cores", "2")
    environments = conda.folder / "environments"
    with_conda = ("--use-conda", "--conda-prefix", str(environments))
    conda.run(*snakemake, *ASKED, *with_conda, cwd=there.folder)

    expected, found = result_files(here), result_files(there)
    assert {Path(name).suffix for name in expected} >= {".npy", ".parquet", ".safetensors", ".svg"}
    assert found == expected

    taken: dict[str, set[str]] = {}
    for line in conda.strangers.read_text(encoding="utf-8").splitlines():
        prefix, name = line.split(" ")
        if Path(prefix).parent == environments:
            taken.setdefault(made_from(root, prefix), set()).add(name)
    assert set(taken) == set(OPTIONAL), "a job of each environment takes Snakemake at least"
    for name, strangers in taken.items():
        lacking = {s for s in strangers - OPTIONAL[name] if not s.startswith("snakemake")}
        assert not lacking, f"envs/{name}.yaml lacks what a job imports: {sorted(lacking)}"


def made_from(root: Path, prefix: str) -> str:
    """Returns the name of the file that an environment was made from: Snakemake keeps a copy."""
    kept = Path(f"{prefix}.yaml").read_bytes()
    (name,) = [file.stem for file in (root / "envs").glob("*.yaml") if file.read_bytes() == kept]
    return name


def edited(root: Path, folder: Path, old: str, new: str) -> Path:
    """Returns a copy of envs/torch.yaml with one line changed."""
    text = (root / "envs/torch.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    file = folder / "torch.yaml"
    file.write_text(text.replace(old, new), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("- safetensors ", "- python-safetensors ", "python-safetensors"),
        ("threadpoolctl >=3.5,<4", "threadpoolctl >=99", "threadpoolctl"),
        ("[conda-forge]", "[conda-forge, nodefaults]", "UnavailableInvalidChannel"),
        ("- numba >=0.62,<1", "- snakemake >=9.19,<10", "snakemake"),  # is on another channel
    ],
    ids=["name", "version", "channel", "another channel's"],
)
def test_a_wrong_environment_file_is_refused(conda, root, tmp_path, old, new, told):
    file = edited(root, tmp_path, old, new)
    assert told in conda.create(file, tmp_path / "made", fails=True)
    assert not (tmp_path / "made").exists()
