"""What tables, claims and comparison say of models whose training failed."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
from medrobust.reporting import artefacts, comparison
from medrobust.reporting.artefacts import FailedTraining, has_results
from medrobust.studies.nsr import results as nsr_results
from medrobust.studies.nsr.results import DATASET
from medrobust.studies.signnet import tables as signnet
from medrobust.studies.signnet.results import SIGNALS

from tests.unit.drawing import draw
from tests.unit.nsr_files import CONTEXT, labels_of, made_entry, made_request

REASON = "loss not finite in epoch 3"
GONE = FailedTraining(DATASET, "MLP:ce", 0, 0, REASON)
STATUS = f"training failed ({REASON})"
SENTENCE = (
    "Training failed, nothing of it is shown or counted: MLP:ce on MIT-BIH(balanced test) "
    f"({REASON})."
)


@pytest.fixture(scope="module")
def published(root):
    return root / "resources/published/nsr.csv"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, published):
    """Returns the folder of a table, figures and the claims of a run whose MLP:ce failed."""
    folder = tmp_path_factory.mktemp("nsr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nsr_results, "RESAMPLES", 199)
        labels = labels_of((60, 12, 31, 8, 40))
        entries = [
            made_entry(folder, labels, model, ("pgd20", "pgd100"), published, per_class=8)
            for model in ("MLP:mse", "CNN:ce")
        ]
        context = dataclasses.replace(CONTEXT, failed=(GONE,))
        for name in ("table1", "table3", "figure4", "claims"):
            draw(
                "nsr",
                name,
                made_request(folder, name, published, entries, per_class=8, context=context),
            )
    return folder


def test_rows_cells_and_caption_of_a_table_say_so(drawn):
    frame = pd.read_csv(drawn / "table1.csv", dtype={"epsilon": str})
    status = frame.groupby("method")["status"].unique().map(list)
    assert status["MLP:ce"] == [STATUS]
    assert status["MLP:mse"] == ["reproduced"] and status["MLP:loss2"] == ["not run"]
    mine = frame[frame["method"] == "MLP:ce"]
    assert mine[["reproduced", "ci_low", "n", "difference", "source"]].isna().all(axis=None)
    assert mine["published"].notna().all()
    text = (drawn / "table1.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ce | training failed")]
    # Reproduced, and the difference to print.
    assert [line.count("training failed") for line in lines] == [7, 7]
    assert SENTENCE in text.replace("\\", "")
    facts = json.loads((drawn / "table1.provenance.json").read_text())
    assert SENTENCE in facts["caption"] and facts["run"]["failed"][0]["reason"] == REASON


def test_the_same_method_of_the_other_network_did_not_fail(drawn):
    frame = pd.read_csv(drawn / "table3.csv", dtype={"epsilon": str})
    assert not frame["status"].str.contains("failed").any()


def test_the_comparison_does_not_judge_it(drawn, published):
    frame = comparison.build_comparison(
        "nsr", published, [drawn / "table1.csv"], drawn / "c", CONTEXT, {DATASET: "kaggle"}
    )
    mine = frame[(frame["artefact"] == "Table 1") & (frame["row"] == "MLP:ce")]
    assert mine["verdict"].eq("not run").all() and mine["reason"].eq(STATUS).all()
    assert len(mine) == 7 and mine["reproduced"].isna().all()


def test_figures_and_claims_say_so(drawn):
    for name in ("figure4", "claims"):
        facts = json.loads((drawn / f"{name}.provenance.json").read_text())
        assert SENTENCE in facts["caption"]
    claims = pd.read_csv(drawn / "claims.csv")
    assert claims["reason"].str.contains("training failed: MLP:ce").any()


def test_each_replicate_is_named():
    gone = (GONE, dataclasses.replace(GONE, replicate=2, reason="weights not finite"))
    text = artefacts.failed_text(gone)
    assert "replicate 0, fold 0 (loss" in text and "replicate 2, fold 0 (weights" in text
    assert artefacts.failed_text(()) == ""


def test_provenance_of_sound_runs_has_no_such_key(tmp_path):
    path = artefacts.write_provenance(
        tmp_path / "a", [], title="t", caption="c", context=CONTEXT, sources={}, n="", budget=""
    )
    assert "failed" not in json.loads(path.read_text())["run"]


@pytest.mark.parametrize("dataset", ["MIT-BIH", "Combined"])
def test_signnet_says_so_on_the_data_set_and_on_the_average(root, tmp_path, dataset):
    gone = FailedTraining("MIT-BIH", "MLP", 0, 0, REASON)
    context = dataclasses.replace(CONTEXT, study="signnet", failed=(gone,))
    published = root / "resources/published/signnet.csv"
    signnet.build_distances(SIGNALS, [], published, tmp_path / "table4", context, "HopSkipJump")
    frame = pd.read_csv(tmp_path / "table4.csv").set_index(["dataset", "method"])
    name = dataset if dataset == "MIT-BIH" else signnet.COMBINED
    assert frame.loc[(name, "MLP"), "status"] == STATUS
    assert frame.loc[("PTBD", "MLP"), "status"] == "not run"
    assert not frame["status"].map(has_results).any()
    text = (tmp_path / "table4.md").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("| MLP |"))
    assert line.count("training failed") == 4 and line.count("not run") == 2
