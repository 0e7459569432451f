"""The fourth paper as a study: all that its file names is there and asks for what the paper has."""

from __future__ import annotations

from pathlib import Path

import pytest
from medrobust.attacks.contract import attack_of
from medrobust.experiment import captions
from medrobust.experiment.costs import attack_unit_seconds, training_unit_seconds
from medrobust.experiment.sources import build_graph

ROOT = Path(__file__).parents[3]
STUDY = str(Path(__file__).with_name("mirst.yaml"))


@pytest.fixture(scope="module")
def graph():
    return build_graph({"studies": [STUDY], "scale": "smoke", "include_extras": True}, ROOT)


def test_every_model_is_trained_on_five_folds_of_each_data_set(graph):
    study = graph.study("mirst")
    assert list(study.datasets) == ["bus", "bus_together", "busi", "busi_together"]
    assert {cell.fold for cell in graph.cells("mirst")} == set(range(5))
    assert len([m for m in study.models.values() if not m.extra]) == 12
    pooled = {m.architecture["pooling"] for m in study.models.values()}
    assert pooled == {"max", "drop_max"}
    names = {m.method["name"] for m in study.models.values()}
    assert names == {
        *("adam_cross_entropy", "multi_instance", "gradient_regularization"),
        *("local_linearity", "trades"),
    }
    assert all(len(graph.attacked_models("mirst", a, "bus")) == 17 for a in study.attacks)


def test_stand_ins_begin_at_random_and_captions_say_so(graph):
    assert len(graph.random_init("mirst")) == len(graph.study("mirst").models)
    assert "RANDOM INIT" in captions.about(graph, "mirst")["scale_text"]


def test_weights_that_take_points_as_they_are_get_them_so():
    graph = build_graph(
        {"studies": [STUDY], "scale": "paper", "sources": {"bus": "official"}}, ROOT
    )
    # SimCLR's have no address: where the file is absent, these models begin at random.
    named = {m.initial_weights for m in graph.study("mirst").models.values()}
    assert named == {"resnet50_imagenet", "random"}
    for name, model in graph.study("mirst").models.items():
        scaled = "mean" not in model.architecture
        assert scaled == name.endswith("_imagenet"), name


def test_the_plan_knows_what_every_attack_costs(graph):
    """A pass and its gradient, two units, take less than a training step, which does more."""
    study = graph.study("mirst")
    networks = {model.architecture["name"] for model in study.models.values()}
    values = graph.values("bus")
    assert values == 3 * 224 * 224
    for attack in {attack.name for attack in study.attacks.values()}:
        assert networks <= set(attack_of(attack).unit_seconds)
        for network in networks:
            step = training_unit_seconds("adam_cross_entropy", network, values=values)
            assert 0.5 * step < 2 * attack_unit_seconds(attack, network, values=values) < step
