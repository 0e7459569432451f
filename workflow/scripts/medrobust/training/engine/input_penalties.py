"""Penalties on the gradients of logits with respect to the points.

All are differentiable in these gradients, which a network gives by its ``pull_back`` (see
:mod:`medrobust.models.engine.apart`) or, in general, by autograd with ``create_graph``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from medrobust.attacks.engine.gradient_ascent import Network


def alignment(w_y: Tensor, x: Tensor) -> Tensor:
    """Returns ``||w_y - x / (x.x + 1e-8)||_2^2`` of each point: R1 of nsr, equation 4, gamma 1.

    The 1e-8 is the authors'; it keeps a point of zeros finite.

    Args:
        w_y: gradients of the true class's logit, ``[n, d]``.
        x: points, ``[n, d]``.
    """
    along = x / (x.square().sum(dim=1, keepdim=True) + 1e-8)
    return (w_y - along).square().sum(dim=1)


def log_noise_to_signal(w_y: Tensor, z_y: Tensor, offset: float) -> Tensor:
    """Returns ``log(1 + ||w_y||_1 / (|z_y| + offset))`` of each point: nsr, equations 9 and 10.

    The largest noise is 1. The authors' code has an offset of 0.01, the paper none: there a logit
    below 1e-12 counts as 1e-12, so that the value stays finite.

    Args:
        w_y: gradients of the true class's logit, ``[n, d]``.
        z_y: the logits, ``[n]``.
        offset: added to ``|z_y|``.
    """
    import torch

    return torch.log1p(w_y.abs().sum(dim=1) / (z_y.abs() + offset).clamp(min=1e-12))


def mean_jacobian(w: Tensor) -> Tensor:
    """Returns ``sum over k, points, features of |dz_k / dx| / (points * features)``, a scalar.

    As the authors of nsr regularise a network by its Jacobian.

    Args:
        w: gradients of all logits, ``[c, n, d]``.
    """
    return w.abs().sum() / w[0].numel()


def losses_and_gradients(network: Network, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns logits, each point's cross-entropy and its gradient, all part of the graph.

    Args:
        network: one member; the weights that autograd watches.
        x: points, ``[n, d]``.
        y: labels, int64 ``[n]``.

    Returns:
        ``[n, c]``, ``[n]``, and ``[n, d]``: of the sum of the losses, so of a point's own where a
        network answers each point by itself.
    """
    import torch

    points = x.detach().requires_grad_()
    logits = network.logits(points)
    losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    (gradients,) = torch.autograd.grad(losses.sum(), points, create_graph=True)
    return logits, losses, gradients
