"""A diverged training, from its job to what is drawn: every job that follows goes on without it."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.data.prepared.prepare import prepare
from medrobust.evaluation.records import LATER, SCHEMA, read_records
from medrobust.evaluation.tally import SCHEMA as TALLY_SCHEMA
from medrobust.jobs.attack import attack_chunk, gather_records
from medrobust.jobs.evaluate import choose_cohort, evaluate_clean, join_margins
from medrobust.jobs.plane import map_plane, trace_search
from medrobust.jobs.tally import tally_attack
from medrobust.jobs.train import train_members
from medrobust.reporting.failed import without_failed
from medrobust.reporting.request import Entry

FACTS = {"class_names": ["upper", "lower"], "shape": [2], "official": {}, "licence": "none"}
SIZES = {"n_train": 60, "n_val": 20, "n_test": 40}
ARCHITECTURE = {"name": "layer_norm_mlp", "hidden_units": [6, 5]}
METHOD = {
    "name": "ima", "largest_margin": 0.3, "margin_step": 0.1, "bisections": 3, "steps": 2,
    "max_epochs": 3, "batch_size": 16, "learning_rate": 0.01,
}  # fmt: skip
ATTACK = {
    "name": "pgd", "num_steps": 2, "step_share": 0.5, "clip_min": -2.0, "clip_max": 3.0,
    "grid": {"epsilon": [0.1, 0.2]}, "keep_arrays": 1,
}  # fmt: skip
REASON = "loss not finite in epoch 2"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("data") / "moons@standin"
    prepare("moons", "moons", SIZES, "standin", None, folder, 1, FACTS)
    return str(folder)


def run(folder: Path, data: str) -> SimpleNamespace:
    """Runs every job of one model."""
    folder.mkdir()
    at = lambda name: str(folder / name)  # noqa: E731
    common = {"data": data, "device": "cpu", "compute_threads": 1}
    of_model = {"architecture": ARCHITECTURE, "vote": "soft"}
    work = {"names": ["s", "moons", 0, 0, "m"], "seed": 1, "code": "c", "progress_dir": at("p")}
    members = [at("members.safetensors")]
    train_members(
        out=members[0], card=at("card.json"), timing=at("t.json"), extras=at("extras.safetensors"),
        model={"architecture": ARCHITECTURE, "method": METHOD}, members=[0, 0], **common, **work,
    )  # fmt: skip
    evaluate_clean(
        members=members, predictions=at("clean.parquet"), summary=at("clean.json"),
        model=of_model, **common,
    )  # fmt: skip
    choose_cohort(
        predictions=[at("clean.parquet")], models=["m"], cohort=at("cohort.csv"), points=5,
        select="all_correct", names=["s", "moons"], seed=1,
    )  # fmt: skip
    attack_chunk(
        members=members, evaluated=at("clean.json"), cohort=at("cohort.csv"),
        records=at("c.parquet"),
        arrays=at("c.safetensors"), timing=at("c.timing.json"), model=of_model, attack=ATTACK,
        points=[0, 5], **common, **work,
    )  # fmt: skip
    gather_records(
        chunks=[at("c.parquet")], arrays=[at("c.safetensors")], timings=[at("c.timing.json")],
        records=at("records.parquet"), joined_arrays=at("arrays.safetensors"),
        made_with=at("made_with.json"),
    )  # fmt: skip
    join_margins(extras=[at("extras.safetensors")], out=at("margins.safetensors"))
    map_plane(members=members, model=of_model, out=at("plane.safetensors"), **common)
    trace_search(
        data=data, members=members, margins=at("margins.safetensors"),
        model=of_model | {"method": METHOD}, out=at("search.safetensors"),
        names=work["names"], seed=1, compute_threads=1,
    )  # fmt: skip
    return SimpleNamespace(at=at)


def _poison(monkeypatch):
    """Makes the loss NaN from the second epoch on."""
    from medrobust.training.engine import apart_steps

    epoch = apart_steps.ApartSteps.epoch

    def poisoned(self, state, pulse):
        losses, accuracies = epoch(self, state, pulse)
        return (losses if state.epoch == 0 else losses + math.nan), accuracies

    monkeypatch.setattr(apart_steps.ApartSteps, "epoch", poisoned)


@pytest.fixture(scope="module")
def failed(tmp_path_factory, data):
    with pytest.MonkeyPatch.context() as patch:
        _poison(patch)
        return run(tmp_path_factory.mktemp("failed") / "m", data)


@pytest.fixture(scope="module")
def sound(tmp_path_factory, data):
    return run(tmp_path_factory.mktemp("sound") / "m", data)


def test_the_card_says_what_failed(failed, sound):
    (member,) = io.read_json(failed.at("card.json"))["members"]
    assert member["failed"] == REASON
    assert member["test_accuracy"] is None and member["loss"] is None
    (member,) = io.read_json(sound.at("card.json"))["members"]
    assert "failed" not in member and 0 <= member["test_accuracy"] <= 1
    assert io.read_metadata(sound.at("members.safetensors")) == {}


def test_nothing_is_counted_of_clean_points(failed, sound):
    summary = io.read_json(failed.at("clean.json"))
    assert summary["failed"] == REASON
    assert (summary["n_train"], summary["n_val"], summary["n_test"]) == (60, 20, 40)
    assert summary["ensemble_accuracy"] is None and summary["validation_accuracy"] is None
    table, other = (pd.read_parquet(one.at("clean.parquet")) for one in (failed, sound))
    assert table["prediction"].isna().all() and len(table) == 40
    assert table["point_id"].equals(other["point_id"]) and table["label"].equals(other["label"])
    assert "failed" not in io.read_json(sound.at("clean.json"))


def test_nothing_is_attacked(failed, sound):
    for name in ("c.parquet", "records.parquet"):
        frame = read_records(failed.at(name))
        assert frame.empty and list(frame.columns) == [*SCHEMA, *LATER]
        assert len(read_records(sound.at(name))) == 10
    assert io.read_json(failed.at("c.timing.json"))["units"] == 0
    for name in ("c", "arrays", "plane", "search"):
        assert io.read_tensors(failed.at(f"{name}.safetensors")) == {}
        assert io.read_tensors(sound.at(f"{name}.safetensors"))


def test_the_tally_is_empty(failed, tmp_path):
    tally_attack(
        predictions=failed.at("clean.parquet"), chunks=[failed.at("c.parquet")],
        timings=[failed.at("c.timing.json")], out=str(tmp_path / "tally.csv"),
        made_with=str(tmp_path / "counted_with.json"), outcomes=str(tmp_path / "o.parquet"),
    )  # fmt: skip
    assert (tmp_path / "tally.csv").read_text() == ",".join(TALLY_SCHEMA) + "\n"


def test_the_cohort_is_the_other_models(failed, sound, tmp_path):
    def cohort(*models):
        choose_cohort(
            predictions=[one.at("clean.parquet") for one in models],
            models=[str(i) for i in range(len(models))], cohort=str(tmp_path / "cohort.csv"),
            points=5, select="all_correct", names=["s", "moons"], seed=1,
        )  # fmt: skip
        return (tmp_path / "cohort.csv").read_text()

    assert cohort(failed, sound) == cohort(sound, failed) == cohort(sound)
    chosen = pd.read_csv(tmp_path / "cohort.csv")["point_id"]
    clean = pd.read_parquet(sound.at("clean.parquet")).set_index("point_id").loc[chosen]
    assert (clean["prediction"] == clean["label"]).all()


def test_what_is_drawn_is_drawn_without_it(failed, sound):
    entries = [
        Entry("Moons", name, "standin", replicate, state=one.at("clean.json"))
        for name, one, replicate in (("a", failed, 0), ("b", sound, 0), ("b", failed, 1))
    ]
    there, gone = without_failed(entries)
    assert there == [entries[1]]
    assert [(one.model, one.replicate, one.reason) for one in gone] == [
        ("a", 0, REASON),
        ("b", 1, REASON),
    ]


def test_scores_that_are_not_finite_fail_a_training(tmp_path, data, monkeypatch):
    """Loss and weights may be finite, and the products still too large."""
    from medrobust.training.contract import method_of
    from medrobust.training.engine.work import Trained

    def huge(spec, architecture, settings, work):
        from medrobust.models import relu_mlp

        start = relu_mlp.initial_parameters(settings, (2,), 2, work.seeds)
        start = {name: value + np.float32(1e30) * (name[0] == "w") for name, value in start.items()}
        return Trained(start, [{"epochs": 4, "loss": 0.1} for _ in work.members])

    real = method_of("composed_loss")
    monkeypatch.setattr(
        "medrobust.training.contract.method_of",
        lambda name: SimpleNamespace(train=huge, passes=None, uses_gpu=False, spec=real.spec),
    )
    train_members(
        data=data, out=str(tmp_path / "m.safetensors"), card=str(tmp_path / "card.json"),
        timing=str(tmp_path / "t.json"), extras=str(tmp_path / "e.safetensors"),
        model={
            "architecture": {"name": "relu_mlp"},
            "method": {"name": "composed_loss", "loss": "cross_entropy", "max_epochs": 4},
        },
        members=[3, 4], names=["s", "moons", 0, 0, "m"], seed=1, code="c",
        progress_dir=str(tmp_path / "p"), device="cpu", compute_threads=1,
    )  # fmt: skip
    members = io.read_json(tmp_path / "card.json")["members"]
    assert [one["failed"] for one in members] == ["scores not finite at the test points"] * 2
