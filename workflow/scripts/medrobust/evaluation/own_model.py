"""One call for a model of one's own: attack it, get records and numbers with intervals back.

The model is asked as :mod:`medrobust.models.callables` says; attack, seeds and records are those of
the workflow's jobs (:mod:`medrobust.evaluation.attacked`), estimates those of its tables
(:mod:`medrobust.evaluation.own_model_result`). Nothing is written to disk.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medrobust.attacks import ProgressSink, check_rows
from medrobust.attacks.contract import attack_of
from medrobust.core.errors import InputError
from medrobust.core.grid import grid_variants
from medrobust.core.logs import Progress, logger
from medrobust.core.registry import ATTACKS, parse_spec
from medrobust.core.schema import unknown_name
from medrobust.evaluation.attacked import attack_variants
from medrobust.evaluation.own_model_result import Evaluation, NearestExamples, norm_of, summarise
from medrobust.models.callables import own_model

if TYPE_CHECKING:
    from medrobust.core.schema import Settings

CALL = "medrobust.evaluate"
#: Settings that may be lists: the points are attacked once for each combination.
GRID = ("epsilon", "loss")
#: Points that the model is asked about before the attack, half of them drawn from the clip box.
_SAMPLE = 64


def evaluate(
    model: Any,
    x: Any,
    y: Any,
    *,
    attack: str = "hopskipjump",
    epsilon: float | Sequence[float] | None = None,
    settings: Mapping[str, Any] | None = None,
    restarts: int | None = None,
    clip: tuple[float, float] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    n_classes: int | None = None,
    point_ids: Any = None,
    batch_size: int = 64,
    progress: bool | ProgressSink = False,
) -> Evaluation:
    """Attacks a model at labelled points; returns records, and estimates with intervals.

    Args:
        model: a callable that takes float32 ``[batch_size, *shape]`` and returns integer labels
            ``[batch_size]`` or scores (logits or probabilities) ``[batch_size, classes]``; or a
            ``torch.nn.Module`` from such a tensor to scores; or a fitted classifier of
            scikit-learn. Attacks by gradients (pgd) need a module, spsa needs scores.
        x: real numbers ``[n, *shape]``, n at least 1; computed with as float32.
        y: integers ``[n]``, the true labels, from 0 on; for a classifier of scikit-learn the
            labels it was fitted to.
        attack: a registered attack: "hopskipjump" (smallest perturbation, from labels), "pgd",
            "spsa", "uniform_noise" (within a ball of radius epsilon).
        epsilon: radius of the ball in the units of x, or several; attacks within a ball need one.
        settings: the attack's other settings, see config/README.md; ``loss`` may be a list, then a
            point counts as broken if any of the losses breaks it.
        restarts: runs per point; by default as the attack has it.
        clip: smallest and largest value that a perturbed point may have, in the units of x; by
            default those of x.
        seed: root seed. A run's seed follows from it, epsilon, the point's id and the restart, as
            in a job of the workflow without names: other points do not matter.
        confidence: level of the intervals, in (0, 1).
        n_classes: number of classes, for a model that gives labels.
        point_ids: integers ``[n]``, all different; by default 0, 1, ...
        batch_size: rows that the model is handed at a time, always so many.
        progress: True: lines on stderr; or anything with ``update(done, note)``.

    Returns:
        See :class:`medrobust.evaluation.own_model_result.Evaluation`; print it for a table.

    Raises:
        InputError: points, labels, settings or the model's answers are not as said above; the
            model's answer to a point changes when it is asked again or with the other rows; the
            attack needs gradients or scores that the model does not give.
    """
    x, ids = _points(x), _point_ids(point_ids, len(x))
    box = _box(clip, x)
    variants = _variants(attack, settings, epsilon, restarts, box)
    _check_numbers(confidence, seed=seed, batch_size=batch_size, n_classes=n_classes)
    sample = _sample(x, box)
    with own_model(model, sample, n_classes=n_classes, block=batch_size) as adapted:
        labels = _labels(y, len(x), adapted)
        with _told(progress, attack, variants, len(x)) as sink:
            attacked = attack_variants(
                attack, variants, adapted, x, labels, ids, seed=seed, names=(), input_range=box,
                progress=sink,
            )  # fmt: skip
            nearest, frames = NearestExamples(x, ids), []
            for part, (_, spec) in zip(attacked, variants, strict=True):
                nearest.take(part, norm_of(spec))
                frames.append(part.records)
        records = pd.concat(frames, ignore_index=True)
        notes = _notes(adapted, variants[0][1], records)
    return summarise(
        records,
        nearest.x_adv,
        attack=attack,
        specs=[spec for _, spec in variants],
        shape=x.shape[1:],
        classes=getattr(adapted, "classes", None),
        clip=box,
        clip_given=clip is not None,
        seed=seed,
        confidence=confidence,
        notes=notes,
    )


# --- what is given ----------------------------------------------------------------------


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _points(x: Any) -> np.ndarray:
    found = _array(x)
    if found.dtype.kind not in "fiu" or found.ndim < 2 or not found.size:
        raise InputError(
            f"The points have shape {found.shape} and type {found.dtype}; expected real numbers of "
            "shape [n, *shape], at least one point of at least one value.",
            where="x",
            remedy="points of one value each are x[:, None]." if found.ndim == 1 else "",
        )
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(found, dtype=np.float32)
    check_rows("points", rows, rows.shape)
    return rows


def _point_ids(point_ids: Any, n: int) -> np.ndarray:
    ids = np.arange(n) if point_ids is None else _array(point_ids)
    if ids.shape != (n,) or ids.dtype.kind not in "iu" or len(np.unique(ids)) != n:
        raise InputError(
            f"The ids of points must be {n} different integers; found shape {ids.shape} and type "
            f"{ids.dtype}.",
            where="point_ids",
        )
    return ids.astype(np.int64)


def _labels(y: Any, n: int, model: Any) -> np.ndarray:
    found = _array(y)
    if found.shape != (n,):
        raise InputError(
            f"The labels have shape {found.shape}; there are {n} points.",
            where="y",
            remedy="give one label for each point; of one-hot rows y.argmax(axis=1).",
        )
    labels = np.asarray(getattr(model, "labels_of", lambda values: values)(found))
    if labels.dtype.kind not in "iub":
        raise InputError(
            f"The labels are of type {labels.dtype}.",
            where="y",
            remedy="give integers, 0 for the first class.",
        )
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= model.n_classes:
        raise InputError(
            f"The labels run from {labels.min()} to {labels.max()}; the model's classes are 0 to "
            f"{model.n_classes - 1}.",
            where="y",
        )
    return labels


def _box(clip: Any, x: np.ndarray) -> tuple[float, float]:
    """Returns the clip box; by default the range of the points."""
    low, high = float(x.min()), float(x.max())
    if clip is None:
        if low == high:
            raise InputError(
                f"All values of the points are {low}, which tells nothing of their range.",
                where="x",
                remedy="give clip=(smallest, largest).",
            )
        return low, high
    try:
        least, most = (float(end) for end in clip)
    except (TypeError, ValueError):
        raise InputError(
            f"The clip box must be two numbers, found {clip!r}.", where="clip"
        ) from None
    if not np.float32(least) <= low <= high <= np.float32(most):
        raise InputError(
            f"The points run from {low:g} to {high:g}, outside the clip box [{least:g}, {most:g}].",
            where="clip",
            remedy="give the range in which the data may lie, in the units of x.",
        )
    return least, most


def _check_numbers(confidence: float, **integers: int | None) -> None:
    if not (isinstance(confidence, float) and 0 < confidence < 1):
        raise InputError(
            f"The confidence must lie between 0 and 1, found {confidence!r}.", where="confidence"
        )
    for name, least in (("seed", 0), ("batch_size", 1), ("n_classes", 2)):
        value = integers[name]
        integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (integer and value >= least):
            raise InputError(f"Expected an integer from {least} on, found {value!r}.", where=name)


def _variants(
    attack: str,
    settings: Mapping[str, Any] | None,
    epsilon: Any,
    restarts: int | None,
    box: tuple[float, float],
) -> list[tuple[dict[str, Any], Settings]]:
    """Returns each value of the grid with all settings of the attack, checked."""
    if settings is not None and not isinstance(settings, Mapping):
        raise InputError(
            f"The settings must be names and values, found {type(settings).__name__}.",
            where="settings",
        )
    known = [name for name in ATTACKS if not attack_of(name).of_pixels]
    if attack not in known:
        raise unknown_name("attack", attack, known, where=f"{CALL}, attack")
    given = dict(settings or {})
    named = {"epsilon": epsilon, "restarts": restarts}
    named = {name: value for name, value in named.items() if value is not None}
    kept = {"name": "attack", "clip_min": "clip", "clip_max": "clip"} | {n: n for n in named}
    for name, argument in kept.items():
        if name in given:
            raise InputError(
                f"{name} is given by the argument `{argument}`.", where=f"settings, key {name}"
            )
    given |= named
    _check_radius(attack, given)
    grid = {name: _several(name, given.pop(name)) for name in GRID if _in_grid(name, given)}
    fixed = {name: _plain(value) for name, value in given.items()}
    fixed |= {"clip_min": box[0], "clip_max": box[1]}
    return [
        (options, parse_spec("attack", {**fixed, **options, "name": attack}, file=CALL, prefix=""))
        for options in grid_variants(grid)
    ]


def _check_radius(attack: str, given: Mapping[str, Any]) -> None:
    within_ball = "epsilon" in attack_of(attack).spec.model_fields
    if within_ball and "epsilon" not in given:
        raise InputError(
            f"The attack {attack} needs the radius of its ball.",
            where="epsilon",
            remedy="give epsilon, in the units of x, or several.",
        )
    if not within_ball and "epsilon" in given:
        raise InputError(
            f"The attack {attack} has no radius: it looks for the smallest perturbation.",
            where="epsilon",
            remedy="leave epsilon out, or attack within a ball (pgd, spsa, uniform_noise).",
        )


def _in_grid(name: str, given: Mapping[str, Any]) -> bool:
    # Epsilon always: a radius has the same seeds alone and among others.
    return (name == "epsilon" and name in given) or isinstance(given.get(name), list | tuple)


def _several(name: str, values: Any) -> list[Any]:
    found = np.atleast_1d(_array(values))
    if name == "epsilon" and found.dtype.kind in "iu":
        found = found.astype(np.float64)
    several = found.tolist()
    if found.ndim != 1 or not several or len(set(map(repr, several))) != len(several):
        raise InputError(
            f"Give one value, or a list of values, each once; found {values!r}.", where=name
        )
    return several


def _plain(value: Any) -> Any:
    """Returns a NumPy number as Python's own: settings are strict about types."""
    return value.item() if isinstance(value, np.generic) else value


def _sample(x: np.ndarray, box: tuple[float, float]) -> np.ndarray:
    """Returns points, and draws from the clip box beside them, float32 ``[k, *shape]``."""
    points = x[: _SAMPLE // 2]
    drawn = np.random.default_rng(0).uniform(*box, (_SAMPLE - len(points), *x.shape[1:]))
    return np.concatenate([points, drawn.astype(np.float32)])


# --- what is told -----------------------------------------------------------------------


@contextlib.contextmanager
def _told(
    progress: bool | ProgressSink, attack: str, variants: Sequence[Any], points: int
) -> Iterator[ProgressSink | None]:
    """Yields what is told the progress; shows the log on stderr meanwhile where that is True."""
    if progress is False or progress is None:
        yield None
        return
    if progress is not True:
        yield progress
        return
    queries = points * sum(spec.expected_queries() for _, spec in variants)
    handler, level = logging.StreamHandler(), logger.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        logger.info("%s: %d points, up to about %s queries", attack, points, f"{queries:,}")
        yield Progress(f"attacking with {attack}", points * len(variants), unit="points")
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _notes(model: Any, spec: Settings, records: pd.DataFrame) -> list[str]:
    """Returns what a reader of the numbers must know of the model, in sentences."""
    notes = []
    if getattr(model, "probabilities", False) and model.logits_asked:
        notes.append("The model's scores are probabilities; their logarithms serve as logits.")
    if lost := int((~records["init_ok"]).sum()):
        advice = " settings={'start': 'outward'} tries other draws too."
        notes.append(
            f"There was no starting point for {lost:,} of {len(records):,} runs: no draw was "
            "adversarial." + advice * (getattr(spec, "start", "") == "random")
        )
    lost = int(records["steps_without_gradient"].fillna(0).sum())
    if lost:
        steps = int(records.loc[records["steps_without_gradient"].notna(), "iterations"].sum())
        notes.append(
            f"The gradient was exactly 0, or not finite, at {lost:,} of {steps:,} steps of the "
            "attack: it could not know where to go, and the model may be less robust than it "
            "looks. Attack it with settings={'loss': 'margin'}, by spsa or by hopskipjump too."
        )
    return notes
