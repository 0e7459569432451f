"""What a unit of work costs, and how attacks are divided into jobs by it.

Methods, architectures and attacks state their unit costs, in seconds on one core of a 2-core x86-64
machine. The plan multiplies them by the amounts of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from medrobust.attacks.contract import attack_of
from medrobust.core.contract import timing_kind
from medrobust.experiment.config import (
    CHUNK_SECONDS,
    CHUNKS_PER_ATTACK,
    Attack,
    Model,
    attack_specs,
)
from medrobust.models.contract import architecture_of
from medrobust.training.contract import method_of

# For what nobody has measured yet, in seconds per unit.
UNKNOWN_TRAINING, UNKNOWN_QUERY = 1e-5, 1e-4
#: Values of a heartbeat, on which ``unit_seconds`` of what has ``value_seconds`` too was measured.
SMALL_POINT = 187


def training_unit_seconds(
    method: str,
    architecture: str,
    measured: Mapping[str, float] | None = None,
    *,
    values: int = SMALL_POINT,
) -> float:
    """Returns the seconds of a training pass for a point and a member, on one core.

    Args:
        method, architecture: registered names.
        measured: seconds per unit by :func:`timing_kind`, which count before stated ones.
        values: of a point.
    """
    stated, of_all = method_of(method), architecture_of(architecture)
    unit, more = stated.unit_seconds.get(architecture), stated.value_seconds
    if unit is None and of_all.step_seconds is not None:
        unit, more = of_all.step_seconds, {architecture: of_all.step_value_seconds or 0.0}
    known = (unit or UNKNOWN_TRAINING) + _further(more, architecture, values)
    return (measured or {}).get(timing_kind("train", method, architecture, values), known)


def attack_unit_seconds(
    attack: str,
    architecture: str,
    measured: Mapping[str, float] | None = None,
    *,
    values: int = SMALL_POINT,
) -> float:
    """Returns the seconds of a query or a gradient, on one core; arguments as above."""
    stated = attack_of(attack)
    unit = stated.unit_seconds.get(architecture, UNKNOWN_QUERY)
    known = unit + _further(stated.value_seconds, architecture, values)
    return (measured or {}).get(timing_kind("attack", attack, architecture, values), known)


def _further(value_seconds: Mapping[str, float], architecture: str, values: int) -> float:
    return value_seconds.get(architecture, 0.0) * max(0, values - SMALL_POINT)


def query_seconds(
    attack: Attack,
    model: Model,
    members: int,
    measured: Mapping[str, float] | None = None,
    *,
    values: int = SMALL_POINT,
) -> float:
    """Returns the seconds of a query or a gradient of all ``members`` of a model, on one core."""
    architecture = model.architecture["name"]
    unit = attack_unit_seconds(attack.name, architecture, measured, values=values)
    return unit * members if architecture_of(architecture).members_apart else unit


def queries_per_point(attack: Attack) -> int:
    """Returns the queries, forward or backward, that an attack spends on one point.

    All restarts and all values of its grid together; early stops are not foreseen.
    """
    return sum(int(spec.expected_queries()) for spec in attack_specs(attack))


def chunk_size(
    attack: Attack, model: Model, members: int, points: int, *, values: int = SMALL_POINT
) -> int:
    """Returns how many of ``points`` points of ``values`` values one job attacks.

    ``auto`` takes a power of two: a cost that is stated a little anew then seldom divides finished
    attacks anew. What jobs took here plays no part, it would divide them anew all the time.
    """
    given = attack.points_per_job
    if isinstance(given, dict):
        given = given.get(model.architecture["name"], "auto")
    if given != "auto":
        return given
    seconds = query_seconds(attack, model, members, values=values) * queries_per_point(attack)
    power = max(0, round(math.log2(CHUNK_SECONDS / seconds)))
    return max(2**power, math.ceil(points / CHUNKS_PER_ATTACK))
