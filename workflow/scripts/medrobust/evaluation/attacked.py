"""Points attacked once for each value of a grid: seeds, attack, records.

Jobs of the workflow and :func:`medrobust.evaluate` both attack by :func:`attack_variants`, so for
the same model, points, settings and names their records are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.attacks import AttackResult, LabelModel, ProgressSink, run_attack
from medrobust.core.schema import Settings
from medrobust.core.seeds import derive_seed
from medrobust.evaluation.records import records_from_result

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.runtime.journal import Journal


@dataclass(frozen=True)
class Attacked:
    """What an attack with one value of the grid made of the points.

    Attributes:
        options: the options of the grid, such as ``{"epsilon": 0.1}``; none without a grid.
        result: what the attack returned.
        records: its records (:func:`medrobust.evaluation.records.records_from_result`).
    """

    options: Mapping[str, Any]
    result: AttackResult
    records: pd.DataFrame


def attack_variants(
    attack: str,
    variants: Sequence[tuple[Mapping[str, Any], Settings]],
    model: LabelModel,
    x: np.ndarray,
    y: np.ndarray,
    point_ids: np.ndarray,
    *,
    seed: int,
    names: Sequence[object],
    input_range: tuple[float, float],
    x_start: np.ndarray | None = None,
    probabilities: bool = False,
    journal: Journal | None = None,
    progress: ProgressSink | None = None,
) -> Iterator[Attacked]:
    """Attacks the points once for each variant; yields what came of it, in turn.

    Args:
        attack: a registered attack.
        variants: the options that are each variant's own, and all its settings.
        model, x, y, x_start, journal: as for :func:`medrobust.attacks.run_attack`.
        point_ids: integer ``[n]``, all different.
        seed: root seed.
        names: names of the piece of work; with ``seed``, the variant's options, the point's id and
            the restart they give the seed of each run, whatever the other points.
        input_range: smallest and largest valid input, in the units of x.
        probabilities: whether records keep those of the classes, of an ensemble.
        progress: is told the number of finished points, over all variants.

    Raises:
        InputError: see :func:`medrobust.attacks.run_attack`.
    """
    for number, (options, spec) in enumerate(variants):
        restarts = getattr(spec, "restarts", 1)
        work = [*names, *(f"{option}={value}" for option, value in options.items())]
        seeds = np.array(
            [
                [derive_seed(seed, "attack", *work, point, r) for r in range(restarts)]
                for point in point_ids
            ],
            dtype=np.int64,
        ).reshape(len(point_ids), restarts)
        result = run_attack(
            attack,
            model,
            x,
            y,
            spec,
            seeds,
            x_start=x_start,
            journal=journal,
            progress=None
            if progress is None
            else _ShiftedProgress(progress, number * len(point_ids)),
        )
        frame = records_from_result(
            model, x, y, point_ids, result, spec, input_range, probabilities=probabilities
        )
        yield Attacked(options, result, frame)


class _ShiftedProgress:
    """Reports points that come after others, of earlier values of the grid."""

    def __init__(self, progress: ProgressSink, before: int) -> None:
        self._progress, self._before = progress, before

    def update(self, done: float, note: str = "") -> None:
        self._progress.update(self._before + done, note)
