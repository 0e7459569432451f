"""Losses of one network on a batch; each returns a scalar that autograd can go through.

Logits are float ``[n, c]``, labels int64 ``[n]``. Terms that count for some points only are
weighted by 0 or 1: nothing waits for the device, and a batch without such points gives 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the mean cross-entropy."""
    import torch

    return torch.nn.functional.cross_entropy(logits, y)


def squared_error(logits: Tensor, hot: Tensor) -> Tensor:
    """Returns the squared distance of logits and labels, summed over classes, mean over points.

    Nsr, equation 5, its first two terms.

    Args:
        logits: ``[n, c]``.
        hot: one-hot labels, float ``[n, c]``.
    """
    return (logits - hot).square_().sum() / len(logits)


def windowed_margin(logits: Tensor, hot: Tensor, correct: Tensor) -> Tensor:
    """Returns the mean of those ``t = 1 - z_y + z_i``, i != y, that lie between 0 and 2.

    As the authors of nsr compute it: terms of 2 and more, of points that are wrong by more than
    1, are dropped, and the mean is over the terms that are left, not over points.

    Args:
        logits: ``[n, c]``.
        hot: one-hot labels, float ``[n, c]``.
        correct: 1 for points that count, else 0, float ``[n]``.
    """
    terms = _margin_terms(logits, hot)
    values = terms.detach()
    active = ((values > 0) & (values < 2)) * (correct[:, None] * (1 - hot))
    return (terms * active).sum() / active.sum().clamp_(min=1)


def plain_margin(logits: Tensor, hot: Tensor, correct: Tensor) -> Tensor:
    """Returns ``sum over i != y of max(0, 1 - z_y + z_i)``, its mean over all points of the batch.

    Nsr, equations 5 and 10, whose sums also run over i = y: a constant 1.

    Args:
        logits: ``[n, c]``.
        hot: one-hot labels, float ``[n, c]``.
        correct: 1 for points that count, else 0, float ``[n]``: the others add 0.
    """
    terms = _margin_terms(logits, hot).clamp(min=0)
    return (terms * (correct[:, None] * (1 - hot))).sum() / len(logits)


def _margin_terms(logits: Tensor, hot: Tensor) -> Tensor:
    """Returns ``1 - z_y + z_i``, ``[n, c]``."""
    return logits - ((logits * hot).sum(dim=1, keepdim=True) - 1)
