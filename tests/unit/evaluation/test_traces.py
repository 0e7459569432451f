"""Traces of attacks against a search that looks at every entry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust import attacks
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.records import records_from_result, save_chunk
from medrobust.evaluation.traces import StoredTraces, read_traces

from tests.unit.attack_files import made_traces, write_traces

NAN = np.nan


def test_an_ended_run_keeps_what_it_had_and_a_failed_one_has_nothing(tmp_path):
    boundary = [[[3, 2, NAN, NAN], [NAN] * 4, [4, 4, 1, 0.5]]]
    iterate = [[[5, 6, NAN, NAN], [NAN] * 4, [4, 5, 1, 2]]]
    queries = [[[10, 30, 0, 0], [0] * 4, [5, 20, 40, 70]]]
    traces = read_traces([write_traces(tmp_path / "a.safetensors", boundary, iterate, queries)])
    inf = [np.inf] * 4
    assert traces.boundary.tolist() == [[[3, 2, 2, 2], inf, [4, 4, 1, 0.5]]]
    assert traces.iterate.tolist() == [[[5, 6, 6, 6], inf, [4, 5, 1, 2]]]
    assert traces.queries.tolist() == [[[10, 30, 30, 30], [0] * 4, [5, 20, 40, 70]]]
    assert (traces.restarts, traces.max_iter) == (3, 3)


def test_what_is_reached_within_queries(tmp_path):
    boundary = [[[3, 2, 1], [4, 0.5, 0.5]], [[2, 1.5, 1], [NAN] * 3]]
    iterate = [[[3, 5, 2], [4, 0.6, 0.9]], [[2, 1.7, 1], [NAN] * 3]]
    queries = [[[10, 20, 40], [15, 30, 60]], [[50, 60, 70], [0] * 3]]
    traces = read_traces([write_traces(tmp_path / "a.safetensors", boundary, iterate, queries)])
    near, far = traces.within_queries(np.array([9, 10, 20, 29, 30, 50, 1000]))
    inf = np.inf
    # As float32, in which traces are stored.
    assert near == pytest.approx(
        np.float32([[inf, 3, 2, 2, 0.5, 0.5, 0.5], [inf, inf, inf, inf, inf, 2, 1]])
    )
    assert far == pytest.approx(
        np.float32([[inf, 3, 4, 4, 0.6, 0.6, 0.9], [inf, inf, inf, inf, inf, 2, 1]])
    )


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3), st.integers(0, 6))
def test_within_queries_is_a_search_over_all_entries(seed, n, restarts, max_iter):
    boundary, iterate, queries = made_traces(seed, n, restarts, max_iter)
    traces = StoredTraces(np.arange(n), queries, boundary, iterate)
    budgets = np.unique(np.append(queries.ravel(), [0, 10**6]))[:: max(1, queries.size // 9)]
    near, far = traces.within_queries(budgets)
    for point in range(n):
        for column, budget in enumerate(budgets):
            ends = [
                max((t for t in range(max_iter + 1) if queries[point, r, t] <= budget), default=-1)
                for r in range(restarts)
            ]
            for found, kept in ((near, boundary), (far, iterate)):
                reached = [kept[point, r, t] for r, t in enumerate(ends) if t >= 0]
                assert found[point, column] == min(reached, default=np.inf)


def test_files_come_in_any_order(tmp_path):
    boundary, iterate, queries = made_traces(3, 4, 2, 5)
    for name, rows, points in (("a", [2, 0], [9, 4]), ("b", [3, 1], [11, 7])):
        parts = (boundary[rows], iterate[rows], queries[rows])
        write_traces(tmp_path / f"{name}.safetensors", *parts, points=points)
    traces = read_traces([tmp_path / "b.safetensors", tmp_path / "a.safetensors"])
    assert traces.point_id.tolist() == [4, 7, 9, 11]
    assert traces.boundary == pytest.approx(boundary.astype(np.float32))
    assert np.array_equal(traces.queries, queries)


def test_an_engine_without_traces_has_none(tmp_path):
    path = tmp_path / "a.safetensors"
    io.write_tensors(path, {"point_id": np.arange(3), "x": np.zeros((3, 2), np.float32)})
    assert read_traces([path]) is None


GOOD = {
    "boundary": [[[3.0, 2.0, 1.0]]],
    "iterate": [[[3.0, 2.5, 1.5]]],
    "queries": [[[1, 5, 9]]],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boundary": [[[1.0, 2.0, 1.0]]]}, "smallest distance rises"),
        ({"boundary": [[[3.0, NAN, 1.0]]]}, "goes on after it ended"),
        ({"iterate": [[[3.0, 2.0, NAN]]]}, "do not end together"),
        ({"queries": [[[5, 4, 9]]]}, "falls or is negative"),
        ({"queries": [[[-5, 4, 9]]]}, "falls or is negative"),
        ({"iterate": [[[3.0, -2.0, 1.0]]]}, "negative or infinite"),
        ({"boundary": [[[np.inf, 2.0, 1.0]]]}, "negative or infinite"),
        ({"queries": [[[1, 5]]]}, "shapes or types"),
        ({"boundary": [[3.0]], "iterate": [[3.0]], "queries": [[3]]}, "shapes or types"),
        ({"points": [1, 2]}, "shapes or types"),
    ],
)
def test_traces_that_cannot_be_are_refused(tmp_path, change, message):
    path = tmp_path / "a.safetensors"
    write_traces(path, **GOOD)
    assert read_traces([path]) is not None
    write_traces(path, **(GOOD | change))
    with pytest.raises(InputError, match=message):
        read_traces([path])


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    one, two, none = (tmp_path / f"{name}.safetensors" for name in ("one", "two", "none"))
    write_traces(one, **GOOD)
    with pytest.raises(InputError, match="occurs twice"):
        read_traces([one, one])
    write_traces(two, *made_traces(0, 1, 1, 5), points=[4])
    io.write_tensors(none, {"point_id": np.arange(1)})
    for other in (two, none):
        with pytest.raises(InputError, match="do not belong together"):
            read_traces([one, other])
    tensors = io.read_tensors(one)
    del tensors["trace_iterate"]
    io.write_tensors(one, tensors)
    with pytest.raises(InputError, match="Arrays are missing: trace_iterate"):
        read_traces([one])
    with pytest.raises(InputError, match="does not exist"):
        read_traces([tmp_path / "gone.safetensors"])


class FirstCoordinate:
    """Class 1 where the first coordinate exceeds 0.5."""

    n_classes = 2
    input_shape = (3,)

    def predict(self, x):
        return (x[:, 0] > 0.5).astype(np.int64)


def test_traces_are_read_as_an_attack_saves_them(tmp_path):
    kept = made_traces(1, 3, 2, 4)
    boundary, iterate, queries = (np.asarray(a, t) for a, t in zip(kept, "ffq", strict=True))
    origin = np.float32([[0.25, 0.5, 0.5]] * 3)
    found = np.repeat(origin[:, None], 2, axis=1) + np.float32([0.5, 0, 0])
    whole = np.ones((3, 2), np.int64)
    made = attacks.Traces(queries, boundary, iterate)
    result = attacks.AttackResult(found, found, whole, whole, whole, whole > 0, whole, made)
    ids, labels, spec = np.array([30, 10, 20]), np.zeros(3, np.int64), HopSkipJumpSpec()
    setting = (origin, labels, ids, result, spec, (0.0, 1.0))
    save_chunk(
        tmp_path / "chunk.parquet",
        tmp_path / "chunk.safetensors",
        records=records_from_result(FirstCoordinate(), *setting),
        x=origin,
        point_ids=ids,
        result=result,
    )
    traces = read_traces([tmp_path / "chunk.safetensors"])
    assert traces.point_id.tolist() == [10, 20, 30]
    for name, array in (("boundary", boundary), ("iterate", iterate), ("queries", queries)):
        assert np.array_equal(getattr(traces, name), array[[1, 2, 0]]), name
