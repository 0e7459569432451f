"""Models against the form of a data set, before any work: fits, is lowered, or is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import yaml
from medrobust.core.errors import InputError
from medrobust.core.registry import ARCHITECTURES, METHODS
from medrobust.experiment import captions
from medrobust.experiment.calls import call_of
from medrobust.experiment.config import model_specs, resolve
from medrobust.experiment.layout import Cell
from medrobust.experiment.plan import format_plan, make_plan
from medrobust.experiment.sources import build_graph
from medrobust.models.contract import architecture_of
from medrobust.training.contract import method_of

from tests import registered

STUDY = """
title: an example
citation: none
datasets:
  mine: {points: 5}
models:
  scd:
    label: SCD
    architecture: {name: sign_network}
    method: {name: scd, loss: zero_one, row_share: 0.5, features_per_iteration: 128}
  forest:
    label: forest
    architecture: {name: forest}
    method: {name: bagged_trees, max_features: 30}
  cnn:
    label: CNN
    architecture: {name: cnn1d}
    method: {name: adam_cross_entropy, learning_rate: 0.001, max_epochs: 1}
attacks:
  hopskipjump:
    name: hopskipjump
    options: {restarts: 1}
cohort:
  models: [scd, forest, cnn]
"""


def values(tmp_path, length: int, change=lambda study: None, counts=None, **settings):
    study = yaml.safe_load(STUDY)
    change(study)
    file = tmp_path / "mystudy.yaml"
    file.write_text(json.dumps(study), encoding="utf-8")
    entry = {
        "adapter": "csv_table",
        "classes": ["ill", "well"],
        "shape": [length],
        "options": {"file": "t.csv", "label": "state"},
        "counts": {"official": counts or {}},
    }
    return {"studies": [str(file)], "own_datasets": {"mine": entry}} | settings


def graph_of(root, *arguments, **settings):
    return build_graph(values(*arguments, **settings), root)


def without_cnn(study):
    study["datasets"]["mine"]["without"] = ["cnn"]


def test_numbers_larger_than_a_point_are_lowered_on_data_of_ones_own(root, tmp_path):
    graph = graph_of(root, tmp_path, 20, without_cnn)
    cell = graph.cells("mystudy")[0]
    methods = {name: model.method for name, model in graph.trained(cell).items()}
    assert methods["scd"]["features_per_iteration"] == 20
    assert methods["forest"]["max_features"] == 20 and set(methods) == {"scd", "forest"}
    work = {**vars(cell), "model": "scd", "first": 0, "last": 0}
    called = call_of(graph, "train_members", **work).params["model"]["method"]
    assert called["features_per_iteration"] == 20
    # Who reads the plan or a caption is told.
    text = "On mine, whose points have 20 values: features per iteration 20 (the study's file: 128)"
    assert text in captions.run_facts(graph, "mystudy")["unlike_the_paper"]
    assert text in captions.about(graph, "mystudy")["scale_text"]
    assert f"lowered to what the data hold: {text}" in format_plan(make_plan(graph), graph)


def test_where_points_hold_enough_nothing_is_changed_or_told(root, tmp_path):
    graph = graph_of(root, tmp_path, 128)
    cell = graph.cells("mystudy")[0]
    assert graph.trained(cell) == graph.study("mystudy").models
    assert captions.run_facts(graph, "mystudy")["unlike_the_paper"] == ""
    assert "lowered" not in format_plan(make_plan(graph), graph)


def test_on_a_data_set_of_a_paper_such_a_number_is_refused(root, tmp_path):
    def printed(study):
        study["datasets"]["mine"]["published_name"] = "MINE"
        study["models"].pop("cnn")
        study["cohort"]["models"].remove("cnn")

    with pytest.raises(InputError, match=r"(?s)128.*of mine have only 20.*at most 20"):
        graph_of(root, tmp_path, 20, printed)
    change = {"signnet": {"models": {"scd01": {"method": {"features_per_iteration": 188}}}}}
    with pytest.raises(InputError, match=r"(?s)188.*mitbih have only 187.*models.scd01.method"):
        build_graph({"studies": ["signnet"], "overrides": change}, root)


def test_published_studies_keep_their_settings(root):
    graph = build_graph({"include_extras": True, "scale": "smoke"}, root)
    for name, study in graph.resolved.studies.items():
        for cell in graph.cells(name):
            for model, trained in graph.trained(cell).items():
                assert trained == study.models[model]


@pytest.mark.parametrize(
    ("length", "says"),
    [(20, "needs signals of at least 32 samples"), (31, r"without: \[cnn\]")],
)
def test_a_network_that_does_not_fit_is_refused_before_work(root, tmp_path, length, says):
    with pytest.raises(InputError, match=says) as caught:
        graph_of(root, tmp_path, length)
    said = str(caught.value)
    assert "'cnn' cannot be trained on mine" in said and "key models.cnn" in said
    graph_of(root, tmp_path, 32)


def _shapes():
    signals = [(n,) for n in (1, 2, 5, 31, 32, 40, 187)]
    images = [(c, s, s) for c, s in itertools.product((1, 3), (1, 4, 8, 16, 28, 32, 33))]
    return [*signals, *images, (1, 32, 20), (4, 4)]


@pytest.mark.parametrize("name", registered.of_points(ARCHITECTURES))
def test_what_fits_is_what_training_takes(name):
    """The check before work and the first values of members refuse the same shapes."""
    entry, spec = architecture_of(name), registered.architecture_spec(name)
    if entry.initial_parameters is None:
        assert entry.fits is None
        return
    for shape, classes in itertools.product(_shapes(), (2, 3)):

        def refused(check, *arguments):
            try:
                check(*arguments)
            except InputError as error:
                return error.what
            return None

        late = refused(entry.initial_parameters, spec, shape, classes, [1])
        early = refused(entry.fits, spec, shape, classes) if entry.fits else None
        assert early == late, (shape, classes)


@pytest.mark.parametrize("name", registered.of_points(METHODS))
def test_bounded_settings_are_settings(name):
    method = method_of(name)
    if method.most is not None:
        assert set(method.most((3, 4))) <= set(method.spec.model_fields)
        assert set(method.most((3, 4)).values()) == {12}


def test_attacks_are_held_against_range_and_classes(root, tmp_path):
    def clipped(study):
        without_cnn(study)
        study["attacks"]["hopskipjump"]["options"] |= {"clip_min": 0.2, "clip_max": 1.0}

    with pytest.raises(InputError, match=r"clip_min 0.2.*mine lie in \[0.0, 1.0\]"):
        graph_of(root, tmp_path, 20, clipped)

    def aimed(study):
        without_cnn(study)
        study["attacks"]["hopskipjump"]["options"] |= {"targeted": True, "target": 2}

    with pytest.raises(InputError, match="aims at class 2, but mine has the classes 0 to 1"):
        graph_of(root, tmp_path, 20, aimed)


def test_more_points_than_the_entry_tells_of_are_refused(root, tmp_path):
    counts = {"test": {"ill": 2, "well": 2}, "train": {"ill": 9, "well": 9}}
    with pytest.raises(InputError, match=r"5 points of mine are to be attacked.*has 4"):
        graph_of(root, tmp_path, 40, counts=counts)


# --- models that choose the cohort ------------------------------------------------------


def chosen_by(graph, dataset: str) -> list[str]:
    cell = next(cell for cell in graph.cells("mystudy") if cell.dataset == dataset)
    return call_of(graph, "choose_cohort", **vars(cell)).params["models"]


def test_a_model_without_a_data_set_does_not_choose_its_cohort(root, tmp_path):
    def two(study):
        study["datasets"]["moons"] = {"points": 5, "without": ["cnn", "forest"]}

    graph = graph_of(root, tmp_path, 40, two)
    assert chosen_by(graph, "mine") == ["scd", "forest", "cnn"]
    assert chosen_by(graph, "moons") == ["scd"]
    rule = captions.cohort_rule(graph, "mystudy")
    assert "all of SCD, forest, CNN classify correctly (moons: without forest, CNN)" in rule
    assert graph.resolved.run == "paper-code"


def test_a_chooser_can_be_left_out_on_other_data(root, tmp_path):
    graph = graph_of(root, tmp_path, 20, leave_out=["cnn"])
    assert chosen_by(graph, "mine") == ["scd", "forest"]
    assert "all of SCD, forest classify" in captions.cohort_rule(graph, "mystudy")
    # Other points may be attacked: a run of its own.
    assert graph.resolved.run.startswith("paper-code-")
    other = graph_of(root, tmp_path, 20, leave_out=["cnn", "forest"])
    assert other.resolved.run != graph.resolved.run
    with pytest.raises(InputError, match="No model is left to choose the points of mine"):
        graph_of(root, tmp_path, 20, _only_scd_chooses, leave_out=["scd", "cnn"])


def _only_scd_chooses(study):
    study["cohort"]["models"] = ["scd"]


def test_on_data_of_a_paper_the_choosers_stay(root):
    with pytest.raises(InputError, match=r"(?s)'mlp' of signnet chooses.*mitbih, ptbdb") as caught:
        resolve({"studies": ["signnet"], "leave_out": ["mlp"]}, root)
    assert "without: [mlp]" in str(caught.value)
    use = {"signnet": {"datasets": {"mitbih": {"without": ["mlp"]}}}}
    with pytest.raises(InputError, match="'mlp' chooses the points of mitbih"):
        resolve({"overrides": use}, root)
    extras = {"include_extras": ["mitbih_ns"], "leave_out": ["mitbih", "ptbdb", "mlp"]}
    study = resolve({"studies": ["signnet"], **extras}, root).studies["signnet"]
    assert "mlp" not in study.models and "mlp" not in study.cohort.models
    with pytest.raises(InputError, match="Did you mean 'mlp'"):
        resolve({"overrides": {"signnet": {"datasets": {"mitbih": {"without": ["mpl"]}}}}}, root)


def test_a_key_that_nobody_uses_changes_no_hash(root):
    graph = build_graph({"studies": ["signnet"]}, root)
    uses = graph.study("signnet").model_dump()["datasets"]
    assert all(use["without"] == [] for use in uses.values())
    from medrobust.core.io import sha256_of_json

    settings = graph.study("signnet").model_dump()
    for key in ("keep_probabilities", "claims"):
        del settings[key]
    for use in settings["datasets"].values():
        del use["without"]
    for model in settings["models"].values():
        del model["initial_weights"]
    for attack in settings["attacks"].values():
        for key in ("for_datasets", "for_models", "extra"):
            if not attack[key]:
                del attack[key]
    assert graph.study_hash("signnet") == sha256_of_json(settings)[:16]


def test_fitted_settings_are_checked_settings(root, tmp_path):
    graph = graph_of(root, tmp_path, 20, without_cnn)
    cell = Cell("paper-code", "mystudy", "mine", "own", 0, 0)
    for model in graph.trained(cell).values():
        assert model_specs(model)
    assert dataclasses.is_dataclass(cell) and np.prod(graph.registry["mine"].shape) == 20
