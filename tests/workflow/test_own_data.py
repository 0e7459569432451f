"""Data of a user's own: the examples of docs/data.md, run as the page has them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.workflow.pages import block_of

PAGE = "docs/data.md"
LIBRARY = "workflow/scripts/medrobust"
ATTACK = {"options": {"restarts": 1, "max_iter": 2, "max_eval": 200}}
MEMBERS = {"members": 2, "members_per_job": 2}
#: Every model of signnet, in as few seconds as can be.
LITTLE = {
    "datasets": {"wrist": {"points": 3}},
    "models": {
        "scd01": {**MEMBERS, "method": {"iterations": 40}},
        "scdce": {**MEMBERS, "method": {"iterations": 40}},
        "bnn": {**MEMBERS, "method": {"max_epochs": 5}},
        "mlp": {**MEMBERS, "method": {"max_epochs": 20}},
        "cnn": {"members": 1, "method": {"max_epochs": 2}},
        "random_forest": MEMBERS,
    },
    "attacks": {"hopskipjump": ATTACK},
}


def line_of(root, beginning: str) -> list[str]:
    """Returns the words of the one line of the page that begins so."""
    text = (root / PAGE).read_text(encoding="utf-8")
    (line,) = re.findall(rf"^    ({re.escape(beginning)}.*)$", text, re.M)
    return shlex.split(line)


def with_settings(words: list[str], **settings: object) -> list[str]:
    """Returns the arguments of a line of Snakemake (after `snakemake --cores n`), with settings."""
    assert words[:2] == ["snakemake", "--cores"] and "--config" in words
    return [*words[3:], *(f"{key}={value}" for key, value in settings.items())]


def described(root, project, data: str) -> None:
    """Runs the line of the page that writes the entry of ``data``, as a shell does."""
    words = line_of(root, f"python -m medrobust describe {data}")
    here = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "workflow/scripts",
    }
    line = " ".join(word if word == ">" else shlex.quote(word) for word in words)
    subprocess.run(line, shell=True, cwd=project.folder, env=os.environ | here, check=True)


def signals(rows: dict[int, int], seed: int) -> np.ndarray:
    """Returns rows of 40 values and the label: two levels with noise."""
    random = np.random.default_rng(seed)
    y = np.repeat(list(rows), list(rows.values()))
    x = np.clip((y[:, None] + 1) / 3 + random.normal(0, 0.1, (len(y), 40)), 0, 1)
    return np.column_stack([x.round(4), y])


@pytest.fixture
def wrist(root, make_project):
    """A copy of the project with the data set of the page, and its two files."""
    project = make_project()
    registry = project.folder / "config/datasets.yaml"
    entry = block_of(root, "**1. Entry**", "yaml", PAGE)
    registry.write_text(registry.read_text("utf-8").rstrip("\n") + "\n\n" + entry, "utf-8")
    code = block_of(root, "**2. Adapter**", "python", PAGE)
    (project.folder / LIBRARY / "data/sets/two_files.py").write_text(code, "utf-8")
    (line,) = re.findall(r"`(\"two_files\": \"[\w.]+\")`", (root / PAGE).read_text("utf-8"))
    first = "ADAPTERS: dict[str, str] = {\n"
    project.edit(f"{LIBRARY}/core/registry.py", first, f"{first}    {line},\n")
    uses = block_of(root, "**3. Study**", "yaml", PAGE)
    study = "config/studies/signnet.yaml"
    project.edit(study, "\nmodels:\n", uses + "\nmodels:\n")
    models = block_of(root, "among those that the models of signals", "yaml", PAGE)
    project.edit(study, models.replace(", wrist", ""), models)
    place = "      mitbih_patient: {points: 6}\n"
    amounts = block_of(root, "for fewer points at `scale: smoke`", "yaml", PAGE)
    project.edit("config/scales/smoke.yaml", place, place + amounts)
    raw = project.folder / "my_data/wrist"
    raw.mkdir(parents=True)
    for seed, (name, each) in enumerate({"train": 150, "test": 50}.items()):
        np.savetxt(raw / f"{name}.csv", signals({0: each, 1: each}, seed), "%g", ",")
    return project


def test_the_data_set_of_the_page_runs_to_its_table(root, wrist):
    asked = line_of(root, "snakemake --cores 1 preflight --config studies=signnet")
    preflight = with_settings(asked)
    assert "signnet: can run" in wrist.snakemake(*preflight)
    # Half of it is not enough, and that is an error for scripts too.
    test = wrist.folder / "my_data/wrist/test.csv"
    content = test.read_bytes()
    test.write_bytes(b"")
    said = wrist.snakemake(*preflight, fails=True)
    assert "signnet: cannot run yet" in said and "missing: test.csv" in said
    assert "my_data/wrist/test.csv is not used: it is empty (0 bytes)" in said
    test.write_bytes(content)

    run = line_of(root, "snakemake --cores 2 signnet_tab4 --config studies=signnet")
    overrides = json.dumps({"signnet": LITTLE})
    wrist.snakemake(*with_settings(run, overrides=overrides))
    (folder,) = (wrist.folder / "results").glob("paper-code-*/signnet")
    table = pd.read_csv(folder / "tables/table4.csv")
    shown = table[(table["dataset"] == "wrist") & table["reproduced"].notna()]
    models = {"SCD01", "SCDCE", "BNN", "MLP", "CNN", "RandomForest"}
    assert set(shown["method"]) == models and (shown["reproduced"] >= 0).all()
    # What a node tries at a time is what there is, and the caption says so.
    (card,) = folder.glob("models/wrist@official/fold0/rep0/scd01/members_0-1.json")
    assert json.loads(card.read_text("utf-8"))["method"]["features_per_iteration"] == 40
    page = (folder / "tables/table4.html").read_text("utf-8")
    lowered = "On wrist, whose points have 40 values: features per iteration 40"
    assert lowered in page and "of SCD01, SCDCE" in page


def test_a_csv_file_of_the_page_runs_to_its_tables(root, make_project):
    project = make_project()
    (project.folder / "my_data/pulse").mkdir(parents=True)
    table = signals({0: 60, 1: 60}, 1)
    frame = pd.DataFrame(table[:, :12], columns=[f"v{k}" for k in range(12)])
    frame.insert(0, "visit", "first")
    frame["person"] = [f"p{row // 4}" for row in range(len(frame))]
    frame["diagnosis"] = np.where(table[:, -1] > 0, "regular", "irregular")
    file = project.folder / "my_data/pulse/pulse.csv"
    frame.to_csv(file, index=False)
    described(root, project, "my_data/pulse/pulse.csv")
    study = project.folder / "my_studies/pulse.yaml"
    study.parent.mkdir()
    study.write_text(block_of(root, "`my_studies/pulse.yaml`", "yaml", PAGE), "utf-8")

    preflight = with_settings(line_of(root, "snakemake --cores 1 preflight --configfile my_data/p"))
    assert "pulse@own: can be read: train irregular" in project.snakemake(*preflight)
    little = {
        "datasets": {"pulse": {"points": 5}},
        "models": {"forest": {"members": 3}, "network": {"method": {"max_epochs": 30}}},
        "attacks": {"hopskipjump": ATTACK},
    }
    run = line_of(root, "snakemake --cores 2 pulse --configfile")
    project.snakemake(*with_settings(run, overrides=json.dumps({"pulse": little})))
    (folder,) = (project.folder / "results").glob("paper-code-*/pulse")
    distances = pd.read_csv(folder / "tables/distances.csv")
    assert set(distances["method"]) == {"MLP", "forest"} and distances["n"].eq(5).all()
    assert pd.read_csv(folder / "tables/accuracy.csv")["reproduced"].min() > 0.7
    assert "files of the user's own" in (folder / "tables/accuracy.md").read_text("utf-8")
    data = project.folder / "results/data/pulse@own"
    card = json.loads((data / "card.json").read_text("utf-8"))
    assert card["shape"] == [120, 12] and card["input_range"] == [0.0, 1.0]
    assert any(finding["code"] == "patients_disjoint" for finding in card["audit"])
    # The entry decides what is made: with other features it is prepared anew, from the same file.
    frame.loc[3, "v1"] = np.nan
    frame.to_csv(file, index=False)
    said = project.snakemake(*preflight, fails=True)
    assert "column v1: empty: row 4" in said and "pulse: cannot run yet" in said


def test_folders_of_images_of_the_page_run_to_their_tables(root, make_project):
    project = make_project()
    random = np.random.default_rng(2)
    for label, name in enumerate(("benign", "malignant")):
        folder = project.folder / "my_data/breast" / name
        folder.mkdir(parents=True)
        for number in range(24):
            picture = random.integers(0, 120, (70, 80)).astype(np.uint8)
            picture[20:50, 20 : 40 + 20 * label] += 100
            Image.fromarray(picture).save(folder / f"p{number // 2}_{number}.png")
    described(root, project, "my_data/breast")
    study = project.folder / "my_studies/breast.yaml"
    study.parent.mkdir()
    study.write_text(block_of(root, "`my_studies/breast.yaml`", "yaml", PAGE), "utf-8")
    little = {
        "models": {"cnn": {"method": {"max_epochs": 2}}},
        "attacks": {"pgd": {"options": {"num_steps": 2}}},
    }
    run = line_of(root, "snakemake --cores 2 breast --configfile")
    project.snakemake(*with_settings(run, overrides=json.dumps({"breast": little})))
    (folder,) = (project.folder / "results").glob("paper-code-*/breast")
    robust = pd.read_csv(folder / "tables/robust_accuracy.csv")
    assert set(robust["epsilon"]) == {0.0, 0.01, 0.03} and robust["n"].eq(10).all()
    card = json.loads((project.folder / "results/data/breast@own/card.json").read_text("utf-8"))
    assert card["shape"] == [48, 1, 64, 64] and card["dtype"] == "uint8"
