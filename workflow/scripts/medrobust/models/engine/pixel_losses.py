"""Losses and Dice of networks that give every pixel a class.

The loss is that of nnU-Net (Isensee et al. 2021): cross-entropy plus the soft Dice loss over all
classes but the background, at several resolutions, each with its weight. nnU-Net takes Dice over
all pixels of a batch (``batch_dice``), so images of a batch shape each other's gradients; ima's
margins of single slices need a Dice of each slice. :func:`pixel_losses` has both: Dice is taken
over groups of consecutive rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: Keeps Dice finite where a class is neither there nor predicted, as nnU-Net has it.
SMOOTH = 1e-5
#: In the denominator of hard Dice, as the authors of ima have it.
TINY = 1e-8


def resolution_weights(count: int) -> list[float]:
    """Returns the weights of ``count`` resolutions, finest first: halved each time, the last 0.

    They add up to 1. As nnU-Net 2.8.1 has them (``nnUNetTrainer._build_loss``).
    """
    weights = [0.5**level for level in range(count)]
    if count > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


def pixel_losses(outputs: Sequence[Tensor], targets: Sequence[Tensor], group: int) -> Tensor:
    """Returns the loss of each group of ``group`` consecutive rows, ``[n / group]``.

    Args:
        outputs: logits at each resolution, finest first, ``[n, classes, h, w]``.
        targets: classes of the pixels at the same resolutions, int64 ``[n, h, w]``.
        group: rows over whose pixels Dice is taken together; a divisor of n.
    """
    import torch

    total = outputs[0].new_zeros(len(outputs[0]) // group)
    weights = resolution_weights(len(outputs))
    for weight, logits, target in zip(weights, outputs, targets, strict=True):
        if weight:
            by_pixel = torch.nn.functional.cross_entropy(logits, target, reduction="none")
            entropy = by_pixel.mean(dim=(1, 2)).view(-1, group).mean(dim=1)
            total = total + weight * (entropy + _dice_loss(logits, target, group))
    return total


def _dice_loss(logits: Tensor, target: Tensor, group: int) -> Tensor:
    """Returns minus the mean soft Dice of all classes but the first, by group."""
    import torch

    there = torch.nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:]
    said = logits.softmax(dim=1)[:, 1:]

    def summed(values: Tensor) -> Tensor:
        return values.sum(dim=(2, 3)).view(-1, group, values.shape[1]).sum(dim=1)

    both, sizes = summed(said * there), summed(there.to(said.dtype)) + summed(said)
    return -((2 * both + SMOOTH) / (sizes + SMOOTH)).mean(dim=1)


def counts(labels: Tensor, target: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns true positive, false positive and false negative pixels, int64 ``[n, classes - 1]``.

    Args:
        labels: predicted classes, int64 ``[n, h, w]``.
        target: classes, int64 ``[n, h, w]``.
        n_classes: background included, which is not counted.
    """
    import torch

    said, there = (
        torch.nn.functional.one_hot(values, n_classes)[..., 1:].bool()
        for values in (labels, target)
    )
    pairs = (said & there, said & ~there, ~said & there)
    true, false, missed = (pair.sum(dim=(1, 2)) for pair in pairs)
    return true, false, missed


def hard_dice(labels: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """Returns ``2 TP / (2 TP + FP + FN + 1e-8)`` of each row and class, ``[n, classes - 1]``.

    Of a class that is neither there nor predicted 0, as the authors of ima have it.
    """
    true, false, missed = counts(labels, target, n_classes)
    return 2 * true / (2 * true + false + missed + TINY)


def at_resolutions(target: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Returns targets at several resolutions, int64 ``[n, h, w]`` each: the nearest pixel's class.

    Args:
        target: int64 ``[n, h, w]``.
        shapes: height and width of each resolution, finest first.
    """
    import torch

    known = target[:, None].float()
    found = [torch.nn.functional.interpolate(known, s, mode="nearest-exact") for s in shapes]
    return [values[:, 0].long() for values in found]
