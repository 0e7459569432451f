"""BPGD: noisy points on the decision boundary (ima, Algorithm 3 and Figures 2 and 3).

Projected gradient ascent from a random start. The last point that is classified correctly before
the first that is misclassified, and that one, lie on both sides of a boundary; halving the segment
between them finds it. Details as the authors' code of 2020 has them: docs/ima-training.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medrobust.training.engine.gradient_ascent import AttackLoss, Network, ascend, away_from
from medrobust.training.engine.norm_balls import Balls, Norm, uniform_start

if TYPE_CHECKING:
    from torch import Generator, Tensor


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
        crossing = _Crossing(x, y, path)
        ascend(
            network,
            away_from(y, self.loss, n_classes),
            uniform_start(x, start_radius, self.norm, self.input_range, generator),
            Balls(x, radius, self.norm, self.input_range),
            radius * (self.reach / self.steps),
            self.steps,
            watch=crossing,
            to_the_end=path is not None,
        )
        rows = crossing.found.nonzero()[:, 0]
        right, wrong = crossing.right[rows], crossing.wrong[rows]
        noisy = right
        for noisy in middles(network, right, wrong, y[rows], self.bisections):
            if path is not None:
                path.middles.append(noisy)
        if path is not None:
            path.rows, path.right, path.wrong = rows, right, wrong
        return rows, noisy


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

    def __init__(self, x: Tensor, y: Tensor, path: SearchPath | None) -> None:
        import torch

        self._y, self._path = y, path
        self.found = torch.zeros_like(y, dtype=torch.bool)
        # Before the start comes the point itself.
        self.right, self.wrong = x.clone(), x.clone()
        self._first = True

    def __call__(self, rows: Tensor, before: Tensor, points: Tensor, logits: Tensor) -> Tensor:
        import torch

        known = self.found[rows]
        if self._path is not None:
            self._path.see(self.right, rows, points.masked_fill(known[:, None], torch.nan))
        found = known | (logits.argmax(dim=1) != self._y[rows])
        new = (found & ~known)[:, None]
        # Without a look at which rows these are: the host would have to wait for a GPU.
        self.found[rows] = found
        self.wrong[rows] = torch.where(new, points, self.wrong[rows])
        if not self._first:
            self.right[rows] = torch.where(new, before, self.right[rows])
        self._first = False
        return found


def middles(
    network: Network, right: Tensor, wrong: Tensor, y: Tensor, halvings: int
) -> Iterator[Tensor]:
    """Yields points nearer and nearer to the boundary on segments across it, each ``[m, d]``.

    Args:
        network: the member.
        right: ends that are classified correctly, ``[m, d]``.
        wrong: ends that are not.
        y: labels, int64 ``[m]``.
        halvings: number of middles; none where there are no segments. The last is not classified.
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
                correct = network.logits(points).argmax(dim=1) == y
            low = torch.where(correct[:, None], middle, low)
            high = torch.where(correct[:, None], high, middle)
