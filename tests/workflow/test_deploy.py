"""Called from other folders the workflow finds its own files; the user's lie where he works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
configfile: "config/config.yaml"


module medrobust:
    snakefile:
        {snakefile}
    config:
        {config}


use rule * from medrobust{names}
"""
OF_MINE = """

rule mine:
    default_target: True
    input:
        rules.medrobust_data.input,
        "ima_extra.txt",


rule extra:
    output:
        "ima_extra.txt",
    shell:
        "touch {output}"
"""
# `samples` twice: the rest of the file is the other workflow's business.
MINE = """
samples: 3
samples: 4
medrobust:
  scale: smoke
  studies: [ima]
  leave_out: [fashion_mnist, svhn, covid_ct]
"""
PLACE = "https://github.com/someone/medrobust"


@pytest.fixture(scope="module")
def source(make_project):
    """A copy of the project that nobody works in; whatever is written there is found at the end."""
    project = make_project()
    before = _listed(project.folder)
    yield project.folder
    assert _listed(project.folder) - before == set()


def _listed(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(file) for file in files if "__pycache__" not in file.parts}


def run(folder: Path, *arguments: str, fails: bool = False, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output[-6000:]
    return output


def files_of(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / {"snakefile": "workflow/Snakefile", "config": "config/config.yaml"}[name]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def importing(source, tmp_path_factory):
    """Another workflow, with settings and rules of its own."""
    text = MODULE.format(
        snakefile=repr(str(source / "workflow/Snakefile")),
        config='config["medrobust"]',
        names=" as medrobust_*",
    )
    folder = tmp_path_factory.mktemp("importing")
    return files_of(folder, snakefile=text + OF_MINE, config=MINE)


def test_a_module_with_names_of_its_own(importing):
    run(importing)
    cards = [str(card.relative_to(importing)) for card in importing.rglob("card.json")]
    assert cards == ["results/data/moons@standin/card.json"]
    assert (importing / "ima_extra.txt").is_file()
    # All that is selected can be planned, with published numbers and captions of the source.
    jobs = run(importing, "-n", "medrobust_all")
    for rule in ("train", "attack", "ima_figure6", "compare", "ima_claims"):
        assert f"medrobust_{rule}" in jobs


def test_what_onstart_tells_is_told_in_a_module_too(importing):
    output = run(importing, "medrobust_plan")
    assert output.count("Plan of the run smoke-code") == 1


def test_names_in_a_module(importing):
    output = run(importing, "-n", "medrobust_ima_fig66", fails=True)
    assert "Did you mean 'medrobust_ima_fig6'?" in output
    output = run(importing, "-n", "medrobust_nsr_fig1", fails=True)
    assert "add nsr to `studies` in the configuration of the module" in output
    # Those of the other workflow are its own.
    assert "No rule to produce nothing" in run(importing, "-n", "nothing", fails=True)


def test_a_prefix_is_refused_before_any_work(source, tmp_path):
    text = MODULE.format(
        snakefile=repr(str(source / "workflow/Snakefile")), config="config", names=""
    )
    text = text.replace("    config:", '    prefix:\n        "there"\n    config:')
    files_of(tmp_path, snakefile=text, config="scale: smoke\n")
    output = run(tmp_path, "-n", fails=True)
    assert "does not work with a prefix" in output and "--directory" in output


def test_from_another_folder(source, tmp_path):
    where = ["-s", str(source / "Snakefile"), "--directory", str(tmp_path)]
    target = "results/data/moons@standin/card.md"
    run(source.parent, *where, target, "--config", "scale=smoke")
    assert (tmp_path / target).is_file()
    # Without a config/ there, settings are the workflow's; either Snakefile is the whole of it.
    where[1] = str(source / "workflow/Snakefile")
    output = run(source.parent, *where, "-n", "--config", "scale=smoke")
    assert all(f"{study}_claims" in output for study in ("signnet", "nsr", "ima"))


def test_settings_and_studies_of_the_folder_count_first(source, tmp_path):
    (tmp_path / "config/studies").mkdir(parents=True)
    (tmp_path / "config/config.yaml").write_text("scale: smoke\nstudies: [signnet]\n")
    study = (source / "config/studies/signnet.yaml").read_text(encoding="utf-8")
    study, replaced = re.subn(r"\nartefacts:\s*\[[^]]*\]", "\nartefacts: [table3]", study)
    assert replaced == 1
    (tmp_path / "config/studies/signnet.yaml").write_text(study, encoding="utf-8")
    output = run(tmp_path, "-s", str(source / "Snakefile"), "-n", "--quiet", "host")
    assert "signnet_table3" in output
    assert "signnet_table4" not in output and "nsr_claims" not in output


def test_as_snakedeploy_deploys_it(root, make_project, tmp_path):
    # `github(...)`: what snakedeploy writes, and all of config/ copied. Snakemake clones from where
    # git is told to look instead.
    repository = make_project().folder
    for name in (".gitattributes", ".git_archival.txt"):
        (repository / name).write_bytes((root / name).read_bytes())
    me = {
        f"GIT_{who}_{what}": "me" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["tag", "v9"]):
        subprocess.run(["git", "-C", str(repository), *command], check=True, env=os.environ | me)
    text = MODULE.format(
        snakefile='github("someone/medrobust", path="workflow/Snakefile", tag="v9")',
        config="config",
        names="",
    )
    copied = (repository / "config/config.yaml").read_text(encoding="utf-8")
    files_of(tmp_path, snakefile=text, config=copied)
    environment = {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": PLACE,
    }
    records = ["scale=laptop", "studies=signnet", f"records_from={root}/docs/evidence/signnet"]
    run(tmp_path, "signnet_tab3", "--config", *records, **environment)
    made = tmp_path / "results/laptop-code/signnet"
    # Printed numbers lie in the workflow; the code that drew is that of the commit.
    assert "91.1" in (made / "tables/table3.csv").read_text()
    facts = json.loads((made / "tables/table3.provenance.json").read_text())
    head = ["git", "-C", str(repository), "rev-parse", "v9"]
    assert facts["run"]["commit"] == subprocess.check_output(head, text=True).strip()
