"""The study nsr from stand-ins to its tables, figures and claims, on three of its models."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from medrobust.evaluation.tally import read_tally

from tests.workflow.conftest import Project

CELL = "mitbih_val@standin/fold0/rep0"
MODELS = ("mlp_ce", "mlp_loss2", "cnn_ce")
METHODS = ("ce", "jacob", "mse", "mse_margin", "loss2", "loss1", "adv01", "adv02", "adv03")
LEFT_OUT = [f"{net}_{m}" for net in ("mlp", "cnn") for m in METHODS]
LEFT_OUT = [name for name in LEFT_OUT if name not in MODELS]
SETTINGS = ["--config", "scale=smoke", "studies=[nsr]", f"leave_out=[{','.join(LEFT_OUT)}]"]
RUN = "results/smoke-code/nsr"


@pytest.fixture(scope="module")
def made(make_project) -> Project:
    """A project in which nsr is done for three models."""
    project = make_project()
    project.snakemake("nsr", *SETTINGS)
    return project


def test_everything_that_the_paper_has_is_made(made):
    folder = made.folder / RUN
    for number in range(1, 13):
        assert (folder / f"tables/table{number}.html").is_file()
    for name in (*(f"figure{number}" for number in range(1, 9)), "matrix"):
        assert (folder / f"figures/{name}.png").stat().st_size > 10_000
    table = pd.read_csv(folder / "tables/table5.csv")
    ran = table[table["status"] != "not run"]
    assert set(ran["method"]) == {"MLP:ce", "MLP:loss2"} and len(ran) == 2 * 7
    assert set(ran["data"]) == {"SYNTHETIC"}
    assert len(table) == 9 * 7 and table["published"].notna().all()


def test_all_756_published_numbers_are_listed(made):
    compared = pd.read_csv(made.folder / RUN / "comparison/comparison.csv")
    assert len(compared) == 756
    # Three models, each in the six tables of its network, with seven levels.
    assert (compared["verdict"] == "synthetic").sum() == 3 * 6 * 7
    assert (compared["verdict"] == "not run").sum() == 756 - 3 * 6 * 7
    claims = pd.read_csv(made.folder / RUN / "claims/claims.csv")
    assert not set(claims["verdict"]) & {"holds", "does not hold"}


def test_tallies_agree_with_the_records_and_the_points(made):
    evaluations = made.folder / RUN / "evaluations"
    tally = read_tally(evaluations / CELL / "mlp_ce/pgd20/tally.csv")
    assert tally.per_class == 10 and tally.subset_per_class == 2
    points = pd.read_csv(evaluations / "mitbih_val@standin/fold0/pgd20/points.csv")
    assert points["label"].value_counts().to_dict() == dict.fromkeys(range(5), 10)
    records = pd.read_parquet(evaluations / CELL / "mlp_ce/pgd20/chunk0.parquet")
    assert sorted(records["epsilon"].unique()) == [0.01, 0.03, 0.05, 0.1, 0.2, 0.3]
    assert (records["linf"].dropna() <= records.loc[records["linf"].notna(), "epsilon"]).all()
    for level, rows in records.groupby("epsilon"):
        counted = tally.rows(level)
        fooled = counted.loc[counted["label"] != counted["prediction"], "points"].sum()
        assert fooled == rows["success"].sum()
    assert not (evaluations / CELL / "cnn_ce/beat").exists()


def test_a_figure_asks_for_no_more_than_it_shows(made):
    output = made.snakemake("-n", "--forceall", "nsr_fig1", *SETTINGS)
    assert "cnn_ce" not in output and "spsa" not in output and "mlp_loss2" in output
    # Nor does it frighten with what the whole study would take.
    (made.folder / RUN / "figures/figure1.png").unlink()
    output = made.snakemake("nsr_fig1", *SETTINGS)
    assert "A part of the plan" in output and "Plan of the run" not in output


def test_the_command_line_makes_the_same_tally(made, make_project):
    other = make_project()
    settings = [*SETTINGS[:2], "studies=[nsr]"]
    other.medrobust("prepare", "mitbih_val", *settings)
    for step in (["train", "nsr", "mlp_ce"], ["evaluate", "nsr", "mlp_ce"]):
        other.medrobust(*step, *settings)
    other.medrobust("attack", "nsr", "mlp_ce", "pgd20", *settings)
    file = f"{RUN}/evaluations/{CELL}/mlp_ce/pgd20/tally.csv"
    assert (other.folder / file).read_bytes() == (made.folder / file).read_bytes()


def test_tables_and_figures_are_redrawn_from_tallies_alone(made, make_project):
    other = make_project()
    kept = other.folder / "docs/evidence/nsr/smoke-code"
    source = made.folder / RUN
    wanted = ["**/tally.csv", "**/clean.json", f"{CELL}/mlp_ce/beat/arrays.safetensors"]
    for pattern in wanted:
        for path in (source / "evaluations").glob(pattern):
            copy = kept / "evaluations" / path.relative_to(source / "evaluations")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    facts = made.medrobust_facts("nsr", SETTINGS)
    (kept / "run.json").write_text(json.dumps(facts))
    settings = ["--config", "scale=smoke", "records_from=docs/evidence/nsr"]
    # What every artefact is drawn from is there; some are drawn.
    planned = other.snakemake("-n", "nsr", *settings)
    assert "nsr_figure7" in planned and not re.search(r"^(train|attack|tally)\b", planned, re.M)
    shown = ("tables/table1", "tables/reading", "figures/figure8")
    pages = [f"{RUN}/{name}.{'png' if 'figures' in name else 'html'}" for name in shown]
    other.snakemake(*pages, *settings)
    for name in [f"{name}.csv" for name in shown]:
        assert (other.folder / RUN / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize("scale", ["paper", "laptop"])
def test_the_text_protocol_is_complete(made, scale):
    output = made.snakemake(
        "-n", "nsr", "--config", f"scale={scale}", "protocol=text", "studies=[nsr]"
    )
    assert "train" in output and "nsr_table12" in output


def test_a_training_that_diverges_has_failed_and_the_other_is_reported(make_project):
    project = make_project()
    rate = "overrides={nsr: {models: {mlp_ce: {method: {learning_rate: 1.0e+30}}}}}"
    output = project.snakemake("nsr_tab1", *SETTINGS, rate)
    assert "TRAINING FAILED: nsr, mlp_ce" in output
    (path,) = project.folder.glob("results/smoke-code-*/nsr/tables/table1.csv")
    table = pd.read_csv(path).set_index("method")
    assert table.loc["MLP:ce", "status"].str.match(r"training failed \(loss not finite in e").all()
    assert table.loc["MLP:ce", ["reproduced", "ci_low", "ci_high"]].isna().all(axis=None)
    assert table.loc["MLP:loss2", "reproduced"].between(0, 1).all()
    text = path.with_suffix(".md").read_text()
    assert "| ce | training failed | training failed |" in text
