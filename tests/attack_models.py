"""Models whose distances are known, and what tests of the HopSkipJump engines share."""

from __future__ import annotations

import numpy as np
from medrobust.attacks import AttackResult, LabelModel, Traces, run_attack
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core import seeds as seeding


class Linear:
    """Two classes on the two sides of w.x + b = 0; float64 sums row by row, so it is pure."""

    n_classes = 2

    def __init__(self, d: int, seed: int = 0) -> None:
        self.w = np.random.default_rng(seed).normal(size=d)
        self.b = 0.3 - 0.5 * self.w.sum()
        self.input_shape = (d,)

    def score(self, x: np.ndarray) -> np.ndarray:
        return (x.astype(np.float64) * self.w).sum(axis=-1) + self.b

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (self.score(x) > 0).astype(np.int64)

    def distance(self, x: np.ndarray, dual_norm: int = 2) -> np.ndarray:
        return np.abs(self.score(x)) / np.linalg.norm(self.w, dual_norm)


class Planes:
    """Class k where w_k.x + b_k is largest of all and of 0, which is class 0."""

    def __init__(self, w: np.ndarray, b: np.ndarray) -> None:
        self.w, self.b = np.asarray(w, dtype=np.float64), np.asarray(b, dtype=np.float64)
        self.n_classes, self.input_shape = len(self.b) + 1, (self.w.shape[1],)

    def predict(self, x: np.ndarray) -> np.ndarray:
        scores = (x[:, None].astype(np.float64) * self.w).sum(axis=-1) + self.b
        return np.where(scores.max(axis=1) > 0, 1 + scores.argmax(axis=1), 0).astype(np.int64)


class Ball:
    """Three classes by the distance to the middle of the box: inside 0, outside 1 or 2."""

    n_classes = 3
    input_shape = (2, 3, 4)
    radius = 0.45

    def predict(self, x: np.ndarray) -> np.ndarray:
        centred = x.reshape(len(x), -1).astype(np.float64) - 0.5
        outside = np.sqrt((centred**2).sum(axis=1)) > self.radius
        return np.where(outside, 1 + (centred[:, 0] > 0), 0).astype(np.int64)


class Constant:
    """Class 0 everywhere; counts rows."""

    n_classes = 2
    input_shape = (5,)

    def __init__(self) -> None:
        self.rows = 0

    def predict(self, x: np.ndarray) -> np.ndarray:
        self.rows += len(x)
        return np.zeros(len(x), dtype=np.int64)


class Recorder:
    """Passes queries on and keeps them."""

    def __init__(self, model: LabelModel) -> None:
        self.model, self.n_classes, self.input_shape = model, model.n_classes, model.input_shape
        self.fixed_shape = getattr(model, "fixed_shape", False)
        self.batches: list[np.ndarray] = []

    def predict(self, x: np.ndarray) -> np.ndarray:
        assert x.dtype == np.float32
        assert x.shape[1:] == self.input_shape
        self.batches.append(x.copy())
        return self.model.predict(x)

    @property
    def rows(self) -> int:
        return sum(len(batch) for batch in self.batches)


class Untouchable(Linear):
    """Must not be asked."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        raise AssertionError("the model was asked although everything is in the journal")


def make_spec(**options) -> HopSkipJumpSpec:
    """Returns settings of a short attack in the box [0, 1], from the published starts."""
    defaults = {"max_iter": 10, "restarts": 1, "start": "random"}
    defaults |= {"clip_min": 0.0, "clip_max": 1.0}
    return HopSkipJumpSpec(**(defaults | options))


def seeds_for(points: int, restarts: int, root: int = 0) -> np.ndarray:
    return np.array(
        [
            [seeding.derive_seed(root, "hopskipjump", i, r) for r in range(restarts)]
            for i in range(points)
        ]
    )


def points_in_the_box(d: int, n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.25, 0.75, size=(n, d)).astype(np.float32)


def adversarial_corner(model: Linear, x: np.ndarray) -> np.ndarray:
    """Returns the corner of [0, 1]^d farthest on the other side of the plane."""
    towards = -np.sign(model.score(x)) * np.sign(model.w)
    return (towards > 0).astype(np.float32)


def attack(model, x, spec, seeds, y=None, **options) -> AttackResult:
    """Runs the attack, against the model's own labels unless others are given."""
    y = model.predict(x) if y is None else y
    return run_attack("hopskipjump", model, x, y, spec, seeds, **options)


def distances(x_adv: np.ndarray, x: np.ndarray, norm: int | str = 2) -> np.ndarray:
    """Returns distances of ``[n, r, *shape]`` from ``[n, *shape]``, float64 ``[n, r]``."""
    difference = x_adv.astype(np.float64) - x[:, None].astype(np.float64)
    flat = difference.reshape(*x_adv.shape[:2], -1)
    return np.linalg.norm(flat, 2 if norm == 2 else np.inf, axis=-1)


def chosen_points(result: AttackResult, chosen: list[int]) -> AttackResult:
    """Returns the part of a result that belongs to some of its points."""
    parts = {name: values for name, values in vars(result).items() if name != "traces"}
    traces = None
    if result.traces is not None:
        traces = Traces(**{name: values[chosen] for name, values in vars(result.traces).items()})
    return AttackResult(**{name: v[chosen] for name, v in parts.items()}, traces=traces)


def assert_same(a: AttackResult | Traces, b: AttackResult | Traces) -> None:
    """Asserts that two results, their traces included, are the same bytes."""
    for name in vars(a):
        left, right = getattr(a, name), getattr(b, name)
        if name == "traces":
            assert (left is None) == (right is None)
            if left is not None:
                assert_same(left, right)
            continue
        assert left.dtype == right.dtype, name
        assert left.shape == right.shape, name
        assert left.tobytes() == right.tobytes(), name
