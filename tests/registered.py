"""Small examples of everything that is registered, for the tests of its contracts."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from medrobust.core.registry import METHODS, module_of, parse_spec
from medrobust.core.schema import Settings
from medrobust.training.contract import method_of
from medrobust.training.engine.work import Trained, Work

SIGNAL, IMAGE, LARGE_IMAGE, POINT = (187,), (1, 28, 28), (1, 40, 40), (2,)
COLOUR_IMAGE = (3, 18, 18)
#: Settings of a small network, and the shape of its points.
ARCHITECTURES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "mlp": ({"hidden_units": 5}, SIGNAL),
    "bnn": ({"hidden_units": 6}, SIGNAL),
    "cnn1d": ({"dense_units": 6}, SIGNAL),
    "forest": ({}, SIGNAL),
    "relu_mlp": ({"hidden_units": 12, "linear_units": 6}, SIGNAL),
    "kachuee_cnn": ({"channels": 4, "dense_units": 6}, SIGNAL),
    "layer_norm_mlp": ({"hidden_units": [6, 5]}, POINT),
    "instance_norm_cnn": (
        {
            "convolutions": [
                {"channels": 4, "kernel": 5, "stride": 2},
                {"channels": 4, "kernel": 3, "stride": 2},
                {"channels": 6, "kernel": 5},
            ]
        },
        IMAGE,
    ),
    "resnet18": ({"stages": [4, 4]}, LARGE_IMAGE),
    "batch_norm_resnet18": ({"stages": [4, 6]}, IMAGE),
    "resnet50": (
        {
            "stages": [2, 4],
            "blocks": [1, 2],
            "pooling": "drop_max",
            "mean": [0.4],
            "deviation": [0.3],
        },
        IMAGE,
    ),
    "lenet": ({}, COLOUR_IMAGE),
    "sign_network": ({"hidden_units": 4}, SIGNAL),
}

_ROBUST = {"max_epochs": 2, "batch_size": 16, "steps": 2}
METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "sgd_cross_entropy": {"learning_rate": 0.01, "max_epochs": 2},
    "adam_cross_entropy": {"learning_rate": 0.01, "max_epochs": 2, "batch_size": 16},
    "bagged_trees": {"min_samples_leaf": 2},
    "scd": {
        "loss": "zero_one",
        "iterations": 20,
        "row_share": 0.5,
        "features_per_iteration": 8,
    },
    "composed_loss": {
        "loss": "cross_entropy",
        "adversarial_weight": 0.5,
        "adversary": {"epsilon": 0.05, "steps": 2},
        "margin": "plain",
        "r2_weight": 0.1,
        "max_epochs": 2,
        "batch_size": 16,
    },
    "adversarial_training": {"epsilon": 0.05, **_ROBUST},
    "trades": {"epsilon": 0.05, **_ROBUST},
    "mma": {"largest_margin": 0.1, "least_radius": 0.01, **_ROBUST},
    "ima": {"largest_margin": 0.1, "margin_step": 0.02, "bisections": 3, **_ROBUST},
    "ddn_training": {"epsilon": 0.1, **_ROBUST},
    "multi_instance": {"epsilon": 0.05, "instances": [2, 1], "weights": [0.6, 0.4], **_ROBUST},
    "gradient_regularization": {k: v for k, v in _ROBUST.items() if k != "steps"},
    "local_linearity": {"epsilon": 0.05, **_ROBUST},
    "simclr": {"projection": 4, "max_epochs": 2, "batch_size": 16},
}

ATTACK_SETTINGS: dict[str, dict[str, Any]] = {
    "hopskipjump": {"max_iter": 3, "max_eval": 40, "init_eval": 10, "init_size": 50, "restarts": 2},
    "pgd": {"epsilon": 0.1, "num_steps": 4, "restarts": 2},
    "spsa": {"epsilon": 0.1, "num_steps": 2, "directions": 8, "restarts": 2},
    "uniform_noise": {"epsilon": 0.2, "restarts": 3},
}

#: Networks that give every pixel a class, their methods and attacks:
#: tests/unit/test_pixel_contracts.py.
PIXELS = {"nnunet", "segmentation", "segmentation_adversarial", "segmentation_ima", "pixel_pgd"}


def of_points(registered: Mapping[str, str]) -> dict[str, str]:
    """Returns the registered names, and their modules, that are for points."""
    return {name: module for name, module in registered.items() if name not in PIXELS}


#: What each method can train, one pair each.
PAIRS = [(m, a) for m in of_points(METHODS) for a in sorted(method_of(m).architectures)]


def architecture_spec(name: str) -> Settings:
    values = {"name": name, **ARCHITECTURES[name][0]}
    return parse_spec("architecture", values, file="test", prefix=name)


def method_spec(name: str, **changes: Any) -> Settings:
    values = {"name": name, **METHOD_SETTINGS[name], **changes}
    return parse_spec("method", values, file="test", prefix=name)


def attack_spec(name: str, **changes: Any) -> Settings:
    values = {"name": name, "clip_min": 0.0, "clip_max": 1.0, **ATTACK_SETTINGS[name], **changes}
    return parse_spec("attack", values, file="test", prefix=name)


def points(shape: tuple[int, ...], n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns points in [0, 1] that a classifier can learn, float32, and labels, int64."""
    random = np.random.default_rng(5)
    y = np.arange(n) % n_classes
    pattern = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    x = 0.5 + 0.15 * random.normal(size=(n, *shape))
    x += 0.2 * np.cos(2.0 * y).reshape(-1, *[1] * len(shape)) * pattern
    return np.clip(x, 0, 1).astype(np.float32), y.astype(np.int64)


def train(
    method: str, architecture: str, members: list[int], n_classes: int = 3, n: int = 40
) -> Trained:
    """Trains members of a small network for a short time; member k has the seed k + 11."""
    x, y = points(ARCHITECTURES[architecture][1], n, n_classes)
    work = Work(
        x, y, n_classes, members, [member + 11 for member in members], input_range=(0.0, 1.0)
    )
    arguments = method_spec(method), architecture, architecture_spec(architecture), work
    return method_of(method).train(*arguments)


def cites(kind: str, name: str) -> bool:
    """Tells whether a module's docstring names authors and a year."""
    text = Path(str(module_of(kind, name).__file__)).read_text(encoding="utf-8")
    docstring = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
    together = r"[A-Z][a-z]+(?: et al\.| and [A-Z][A-Za-z-]+)[,:]? \(?(?:19|20)\d\d"
    source = (
        r"Sources?: .*?[A-Z][a-z-]+.*?\b(?:19|20)\d\d\b"  # of data: authors, title, where, year
    )
    pattern = f"{together}|{source}" if kind == "adapter" else together
    return re.search(pattern, docstring) is not None
