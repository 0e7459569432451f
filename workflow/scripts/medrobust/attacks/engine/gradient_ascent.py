"""Projected gradient ascent of one network's points, and what it needs to know of the network.

A row that a step leaves where it was, in a corner of its ball, would stay there: the next gradient
is the same. A row that is back where it was two steps ago goes to and fro. Both are finished and
leave the batch; so do rows that a watcher has seen enough of.

On a CPU they leave after the step that finishes them, which saves passes. To find out, the host has
to wait for a GPU, which meanwhile runs out of work: there it looks every :data:`LOOKS` steps, and
until then finished rows walk on where they are. What becomes of a row is the same either way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import traced

if TYPE_CHECKING:
    from torch import Tensor

    from medrobust.attacks.engine.norm_balls import Balls

AttackLoss = Literal["cross_entropy", "margin"]

# Where pixels have classes (:mod:`medrobust.attacks.engine.pixel_network`), logits are a list, one
# for each resolution, here and in what follows.
#: From logits ``[n, c]`` and the numbers of their rows ``[n]`` to slopes ``[n, c]`` of what rises.
Slopes = Callable[["Tensor", "Tensor"], "Tensor"]
#: Sees rows ``[n]``, their points before the last step and now ``[n, d]``, and logits ``[n, c]`` of
#: the latter; returns which rows are finished, bool ``[n]``. It may see these again.
Watch = Callable[["Tensor", "Tensor", "Tensor", "Tensor"], "Tensor"]

#: Steps from one look at which rows are finished to the next, by the kind of device.
LOOKS = {"cpu": 1, "cuda": 5}


@dataclass(frozen=True)
class Network:
    """One member: its architecture, the settings of that, and its tensors.

    A :class:`~medrobust.attacks.engine.pixel_network.PixelNetwork` may stand in its place.

    Attributes:
        moving: of a network in training whose logits then are others: the arrays to which each
            batch adds its own statistics (``training_logits`` of the architecture).
    """

    architecture: Architecture
    spec: Settings
    tensors: dict[str, Any]
    moving: dict[str, Any] | None = None

    def logits(self, x: Tensor) -> Tensor:
        """Returns logits ``[n, c]`` of points ``[n, d]``."""
        if self.moving is not None:
            return self.architecture.training_logits(self.spec, self.tensors, self.moving, x)
        return self.architecture.logits(self.spec, self.tensors, x)

    def logits_and_pattern(self, x: Tensor) -> tuple[Tensor, Any]:
        """Returns logits ``[n, c]`` and what :meth:`pull_back` needs."""
        if self.moving is not None:
            return traced.logits_and_trace(self.logits, x)
        return self.architecture.logits_and_pattern(self.spec, self.tensors, x)

    def pull_back(self, pattern: Any, slopes: Tensor) -> Tensor:
        """Returns slopes at the points ``[n, d]`` from those at the logits ``[n, c]``."""
        if self.moving is not None:
            return traced.pull_back(pattern, slopes)
        return self.architecture.pull_back(self.spec, self.tensors, pattern, slopes)


def ascend(
    network: Network,
    slopes: Slopes,
    points: Tensor,
    balls: Balls,
    sizes: Tensor,
    steps: int,
    *,
    watch: Watch | None = None,
    to_the_end: bool = False,
) -> Tensor:
    """Returns the points after ``steps`` steps; any on the way, where the watcher was done.

    Args:
        network: the member.
        slopes: of what is to rise, with respect to the logits; only directions count.
        points: starts, ``[n, d]``; not changed.
        balls: around their centres; rows that are finished are let go.
        sizes: length of each row's steps, ``[n]``.
        steps: number of steps, at least one.
        watch: sees every point on the way once, the start and the last one included.
        to_the_end: rows walk on where more steps change nothing, for a watcher that wants to see
            the points that repeat too.
    """
    import torch

    ends, sizes, each = points.clone(), sizes[:, None], LOOKS[points.device.type]
    rows, before = torch.arange(len(points), device=points.device), points
    with torch.no_grad():
        for step in range(steps):
            logits, pattern = network.logits_and_pattern(points)
            moved = balls.step(points, network.pull_back(pattern, slopes(logits, rows)), sizes)
            over = None if watch is None else watch(rows, before, points, logits)
            looks = (step + 1) % each == 0 and (each == 1 or step + 1 < steps)
            if looks and not to_the_end:
                still = _stands_still(before if step else None, points, moved)
                over = still if over is None else over | still
            before, points = points, moved
            if not looks or over is None:
                continue
            going = (~over).nonzero()[:, 0]
            if len(going) == len(rows):
                continue
            # Of two places in turn, the one where the last step ends. Rows that go on are still to
            # be overwritten.
            ends[rows] = before if (steps - step) % 2 == 0 else points
            if not len(going):
                return ends
            balls.keep(going)
            rows, sizes, before, points = (t[going] for t in (rows, sizes, before, points))
        ends[rows] = points
        if watch is not None:
            watch(rows, before, points, network.logits(points))
    return ends


def _stands_still(before: Tensor | None, points: Tensor, moved: Tensor) -> Tensor:
    """Returns which rows are where they were one step ago, or two, bool ``[n]``."""
    still = (moved == points).all(dim=1)
    return still if before is None else still | (moved == before).all(dim=1)


def away_from(y: Tensor, loss: AttackLoss, n_classes: int) -> Slopes:
    """Returns the slopes of a loss of the labels, up to a positive factor of each row.

    * ``cross_entropy``: softmax over the other classes, minus 1 at the label. This is the direction
      of the cross-entropy and of the soft logit margin ``log sum_{i != y} exp z_i - z_y`` alike;
      it does not vanish where the probability of the label rounds to 1.
    * ``margin``: 1 at the largest other logit, -1 at the label.

    Args:
        y: labels, int64 ``[n]``.
        loss: name of the loss.
        n_classes: c; with two classes both losses have the same direction everywhere.
    """
    import torch

    if n_classes == 2:
        fixed = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], device=y.device)
        return lambda logits, rows: fixed.to(logits.dtype)[y[rows]]

    def slopes(logits: Tensor, rows: Tensor) -> Tensor:
        label = y[rows][:, None]
        others = logits.detach().scatter(1, label, -torch.inf)
        if loss == "cross_entropy":
            return others.softmax(dim=1).scatter_(1, label, -1.0)
        best = others.argmax(dim=1, keepdim=True)
        return torch.zeros_like(others).scatter_(1, best, 1.0).scatter_(1, label, -1.0)

    return slopes
