"""Models with gradients whose answers are known, and what tests of gradient attacks share."""

from __future__ import annotations

import numpy as np
from medrobust.core import seeds as seeding
from medrobust.models.ensembles import Ensemble
from medrobust.models.gradients import InputGradients


class LinearLogits:
    """Logits ``W x + b``, one row after the other in float64, with slopes written out."""

    has_gradients = True
    fixed_shape = True

    def __init__(self, d: int, classes: int = 2, seed: int = 0, block: int = 8) -> None:
        random = np.random.default_rng(seed)
        self.w = random.normal(size=(classes, d))
        self.b = -self.w.sum(axis=1) / 2 + random.normal(size=classes) / 10
        self.input_shape, self.n_classes, self.gradient_block = (d,), classes, block
        self.predicted = self.passed = 0

    def scores(self, x: np.ndarray) -> np.ndarray:
        return (x[:, None].astype(np.float64) * self.w).sum(axis=-1) + self.b

    def predict(self, x: np.ndarray) -> np.ndarray:
        self.predicted += len(x)
        return self.scores(x).argmax(axis=1)

    def logits(self, x: np.ndarray) -> np.ndarray:
        self.passed += len(x)
        return self.scores(x).astype(np.float32)

    def loss_gradients(self, x, y, loss):
        assert x.shape == (self.gradient_block, *self.input_shape)
        self.passed += len(x)
        scores = self.scores(x)
        own = np.arange(self.n_classes) == y[:, None]
        if loss == "cross_entropy":
            odds = np.exp(scores - scores.max(axis=1, keepdims=True))
            slopes = odds / odds.sum(axis=1, keepdims=True) - own
        else:
            rival = np.where(own, -np.inf, scores).argmax(axis=1)
            slopes = (np.arange(self.n_classes) == rival[:, None]) - own.astype(float)
        gradients = (slopes[:, :, None] * self.w).sum(axis=1)
        return scores.astype(np.float32), gradients.astype(np.float32)


def relu_module(d: int, classes: int, hidden: int = 16, seed: int = 0):
    """Returns a small ReLU network with a curved boundary, a torch module."""
    import torch

    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(d, hidden), torch.nn.ReLU(),
        torch.nn.Linear(hidden, hidden), torch.nn.ReLU(),
        torch.nn.Linear(hidden, classes),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)
            parameter.requires_grad_(False)
    return network


def ensemble_of(network, d: int, classes: int, block: int = 32) -> Ensemble:
    """Returns a torch module from ``[n, d]`` to logits as an ensemble of one member."""
    import torch

    def scores(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(x)).numpy()[None]

    return Ensemble(
        scores, kind="logits", vote="soft", input_shape=(d,), n_classes=classes,
        input_range=(0.0, 1.0),
        gradients=InputGradients(network, input_shape=(d,), block=block),
    )  # fmt: skip


def seeds_for(points: int, restarts: int = 1, root: int = 0) -> np.ndarray:
    names = [[("attack", i, r) for r in range(restarts)] for i in range(points)]
    return np.array([[seeding.derive_seed(root, *name) for name in row] for row in names])


def points_of(n: int, d: int, seed: int = 1) -> np.ndarray:
    """Returns points in [0, 1], some values of which lie at its ends."""
    x = np.random.default_rng(seed).uniform(-0.1, 1.1, (n, d))
    return np.clip(x, 0, 1).astype(np.float32)
