"""Models with several ways out and known distances, for tests and a benchmark of starts."""

from __future__ import annotations

import numpy as np


class Polytope:
    """Class 0 where ``a.x <= b`` for all faces, around the middle of [0, 1]^d."""

    n_classes, fixed_shape = 2, True

    def __init__(self, d: int, faces: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        normals = random.normal(size=(faces, d))
        self.a = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        self.b = self.a.sum(axis=1) / 2 + random.uniform(0.05, 0.35, faces)
        self.input_shape = (d,)

    def distance(self, x: np.ndarray) -> np.ndarray:
        """Returns the distances of points inside; below 0 outside."""
        # Products summed row by row: a label does not depend on the rows beside it.
        products = (x[:, None].astype(np.float64) * self.a).sum(axis=2)
        return (self.b - products).min(axis=1)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (self.distance(x) < 0).astype(np.int64)

    def points(self, n: int, seed: int) -> np.ndarray:
        """Returns points inside, whose nearest faces lie within the box."""
        random = np.random.default_rng(seed)
        x = 0.5 + random.uniform(-0.1, 0.1, (100 * n, *self.input_shape))
        return _first(self, x, n)


class Balls:
    """Class 1 within any of several balls in [0, 1]^d."""

    n_classes, fixed_shape = 2, True

    def __init__(self, d: int, balls: int, seed: int, radius: tuple[float, float]) -> None:
        random = np.random.default_rng(seed)
        self.centres = random.uniform(0.2, 0.8, (balls, d))
        self.radii = random.uniform(*radius, balls)
        self.input_shape = (d,)

    def distance(self, x: np.ndarray) -> np.ndarray:
        """Returns the distances of points outside; below 0 inside."""
        away = np.linalg.norm(x[:, None].astype(np.float64) - self.centres, axis=2)
        return (away - self.radii).min(axis=1)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (self.distance(x) < 0).astype(np.int64)

    def points(self, n: int, seed: int) -> np.ndarray:
        """Returns points outside."""
        random = np.random.default_rng(seed)
        return _first(self, random.uniform(0.2, 0.8, (1000 * n, *self.input_shape)), n)


class Checkerboard:
    """Two classes by the parity of the cell of [0, 1]^d, ``cells`` along each side."""

    n_classes, fixed_shape = 2, True

    def __init__(self, d: int, cells: int, gap: float) -> None:
        self.cells, self.gap, self.input_shape = cells, gap, (d,)

    def predict(self, x: np.ndarray) -> np.ndarray:
        cell = np.clip(np.floor(x.astype(np.float64) * self.cells), 0, self.cells - 1)
        return (cell.sum(axis=1) % 2).astype(np.int64)

    def distance(self, x: np.ndarray) -> np.ndarray:
        """Returns the distances to the nearest edge between two cells."""
        place = x.astype(np.float64) * self.cells
        edges = np.clip(np.stack([np.floor(place), np.floor(place) + 1]), 1, self.cells - 1)
        return np.abs(edges - place).min(axis=(0, 2)) / self.cells

    def points(self, n: int, seed: int) -> np.ndarray:
        """Returns points at ``gap`` from an edge, far from all others."""
        random = np.random.default_rng(seed)
        x = random.integers(1, self.cells - 1, (n, *self.input_shape))
        x = (x + random.uniform(0.3, 0.7, x.shape)) / self.cells
        rows, column = np.arange(n), random.integers(0, x.shape[1], n)
        edge = np.rint(x[rows, column] * self.cells) / self.cells
        x[rows, column] = edge + self.gap * random.choice([-1, 1], n)
        return x.astype(np.float32)


def _first(model: Polytope | Balls, x: np.ndarray, n: int) -> np.ndarray:
    """Returns the first points of class 0 that are not at the boundary."""
    x = x.astype(np.float32)
    return x[model.distance(x) > 0.01][:n]


#: Name in tables -> the model.
ORACLES = {
    "polytope, 12 faces, d = 2": Polytope(2, 12, 0),
    "polytope, 30 faces, d = 10": Polytope(10, 30, 0),
    "polytope, 100 faces, d = 50": Polytope(50, 100, 0),
    "8 balls, d = 2": Balls(2, 8, 0, (0.03, 0.12)),
    "8 balls, d = 5": Balls(5, 8, 1, (0.15, 0.4)),
    "checkerboard of 8 x 8, 0.001 from an edge": Checkerboard(2, 8, 1e-3),
    "checkerboard of 4^20, 0.001 from an edge": Checkerboard(20, 4, 1e-3),
}
