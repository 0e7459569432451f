"""A network that gives every pixel a class, as gradient ascent wants to see it.

:mod:`~medrobust.attacks.engine.gradient_ascent` walks points that are rows ``[n, d]`` of a network
with ``logits``, ``logits_and_pattern`` and ``pull_back``. Here rows are images laid flat, and what
stands for the logits is a list of them, one for each resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrobust.models.engine.pixel_losses import hard_dice, pixel_losses

if TYPE_CHECKING:
    from torch import Tensor


class NotFiniteError(Exception):
    """What a network answers is NaN or infinite."""


@dataclass(frozen=True)
class PixelNetwork:
    """One trained network.

    Attributes:
        module: from images ``[n, channels, h, w]`` to logits at each resolution, finest first.
        shape: of an image.
        for_points: computes the same where slopes at points are all that is wanted, in less time;
            None: the module.
    """

    module: Callable[[Tensor], Sequence[Tensor]]
    shape: tuple[int, int, int]
    for_points: Callable[[Tensor], Sequence[Tensor]] | None = None

    def images(self, x: Tensor) -> Tensor:
        """Returns rows ``[n, d]`` as images ``[n, channels, h, w]``."""
        return x.view(-1, *self.shape)

    def logits(self, x: Tensor) -> list[Tensor]:
        """Returns logits at each resolution of rows ``[n, d]``."""
        return list(self.module(self.images(x)))

    def logits_and_pattern(self, x: Tensor) -> tuple[list[Tensor], Any]:
        """Returns logits at each resolution and what :meth:`pull_back` needs."""
        import torch

        with torch.enable_grad():
            points = x.detach().requires_grad_()
            outputs = list((self.for_points or self.module)(self.images(points)))
        return [output.detach() for output in outputs], (points, outputs)

    def pull_back(self, pattern: Any, slopes: Sequence[Tensor | None]) -> Tensor:
        """Returns slopes at the points ``[n, d]`` from those at the outputs; None is zeros."""
        import torch

        points, outputs = pattern
        used = [(o, s) for o, s in zip(outputs, slopes, strict=True) if s is not None]
        (gradient,) = torch.autograd.grad([o for o, _ in used], points, [s for _, s in used])
        return gradient

    def labels(self, x: Tensor) -> Tensor:
        """Returns the class of every pixel, int64 ``[n, h, w]``.

        Raises:
            NotFiniteError: points or logits are not finite, and no class means anything.
        """
        import torch

        with torch.inference_mode():
            logits = self.logits(x)[0]
        if not (x.isfinite().all() and logits.isfinite().all()):
            raise NotFiniteError("logits, or the noise against them, not finite")
        return logits.argmax(dim=1)


def loss_slopes(
    targets: Sequence[Tensor], group: int
) -> Callable[[Sequence[Tensor], Tensor], list[Tensor | None]]:
    """Returns the slopes of :func:`pixel_losses`, summed over groups, for ``ascend``.

    Args:
        targets: of all rows at each resolution, int64 ``[n, h, w]``.
        group: rows that share their Dice. With more than one, ``ascend`` must keep all rows
            (``to_the_end``): one that left would change the loss of the others.
    """
    import torch

    def slopes(outputs: Sequence[Tensor], rows: Tensor) -> list[Tensor | None]:
        with torch.enable_grad():
            leaves = [output.detach().requires_grad_() for output in outputs]
            own = [target[rows] for target in targets]
            total = pixel_losses(leaves, own, group).sum()
            return list(torch.autograd.grad(total, leaves, allow_unused=True))

    return slopes


def well_segmented(
    target: Tensor, n_classes: int, threshold: float
) -> Callable[[Sequence[Tensor], Tensor], Tensor]:
    """Returns the function that tells which rows are segmented well enough, bool ``[n]``.

    That is where the largest Dice of a class, background left out, reaches the threshold, which
    takes the place of "classified correctly" (ima, "Experiments on Segmentation"; the largest, as
    the authors' code has it).

    Args:
        target: of all rows, int64 ``[n, h, w]``.
        n_classes: background included.
        threshold: of Dice, in [0, 1].
    """

    def correct(outputs: Sequence[Tensor], rows: Tensor) -> Tensor:
        dice = hard_dice(outputs[0].argmax(dim=1), target[rows], n_classes)
        return dice.amax(dim=1) >= threshold

    return correct
