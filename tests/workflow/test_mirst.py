"""The study mirst from stand-ins to its tables, figures and claims, on three of its models."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from medrobust.experiment.config import read_yaml
from medrobust.studies.mirst.catalogue import ARTEFACTS

from tests.workflow.conftest import Project

MODELS = ("baseline", "mirst", "mirst_dm")
EXTRAS = ("busi_64", "pgd10", "pgd10_targeted", "cw10_on")
RUN = "results/smoke-code/mirst"


def settings_of(project: Project) -> list[str]:
    """Returns the settings of a run of three models on small images, with three more attacks."""
    models = read_yaml(project.folder / "config/studies/mirst.yaml")["models"]
    named = [name for name, one in models.items() if name not in MODELS and not one.get("extra")]
    return [
        "--config", "scale=smoke", "studies=[mirst]", f"include_extras=[{','.join(EXTRAS)}]",
        f"leave_out=[{','.join(['bus', *named])}]",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(make_project) -> Project:
    """A project in which mirst is done for three models."""
    project = make_project()
    project.shrink_standins(60, 20)
    project.snakemake("mirst", *settings_of(project))
    return project


def test_everything_that_the_paper_has_is_made(made):
    folder = made.folder / RUN
    kinds = {"table": "tables", "figure": "figures", "claims": "claims"}
    for name, artefact in ARTEFACTS.items():
        suffix = ".png" if artefact.kind == "figure" else ".html"
        file = folder / kinds[artefact.kind] / f"{name}{suffix}"
        assert file.stat().st_size > 2_000, name
    table = pd.read_csv(folder / "tables/table3.csv", keep_default_na=False)
    ran = table[table["dataset"] == "busi_64"]
    assert set(ran["method"]) == {"MIRST w/o DM", "MIRST w/ DM"} and len(ran) == 2 * 2 * 4
    assert set(ran["folds"]) == {"2"} and set(ran["data"]) == {"SYNTHETIC"}
    printed = table[table["published"] != ""]
    assert len(printed) == 32 and set(printed["status"]) == {"not run"}
    compared = pd.read_csv(folder / "comparison/comparison.csv")
    assert len(compared) == 104


def test_models_that_began_at_random_are_told_as_such(made):
    caption = json.loads((made.folder / RUN / "tables/table2.provenance.json").read_text())
    assert "RANDOM INIT" in caption["caption"] and caption["synthetic"]
    claims = pd.read_csv(made.folder / RUN / "claims/claims.csv")
    assert set(claims["verdict"]) == {"cannot tell"}


def test_pgd_and_cw_take_the_same_steps_on_two_classes(made):
    frame = pd.read_csv(made.folder / RUN / "tables/attacks.csv", keep_default_na=False)
    ran = frame[frame["status"] == "reproduced"].astype({"points": int, "largest_change": float})
    for second in ("PGD10, targeted", "CW10, no stop"):
        same = ran[(ran["first"] == "PGD10") & (ran["second"] == second)]
        assert len(same) == len(MODELS) and same["points"].sum() > 0
        assert set(same["only_first"]) == {"0"} == set(same["only_second"])
        assert same["largest_change"].max() < 1e-4


def test_residual_maps_are_drawn_of_both_poolings(made):
    drawn = pd.read_csv(made.folder / RUN / "figures/figure2.csv")
    own = dict(zip(drawn["model"], drawn["own_pooling"], strict=True))
    assert own == {"baseline": "max", "MIRST": "max", "MIRST with drop-max": "drop_max"}
    attacked = drawn[drawn["attacked"]]
    assert len(attacked) and (attacked[["change_max", "change_drop_max"]] > 0).all(axis=None)
    # What is misclassified without attack stays as it is.
    assert (drawn[~drawn["attacked"]][["change_max", "change_drop_max"]] == 0).all(axis=None)


def test_all_is_redrawn_from_committed_records(made, make_project):
    other = make_project()
    kept = other.folder / "docs/evidence/mirst/smoke-code"
    source = made.folder / RUN
    for pattern in (
        *("**/tally.csv", "**/clean.json", "**/outcomes.parquet", "**/residuals.safetensors"),
        *("**/image_*/arrays.safetensors", "**/image_*/records.parquet"),
    ):
        for path in (source / "evaluations").glob(pattern):
            copy = kept / "evaluations" / path.relative_to(source / "evaluations")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (kept / "run.json").write_text(json.dumps(made.medrobust_facts("mirst", settings_of(made))))
    settings = [
        "--config", "scale=smoke", "studies=[mirst]", "records_from=docs/evidence/mirst",
    ]  # fmt: skip
    shown = ("tables/gains", "figures/figure1", "figures/figure2", "claims/claims")
    pages = [f"{RUN}/{name}.{'png' if 'figures' in name else 'html'}" for name in shown]
    other.snakemake(*pages, *settings)
    for name in shown:
        assert (other.folder / RUN / f"{name}.csv").read_bytes() == (
            source / f"{name}.csv"
        ).read_bytes()
