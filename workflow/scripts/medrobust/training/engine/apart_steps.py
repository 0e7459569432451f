"""Training of members one by one, each as one vector: steps for
:mod:`medrobust.training.engine.loop`.

For networks that fill a processor by themselves. A step is: adversarial ``examples`` of a batch by
the parameters as the last step left them, a change of the parameters in place (``before_batch``),
the gradient of the loss of the batch, decay, one or more moves of the optimiser with that gradient.
Kernels that had no gradient in an epoch may be drawn anew before the next.

A checkpoint may fall between any two batches: sums over the batches done are part of it, and
everything random has a seed of its own per epoch or batch.

A method may keep values of each training point, which the loss of a batch reads and changes, and
go through all points once more after each epoch: :mod:`medrobust.training.engine.point_values`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.seeds import derive_seed, generator
from medrobust.training.engine.flat_updates import FlatMember, FlatOptimizer, OptimizerName
from medrobust.training.engine.kernel_norms import all_moved, revive
from medrobust.training.engine.loop import Pulse, State
from medrobust.training.engine.point_values import PerPoint, Sweep
from medrobust.training.engine.work import Work

if TYPE_CHECKING:
    import torch

# ``(member, x [n, d], y [n], generator) -> (gradient [p], loss, number of correct points)``;
# the next batch overwrites x and the gradient; the generator is seeded for this member and batch.
# Where there are ``examples``, these are the fifth argument ``[n, d]``; where values of each point
# are kept, the last one is a :class:`PerPoint`.
MemberGradient = Callable[..., tuple[Any, Any, Any]]


@dataclass(frozen=True)
class Descent:
    """How steps are taken.

    Attributes:
        gradient: of one member's loss on a batch.
        order: ``(labels, generator) -> rows`` of one epoch, int64; any number of them.
        batch_size: points per step; the last batch of an epoch may be smaller.
        optimizer: name of the optimiser.
        learning_rate: step size, constant.
        updates_per_batch: moves of the optimiser with the gradient of one batch.
        l1_decay, l2_decay: see :meth:`FlatOptimizer.decay`.
        untrained: names of the initial arrays that neither these nor the optimiser move.
        examples: ``(member, x [n, d], y [n], generator) -> adversarial examples [n, d]``, made
            before ``before_batch`` changes the member.
        before_batch: from a member's tensors to a function that changes them in place, called
            before each batch.
        revived: layers whose kernels are drawn anew where they had no gradient in an epoch.
        per_point: names of the initial arrays ``[M, n]`` that are values of the training points,
            not parameters.
        sweep: after each epoch.
        channels_last: how kernels lie on a CPU: the architecture's ``channels_last``.
    """

    gradient: MemberGradient
    order: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    batch_size: int
    optimizer: OptimizerName
    learning_rate: float
    updates_per_batch: int = 1
    l1_decay: float = 0.0
    l2_decay: float = 0.0
    untrained: frozenset[str] = frozenset()
    examples: Callable[..., Any] | None = None
    before_batch: Callable[[dict[str, Any]], Callable[[], None]] | None = None
    revived: tuple[str, ...] = ()
    per_point: tuple[str, ...] = ()
    sweep: Sweep | None = None
    channels_last: bool = False


class _Slot:
    """One member in training: tensors, optimiser, and sums over the batches of the epoch."""

    def __init__(self, state: State, slot: int, descent: Descent, device: str) -> None:
        import torch

        arrays = {name: value[slot] for name, value in state.parameters.items()}
        kept_of_points = {name: arrays.pop(name) for name in descent.per_point}
        by_channel = descent.channels_last and device == "cpu"
        self.member = FlatMember(arrays, device, descent.untrained, channels_last=by_channel)
        self.points = {
            name: torch.from_numpy(value.copy()).to(device)
            for name, value in kept_of_points.items()
        }
        flat = self.member.flat
        self.optimizer = FlatOptimizer(descent.optimizer, flat, descent.learning_rate)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.right = torch.zeros((), dtype=torch.int64, device=device)
        self.moved = torch.zeros_like(flat) if descent.revived else None
        self._batches, self._all_moved = 0, False
        self._descent = descent
        self._before_batch = descent.before_batch and descent.before_batch(self.member.values)
        for group, names in self._kept().items():
            kept = getattr(state, group)
            for name, tensor in names.items():
                if name in kept:
                    tensor.copy_(torch.from_numpy(np.asarray(kept[name][slot])))
        if "steps" in state.momentum:
            self.optimizer.steps = int(state.momentum["steps"][slot])

    def _kept(self) -> dict[str, dict[str, torch.Tensor]]:
        """Returns the tensors that a state keeps beside the parameters, by group and name."""
        moments = {"first": self.optimizer.first, "second": self.optimizer.second}
        sums = {"loss": self.loss, "right": self.right, "moved": self.moved}
        return {
            "momentum": moments,
            "partial": {name: total for name, total in sums.items() if total is not None},
        }

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns copies of all that a state keeps, by group and name."""
        kept = {
            group: {name: tensor.cpu().numpy().copy() for name, tensor in names.items()}
            for group, names in self._kept().items()
        }
        kept["momentum"]["steps"] = np.array(self.optimizer.steps)
        points = {name: value.cpu().numpy().copy() for name, value in self.points.items()}
        return kept | {"parameters": self.member.arrays() | points}

    def begin_epoch(self, seed: int, epoch: int) -> int:
        """Clears the sums; returns how many kernels were drawn anew."""
        revived = 0
        if self._descent.revived and epoch > 0:
            rng = generator(seed, "revive", epoch)
            revived = revive(self.member.values, self._moved(), rng)
        for total in self._kept()["partial"].values():
            total.zero_()
        self._batches, self._all_moved = 0, False
        return revived

    def _moved(self) -> dict[str, torch.Tensor]:
        """Returns the sums of the sizes of gradients, by the weights that may be drawn anew."""
        moved = self.member.views(self.moved)
        return {f"w{layer}": moved[f"w{layer}"] for layer in self._descent.revived}

    def step(
        self, x: torch.Tensor, y: torch.Tensor, rows: torch.Tensor, draws: torch.Generator
    ) -> None:
        """Takes one step on a batch, the training points of these rows."""
        import torch

        descent = self._descent
        more = [descent.examples(self.member, x, y, draws)] if descent.examples else []
        if self._before_batch is not None:
            self._before_batch()
        more += [PerPoint(self.points, rows)] if descent.per_point else []
        gradient, loss, right = descent.gradient(self.member, x, y, draws, *more)
        self.optimizer.decay(descent.l1_decay, descent.l2_decay)
        for _ in range(descent.updates_per_batch):
            self.optimizer.step(gradient)
        if descent.revived and not self._all_moved:
            self.moved.add_(torch.abs(gradient, out=self.optimizer.memory))
            self._batches += 1
            # Whether a kernel has moved at all is all that counts; to look costs, so rarely.
            if self._batches.bit_count() == 1:
                self._all_moved = all_moved(self._moved())
        self.loss.add_(loss, alpha=len(y))
        self.right.add_(right)


class ApartSteps:
    """Epochs of members one by one: batch by batch, all members on their own batch in turn."""

    def __init__(self, work: Work, descent: Descent) -> None:
        import torch

        self._work, self._descent = work, descent
        x = torch.from_numpy(np.ascontiguousarray(work.x))
        self._x = x.flatten(1).to(work.device)
        self._y = torch.from_numpy(np.ascontiguousarray(work.y)).to(work.device)
        # Memory that is used again is in the processor's cache.
        self._memory = self._x.new_empty((descent.batch_size, self._x.shape[1]))
        self._draws = torch.Generator(self._x.device)

    def load(self, state: State) -> None:
        """Continues from ``state``."""
        slots = range(len(state.active))
        state.counts = state.counts or {"revived": np.zeros(len(slots), dtype=np.int64)}
        self._slots = [_Slot(state, slot, self._descent, self._work.device) for slot in slots]

    def epoch(self, state: State, pulse: Pulse) -> tuple[np.ndarray, np.ndarray]:
        """Moves ``state`` by an epoch, or by what is left of it."""
        seeds = [self._work.seeds[member] for member in state.active]
        if state.batch == 0:
            pairs = zip(self._slots, seeds, strict=True)
            revived = [slot.begin_epoch(seed, state.epoch) for slot, seed in pairs]
            state.counts["revived"] = state.counts["revived"] + np.array(revived)
        orders = self._orders(seeds, state.epoch)
        size = self._descent.batch_size
        batches = -(-orders.shape[1] // size)
        pieces = batches + self._sweeps()
        for piece in range(state.batch, pieces):
            for slot, seed, order in zip(self._slots, seeds, orders, strict=True):
                self._draws.manual_seed(derive_seed(seed, "batch", state.epoch, piece))
                if piece < batches:
                    rows = order[piece * size : (piece + 1) * size]
                    slot.step(*self._batch(rows), rows, self._draws)
                else:
                    self._sweep(slot, piece - batches)
            done = piece + 1
            if done < pieces:
                store = functools.partial(self._store, state, done)
                pulse(done / pieces, f"batch {done} of {pieces}", store)
        self._store(state, 0)
        return state.partial["loss"] / orders.shape[1], state.partial["right"] / orders.shape[1]

    def _orders(self, seeds: list[int], epoch: int) -> torch.Tensor:
        """Returns each member's rows of an epoch in order, int64 ``[M, n]``."""
        import torch

        rngs = [generator(seed, "epoch", epoch) for seed in seeds]
        orders = np.stack([self._descent.order(self._work.y, rng) for rng in rngs])
        return torch.from_numpy(orders).to(self._x.device)

    def _sweeps(self) -> int:
        """Returns how many batches the sweep after an epoch has."""
        sweep = self._descent.sweep
        return -(-len(self._x) // sweep.batch_size) if sweep is not None else 0

    def _sweep(self, slot: _Slot, batch: int) -> None:
        """Takes one batch of the sweep."""
        import torch

        sweep = self._descent.sweep
        some = slice(batch * sweep.batch_size, (batch + 1) * sweep.batch_size)
        x, y = self._x[some], self._y[some]
        rows = torch.arange(some.start, some.start + len(x), device=x.device)
        sweep.update(slot.member, x, y, self._draws, PerPoint(slot.points, rows))

    def _batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        x = torch.index_select(self._x, 0, index, out=self._memory[: len(index)])
        return x, torch.index_select(self._y, 0, index)

    def _store(self, state: State, batch: int) -> None:
        """Brings ``state`` up to date after ``batch`` batches of the epoch, 0 for all."""
        state.batch = batch
        kept = [slot.arrays() for slot in self._slots]
        for group in ("parameters", "momentum", "partial"):
            names = kept[0][group]
            setattr(state, group, {n: np.stack([k[group][n] for k in kept]) for n in names})
