"""Generated stand-ins: shaped and labelled like a real data set, evidence of nothing.

They let every part of the workflow run within minutes and without a download. They are
seeded, learnable but not trivial, and marked synthetic in their card and pictures.

ECG: a row starts at an R peak and shows its T wave, the next P wave and beat, then a fifth of
the interval after it, as the rows of MIT-BIH do (:mod:`medrobust.data.sets.mitbih`). Classes differ
roughly as their real counterparts do: S has a flat T wave and a longer interval after it, V is
broad with an inverted T wave and a pause, F lies between N and V, Q starts with a pacing spike.
The two classes of PTB (:mod:`medrobust.data.sets.ptbdb`) are a beat like N and one with a lower R
wave and a flat T wave.
Every patient has its own heart rate, amplitudes and axis, which makes classes overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.seeds import generator
from medrobust.data.formats.heartbeats import LENGTH
from medrobust.data.prepared.store import Prepared

PATIENTS = 24
TEST_PATIENTS = 8

_SHARE = {
    **{"N": 0.50, "S": 0.12, "V": 0.16, "F": 0.08, "Q": 0.14},
    **{"normal": 0.28, "abnormal": 0.72},
}
"""Share of each class: unequal as in the real sets, but with enough of the rare ones."""


@dataclass(frozen=True)
class _Beat:
    """Mean shape of a class: widths in samples, heights relative to a normal R wave."""

    r_height: float
    r_width: float
    s_height: float
    t_height: float
    t_width: float
    p_height: float
    interval: float
    pause: float
    spike: float


_SHAPE = {
    "N": _Beat(1.00, 2.2, -0.18, 0.24, 9.0, 0.12, 1.00, 1.0, 0.0),
    "S": _Beat(0.96, 2.9, -0.02, 0.08, 7.0, 0.02, 1.16, 1.0, 0.0),
    "V": _Beat(1.05, 5.5, -0.35, -0.22, 12.0, 0.08, 1.22, 0.9, 0.0),
    "F": _Beat(0.98, 4.0, -0.40, 0.00, 10.5, 0.10, 1.08, 1.0, 0.0),
    "Q": _Beat(0.80, 5.0, -0.40, -0.10, 13.0, 0.03, 1.10, 1.0, 0.55),
    "normal": _Beat(1.00, 2.2, -0.18, 0.26, 9.0, 0.13, 1.10, 1.0, 0.0),
    "abnormal": _Beat(0.88, 2.6, -0.10, 0.08, 10.0, 0.10, 0.98, 1.0, 0.0),
}


def ecg_standin(
    n_train: int,
    n_test: int,
    classes: Sequence[str],
    *,
    seed: int,
    disjoint_patients: bool = False,
) -> Prepared:
    """Returns a generated ECG data set in the shape of MIT-BIH or PTB heartbeats.

    Args:
        n_train, n_test: numbers of rows, at least one per class each.
        classes: two or more of N, S, V, F, Q, normal, abnormal; labels by position.
        seed: root seed.
        disjoint_patients: no generated patient in both training and test.

    Returns:
        x float32 ``[n_train + n_test, 187]`` in [0, 1], zero-padded; training rows first.

    Raises:
        InputError: a class is unknown, or there are fewer rows than classes.
    """
    import pandas as pd

    unknown = [name for name in classes if name not in _SHAPE]
    if unknown or min(n_train, n_test) < len(classes):
        raise InputError(
            f"No ECG stand-in with classes {list(classes)}, {n_train} training and {n_test} test "
            "rows can be generated.",
            remedy=f"use classes of {', '.join(_SHAPE)} and at least one row per class.",
        )
    random = generator(seed, "standin", "ecg", *classes, n_train, n_test, disjoint_patients)
    pools = (np.arange(PATIENTS), np.arange(PATIENTS))
    if disjoint_patients:
        pools = (np.arange(TEST_PATIENTS, PATIENTS), np.arange(TEST_PATIENTS))
    y = np.concatenate([_labels(n, classes, random) for n in (n_train, n_test)])
    patient = np.concatenate(
        [random.choice(pool, n) for pool, n in zip(pools, (n_train, n_test), strict=True)]
    )
    x = _beats([classes[label] for label in y], patient, seed, random)
    ids = pd.DataFrame(
        {
            "row_id": np.arange(len(y)),
            "file": "generated",
            "position": np.arange(len(y)),
            "record": "",
            "patient": [f"synthetic{p:02d}" for p in patient],
            "symbol": "",
            "official_split": "",
        }
    )
    empty = np.empty(0, np.int64)
    return Prepared(
        x=x,
        y=y,
        ids=ids,
        folds=[(np.arange(n_train), empty, np.arange(n_train, n_train + n_test))],
        class_names=tuple(classes),
        input_range=(0.0, 1.0),
        synthetic=True,
        complete=True,
        notes=("SYNTHETIC: generated curves that resemble heartbeats; evidence of nothing.",),
    )


def _labels(n: int, classes: Sequence[str], random: np.random.Generator) -> np.ndarray:
    """Returns ``n`` shuffled labels with every class at least once, in fixed proportions."""
    share = np.array([_SHARE[name] for name in classes])
    count = np.maximum(1, np.floor(n * share / share.sum()).astype(int))
    count[np.argmax(count)] += n - count.sum()
    return random.permutation(np.repeat(np.arange(len(classes)), count)).astype(np.int64)


def _beats(
    names: Sequence[str], patient: np.ndarray, seed: int, random: np.random.Generator
) -> np.ndarray:
    """Returns one row per class name and patient number, ``[n, 187]`` in [0, 1]."""
    n = len(names)
    own = generator(seed, "standin", "ecg", "patients")
    rate = own.uniform(62, 118, PATIENTS)[patient]
    gain, axis = own.lognormal(0, 0.25, (2, PATIENTS))[:, patient]
    tilt = own.normal(0, 0.07, PATIENTS)[patient]

    def jitter(spread: float) -> np.ndarray:
        return random.lognormal(0, spread, n)

    def of(field: str) -> np.ndarray:
        return np.array([getattr(_SHAPE[name], field) for name in names])

    interval = rate * of("interval") * jitter(0.10)
    after = rate * of("pause") * jitter(0.10)
    width = of("r_width") * jitter(0.15)
    t = np.arange(LENGTH, dtype=np.float64)[None, :]

    def wave(centre: np.ndarray, spread: np.ndarray, height: np.ndarray) -> np.ndarray:
        return height[:, None] * np.exp(-0.5 * ((t - centre[:, None]) / spread[:, None]) ** 2)

    height = of("r_height") * jitter(0.08)
    start = random.uniform(-1.5, 1.5, n)
    x = wave(start, width, height)
    x += wave(start + 2.6 * width, 1.2 * width, of("s_height") * axis * jitter(0.25))
    t_height = gain * (of("t_height") + tilt) + random.normal(0, 0.05, n)
    x += wave(start + 0.30 * rate, of("t_width") * jitter(0.12), t_height)
    p_height = of("p_height") * gain + random.normal(0, 0.02, n)
    x += wave(start + interval - 19, np.full(n, 4.0), p_height)
    # The following beat is a normal one of the same patient, whatever this beat is.
    x += wave(start + interval, np.full(n, 2.2), 0.96 * jitter(0.08))
    x += wave(start + interval + 6, np.full(n, 2.6), -0.18 * axis)
    x += wave(start - 1, np.full(n, 0.8), of("spike") * jitter(0.6))
    phase, slope = random.uniform(0, 2 * np.pi, n), random.normal(0, 0.04, n)
    x += 0.04 * np.sin(2 * np.pi * t / 160 + phase[:, None]) + slope[:, None] * (t / LENGTH)
    x += random.normal(0, 0.025, x.shape)
    length = np.clip(np.rint(interval + 0.2 * after), 40, LENGTH).astype(int)
    return _scaled_and_padded(x, length)


def _scaled_and_padded(x: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Scales the first ``length[i]`` values of each row to [0, 1]; the rest become 0."""
    inside = np.arange(LENGTH)[None, :] < length[:, None]
    low = np.where(inside, x, np.inf).min(axis=1, keepdims=True)
    high = np.where(inside, x, -np.inf).max(axis=1, keepdims=True)
    return np.where(inside, (x - low) / (high - low), 0).astype(np.float32)
