"""Maps of the plane and the search of ima: against a line as boundary, and what trains."""

import numpy as np
import pytest
import torch
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.data.prepared.splits import write_split
from medrobust.data.prepared.store import load_dataset
from medrobust.evaluation import plane
from medrobust.jobs import plane as jobs
from medrobust.jobs.shared import load_ensemble
from medrobust.models import layer_norm_mlp
from medrobust.training import ima, search_trace
from medrobust.training.engine import boundary_search

from tests.unit.training.test_ima_search import (
    EVERYWHERE,
    curved,
    plain_ascent,
    scattered,
    search,
    two_classes,
)

NETWORK = {"architecture": {"name": "layer_norm_mlp", "hidden_units": [6]}, "vote": "soft"}
METHOD = {"name": "ima", "margin_step": 0.05, "largest_margin": 0.6, "max_epochs": 1}
N_TRAIN, N_TEST = 400, 60
WRONG = 6  # a training point that is called wrong
#: Boundary of the made model: x_1 + 2 x_2 = 0.2, class 1 above.
W, B = np.array([1.0, 2.0]), -0.2


def linear_member() -> dict[str, np.ndarray]:
    """A member whose logits differ by 7 (W x + B): a leaky unit and its mirror."""
    zeros = {name: np.zeros_like(v) for name, v in drawn_member().items()}
    # leaky(z) - leaky(-z) = 1.01 z
    zeros["w1"][0, 0], zeros["w1"][0, 1] = W, -W
    zeros["b1"][0, :2] = [B, -B]
    zeros["w2"][0, 1, :2] = [7 / 1.01, -7 / 1.01]
    return zeros


def drawn_member() -> dict[str, np.ndarray]:
    spec = layer_norm_mlp.Spec(hidden_units=[6])
    return layer_norm_mlp.initial_parameters(spec, (2,), 2, [3])


def distance(x: np.ndarray) -> np.ndarray:
    """From the boundary, in Linf."""
    return np.abs(x @ W + B) / np.abs(W).sum()


def write_dataset(folder, x, y, classes=2):
    """Writes a data set of which the last rows are the test split."""
    io.write_array(folder / "x.npy", x)
    io.write_array(folder / "y.npy", y)
    card = {"name": "made", "class_names": [str(c) for c in range(classes)]}
    facts = {"input_range": [-5.0, 5.0], "shape": list(x.shape), "dtype": str(x.dtype)}
    io.write_json(folder / "card.json", card | facts)
    rows = np.arange(len(x))
    write_split(folder / "split_fold0.csv", rows[:N_TRAIN], rows[:0], rows[N_TRAIN:])


def make(folder):
    """Writes a data set of the plane, a model whose boundary is a line, and margins."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (N_TRAIN + N_TEST, 2)).astype(np.float32)
    y = (x @ W + B > 0).astype(np.int64)
    y[WRONG] = 1 - y[WRONG]
    write_dataset(folder, x, y)
    io.write_tensors(folder / "members.safetensors", linear_member())
    ids = np.arange(0, N_TRAIN, 2, dtype=np.int32)  # trained on every second point
    margins = {
        "margin": rng.uniform(0.05, 0.6, (1, len(ids))).astype(np.float32),
        "point_id": ids,
        "label": y[ids].astype(np.int32),
    }
    io.write_tensors(folder / "margins.safetensors", margins)
    return load_dataset(folder), margins


def job(folder, **more):
    """Returns the arguments that both jobs have."""
    members = [str(folder / "members.safetensors")]
    out = str(folder / "out.safetensors")
    return {"data": str(folder), "members": members, "compute_threads": 1, "out": out} | more


def map_of(folder):
    jobs.map_plane(**job(folder, model=NETWORK, device="cpu"))
    return io.read_tensors(folder / "out.safetensors")


def trace(folder, seed=1, model=NETWORK | {"method": METHOD}):
    margins, names = str(folder / "margins.safetensors"), ["ima", "made@standin", 0, 0, "m"]
    jobs.trace_search(**job(folder, margins=margins, model=model, names=names, seed=seed))
    return io.read_tensors(folder / "out.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A made data set, not to be changed."""
    return tmp_path_factory.mktemp("plane")


@pytest.fixture(scope="module")
def made(folder):
    return make(folder)


@pytest.fixture(scope="module")
def found(folder, made):
    """The search of seed 1."""
    return trace(folder)


# Maps


def test_a_map_equals_the_model_asked_point_by_point(tmp_path):
    dataset, _ = make(tmp_path)
    io.write_tensors(tmp_path / "members.safetensors", drawn_member())
    found = map_of(tmp_path)
    ensemble = load_ensemble([str(tmp_path / "members.safetensors")], NETWORK, dataset, "cpu")
    assert found["probability"].shape == (len(found["second"]), len(found["first"]))
    rng = np.random.default_rng(0)
    for _ in range(50):
        i, j = (int(rng.integers(len(found[name]))) for name in ("second", "first"))
        place = np.float32([[found["first"][j], found["second"][i]]])
        expected = ensemble.mean_probabilities(place)[0, 1]
        assert found["probability"][i, j] == np.float32(expected)
    np.testing.assert_array_equal(found["points"], dataset.x_test)
    np.testing.assert_array_equal(found["labels"], dataset.y_test)


def test_a_map_reaches_beyond_the_test_points_and_has_square_cells(folder, made):
    dataset, found = made[0], map_of(folder)
    assert len(found["first"]) == 400
    for axis, name in enumerate(("first", "second")):
        values, own = found[name], dataset.x_test[:, axis]
        assert values[0] == pytest.approx(own.min() - 0.5, abs=1e-6)
        assert values[-1] == pytest.approx(own.max() + 0.5, abs=1e-6)
    steps = [np.diff(found[name]).mean() for name in ("first", "second")]
    assert steps[0] == pytest.approx(steps[1], rel=0.01)
    # Class 1 lies above the line.
    above = (found["first"] * W[0])[None] + (found["second"] * W[1])[:, None] + B > 0
    assert ((found["probability"] > 0.5) == above).mean() > 0.999


@pytest.mark.parametrize("shape, classes", [((3,), 2), ((1, 2), 2), ((2,), 3)])
def test_data_that_are_no_plane_of_two_classes_are_refused(tmp_path, shape, classes):
    dataset, _ = make(tmp_path)
    write_dataset(tmp_path, np.zeros((len(dataset.y), *shape), np.float32), dataset.y, classes)
    for ask in (map_of, trace):
        with pytest.raises(InputError, match="two coordinates and two classes"):
            ask(tmp_path)


# Paths


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_kept_path_is_the_way_written_out_and_changes_nothing(norm):
    network = curved(2)
    x, y, _ = scattered(network, 150, 1)
    radius = torch.linspace(0.01, 0.6, 150, dtype=x.dtype)
    inner = radius - 0.01
    draws = lambda: torch.Generator().manual_seed(4)  # noqa: E731
    path = boundary_search.SearchPath()
    rows, noisy = search(norm)(network, x, y, radius, inner, 2, draws(), path)
    plain_rows, plain_noisy = search(norm)(network, x, y, radius, inner, 2, draws())
    assert torch.equal(rows, plain_rows)
    torch.testing.assert_close(noisy, plain_noisy)
    start = boundary_search.uniform_start(x, inner, norm, EVERYWHERE, draws())
    slopes = boundary_search.away_from(y, "cross_entropy", 2)
    expected = torch.stack(plain_ascent(network, slopes, start, x, radius, radius / 5, 20, norm))
    wrong = torch.stack([network.logits(points).argmax(dim=1) != y for points in expected])
    found = torch.stack(path.points)
    assert found.shape == expected.shape
    for row in range(150):
        first = int(wrong[:, row].int().argmax()) if wrong[:, row].any() else 20
        torch.testing.assert_close(found[: first + 1, row], expected[: first + 1, row])
        assert found[first + 1 :, row].isnan().all()
        if row in rows:
            place = rows.tolist().index(row)
            assert torch.equal(path.wrong[place], found[first, row])
            before = found[first - 1, row] if first else x[row]
            assert torch.equal(path.right[place], before)
    assert torch.equal(path.middles[-1], noisy) and len(path.middles) == 10


def test_the_middles_close_in_on_a_known_boundary():
    network = two_classes(np.array([2.0, 0.0]), -0.6)  # x_1 = 0.3
    x = torch.zeros(5, 2, dtype=torch.float64)
    radius = torch.tensor([0.2, 0.29, 0.31, 0.5, 0.9], dtype=x.dtype)
    y, path = torch.zeros(5, dtype=torch.int64), boundary_search.SearchPath()
    rows, _ = search("linf")(
        network, x, y, radius, torch.zeros(5), 2, torch.Generator().manual_seed(0), path
    )
    assert rows.tolist() == [2, 3, 4]  # the others' balls do not reach it
    for halving, middles in enumerate(path.middles, start=1):
        length = (path.wrong - path.right)[:, 0]
        assert ((middles[:, 0] - 0.3).abs() <= length / 2**halving + 1e-12).all()


# Searches


def test_case_0_is_a_ball_that_the_boundary_does_not_reach(folder, made):
    dataset, _ = made
    for seed in range(3):
        found = trace(folder, seed)
        x, margin = found["case0_x"], found["case0_margin"][0]
        assert distance(x) > margin and distance(x) < 1.35 * margin * 1.5
        assert found["case0_clear"][0] == 1 and margin < 0.6
        path, row = found["case0_path"], found["case0_point_id"][0]
        assert path.shape == (21, 2) and dataset.y[row] == found["case0_label"][0]
        np.testing.assert_array_equal(dataset.x[row], x)
        assert (np.abs(path - x) <= margin + 1e-6).all()
        assert (((path @ W + B) > 0) == found["case0_label"][0]).all()
        # From the start on, 4 / 20 of the margin in each coordinate, until the corner.
        moved = np.abs(np.diff(path, axis=0))
        assert moved.max() == pytest.approx(margin / 5, rel=1e-4) and (moved[-1] == 0).all()


def test_case_1_crosses_the_line_and_its_middles_find_it(found):
    label, path = found["case1_label"][0], found["case1_path"]
    right = ((path @ W + B) > 0) == label
    assert right[:-1].all() and not right[-1] and len(path) > 3
    np.testing.assert_array_equal(found["case1_wrong"], path[-1])
    np.testing.assert_array_equal(found["case1_right"], path[-2])
    assert distance(found["case1_x"]) < found["case1_margin"][0]
    middles = found["case1_middles"]
    length = np.abs(path[-1] - path[-2]).max()
    assert len(middles) == 10
    for halving, middle in enumerate(middles, start=1):
        assert distance(middle) <= length / 2**halving + 1e-6
    called = ((middles @ W + B) > 0) == label
    clear = distance(middles) > 1e-6
    np.testing.assert_array_equal(called[clear], found["case1_middle_right"].astype(bool)[clear])
    for name in ("first", "second"):
        values = found[f"case1_segment_{name}"]
        axis = ("first", "second").index(name)
        for end in (path[-1], path[-2], middles[0]):
            assert values[0] < end[axis] < values[-1]


def test_a_margin_shrinks_to_the_distance_of_the_noisy_point(found, made):
    x, noisy, after = found["shrink_x"], found["shrink_noisy"], found["shrink_after"][0]
    assert after == pytest.approx(np.abs(noisy - x).max(), abs=1e-6)
    assert found["shrink_margin"][0] - after >= 0.05 and after >= distance(x) - 1e-4
    assert distance(noisy) < 1e-3
    _, margins = made
    place = margins["point_id"].tolist().index(int(found["shrink_point_id"][0]))
    assert found["shrink_margin"][0] == margins["margin"][0, place]
    assert 0 < found["shrunk"][0] < found["points"][0] == N_TRAIN // 2


def test_the_sweep_that_is_drawn_is_that_of_the_training(folder, found, made):
    dataset, margins = made
    spec = ima.Spec(**{k: v for k, v in METHOD.items() if k != "name"})
    network = search_trace._first_member([folder / "members.safetensors"], NETWORK)
    x = torch.from_numpy(dataset.points(margins["point_id"]))
    y = torch.from_numpy(dataset.y[margins["point_id"]])
    seed = jobs.derive_seed(1, "search", "ima", "made@standin", 0, 0, "m")
    known = torch.from_numpy(margins["margin"][0])
    swept = ima.swept(
        spec, ima.search_of(spec, (-5.0, 5.0)), network, x, y, known, 2,
        torch.Generator().manual_seed(seed),
    )  # fmt: skip
    assert int((swept.margins < known).sum()) == found["shrunk"][0]
    place = margins["point_id"].tolist().index(int(found["shrink_point_id"][0]))
    assert swept.margins[place] == found["shrink_after"][0]
    at = swept.rows[swept.hit].tolist().index(place)
    np.testing.assert_allclose(swept.noisy[at], found["shrink_noisy"], atol=1e-6)


def test_balls_are_of_points_classified_correctly_and_hold_no_other_of_their_class(found, made):
    _, margins = made
    known = dict(zip(margins["point_id"].tolist(), margins["margin"][0].tolist(), strict=True))
    ids, x, radius = (found[f"balls_{name}"] for name in ("point_id", "x", "margin"))
    assert WRONG not in ids and len(set(ids)) == len(ids) and set(found["balls_label"]) == {0, 1}
    np.testing.assert_allclose(radius, [known[int(i)] for i in ids])
    for label in (0, 1):
        own = found["balls_label"] == label
        gaps = np.abs(x[own][:, None] - x[own][None]).max(axis=2)
        np.fill_diagonal(gaps, np.inf)
        assert (gaps >= np.maximum(radius[own][:, None], radius[own][None])).all()
        assert 1 < own.sum() <= search_trace.BALLS_PER_CLASS
    hit = np.isfinite(found["balls_noisy"]).all(axis=1)
    assert hit.any() and (distance(found["balls_noisy"][hit]) < 1e-3).all()


def test_the_order_and_the_starts_come_from_the_seed(folder, found):
    first, again, other = found, trace(folder, 1), trace(folder, 2)
    assert set(first) == set(again)
    assert all(np.array_equal(first[name], again[name], equal_nan=True) for name in first)
    assert not np.array_equal(first["case1_path"], other["case1_path"])


def test_what_there_is_not_is_left_out(tmp_path):
    """Margins so small that no ball reaches the boundary: no case 1, nothing to shrink."""
    _, margins = make(tmp_path)
    small = margins | {"margin": np.full_like(margins["margin"], 1e-6)}
    io.write_tensors(tmp_path / "margins.safetensors", small)
    found = trace(tmp_path)
    assert not any(name.startswith(("case1", "shrink_")) for name in found)
    assert found["shrunk"][0] == 0 and np.isnan(found["balls_noisy"]).all()
    assert "case0_path" in found


@pytest.mark.parametrize(
    ("margin", "grows"),
    [
        (np.nextafter(np.float32(0.6), np.float32(0)), False),
        (np.full(12, 0.05, np.float32).cumsum()[-1], False),  # twelve steps
        (np.full(11, 0.05, np.float32).cumsum()[-1], True),
    ],
)
def test_case_0_is_never_of_the_largest_margin(tmp_path, margin, grows):
    """Neither where float32 makes of it a little less, or a sum of steps a little more."""
    _, margins = make(tmp_path)
    margins["margin"][:] = margin
    io.write_tensors(tmp_path / "margins.safetensors", margins)
    assert ("case0_margin" in trace(tmp_path)) == grows


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: {"margin": m["margin"]},
        lambda m: m | {"margin": m["margin"][:, 1:]},
        lambda m: m | {"point_id": m["point_id"] + 10_000},
        lambda m: m | {"label": 1 - m["label"]},
    ],
)
def test_margins_of_other_points_are_refused(tmp_path, spoil):
    _, margins = make(tmp_path)
    io.write_tensors(tmp_path / "margins.safetensors", spoil(margins))
    with pytest.raises(InputError, match="not the margins"):
        trace(tmp_path)


def test_only_ima_has_such_a_search(folder, made):
    with pytest.raises(InputError, match="trained by ima"):
        trace(folder, model=NETWORK | {"method": {"name": "mma", "largest_margin": 1.0}})


def test_boxes_hold_what_they_are_around():
    points = np.float32([[0, 1], [2, 5]])
    box = plane.Box.around(points, 0.5)
    assert box.low.tolist() == [-0.5, 0.5] and box.high.tolist() == [2.5, 5.5]
    square = plane.Box.around_segment(points[0], points[1], 0.8)
    assert (square.high - square.low).tolist() == pytest.approx([6.4, 6.4])
    assert ((square.high + square.low) / 2).tolist() == pytest.approx([1, 3])
