"""Which artefacts a study gets, what they are drawn from, and what is refused before any work."""

from __future__ import annotations

import pytest
import yaml
from medrobust.core.errors import InputError
from medrobust.experiment import catalogue
from medrobust.experiment.calls import call_of, compared_tables
from medrobust.experiment.entries import entries_of, entry_files
from medrobust.experiment.sources import build_graph
from medrobust.reporting.catalogue import Artefact, StudyParts, function_of
from medrobust.reporting.generic import GENERIC

PGD = {
    "name": "pgd",
    "select": "test",
    "options": {"num_steps": 2, "step_share": 0.1, "clip_min": -2.0, "clip_max": 3.0},
    "grid": {"epsilon": [0.1, 0.2]},
}
NEAREST = {"name": "hopskipjump", "options": {"restarts": 1, "max_iter": 2}}
ONE_RADIUS = {**PGD, "options": {**PGD["options"], "epsilon": 0.1}, "grid": {}}
IMAGES = {"name": "instance_norm_cnn", "convolutions": [{"channels": 4, "kernel": 5, "stride": 2}]}
#: What a study gets that names nothing.
UNASKED = ["accuracy", "robust_accuracy", "robust_curves", "distances"]
BINARY = ["binary_metrics", "binary_scores"]
COHORT = {"cohort": {"models": ["plain"]}, "datasets": {"moons": {"points": 5}}}


@pytest.fixture
def graph_of(root, tmp_path):
    """A function that makes the graph of a study with these attacks."""

    def make(attacks: dict, more_models=None, only_images=None, **more):
        study = {
            "title": "t",
            "citation": "c",
            "datasets": {"moons": {}},
            "models": {
                "plain": {
                    "label": "plain",
                    "architecture": {"name": "layer_norm_mlp"},
                    "method": {
                        "name": "composed_loss",
                        "loss": "cross_entropy",
                        "optimizer": "adam",
                        "max_epochs": 1,
                    },
                }
            },
            "attacks": attacks,
            **more,
        }
        study["models"] |= more_models or {}
        if only_images:
            study |= {"models": {"images": only_images}, "datasets": {"fashion_mnist": {}}}
        elif more_models:
            study["models"]["plain"]["datasets"] = ["moons"]
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        values = {"scale": "smoke", "studies": [str(tmp_path / "mine.yaml")]}
        return build_graph(values, root)

    return make


@pytest.mark.parametrize(
    ("attacks", "expected"),
    [
        ({"pgd": PGD}, ["accuracy", "robust_accuracy", "robust_curves"]),
        ({"near": NEAREST}, ["accuracy", "distances"]),
        # Those of two classes are to be named.
        ({"pgd": PGD, "near": NEAREST}, UNASKED),
        # At one radius, but on the cohort: no tally counts it, and it seeks no nearest point.
        ({"pgd": {**ONE_RADIUS, "select": "cohort"}}, ["accuracy"]),
        # Of the first points of all classes no tally is made.
        ({"pgd": {**PGD, "points": 7}}, ["accuracy"]),
    ],
)
def test_a_study_that_names_no_artefacts_gets_those_that_its_attacks_fill(
    graph_of, attacks, expected
):
    assert graph_of(attacks, **COHORT).study("mine").artefacts == expected


@pytest.mark.parametrize(
    ("artefact", "attacks", "remedy"),
    [
        ("distances", {"pgd": PGD}, "attack without epsilon"),
        ("robust_accuracy", {"near": NEAREST}, "`select: test` and an epsilon"),
        ("robust_curves", {"pgd": {**PGD, "points": 7}}, "without `points`"),
        ("binary_metrics", {"near": NEAREST}, "`select: test` and an epsilon"),
        ("binary_scores", {"pgd": PGD}, "keep_probabilities: true"),
    ],
)
def test_artefacts_that_nothing_fills_are_refused(graph_of, artefact, attacks, remedy):
    with pytest.raises(InputError, match=f"Nothing fills '{artefact}'") as caught:
        graph_of(attacks, artefacts=[artefact], **COHORT)
    assert "key artefacts" in caught.value.where and remedy in caught.value.remedy


def test_every_attack_goes_to_the_table_that_can_show_it(graph_of):
    # A boundary attack may take points of a split, too.
    near = {**NEAREST, "select": "test", "points": 3}
    graph = graph_of({"pgd": PGD, "near": near, "cohort": NEAREST}, **COHORT)
    assert graph.study("mine").artefacts == UNASKED
    place = "results/smoke-code/mine/evaluations/moons@standin/fold0/rep0/plain"
    (robust,) = entries_of(graph, "mine", GENERIC["robust_accuracy"])
    assert robust["tallies"] == {"pgd": f"{place}/pgd/tally.csv"}
    (entry,) = entries_of(graph, "mine", GENERIC["distances"])
    assert entry["attack_records"] == {
        name: f"{place}/{name}/records.parquet" for name in ("near", "cohort")
    }
    files = {"attack_records": list(entry["attack_records"].values())}
    assert entry_files([entry]) == files | {"states": [f"{place}/clean.json"]}
    call = call_of(graph, "build_artefact", study="mine", run="smoke-code", artefact="distances")
    assert call.inputs["attack_records"] == list(entry["attack_records"].values())


def test_tables_of_two_classes_show_data_sets_of_two(graph_of):
    datasets = {"moons": {}, "fashion_mnist": {}}
    plain = {"label": "plain", "architecture": IMAGES, "datasets": ["fashion_mnist"]}
    method = {"name": "composed_loss", "loss": "cross_entropy", "max_epochs": 1}
    several = {"keep_probabilities": True, "artefacts": BINARY, "datasets": datasets}
    graph = graph_of({"pgd": PGD}, more_models={"images": plain | {"method": method}}, **several)
    (entry,) = entries_of(graph, "mine", GENERIC["binary_scores"])
    place = "results/smoke-code/mine/evaluations/moons@standin/fold0/rep0/plain"
    assert entry["dataset"] == "moons" and entry["summary"] == f"{place}/clean.json"
    assert entry["tallies"] == {"pgd": f"{place}/pgd/tally.csv"}
    assert entry["probabilities"] == {"pgd": f"{place}/pgd/outcomes.parquet"}
    call = call_of(graph, "build_artefact", study="mine", run="smoke-code", artefact=BINARY[1])
    assert call.inputs["probabilities"] == [f"{place}/pgd/outcomes.parquet"]
    assert compared_tables("mine", graph.study("mine")) == BINARY
    with pytest.raises(InputError, match="data sets of 2 classes, and the study has none"):
        graph_of({"pgd": PGD}, only_images=plain | {"method": method}, artefacts=BINARY[:1])


def test_only_a_study_that_asks_keeps_probabilities(graph_of):
    wildcards = {
        "run": "smoke-code", "study": "mine", "dataset": "moons", "source": "standin", "fold": 0,
        "replicate": 0, "model": "plain",
    }  # fmt: skip
    more = {"attack": "pgd", "chunk": 0}
    asked, plain = graph_of({"pgd": PGD}, keep_probabilities=True), graph_of({"pgd": PGD})
    for job, given in (("evaluate_clean", wildcards), ("attack_chunk", wildcards | more)):
        with_them, without = (call_of(graph, job, **given).params for graph in (asked, plain))
        assert with_them["model"] == without["model"] | {"keep_probabilities": True}
        assert set(without["model"]) == {"architecture", "vote"}
        assert {**with_them, "model": 0} == {**without, "model": 0}
    settings = plain.study("mine").model_dump()
    assert "keep_probabilities" in settings and asked.study_hash("mine") != plain.study_hash("mine")


def test_entries_of_folds_are_told_apart(root, tmp_path, graph_of):
    graph = graph_of({"pgd": PGD}, datasets={"busi": {"folds": 2}}, artefacts=["accuracy"])
    entries = entries_of(graph, "mine", GENERIC["accuracy"])
    assert [entry["fold"] for entry in entries] == [0, 1]
    assert len({entry["summary"] for entry in entries}) == 2


def test_a_studys_own_artefact_wins(monkeypatch):
    own = Artefact("Own", "own", "m:f", "figure", ())
    parts = StudyParts(artefacts={"accuracy": own})
    monkeypatch.setattr(catalogue, "parts_of", lambda study: parts)
    known = catalogue.artefacts_of("any")
    assert known["accuracy"] is own and known["distances"] is GENERIC["distances"]
    assert set(catalogue.artefacts_of("any")) == set(GENERIC)


def test_studies_of_papers_can_name_generic_ones(root):
    values = {"studies": ["nsr"], "overrides": {"nsr": {"artefacts": ["table1", "accuracy"]}}}
    graph = build_graph(values, root)
    assert compared_tables("nsr", graph.study("nsr")) == ["table1"]
    call = call_of(
        graph, "build_artefact", study="nsr", run=graph.resolved.run, artefact="accuracy"
    )
    assert len(call.inputs["summaries"]) == 18


def test_generic_tables_are_compared_where_a_study_has_none_of_its_own(graph_of):
    study = graph_of({"pgd": PGD, "near": NEAREST}, **COHORT).study("mine")
    assert compared_tables("mine", study) == ["accuracy", "robust_accuracy", "distances"]


@pytest.mark.parametrize("name", list(GENERIC))
def test_everything_that_is_named_is_there(root, name):
    assert callable(function_of(GENERIC[name].draw))
    assert (root / f"workflow/report/{GENERIC[name].caption_file}.rst").is_file()
