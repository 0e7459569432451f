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


MORE = {"model": "other", "than": "plain", "attack": "pgd", "epsilon": 0.1}
OTHER = {
    "label": "another",
    "published_name": "Other",
    "architecture": {"name": "layer_norm_mlp"},
    "method": {"name": "composed_loss", "loss": "cross_entropy", "max_epochs": 1},
}


@pytest.fixture
def claiming(graph_of):
    """A function that makes the graph of a study with one sentence."""

    def make(test: str = "more", said: dict = MORE, models=None, attacks=None, **more):
        attacks = {"pgd": PGD, "near": NEAREST} | (attacks or {})
        sentence = {"sentence": "It is so", test: said} | more.pop("sentence", {})
        more = COHORT | {"claims": {"mine": sentence}} | more
        return graph_of(attacks, more_models={"other": OTHER} | (models or {}), **more)

    return make


def test_a_study_with_sentences_gets_them_judged(claiming):
    graph = claiming()
    assert graph.study("mine").artefacts == [*UNASKED, "claims"]
    call = call_of(graph, "build_artefact", study="mine", run="smoke-code", artefact="claims")
    assert call.params["claims"] == {
        "mine": {
            "sentence": "It is so",
            "where": "the study's file",
            "datasets": ["moons"],
            "test": "more",
            "model": "Other",
            "than": ["plain"],
            "attack": "pgd",
            "levels": [0.1],
            "value": 0.0,
        }
    }
    place = "results/smoke-code/mine/evaluations/moons@standin/fold0/rep0"
    assert f"{place}/other/pgd/tally.csv" in call.inputs["tallies"]
    table = call_of(graph, "build_artefact", study="mine", run="smoke-code", artefact="accuracy")
    assert table.params["claims"] == {}
    assert graph.artefact("mine", "claims") == "results/smoke-code/mine/claims/claims.html"
    assert compared_tables("mine", graph.study("mine")) == UNASKED[:2] + UNASKED[3:]


def test_sentences_change_no_records(claiming, graph_of):
    with_one, without = claiming(), claiming(claims={})
    assert without.study("mine").artefacts == UNASKED
    names = without.run_facts("mine")["study"]
    assert "claims" not in names and with_one.study_hash("mine") != without.study_hash("mine")


@pytest.mark.parametrize(
    ("test", "changes", "message", "key"),
    [
        ("more", {"model": "othr"}, "model 'othr'. Did you mean 'other'", "more.model"),
        ("more", {"than": "third"}, "model 'third'", "more.than"),
        ("more", {"than": "other"}, "compared with others", "more.than"),
        ("more", {"than": []}, "compared with others", "more.than"),
        ("more", {"attack": "pdg"}, "attack 'pdg'", "more.attack"),
        ("more", {"epsilon": 0.3}, "noise level 0.3", "more.epsilon"),
        ("more", {"epsilon": [0.1, 0.1]}, "each once", "more.epsilon"),
        ("more", {"epsilon": None}, "is to be said", "more.epsilon"),
        ("more", {"attack": None}, "without an attack", "more.epsilon"),
        ("more", {"attack": "near"}, "has no epsilon", "more.epsilon"),
        ("more", {"attack": "few"}, "no accuracy is counted", "more.attack"),
        ("more", {"attack": "aimed"}, "not made on the model 'other'", "more.attack"),
        ("more", {"by": 3.0}, "share of points", "more.by"),
        ("at_least", {"value": 50.0}, "share of points", "at_least.value"),
        ("at_most", {"value": -0.1}, "share of points", "at_most.value"),
        ("more", {"vaule": 0.5}, "unknown key 'vaule'", "more"),
        ("at_least", {}, "this key is required", "at_least.value"),
    ],
)
def test_sentences_that_the_study_cannot_tell_are_refused(claiming, test, changes, message, key):
    said = {name: value for name, value in MORE.items() if test == "more" or name != "than"}
    more = {"few": {**PGD, "points": 7}, "aimed": {**PGD, "models": ["plain"]}}
    with pytest.raises(InputError) as caught:
        claiming(test, said | changes, attacks=more)
    assert message in str(caught.value)
    assert f"mine.yaml, key claims.mine.{key}" in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message", "key"),
    [
        ({"sentence": {"datasets": ["mons"]}}, "data set 'mons'", "claims.mine.datasets"),
        ({"sentence": {"at_most": {"model": "plain", "value": 1}}}, "found 2", "claims.mine"),
        ({"artefacts": ["accuracy"]}, "`claims` is not among the artefacts", "artefacts"),
        ({"claims": {}, "artefacts": ["claims"]}, "Nothing fills 'claims'", "artefacts"),
        (
            {"datasets": {"moons": {"points": 5, "without": ["other"]}}},
            "No data set is one of all its models",
            "claims.mine",
        ),
    ],
)
def test_sentences_that_nothing_judges_are_refused(claiming, more, message, key):
    with pytest.raises(InputError) as caught:
        claiming(**more)
    assert message in str(caught.value) and f"mine.yaml, key {key}" in str(caught.value)


def test_a_study_with_claims_in_python_has_them_there(monkeypatch, claiming):
    parts = StudyParts(artefacts={"claims": Artefact("Own", "own", "m:f", "claims", ())})
    monkeypatch.setattr(catalogue, "parts_of", lambda study: parts)
    with pytest.raises(InputError, match="The claims of mine are in Python") as caught:
        claiming(artefacts=["claims"])
    assert "mine.yaml, key claims" in caught.value.where


def test_what_a_run_leaves_out_stays_in_the_sentence(root, tmp_path, claiming):
    claiming()  # writes the file
    values = {"scale": "smoke", "studies": [str(tmp_path / "mine.yaml")], "leave_out": ["other"]}
    graph = build_graph(values, root)
    call = call_of(graph, "build_artefact", study="mine", run="smoke-code", artefact="claims")
    found = call.params["claims"]["mine"]
    assert (found["model"], found["than"], found["datasets"]) == ("other", ["plain"], ["moons"])


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
