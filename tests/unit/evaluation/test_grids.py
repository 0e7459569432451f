"""Attacks at several epsilons: their records and arrays; the points of a split that they take."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.grid import grid_variants
from medrobust.data.prepared.splits import write_split
from medrobust.evaluation.grids import Variant, save_grid_chunk
from medrobust.evaluation.records import SCHEMA, read_records
from medrobust.experiment.config import Attack
from medrobust.jobs.attack import gather_records
from medrobust.jobs.evaluate import select_points


def records(epsilon: float, point_ids, success) -> pd.DataFrame:
    """Records with one row per (point, restart); ``success`` is ``[n, restarts]``."""
    rows = [
        {
            "point_id": point,
            "epsilon": epsilon,
            "loss": "cross_entropy",
            "restart": restart,
            "label": 0,
            "clean_prediction": 0,
            "adversarial_prediction": int(flag),
            "success": bool(flag),
            "l1": epsilon if flag else np.nan,
            "l2": epsilon if flag else np.nan,
            "linf": epsilon if flag else np.nan,
            "l2_final_iterate": epsilon if flag else np.nan,
            "queries": 3,
            "gradient_evaluations": 2,
            "iterations": 2,
            "seed": 1,
            "init_ok": True,
            "box_violation": False,
        }
        for point, flags in zip(point_ids, success, strict=True)
        for restart, flag in enumerate(flags)
    ]
    return pd.DataFrame(rows).astype(SCHEMA)


def variant(epsilon: float, point_ids, success, fill: float) -> Variant:
    n, restarts = np.shape(success)
    x_adv = np.full((n, restarts, 2), fill, dtype=np.float32)
    x_adv += np.arange(restarts, dtype=np.float32)[None, :, None]
    return Variant({"epsilon": epsilon}, x_adv, records(epsilon, point_ids, success))


@pytest.fixture
def made(tmp_path):
    """Two chunks of two points, two epsilons, two restarts; arrays of the first three points."""
    chunks, arrays, timings = [], [], []
    for k, (ids, kept) in enumerate([([7, 3], 2), ([9, 1], 1)]):
        variants = [
            variant(0.1, ids, [[False, False], [False, True]], fill=10 * k),
            variant(0.3, ids, [[True, True], [False, True]], fill=10 * k + 5),
        ]
        chunks.append(str(tmp_path / f"chunk{k}.parquet"))
        arrays.append(str(tmp_path / f"chunk{k}.safetensors"))
        timings.append(str(tmp_path / f"chunk{k}.timing.json"))
        x = np.full((kept, 2), k, dtype=np.float32)
        save_grid_chunk(chunks[-1], arrays[-1], variants, x=x, point_ids=np.array(ids[:kept]))
        io.write_json(timings[-1], {"device": "cpu", "hardware": "h", "versions": {}})
    gather_records(
        chunks=chunks,
        arrays=arrays,
        timings=timings,
        records=str(tmp_path / "records.parquet"),
        joined_arrays=str(tmp_path / "arrays.safetensors"),
        made_with=str(tmp_path / "made_with.json"),
    )
    return tmp_path


def test_records_of_all_epsilons_stand_in_one_table(made):
    table = read_records(made / "records.parquet")
    assert len(table) == 2 * 2 * 2 * 2
    flips = table.groupby(["point_id", "epsilon"])["success"].sum()
    assert flips.to_dict() == {
        **{(p, 0.1): 0 for p in (7, 9)},
        **{(p, 0.1): 1 for p in (3, 1)},
        **{(p, 0.3): 2 for p in (7, 9)},
        **{(p, 0.3): 1 for p in (3, 1)},
    }


def test_kept_arrays_are_of_the_restart_that_succeeded(made):
    arrays = io.read_tensors(made / "arrays.safetensors")
    assert arrays["point_id"].tolist() == [3, 7, 9]
    assert arrays["epsilon"].tolist() == [0.1, 0.3]
    # Point 3: its second restart succeeded (a value of 1 more); of point 7 the first counts.
    assert arrays["x_adv"][..., 0].tolist() == [[1, 6], [0, 5], [10, 15]]
    assert arrays["x"][:, 0].tolist() == [0, 0, 1]


def test_no_arrays_need_to_be_kept(tmp_path):
    only = variant(0.1, [4], [[True]], fill=0)
    save_grid_chunk(
        tmp_path / "r.parquet",
        tmp_path / "a.safetensors",
        [only],
        x=np.zeros((0, 2), np.float32),
        point_ids=np.zeros(0, np.int64),
    )
    assert io.read_tensors(tmp_path / "a.safetensors")["x_adv"].shape == (0, 1, 2)
    assert len(read_records(tmp_path / "r.parquet")) == 1


def test_grid_values_are_combined_in_their_order():
    grid = {"epsilon": [0.1, 0.2], "loss": ["cross_entropy", "margin"]}
    assert grid_variants({}) == [{}]
    assert [tuple(v.values()) for v in grid_variants(grid)] == [
        (0.1, "cross_entropy"),
        (0.1, "margin"),
        (0.2, "cross_entropy"),
        (0.2, "margin"),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": {"epsilon": []}, "select": "test"}, "grid.epsilon is empty"),
        ({"grid": {"epsilon": [0.1, 0.1]}, "select": "test"}, "names a value twice"),
        (
            {"grid": {"epsilon": [0.1]}, "options": {"epsilon": 0.2}, "select": "test"},
            "both in options and in grid",
        ),
        ({"grid": {"epsilon": [0.1]}}, "need `select: test` or val"),
        ({"points_per_class": 5}, "need `select: test` or val"),
        ({"grid": {"restarts": [1]}}, "restarts"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Attack(name="pgd", **settings)


@pytest.fixture
def prepared(tmp_path):
    """A data set of 12 rows: rows 0 to 3 train, 4 and 5 validation, 6 to 11 test."""
    y = np.array([0, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1])
    io.write_array(tmp_path / "x.npy", np.arange(24, dtype=np.float32).reshape(12, 2) / 24)
    io.write_array(tmp_path / "y.npy", y)
    write_split(tmp_path / "split_fold0.csv", range(4), [4, 5], range(6, 12))
    card = {"name": "d", "class_names": ["a", "b"], "input_range": [0, 1], "shape": [12, 2]}
    io.write_json(tmp_path / "card.json", card | {"dtype": "float32"})
    return tmp_path


@pytest.mark.parametrize(
    ("split", "per_class", "points", "expected"),
    [
        ("test", None, None, [6, 7, 8, 9, 10, 11]),
        ("test", 1, None, [6, 7]),
        ("test", 3, None, [6, 7, 8, 9, 10]),  # class a has two test points only
        ("test", 3, 4, [6, 7, 8, 9]),
        ("val", None, 1, [4]),
    ],
)
def test_the_first_points_of_a_split(prepared, split, per_class, points, expected):
    out = prepared / "points.csv"
    select_points(
        data=str(prepared), out=str(out), split=split, points_per_class=per_class, points=points
    )
    table = io.read_table(out)
    assert table["point_id"].tolist() == expected
    assert table["position"].tolist() == list(range(len(expected)))
    labels = io.read_array(prepared / "y.npy")[expected]
    assert table["label"].tolist() == labels.tolist()


def test_a_split_without_points_is_refused(prepared):
    write_split(prepared / "split_fold0.csv", range(6), [], range(6, 12))
    with pytest.raises(InputError, match="no val points"):
        select_points(
            data=str(prepared),
            out=str(prepared / "points.csv"),
            split="val",
            points_per_class=None,
            points=None,
        )
