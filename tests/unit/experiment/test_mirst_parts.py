"""The fourth paper as a study: all that its file names is there and asks for what the paper has."""

from __future__ import annotations

from pathlib import Path

import pytest
from medrobust.attacks.contract import attack_of
from medrobust.experiment import captions
from medrobust.experiment.costs import attack_unit_seconds, training_unit_seconds
from medrobust.experiment.sources import build_graph
from medrobust.studies.mirst.catalogue import ARTEFACTS, COMPARED, PRINTED
from medrobust.studies.mirst.together import TOGETHER

ROOT = Path(__file__).parents[3]
STUDY = "mirst"


@pytest.fixture(scope="module")
def graph():
    return build_graph({"studies": [STUDY], "scale": "smoke", "include_extras": True}, ROOT)


def test_every_model_is_trained_on_five_folds_of_each_data_set(graph):
    # At this scale on two of them.
    assert {use.folds for use in graph.study("mirst").datasets.values()} == {2}
    study = graph.study("mirst")
    assert list(study.datasets) == [
        *("bus", "bus_together", "busi", "busi_together", "busi_64", "busi_64_together")
    ]
    assert {cell.fold for cell in graph.cells("mirst")} == {0, 1}
    assert all(graph.registry[name].folds == 5 for name in study.datasets)
    assert len([m for m in study.models.values() if not m.extra]) == 12
    pooled = {m.architecture["pooling"] for m in study.models.values()}
    assert pooled == {"max", "drop_max"}
    names = {m.method["name"] for m in study.models.values()}
    assert names == {
        *("adam_cross_entropy", "multi_instance", "gradient_regularization"),
        *("local_linearity", "trades"),
    }
    whole = [a for a, attack in study.attacks.items() if attack.models is None]
    assert {"fgsm", "pgd20", "cw10", "cw10_start"} <= set(whole)
    assert all(len(graph.attacked_models("mirst", a, "bus")) == 23 for a in whole)


def test_choices_differ_from_their_default_in_one_thing(graph):
    models = graph.study("mirst").models
    for name, default in {
        **dict.fromkeys(("mirst_first", "mirst_spread", "mirst_weakest"), "mirst"),
        **dict.fromkeys(("mirst_short", "mirst_start"), "mirst"),
        "gr_squared": "gr",
        **{f"{one}_dm": one for one in ("baseline", "gr", "at", "llr", "trades", "rst", "mirst")},
    }.items():
        one, other = ({**models[key].architecture, **models[key].method} for key in (name, default))
        assert len({key for key in one if one[key] != other[key]}) == 1, name


def test_attacks_without_a_bound_of_their_own_are_those_of_print(graph):
    specs = {name: attack.options for name, attack in graph.study("mirst").attacks.items()}
    assert {one["epsilon"] for one in specs.values()} == {0.0196078431}
    printed = [specs[name] for name in ("fgsm", "pgd20", "cw10")]
    assert [one["num_steps"] for one in printed] == [1, 20, 10]
    assert not any(one["random_start"] for one in printed)
    for name in ("fgsm", "pgd20", "cw10"):
        assert specs[f"image_{name}"] == specs[name]
    assert specs["maps"] == specs["pgd20"]


def test_names_of_models_and_data_sets_are_those_that_tables_ask_for(graph):
    study = graph.study("mirst")
    labels = {model.label for model in study.models.values()}
    asked = {name for artefact in ARTEFACTS.values() for name in artefact.models}
    assert asked <= labels and set(PRINTED["2"]) <= labels
    names = {use.published_name or name for name, use in study.datasets.items()}
    assert names == {*TOGETHER, *TOGETHER.values()}
    attacks = {name for artefact in ARTEFACTS.values() for name in artefact.attacks}
    assert attacks == set(study.attacks)
    assert {name for pair in COMPARED for name in pair[:2]} <= set(study.attacks)


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
