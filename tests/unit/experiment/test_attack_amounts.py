"""Attacks that are not the same on every data set and model: settings, jobs, plan, words."""

from __future__ import annotations

import json

import pytest
from medrobust.core.errors import InputError
from medrobust.experiment import captions, plan
from medrobust.experiment.calls import call_of
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.config import resolve
from medrobust.experiment.costs import queries_per_point
from medrobust.experiment.sources import build_graph

FEWER = {"cnn": {"restarts": 3, "max_iter": 50}}


def settings(**attack):
    study = {"attacks": {"hopskipjump": attack}}
    return {
        "studies": ["signnet"],
        "overrides": {"signnet": study},
        "leave_out": ["chest_xray", "kather"],
    }


@pytest.mark.parametrize(
    ("attack", "says"),
    [
        ({"for_models": {"cn": {"restarts": 3}}}, ["hopskipjump.for_models", "mean 'cnn'"]),
        (
            {"models": ["mlp"], "for_models": FEWER},
            ["attacked model 'cnn'", "allowed: mlp"],
        ),
        ({"for_models": {"cnn": {"restart": 3}}}, ["for_models.cnn.restart", "mean 'restarts'"]),
        ({"for_models": {"cnn": {"restarts": 0}}}, ["for_models.cnn.restarts", "greater than or"]),
        (
            {"for_models": {"cnn": {"norm": "inf"}}},
            ["for_models.cnn cannot set 'norm'"],
        ),
        ({"for_models": {"cnn": 3}}, ["for_models.cnn", "dictionary"]),
        ({"for_datasets": {"mitbi": {"start": "fixed"}}}, ["for_datasets", "mean 'mitbih'"]),
        ({"for_datasets": {"mitbih": {"start": "fix"}}}, ["for_datasets.mitbih.start", "'fixed'"]),
        (
            # Each is right by itself.
            {
                "for_datasets": {"mitbih": {"max_eval": 60}},
                "for_models": {"cnn": {"init_eval": 90}},
            },
            ["for_datasets.mitbih", "init_eval (100) must not exceed max_eval (60)"],
        ),
        (
            {
                "for_datasets": {"mitbih": {"max_eval": 100}},
                "for_models": {"cnn": {"init_eval": 200}},
            },
            ["for_datasets.mitbih with for_models.cnn", "must not exceed max_eval (100)"],
        ),
    ],
)
def test_wrong_options_of_a_part_stop_before_any_work(root, attack, says):
    with pytest.raises(InputError) as caught:
        resolve(settings(**attack), root)
    for part in says:
        assert part in str(caught.value)


def test_options_of_a_model_count_before_those_of_a_data_set(root):
    changes = {"for_models": FEWER, "for_datasets": {"ptbdb": {"restarts": 7, "start": "outward"}}}
    attack = resolve(settings(**changes), root).studies["signnet"].attacks["hopskipjump"]
    found = {
        (dataset, model): [attack.amended(dataset, model).options[key] for key in KEYS]
        for dataset in ("mitbih", "ptbdb")
        for model in ("mlp", "cnn")
    }
    assert found == {
        ("mitbih", "mlp"): [10, 100, "blended"],
        ("mitbih", "cnn"): [3, 50, "blended"],
        ("ptbdb", "mlp"): [7, 100, "outward"],
        ("ptbdb", "cnn"): [3, 50, "outward"],
    }


KEYS = ("restarts", "max_iter", "start")


def test_plan_and_division_count_what_each_model_costs(root):
    graphs = [build_graph(settings(**changes), root) for changes in ({}, {"for_models": FEWER})]
    cells = [graph.cells("signnet")[0] for graph in graphs]
    for model, less in (("mlp", False), ("cnn", True)):
        seconds = [
            plan.attack_seconds(graph, cell, model, "hopskipjump", 1)
            for graph, cell in zip(graphs, cells, strict=True)
        ]
        chunks = [graph.chunks("signnet", "mitbih", model, "hopskipjump") for graph in graphs]
        if less:
            attack = graphs[1].attack("signnet", "mitbih", model, "hopskipjump")
            whole = graphs[0].attack("signnet", "mitbih", model, "hopskipjump")
            parts = queries_per_point(attack) / queries_per_point(whole)
            assert seconds[1] == pytest.approx(parts * seconds[0]) and parts < 0.2
            assert len(chunks[1]) < len(chunks[0])
        else:
            assert seconds[0] == seconds[1] and chunks[0] == chunks[1]
    totals = [plan.make_plan(graph)[0] for graph in graphs]
    assert totals[1].queries < totals[0].queries and totals[1].cpu_hours < totals[0].cpu_hours


def test_jobs_of_other_models_stay_as_they_are(root):
    """Else finished attacks would run again."""
    graphs = [build_graph(settings(**changes), root) for changes in ({}, {"for_models": FEWER})]

    def given(graph, model):
        work = vars(graph.cells("signnet")[0]) | {"model": model, "attack": "hopskipjump"}
        params = call_of(graph, "attack_chunk", **work, chunk=0).params
        # Of another run, whose folder is another.
        return {name: value for name, value in params.items() if name != "members"}

    assert given(graphs[0], "mlp") == given(graphs[1], "mlp")
    whole, fewer = (given(graph, "cnn")["attack"] for graph in graphs)
    assert fewer == whole | FEWER["cnn"] != whole


def test_captions_say_who_is_attacked_otherwise(root):
    changes = {"for_models": FEWER, "for_datasets": {"ptbdb": {"start": "outward"}}}
    graph = build_graph(settings(**changes), root)
    table = artefacts_of("signnet")["table4"]
    facts = captions.first_attack(graph, "signnet", table)
    assert facts["others"] == {"PTBD": {"start": "outward"}, "CNN": FEWER["cnn"]}
    assert captions.attacks(graph, "signnet", table)["hopskipjump"]["others"] == facts["others"]
    said = "restarts 10, start blended, refinement 0.0; PTBD: start outward; CNN: restarts 3, max"
    assert said in captions.about(graph, "signnet")["attack"]
    # What all data sets that are shown have in common is no exception.
    one = build_graph(settings(**changes) | {"leave_out": ["mitbih", "chest_xray", "kather"]}, root)
    facts = captions.first_attack(one, "signnet", table)
    assert facts["start"] == "outward" and facts["others"] == {"CNN": FEWER["cnn"]}
    assert "others" not in captions.first_attack(build_graph(settings(), root), "signnet", table)


def test_amounts_unlike_the_papers_name_the_model(root):
    said = resolve(settings(for_models=FEWER), root).unlike_the_paper("signnet")
    assert "max iter of CNN 50 (the paper: 100), restarts of CNN 3 (the paper: 10)" in said
    on_data = settings(for_datasets={"ptbdb": {"start": "outward"}})
    said = resolve(on_data, root).unlike_the_paper("signnet")
    assert "start of PTBD outward (the paper: blended)" in said
    # Where all are attacked by fewer, a model with as few is not told apart.
    all_fewer = settings(options={"restarts": 3}, for_models={"cnn": {"restarts": 3}})
    said = resolve(all_fewer, root).unlike_the_paper("signnet")
    assert "restarts 3 (the paper: 10)" in said and "of CNN" not in said
    alike = resolve(settings(for_models={"cnn": {"restarts": 10}}), root)
    assert alike.unlike_the_paper("signnet") == ""


def test_a_scale_may_give_a_model_amounts_of_its_own(root, tmp_path):
    import shutil

    import yaml

    shutil.copytree(root / "config", tmp_path / "config")
    file = tmp_path / "config/scales/smoke.yaml"
    scale = yaml.safe_load(file.read_text())
    options = scale["studies"]["signnet"]["attacks"]["hopskipjump"]
    options["for_models"] = {"cnn": {"restarts": 1}}
    file.write_text(yaml.safe_dump(scale))
    attack = resolve({"scale": "smoke"}, root, tmp_path).studies["signnet"].attacks["hopskipjump"]
    assert attack.amended("mitbih", "cnn").options["restarts"] == 1
    options["for_models"] = {"cnn": {"start": "fixed"}}
    file.write_text(yaml.safe_dump(scale))
    with pytest.raises(InputError, match=r"numbers only(?s:.*)for_models\.cnn\.start"):
        resolve({"scale": "smoke"}, root, tmp_path)


def test_records_of_a_part_that_is_attacked_otherwise_are_redrawn_with_it_alone(root, tmp_path):
    from medrobust.experiment.committed import check_committed

    graph = build_graph(settings(for_models=FEWER), root)
    assert graph.study_hash("signnet") != build_graph(settings(), root).study_hash("signnet")
    kept = tmp_path / "signnet" / graph.resolved.run
    for dataset in ("mitbih", "ptbdb"):
        (kept / f"evaluations/{dataset}@kaggle").mkdir(parents=True)
    facts = graph.run_facts("signnet")
    (kept / "run.json").write_text(json.dumps(facts))
    redrawn = build_graph(settings(for_models=FEWER) | {"records_from": str(kept.parent)}, root)
    check_committed(redrawn, "signnet")
    facts["study"]["attacks"]["hopskipjump"]["for_models"]["cnn"]["restarts"] = 4
    (kept / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"for_models\.cnn\.restarts was 4, is 3"):
        check_committed(redrawn, "signnet")


def test_a_model_that_is_left_out_takes_its_options_along(root):
    extra = {"scd01_binary": {"restarts": 2}}
    attack = resolve(settings(for_models=extra | FEWER), root).studies["signnet"].attacks
    assert attack["hopskipjump"].for_models == FEWER
