"""Attacks: one interface, one module per attack.

A module holds one attack and ends with ``ATTACK``, an object of
:class:`medrobust.attacks.contract.Attack`; ``medrobust.core.registry`` names the module. Call
:func:`run_attack`: it checks what is given and imports only the attack that is asked for.

Results are arrays over (point, restart). Each (point, restart) has its own seed, so a result
depends neither on the other points of a batch nor on how points are grouped into jobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from medrobust.attacks.contract import attack_of
from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.core.schema import Settings

if TYPE_CHECKING:
    from medrobust.runtime.journal import Journal


#: Share of an attack's steps without a gradient beyond which its numbers are suspect.
LARGEST_LOST_SHARE = 0.01


class LabelModel(Protocol):
    """What a decision-based attack needs of a model: hard labels, nothing else.

    ``predict`` maps float32 ``[n, *input_shape]`` to int64 ``[n]`` in ``[0, n_classes)`` and is
    a pure function of each row in a batch of one shape. A model whose rows have the same label
    in batches of any shape has ``fixed_shape = True``. It does not write to ``x``, which may be
    memory that the attack still reads.
    """

    n_classes: int
    input_shape: tuple[int, ...]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the label of each row."""
        ...


class ProgressSink(Protocol):
    """Takes reports of how much is done, such as ``medrobust.core.logs.Progress``."""

    def update(self, done: float, note: str = "") -> None:
        """Reports that ``done`` points are finished; part of a point where it is at work."""
        ...


@dataclass(frozen=True)
class Traces:
    """How runs of an iterative attack came nearer; entry t is after t iterations.

    What an entry holds equals, but for the accuracy of a last bisection, the result of a run of so
    many iterations.

    Attributes:
        queries: int64 ``[n, r, T + 1]``, spent so far; 0 where there was no start.
        boundary: float32 ``[n, r, T + 1]``, smallest distance so far of a row on the boundary,
            in the attack's norm; NaN where there was no start, 0 for misclassified points.
        iterate: float32 ``[n, r, T + 1]``, distance of the iterate before its projection.
    """

    queries: np.ndarray
    boundary: np.ndarray
    iterate: np.ndarray


@dataclass(frozen=True)
class AttackResult:
    """What an attack made of n points with r restarts each.

    Attributes:
        x_adv: float32 ``[n, r, *shape]``, the adversarial points, for boundary attacks after
            the projection to the boundary. Where an attack failed: NaN, or, for attacks within a
            ball, the last iterate, which the model still classifies correctly.
        x_final_iterate: float32 ``[n, r, *shape]``, the last iterate before the projection (for
            attacks without one, equal to ``x_adv``); NaN where there is none.
        queries: int64 ``[n, r]``, rows that the model was asked about, for labels or logits, all
            checks included.
        gradient_evaluations: int64 ``[n, r]``, gradients of rows that the run went along; 0 for
            attacks without gradients.
        iterations: int64 ``[n, r]``, iterations that were completed.
        init_ok: bool ``[n, r]``, False where no adversarial start was found.
        seeds: int64 ``[n, r]``.
        traces: of attacks that keep them.
        steps_without_gradient: int64 ``[n, r]``, of the iterations those whose gradient, or its
            estimate from scores, was 0 in all values or not finite in one: the attack could not
            know where to go. -1, which is what None becomes, where it does not go along gradients.
        targets: int64 ``[n, r]``, the classes that a targeted attack goes to. -1, which is what
            None becomes, where it is untargeted.
    """

    x_adv: np.ndarray
    x_final_iterate: np.ndarray
    queries: np.ndarray
    gradient_evaluations: np.ndarray
    iterations: np.ndarray
    init_ok: np.ndarray
    seeds: np.ndarray
    traces: Traces | None = None
    steps_without_gradient: np.ndarray | None = None
    targets: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Fills in what attacks without gradients, or without targets, have no say in."""
        for name in ("steps_without_gradient", "targets"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(self.seeds.shape, -1, dtype=np.int64))


def run_attack(
    name: str,
    model: LabelModel,
    x: np.ndarray,
    y: np.ndarray,
    spec: Settings,
    seeds: np.ndarray,
    *,
    x_start: np.ndarray | None = None,
    journal: Journal | None = None,
    progress: ProgressSink | None = None,
) -> AttackResult:
    """Runs the attack called ``name`` on a batch of points.

    Args:
        name: a registered attack, such as "hopskipjump".
        model: the model under attack.
        x: float32 ``[n, *model.input_shape]``, finite.
        y: integer ``[n]``, the true labels.
        spec: the attack's settings, an instance of its ``Spec``.
        seeds: integer ``[n, restarts]`` in ``[0, 2**63)``, one per (point, restart), as made by
            ``medrobust.core.seeds.derive_seed``.
        x_start: float32 ``[n, *model.input_shape]``, the adversarial starting point of each
            point, for attacks whose spec asks for given starts.
        journal: where finished (point, restart) units are kept; units that it already holds
            are not computed again. Its key must cover the model
            (``medrobust.runtime.journal.progress_key``).
        progress: takes reports of the number of finished points.

    Raises:
        InputError: the name is unknown, or an array has a wrong shape, type or value.
    """
    entry = attack_of(name)
    if not isinstance(spec, entry.spec):
        raise InputError(
            f"The settings given to the attack {name!r} are {type(spec).__name__}, "
            f"not {entry.spec.__name__}."
        )
    _check_points(model, x, y)
    _check_seeds(seeds, len(x))
    if x_start is not None:
        check_rows("starting points", x_start, (len(x), *model.input_shape))
    result = entry.attack(
        model,
        x,
        np.asarray(y, dtype=np.int64),
        spec,
        np.asarray(seeds).astype(np.int64),
        x_start=x_start,
        journal=journal,
        progress=progress,
    )
    _warn_of_lost_steps(name, result)
    return result


def _warn_of_lost_steps(name: str, result: AttackResult) -> None:
    counted = result.steps_without_gradient >= 0
    steps, lost = (
        int(values[counted].sum()) for values in (result.iterations, result.steps_without_gradient)
    )
    if text := lost_steps_text(steps, lost):
        logger.warning("%s: the gradient was 0 or not finite at %s", name, text)


def lost_steps_text(steps: int, lost: int) -> str:
    """Returns the share of steps without a gradient in words, "" up to :data:`LARGEST_LOST_SHARE`.

    Args:
        steps: all steps of an attack.
        lost: of these, without a gradient.
    """
    if not steps or lost / steps <= LARGEST_LOST_SHARE:
        return ""
    return f"{lost / steps:.1%} of {steps:,} steps"


def _check_points(model: LabelModel, x: np.ndarray, y: np.ndarray) -> None:
    check_rows("points", x, (len(x), *model.input_shape))
    y = np.asarray(y)
    if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise InputError(
            f"The labels have shape {y.shape} and type {y.dtype}; expected {len(x)} integers."
        )
    if y.size and (y.min() < 0 or y.max() >= model.n_classes):
        raise InputError(
            f"The labels run from {y.min()} to {y.max()}, but the model has "
            f"{model.n_classes} classes (0 to {model.n_classes - 1})."
        )


def check_rows(what: str, rows: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuses rows of another shape or type, and NaN or infinity, which no attack can use."""
    if rows.shape != shape or rows.dtype != np.float32:
        raise InputError(
            f"The {what} have shape {rows.shape} and type {rows.dtype}; "
            f"expected shape {shape} and type float32."
        )
    finite = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    if not finite.all():
        raise InputError(
            f"The {what} hold NaN or infinite values.",
            where=f"row(s) {', '.join(map(str, np.flatnonzero(~finite)[:10]))}",
            remedy="remove or repair these rows in the data set; they cannot be attacked.",
        )


def _check_seeds(seeds: np.ndarray, points: int) -> None:
    seeds = np.asarray(seeds)
    if seeds.ndim != 2 or len(seeds) != points or not np.issubdtype(seeds.dtype, np.integer):
        raise InputError(
            f"The seeds have shape {seeds.shape} and type {seeds.dtype}; expected integers, "
            f"one per point and restart, of shape ({points}, restarts)."
        )
    if seeds.size and (seeds.min() < 0 or seeds.max() >= 2**63):
        raise InputError("Seeds must lie in [0, 2**63).")
