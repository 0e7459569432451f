"""Slopes of the attacks' losses at the logits, on tensors: :mod:`loss_kernels` for a GPU.

The same formulas, row by row; no value has to reach the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: The least value of 1 - p_y: a saturated row keeps the direction of its slope.
SMALLEST_DOUBT = 1e-20


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns ``max_{i != y} z_i - z_y``, float64 ``[n]``.

    Args:
        logits: float32 ``[n, c]``.
        labels: int64 ``[n]``.
    """
    others, label = _others(logits, labels), labels[:, None]
    return others.amax(dim=1) - logits.double().gather(1, label)[:, 0]


def margin_slopes(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns 1 at the best other class (the lowest number of equals), -1 at the label.

    Returns:
        float32 ``[n, c]``; arguments as above.
    """
    import torch

    label = labels[:, None]
    best = _others(logits, labels).argmax(dim=1, keepdim=True)
    return torch.zeros_like(logits).scatter_(1, best, 1.0).scatter_(1, label, -1.0)


def cross_entropy_slopes(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns ``softmax(z) - onehot(y)``, from the other classes alone; arguments as above.

    Returns:
        float32 ``[n, c]``, computed in float64.
    """
    import torch

    others, label = _others(logits, labels), labels[:, None]
    largest = others.amax(dim=1, keepdim=True)
    weights = torch.exp(others - largest)
    total = weights.sum(dim=1, keepdim=True)
    # The odds of the label against all others together.
    ahead = (logits.double().gather(1, label) - largest).clamp(max=700.0)
    doubt = (1.0 / (1.0 + torch.exp(ahead) / total)).clamp(min=SMALLEST_DOUBT)
    return (doubt * weights / total).scatter(1, label, -doubt).float()


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the logits, float64, with minus infinity at the label."""
    import torch

    return logits.double().scatter(1, labels[:, None], -torch.inf)
