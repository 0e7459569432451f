"""Attack records: fresh verdicts, censoring, file contract."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks import AttackResult, Traces, run_attack
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.evaluation.records import (
    KEY,
    LATER,
    SCHEMA,
    minimum_over_restarts,
    read_records,
    records_from_result,
    save_chunk,
)

SPEC = HopSkipJumpSpec(clip_min=0.0, clip_max=1.0)


class Threshold:
    """Class 1 where the first coordinate exceeds 0.5."""

    n_classes = 2
    input_shape = (3,)

    def predict(self, x: np.ndarray) -> np.ndarray:
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        return (x[:, 0] > 0.5).astype(np.int64)


def rows(*points: list[float]) -> np.ndarray:
    return np.array(points, dtype=np.float32)


NAN = [np.nan] * 3
X = rows([0.25, 0.5, 0.5], [0.75, 0.5, 0.5], [0.25, 0.5, 0.5])
Y = np.array([0, 0, 0])  # the model gets point 1 wrong
IDS = np.array([30, 10, 20])


def made_result(x_adv: list, x_final: list | None = None, init_ok: list | None = None):
    """A result for X with two restarts, with counts that tell the units apart."""
    x_adv = np.array(x_adv, dtype=np.float32)
    x_final = x_adv if x_final is None else np.array(x_final, dtype=np.float32)
    n = np.arange(6, dtype=np.int64).reshape(3, 2)
    return AttackResult(
        x_adv=x_adv,
        x_final_iterate=x_final,
        queries=100 + n,
        gradient_evaluations=0 * n,
        iterations=10 + n,
        init_ok=np.ones((3, 2), dtype=bool) if init_ok is None else np.array(init_ok),
        seeds=1000 + n,
    )


RESULT = made_result(
    [
        [[0.75, 0.5, 0.25], [0.625, 0.5, 0.5]],
        [[0.25, 0.5, 0.5], NAN],  # whatever an attack says of a misclassified point
        [NAN, NAN],
    ],
    [
        [[1.0, 0.5, 0.25], [0.75, 0.5, 0.5]],
        [[0.25, 0.5, 0.5], NAN],
        [NAN, NAN],
    ],
    [[True, True], [True, True], [False, True]],
)


def made_records(result: AttackResult = RESULT, input_range=(0.0, 1.0)) -> pd.DataFrame:
    return records_from_result(Threshold(), X, Y, IDS, result, SPEC, input_range)


def test_every_column_of_every_kind_of_record():
    frame = made_records()
    assert dict(frame.dtypes.astype(str)) == SCHEMA | LATER
    assert list(frame.columns) == [*SCHEMA, *LATER]
    assert frame["point_id"].tolist() == [10, 10, 20, 20, 30, 30]
    assert frame["restart"].tolist() == [0, 1, 0, 1, 0, 1]
    assert frame["epsilon"].isna().all()
    assert frame["loss"].isna().all()
    assert frame["label"].tolist() == [0] * 6
    assert frame["clean_prediction"].tolist() == [1, 1, 0, 0, 0, 0]
    assert frame["adversarial_prediction"].tolist() == [1, 1, pd.NA, pd.NA, 1, 1]
    assert frame["success"].tolist() == [True, True, False, False, True, True]
    expected = {
        "l1": [0, 0, np.nan, np.nan, 0.75, 0.375],
        "l2": [0, 0, np.nan, np.nan, np.sqrt(0.3125), 0.375],
        "linf": [0, 0, np.nan, np.nan, 0.5, 0.375],
        "l2_final_iterate": [0, 0, np.nan, np.nan, np.sqrt(0.625), 0.5],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(frame[name], values, rtol=1e-15)
    # Point 30 was given first, so its units are numbers 0 and 1, and so on.
    assert frame["queries"].tolist() == [102, 103, 104, 105, 100, 101]
    assert frame["iterations"].tolist() == [12, 13, 14, 15, 10, 11]
    assert frame["seed"].tolist() == [1002, 1003, 1004, 1005, 1000, 1001]
    assert frame["gradient_evaluations"].tolist() == [0] * 6
    assert frame["init_ok"].tolist() == [True, True, False, True, True, True]
    assert not frame["box_violation"].any()


def test_success_is_the_models_word_not_the_attacks():
    # Point 30, restart 0: the attack hands back a point that is not adversarial.
    result = made_result(
        [[[0.5, 0.5, 0.5], [0.625, 0.5, 0.5]], [X[1], X[1]], [NAN, [0.75, 0.5, 0.5]]],
        # Restart 1: adversarial after all, but its last iterate is not.
        [[[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]], [X[1], X[1]], [NAN, [0.75, 0.5, 0.5]]],
    )
    frame = made_records(result).set_index(["point_id", "restart"])
    failed, found = frame.loc[(30, 0)], frame.loc[(30, 1)]
    assert not failed["success"]
    assert failed["adversarial_prediction"] == 0
    assert failed[["l1", "l2", "linf", "l2_final_iterate"]].isna().all()
    assert found["success"]
    assert found["l2"] == 0.375
    assert np.isnan(found["l2_final_iterate"])


def test_box_violations_are_seen_in_float32():
    above = np.nextafter(np.float32(0.8), np.float32(1))
    below = np.nextafter(np.float32(0.01), np.float32(0))
    result = made_result(
        [[[0.75, above, 0.5], [0.75, 0.8, 0.01]], [X[1], X[1]], [[0.75, 0.5, below], NAN]]
    )
    # float32(0.8) lies above 0.8 and float32(0.01) below 0.01: float64 would see violations.
    frame = made_records(result, input_range=(np.float64(0.01), np.float64(0.8)))
    assert frame["box_violation"].tolist() == [False, False, True, False, True, False]


def test_a_single_nan_entry_is_a_failure():
    result = made_result(
        [[[0.75, np.nan, 0.5], [0.75, 0.5, 0.5]], [X[1], X[1]], [NAN, NAN]],
    )
    frame = made_records(result).set_index(["point_id", "restart"])
    assert not frame.loc[(30, 0), "success"]
    assert np.isnan(frame.loc[(30, 0), "l2"])
    assert frame.loc[(30, 1), "success"]


def test_epsilon_and_loss_come_from_the_settings_where_they_have_them(tmp_path):
    class Gradient(Settings):
        epsilon: float
        loss: str

    frame = records_from_result(
        Threshold(), X, Y, IDS, RESULT, Gradient(epsilon=0.5, loss="margin"), (0.0, 1.0)
    )
    assert frame["epsilon"].tolist() == [0.5] * 6
    assert frame["loss"].tolist() == ["margin"] * 6
    io.write_table(tmp_path / "a.parquet", frame)
    pd.testing.assert_frame_equal(read_records(tmp_path / "a.parquet"), frame)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"point_ids": np.array([1, 1, 2])}, "repeat"),
        ({"point_ids": np.array([1, 2])}, "3 integers"),
        ({"point_ids": np.array([1.0, 2.0, 3.0])}, "3 integers"),
        ({"x": X[:2]}, "does not fit"),
        ({"y": Y[:2]}, "does not fit"),
        ({"x": np.full_like(X, np.nan)}, "finite float32"),
        ({"x": X.astype(np.float64)}, "finite float32"),
    ],
)
def test_points_that_do_not_fit_are_refused(changed, message):
    arguments = {"x": X, "y": Y, "point_ids": IDS} | changed
    with pytest.raises(InputError, match=message):
        records_from_result(
            model=Threshold(), result=RESULT, spec=SPEC, input_range=(0.0, 1.0), **arguments
        )


# --- files ------------------------------------------------------------------------------


def test_a_chunk_on_disk(tmp_path):
    frame = made_records()
    paths = tmp_path / "chunk0.parquet", tmp_path / "chunk0.safetensors"
    timing = tmp_path / "chunk0.timing.json"
    save_chunk(
        *paths,
        records=frame,
        x=X,
        point_ids=IDS,
        result=RESULT,
        path_timing=timing,
        timing={"seconds": 1.5},
    )
    pd.testing.assert_frame_equal(read_records(paths[0]), frame)
    assert io.read_json(timing) == {"seconds": 1.5}
    arrays = io.read_tensors(paths[1])
    assert arrays["point_id"].tolist() == [10, 20, 30]
    assert arrays["best_restart"].tolist() == [0, -1, 1]
    assert arrays["x"].tobytes() == X[[1, 2, 0]].tobytes()
    expected = rows([0.75, 0.5, 0.5], NAN, [0.625, 0.5, 0.5])
    np.testing.assert_array_equal(arrays["x_adv"], expected)
    expected = rows([0.75, 0.5, 0.5], NAN, [0.75, 0.5, 0.5])
    np.testing.assert_array_equal(arrays["x_final_iterate"], expected)
    assert {array.dtype.name for array in arrays.values()} == {"int64", "float32"}


def test_what_an_attack_left_of_a_failure_is_not_stored(tmp_path):
    left = [[0.5, 0.5, 0.5], [0.4, 0.5, 0.5]]  # finite, but still of class 0
    result = made_result([left, [X[1], X[1]], left])
    paths = tmp_path / "a.parquet", tmp_path / "a.safetensors"
    save_chunk(*paths, records=made_records(result), x=X, point_ids=IDS, result=result)
    arrays = io.read_tensors(paths[1])
    assert arrays["best_restart"].tolist() == [0, -1, -1]
    for name in ("x_adv", "x_final_iterate"):
        assert np.isnan(arrays[name]).all(axis=1).tolist() == [False, True, True]


def taken(result: AttackResult, chosen: list[int]) -> AttackResult:
    """Returns the rows chosen of a result, with traces that tell points and restarts apart."""
    arrays = {k: v[chosen] for k, v in vars(result).items() if k != "traces"}
    number = np.arange(result.seeds.size * 4).reshape(*result.seeds.shape, 4)
    values = number.astype(np.float32)
    traces = Traces(number[chosen], values[chosen], 2 * values[chosen])
    return AttackResult(**arrays, traces=traces)


@settings(deadline=None, max_examples=10)
@given(order=st.permutations([0, 1, 2]))
def test_equal_results_are_equal_files_whatever_the_order_of_points(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("records")
    for name, chosen in (("a", [0, 1, 2]), ("b", order)):
        result = taken(RESULT, chosen)
        x, y, ids = X[chosen], Y[chosen], IDS[chosen]
        frame = records_from_result(Threshold(), x, y, ids, result, SPEC, (0.0, 1.0))
        paths = folder / f"{name}.parquet", folder / f"{name}.safetensors"
        save_chunk(*paths, records=frame, x=x, point_ids=ids, result=result)
    for suffix in ("parquet", "safetensors"):
        a, b = (folder / f"{name}.{suffix}" for name in "ab")
        assert a.read_bytes() == b.read_bytes()


def test_traces_stand_in_the_order_of_point_ids(tmp_path):
    result = taken(RESULT, [0, 1, 2])
    frame = made_records(result)
    paths = tmp_path / "a.parquet", tmp_path / "a.safetensors"
    save_chunk(*paths, records=frame, x=X, point_ids=IDS, result=result)
    arrays, order = io.read_tensors(paths[1]), np.argsort(IDS)
    assert arrays["trace_queries"].dtype == np.int64
    for name in ("queries", "boundary", "iterate"):
        expected = getattr(result.traces, name)[order]
        assert arrays[f"trace_{name}"].tobytes() == expected.tobytes()


def test_chunks_are_joined_and_csv_files_read_alike(tmp_path):
    frame = made_records()
    io.write_table(tmp_path / "b.parquet", frame[frame["point_id"] != 20])
    io.write_table(tmp_path / "a.csv", frame[frame["point_id"] == 20])
    joined = read_records([tmp_path / "b.parquet", tmp_path / "a.csv"])
    pd.testing.assert_frame_equal(joined, frame)
    io.write_table(tmp_path / "c.csv", frame)
    pd.testing.assert_frame_equal(read_records(tmp_path / "c.csv"), frame)


def test_null_is_null_in_the_file(tmp_path):
    import pyarrow.parquet

    io.write_table(tmp_path / "a.parquet", made_records())
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    counts = {name: table[name].null_count for name in table.column_names}
    assert {name for name, count in counts.items() if count} == {
        "epsilon", "loss", "adversarial_prediction", "l1", "l2", "linf", "l2_final_iterate",
        "steps_without_gradient", "start_id", "start_shared", "target",
    }  # fmt: skip
    assert counts["l2"] == 2
    assert counts["epsilon"] == 6


def edited(column: str, row: int, value: object) -> pd.DataFrame:
    frame = made_records()
    frame.loc[row, column] = value
    return frame


# Rows of made_records: 0, 1 misclassified; 2, 3 failed; 4, 5 found.
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (made_records().drop(columns="seed"), "missing: seed"),
        (made_records().assign(extra=1), "unknown: extra"),
        (made_records().astype({"success": "int64"}), "'success'.*expected bool"),
        (made_records().astype({"queries": "float64"}), "'queries'.*expected int64"),
        (made_records().astype({"l2": "string"}), "'l2'.*expected float64"),
        (made_records().assign(loss=1.5), "'loss'.*expected string"),
        (made_records().assign(label=pd.NA), "'label'.*expected int64"),
        (made_records().assign(adversarial_prediction=0.5), "'adversarial_prediction'"),
        (pd.concat([made_records()] * 2), "twice.*point 10"),
        (edited("l2", 4, np.nan), "a success without a distance.*point 30, restart 0"),
        (edited("l2", 2, 0.0), "a failure with a distance"),
        (edited("l2_final_iterate", 3, 0.0), "a failure with a distance"),
        (edited("adversarial_prediction", 4, 0), "prediction disagree"),
        (edited("adversarial_prediction", 4, pd.NA), "prediction disagree"),
        (edited("success", 4, False), "failure with a distance"),
        (edited("adversarial_prediction", 2, 1), "prediction disagree"),
        (edited("l2", 0, 0.5), "misclassified"),
        (edited("linf", 0, 0.5), "misclassified"),
        (made_records().assign(l1=0.0, l2=0.0, linf=0.0).iloc[4:], "at distance 0"),
        (edited("init_ok", 5, False), "without an adversarial start"),
        (edited("l2_final_iterate", 5, -1.0), "negative or infinite"),
        (edited("l1", 5, np.inf), "negative or infinite"),
        (edited("linf", 5, 0.6), "linf <= l2 <= l1"),
        (edited("l1", 5, 0.3), "linf <= l2 <= l1"),
        (edited("queries", 5, -1), "count is negative"),
    ],
)
def test_wrong_records_are_refused(tmp_path, frame, message):
    path = tmp_path / "a.parquet"
    io.write_table(path, frame)
    with pytest.raises(InputError, match=message) as caught:
        read_records(path)
    assert "a.parquet" in str(caught.value)
    with pytest.raises(InputError, match=message):
        save_chunk(path, path, records=frame, x=X, point_ids=IDS, result=RESULT)


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="No files"):
        read_records([])
    with pytest.raises(InputError, match="does not exist"):
        read_records(tmp_path / "none.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        read_records(tmp_path / "torn.parquet")
    io.write_table(tmp_path / "a.parquet", made_records())
    with pytest.raises(InputError, match="twice"):
        read_records([tmp_path / "a.parquet", tmp_path / "a.parquet"])


def test_a_chunk_is_only_saved_with_its_own_points(tmp_path):
    target = tmp_path / "a.parquet", tmp_path / "a.safetensors"
    for ids in (IDS + 1, IDS[:2]):
        with pytest.raises(InputError, match="not those of the points"):
            save_chunk(*target, records=made_records(), x=X, point_ids=ids, result=RESULT)
    assert not list(tmp_path.iterdir())


# --- minimum over restarts --------------------------------------------------------------


def test_minimum_over_restarts():
    frame = made_records(
        made_result(
            [
                [[0.75, 0.5, 0.25], [0.75, 0.5, 0.5]],
                [X[1], X[1]],
                [NAN, NAN],
            ],
            [
                [[0.75, 0.5, 0.25], [1.0, 0.5, 0.5]],
                [X[1], X[1]],
                [NAN, NAN],
            ],
        )
    )
    table = minimum_over_restarts(frame)
    assert table["point_id"].tolist() == [10, 20, 30]
    assert table["success"].tolist() == [True, False, True]
    # The two minima need not come from the same restart.
    np.testing.assert_allclose(table["l2"], [0, np.nan, 0.5])
    np.testing.assert_allclose(table["l2_final_iterate"], [0, np.nan, np.sqrt(0.3125)])
    np.testing.assert_allclose(table["linf"], [0, np.nan, 0.5])
    assert table["best_restart"].tolist() == [0, pd.NA, 1]
    assert table["restarts"].tolist() == [2, 2, 2]
    assert table["failed_restarts"].tolist() == [0, 2, 0]
    assert table["queries"].tolist() == [205, 209, 201]
    assert table["clean_prediction"].tolist() == [1, 0, 0]


distance = st.one_of(st.none(), st.floats(0.001, 10))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(distance, min_size=3, max_size=3), min_size=1, max_size=4), st.randoms())
def test_minimum_over_restarts_against_a_plain_loop(found, random):
    frame = made_records().iloc[:0]
    lines = [
        {"point_id": i, "restart": r, "success": d is not None, "l2": np.nan if d is None else d}
        for i, restarts in enumerate(found)
        for r, d in enumerate(restarts)
    ]
    random.shuffle(lines)
    frame = pd.DataFrame(lines).reindex(columns=list(SCHEMA))
    whole = {name: 0 for name, kind in SCHEMA.items() if kind == "int64"}
    frame = frame.fillna(whole).astype(SCHEMA)
    table = minimum_over_restarts(frame).set_index("point_id")
    for i, restarts in enumerate(found):
        good = [(d, r) for r, d in enumerate(restarts) if d is not None]
        assert table.loc[i, "success"] == bool(good)
        assert table.loc[i, "failed_restarts"] == 3 - len(good)
        if good:
            assert (table.loc[i, "l2"], table.loc[i, "best_restart"]) == min(good)
        else:
            assert np.isnan(table.loc[i, "l2"])
            assert table.loc[i, "best_restart"] is pd.NA


def test_epsilons_and_losses_stay_apart():
    one = made_records().assign(epsilon=0.5, loss="a")
    two = made_records().assign(epsilon=0.25, loss="b")
    table = minimum_over_restarts(pd.concat([one, two]))
    assert table[["point_id", "epsilon", "loss"]].to_numpy().tolist() == [
        [i, e, loss] for i in (10, 20, 30) for e, loss in ((0.25, "b"), (0.5, "a"))
    ]
    with pytest.raises(InputError, match="several epsilons"):
        save_chunk("a", "b", records=pd.concat([one, two]), x=X, point_ids=IDS, result=RESULT)


# --- with the attack --------------------------------------------------------------------


def test_records_of_a_real_attack(tmp_path):
    x = np.random.default_rng(0).uniform(size=(4, 3)).astype(np.float32)
    y = Threshold().predict(x)
    y[2] = 1 - y[2]
    spec = HopSkipJumpSpec(clip_min=0.0, clip_max=1.0, restarts=2, max_iter=20)
    seeds = np.arange(8).reshape(4, 2)
    result = run_attack("hopskipjump", Threshold(), x, y, spec, seeds)
    ids = np.arange(4)
    frame = records_from_result(Threshold(), x, y, ids, result, spec, (0.0, 1.0))
    paths = tmp_path / "a.parquet", tmp_path / "a.safetensors"
    save_chunk(*paths, records=frame, x=x, point_ids=ids, result=result)
    frame = read_records(paths[0])
    assert not frame.duplicated(list(KEY)).any()
    assert frame["success"].all()
    assert not frame["box_violation"].any()
    best = minimum_over_restarts(frame).set_index("point_id")["l2"]
    true = np.where(np.arange(4) == 2, 0, np.abs(x[:, 0] - 0.5))
    assert (best >= true * (1 - 1e-6)).all()
    assert (best <= true * 1.02 + 1e-6).all()
    arrays = io.read_tensors(paths[1])
    stored = np.linalg.norm((arrays["x_adv"] - arrays["x"]).astype(np.float64), axis=1)
    np.testing.assert_allclose(stored, best, rtol=1e-6)
