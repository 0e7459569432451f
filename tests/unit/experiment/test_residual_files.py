"""Residual maps in the graph: of which models and attacks there are files, and what makes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from medrobust.core.errors import InputError
from medrobust.experiment import calls, catalogue, entries, gpus, picture, plan
from medrobust.experiment.evidence import drawn_from
from medrobust.experiment.sources import build_graph
from medrobust.reporting.catalogue import Artefact, StudyParts
from medrobust.reporting.generic import GENERIC
from medrobust.reporting.request import Entry

PGD = {
    "name": "pgd", "select": "test",
    "options": {"num_steps": 2, "step_share": 0.5, "epsilon": 0.02, "random_start": False},
}  # fmt: skip
METHOD = {"name": "adam_cross_entropy", "learning_rate": 1e-4, "batch_size": 8, "max_epochs": 1}
SMALL = {"name": "resnet50", "stages": [4, 3], "blocks": [1, 1]}
NETWORKS = {
    "largest": SMALL,
    "second": SMALL | {"pooling": "drop_max"},
    "plain": {"name": "batch_norm_resnet18", "stages": [4, 6], "stem": "cifar"},
}
STUDY = {
    "title": "t",
    "citation": "c",
    "datasets": {"busi": {"folds": 2, "replicates": 2}},
    "models": {
        name: {"label": name, "architecture": network, "method": METHOD}
        for name, network in NETWORKS.items()
    },
    "attacks": {
        "kept": PGD | {"keep_arrays": 3},
        "one": PGD | {"keep_arrays": 1, "models": ["second"], "points": 4},
        "counted": PGD,
    },
    "artefacts": ["residual_maps", "tally_alone"],
}
#: Any function that draws: nothing is drawn here.
DRAW = GENERIC["accuracy"].draw
PARTS = StudyParts(
    artefacts={
        "residual_maps": Artefact("Figure 2", "maps", DRAW, "figure", ("residuals",)),
        "tally_alone": Artefact("Table 1", "counts", DRAW, "table", ("tallies",)),
    }
)


@pytest.fixture
def graph(root, tmp_path, monkeypatch):
    """A study of networks with one first pooling, with the other, and with none."""
    parts_of = catalogue.parts_of
    monkeypatch.setattr(catalogue, "parts_of", lambda s: PARTS if s == "mine" else parts_of(s))
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return build_graph({"scale": "smoke", "studies": [str(tmp_path / "mine.yaml")]}, root)


PLACE = "results/smoke-code/mine/evaluations/busi@standin/fold0/rep0"


def work(graph, model="second", attack="kept") -> dict:
    return vars(graph.cells("mine")[0]) | {"model": model, "attack": attack}


def test_the_first_training_of_a_network_with_a_pooling_has_maps(graph):
    found = entries.entries_of(graph, "mine", PARTS.artefacts["residual_maps"])
    assert all(Entry(**entry).residuals == entry["residuals"] for entry in found)
    there = {(e["model"], e["fold"], e["replicate"]): e["residuals"] for e in found}
    assert len(there) == 3 * 2 * 2
    both = {a: f"{PLACE}/second/{a}/residuals.safetensors" for a in ("kept", "one")}
    assert there.pop(("second", 0, 0)) == both
    assert there.pop(("largest", 0, 0)) == {"kept": f"{PLACE}/largest/kept/residuals.safetensors"}
    assert not any(there.values())


def test_a_figure_waits_for_them_and_the_plan_counts_them(graph):
    wildcards = {"study": "mine", "run": "smoke-code", "artefact": "residual_maps"}
    files = calls.call_of(graph, "build_artefact", **wildcards).inputs["residuals"]
    assert len(files) == 3 and set(files) <= {str(file) for file in drawn_from(graph, "mine")}
    first, *others = graph.cells("mine")
    # Beside each, the joining of what a tally does not join.
    assert entries.knowledge_jobs(graph, first, "second") == 2 + 1
    assert entries.knowledge_jobs(graph, first, "largest") == 1 + 1
    assert entries.knowledge_jobs(graph, first, "plain") == 0
    assert not any(entries.knowledge_jobs(graph, cell, "second") for cell in others)
    planned = plan._plan_study(graph, "mine", {}).jobs
    graph.study("mine").artefacts.remove("residual_maps")
    assert plan._plan_study(graph, "mine", {}).jobs == planned - 5 - 1  # and the figure


def test_a_job_reads_data_members_and_kept_arrays(graph):
    call = calls.call_of(graph, "map_residuals", **work(graph))
    assert call.outputs == {"out": f"{PLACE}/second/kept/residuals.safetensors"}
    assert call.inputs["arrays"] == f"{PLACE}/second/kept/arrays.safetensors"
    assert call.inputs["members"] == graph.member_files(graph.cells("mine")[0], "second")
    assert {"x", "y", "split", "card"} <= set(call.inputs)
    joined = calls.call_of(graph, "gather_records", **work(graph))
    assert joined.outputs["joined_arrays"] == call.inputs["arrays"]
    assert call.params["model"]["architecture"]["pooling"] == "drop_max"
    assert "map_residuals" in gpus.ON_GPU


def test_what_has_no_maps_is_refused_before_any_work(graph):
    with pytest.raises(InputError, match="no first pooling"):
        calls.call_of(graph, "map_residuals", **work(graph, "plain"))
    with pytest.raises(InputError, match=r"(?s)keeps no adversarial versions.*keep_arrays"):
        calls.call_of(graph, "map_residuals", **work(graph, attack="counted"))
    with pytest.raises(InputError, match=r"keeps no adversarial versions .* 'largest'"):
        calls.call_of(graph, "map_residuals", **work(graph, "largest", "one"))


def test_the_picture_asks_for_them_where_they_are_drawn(graph):
    asked = [
        (wildcards["model"], wildcards["attack"])
        for job, wildcards in calls.work_of(graph, "mine")
        if wildcards.get("replicate") == wildcards.get("fold") == 0
        and "map_residuals" in picture._beside(job, wildcards, graph)
    ]
    assert asked == [("largest", "kept"), ("second", "kept"), ("second", "one")]
    drawn = {(a.title, b.title) for a, b in picture.edges(graph)}
    assert ("Records, tallies, maps", "Tables, figures, claims") in drawn


def test_committed_maps_are_drawn_from_where_they_lie(graph, root, tmp_path):
    kept = tmp_path / "evidence/mine/smoke-code"
    (kept / "evaluations/busi@standin").mkdir(parents=True)
    (kept / "run.json").write_text(json.dumps(graph.run_facts("mine")))
    redrawn = build_graph(
        {"scale": "smoke", "studies": [str(tmp_path / "mine.yaml")],
         "records_from": "evidence/mine"}, root,
    )  # fmt: skip
    wildcards = {"study": "mine", "run": "smoke-code", "artefact": "residual_maps"}
    files = calls.call_of(redrawn, "build_artefact", **wildcards).inputs["residuals"]
    own = calls.call_of(graph, "build_artefact", **wildcards).inputs["residuals"]
    moved = [file.replace("results/smoke-code/mine", str(kept)) for file in own]
    assert [str(Path(file).resolve()) for file in files] == moved
