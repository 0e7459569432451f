"""PGD by two losses at several levels, from the attack job to the tally: the worst of both."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.data.prepared.splits import write_split
from medrobust.data.prepared.store import load_dataset
from medrobust.evaluation import tally
from medrobust.evaluation.records import read_records
from medrobust.jobs.attack import attack_chunk
from medrobust.jobs.shared import load_ensemble
from medrobust.jobs.tally import tally_attack
from medrobust.models import layer_norm_mlp

from tests.unit.attack_files import evaluated_by

LEVELS = [0.1, 0.2, 0.4]
CLASSES, TEST = 4, 90
ARCHITECTURE = {"name": "layer_norm_mlp"}
OPTIONS = {"num_steps": 6, "step_share": 0.3, "step_size": None, "clip_min": 0.0, "clip_max": 1.0}


@pytest.fixture(scope="module", params=["linf", "l2"])
def attacked(request, tmp_path_factory):
    """Folder, model and data of an attack in two jobs on a network of random weights."""
    folder = tmp_path_factory.mktemp(request.param)
    random = np.random.default_rng(0)
    x = random.random((TEST + 20, 2)).astype(np.float32)
    parameters = layer_norm_mlp.initial_parameters(layer_norm_mlp.Spec(), (2,), CLASSES, [0])
    parameters = {name: 3 * values for name, values in parameters.items()}
    members = [str(folder / "members.safetensors")]
    io.write_tensors(members[0], parameters)
    io.write_array(folder / "x.npy", x)
    io.write_array(folder / "y.npy", np.arange(len(x)) % CLASSES)
    write_split(folder / "split_fold0.csv", range(15), range(15, 20), range(20, len(x)))
    card = {"name": "d", "class_names": list("abcd"), "input_range": [0, 1], "shape": list(x.shape)}
    io.write_json(folder / "card.json", card | {"dtype": "float32"})
    model = {"architecture": ARCHITECTURE, "vote": "soft"}
    ensemble = load_ensemble(members, model, load_dataset(folder), "cpu")
    labels = ensemble.predict(x)
    labels[::7] = (labels[::7] + 1) % CLASSES
    io.write_array(folder / "y.npy", labels)
    chosen = np.arange(20, len(x))
    cohort = pd.DataFrame(
        {"position": range(TEST), "point_id": chosen, "label": labels[chosen], "start_id": -1}
    )
    io.write_table(folder / "cohort.csv", cohort)
    clean = cohort[["point_id", "label"]].assign(prediction=ensemble.predict(x[chosen]))
    io.write_table(folder / "clean.parquet", clean)
    for k, points in enumerate([(0, 50), (50, TEST)]):
        attack_chunk(
            data=str(folder), members=members,
            evaluated=evaluated_by(folder / "clean.json", members),
            cohort=str(folder / "cohort.csv"),
            records=str(folder / f"{k}.parquet"), arrays=str(folder / f"{k}.safetensors"),
            timing=str(folder / f"{k}.json"), model=model,
            attack={
                "name": "pgd", "norm": request.param, **OPTIONS, "keep_arrays": 0,
                "grid": {"epsilon": LEVELS, "loss": ["cross_entropy", "margin"]},
            },
            points=points, names=["study", "d", "m"], seed=0, device="cpu", compute_threads=1,
            code="c", progress_dir=str(folder / "progress"),
        )  # fmt: skip
    return folder, request.param


def test_a_point_is_broken_if_either_loss_breaks_it(attacked):
    folder, norm = attacked
    chunks = [str(folder / f"{k}.parquet") for k in range(2)]
    tally_attack(
        predictions=str(folder / "clean.parquet"), chunks=chunks,
        timings=[str(folder / f"{k}.json") for k in range(2)], out=str(folder / "tally.csv"),
        made_with=str(folder / "made_with.json"),
    )  # fmt: skip
    read = tally.read_tally(folder / "tally.csv")
    assert read.levels == tuple(LEVELS) and read.test_points == TEST
    records = read_records(chunks)
    assert (
        records.loc[records["success"], norm] <= records.loc[records["success"], "epsilon"]
    ).all()
    only_one = 0
    for level in LEVELS:
        by_loss = records[records["epsilon"] == level].pivot(
            index="point_id", columns="loss", values="success"
        )
        assert by_loss.shape == (TEST, 2)
        only_one += int((by_loss["cross_entropy"] != by_loss["margin"]).sum())
        safe = int((~by_loss["cross_entropy"] & ~by_loss["margin"]).sum())
        assert 0 < safe < TEST
        cells = read.cells(level)
        kept = cells.label == cells.prediction
        assert cells.count.sum() == TEST and cells.count[kept].sum() == safe
        assert set(read.rows(level)["loss"]) == {"cross_entropy+margin"}
        upto = records[records["epsilon"] <= level].groupby("point_id")["success"].any()
        worst = read.cells(level, tally.WORST_CASE)
        kept = worst.label == worst.prediction
        assert worst.count[kept].sum() == int((~upto).sum())
        each = read.cells(level, tally.EACH_RUN)
        kept = each.label == each.prediction
        assert each.runs == 2 and each.count[kept].sum() == int((~by_loss).sum().sum())
    # The two losses disagree about some points, or this test would not tell them apart.
    assert only_one > 2


def test_losses_have_seeds_of_their_own_and_jobs_do_not_matter(attacked):
    records = read_records([attacked[0] / f"{k}.parquet" for k in range(2)])
    assert records["seed"].nunique() == len(records) == TEST * len(LEVELS) * 2
