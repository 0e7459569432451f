"""The study ima from stand-ins to its tables, figures and claims, on some of its models."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from medrobust.core import io
from medrobust.evaluation.tally import read_tally

from tests.workflow.conftest import Project

MODELS = ("moons_ce", "moons_ima", "fashion_l2_mma", "fashion_ima_beta01", "covid_ima")
RUN = "results/smoke-code/ima"
TABLES = ["8", "9", "10", "11", "12", "13", "B1", "B2", "C4", "C5", "C6", "C7"]


def settings(root) -> list[str]:
    """Everything but a few models is left out, svhn as a whole."""
    with (root / "config/studies/ima.yaml").open(encoding="utf-8") as file:
        names = yaml.safe_load(file)["models"]
    out = ["svhn", *(name for name in names if name not in MODELS and "svhn" not in name)]
    extra = "include_extras=[fashion_ima_beta01]"
    return ["--config", "scale=smoke", "studies=[ima]", extra, f"leave_out=[{','.join(out)}]"]


def small_project(make_project) -> Project:
    project = make_project()
    project.shrink_standins(400, 100)
    return project


@pytest.fixture(scope="module")
def made(make_project, root) -> Project:
    """A project in which ima is done for a few models."""
    project = small_project(make_project)
    project.snakemake("ima", *settings(root))
    return project


def test_everything_that_the_paper_has_is_made(made):
    folder = made.folder / RUN
    for number in TABLES:
        assert (folder / f"tables/table{number}.html").is_file()
    for name in (*(f"figure{number}" for number in range(1, 10)), "panel", "matrix"):
        assert (folder / f"figures/{name}.png").stat().st_size > 5_000, name
    table = pd.read_csv(folder / "tables/table8.csv")
    ran = table[table["reproduced"].notna()]
    assert set(ran["data"]) == {"SYNTHETIC"} and table["published"].notna().sum() == 35
    assert set(ran["method"]) == {"ce", "IMA"}
    beta = pd.read_csv(folder / "tables/tableB2.csv")
    assert set(beta.loc[beta["reproduced"].notna(), "method"]) == {"beta=0.1"}
    empty = pd.read_csv(folder / "tables/table11.csv")
    assert len(empty) == 56 and empty["reproduced"].isna().all()


def test_every_published_number_is_listed(made):
    compared = pd.read_csv(made.folder / RUN / "comparison/comparison.csv")
    printed = pd.read_csv(made.folder / "resources/published/ima.csv")
    assert len(compared) == len(printed)
    # Moons ce and IMA; beta=0.1; MMA in L2; COVID IMA: seven, seven, seven, nine levels.
    assert (compared["verdict"] == "synthetic").sum() == 2 * 7 + 7 + 7 + 9
    assert set(compared["verdict"]) == {"synthetic", "not run"}
    claims = pd.read_csv(made.folder / RUN / "claims/claims.csv")
    assert not set(claims["verdict"]) & {"holds", "does not hold"}


def test_a_point_resists_if_it_resists_both_losses(made):
    cell = made.folder / RUN / "evaluations/moons@standin/fold0/rep0/moons_ce"
    records = pd.read_parquet(cell / "pgd_moons/chunk0.parquet")
    assert set(records["loss"]) == {"cross_entropy", "margin"}
    tally = read_tally(cell / "pgd_moons/tally.csv")
    for level, rows in records.groupby("epsilon"):
        fooled = rows.groupby("point_id")["success"].any().sum()
        counted = tally.rows(level)
        missed = counted.loc[counted["label"] != counted["prediction"], "points"].sum()
        # Points that are wrong without attack count as fooled.
        assert missed == fooled


def test_margins_and_maps_are_kept_beside_the_evaluation(made):
    cells = made.folder / RUN / "evaluations"
    moons = io.read_tensors(cells / "moons@standin/fold0/rep0/moons_ima/margins.safetensors")
    assert moons["margin"].shape == (1, 400) and set(moons["label"]) == {0, 1}
    assert (moons["margin"] >= np.float32(0.01)).all() and (moons["margin"] <= 0.3).all()
    plane = io.read_tensors(cells / "moons@standin/fold0/rep0/moons_ce/plane.safetensors")
    assert plane["probability"].shape == (len(plane["second"]), len(plane["first"]))
    assert not (cells / "moons@standin/fold0/rep0/moons_ce/margins.safetensors").exists()


def test_a_figure_asks_for_no_more_than_it_shows(made, root):
    output = made.snakemake("-n", "--forceall", "ima_fig6", *settings(root))
    assert "of moons_ima on moons" in output
    assert "on covid_ct" not in output and "on fashion_mnist" not in output
    output = made.snakemake("-n", "--forceall", "ima_fig9", *settings(root))
    assert "of covid_ima on covid_ct" in output and "on moons" not in output


def test_a_model_is_not_trained_on_other_data_sets(made, root):
    file = f"{RUN}/models/covid_ct@standin/fold0/rep0/moons_ce/members_0-0.safetensors"
    output = made.snakemake("-n", file, *settings(root), fails=True)
    assert "'moons_ce' is not trained on covid_ct" in output


def test_the_command_line_takes_a_models_own_data_set(made, make_project, root):
    other = small_project(make_project)
    smoke = ["--config", "scale=smoke", "studies=[ima]"]
    other.medrobust("prepare", "moons", *smoke)
    for step in (["train", "ima", "moons_ima"], ["evaluate", "ima", "moons_ima"]):
        other.medrobust(*step, *smoke)
    other.medrobust("attack", "ima", "moons_ima", "pgd_moons", *smoke)
    file = f"{RUN}/evaluations/moons@standin/fold0/rep0/moons_ima/pgd_moons/tally.csv"
    assert (other.folder / file).read_bytes() == (made.folder / file).read_bytes()
    told = other.medrobust("attack", "ima", "moons_ima", "pgd_covid", *smoke, fails=True)
    assert "is not run on the model 'moons_ima'" in told


def test_tables_and_figures_are_redrawn_from_what_is_kept(made, make_project, root):
    other = small_project(make_project)
    kept = other.folder / "docs/evidence/ima/smoke-code"
    source = made.folder / RUN
    patterns = ["**/tally.csv", "**/clean.json", "**/margins.safetensors", "**/plane.safetensors"]
    images = ["**/ct_images/arrays.safetensors", "**/ct_images/records.parquet"]
    for pattern in [*patterns, "**/search.safetensors", *images]:
        for path in (source / "evaluations").glob(pattern):
            copy = kept / "evaluations" / path.relative_to(source / "evaluations")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    facts = made.medrobust_facts("ima", settings(root))
    (kept / "run.json").write_text(json.dumps(facts))
    redrawn = ["--config", "scale=smoke", "records_from=docs/evidence/ima"]
    # What every artefact is drawn from is there; some are drawn.
    planned = other.snakemake("-n", "ima", *redrawn)
    assert "ima_figure9" in planned and not re.search(r"^(train|attack|tally)\b", planned, re.M)
    shown = ("tables/table8", "tables/margins", "figures/figure6")
    pages = [f"{RUN}/{name}.{'png' if 'figures' in name else 'html'}" for name in shown]
    other.snakemake(*pages, *redrawn)
    for name in [f"{name}.csv" for name in shown]:
        assert (other.folder / RUN / name).read_bytes() == (source / name).read_bytes()
