"""Architectures and ensembles: against plain loops and scikit-learn, ties, block independence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.models import forest, mlp, sign_network
from medrobust.models.blocks import LABELS as BLOCK
from medrobust.models.ensembles import Ensemble, build_ensemble
from medrobust.training import bagged_trees
from medrobust.training.engine.work import Work
from sklearn.ensemble import RandomForestClassifier


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def plain_mlp(parameters: dict[str, np.ndarray], x: np.ndarray, n_classes: int) -> np.ndarray:
    """The MLP written as the text books do, member by member, in float64."""
    scores = []
    for w1, b1, w2, b2 in zip(*(parameters[n].astype(float) for n in parameters), strict=True):
        outputs = 1 / (1 + np.exp(-(x @ w1.T + b1))) @ w2.T + b2
        if n_classes == 2:
            outputs = np.hstack([np.zeros_like(outputs), outputs])
        scores.append(outputs)
    return np.stack(scores)


def mlp_ensemble(classes: int, vote: str, members: int = 9) -> tuple[Ensemble, dict]:
    spec = mlp.Spec(hidden_units=6)
    parameters = mlp.initial_parameters(spec, (11,), classes, list(range(members)))
    parameters = {name: 4 * value for name, value in parameters.items()}
    ensemble = build_ensemble(
        "mlp", spec, [parameters], vote=vote, input_shape=(11,), n_classes=classes,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    return ensemble, parameters


POINTS = np.random.default_rng(0).random((150, 11)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_and_labels_equal_a_plain_loop(classes):
    majority, parameters = mlp_ensemble(classes, "majority")
    soft, _ = mlp_ensemble(classes, "soft")
    expected = plain_mlp(parameters, POINTS, classes)
    np.testing.assert_allclose(majority.member_scores(POINTS), expected, atol=1e-5)
    votes = np.stack([(expected.argmax(2) == c).sum(0) for c in range(classes)], axis=1)
    assert (majority.votes(POINTS) == votes).all()
    assert (majority.predict(POINTS) == votes.argmax(1)).all()
    means = softmax(expected).mean(0)
    np.testing.assert_allclose(soft.mean_probabilities(POINTS), means, atol=1e-6)
    assert (soft.predict(POINTS) == means.argmax(1)).all()
    assert (majority.member_predictions(POINTS) == expected.argmax(2)).all()
    for ensemble, labels in ((majority, votes.argmax(1)), (soft, means.argmax(1))):
        joined, members = ensemble.all_predictions(POINTS)
        assert (joined == labels).all() and (members == expected.argmax(2)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 149), st.integers(0, 149), st.sampled_from(["mlp", "forest", "sign"]))
def test_a_points_scores_do_not_depend_on_its_batch(size, first, kind):
    make = {
        "mlp": lambda: mlp_ensemble(3, "soft")[0],
        "forest": lambda: forest_ensemble()[0],
        "sign": lambda: sign_ensemble(3)[0],
    }
    ensemble = make[kind]()
    part = POINTS[first : first + size]
    whole = ensemble.member_scores(POINTS)[:, first : first + size]
    assert ensemble.member_scores(part).tobytes() == whole.tobytes()


@given(st.permutations(range(BLOCK)))
@settings(max_examples=20, deadline=None)
def test_a_points_scores_do_not_depend_on_its_place_in_the_block(order):
    ensemble = mlp_ensemble(3, "soft")[0]
    moved = ensemble.member_scores(POINTS[:BLOCK][list(order)])
    assert moved.tobytes() == ensemble.member_scores(POINTS[:BLOCK])[:, list(order)].tobytes()


def test_ties_go_to_the_lowest_class():
    scores = np.array([[[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]], np.float32)
    scores = np.repeat(scores, BLOCK, axis=1)
    common = {"input_shape": (1,), "n_classes": 3, "input_range": (0.0, 1.0)}
    for vote in ("majority", "soft"):
        ensemble = Ensemble(lambda x: scores, kind="probabilities", vote=vote, **common)
        assert ensemble.predict(np.zeros((1, 1), np.float32)).tolist() == [1]


def test_soft_and_majority_can_differ():
    """Two weak votes for class 1 lose softly against one sure vote for class 0."""
    scores = np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]], np.float32).repeat(BLOCK, 1)
    common = {"input_shape": (1,), "n_classes": 2, "input_range": (0.0, 1.0)}
    labels = {
        vote: Ensemble(lambda x: scores, kind="probabilities", vote=vote, **common)
        .predict(np.zeros((1, 1), np.float32))
        .item()
        for vote in ("majority", "soft")
    }
    assert labels == {"majority": 1, "soft": 0}


def sign_ensemble(classes: int, members: int = 9) -> tuple[Ensemble, dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    shape = (members, sign_network.networks_per_member(classes), 6)
    parameters = {
        "hidden_weights": rng.normal(size=(*shape, 11)),
        "hidden_bias": rng.normal(size=shape),
        "output_weights": rng.normal(size=shape),
        "output_bias": rng.normal(size=shape[:2]),
    }
    parameters = {name: value.astype(np.float32) for name, value in parameters.items()}
    ensemble = build_ensemble(
        "sign_network", sign_network.Spec(hidden_units=6), [parameters], vote="majority",
        input_shape=(11,), n_classes=classes, input_range=(0.0, 1.0),
    )  # fmt: skip
    return ensemble, parameters


@pytest.mark.parametrize("classes", [2, 4])
def test_sign_networks_equal_a_plain_loop(classes):
    ensemble, parameters = sign_ensemble(classes)
    votes = np.zeros((9, len(POINTS), classes), dtype=int)
    for m, k in np.ndindex(parameters["output_bias"].shape):
        w, b, v, c = (parameters[name][m, k].astype(float) for name in parameters)
        said = ((POINTS @ w.T + b > 0) @ v + c > 0).astype(int)
        if classes == 2:
            votes[m, :, 0], votes[m, :, 1] = 1 - said, said
        else:
            votes[m, :, k] = said
    assert (ensemble.member_scores(POINTS) == votes).all()
    # One against the rest, a member may vote for several classes or none; all its votes count.
    assert (votes.sum(2) == 1).all() == (classes == 2)
    assert (ensemble.votes(POINTS) == votes.sum(0)).all()
    assert (ensemble.predict(POINTS) == votes.sum(0).argmax(1)).all()
    assert (ensemble.member_predictions(POINTS) == votes.argmax(2)).all()


def test_a_point_on_a_hidden_plane_is_half_on():
    parameters = {
        "hidden_weights": np.array([[[[1.0]]]], np.float32),
        "hidden_bias": np.array([[[-0.5]]], np.float32),
        "output_weights": np.array([[[2.0]]], np.float32),
    }
    said = {}
    for bias in (-0.99, -1.01):
        output = {"output_bias": np.array([[bias]], np.float32)}
        scores = sign_network.member_scores(
            sign_network.Spec(hidden_units=1), parameters | output, (1,), 2, "cpu"
        )
        said[bias] = scores(np.array([[0.4], [0.5], [0.6]], np.float32))[0, :, 1].tolist()
    assert said == {-0.99: [0, 1, 1], -1.01: [0, 0, 1]}


def forest_ensemble(trees: int = 7) -> tuple[Ensemble, np.ndarray]:
    y = (POINTS[:, :3].argmax(1)).astype(np.int64)
    work = Work(POINTS, y, 3, list(range(trees)), list(range(trees)))
    trained = bagged_trees.train(
        bagged_trees.Spec(min_samples_leaf=3), "forest", forest.Spec(), work
    )
    ensemble = build_ensemble(
        "forest", forest.Spec(), [trained.parameters], vote="soft", input_shape=(11,),
        n_classes=3, input_range=(0.0, 1.0),
    )  # fmt: skip
    return ensemble, y


def test_a_forest_equals_scikit_learns_soft_vote():
    ensemble, y = forest_ensemble()
    reference = [
        RandomForestClassifier(1, min_samples_leaf=3, max_features=None, random_state=k)
        .fit(POINTS, y)
        .predict_proba(POINTS)
        for k in range(7)
    ]
    np.testing.assert_allclose(
        ensemble.mean_probabilities(POINTS), np.mean(reference, axis=0), atol=1e-6
    )


def test_a_value_on_the_threshold_goes_left():
    """float32 against a float64 threshold, as scikit-learn compares."""
    threshold = float(np.float32(0.1)) + 1e-12
    parameters = {
        "offset": np.array([0, 3]),
        "left": np.array([1, -1, -1], np.int32),
        "right": np.array([2, -1, -1], np.int32),
        "feature": np.array([0, -2, -2], np.int32),
        "threshold": np.array([threshold, -2, -2]),
        "probability": np.array([[0.5, 0.5], [1, 0], [0, 1]], np.float32),
    }
    scores = forest.member_scores(forest.Spec(), parameters, (1,), 2, "cpu")
    below, above = np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1))
    assert scores(np.array([[below], [above]], np.float32))[0, :, 1].tolist() == [0, 1]


def test_joined_parts_equal_the_whole():
    ensemble, parameters = mlp_ensemble(3, "majority")
    parts = [{n: v[a:b] for n, v in parameters.items()} for a, b in ((0, 4), (4, 5), (5, 9))]
    joined = build_ensemble(
        "mlp", mlp.Spec(hidden_units=6), parts, vote="majority", input_shape=(11,), n_classes=3,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    assert joined.member_scores(POINTS).tobytes() == ensemble.member_scores(POINTS).tobytes()


def test_initial_values_are_scikit_learns_distribution():
    spec = mlp.Spec(hidden_units=50)
    values = mlp.initial_parameters(spec, (100,), 5, list(range(40)))["w1"]
    bound = np.sqrt(2 / 150)
    assert np.abs(values).max() <= bound
    assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
