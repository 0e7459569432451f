"""Attacks on tensors: draws, steps and whole runs equal those on arrays, up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.attacks import pgd, run_attack
from medrobust.attacks.engine import (
    ball,
    ball_kernels,
    moves,
    noise_kernels,
    tensor_draws,
    tensor_moves,
)
from medrobust.core.errors import NotFiniteError
from medrobust.core.registry import parse_spec
from medrobust.models import ensembles, relu_mlp
from medrobust.models.engine import loss_kernels, loss_slopes
from medrobust.models.ensembles import build_ensemble
from medrobust.runtime.journal import Journal
from scipy import stats

from tests.gradient_models import points_of, seeds_for

SEEDS = np.array([0, 1, 2, 2**40 + 3, 2**63 - 1])
seeds_strategy = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4)


def tensor(values):
    return torch.from_numpy(np.asarray(values))


# Draws


@given(seeds=seeds_strategy, stream=st.integers(0, 2**20), first=st.integers(0, 2**40))
@settings(max_examples=40, deadline=None)
def test_words_are_those_of_the_compiled_streams(seeds, stream, first):
    keys = tensor_draws.stream_keys(tensor(seeds), stream)
    found = tensor_draws.words(keys, first, 7).numpy().view(np.uint64)
    for seed, row in zip(seeds, found, strict=True):
        expected = np.empty(7, dtype=np.uint64)
        key = np.uint64(ball_kernels.stream_key(seed, stream))
        ball_kernels.fill_bits(key, first, expected)
        np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize("d", [1, 2, 7, 64, 187])
def test_values_are_those_of_the_compiled_transforms(d):
    words = (d + 1) // 2
    bits = tensor_draws.words(tensor_draws.stream_keys(tensor(SEEDS), 5), 3, words)
    halves = bits.numpy().view(np.uint32).reshape(len(SEEDS), -1)
    expected = np.empty((len(SEEDS), d), dtype=np.float32)
    noise_kernels.signed(halves, expected)
    np.testing.assert_array_equal(tensor_draws.signed(bits, d), expected)
    half, rest = d // 2, np.empty(1, dtype=np.float32)
    for row, own in zip(expected, halves, strict=True):
        noise_kernels._pairs(own, row[:half], row[half : 2 * half])
        if d % 2:
            noise_kernels._pairs(own[2 * half :], row[-1:], rest)
    found = tensor_draws.normal(bits, d)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.fixture(scope="module")
def drawn():
    """Bits of 40 runs, 400 values each of 25 rows: ``[runs, rows, d]``."""
    keys = tensor_draws.stream_keys(torch.arange(40), 3)
    return tensor_draws.words(keys, 0, 25 * 200).view(40, 25, 200)


@pytest.mark.parametrize(
    ("draw", "law", "moments"),
    [
        (tensor_draws.normal, stats.norm(), (0.0, 1.0, 0.0, 3.0)),
        (tensor_draws.signed, stats.uniform(-1, 2), (0.0, 1 / 3, 0.0, 1.8)),
    ],
)
def test_draws_have_their_law_and_no_neighbour(drawn, draw, law, moments):
    values = draw(drawn, 400).numpy().astype(np.float64)
    assert stats.kstest(values.reshape(-1), law.cdf).pvalue > 0.001
    n, z = values.size, values / law.std()
    for power, expected, spread in zip((1, 3), (0.0, 0.0), (1.0, 15**0.5), strict=True):
        assert abs((z**power).mean() - expected) < 4 * spread / n**0.5
    assert abs(values.var() - moments[1]) < 0.02 and abs((z**4).mean() - moments[3]) < 0.06
    # Neighbours within a row, from row to row, from run to run, and the halves of a row.
    for a, b in (
        (z[:, :, 1:], z[:, :, :-1]), (z[:, 1:], z[:, :-1]), (z[1:], z[:-1]),
        (z[:, :, :200], z[:, :, 200:]),
    ):  # fmt: skip
        for one, other in ((a, b), (a**2 - 1, b**2 - 1)):
            assert abs((one * other).mean()) < 4 * one.std() * other.std() / one.size**0.5
    # Each run by itself, too.
    p = [stats.kstest(run.reshape(-1), law.cdf).pvalue for run in values]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_a_value_is_the_same_in_whatever_block_it_is_drawn():
    seeds = torch.arange(100, 120)
    keys = tensor_draws.stream_keys(seeds, 9)
    whole = tensor_draws.words(keys, 0, 50)
    parts = [
        torch.cat([tensor_draws.words(keys[i : i + 3], first, 10) for first in range(0, 50, 10)], 1)
        for i in range(0, 20, 3)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert len(torch.unique(whole)) == whole.numel()


# Slopes and steps


@given(
    seed=st.integers(0, 10**6), classes=st.integers(2, 6), spread=st.sampled_from([0.1, 3.0, 300.0])
)
@settings(max_examples=40, deadline=None)
def test_slopes_are_the_compiled_ones(seed, classes, spread):
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(9, classes)) * spread).astype(np.float32)
    logits[0] = 1.0  # all equal: the lowest number
    labels = rng.integers(0, classes, 9)
    for name in ("cross_entropy", "margin"):
        expected = np.empty_like(logits)
        getattr(loss_kernels, f"{name}_slopes")(logits, labels, expected)
        found = getattr(loss_slopes, f"{name}_slopes")(tensor(logits), tensor(labels))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)
    losses = np.empty(9)
    loss_kernels.margins(logits, labels, losses)
    np.testing.assert_array_equal(loss_slopes.margins(tensor(logits), tensor(labels)), losses)


HOW = [{"norm": "linf", "optimizer": name} for name in ("sign", "adam", "adamax")]
HOW += [{"norm": "l2"}]


@pytest.mark.parametrize("how", HOW, ids=lambda how: how.get("optimizer", "l2"))
@pytest.mark.parametrize("random_start", [False, True])
def test_starts_and_steps_are_those_on_arrays(how, random_start):
    spec = pgd.Spec(
        epsilon=0.3, num_steps=6, step_size=0.1, clip_min=0.0, clip_max=1.0,
        random_start=random_start, **how,
    )  # fmt: skip
    rng, shape = np.random.default_rng(3), (5, 11)
    on_arrays = (moves.L2Moves if how["norm"] == "l2" else moves.LinfMoves)(spec, shape)
    on_tensors = tensor_moves.moves_of(spec, shape, "cpu")
    x = points_of(5, 11)
    x[0] += 2  # outside of the box: not farther out
    rows = on_arrays.start(np.arange(5), x, SEEDS)
    found = on_tensors.start(torch.arange(5), tensor(x), tensor(SEEDS))
    np.testing.assert_allclose(found, rows, rtol=2e-7, atol=1e-7)
    taken = np.zeros(5, dtype=np.int64)
    for step in range(6):
        slopes = rng.normal(size=shape).astype(np.float32)
        slopes[1] = 0.0
        slopes[2, :3] = np.nan if how["norm"] == "l2" or step == 2 else -0.0
        active = np.arange(5) != step
        on_arrays.step(active, taken, slopes, rows)
        before = found
        found = on_tensors.step(tensor(active), tensor(taken.copy()), tensor(slopes), found)
        taken += active
        np.testing.assert_allclose(found, rows, rtol=3e-7, atol=1e-7)
        assert torch.equal(found[~tensor(active)], before[~tensor(active)])
        distance = found.double().numpy() - x
        radius = (
            np.abs(distance).max(1) if how["norm"] == "linf" else np.linalg.norm(distance, 2, 1)
        )
        assert (radius <= 0.3).all()
    assert np.abs(found.numpy() - x).max() > 0.05
    # A place that is given to another run forgets the steps of the last one.
    one, again = np.array([3]), torch.tensor([3])
    rows[one] = on_arrays.start(one, x[:1], SEEDS[:1])
    found[again] = on_tensors.start(again, tensor(x[:1]), tensor(SEEDS[:1]))
    only, zero = np.arange(5) == 3, np.zeros(5, dtype=np.int64)
    slopes = rng.normal(size=shape).astype(np.float32)
    on_arrays.step(only, zero, slopes, rows)
    found = on_tensors.step(tensor(only), tensor(zero), tensor(slopes), found)
    np.testing.assert_allclose(found[3], rows[3], rtol=3e-7, atol=1e-7)


@given(seed=st.integers(0, 10**6), epsilon=st.floats(1e-6, 10.0))
@settings(max_examples=30, deadline=None)
def test_limits_are_the_compiled_ones(seed, epsilon):
    x = np.random.default_rng(seed).normal(size=(4, 33)).astype(np.float32)
    spec = pgd.Spec(epsilon=epsilon, clip_min=-0.8, clip_max=1.1)
    for random in (False, True):
        expected = ball.starting_rows(x, SEEDS[:4], spec, random=random)
        found = tensor_moves.starting_rows(tensor(x), tensor(SEEDS[:4]), spec, random=random)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-7, atol=2e-7 * epsilon)
        for one, other in zip(found[1:], expected[1:], strict=True):
            np.testing.assert_array_equal(one, other)


# Whole attacks


SHAPE, CLASSES = (12,), 3


def ensemble(*, on_tensors, vote="soft", members=2, broken=False):
    """A small network; with ``on_tensors``, attacks keep their rows in tensors, here of the CPU."""
    spec = relu_mlp.Spec(hidden_layers=2, hidden_units=8)
    parameters = relu_mlp.initial_parameters(spec, SHAPE, CLASSES, list(range(members)))
    parameters = {name: 3 * value for name, value in parameters.items()}
    # All classes occur: each member's logits have about the same middle.
    tensors = {name: tensor(value) for name, value in parameters.items()}
    x = tensor(np.random.default_rng(0).uniform(0, 1, (200, *SHAPE)).astype(np.float32))
    parameters["b4"] = parameters["b4"] - relu_mlp.forward(spec, tensors, x).mean(dim=1).numpy()
    if broken:
        parameters["w1"][1, 0, 0] = np.nan
    with pytest.MonkeyPatch.context() as patch:
        if on_tensors:
            patch.setattr(ensembles, "KEPT_ON", {"cpu", "cuda"})
        made = build_ensemble(
            "relu_mlp", spec, [parameters], vote=vote, input_shape=SHAPE, n_classes=CLASSES,
            input_range=(0.0, 1.0),
        )  # fmt: skip
    assert (made.on_device is not None) == on_tensors
    return made


def attacked(name, model, *, n=12, restarts=2, seeds=None, journal=None, keep=slice(None), **given):
    changes = {"epsilon": 0.15, "clip_min": 0.0, "clip_max": 1.0, "restarts": restarts, **given}
    spec = parse_spec("attack", {"name": name, **changes}, file="test", prefix="attack")
    x = points_of(n, *SHAPE)
    y = ensemble(on_tensors=False).predict(x)
    y[0] = (y[0] + 1) % CLASSES  # misclassified without attack
    seeds = seeds_for(n, restarts) if seeds is None else seeds
    return run_attack(name, model, x[keep], y[keep], spec, seeds[keep], journal=journal)


CASES = [
    ("pgd", {"num_steps": 20, "step_size": 0.02}),
    ("pgd", {"num_steps": 20, "step_size": 0.02, "optimizer": "adamax", "loss": "margin"}),
    ("pgd", {"num_steps": 8, "optimizer": "adam", "random_start": False, "early_stop": False}),
    ("pgd", {"num_steps": 20, "step_share": 0.1, "norm": "l2", "epsilon": 0.3}),
    ("spsa", {"num_steps": 6, "directions": 300, "step_size": 0.03}),
    ("spsa", {"num_steps": 3, "directions": 700, "early_stop": False, "optimizer": "sign"}),
    ("uniform_noise", {"restarts": 30}),
]


@pytest.mark.parametrize(("name", "given"), CASES)
def test_attacks_end_where_they_end_on_arrays(name, given):
    expected = attacked(name, ensemble(on_tensors=False), **given)
    found = attacked(name, ensemble(on_tensors=True), **given)
    for field in ("queries", "gradient_evaluations", "iterations", "steps_without_gradient"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), field)
    assert found.x_adv.dtype == np.float32
    np.testing.assert_allclose(found.x_adv, expected.x_adv, rtol=1e-4, atol=1e-5)
    if given.get("early_stop", name != "uniform_noise"):
        assert len(np.unique(expected.iterations)) > 2  # some end early, some never


@pytest.mark.parametrize(("name", "given"), CASES[::2])
def test_a_run_on_tensors_knows_no_neighbour(name, given):
    """The same bytes alone, in another order, and beside others."""
    model = ensemble(on_tensors=True)
    together = attacked(name, model, **given)
    for keep in (slice(3, 4), slice(None, None, -1), slice(2, 9, 3)):
        some = attacked(name, model, keep=keep, **given)
        assert some.x_adv.tobytes() == together.x_adv[keep].tobytes()
        assert some.queries.tolist() == together.queries[keep].tolist()


def test_interrupted_runs_on_tensors_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("medrobust.attacks.engine.ledger._JOURNAL_SECONDS", 0.0)
    model, given = ensemble(on_tensors=True), CASES[0][1]
    whole = attacked("pgd", model, **given)
    with Journal(tmp_path / "j", "key") as journal:
        attacked("pgd", model, keep=slice(0, 5), journal=journal, **given)
        assert journal.finished()
        found = attacked("pgd", model, journal=journal, **given)
    assert found.x_adv.tobytes() == whole.x_adv.tobytes()


@pytest.mark.parametrize("vote", ["soft", "majority"])
def test_labels_on_tensors_are_those_of_arrays(vote):
    here, there = (ensemble(on_tensors=t, vote=vote, members=3) for t in (False, True))
    x = np.random.default_rng(4).uniform(0, 1, (500, *SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(there.predict(x), here.predict(x))
    for one, other in zip(there.all_predictions(x), here.all_predictions(x), strict=True):
        assert one.dtype == np.int64
        np.testing.assert_array_equal(one, other)
    assert len(np.unique(here.predict(x))) == CLASSES


@pytest.mark.parametrize("kind", ["votes", "probabilities"])
def test_votes_and_probabilities_are_joined_alike(kind):
    from medrobust.models.ensembles import Ensemble
    from medrobust.models.on_device import OnDevice

    scores = np.random.default_rng(1).random((5, 64, 3)).astype(np.float32)
    scores = (scores > 0.5).astype(np.float32) if kind == "votes" else scores
    vote = "majority" if kind == "votes" else "soft"
    here = Ensemble(
        lambda x: scores, kind=kind, vote=vote, input_shape=(2,), n_classes=3,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    there = OnDevice(
        lambda x: tensor(scores), kind=kind, vote=vote, device="cpu", block=64, gradients=None
    )
    x = np.zeros((64, 2), dtype=np.float32)
    np.testing.assert_array_equal(there.labels(tensor(x)), here.predict(x))


def test_scores_that_are_not_finite_are_no_label():
    model = ensemble(on_tensors=True, broken=True)
    x = points_of(3, *SHAPE)
    assert model.on_device.labels(tensor(x)).tolist() == [-1, -1, -1]
    for ask in (model.predict, model.all_predictions):
        with pytest.raises(NotFiniteError) as error:
            ask(x)
        assert error.value.members == (1,)


def test_a_pass_is_a_whole_block():
    side = ensemble(on_tensors=True).on_device
    with pytest.raises(ValueError, match="no block"):
        side.loss_gradients(torch.zeros(3, *SHAPE), torch.zeros(3, dtype=torch.int64), "margin")
    with pytest.raises(ValueError, match="at least one"):
        side.labels(torch.zeros(0, *SHAPE))
