"""BPGD: noisy points on the decision boundary (ima, Algorithm 3 and Figures 2 and 3).

Projected gradient ascent from a random start. The last point that is classified correctly before
the first that is misclassified, and that one, lie on both sides of a boundary; halving the segment
between them finds it. Details as the authors' code of 2020 has them: docs/ima-training.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrobust.attacks.engine.gradient_ascent import (
    AttackLoss,
    Network,
    Slopes,
    ascend,
    away_from,
)
from medrobust.attacks.engine.norm_balls import Balls, Norm, uniform_start

if TYPE_CHECKING:
    from torch import Generator, Tensor

#: From outputs of a network and the rows of their points, int64 ``[n]``, to bool ``[n]``.
Correct = Callable[[Any, "Tensor"], "Tensor"]


@dataclass(frozen=True)
class BoundarySearch:
    """How noisy points are sought.

    Attributes:
        norm: of the balls.
        steps: gradient steps, N_PGD.
        reach: all steps together are this many radii long, alpha.
        bisections: halvings of the segment, N_binary.
        loss: that the steps raise.
        input_range: lowest and highest valid value.
    """

    norm: Norm
    steps: int
    reach: float
    bisections: int
    loss: AttackLoss
    input_range: tuple[float, float]

    def __call__(
        self,
        network: Network,
        x: Tensor,
        y: Tensor,
        radius: Tensor,
        start_radius: Tensor,
        n_classes: int,
        generator: Generator,
        path: SearchPath | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns noisy points on the boundary, and whose they are.

        Args:
            network: the member.
            x: points that it classifies correctly, ``[n, d]``.
            y: their labels, int64 ``[n]``.
            radius: of the ball of each, ``[n]``.
            start_radius: of the noise of the start, ``[n]``, at most the radius.
            n_classes: number of classes.
            generator: of the noise.
            path: keeps what was gone through; the points found are the same with and without.

        Returns:
            rows int64 ``[m]`` of the points with a wrong one in their ball, as far as was found,
            and for each of these the noisy point, ``[m, d]``: the middle of the last segment, to
            either side of the boundary.
        """
        found = search(
            network,
            x,
            away_from(y, self.loss, n_classes),
            correctly_classified(y),
            radius,
            uniform_start(x, start_radius, self.norm, self.input_range, generator),
            self,
            path,
        )
        return found.rows, found.noisy


@dataclass(frozen=True)
class Found:
    """What a search found of ``n`` points.

    Attributes:
        rows: of the points with a wrong one in their ball, int64 ``[m]``.
        noisy: for each of these, a point near the boundary, ``[m, d]``.
        ends: where the ascent of every point ended, ``[n, d]``.
    """

    rows: Tensor
    noisy: Tensor
    ends: Tensor


def search(
    network: Any,
    x: Tensor,
    slopes: Slopes,
    correct: Correct,
    radius: Tensor,
    start: Tensor,
    settings: BoundarySearch,
    path: SearchPath | None = None,
) -> Found:
    """Seeks noisy points on the boundary, whatever "correct" means.

    Args:
        network: the member, a :class:`~medrobust.attacks.engine.gradient_ascent.Network` or what
            has the same functions.
        x: points that are correct, ``[n, d]``.
        slopes: of what the steps raise.
        correct: whether the outputs for points of these rows are correct.
        radius: of the ball of each, ``[n]``.
        start: of the ascent, ``[n, d]``.
        settings: of the search.
        path: keeps what was gone through; the points found are the same with and without.
    """
    crossing = _Crossing(x, correct, path)
    ends = ascend(
        network,
        slopes,
        start,
        Balls(x, radius, settings.norm, settings.input_range),
        radius * (settings.reach / settings.steps),
        settings.steps,
        watch=crossing,
        to_the_end=path is not None,
    )
    rows = crossing.found.nonzero()[:, 0]
    right, wrong = crossing.right[rows], crossing.wrong[rows]
    noisy = right
    for noisy in middles(network, right, wrong, rows, correct, settings.bisections):
        if path is not None:
            path.middles.append(noisy)
    if path is not None:
        path.rows, path.right, path.wrong = rows, right, wrong
    return Found(rows, noisy, ends)


def correctly_classified(y: Tensor) -> Correct:
    """Returns the function that tells whose largest logit is at the label, ``y`` int64 ``[n]``."""

    def correct(logits: Tensor, rows: Tensor) -> Tensor:
        return logits.argmax(dim=1) == y[rows]

    return correct


class SearchPath:
    """What one search goes through, to be drawn.

    Attributes:
        points: of each step, the start first, ``[n, d]``; NaN in rows after their first wrong
            point.
        rows: of the points with a wrong one in their ball, int64 ``[m]``.
        right, wrong: ends of their segments, ``[m, d]``.
        middles: of these, halving after halving, each ``[m, d]``.
    """

    def __init__(self) -> None:
        self.points: list[Tensor] = []
        self.middles: list[Tensor] = []
        self.rows: Tensor
        self.right: Tensor
        self.wrong: Tensor

    def see(self, like: Tensor, rows: Tensor, points: Tensor) -> None:
        """Keeps the points of rows that are still on their way."""
        import torch

        self.points.append(torch.full_like(like, torch.nan).index_copy_(0, rows, points))


class _Crossing:
    """Watches an ascent: the first wrong point of each row and the right one before it."""

    def __init__(self, x: Tensor, correct: Correct, path: SearchPath | None) -> None:
        import torch

        self._correct, self._path = correct, path
        self.found = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        # Before the start comes the point itself.
        self.right, self.wrong = x.clone(), x.clone()
        self._first = True

    def __call__(self, rows: Tensor, before: Tensor, points: Tensor, outputs: Any) -> Tensor:
        import torch

        known = self.found[rows]
        if self._path is not None:
            self._path.see(self.right, rows, points.masked_fill(known[:, None], torch.nan))
        found = known | ~self._correct(outputs, rows)
        new = (found & ~known)[:, None]
        # Without a look at which rows these are: the host would have to wait for a GPU.
        self.found[rows] = found
        self.wrong[rows] = torch.where(new, points, self.wrong[rows])
        if not self._first:
            self.right[rows] = torch.where(new, before, self.right[rows])
        self._first = False
        return found


def middles(
    network: Any, right: Tensor, wrong: Tensor, rows: Tensor, correct: Correct, halvings: int
) -> Iterator[Tensor]:
    """Yields points nearer and nearer to the boundary on segments across it, each ``[m, d]``.

    Args:
        network: the member.
        right: ends that are correct, ``[m, d]``.
        wrong: ends that are not.
        rows: whose segments these are, int64 ``[m]``.
        correct: whether outputs for points of these rows are correct.
        halvings: number of middles; none where there are no segments. The last is not looked at.
    """
    import torch

    low = right.new_zeros((len(right), 1))
    high = torch.ones_like(low)
    for left in reversed(range(halvings if len(right) else 0)):
        middle = (low + high) * 0.5
        points = torch.lerp(right, wrong, middle)
        yield points
        if left:
            with torch.no_grad():
                still = correct(network.logits(points), rows)[:, None]
            low = torch.where(still, middle, low)
            high = torch.where(still, high, middle)
