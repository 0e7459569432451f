"""The worked examples of docs/extending.md, taken from the page and run in a project."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.workflow.pages import block_of

LIBRARY = "workflow/scripts/medrobust"


def insert(project, file: str, before: str, text: str) -> None:
    project.edit(file, before, text + before)


@pytest.fixture
def extended(root, make_project):
    """A copy of the project with all that the page adds."""
    project = make_project()
    for name in (
        "models/linear",
        "training/fgsm_training",
        "attacks/random_noise",
    ):
        code = block_of(root, f"`{name}.py`", "python")
        (project.folder / LIBRARY / f"{name}.py").write_text(code, encoding="utf-8")
    registry = f"{LIBRARY}/core/registry.py"
    lines = block_of(root, "Two lines in `core/registry.py`", "python").splitlines(keepends=True)
    insert(project, registry, '    "mlp": "medrobust.models.mlp",\n', lines[0])
    insert(project, registry, '    "scd": "medrobust.training.scd",\n', lines[1])
    attack = block_of(root, "One more line in `core/registry.py`", "python")
    insert(project, registry, '    "hopskipjump": "medrobust.attacks.hopskipjump",\n', attack)

    signnet = "config/studies/signnet.yaml"
    insert(project, signnet, "\nattacks:\n", block_of(root, "under `models`:", "yaml"))
    added = block_of(root, "**after** the attack that is there", "yaml")
    insert(project, signnet, "\ncohort:\n", added)
    smoke = project.folder / "config/scales/smoke.yaml"
    content = smoke.read_text(encoding="utf-8")
    place = "    attacks:\n      hopskipjump:"
    assert content.count(place) == 1
    models = block_of(root, "`config/scales/smoke.yaml`, under `studies: signnet: models`", "yaml")
    content = content.replace(place, models + place)
    study = block_of(root, "and its numbers at `scale: smoke`", "yaml")
    smoke.write_text(content.rstrip("\n") + "\n" + study, encoding="utf-8")

    config = block_of(root, "`config/studies/noise.yaml`", "yaml")
    (project.folder / "config/studies/noise.yaml").write_text(config, encoding="utf-8")
    numbers = block_of(root, "`resources/published/noise.csv`", "text")
    (project.folder / "resources/published/noise.csv").write_text(numbers, encoding="utf-8")
    own = project.folder / LIBRARY / "studies/noise"
    own.mkdir()
    (own / "__init__.py").touch()
    for name in ("catalogue", "tables"):
        code = block_of(root, f"`{name}.py`", "python")
        (own / f"{name}.py").write_text(code, encoding="utf-8")
    return project


def test_the_examples_of_the_page_run(extended):
    select = "overrides={signnet: {cohort: {models: [mlp]}, datasets: {mitbih: {points: 3}}}}"
    less = "leave_out=[ptbdb,chest_xray,kather,scd01,scdce,bnn,cnn,random_forest]"
    extras = "include_extras=[linear_fgsm,mlp_fgsm]"
    settings = ["--config", "scale=smoke", "studies=[signnet]", select, less, extras]
    extended.snakemake("signnet_tab4", *settings)
    (table,) = (extended.folder / "results").glob("smoke-code-*/signnet/tables/table4.csv")
    frame = pd.read_csv(table)
    ran = set(frame.loc[frame["reproduced"].notna(), "method"])
    assert ran == {"MLP", "Linear (FGSM)", "MLP (FGSM)"}

    extended.snakemake("noise", "--config", "scale=smoke", "studies=[noise]")
    folder = extended.folder / "results/smoke-code/noise"
    made = pd.read_csv(folder / "tables/table1.csv")
    assert made["reproduced"].between(0, 20).all() and list(made["method"]) == ["MLP"]
    compared = pd.read_csv(folder / "comparison/comparison.csv")
    assert list(compared["verdict"]) == ["synthetic", "not run", "not run"]
    assert (folder / "comparison/printed.csv").is_file()
