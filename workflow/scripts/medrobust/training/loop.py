"""The training loop: stacked members, each with its own points in its own order.

All members of a job take their steps together; the loss of one never enters the gradient of
another. Stopping follows scikit-learn's MLPClassifier, as the authors' code did: a member
stops once its training loss has not fallen by more than ``tolerance`` for more than
``patience`` epochs in a row. Stopped members leave the stack.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medrobust.logs import Progress
from medrobust.seeds import generator
from medrobust.training.work import Work

# A checkpoint costs a write and an fsync: worth it for epochs of seconds, not of milliseconds.
CHECKPOINT_SECONDS = 5.0

# A product of a stack of one takes another path than that of two or more and differs in the last
# bits. So a lone member is trained beside a ghost, and depends on its own seed alone.
GHOST = -1

BatchLoss = Callable[[dict[str, Any], Any, Any], Any]


@dataclass(frozen=True)
class StoppingRule:
    """When a member stops: see the module's docstring."""

    max_epochs: int
    tolerance: float
    patience: int


@dataclass
class _State:
    """What a checkpoint holds: everything that the next epoch depends on."""

    epoch: int
    active: list[int]  # positions in work.members; GHOST for a slot that only fills the stack
    parameters: dict[str, np.ndarray]  # of the active members
    momentum: dict[str, np.ndarray]
    best_loss: np.ndarray
    last_loss: np.ndarray
    stale: np.ndarray  # epochs in a row without progress
    finished: dict[str, np.ndarray]  # parameters of all members, valid where stopped
    history: list[dict[str, Any]] = field(default_factory=list)


def train_stacked(
    work: Work,
    initial: dict[str, np.ndarray],
    batch_loss: BatchLoss,
    make_optimizer: Callable[[list[Any]], Any],
    *,
    batch_size: int,
    stopping: StoppingRule,
    what: str,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Trains all members of ``work`` together.

    Args:
        work: data, members, seeds, device, checkpoint.
        initial: float32 arrays with a leading member axis.
        batch_loss: ``(parameters, x [M, b, *shape], y [M, b]) -> losses [M]``.
        make_optimizer: from a list of tensors to a torch optimizer.
        batch_size: points per step; the last batch of an epoch may be smaller.
        stopping: when a member stops.
        what: name for the progress lines.

    Returns:
        parameters with a leading member axis, and one history entry per member
        (``member, epochs, loss, stopped``).
    """
    import torch

    state = _resume(work) or _start(work, initial)
    x = torch.from_numpy(np.ascontiguousarray(work.x)).to(work.device)
    y = torch.from_numpy(np.ascontiguousarray(work.y)).to(work.device)
    progress = Progress(what, stopping.max_epochs, unit="epochs")
    parameters, optimizer = _to_torch(state, make_optimizer, work.device)
    saved = time.monotonic()
    while _members(state) and state.epoch < stopping.max_epochs:
        losses = _epoch(work, state, parameters, optimizer, batch_loss, x, y, batch_size)
        state.epoch += 1
        keep = _judge(state, losses, stopping)
        mean_loss = losses[[member != GHOST for member in state.active]].mean()
        _to_numpy(state, parameters, optimizer)
        if not keep.all():
            _retire(work, state, losses, keep, "converged")
            if _members(state):
                parameters, optimizer = _to_torch(state, make_optimizer, work.device)
        progress.update(
            state.epoch,
            f"mean loss {mean_loss:.4f}, {_members(state)} of {len(work.members)} training",
        )
        if work.checkpoint is not None and time.monotonic() - saved >= CHECKPOINT_SECONDS:
            _save(work, state)
            saved = time.monotonic()
    if _members(state):
        everyone = np.zeros(len(state.active), dtype=bool)
        _retire(work, state, state.last_loss, everyone, "max_epochs")
    order = np.argsort([entry["member"] for entry in state.history])
    return state.finished, [state.history[i] for i in order]


def _epoch(
    work: Work,
    state: _State,
    parameters: dict[str, Any],
    optimizer: Any,
    batch_loss: BatchLoss,
    x: Any,
    y: Any,
    batch_size: int,
) -> np.ndarray:
    """Takes one pass over the data; returns the mean loss of each active member."""
    import torch

    n = len(x)
    # Each epoch's order has a seed of its own, so a resumed job needs no generator state.
    orders = np.stack(
        [
            generator(work.seeds[max(i, 0)], "epoch", state.epoch).permutation(n)
            for i in state.active
        ]
    )
    orders_device = torch.from_numpy(orders).to(work.device)
    total = torch.zeros(len(state.active), dtype=torch.float64, device=work.device)
    for start in range(0, n, batch_size):
        index = orders_device[:, start : start + batch_size]
        optimizer.zero_grad(set_to_none=True)
        losses = batch_loss(parameters, x[index], y[index])
        losses.sum().backward()
        optimizer.step()
        total += losses.detach().double() * index.shape[1]
    return (total / n).cpu().numpy()


def _judge(state: _State, losses: np.ndarray, stopping: StoppingRule) -> np.ndarray:
    """Updates the stopping counters; returns which active members go on."""
    state.stale = np.where(losses > state.best_loss - stopping.tolerance, state.stale + 1, 0)
    state.best_loss = np.minimum(state.best_loss, losses)
    state.last_loss = losses
    # A loss that is not a number never recovers. A ghost stays as long as its member.
    ghosts = np.array([member == GHOST for member in state.active])
    return ghosts | ((state.stale <= stopping.patience) & np.isfinite(losses))


def _retire(work: Work, state: _State, losses: np.ndarray, keep: np.ndarray, reason: str) -> None:
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
            }
        )
    keep = keep.copy()
    remaining = [m for m, kept in zip(state.active, keep, strict=True) if kept and m != GHOST]
    if len(remaining) == 1:
        # One of the others stays as its ghost.
        ghost = next(i for i, m in enumerate(state.active) if m != remaining[0])
        keep[ghost] = True
        state.active[ghost] = GHOST
    state.active = [m for m, kept in zip(state.active, keep, strict=True) if kept]
    state.parameters = {name: value[keep] for name, value in state.parameters.items()}
    # Scalars, such as Adam's step, are common to all members.
    state.momentum = {n: v[keep] if v.ndim else v for n, v in state.momentum.items()}
    for name in ("best_loss", "last_loss", "stale"):
        setattr(state, name, getattr(state, name)[keep])


def _members(state: _State) -> int:
    """Returns how many members are still training."""
    return sum(member != GHOST for member in state.active)


def _start(work: Work, initial: dict[str, np.ndarray]) -> _State:
    active = list(range(len(work.members)))
    parameters = dict(initial)
    if len(active) == 1:
        active.append(GHOST)
        parameters = {name: np.repeat(value, 2, axis=0) for name, value in initial.items()}
    return _State(
        epoch=0,
        active=active,
        parameters=parameters,
        momentum={},
        best_loss=np.full(len(active), np.inf),
        last_loss=np.full(len(active), np.inf),
        stale=np.zeros(len(active), dtype=np.int64),
        finished={name: np.zeros_like(value) for name, value in initial.items()},
    )


def _to_torch(state: _State, make_optimizer: Callable[..., Any], device: str) -> tuple[Any, Any]:
    import torch

    parameters = {
        name: torch.from_numpy(value.copy()).to(device).requires_grad_()
        for name, value in state.parameters.items()
    }
    optimizer = make_optimizer(list(parameters.values()))
    for key, value in state.momentum.items():
        name, entry = key.split("/")
        restored = torch.from_numpy(value.copy()).to(device)
        optimizer.state[parameters[name]][entry] = restored
    return parameters, optimizer


def _to_numpy(state: _State, parameters: dict[str, Any], optimizer: Any) -> None:
    """Copies parameters and the optimizer's per-parameter tensors into the state."""
    state.parameters = {n: t.detach().cpu().numpy().copy() for n, t in parameters.items()}
    state.momentum = {
        f"{name}/{entry}": value.cpu().numpy().copy()
        for name, tensor in parameters.items()
        for entry, value in optimizer.state.get(tensor, {}).items()
        if value is not None
    }


_GROUPS = ("parameters", "momentum", "finished")


def _save(work: Work, state: _State) -> None:
    arrays = {f"{g}:{name}": v for g in _GROUPS for name, v in getattr(state, g).items()}
    arrays |= {name: getattr(state, name) for name in ("best_loss", "last_loss", "stale")}
    info = {"epoch": state.epoch, "active": state.active, "history": state.history}
    work.checkpoint.save(arrays, info)


def _resume(work: Work) -> _State | None:
    saved = work.checkpoint.load() if work.checkpoint is not None else None
    if saved is None:
        return None
    arrays, info = saved
    groups: dict[str, dict[str, np.ndarray]] = {g: {} for g in _GROUPS}
    for key, value in arrays.items():
        group, _, name = key.partition(":")
        if name:
            groups[group][name] = value
    return _State(
        epoch=info["epoch"],
        active=info["active"],
        history=info["history"],
        best_loss=arrays["best_loss"],
        last_loss=arrays["last_loss"],
        stale=arrays["stale"],
        **groups,
    )
