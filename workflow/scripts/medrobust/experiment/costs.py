"""What a unit of work costs, and how attacks are divided into jobs by it.

Methods, architectures and attacks state their unit costs, in seconds on one core of a 2-core x86-64
machine. The plan multiplies them by the amounts of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from medrobust.attacks.contract import attack_of
from medrobust.core.grid import grid_variants
from medrobust.experiment.config import (
    CHUNK_SECONDS,
    CHUNKS_PER_ATTACK,
    Attack,
    Model,
    attack_spec,
)
from medrobust.models.contract import architecture_of
from medrobust.training.contract import method_of

# For what nobody has measured yet, in seconds per unit.
UNKNOWN_TRAINING, UNKNOWN_QUERY = 1e-5, 1e-4


def training_unit_seconds(
    method: str, architecture: str, measured: Mapping[str, float] | None = None
) -> float:
    """Returns the seconds of a training pass for a point and a member, on one core."""
    stated = method_of(method).unit_seconds.get(architecture)
    known = stated or architecture_of(architecture).step_seconds or UNKNOWN_TRAINING
    return (measured or {}).get(f"train:{method}:{architecture}", known)


def attack_unit_seconds(
    attack: str, architecture: str, measured: Mapping[str, float] | None = None
) -> float:
    """Returns the seconds of a query or a gradient, on one core."""
    known = attack_of(attack).unit_seconds.get(architecture, UNKNOWN_QUERY)
    return (measured or {}).get(f"attack:{attack}:{architecture}", known)


def query_seconds(
    attack: Attack, model: Model, members: int, measured: Mapping[str, float] | None = None
) -> float:
    """Returns the seconds of a query or a gradient of all ``members`` of a model, on one core."""
    architecture = model.architecture["name"]
    unit = attack_unit_seconds(attack.name, architecture, measured)
    return unit * members if architecture_of(architecture).members_apart else unit


def queries_per_point(attack: Attack) -> int:
    """Returns the queries, forward or backward, that an attack spends on one point.

    All restarts and all values of its grid together; early stops are not foreseen.
    """
    return len(grid_variants(attack.grid)) * int(attack_spec(attack).expected_queries())


def chunk_size(attack: Attack, model: Model, members: int, points: int) -> int:
    """Returns how many of ``points`` points one job attacks.

    ``auto`` takes a power of two: a cost that is stated a little anew then seldom divides finished
    attacks anew. What jobs took here plays no part, it would divide them anew all the time.
    """
    given = attack.points_per_job
    if isinstance(given, dict):
        given = given.get(model.architecture["name"], "auto")
    if given != "auto":
        return given
    seconds = query_seconds(attack, model, members) * queries_per_point(attack)
    power = max(0, round(math.log2(CHUNK_SECONDS / seconds)))
    return max(2**power, math.ceil(points / CHUNKS_PER_ATTACK))
