"""Data sets that no study of the configuration uses: asked for by name, or with also_prepare."""

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


def test_data_sets_of_every_kind_are_prepared_and_in_the_report(make_project):
    """Points, heartbeats, grey and colour images, folds, volumes; the study's own too."""
    project = make_project()
    project.shrink_standins(240, 80)
    also = ["moons", "mitbih_patient", "covid_ct", "kather_8", "bus", "msd_prostate"]
    chosen = [
        "studies=[signnet]",
        f"also_prepare={json.dumps(also)}",
        "leave_out=[ptbdb,chest_xray,kather]",
    ]
    settings = ["--config", "scale=smoke", *chosen]
    project.snakemake("data", *settings)
    cards = {path.parent.name for path in (project.folder / "results/data").glob("*/card.md")}
    assert cards == {f"{name}@standin" for name in [*also, "mitbih"]}
    project.snakemake("data", "--report", "report.html", *settings)
    report = (project.folder / "report.html").read_text()
    for name in cards:
        for file in ("card.html", "preview.png"):
            assert f"results/data/{name}/{file}" in report
    assert "Nothing to be done" in project.snakemake("-n", "data", *settings)
    volumes = project.folder / "results/data/msd_prostate@standin"
    assert (volumes / "splits_final.json").is_file() and not (volumes / "x.npy").exists()


def test_preflight_of_data_sets_by_name(make_project, monkeypatch, tmp_path):
    project = make_project()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    raw = tmp_path / "mine/sarscov2_ct"
    raw.mkdir(parents=True)
    (raw / "archive.zip").write_bytes(b"<html>sign in</html>")
    settings = ["--config", f"raw_dir={tmp_path}/mine", "scale=laptop"]
    said = project.medrobust("preflight", "covid_ct", "busis", "moons", *settings, fails=True)
    assert "covid_ct: cannot run yet" in said and "archive.zip: This file is neither" in said
    assert "busis: cannot run yet" in said and "cvprip.cs.usu.edu" in said
    assert "moons: can run" in said and "signnet" not in said
    said = project.medrobust("preflight", "covid_ct", "--quick", *settings)
    assert "it will be unpacked" in said
    also = ["also_prepare=[busis]", "leave_out=[ptbdb,chest_xray,kather]"]
    said = project.snakemake("preflight", *settings, *also, fails=True)
    assert "signnet: " in said and "busis: cannot run yet" in said
    assert "Did you mean 'moons'" in project.medrobust("preflight", "moon", fails=True)


def test_a_subset_without_files_is_told_in_words(make_project):
    target = "results/data/covid_ct@subset/card.json"
    said = make_project().snakemake(target, fails=True)
    assert "a subset needs allow_subset=true and some files" in said
