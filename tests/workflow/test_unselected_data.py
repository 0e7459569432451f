"""Data sets that no study of the configuration uses, asked for by name."""

from __future__ import annotations

import json

MADE = ("x.npy", "y.npy", "ids.csv", "split_fold0.csv", "card.json", "card.md", "preview.png")


def test_a_target_and_the_command_line_make_the_same_files(make_project):
    by_target, by_command = make_project(), make_project()
    by_target.snakemake("results/data/moons@generated/card.json")
    for command in ("fetch", "prepare"):
        by_command.medrobust(command, "moons")
    files = by_target.files("data/moons@generated/*")
    assert files == by_command.files("data/moons@generated/*")
    assert {name.split("/")[-1] for name in files} == {*MADE, "raw.json"}
    card = json.loads((by_target.folder / "results/data/moons@generated/card.json").read_text())
    assert card["counts"]["found"]["fold0"]["test"] == {"upper": 1000, "lower": 1000}


def test_stand_ins_belong_to_the_smoke_scale(make_project):
    project = make_project()
    target = "results/data/svhn@standin/card.json"
    assert "belong to --config scale=smoke" in project.snakemake(target, fails=True)
    project.snakemake(target, "--config", "scale=smoke")
    card = json.loads((project.folder / target).read_text())
    assert card["synthetic"] and card["shape"] == [1600, 3, 32, 32]


def test_volumes_are_files_for_nnunet(make_project):
    """A rule of its own; the same files without Snakemake."""
    by_target, by_command = make_project(), make_project()
    by_target.snakemake("results/data/msd_prostate@standin/card.json", "--config", "scale=smoke")
    by_command.medrobust("prepare", "msd_prostate", "--config", "scale=smoke")
    files = by_target.files("data/msd_prostate@standin/**/*.*")
    assert files == by_command.files("data/msd_prostate@standin/**/*.*")
    names = {name.split("/")[-1] for name in files}
    assert {*MADE, "splits_final.json", "dataset.json"} - {"x.npy", "y.npy"} <= names
    assert not {"x.npy", "y.npy"} & names
    assert {"standin_000_0000.nii.gz", "standin_000_0001.nii.gz", "standin_000.nii.gz"} <= names


def test_mistakes_are_told_in_words(make_project):
    project = make_project()
    said = project.snakemake("results/data/moon@generated/card.json", fails=True)
    assert "Unknown data set 'moon'. Did you mean 'moons'?" in said
    said = project.medrobust("prepare", "moons", fails=True)
    assert "python -m medrobust fetch moons" in said and "Traceback" not in said
