"""The study ima_segmentation from generated volumes to its tables, figures and claims."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from tests.unit.slice_files import needs_nnunet
from tests.workflow.conftest import Project

RUN = "results/smoke-code/ima_segmentation"
SETTINGS = [
    "--config", "scale=smoke", "studies=[ima_segmentation]",
    "leave_out=[msd_heart, msd_prostate, hippocampus_adv1, hippocampus_adv5, hippocampus_adv15]",
]  # fmt: skip
pytestmark = needs_nnunet


@pytest.fixture(scope="module")
def made(make_project) -> Project:
    """A project in which two models are trained on the hippocampus."""
    project = make_project()
    project.snakemake("ima_segmentation", *SETTINGS)
    return project


def test_every_table_and_figure_is_made(made):
    folder = made.folder / RUN
    for name in ("figure10", "figure11", "figure12", "contours_hippocampus", "contours_heart"):
        assert (folder / f"figures/{name}.png").stat().st_size > 2_000, name
    printed = 0
    for number in range(14, 20):
        table = pd.read_csv(folder / f"tables/table{number}.csv", keep_default_na=False)
        printed += (table["published"] != "").sum()
        ran = table[table["reproduced"] != ""]
        assert set(ran["method"]) == ({"nnUnet", "IMA15"} if number in (16, 17) else set())
    assert printed == 130
    compared = pd.read_csv(folder / "comparison/comparison.csv")
    assert len(compared) == 130
    assert set(compared["artefact"]) == {f"Table {number}" for number in range(14, 20)}
    assert len(pd.read_csv(folder / "claims/claims.csv")) >= 13


def test_what_is_drawn_is_marked_as_generated(made):
    facts = json.loads((made.folder / RUN / "figures/figure11.provenance.json").read_text())
    assert facts["synthetic"] and "SYNTHETIC" in facts["title"]


def test_nothing_is_done_twice(made):
    output = made.snakemake("-n", "ima_segmentation", *SETTINGS)
    assert not [job for job in ("slice_volumes", "train_pixels", "attack_pixels") if job in output]
