"""Which models begin with pretrained weights, what their jobs ask for, and what captions say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from medrobust.core.errors import InputError
from medrobust.experiment import calls, captions
from medrobust.experiment.sources import build_graph

ROOT = Path(__file__).parents[3]
GREY = {"name": "resnet50", "mean": [0.5], "deviation": [0.5]}
MINE = {"title": "elsewhere", "file": "mine.safetensors"}


@pytest.fixture
def study(tmp_path: Path) -> str:
    """A study of the user's own, of which two of three models name weights."""
    values = yaml.safe_load((ROOT / "config/studies/ima.yaml").read_text(encoding="utf-8"))
    names = ["covid_adv01", "covid_trades", "covid_mma"]
    models = {name: values["models"][name] for name in names}
    for name in names[:2]:
        models[name] |= {"initial_weights": "mine", "architecture": GREY}
    attacks = {"pgd": {"name": "pgd", "select": "test", "options": {"epsilon": 0.1}}}
    file = tmp_path / "pretrained.yaml"
    own = {"title": "t", "citation": "c", "datasets": {"covid_ct": {}}}
    file.write_text(yaml.safe_dump(own | {"models": models, "attacks": attacks}, sort_keys=False))
    return str(file)


def graph_of(study: str, raw: Path, **values):
    (raw / "weights").mkdir(parents=True, exist_ok=True)
    settings = {"studies": [study], "own_weights": {"mine": MINE}, "raw_dir": str(raw)}
    return build_graph(settings | {"sources": {"covid_ct": "kaggle"}} | values, ROOT)


def training(graph, place: int) -> calls.Call:
    (name,) = graph.resolved.studies
    model = list(graph.study(name).models)[place]
    work = vars(graph.cells(name)[0]) | {"model": model, "first": 0, "last": 0}
    return calls.call_of(graph, "train_members", **work)


def test_a_training_asks_for_the_weights_that_are_at_hand(study, tmp_path) -> None:
    (tmp_path / "raw/weights").mkdir(parents=True)
    (tmp_path / "raw/weights/mine.safetensors").write_bytes(b"tensors")
    graph = graph_of(study, tmp_path / "raw")
    files = [training(graph, place).inputs.get("weights") for place in range(3)]
    assert files == ["results/data/weights/mine.json"] * 2 + [None]
    assert "RANDOM INIT" not in captions.about(graph, "pretrained")["scale_text"]
    fetched = calls.call_of(graph, "fetch_weights", weights="mine")
    assert fetched.outputs == {"manifest": "results/data/weights/mine.json"}
    assert fetched.params["definition"]["file"] == "mine.safetensors"
    with pytest.raises(InputError, match="Did you mean 'mine'"):
        calls.call_of(graph, "fetch_weights", weights="minne")


@pytest.mark.parametrize("why", ["absent", "asked for", "stand-ins"])
def test_models_without_weights_begin_at_random_and_captions_say_so(study, tmp_path, why) -> None:
    (tmp_path / "raw/weights").mkdir(parents=True)
    if why != "absent":
        (tmp_path / "raw/weights/mine.safetensors").write_bytes(b"tensors")
    changes = {
        "absent": {},
        "asked for": {"initial_weights": "random"},
        "stand-ins": {"scale": "smoke", "sources": {}},
    }
    graph = graph_of(study, tmp_path / "raw", **changes[why])
    assert all("weights" not in training(graph, place).inputs for place in range(3))
    for text in (
        captions.about(graph, "pretrained")["scale_text"],
        captions.run_facts(graph, "pretrained")["unlike_the_paper"],
    ):
        assert text.count("RANDOM INIT") == 1 and "initial weights" not in text
    # Other results must not be taken for those of the scale.
    plain = graph_of(study, tmp_path / "raw", **changes[why] | {"initial_weights": "auto"})
    assert (graph.resolved.run == plain.resolved.run) == (why != "asked for")


def test_an_address_is_enough(study, tmp_path) -> None:
    there = MINE | {"url": "https://example.org/mine.safetensors", "sha256": "0" * 64}
    graph = graph_of(study, tmp_path / "raw", own_weights={"mine": there})
    assert training(graph, 0).inputs["weights"] == "results/data/weights/mine.json"


def test_weights_that_nobody_knows_are_told_before_any_work(study, tmp_path) -> None:
    with pytest.raises(InputError, match=r"(?s)Unknown initial weights .mine.*initial_weights"):
        graph_of(study, tmp_path / "raw", own_weights={})


def test_an_architecture_that_reads_none_is_told(study, tmp_path) -> None:
    other = {"pretrained": {"models": {"covid_mma": {"initial_weights": "mine"}}}}
    with pytest.raises(InputError, match="'resnet18' reads no pretrained weights"):
        graph_of(study, tmp_path / "raw", overrides=other)


def test_models_without_weights_keep_their_hashes() -> None:
    graph = build_graph({"scale": "smoke", "studies": ["signnet", "nsr", "ima"]}, ROOT)
    assert graph.resolved.weights == {} and graph.random_init("ima") == []
    settings = json.loads(graph.study("ima").model_dump_json())
    assert all(model["initial_weights"] is None for model in settings["models"].values())


def test_records_say_what_networks_began_with_whatever_is_at_hand_now(study, tmp_path, monkeypatch):
    """Made without weights, redrawn where the file is; and the other way round."""
    raw, file = tmp_path / "raw", tmp_path / "raw/weights/mine.safetensors"
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "evidence/pretrained/paper-code"
    (kept / "evaluations/covid_ct@kaggle").mkdir(parents=True)
    for at_hand in (False, True):
        file.unlink(missing_ok=True)
        if at_hand:
            file.write_bytes(b"tensors")
        made = graph_of(study, raw)
        (kept / "run.json").write_text(json.dumps(made.run_facts("pretrained")))
        file.unlink(missing_ok=True)
        if not at_hand:
            file.write_bytes(b"tensors")
        redrawn = graph_of(study, raw, records_from="evidence/pretrained")
        assert redrawn.random_init("pretrained") == made.random_init("pretrained")
        assert bool(redrawn.random_init("pretrained")) != at_hand
