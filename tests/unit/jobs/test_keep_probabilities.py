"""Jobs of a study that keeps probabilities: files have more columns, and else the same content."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import load_dataset
from medrobust.evaluation.outcomes import read_scores
from medrobust.evaluation.probabilities import probability_columns
from medrobust.evaluation.records import read_records
from medrobust.jobs.attack import attack_chunk
from medrobust.jobs.evaluate import evaluate_clean, select_points
from medrobust.jobs.tally import tally_attack
from medrobust.jobs.train import train_members

FACTS = {"class_names": ["upper", "lower"], "shape": [2], "official": {}, "licence": "none"}
ARCHITECTURE = {"name": "layer_norm_mlp", "hidden_units": [6, 5]}
METHOD = {"name": "composed_loss", "loss": "cross_entropy", "optimizer": "adam", "max_epochs": 3}
ATTACK = {
    "name": "pgd", "num_steps": 3, "step_share": 0.5, "clip_min": -2.0, "clip_max": 3.0,
    "grid": {"epsilon": [0.1, 0.4]}, "keep_arrays": 0,
}  # fmt: skip
COLUMNS = probability_columns(2)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[bool, SimpleNamespace]:
    """Runs evaluation, attack and tally of one model, with and without probabilities."""
    folder = tmp_path_factory.mktemp("jobs")
    data = str(folder / "moons@standin")
    sizes = {"n_train": 60, "n_val": 20, "n_test": 40}
    prepare("moons", "moons", sizes, "standin", None, folder / "moons@standin", 1, FACTS)
    common = {"data": data, "device": "cpu", "compute_threads": 1}
    work = {"names": ["s", "moons", 0, 0, "m"], "seed": 1, "code": "c"}
    members = [str(folder / "members.safetensors")]
    train_members(
        out=members[0], card=str(folder / "card.json"), timing=str(folder / "t.json"),
        extras=str(folder / "e.safetensors"), members=[0, 0], progress_dir=str(folder / "p"),
        model={"architecture": ARCHITECTURE, "method": METHOD}, **common, **work,
    )  # fmt: skip
    return {
        keep: _run(folder / str(keep), members, common, work, keep) for keep in (False, True)
    } | {"data": data}


def _run(folder, members, common, work, keep) -> SimpleNamespace:
    folder.mkdir()
    at = lambda name: str(folder / name)  # noqa: E731
    model = {"architecture": ARCHITECTURE, "vote": "soft"}
    model |= {"keep_probabilities": True} if keep else {}
    evaluate_clean(
        members=members, predictions=at("clean.parquet"), summary=at("clean.json"), model=model,
        **common,
    )  # fmt: skip
    select_points(
        data=common["data"], out=at("points.csv"), split="test", points_per_class=None, points=None
    )
    chunks = {"points.csv": [0, 25], "rest": [25, 40]}
    for k, points in enumerate(chunks.values()):
        attack_chunk(
            members=members, evaluated=at("clean.json"), cohort=at("points.csv"),
            records=at(f"{k}.parquet"), arrays=at(f"{k}.safetensors"), timing=at(f"{k}.json"),
            model=model, attack=ATTACK, points=points, progress_dir=at("p"), **common, **work,
        )  # fmt: skip
    records = [at("0.parquet"), at("1.parquet")]
    tally_attack(
        predictions=at("clean.parquet"), chunks=records, timings=[at("0.json"), at("1.json")],
        out=at("tally.csv"), made_with=at("made.json"), outcomes=at("outcomes.parquet"),
    )  # fmt: skip
    return SimpleNamespace(at=at, records=records, read=lambda name: io.read_table(at(name)))


def test_what_nobody_asked_for_is_as_it_was(made):
    plain, more = made[False], made[True]
    clean = more.read("clean.parquet")
    assert list(clean) == ["point_id", "label", "prediction", *COLUMNS]
    pd.testing.assert_frame_equal(clean.drop(columns=COLUMNS), plain.read("clean.parquet"))
    assert io.read_json(more.at("clean.json")) == io.read_json(plain.at("clean.json"))
    with_them, without = read_records(more.records), read_records(plain.records)
    pd.testing.assert_frame_equal(with_them.drop(columns=COLUMNS), without)
    for k in range(2):
        assert not {*COLUMNS, "target"} & set(plain.read(f"{k}.parquet"))
    tallies = [Path(one.at("tally.csv")).read_bytes() for one in (plain, more)]
    assert tallies[0] == tallies[1]
    levels = ["point_id", "correct", "0.1", "0.4"]
    assert list(plain.read("outcomes.parquet")) == levels
    pd.testing.assert_frame_equal(
        more.read("outcomes.parquet")[levels], plain.read("outcomes.parquet")
    )


def test_clean_and_attacked_probabilities_belong_together(made):
    more, dataset = made[True], load_dataset(made["data"], 0)
    clean, records = more.read("clean.parquet"), read_records(more.records)
    assert (clean[COLUMNS].to_numpy().argmax(axis=1) == clean["prediction"]).all()
    np.testing.assert_allclose(clean[COLUMNS].sum(axis=1), 1)
    assert (records[COLUMNS].to_numpy().argmax(axis=1) == records["adversarial_prediction"]).all()
    wrong = records[records["clean_prediction"] != records["label"]].merge(
        clean, on="point_id", suffixes=("", "_clean")
    )
    assert len(wrong) > 2 and (wrong["probability_1"] == wrong["probability_1_clean"]).all()
    for level in (0.0, 0.1, 0.4):
        positive, probability = read_scores(more.at("outcomes.parquet"), level, 1)
        assert (positive == (dataset.y_test == 1)).all()
        table = clean if level == 0 else records[records["epsilon"] == level]
        np.testing.assert_array_equal(probability, table.sort_values("point_id")["probability_1"])
