"""Networks whose gradients with respect to the points are left to autograd.

They have the same functions as those of :mod:`medrobust.models.engine.apart`:
``logits_and_pattern`` and ``pull_back``. What stands for the pattern is the record of the pass.
Where products fill the time, as in convolutional networks, nothing is gained by writing the way
back out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Trace:
    """One pass of points through a network, recorded: logits ``[n, c]`` of points ``[n, d]``."""

    points: torch.Tensor
    logits: torch.Tensor


def logits_and_trace(
    logits: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
) -> tuple[torch.Tensor, Trace]:
    """Returns the logits of ``x`` and the record from which :func:`pull_back` goes back.

    Args:
        logits: from points ``[n, d]`` to logits ``[n, c]``.
        x: ``[n, d]``.
    """
    import torch

    with torch.enable_grad():
        points = x if x.requires_grad else x.detach().requires_grad_()
        trace = Trace(points, logits(points))
    return trace.logits, trace


def pull_back(trace: Trace, slopes: torch.Tensor) -> torch.Tensor:
    """Returns slopes with respect to the points from those with respect to the logits.

    Args:
        trace: of the points; without a graph of gradients it serves one call.
        slopes: ``[n, c]``, or ``[k, n, c]`` or ``[k, 1, c]`` for k functions of the logits.

    Returns:
        ``[n, d]`` or ``[k, n, d]``; part of the graph of the weights, where autograd is on.
    """
    import torch

    further = torch.is_grad_enabled()
    functions = slopes if slopes.dim() == 3 else slopes[None]
    gradients = []
    for k, own in enumerate(functions):
        (gradient,) = torch.autograd.grad(
            trace.logits,
            trace.points,
            own.expand_as(trace.logits),
            retain_graph=further or k + 1 < len(functions),
            create_graph=further,
        )
        gradients.append(gradient)
    return torch.stack(gradients) if slopes.dim() == 3 else gradients[0]
