"""What a training job is given and what it returns, the same for every method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medrobust.runtime.journal import Checkpoint, Journal


@dataclass(frozen=True)
class Work:
    """One training job: data, the members to train, and where to keep progress.

    Attributes:
        x: training points, float32 ``[n, *shape]`` in the data set's input range.
        y: labels, int64 ``[n]`` in ``0 .. n_classes - 1``.
        n_classes: number of classes.
        members: numbers of the members to train, e.g. ``[25, 26, ..., 49]``.
        seeds: one seed per member; a member depends on its own seed only, so how members are
            grouped into jobs changes nothing.
        device: "cpu" or "cuda[:k]".
        input_range: lowest and highest valid value of a point; infinite where none is known.
        threads: members or networks that may be trained side by side; changes nothing else.
        first_values: values that replace the architecture's own draws in every member, by name,
            without a leading member axis: pretrained weights.
        journal: finished members, for methods that train one after the other.
        checkpoint: state of an unfinished job, for methods that train members together.
    """

    x: np.ndarray
    y: np.ndarray
    n_classes: int
    members: list[int]
    seeds: list[int]
    device: str = "cpu"
    input_range: tuple[float, float] = (-math.inf, math.inf)
    threads: int = 1
    first_values: Mapping[str, np.ndarray] = field(default_factory=dict)
    journal: Journal | None = None
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Trained:
    """Trained members.

    Attributes:
        parameters: named arrays as the architecture stores them.
        history: per member, plain values such as ``{"member": 3, "epochs": 57, "loss": 0.1}``.
        extras: named arrays ``[M, n, ...]`` that the method knows of the training points, such as
            their margins; no model needs them.
    """

    parameters: dict[str, np.ndarray]
    history: list[dict[str, Any]] = field(default_factory=list)
    extras: dict[str, np.ndarray] = field(default_factory=dict)
