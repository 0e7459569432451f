"""Which models choose the points of a data set, where kinds of data have models of their own."""

from __future__ import annotations

import pytest
from medrobust.core.errors import InputError
from medrobust.experiment import captions
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.config import choosers, resolve
from medrobust.experiment.sources import build_graph

IMAGES = ("chest_xray", "kather")


def settings(models, datasets, **more):
    """Returns signnet with models kept to some data sets and a list of those that choose."""
    kept = {name: {"datasets": where} for name, where in datasets.items()}
    study = {"models": kept, "cohort": {"models": models}}
    chosen = {"studies": ["signnet"], "overrides": {"signnet": study}} | more
    # Without the images, on which other models choose.
    return chosen | {"leave_out": [*IMAGES, *chosen.get("leave_out", [])]}


#: The data sets stand in for two kinds: ptbdb is the one that has two models of its own.
KINDS = {
    "bnn": ["mitbih"], "cnn": ["mitbih"], "scdce": ["ptbdb"], "scd01_binary": ["ptbdb"],
}  # fmt: skip
LISTED = ["scd01", "bnn", "cnn", "scdce"]


def test_those_of_the_list_choose_that_are_trained_there(root):
    study = resolve(settings(LISTED, KINDS), root).studies["signnet"]
    assert choosers(study, "mitbih") == ["scd01", "bnn", "cnn"]
    assert choosers(study, "ptbdb") == ["scd01", "scdce"]


def test_captions_name_the_models_of_each_kind(root):
    graph = build_graph(settings(LISTED, KINDS), root)
    assert captions.cohort_rule(graph, "signnet") == (
        "on test points that all of SCD01, BNN, CNN (mitbih) or all of SCD01, SCDCE (ptbdb) "
        "classify correctly"
    )
    one = settings(LISTED, KINDS, leave_out=["ptbdb"])
    table = artefacts_of("signnet")["table4"]
    rule = captions.cohort_rule(build_graph(one, root), "signnet", table)
    assert rule == "on test points that all of SCD01, BNN, CNN classify correctly"


def test_a_data_set_without_any_of_the_list_is_refused(root):
    only = {"scd01": ["mitbih"], "bnn": ["mitbih"]}
    with pytest.raises(InputError, match="No model chooses the points of ptbdb") as caught:
        resolve(settings(["scd01", "bnn"], only), root)
    assert "(scdce, mlp, cnn, random_forest)" in str(caught.value)


def test_images_and_signals_have_choosers_of_their_own(root):
    study = resolve({"studies": ["signnet"]}, root).studies["signnet"]
    assert choosers(study, "ptbdb") == ["scd01", "scdce", "bnn", "mlp", "cnn", "random_forest"]
    of_images = ["scd01_images", "scdce_images", "mlp_images", "lenet", "resnet18"]
    assert choosers(study, "kather") == [*of_images, "random_forest_images"]
    # A list of signals' models will do where the images are left out.
    with pytest.raises(InputError, match="No model chooses the points of chest_xray"):
        resolve(settings(["mlp"], {}) | {"leave_out": []}, root)
    assert choosers(resolve(settings(["mlp"], {}), root).studies["signnet"], "mitbih") == ["mlp"]


def test_what_is_not_to_run_needs_nobody_to_choose(root):
    """Committed records are found among all parts of a study, whoever chose their points."""
    everything = settings(["mlp"], {}) | {"leave_out": []}
    study = resolve(everything, root, to_run=False).studies["signnet"]
    assert "chest_xray" in study.datasets and choosers(study, "chest_xray") == []


def test_an_extra_cannot_choose(root):
    with pytest.raises(InputError, match="'scd01_binary' cannot choose"):
        resolve(settings(["scd01", "scd01_binary"], {}), root)


def test_a_model_of_other_data_can_be_left_out_with_them(root):
    """The points of the rest are the same, so the run keeps its name."""
    whole = resolve(settings(LISTED, KINDS), root)
    less = resolve(settings(LISTED, KINDS, leave_out=["ptbdb", "scdce"]), root)
    assert less.run == whole.run
    with pytest.raises(InputError, match=r"'scdce' of signnet chooses.*those of ptbdb, whose"):
        resolve(settings(LISTED, KINDS, leave_out=["scdce"]), root)
