"""Local linearity regularization (Qin et al. 2019): a loss that is linear around each point.

The cross-entropy ``l`` of a point plus ``linearity_weight`` (lambda) times how far it is from its
own tangent within the ball, ``gamma = max_d |l(x + d) - l(x) - d . grad l(x)|``, plus
``gradient_weight`` (mu) times ``|d . grad l(x)|`` at the ``d`` where that is largest (their section
4 and algorithm 1). ``d`` is found by signed steps of projected gradient ascent from a uniform
draw: at 0 the difference is 0 and has no slope. Mirst has the weights 3 and 4, and reports that
this training did not converge.

The search asks the network as it is evaluated, the loss as it is trained; see
:func:`medrobust.training.engine.robust_descent.networks_of`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from medrobust.attacks.engine.gradient_ascent import Network
from medrobust.attacks.engine.norm_balls import Balls, uniform_start
from medrobust.core.schema import Settings
from medrobust.training.contract import Method
from medrobust.training.engine.input_penalties import losses_and_gradients
from medrobust.training.engine.robust_descent import (
    ROBUST_ARCHITECTURES,
    BallSettings,
    ascent_passes,
    descend,
    networks_of,
)
from medrobust.training.engine.work import Trained, Work

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from medrobust.training.engine.flat_updates import FlatMember

__all__ = ["METHOD", "Spec", "train"]


class Spec(BallSettings):
    """Settings of local linearity regularization."""

    steps: int = Field(default=10, ge=1, description="gradient steps of the search")
    reach: float = Field(default=2.5, gt=0, description="length of all steps together, in radii")
    linearity_weight: float = Field(default=3.0, ge=0, description="lambda")
    gradient_weight: float = Field(default=4.0, ge=0, description="mu")


def passes(spec: Spec, n_classes: int, n_rows: int) -> float:
    """Returns the cost of a training in plain passes over the data, for the plan.

    The loss at the point with its gradient costs as much as in gradient regularization, that at the
    far end a plain step; the search a pass each way a step, and one at the point.
    """
    return spec.max_epochs * (3 + ascent_passes(spec.steps + 1))


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Trains ``work``'s members one by one; see :mod:`medrobust.training`."""
    from torch.nn.functional import cross_entropy

    networks = networks_of(architecture, architecture_spec)

    def loss(member: FlatMember, x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        learning, fixed = networks(member)
        end = _least_linear(spec, fixed, x, y, work.input_range, draws)
        logits, losses, gradients = losses_and_gradients(learning, x, y)
        along = ((end - x) * gradients).sum(dim=1)
        far = cross_entropy(learning.logits(end), y, reduction="none")
        total = (
            losses
            + spec.linearity_weight * (far - losses - along).abs()
            + spec.gradient_weight * along.abs()
        )
        return total.mean(), (logits.detach().argmax(dim=1) == y).sum()

    return descend(spec, architecture, architecture_spec, work, loss)


def _least_linear(
    spec: Spec,
    network: Network,
    x: Tensor,
    y: Tensor,
    input_range: tuple[float, float],
    draws: Generator,
) -> Tensor:
    """Returns the point of each ball where the loss is farthest from its tangent, ``[n, d]``."""
    import torch

    radius = x.new_full((len(x),), spec.epsilon)
    points = uniform_start(x, radius, spec.norm, input_range, draws)
    balls = Balls(x, radius, spec.norm, input_range)
    size = spec.step_lengths(radius)[:, None]
    with torch.no_grad():
        losses, gradients = _losses_and_slopes(network, x, y)
        for _ in range(spec.steps):
            far, slopes = _losses_and_slopes(network, points, y)
            above = far - losses - ((points - x) * gradients).sum(dim=1)
            points = balls.step(points, (slopes - gradients) * above.sign()[:, None], size)
    return points


def _losses_and_slopes(network: Network, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each point's cross-entropy ``[n]`` and its gradient ``[n, d]``, without a graph."""
    from torch.nn.functional import cross_entropy

    logits, pattern = network.logits_and_pattern(x)
    logits, label = logits.detach(), y[:, None]
    # softmax(z) - onehot(y), without a look at the labels that a GPU would have to wait for.
    slopes = logits.softmax(dim=1).scatter_add_(1, label, logits.new_full(label.shape, -1.0))
    return cross_entropy(logits, y, reduction="none"), network.pull_back(pattern, slopes)


METHOD = Method(
    spec=Spec,
    architectures=ROBUST_ARCHITECTURES,
    train=train,
    passes=passes,
)
