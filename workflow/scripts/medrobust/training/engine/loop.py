"""The training loop: stacked members, each with its own points in its own order.

All members of a job take their steps together; the loss of one never enters the gradient of
another. With a ``patience``, stopping follows scikit-learn's MLPClassifier, as the authors' code
did: a member stops once its training loss has not fallen by more than ``tolerance`` for more than
``patience`` epochs in a row. Stopped members leave the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from medrobust.core.logs import Progress
from medrobust.core.seeds import generator
from medrobust.models.engine.stacked import tensors
from medrobust.runtime.devices import one_blas_thread
from medrobust.runtime.journal import Pace
from medrobust.training.engine.work import Work

# A checkpoint costs a write and an fsync: worth it for epochs of seconds, not of milliseconds.
CHECKPOINT_SECONDS = 5.0

# A product of a stack of one takes another path than that of two or more and differs in the last
# bits. So a lone member is trained beside a ghost, and depends on its own seed alone.
GHOST = -1

BatchLoss = Callable[[dict[str, Any], Any, Any], tuple[Any, Any]]
AfterStep = Callable[[dict[str, Any]], None]
MemberEpoch = Callable[
    [np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]],
    tuple[float, float],
]


@dataclass(frozen=True)
class StoppingRule:
    """When a member stops: see the module's docstring. Without patience, after ``max_epochs``."""

    max_epochs: int
    tolerance: float = 0.0
    patience: int | None = None


@dataclass(frozen=True)
class _Descent:
    """How steps are taken: the arguments of :func:`train_stacked` that say so."""

    batch_loss: BatchLoss
    make_optimizer: Callable[[list[Any]], Any]
    untrained: Collection[str]
    after_step: AfterStep | None
    channels_last: bool


# ``(share of the epoch done, note, store)``, called by steps after a batch: writes a progress line
# or calls ``store``, which brings the state up to date, and saves a checkpoint, where one is due.
Pulse = Callable[[float, str, Callable[[], None]], None]


@dataclass
class State:
    """What a checkpoint holds: everything that the next batch depends on."""

    epoch: int
    active: list[int]  # positions in work.members; GHOST for a slot that only fills the stack
    parameters: dict[str, np.ndarray]  # of the active members
    momentum: dict[str, np.ndarray]
    best_loss: np.ndarray
    last_loss: np.ndarray
    stale: np.ndarray  # epochs in a row without progress
    finished: dict[str, np.ndarray]  # parameters of all members, valid where stopped
    history: list[dict[str, Any]] = field(default_factory=list)
    batch: int = 0  # batches of this epoch that are done, for steps that stop within an epoch
    partial: dict[str, np.ndarray] = field(default_factory=dict)  # sums over these, per member
    counts: dict[str, np.ndarray] = field(default_factory=dict)  # per member, for the history


def train_stacked(
    work: Work,
    initial: dict[str, np.ndarray],
    batch_loss: BatchLoss,
    make_optimizer: Callable[[list[Any]], Any],
    *,
    batch_size: int,
    stopping: StoppingRule,
    what: str,
    untrained: Collection[str] = (),
    after_step: AfterStep | None = None,
    apart: bool = False,
    channels_last: bool = False,
    member_epoch: MemberEpoch | None = None,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Trains all members of ``work`` together.

    Args:
        work: data, members, seeds, device, checkpoint.
        initial: float32 arrays with a leading member axis.
        batch_loss: ``(parameters, x [M, b, *shape], y [M, b]) -> (losses [M], correct [M])``:
            mean losses and how many points are classified correctly; the next batch overwrites
            ``x``.
        make_optimizer: from a list of tensors to a torch optimizer.
        batch_size: points per step; the last batch of an epoch may be smaller.
        stopping: when a member stops.
        what: name for the progress lines.
        untrained: names in ``initial`` that the optimizer leaves alone, such as moving statistics;
            ``batch_loss`` may change these tensors in place.
        after_step: called with all tensors after each step, to change them in place (bounds of
            weights).
        apart: ``batch_loss`` computes the members one by one, so a lone one needs no ghost.
        channels_last: how kernels lie on a CPU: the architecture's ``channels_last``.
        member_epoch: the same steps written out for one member and the CPU, where it replaces
            ``batch_loss`` and the optimizer: ``(x [n, d], y [n], order [n], parameters,
            velocities) -> (mean loss, accuracy)``, which overwrites the last two, of one member
            each. ``work.threads`` members are computed at a time.

    Returns:
        parameters with a leading member axis, and one history entry per member
        (``member, epochs, loss, stopped``).
    """
    written_out = member_epoch is not None and work.device == "cpu"
    ghosts = not (apart or written_out)
    slots = len(work.members) + (ghosts and len(work.members) == 1)
    steps: Steps
    if written_out:
        steps = _WrittenOut(work, member_epoch)
    else:
        descent = _Descent(
            batch_loss,
            make_optimizer,
            untrained,
            after_step,
            channels_last and work.device == "cpu",
        )
        steps = _Autograd(work, descent, _Batches(work, batch_size, slots))
    return run_epochs(work, initial, steps, stopping=stopping, what=what, ghosts=ghosts)


def run_epochs(
    work: Work,
    initial: dict[str, np.ndarray],
    steps: Steps,
    *,
    stopping: StoppingRule,
    what: str,
    ghosts: bool,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Takes epochs until every member has stopped, with progress lines and checkpoints.

    Args:
        work: data, members, seeds, device, checkpoint.
        initial: float32 arrays with a leading member axis.
        steps: how an epoch is taken.
        stopping: when a member stops.
        what: name for the progress lines.
        ghosts: whether a lone member is trained beside a ghost.

    Returns:
        as :func:`train_stacked`; the history also has the counts that ``steps`` kept.
    """
    state = _resume(work) or _start(work, initial, ghosts=ghosts)
    progress = Progress(what, stopping.max_epochs, unit="epochs", done=state.epoch)
    steps.load(state)
    pace = Pace(CHECKPOINT_SECONDS)

    def pulse(share: float, note: str, store: Callable[[], None]) -> None:
        progress.update(state.epoch + share, note)

        def save() -> None:
            store()
            _save(work, state)

        if work.checkpoint is not None:
            pace.save_if_due(save)

    while _members(state) and state.epoch < stopping.max_epochs:
        losses, accuracies = steps.epoch(state, pulse)
        state.epoch += 1
        keep = _judge(state, losses, stopping)
        real = np.array(state.active) != GHOST
        outcome = f"mean loss {losses[real].mean():.4f}, accuracy {accuracies[real].mean():.4f}"
        if not keep.all():
            _retire(work, state, losses, keep, "converged", ghosts=ghosts)
            if _members(state):
                steps.load(state)
        progress.update(
            state.epoch,
            f"{outcome}, {_members(state)} of {len(work.members)} training",
        )
        if work.checkpoint is not None:
            pace.save_if_due(lambda: _save(work, state))
    if _members(state):
        everyone = np.zeros(len(state.active), dtype=bool)
        _retire(work, state, state.last_loss, everyone, "max_epochs", ghosts=ghosts)
    order = np.argsort([entry["member"] for entry in state.history])
    return state.finished, [state.history[i] for i in order]


class Steps(Protocol):
    """A way to take an epoch."""

    def load(self, state: State) -> None:
        """Continues from ``state``: called at the start and when members have left."""

    def epoch(self, state: State, pulse: Pulse) -> tuple[np.ndarray, np.ndarray]:
        """Moves parameters and momentum of ``state`` by an epoch.

        Args:
            state: where to begin, within an epoch if ``state.batch`` is not 0; brought up to date.
            pulse: may be called after each batch.

        Returns:
            mean loss and accuracy of each active member, each batch by the parameters it met.
        """


class _Autograd:
    """Epochs of the whole stack by automatic differentiation and a torch optimizer."""

    def __init__(self, work: Work, descent: _Descent, batches: _Batches) -> None:
        self._device, self._descent, self._batches = work.device, descent, batches

    def load(self, state: State) -> None:
        self._parameters, self._optimizer = _to_torch(state, self._descent, self._device)

    def epoch(self, state: State, pulse: Pulse) -> tuple[np.ndarray, np.ndarray]:
        batches = self._batches.of_epoch(state.epoch, state.active)
        outcome = _epoch(self._descent, self._parameters, self._optimizer, batches)
        _to_numpy(state, self._parameters, self._optimizer)
        return outcome


class _WrittenOut:
    """Epochs of one member after the other, ``work.threads`` side by side."""

    def __init__(self, work: Work, member_epoch: MemberEpoch) -> None:
        self._work, self._member_epoch = work, member_epoch
        self._x = np.ascontiguousarray(work.x.reshape(len(work.x), -1))
        self._y = np.ascontiguousarray(work.y)

    def load(self, state: State) -> None:
        if not state.momentum:
            state.momentum = {n: np.zeros_like(value) for n, value in state.parameters.items()}

    def epoch(self, state: State, pulse: Pulse) -> tuple[np.ndarray, np.ndarray]:
        def outcome(slot: int) -> tuple[float, float]:
            return self._member_epoch(
                self._x,
                self._y,
                _order(self._work, state.active[slot], state.epoch),
                {name: value[slot] for name, value in state.parameters.items()},
                {name: value[slot] for name, value in state.momentum.items()},
            )

        with one_blas_thread(), ThreadPoolExecutor(self._work.threads) as pool:
            losses, accuracies = np.array(list(pool.map(outcome, range(len(state.active))))).T
        return losses, accuracies


def _order(work: Work, member: int, epoch: int) -> np.ndarray:
    """Returns the order of points of a member, int64 ``[n]``."""
    # Each epoch's order has a seed of its own, so a resumed job needs no generator state.
    return generator(work.seeds[max(member, 0)], "epoch", epoch).permutation(len(work.x))


class _Batches:
    """The training points, handed out in batches: to each member its own, in its own order.

    Args:
        work: data, seeds and device.
        size: points per batch and member; the last batch of an epoch may be smaller.
        slots: most members at a time, ghosts included.
    """

    def __init__(self, work: Work, size: int, slots: int) -> None:
        import torch

        self._work, self._size, self._shape = work, size, work.x.shape[1:]
        x = torch.from_numpy(np.ascontiguousarray(work.x))
        self._x = x.flatten(1).to(work.device)
        self._y = torch.from_numpy(np.ascontiguousarray(work.y)).to(work.device)
        # Memory that is used again is in the processor's cache, where it is not too large.
        self._memory = self._x.new_empty((slots * size, self._x.shape[1]))
        self._orders = np.empty((slots, len(work.x)), dtype=np.int64)

    def of_epoch(self, epoch: int, active: list[int]) -> Iterator[tuple[Any, Any]]:
        """Yields x ``[M, b, *shape]`` and y ``[M, b]``; the next batch overwrites this x."""
        import torch

        orders = self._orders[: len(active)]
        for slot, i in enumerate(active):
            orders[slot] = _order(self._work, i, epoch)
        orders_device = torch.from_numpy(orders).to(self._x.device)
        for start in range(0, len(self._x), self._size):
            index = orders_device[:, start : start + self._size]
            flat = index.reshape(-1)
            x = torch.index_select(self._x, 0, flat, out=self._memory[: len(flat)])
            y = torch.index_select(self._y, 0, flat)
            yield x.view(*index.shape, *self._shape), y.view(index.shape)


def _epoch(
    descent: _Descent,
    parameters: dict[str, Any],
    optimizer: Any,
    batches: Iterator[tuple[Any, Any]],
) -> tuple[np.ndarray, np.ndarray]:
    """Takes one pass over the data; returns mean loss and accuracy of each active member."""
    total, right, n = 0.0, 0, 0
    for x, y in batches:
        optimizer.zero_grad(set_to_none=True)
        losses, correct = descent.batch_loss(parameters, x, y)
        losses.sum().backward()
        optimizer.step()
        if descent.after_step is not None:
            descent.after_step(parameters)
        total, right = total + losses.detach().double() * y.shape[1], right + correct
        n += y.shape[1]
    return (total / n).cpu().numpy(), (right / n).cpu().numpy()


def _judge(state: State, losses: np.ndarray, stopping: StoppingRule) -> np.ndarray:
    """Updates the stopping counters; returns which active members go on."""
    # A loss that is not a number never recovers. A ghost stays as long as its member.
    ghosts = np.array([member == GHOST for member in state.active])
    state.stale = np.where(losses > state.best_loss - stopping.tolerance, state.stale + 1, 0)
    state.best_loss = np.minimum(state.best_loss, losses)
    state.last_loss = losses
    patient = stopping.patience is None or state.stale <= stopping.patience
    return ghosts | (patient & np.isfinite(losses))


def _retire(
    work: Work, state: State, losses: np.ndarray, keep: np.ndarray, reason: str, *, ghosts: bool
) -> None:
    """Moves the members not kept from the stack to the finished ones."""
    for position in np.flatnonzero(~keep):
        member = state.active[position]
        if member == GHOST:
            continue
        for name, value in state.parameters.items():
            state.finished[name][member] = value[position]
        loss = float(losses[position])
        state.history.append(
            {
                "member": work.members[member],
                "epochs": state.epoch,
                "loss": loss if np.isfinite(loss) else None,
                "stopped": reason if np.isfinite(loss) else "loss is not a number",
                **{name: int(value[position]) for name, value in state.counts.items()},
            }
        )
    keep = keep.copy()
    remaining = [m for m, kept in zip(state.active, keep, strict=True) if kept and m != GHOST]
    if len(remaining) == 1 and ghosts:
        # One of the others stays as its ghost.
        ghost = next(i for i, m in enumerate(state.active) if m != remaining[0])
        keep[ghost] = True
        state.active[ghost] = GHOST
    state.active = [m for m, kept in zip(state.active, keep, strict=True) if kept]
    state.parameters = {name: value[keep] for name, value in state.parameters.items()}
    # Scalars, such as Adam's step, are common to all members.
    state.momentum = {n: v[keep] if v.ndim else v for n, v in state.momentum.items()}
    for group in ("partial", "counts"):
        setattr(state, group, {n: v[keep] for n, v in getattr(state, group).items()})
    for name in ("best_loss", "last_loss", "stale"):
        setattr(state, name, getattr(state, name)[keep])


def _members(state: State) -> int:
    """Returns how many members are still training."""
    return sum(member != GHOST for member in state.active)


def _start(work: Work, initial: dict[str, np.ndarray], *, ghosts: bool) -> State:
    active = list(range(len(work.members)))
    parameters = {name: value.copy() for name, value in initial.items()}
    if len(active) == 1 and ghosts:
        active.append(GHOST)
        parameters = {name: np.repeat(value, 2, axis=0) for name, value in initial.items()}
    return State(
        epoch=0,
        active=active,
        parameters=parameters,
        momentum={},
        best_loss=np.full(len(active), np.inf),
        last_loss=np.full(len(active), np.inf),
        stale=np.zeros(len(active), dtype=np.int64),
        finished={name: np.zeros_like(value) for name, value in initial.items()},
    )


def _to_torch(state: State, descent: _Descent, device: str) -> tuple[dict[str, Any], Any]:
    import torch

    copies = {name: value.copy() for name, value in state.parameters.items()}
    parameters = tensors(copies, device, by_channel=descent.channels_last)
    for name, tensor in parameters.items():
        tensor.requires_grad_(name not in descent.untrained)
    optimizer = descent.make_optimizer([t for t in parameters.values() if t.requires_grad])
    for key, value in state.momentum.items():
        name, entry = key.split("/")
        restored = torch.from_numpy(value.copy())
        # Scalars, such as Adam's step, stay where the optimizer keeps them: on the CPU.
        optimizer.state[parameters[name]][entry] = restored.to(device) if value.ndim else restored
    return parameters, optimizer


def _to_numpy(state: State, parameters: dict[str, Any], optimizer: Any) -> None:
    """Copies parameters and the optimizer's per-parameter tensors into the state."""
    state.parameters = {n: t.detach().cpu().numpy().copy() for n, t in parameters.items()}
    state.momentum = {
        f"{name}/{entry}": value.cpu().numpy().copy()
        for name, tensor in parameters.items()
        for entry, value in optimizer.state.get(tensor, {}).items()
        if value is not None
    }


_GROUPS = ("parameters", "momentum", "finished", "partial", "counts")


def _save(work: Work, state: State) -> None:
    arrays = {f"{g}:{name}": v for g in _GROUPS for name, v in getattr(state, g).items()}
    arrays |= {name: getattr(state, name) for name in ("best_loss", "last_loss", "stale")}
    info = {name: getattr(state, name) for name in ("epoch", "batch", "active", "history")}
    work.checkpoint.save(arrays, info)


def _resume(work: Work) -> State | None:
    saved = work.checkpoint.load() if work.checkpoint is not None else None
    if saved is None:
        return None
    arrays, info = saved
    groups: dict[str, dict[str, np.ndarray]] = {g: {} for g in _GROUPS}
    for key, value in arrays.items():
        group, _, name = key.partition(":")
        if name:
            groups[group][name] = value
    return State(
        **info,
        best_loss=arrays["best_loss"],
        last_loss=arrays["last_loss"],
        stale=arrays["stale"],
        **groups,
    )
