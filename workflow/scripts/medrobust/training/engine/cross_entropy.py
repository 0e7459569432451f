"""The cross-entropy of stacked members, and what the methods that descend it share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medrobust.core.schema import Settings
from medrobust.models.contract import architecture_of
from medrobust.training.engine.first_values import first_values
from medrobust.training.engine.loop import MemberEpoch, StoppingRule, train_stacked
from medrobust.training.engine.work import Trained, Work


def cross_entropy(outputs: Any, y: Any) -> tuple[Any, Any]:
    """Returns of each member, ``[M]``, the mean cross-entropy and how many points are correct.

    Args:
        outputs: ``[M, n, o]``: one logit per class, or one output, the logit of class 1 of two.
        y: labels, int64 ``[M, n]``.
    """
    import torch

    logits = outputs.transpose(1, 2)
    if logits.shape[1] == 1:
        # PyTorch's binary form rounds by the place in the array; see models/engine/activations.py.
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    losses = torch.nn.functional.cross_entropy(logits, y, reduction="none").mean(dim=1)
    return losses, (logits.argmax(dim=1) == y).sum(dim=1)


def descend(
    work: Work,
    architecture: str,
    architecture_spec: Settings,
    make_optimizer: Callable[[list[Any]], Any],
    *,
    batch_size: int,
    stopping: StoppingRule,
    penalty: Callable[[dict[str, Any], int], Any] | None = None,
    member_epoch: MemberEpoch | None = None,
) -> Trained:
    """Trains ``work``'s members as one stack, on the cross-entropy of their batches.

    Args:
        work: data, members, seeds, device and checkpoint.
        architecture: registered name of the architecture.
        architecture_spec: its settings.
        make_optimizer: from a list of tensors to a torch optimizer.
        batch_size: points per step; all points, if there are fewer.
        stopping: when a member stops.
        penalty: ``(parameters, points in the batch) -> [M]``, added to the loss.
        member_epoch: the same steps for one member on the CPU; see ``train_stacked``.
    """
    network = architecture_of(architecture)
    forward = network.training_forward or network.forward

    def batch_loss(parameters: dict[str, Any], x: Any, y: Any) -> tuple[Any, Any]:
        losses, correct = cross_entropy(forward(architecture_spec, parameters, x.flatten(2)), y)
        if penalty is not None:
            losses = losses + penalty(parameters, x.shape[1])
        return losses, correct

    parameters, history = train_stacked(
        work,
        first_values(architecture, architecture_spec, work),
        batch_loss,
        make_optimizer,
        batch_size=min(batch_size, len(work.x)),
        stopping=stopping,
        what=f"training {len(work.members)} members of {architecture}",
        untrained=network.untrained,
        after_step=network.after_step,
        apart=network.members_apart,
        channels_last=network.channels_last,
        member_epoch=member_epoch,
    )
    return Trained(parameters, history)
