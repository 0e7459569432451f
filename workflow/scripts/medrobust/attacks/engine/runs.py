"""What the engines of an attack share: one (point, restart) as a unit, its name, its journal."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medrobust.attacks import AttackResult, Traces

if TYPE_CHECKING:
    from medrobust.attacks.engine.spec import HopSkipJumpSpec


@dataclass(frozen=True)
class Run:
    """The result of one (point, restart).

    Attributes:
        x_adv, x_final_iterate: float32 ``[*shape]``.
        queries, iterations: as in :class:`medrobust.attacks.AttackResult`.
        init_ok: whether there was a start.
        trace: arrays of one run, as :class:`medrobust.attacks.Traces` names them, ``[T + 1]``;
            empty for engines that keep none.
    """

    x_adv: np.ndarray
    x_final_iterate: np.ndarray
    queries: int
    iterations: int
    init_ok: bool
    trace: dict[str, np.ndarray]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns everything as arrays, for a journal."""
        counts = np.array([self.queries, self.iterations, self.init_ok], dtype=np.int64)
        return {
            "x_adv": self.x_adv,
            "x_final_iterate": self.x_final_iterate,
            "counts": counts,
            **{f"trace_{name}": values for name, values in self.trace.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Run:
        """Returns the run that :meth:`to_arrays` was called on."""
        queries, iterations, init_ok = (int(value) for value in arrays["counts"])
        trace = {
            name.removeprefix("trace_"): values
            for name, values in arrays.items()
            if name.startswith("trace_")
        }
        found = arrays["x_adv"], arrays["x_final_iterate"]
        return cls(*found, queries, iterations, bool(init_ok), trace)


def run_name(
    x: np.ndarray, y: int, start: np.ndarray | None, seed: int, spec: HopSkipJumpSpec
) -> str:
    """Returns a name made of all that a run depends on but the model, which a journal's key covers.

    So a journal never answers for another point, seed, start or setting, and points can be
    grouped into jobs in any way.
    """
    digest = hashlib.sha256(spec.model_dump_json().encode())
    digest.update(f"|{y}|{seed}|{x.shape}|{start is None}|".encode())
    digest.update(x.tobytes())
    if start is not None:
        digest.update(start.tobytes())
    return digest.hexdigest()


def result_of(runs: list[Run], shape: tuple[int, ...], seeds: np.ndarray) -> AttackResult:
    """Returns runs as arrays over (point, restart).

    Args:
        runs: in the order of ``seeds``, point by point.
        shape: of one point.
        seeds: int64 ``[n, restarts]``.
    """

    def rows(values: list[np.ndarray]) -> np.ndarray:
        stacked = np.empty((len(runs), *shape), dtype=np.float32)
        for i, value in enumerate(values):
            stacked[i] = value
        return stacked.reshape(*seeds.shape, *shape)

    def numbers(values: list[int], dtype: type) -> np.ndarray:
        return np.array(values, dtype=dtype).reshape(seeds.shape)

    traces = None
    if runs and all(run.trace for run in runs):
        stacked = {
            name: np.stack([run.trace[name] for run in runs]).reshape(*seeds.shape, -1)
            for name in runs[0].trace
        }
        traces = Traces(**stacked)
    return AttackResult(
        x_adv=rows([run.x_adv for run in runs]),
        x_final_iterate=rows([run.x_final_iterate for run in runs]),
        queries=numbers([run.queries for run in runs], np.int64),
        gradient_evaluations=np.zeros(seeds.shape, dtype=np.int64),
        iterations=numbers([run.iterations for run in runs], np.int64),
        init_ok=numbers([run.init_ok for run in runs], np.bool_),
        seeds=seeds,
        traces=traces,
    )
