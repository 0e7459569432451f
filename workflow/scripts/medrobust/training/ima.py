"""Increasing-margin adversarial training (Ma and Liang 2021: ima, Algorithms 1 and 2).

Each training point has a margin, the radius of a ball around it: at first ``margin_step``. A batch
(Algorithm 1) trains on its points and on noisy points on the boundary, which are sought in the
balls of the points that are classified correctly
(:mod:`medrobust.training.engine.boundary_search`). After each epoch (Algorithm 2) all points are
gone through once more, to update the margins: see :func:`updated_margins`.

What the paper leaves open is taken from the authors' code of 2020: docs/ima-training.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from medrobust.attacks.engine.gradient_ascent import AttackLoss, Network
from medrobust.attacks.engine.norm_balls import Norm, lengths
from medrobust.core.schema import Settings
from medrobust.training.contract import Method
from medrobust.training.engine.boundary_search import BoundarySearch, SearchPath
from medrobust.training.engine.point_values import PerPoint, Sweep
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

__all__ = ["METHOD", "Spec", "Swept", "search_of", "swept", "train", "updated_margins"]


class Spec(DescentSettings):
    """Settings of increasing-margin training."""

    norm: Norm = Field(default="linf", description="of the perturbations")
    beta: float = Field(
        default=0.5, ge=0, le=1, description="weight of the noisy points; 1 - beta that of all"
    )
    margin_step: float = Field(
        gt=0, description="first margin, and by how much margins grow (delta epsilon)"
    )
    largest_margin: float = Field(gt=0, description="bound of the margins (epsilon max)")
    steps: int = Field(default=20, ge=1, description="gradient steps of BPGD")
    reach: float = Field(
        default=4.0, gt=0, description="length of all steps together, in margins (alpha)"
    )
    bisections: int = Field(default=10, ge=1, description="halvings of a segment by BPGD")
    loss: AttackLoss = Field(default="cross_entropy", description="that the steps raise")
    start: Literal["shrunk", "full"] = Field(
        default="shrunk",
        description="radius of the random start: shrunk is the margin less margin_step (as the "
        "code does; in training at least margin_step), full is the margin (as the text says)",
    )
    sweep_batch_size: int = Field(
        default=512, ge=1, description="points per batch when margins are updated"
    )

    @model_validator(mode="after")
    def _step_within_bound(self) -> Self:
        if self.margin_step > self.largest_margin:
            raise ValueError("margin_step is larger than largest_margin")
        return self


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan."""
    search = ascent_passes(spec.steps, spec.bisections)
    return spec.max_epochs * (2 + search + ascent_passes(0, 1) + search)


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`.

    Returns:
        the members; ``extras["margin"]`` are the margins of all training points after the last
        epoch, float32 ``[M, n]``, in the unit of the data.
    """
    from torch.nn.functional import cross_entropy

    networks = networks_of(architecture, architecture_spec)
    search = search_of(spec, work.input_range)

    def loss(
        member: FlatMember, x: Tensor, y: Tensor, draws: Generator, points: PerPoint
    ) -> tuple[Tensor, Tensor]:
        learning, fixed = networks(member)
        logits = learning.logits(x)
        right = logits.detach().argmax(dim=1) == y
        correct = right.nonzero()[:, 0]
        margins = points.of("margin")[correct]
        own, labels = x[correct], y[correct]
        least = _start_radius(spec, margins, spec.margin_step)
        rows, noisy = search(fixed, own, labels, margins, least, work.n_classes, draws)
        total = (1 - spec.beta) * cross_entropy(logits, y, reduction="sum")
        if len(rows):
            of_noisy = cross_entropy(learning.logits(noisy), labels[rows], reduction="sum")
            total = total + spec.beta * of_noisy
        return total / len(x), right.sum()

    def update(
        member: FlatMember, x: Tensor, y: Tensor, draws: Generator, points: PerPoint
    ) -> None:
        _, fixed = networks(member)
        margins = points.of("margin")
        after = swept(spec, search, fixed, x, y, margins, work.n_classes, draws)
        points.set("margin", after.margins)

    return descend(
        spec,
        architecture,
        architecture_spec,
        work,
        loss,
        per_point={"margin": spec.margin_step},
        sweep=Sweep(update, spec.sweep_batch_size),
    )


def search_of(spec: Spec, input_range: tuple[float, float]) -> BoundarySearch:
    """Returns BPGD with the settings of a training."""
    return BoundarySearch(
        spec.norm, spec.steps, spec.reach, spec.bisections, spec.loss, input_range
    )


def _start_radius(spec: Spec, margins: Tensor, least: float) -> Tensor:
    if spec.start == "full":
        return margins
    return (margins - spec.margin_step).clamp_(min=least)


@dataclass(frozen=True)
class Swept:
    """What Algorithm 2 finds of ``n`` points.

    Attributes:
        rows: of the points that are classified correctly and were searched, int64 ``[k]``.
        start_radius: of the noise of their starts, ``[k]``.
        hit: of these, those with a noisy point on the boundary, positions in ``rows``, int64
            ``[m]``.
        noisy: the noisy points, ``[m, d]``.
        margins: of all points after the update, ``[n]``.
    """

    rows: Tensor
    start_radius: Tensor
    hit: Tensor
    noisy: Tensor
    margins: Tensor


def swept(
    spec: Spec,
    search: BoundarySearch,
    network: Network,
    x: Tensor,
    y: Tensor,
    margins: Tensor,
    n_classes: int,
    generator: Generator,
    path: SearchPath | None = None,
) -> Swept:
    """Returns what Algorithm 2 finds of a batch.

    Args:
        spec: settings of the training.
        search: BPGD (:func:`search_of`).
        network: the member.
        x: points, ``[n, d]``.
        y: labels, int64 ``[n]``.
        margins: ``[n]``.
        n_classes: number of classes.
        generator: of the noise of the starts.
        path: keeps what the search went through.
    """
    import torch

    correct = network.logits(x).argmax(dim=1) == y
    rows = correct.nonzero()[:, 0]
    own, inner = x[rows], margins[rows]
    least = _start_radius(spec, inner, 0.0)
    hit, noisy = search(network, own, y[rows], inner, least, n_classes, generator, path)
    distances = torch.full_like(margins, torch.inf)
    distances[rows[hit]] = lengths(noisy - own[hit], spec.norm)
    after = updated_margins(
        margins, correct, distances, step=spec.margin_step, largest=spec.largest_margin
    )
    return Swept(rows, least, hit, noisy, after)


def updated_margins(
    margins: Tensor, correct: Tensor, distances: Tensor, *, step: float, largest: float
) -> Tensor:
    """Returns the margins after Algorithm 2.

    * of a misclassified point: the step, as at first;
    * with a noisy point on the boundary: the distance to it, if that is less than the margin;
    * without one: the margin plus the step;

    all between the step and the largest margin.

    Args:
        margins: ``[n]``.
        correct: whether a point is classified correctly, bool ``[n]``.
        distances: to the noisy point, infinite where none was found, ``[n]``.
        step: margin step.
        largest: largest margin.
    """
    import torch

    grown = torch.where(distances.isinf(), margins + step, torch.minimum(margins, distances))
    return torch.where(correct, grown, margins.new_tensor(step)).clamp_(step, largest)


METHOD = Method(
    spec=Spec,
    architectures=ROBUST_ARCHITECTURES,
    train=train,
    passes=passes,
    keeps_margins=True,
    search_can_be_traced=True,
)
