"""HopSkipJump's estimates of the boundary's normal on tensors, for a model on a GPU.

As :class:`medrobust.attacks.engine.lockstep.Normals` (Chen et al. 2020, equation 15), with draws,
perturbed rows, answers and sums on the model's device: of an estimate only the sums cross.

* **Draws** are of the streams of :mod:`medrobust.attacks.engine.tensor_draws`, one for each run and
  iteration, row after row. They are not those on arrays, which NumPy's SFC64 gives one after the
  other; their law is the same.
* **Rows** of all runs follow each other in blocks of one shape, whatever their number.
* **Sums** are of integers: perturbations in units of ``radius / 2**40``, finer than float32 tells
  them apart. So they are exact and do not depend on the order, on neighbours, or on blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medrobust.attacks.engine import tensor_draws
from medrobust.attacks.engine.lockstep import Normals, Setting
from medrobust.models.on_device import NO_ANSWER, OnDevice, check_answers, side_of

if TYPE_CHECKING:
    from torch import Tensor

    from medrobust.attacks import LabelModel

#: First of the streams, one for each iteration: none that another attack draws from.
_STREAMS = 2**20
#: Units of a radius in a sum: of 2**22 rows it still is an int64.
_UNITS = 2.0**40
# Words of the draws of a pass: with all that is made of them some ten times as much memory.
_WORD_BYTES = 2**28


def normals_of(
    model: LabelModel, setting: Setting, seeds: list[int], batch_size: int
) -> Normals | TensorNormals:
    """Returns estimates computed where the model is: on arrays, or on its device.

    Args:
        model: the model under attack.
        setting: the attack.
        seeds: of the runs.
        batch_size: most rows asked about at once, on arrays.
    """
    if (on_device := side_of(model)) is None:
        return Normals(setting, seeds, batch_size)
    return TensorNormals(setting, seeds, on_device)


class TensorNormals:
    """Estimates of the boundary's normal from answers to perturbed rows.

    Args:
        setting: the attack.
        seeds: of the runs; each run draws from a stream of its own for each iteration.
        model: answers.
    """

    def __init__(self, setting: Setting, seeds: list[int], model: OnDevice) -> None:
        import torch

        self._setting, self._model = setting, model
        d = setting.x.shape[1]
        self._words = (d + 1) // 2
        most = max(_WORD_BYTES // (8 * self._words), 1)
        self._rows = min(model.block, 2 ** (most.bit_length() - 1))
        self._seeds = model.put(np.array(seeds, dtype=np.int64))
        self._places = torch.arange(self._rows, device=model.device)

    def estimate(
        self,
        centres: np.ndarray,
        radii: np.ndarray,
        counts: np.ndarray,
        iteration: int,
        normals: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns directions in which rows become adversarial, float64 ``[runs, d]``.

        See :meth:`medrobust.attacks.engine.lockstep.Normals.estimate`.

        Raises:
            NotFiniteError: the model has no label for a row.
        """
        d = centres.shape[1]
        sums = self._summed(centres, radii, counts, iteration, normals).cpu().numpy()
        queries = self._setting.queries
        queries.counts += counts
        adversarial, missing = sums[:, -2], sums[:, -1]
        check_answers(np.repeat([NO_ANSWER, 0], [missing.sum(), (counts - missing).sum()]))
        total, hits = ((radii / _UNITS)[:, None] * part for part in (sums[:, :d], sums[:, d:-2]))
        # As on arrays.
        mean = 2 * adversarial / np.maximum(counts, 1) - 1
        mixed = 2 * hits - (1 + mean)[:, None] * total
        return np.where((np.abs(mean) == 1)[:, None], mean[:, None] * total, mixed)

    def _summed(
        self,
        centres: np.ndarray,
        radii: np.ndarray,
        counts: np.ndarray,
        iteration: int,
        normals: np.ndarray | None,
    ) -> Tensor:
        """Returns sums of each run, int64 ``[runs, 2 d + 2]``.

        They are: all perturbations; the adversarial ones; how many these are; how many rows have no
        answer.
        """
        import torch

        put, ends = self._model.put, np.cumsum(counts)
        goal = self._setting.queries.goal
        of_runs = _Runs(
            *put(np.stack([ends, ends - counts, goal])),
            tensor_draws.stream_keys(self._seeds, _STREAMS + iteration),
            put(centres),
            put(radii),
            None if normals is None else put(normals),
        )
        width = 2 * centres.shape[1] + 2
        sums = torch.zeros((len(counts), width), dtype=torch.int64, device=self._model.device)
        for first in range(0, int(counts.sum()), self._rows):
            self._add(of_runs, first, sums)
        return sums

    def _add(self, of_runs: _Runs, first: int, sums: Tensor) -> None:
        """Asks about one block of rows, those from number ``first`` on, and adds to the sums."""
        import torch

        numbers = self._places + first
        # Rows behind the last one belong to the last run and count for nothing.
        owner = torch.searchsorted(of_runs.ends, numbers, right=True)
        owner = owner.clamp(max=len(of_runs.ends) - 1)
        counted = numbers < of_runs.ends[-1]
        rows, moves = self._perturbed(of_runs, owner, numbers - of_runs.starts[owner])
        labels = self._model.labels(rows)
        reached = labels == of_runs.goal[owner]
        adversarial = reached if self._setting.queries.targeted else ~reached
        answered = labels != NO_ANSWER
        some = torch.stack([adversarial & answered, ~answered], dim=1).long()
        found = torch.cat([moves, moves * some[:, :1], some], dim=1) * counted[:, None]
        sums.index_add_(0, owner, found)

    def _perturbed(self, of_runs: _Runs, owner: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``clip(centre + radius * noise / |noise|)``, and how far that is from the centre.

        Args:
            of_runs: the runs.
            owner: the run of each row, int64 ``[n]``.
            numbers: of rows within their runs, int64 ``[n]``.

        Returns:
            rows, float32 ``[n, d]``, and their distances in units of their radius, int64.
        """
        import torch

        setting, d = self._setting, of_runs.centres.shape[1]
        noise, centres = self._noise(of_runs.keys[owner], numbers, d), of_runs.centres[owner]
        if of_runs.normals is not None:
            normals = of_runs.normals[owner]
            noise = noise - (noise * normals).sum(dim=1, keepdim=True) * normals
        length = (noise * noise).sum(dim=1, keepdim=True).sqrt()
        radii = of_runs.radii[owner][:, None]
        scale = torch.where(length > 0, radii.float() / length, 0.0)
        rows = (centres + scale * noise).clamp(float(setting.low), float(setting.high))
        return rows, ((rows - centres).double() * (_UNITS / radii)).round().long()

    def _noise(self, keys: Tensor, numbers: Tensor, d: int) -> Tensor:
        """Returns draws float32 ``[n, d]``: normal or, in the maximum norm, uniform."""
        import torch

        words = torch.arange(self._words, device=keys.device)
        bits = tensor_draws.words_at(keys[:, None], numbers[:, None] * self._words + words)
        draw = tensor_draws.normal if self._setting.norm == 2 else tensor_draws.signed
        return draw(bits, d)


@dataclass(frozen=True)
class _Runs:
    """What an estimate depends on, of each run, as tensors.

    Attributes:
        ends, starts: number of the row behind a run's last one, and of its first, int64 ``[runs]``.
        goal: see :class:`medrobust.attacks.engine.queries.Queries`.
        keys: of streams, int64 ``[runs]``.
        centres: float32 ``[runs, d]``.
        radii: float64 ``[runs]``.
        normals: unit vectors, float32 ``[runs, d]``; None: there are none.
    """

    ends: Tensor
    starts: Tensor
    goal: Tensor
    keys: Tensor
    centres: Tensor
    radii: Tensor
    normals: Tensor | None
