"""In what amounts a run differs from the paper, in words."""

import pytest
import yaml
from medrobust.experiment.amounts import differences
from medrobust.experiment.config import resolve

PAPER = {
    "replicates": 5,
    "datasets": {"a": {"training_points": None}, "b": {"training_points": None}},
    "models": {
        "mlp": {"members": 10, "members_per_job": 5, "method": {"max_epochs": 60, "rate": 0.1}},
        "cnn": {"members": 10, "members_per_job": 5, "method": {"max_epochs": 100, "rate": 0.1}},
        "off": {"members": 1, "members_per_job": 1, "method": {"max_epochs": 1, "rate": 0.1}},
    },
    "attacks": {"pgd": {"points_per_job": 9, "models": ["mlp", "off"], "options": {"steps": 100}}},
}


def changed(epochs=(60, 100), **more):
    models = {
        name: PAPER["models"][name] | {"method": {"max_epochs": e, "rate": 0.1}}
        for name, e in zip(("mlp", "cnn"), epochs, strict=True)
    }
    return PAPER | {"models": models} | more


def test_nothing_is_said_where_nothing_differs():
    assert differences(PAPER, PAPER) == ""
    # What is left out, and how work is divided, changes no amount.
    fewer = {"pgd": {"points_per_job": 2, "models": ["mlp"], "options": {"steps": 100}}}
    assert differences(changed(datasets={"b": {"training_points": None}}), PAPER) == ""
    assert differences(changed(attacks=fewer), PAPER) == ""


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (changed((5, 5)), "max epochs 5 (the paper: 60 to 100)"),
        (changed((5, 100)), "max epochs 5 (the paper: 60)"),
        (changed((5, 1000)), "max epochs 5 to 1,000 (the paper: 60 to 100)"),
        (changed(replicates=1), "replicates 1 (the paper: 5)"),
        (
            changed(datasets={"a": {"training_points": 5000}, "b": {"training_points": 130}}),
            "training points 130 to 5,000 (the paper: all)",
        ),
        (
            changed(attacks={"pgd": {"options": {"steps": 10, "restarts": 2}}}),
            "steps 10 (the paper: 100), restarts 2 (the paper: none)",
        ),
        (changed(attacks={"mine": {"options": {"steps": 3}}}), ""),
    ],
)
def test_amounts_are_told_by_key(own, words):
    assert differences(own, PAPER) == words


@pytest.mark.parametrize("study", ["signnet", "nsr", "ima"])
def test_the_paper_scale_is_the_paper_and_others_say_what_they_cut(root, study):
    settings = {"studies": [study], "include_extras": True}
    assert resolve(settings, root).unlike_the_paper(study) == ""
    found = resolve(settings | {"scale": "laptop"}, root).unlike_the_paper(study)
    assert "max epochs" in found and "points per job" not in found and len(found) < 550
    assert found.endswith("an order of models is that of these trainings.")


def test_overrides_differ_from_the_paper_too(root):
    more = {"overrides": {"ima": {"datasets": {"moons": {"replicates": 5}}}}}
    found = resolve({"studies": ["ima"], **more}, root).unlike_the_paper("ima")
    sentence = "Amounts unlike the paper's, over all that ran: replicates 5 (the paper: 1)."
    assert found == sentence  # not that models were trained less: each was trained as published


def test_a_study_without_a_paper_differs_from_its_file(root, tmp_path):
    """Nobody printed the amounts of a user's study."""
    with (root / "config/studies/nsr.yaml").open(encoding="utf-8") as file:
        values = yaml.safe_load(file)
    del values["published"], values["artefacts"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    less = {"mine": {"attacks": {"pgd20": {"options": {"num_steps": 3}}}}}
    settings = {"studies": [str(tmp_path / "mine.yaml")], "overrides": less}
    found = resolve(settings, root).unlike_the_paper("mine")
    assert found.startswith(
        "Amounts unlike those of the study's file, over all that ran: num steps"
    )
    assert found.endswith("num steps 3 (its file: 20).")
