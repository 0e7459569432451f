"""MMA: max-margin adversarial training (Ding et al. 2020), as ima compares with it.

Each training point has an epsilon, its margin as last estimated. For the points of a batch that are
classified correctly, projected gradient ascent of the soft logit margin in a ball of that radius
gives a direction, and bisection the distance along it at which that margin is 0, where the label
has half of the probability: the new epsilon. The loss is

    (1 - clean_weight) MMA + clean_weight mean CE(x),

where MMA is the mean over the batch of: the cross-entropy at the boundary point ``x + epsilon u``
of points that are classified correctly and whose epsilon is below ``largest_margin``; that of the
point itself where it is misclassified; 0 otherwise.

Ding et al.: steps of 2.5 epsilon / steps, a least radius of the search, bisection up to 1.05 times
the largest margin. They keep the state with the largest margins of validation points; ima keeps
the last, as for all its methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from medrobust.attacks.engine.gradient_ascent import Network, ascend, away_from
from medrobust.attacks.engine.norm_balls import Balls, Norm, lengths, uniform_start
from medrobust.core.schema import Settings
from medrobust.training.contract import Method
from medrobust.training.engine.point_values import PerPoint
from medrobust.training.engine.robust_descent import (
    ROBUST_ARCHITECTURES,
    DescentSettings,
    ascent_passes,
    descend,
    networks_of,
)
from medrobust.training.engine.work import Trained, Work

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from medrobust.training.engine.flat_updates import FlatMember

__all__ = ["METHOD", "Spec", "boundary_distances", "soft_margins", "train"]

#: How far bisection looks, in largest margins.
SEARCHED = 1.05


class Spec(DescentSettings):
    """Settings of max-margin adversarial training."""

    norm: Norm = Field(default="linf", description="of the perturbations")
    largest_margin: float = Field(
        gt=0, description="points with a larger margin are not pushed further (d max)"
    )
    least_radius: float = Field(
        gt=0, description="least radius of the search: where a margin is smaller, this"
    )
    steps: int = Field(default=20, ge=1, description="gradient steps")
    reach: float = Field(
        default=2.5, gt=0, description="length of all steps together, in radii of the search"
    )
    bisections: int = Field(default=10, ge=1, description="halvings along the direction found")
    clean_weight: float = Field(
        default=1 / 3, ge=0, le=1, description="share of the plain cross-entropy in the loss"
    )


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan."""
    return spec.max_epochs * (2 + ascent_passes(spec.steps, spec.bisections))


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`.

    Returns:
        the members; ``extras["margin"]`` are the margins of all training points when each was last
        seen, float32 ``[M, n]``, in the unit of the data: 0 where the point was misclassified.
    """
    import torch
    from torch.nn.functional import cross_entropy

    networks = networks_of(architecture, architecture_spec)

    def loss(
        member: FlatMember, x: Tensor, y: Tensor, draws: Generator, points: PerPoint
    ) -> tuple[Tensor, Tensor]:
        learning, fixed = networks(member)
        logits = learning.logits(x)
        correct = logits.detach().argmax(dim=1) == y
        rows = correct.nonzero()[:, 0]
        known = points.of("margin")[rows]
        distances, units = boundary_distances(
            spec, fixed, x[rows], y[rows], known, work.n_classes, work.input_range, draws
        )
        margins = torch.zeros_like(points.of("margin"))
        margins[rows] = distances
        points.set("margin", margins)
        pushed = (distances < spec.largest_margin).nonzero()[:, 0]
        near = rows[pushed]
        boundary = x[near] + distances[pushed][:, None] * units[pushed]
        boundary.clamp_(*work.input_range)
        plain = cross_entropy(logits, y, reduction="none")
        pushing = (plain * ~correct).sum()
        if len(near):
            pushing = pushing + cross_entropy(learning.logits(boundary), y[near], reduction="sum")
        share = spec.clean_weight
        total = ((1 - share) * pushing + share * plain.sum()) / len(x)
        return total, correct.sum()

    return descend(
        spec, architecture, architecture_spec, work, loss, per_point={"margin": spec.least_radius}
    )


def boundary_distances(
    spec: Spec,
    network: Network,
    x: Tensor,
    y: Tensor,
    margins: Tensor,
    n_classes: int,
    input_range: tuple[float, float],
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Returns the distance of each point to the boundary along a direction, and the direction.

    Ding et al.'s ascent with an adaptive norm: its Algorithms 1 and 2.

    Args:
        spec: the method's settings.
        network: the member.
        x: points that it classifies correctly, ``[n, d]``.
        y: their labels, int64 ``[n]``.
        margins: as last estimated, ``[n]``.
        n_classes: number of classes.
        input_range: lowest and highest valid value.
        generator: of the start of the ascent.

    Returns:
        distances ``[n]``, close to 1.05 times the largest margin where none was met, and directions
        of length 1 in the norm, ``[n, d]``.
    """
    import torch

    bound = SEARCHED * spec.largest_margin
    radius = margins.clamp(min(spec.least_radius, bound), bound)
    end = ascend(
        network,
        away_from(y, "cross_entropy", n_classes),  # its direction is that of the soft margin
        uniform_start(x, radius, spec.norm, input_range, generator),
        Balls(x, radius, spec.norm, input_range),
        radius * (spec.reach / spec.steps),
        spec.steps,
    )
    with torch.no_grad():
        away = end - x
        distance = lengths(away, spec.norm)
        units = away / distance.clamp(min=1e-30)[:, None]
        low, high = torch.zeros_like(distance), torch.full_like(distance, bound)
        for _ in range(spec.bisections if len(x) else 0):
            there = (x + distance[:, None] * units).clamp_(*input_range)
            inside = soft_margins(network.logits(there), y) < 0
            low = torch.where(inside, distance, low)
            high = torch.where(inside, high, distance)
            distance = (low + high) * 0.5
    return distance, units


def soft_margins(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the soft logit margin ``log sum_{i != y} exp z_i - z_y``, ``[n]``.

    It is below 0 where the label has more than half of the probability.

    Args:
        logits: ``[n, c]``.
        y: labels, int64 ``[n]``.
    """
    import torch

    label = y[:, None]
    return logits.scatter(1, label, -torch.inf).logsumexp(dim=1) - logits.gather(1, label)[:, 0]


METHOD = Method(
    spec=Spec,
    architectures=ROBUST_ARCHITECTURES,
    train=train,
    passes=passes,
    keeps_margins=True,
)
