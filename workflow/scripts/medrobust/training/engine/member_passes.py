"""Forward and backward passes of one member on a batch, and the gradient of a loss of them.

An architecture whose backward pass is written out (``backpropagate``, see
:mod:`medrobust.models.relu_mlp`) spares autograd everything below the logits: on a small network
the bookkeeping of autograd takes as long as a third of the products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from medrobust.training.engine.flat_updates import FlatMember


class Passes:
    """The passes of one batch.

    Args:
        architecture: has ``logits_and_pattern`` and ``pull_back``.
        spec: its settings.
        member: the member.
    """

    def __init__(self, architecture: Architecture, spec: Settings, member: FlatMember) -> None:
        self._architecture, self._spec, self._member = architecture, spec, member
        self._done: list[tuple[Tensor, Any, Tensor]] = []
        self._written_out = architecture.backpropagate is not None
        self._has_slopes = False

    def logits(self, x: Tensor) -> tuple[Tensor, Any]:
        """Returns logits ``[n, c]`` that a loss may depend on, and the pattern of the units."""
        import torch

        if not self._written_out:
            return self._architecture.logits_and_pattern(self._spec, self._member.leaves, x)
        with torch.no_grad():
            logits, pattern = self.unwatched(x)
        self._done.append((x, pattern, logits.requires_grad_()))
        return logits, pattern

    def unwatched(self, x: Tensor) -> tuple[Tensor, Any]:
        """Returns the same of tensors that autograd does not watch."""
        return self._architecture.logits_and_pattern(self._spec, self._member.values, x)

    def slopes(self, pattern: Any, of: Tensor, *, watched: bool = True) -> Tensor:
        """Returns slopes with respect to the points: the architecture's ``pull_back``."""
        member = self._member.leaves if watched else self._member.values
        self._has_slopes |= watched
        return self._architecture.pull_back(self._spec, member, pattern, of)

    def gradient(self, loss: Tensor) -> Tensor:
        """Returns the gradient of ``loss``, ``[p]``; the next batch overwrites it.

        Args:
            loss: a scalar made of logits and slopes of this batch.
        """
        import torch

        member, passes = self._member, self._done
        if not self._written_out:
            return member.gradient(loss)
        # Only slopes lead to the leaves.
        leaves = list(member.leaves.items()) if self._has_slopes else []
        wanted = [logits for _, _, logits in passes] + [leaf for _, leaf in leaves]
        parts = torch.autograd.grad(loss, wanted, allow_unused=True)
        with torch.no_grad():
            for number, ((x, pattern, _), slopes) in enumerate(zip(passes, parts, strict=False)):
                memory = member.gradients[min(number, 1)]
                self._architecture.backpropagate(
                    self._spec, member.values, x, pattern, slopes, memory.views
                )
                if number:
                    member.gradients[0].flat.add_(memory.flat)
            for (name, _), part in zip(leaves, parts[len(passes) :], strict=True):
                if part is not None:
                    member.gradients[0].views[name].add_(part)
        return member.gradients[0].flat
