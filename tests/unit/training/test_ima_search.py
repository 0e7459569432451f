"""Searches for noisy points: against linear models whose margins are known, and plain loops."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks.engine import gradient_ascent, norm_balls
from medrobust.attacks.engine.gradient_ascent import Network
from medrobust.models import layer_norm_mlp
from medrobust.models.engine import traced
from medrobust.training import ddn_training, mma
from medrobust.training.engine import boundary_search
from medrobust.training.engine.boundary_search import BoundarySearch

EVERYWHERE = (-np.inf, np.inf)
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def linear(w, b) -> Network:
    """A network with logits ``w x + b``, ``w [c, d]``."""
    tensors = {"w": torch.as_tensor(w, dtype=torch.float64), "b": torch.as_tensor(b)}

    def logits(spec, member, x):
        return x @ member["w"].t() + member["b"]

    module = SimpleNamespace(
        logits=logits,
        logits_and_pattern=lambda spec, member, x: traced.logits_and_trace(
            lambda own: logits(spec, member, own), x
        ),
        pull_back=lambda spec, member, trace, slopes: traced.pull_back(trace, slopes),
    )
    return Network(module, None, tensors)


def two_classes(w, b) -> Network:
    return linear(np.stack([np.zeros_like(w), w]), np.array([0.0, b]))


def curved(seed: int, classes: int = 2, d: int = 2) -> Network:
    """The network of Moons with large weights: its boundary bends, and all classes occur."""
    spec = layer_norm_mlp.Spec()
    arrays = layer_norm_mlp.initial_parameters(spec, (d,), classes, [seed])
    tensors = {n: torch.from_numpy(2.0 * v[0]).double() for n, v in arrays.items()}
    network = Network(layer_norm_mlp.ARCHITECTURE, spec, tensors)
    around = torch.randn(500, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tensors["b4"] -= network.logits(around).median(dim=0).values
    return network


def scattered(network: Network, n: int, seed: int, d: int = 2):
    """Points, labels that are mostly right, and a generator."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(0, 1, (n, d)))
    y = network.logits(x).argmax(dim=1)
    return x, y, torch.Generator().manual_seed(seed)


# Balls


@norms
@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 3), radius=st.floats(0.01, 2))
@settings(max_examples=30, deadline=None)
def test_a_step_has_its_length_and_ends_in_ball_and_range(norm, seed, size, radius):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(6, 5, generator=generator, dtype=torch.float64)
    radii = torch.full((6,), radius, dtype=x.dtype)
    start = norm_balls.uniform_start(x, radii, norm, (0.0, 1.0), generator)
    gradient = torch.randn(6, 5, generator=generator, dtype=x.dtype)
    balls = norm_balls.Balls(x, radii, norm, (0.0, 1.0))
    end = balls.step(start, gradient.clone(), torch.full((6, 1), size, dtype=x.dtype))
    order = np.inf if norm == "linf" else 2
    for points in (start, end):
        assert (np.linalg.norm(points - x, order, axis=1) <= radius + 1e-9).all()
        assert points.min() >= 0 and points.max() <= 1
    free = norm_balls.Balls(x, radii + 100, norm, EVERYWHERE)
    moved = (free.step(x, gradient.clone(), torch.full((6, 1), size, dtype=x.dtype)) - x).numpy()
    np.testing.assert_allclose(np.linalg.norm(moved, order, axis=1), size)
    assert ((moved * gradient.numpy()).sum(axis=1) > 0).all()


def test_a_projection_to_the_l2_ball_goes_to_the_nearest_point_of_it():
    x = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    balls = norm_balls.Balls(x, torch.tensor([1.0]), "l2", EVERYWHERE)
    sizes = torch.tensor([[3.0]], dtype=x.dtype)
    end = balls.step(x + 0.5, torch.tensor([[3.0, -4.0]], dtype=x.dtype), sizes)
    away = torch.tensor([0.5 + 1.8, 0.5 - 2.4], dtype=x.dtype)
    torch.testing.assert_close(end[0] - x[0], away / away.norm())


@norms
def test_a_gradient_of_zero_moves_nothing(norm):
    x = torch.rand(3, 4)
    balls = norm_balls.Balls(x, torch.ones(3), norm, EVERYWHERE)
    assert torch.equal(balls.step(x + 0.1, torch.zeros(3, 4), torch.ones(3, 1)), x + 0.1)
    tiny = torch.full((3, 4), 1e-42)
    assert torch.isfinite(balls.step(x + 0.1, tiny, torch.ones(3, 1))).all()


def test_starts_fill_the_cube_and_lie_on_the_sphere_in_many_dimensions():
    generator = torch.Generator().manual_seed(0)
    x, radii = torch.zeros(2000, 3), torch.full((2000,), 0.5)
    cube = norm_balls.uniform_start(x, radii, "linf", EVERYWHERE, generator)
    assert cube.abs().max() <= 0.5 and abs(cube.std().item() - 1 / 12**0.5) < 0.01
    x = torch.zeros(50, 784)
    sphere = norm_balls.uniform_start(x, torch.full((50,), 2.0), "l2", EVERYWHERE, generator)
    np.testing.assert_allclose(sphere.norm(dim=1), 2.0, rtol=1e-5)


# Slopes


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_slopes_have_the_direction_of_their_loss(seed, classes):
    """Cross-entropy and soft margin: one direction. The hard margin: another, from 3 classes on."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (7, classes))).requires_grad_()
    y, rows = torch.from_numpy(rng.integers(0, classes, 9)), torch.tensor([0, 2, 3, 5, 6, 7, 8])
    own = y[rows]
    others = logits.scatter(1, own[:, None], -torch.inf)
    at_label = logits.gather(1, own[:, None])[:, 0]
    losses = {
        "cross_entropy": [
            torch.nn.functional.cross_entropy(logits, own, reduction="sum"),
            (others.logsumexp(dim=1) - at_label).sum(),
        ],
        "margin": [(others.amax(dim=1) - at_label).sum()],
    }
    for name, values in losses.items():
        found = gradient_ascent.away_from(y, name, classes)(logits.detach(), rows)
        for value in values:
            (slope,) = torch.autograd.grad(value, logits, retain_graph=True)
            scale = slope.norm(dim=1, keepdim=True)
            assert torch.allclose(found / found.norm(dim=1, keepdim=True), slope / scale)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_certain_network_still_has_slopes(classes):
    logits = torch.zeros(1, classes)
    logits[0, 1] = 300
    found = gradient_ascent.away_from(torch.tensor([1]), "cross_entropy", classes)
    slopes = found(logits, torch.tensor([0]))
    assert (
        slopes[0, 1] == -1 and slopes.sum() == 0 and (slopes[0, [0, -1][: classes - 1]] > 0).all()
    )


# Ascent


def plain_ascent(network, slopes, start, x, radius, sizes, steps, norm):
    """Every row walks every step, and nothing is left out; returns all points on the way."""
    path, rows = [start], torch.arange(len(x))
    for _ in range(steps):
        points = path[-1].clone().requires_grad_()
        logits = network.logits(points)
        weight = slopes(logits.detach(), rows)
        (gradient,) = torch.autograd.grad((logits * weight).sum(), points)
        if norm == "linf":
            points = path[-1] + sizes[:, None] * gradient.sign()
            points = torch.max(torch.min(points, x + radius[:, None]), x - radius[:, None])
        else:
            points = path[-1] + sizes[:, None] * gradient / gradient.norm(dim=1, keepdim=True)
            away = points - x
            points = x + away * (radius / away.norm(dim=1)).clamp(max=1)[:, None]
        path.append(points.detach())
    return path


@norms
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("steps", [1, 2, 19, 20])
def test_an_ascent_ends_where_a_plain_loop_ends(norm, classes, steps):
    """Rows leave the batch where they stay or go to and fro: nothing else may change."""
    network = curved(1, classes)
    x, y, generator = scattered(network, 300, 0)
    radius = torch.linspace(0.02, 1.0, 300, dtype=x.dtype)
    start = norm_balls.uniform_start(x, radius, norm, EVERYWHERE, generator)
    slopes = gradient_ascent.away_from(y, "cross_entropy", classes)
    sizes = radius * 4 / steps
    path = plain_ascent(network, slopes, start, x, radius, sizes, steps, norm)
    before = start.clone()
    passes, pull_back = [], Network.pull_back

    def counted(self, pattern, own):
        passes.append(len(own))
        return pull_back(self, pattern, own)

    balls = norm_balls.Balls(x, radius, norm, EVERYWHERE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "pull_back", counted)
        found = gradient_ascent.ascend(network, slopes, start, balls, sizes, steps)
    torch.testing.assert_close(found, path[-1])
    assert torch.equal(start, before)
    if norm == "linf" and steps == 20:
        assert sum(passes) < 0.75 * 300 * steps
        back = (path[-1] == path[-3]).all(dim=1) & (path[-1] != path[-2]).any(dim=1)
        assert back.sum() > 5  # some do go to and fro


@norms
def test_a_watcher_sees_every_point_of_the_way_once(norm):
    network = curved(1)
    x, y, generator = scattered(network, 100, 3)
    radius = torch.full((100,), 0.5, dtype=x.dtype)
    start = norm_balls.uniform_start(x, radius, norm, EVERYWHERE, generator)
    slopes, sizes = gradient_ascent.away_from(y, "margin", 2), radius / 5
    path = plain_ascent(network, slopes, start, x, radius, sizes, 20, norm)
    seen: list[list[torch.Tensor]] = [[] for _ in range(100)]

    def watch(rows, before, points, logits):
        torch.testing.assert_close(logits, network.logits(points))
        for row, earlier, point in zip(rows.tolist(), before, points, strict=True):
            torch.testing.assert_close(earlier, seen[row][-1] if seen[row] else start[row])
            seen[row].append(point.clone())
        return torch.zeros(len(rows), dtype=torch.bool)

    balls = norm_balls.Balls(x, radius, norm, EVERYWHERE)
    gradient_ascent.ascend(network, slopes, start, balls, sizes, 20, watch=watch)
    for row, points in enumerate(seen):
        for step, point in enumerate(points):
            torch.testing.assert_close(point, path[step][row])
        # Those that were not seen are repetitions.
        for rest in path[len(points) :]:
            assert min((rest[row] - point).abs().max() for point in points) < 1e-12
    assert max(len(points) for points in seen) <= 21


#: Steps between two looks: one before the end, as on a GPU, and none before the end.
few_looks = pytest.mark.parametrize("each", [2, 5, 100])


@norms
@few_looks
@pytest.mark.parametrize("steps", [1, 5, 19, 20])
def test_a_row_ends_in_the_same_place_however_seldom_one_looks(norm, each, steps, monkeypatch):
    network = curved(1, 4)
    x, y, generator = scattered(network, 200, 0)
    radius = torch.linspace(0.02, 1.0, 200, dtype=x.dtype)
    start = norm_balls.uniform_start(x, radius, norm, EVERYWHERE, generator)
    slopes = gradient_ascent.away_from(y, "cross_entropy", 4)
    ends, passes, pull_back = {}, [], Network.pull_back

    def counted(self, pattern, own):
        passes.append(len(own))
        return pull_back(self, pattern, own)

    monkeypatch.setattr(Network, "pull_back", counted)
    for looks in (1, each):
        monkeypatch.setitem(gradient_ascent.LOOKS, "cpu", looks)
        passes.clear()
        balls = norm_balls.Balls(x, radius, norm, EVERYWHERE)
        ends[looks] = gradient_ascent.ascend(network, slopes, start, balls, radius * 0.2, steps)
    torch.testing.assert_close(ends[each], ends[1], rtol=1e-12, atol=1e-12)
    # Finished rows stay until one looks.
    if each >= steps:
        assert passes == [200] * steps
    elif norm == "linf":
        assert passes[:each] == [200] * each and sum(passes) < 200 * steps


@norms
@few_looks
def test_a_search_finds_the_same_however_seldom_one_looks(norm, each, monkeypatch):
    network = curved(2, 4)
    x, _, _ = scattered(network, 200, 1)
    y = network.logits(x).argmax(dim=1)
    radius = torch.linspace(0.01, 0.6, 200, dtype=x.dtype)
    results, paths = [], []
    for looks in (1, each):
        monkeypatch.setitem(gradient_ascent.LOOKS, "cpu", looks)
        for path in (None, boundary_search.SearchPath()):
            draws = torch.Generator().manual_seed(4)
            found = search(norm)(network, x, y, radius, radius - 0.01, 4, draws, path)
            results.append(found)
        paths.append(path)
    for rows, noisy in results[1:]:
        assert torch.equal(rows, results[0][0]) and 30 < len(rows) < 170
        torch.testing.assert_close(noisy, results[0][1], rtol=1e-12, atol=1e-12)
    first, second = paths
    for one, other in zip(first.points, second.points, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert torch.isnan(first.points[-1]).any()  # of rows that had been found


# BPGD


def search(norm: str, **changes) -> BoundarySearch:
    values = {"steps": 20, "reach": 4.0, "bisections": 10, "loss": "cross_entropy"}
    return BoundarySearch(norm=norm, **(values | {"input_range": EVERYWHERE} | changes))


@norms
@given(seed=st.integers(0, 10**6), d=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_bpgd_finds_the_margins_of_a_linear_network(norm, seed, d):
    """|w x + b| over the dual norm of w; none where the ball is smaller."""
    rng = np.random.default_rng(seed)
    w, b = rng.normal(size=d) + 0.05, rng.normal()
    network, x = two_classes(w, b), torch.from_numpy(rng.normal(size=(40, d)))
    y = network.logits(x).argmax(dim=1)
    margins = np.abs(x.numpy() @ w + b) / np.linalg.norm(w, 1 if norm == "linf" else 2)
    radius = torch.from_numpy(rng.uniform(0.01, 2.5, 40))
    generator = torch.Generator().manual_seed(seed)
    rows, noisy = search(norm)(network, x, y, radius, torch.zeros(40), 2, generator)
    clear = np.abs(radius.numpy() / margins - 1) > 1e-6
    assert (np.isin(np.arange(40), rows) == (radius.numpy() > margins))[clear].all()
    order = np.inf if norm == "linf" else 2
    found = np.linalg.norm(noisy - x[rows], order, axis=1)
    # A segment is at most one step, radius / 5, long; the middle is half a 512th of it away.
    slack = radius[rows].numpy() / 5 / 1024 + 1e-9
    assert (np.abs(found - margins[rows.numpy()]) <= slack).all()


@norms
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("bisections", [1, 2, 10])
def test_bpgd_is_the_algorithm_written_out_point_by_point(norm, classes, loss, bisections):
    network = curved(2, classes)
    x, _, _ = scattered(network, 150, 1)
    y = network.logits(x).argmax(dim=1)
    radius = torch.linspace(0.01, 0.6, 150, dtype=x.dtype)
    inner = radius - 0.01
    start = norm_balls.uniform_start(x, inner, norm, EVERYWHERE, torch.Generator().manual_seed(4))
    slopes = gradient_ascent.away_from(y, loss, classes)
    path = plain_ascent(network, slopes, start, x, radius, radius / 5, 20, norm)

    def called(point):
        return int(network.logits(point[None]).argmax())

    expected = {}
    for i in range(150):
        right, wrong = x[i], None
        for points in path:
            if called(points[i]) != y[i]:
                wrong = points[i]
                break
            right = points[i]
        if wrong is None:
            continue
        for _ in range(bisections):
            middle = (right + wrong) / 2
            right, wrong = (middle, wrong) if called(middle) == y[i] else (right, middle)
        expected[i] = middle
    found = search(norm, loss=loss, bisections=bisections)
    rows, noisy = found(network, x, y, radius, inner, classes, torch.Generator().manual_seed(4))
    assert rows.tolist() == list(expected) and 20 < len(expected) < 130
    torch.testing.assert_close(noisy, torch.stack(list(expected.values())))
    first = [i for i in expected if called(path[0][i]) != y[i]]
    assert len(first) > 10  # starts that are wrong already: their segment begins at x


def test_bpgd_without_points_finds_nothing():
    network, none = curved(0), torch.empty(0, 2, dtype=torch.float64)
    labels, radius = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    rows, noisy = search("linf")(network, none, labels, radius, radius, 2, torch.Generator())
    assert len(rows) == 0 and noisy.shape == (0, 2)


def test_bpgd_stays_in_the_range_of_the_data():
    network = two_classes(np.array([1.0, 0.0]), -0.95)
    x = torch.tensor([[0.9, 0.5], [0.9, 0.5]], dtype=torch.float64)
    y = torch.zeros(2, dtype=torch.int64)
    radius = torch.full((2,), 0.3, dtype=x.dtype)
    in_unit = search("linf", input_range=(0.0, 0.94))
    rows, _ = in_unit(network, x, y, radius, torch.zeros(2), 2, torch.Generator())
    assert len(rows) == 0
    rows, noisy = search("linf")(network, x, y, radius, torch.zeros(2), 2, torch.Generator())
    assert len(rows) == 2 and abs(noisy[0, 0] - 0.95) < 1e-3


def test_halving_goes_to_the_boundary_middle_by_middle():
    """A network of the line whose boundary is at 0.3: the middles are 1/2, 1/4, 3/8, 5/16, ..."""
    network = two_classes(np.array([1.0]), -0.3)
    right, wrong = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.int64)
    expected = [0.5, 0.25, 0.375, 0.3125, 0.28125]
    for halvings in range(1, 6):
        rows, correct = torch.arange(len(y)), boundary_search.correctly_classified(y)
        found = boundary_search.middles(network, right, wrong, rows, correct, halvings)
        assert [middle.item() for middle in found] == expected[:halvings]


# MMA


def mma_spec(norm: str, **changes) -> mma.Spec:
    values = {"norm": norm, "largest_margin": 2.0, "least_radius": 0.1, "max_epochs": 1}
    return mma.Spec(**(values | changes))


@norms
def test_distances_of_mma_are_those_of_a_linear_network(norm):
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=6), 0.2
    x = torch.from_numpy(rng.normal(size=(200, 6)) * (4 if norm == "linf" else 2))
    network = two_classes(w, b)
    y = network.logits(x).argmax(dim=1)
    margins = np.abs(x.numpy() @ w + b) / np.linalg.norm(w, 1 if norm == "linf" else 2)
    # From starts anywhere in the ball, 20 steps end near where the gradient points.
    known = torch.from_numpy(rng.uniform(0.0, 3.0, 200))
    found, units = mma.boundary_distances(
        mma_spec(norm), network, x, y, known, 2, EVERYWHERE, torch.Generator().manual_seed(0)
    )
    order = np.inf if norm == "linf" else 2
    np.testing.assert_allclose(np.linalg.norm(units, order, axis=1), 1)
    bound, width = 2.1, 2.1 / 2**9
    within = margins < (bound - width) / 1.08
    ratio = (found.numpy()[within] - width) / margins[within]
    assert (found.numpy()[within] > margins[within] - width).all()
    assert ratio.max() < (1.0 if norm == "linf" else 1.08)
    assert (found[margins > bound] > bound - 2 * width).all()
    assert (margins > bound).sum() > 5 and within.sum() > 50


@pytest.mark.parametrize(("known", "radius"), [(0.0, 0.1), (0.05, 0.1), (0.5, 0.5), (9.0, 2.1)])
def test_the_ball_of_mma_is_the_margin_between_its_bounds(known, radius, monkeypatch):
    sizes = []

    def seen(network, slopes, points, balls, steps, number):
        sizes.append((steps[0].item(), number))
        return points

    monkeypatch.setattr(mma, "ascend", seen)
    x = torch.zeros(1, 2, dtype=torch.float64)
    margins = torch.tensor([known], dtype=x.dtype)
    mma.boundary_distances(
        mma_spec("linf"), two_classes(np.ones(2), -1.0), x, torch.tensor([0]), margins, 2,
        EVERYWHERE, torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert sizes == [(pytest.approx(2.5 * radius / 20), 20)]


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_the_soft_margin_is_below_0_where_the_label_has_half(seed, classes):
    rng = np.random.default_rng(seed)
    logits, y = rng.normal(0, 2, (9, classes)), rng.integers(0, classes, 9)
    found = mma.soft_margins(torch.from_numpy(logits), torch.from_numpy(y)).numpy()
    for z, label, value in zip(logits, y, found, strict=True):
        others = np.exp(np.delete(z, label)).sum()
        assert value == pytest.approx(np.log(others) - z[label])
        assert (value < 0) == (np.exp(z[label]) / np.exp(z).sum() > 0.5)


# DDN


def ddn_spec(**changes) -> ddn_training.Spec:
    return ddn_training.Spec(**({"epsilon": 1.5, "max_epochs": 1} | changes))


def test_ddn_finds_the_margins_of_a_linear_network():
    rng = np.random.default_rng(1)
    w, b = rng.normal(size=(4, 8)), rng.normal(size=4)
    network, x = linear(w, b), torch.from_numpy(rng.normal(size=(150, 8)))
    scores = x.numpy() @ w.T + b
    y = torch.from_numpy(scores.argmax(axis=1))
    y[:10] = (y[:10] + 1) % 4
    gaps = [
        [
            (scores[i, y[i]] - scores[i, k]) / np.linalg.norm(w[y[i]] - w[k])
            for k in range(4)
            if k != y[i]
        ]
        for i in range(150)
    ]
    margins = np.min(gaps, axis=1)
    found, right = ddn_training.nearest_wrong(ddn_spec(), network, x, y, 4, EVERYWHERE)
    distances = (found - x).norm(dim=1).numpy()
    assert right.tolist() == [False] * 10 + [True] * 140
    assert (distances[:10] == 0).all()  # a wrong point is its own
    near, far = right.numpy() & (margins < 1.3), margins > 1.5
    called = network.logits(found).argmax(dim=1)
    assert (called != y)[near].all() and (called == y)[far].all()
    ratio = distances[near] / margins[near]
    assert ratio.min() >= 1 - 1e-9 and np.median(ratio) < 1.03 and ratio.max() < 1.4
    np.testing.assert_allclose(distances[far], 1.5)
    assert near.sum() > 50 and far.sum() > 5


def test_the_steps_of_ddn_fall_from_1_to_a_hundredth_along_a_cosine():
    lengths = [ddn_training._step_length(k, 100) for k in (0, 50, 100)]
    assert lengths == pytest.approx([1.0, 0.505, 0.01])


def test_ddn_stays_in_the_range_of_the_data():
    network = two_classes(np.array([1.0, 0.0]), -0.95)
    x, y = torch.tensor([[0.9, 0.5]], dtype=torch.float64), torch.tensor([0])
    found, _ = ddn_training.nearest_wrong(ddn_spec(), network, x, y, 2, (0.0, 0.94))
    assert found.max() <= 0.94
    found, _ = ddn_training.nearest_wrong(ddn_spec(), network, x, y, 2, (0.0, 1.0))
    assert 0.95 < found[0, 0] < 0.96
