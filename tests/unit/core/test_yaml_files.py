"""One reader of settings: the command lines of Snakemake and of the library mean the same."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from medrobust.__main__ import _settings
from medrobust.core.errors import InputError
from medrobust.core.yaml_files import command_line_settings, overlaid, read_yaml, typed
from medrobust.experiment.config import resolve

SETTINGS = [
    "seed=012", "seed=0o12", "seed=1_000", "seed=0x10", "seed=12.0", "seed=1e1", "seed=' 7'",
    "allow_subset=true", "allow_subset=True", "allow_subset=yes", "raw_dir=null", "raw_dir=~",
    "raw_dir=123", "raw_dir=a b", "raw_dir=", "raw_dir='x'", "raw_dir=-", "raw_dir=[a",
    "raw_dir=a: b: c", "studies=ima", "studies=[ima, nsr]", "studies=[1, true]", "device=no",
    "overrides={nsr: {replicates: 012, models: {mlp_ce: {members: 1_0}}}}", "seed=nan",
    "sources={mitbih: kaggle, ptbdb: physionet}", "raw_dir=x=y", "seed=1:30", "seed=08",
    "raw_dir=2020-01-01", "raw_dir=!!int 3",
]  # fmt: skip


def parsed(setting: str) -> str:
    cli = pytest.importorskip("snakemake.cli")
    try:
        return repr(cli.parse_config([setting]))
    except Exception:
        return "refused"


def read(setting: str) -> str:
    try:
        return repr(command_line_settings([setting]))
    except InputError:
        return "refused"


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_the_command_line_is_read_as_snakemake_reads_it(setting: str) -> None:
    assert read(setting) == parsed(setting)


@given(st.text(alphabet="0123456789.-+_:eox nNatrufl{}[],'\"~", max_size=8))
@example("012")
def test_whatever_is_typed(text: str) -> None:
    theirs = parsed(f"seed={text}")
    if theirs != "refused":
        mine = read(f"seed={text}")
        # Of a key given twice Snakemake keeps the last.
        assert mine == theirs or (mine == "refused" and "{" in text)


def test_several_settings_and_the_file_are_laid_over_each_other_as_snakemake_does(
    tmp_path: Path, monkeypatch
) -> None:
    utils = pytest.importorskip("snakemake.utils")
    cli = pytest.importorskip("snakemake.cli")
    (tmp_path / "config").mkdir()
    text = "seed: 3\noverrides: {nsr: {replicates: 2}, ima: {title: x}}\nsources: {}\n"
    (tmp_path / "config/config.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    given = ["overrides={nsr: {title: y}}", "sources={mitbih: kaggle}", "seed=4", "seed=05"]
    expected = read_yaml("config/config.yaml")
    utils.update_config(expected, cli.parse_config(given))
    assert _settings(argparse.Namespace(config=given, configfile=[])) == expected
    assert expected["overrides"]["nsr"] == {"replicates": 2, "title": "y"}
    assert expected["seed"] == 5


def test_both_commands_have_one_seed(root: Path) -> None:
    """The case seen: 12 for Snakemake, 10 for the library."""
    values = overlaid(read_yaml(root / "config/config.yaml"), command_line_settings(["seed=012"]))
    assert resolve(values, root).config.seed == 12
    changes = command_line_settings(["overrides={signnet: {replicates: 012}}"])
    assert resolve(changes, root).studies["signnet"].replicates == 12
    assert typed({"a": ["0.1", "007", "x", "true"], "b": "1e-4"}) == {
        "a": [0.1, 7, "x", True],
        "b": 1e-4,
    }


@pytest.mark.parametrize("number", ["012", "-07", "0_1", "1:30", "190:20:30"])
def test_a_number_to_another_base_than_10_is_refused_in_a_file(tmp_path: Path, number: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"a: 0\nb: 10\nc: '{number}'\nd: {number}\n")
    with pytest.raises(InputError, match=f"{number} is .* in YAML") as caught:
        read_yaml(path)
    assert f"{path}, line 4" in str(caught.value)
    path.write_text("a: [0, 10, -3, 1_000, 0x10, 0b11, 1.05, 2020-01-01, '012']\n")
    assert read_yaml(path)["a"][:7] == [0, 10, -3, 1000, 16, 3, 1.05]


FILES = {
    "config/config.yaml": "seed: 1\nscale: paper\nseed: 2\n",
    "config/scales/paper.yaml": "data: real\nstudies: {}\ndata: real\n",
    "config/studies/nsr.yaml": "title: a\ncitation: b\ntitle: c\n",
    "config/datasets.yaml": "datasets:\n  a: {}\n  a: {}\n",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("snakemake", [False, True])
def test_a_key_given_twice_is_refused_with_file_and_line(
    tmp_path: Path, root: Path, file: str, snakemake: bool
) -> None:
    for name in ("config", "workflow", "resources", "envs", "profiles", "Snakefile"):
        source = root / name
        ignored = shutil.ignore_patterns("__pycache__", "raw")
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    (tmp_path / file).write_text(FILES[file])
    program = ["snakemake", "-n", "--cores", "1"] if snakemake else ["medrobust", "plan"]
    done = subprocess.run(
        [sys.executable, "-m", *program, "--config", "studies=nsr"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "workflow/scripts")},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "is given twice" in said and "Traceback" not in said
    assert f"{file}, line 3" in said
