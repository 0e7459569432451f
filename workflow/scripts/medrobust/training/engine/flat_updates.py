"""One network's parameters as one vector, and optimisers that move it in a few calls.

A step of PyTorch's optimisers calls a dozen functions per tensor: a third of what the products of
a small network take. These compute the same values from the same formulas, Adamax on a CPU in one
compiled loop.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

OptimizerName = Literal["adamax", "adam"]

_FIRST_DECAY, _SECOND_DECAY, _EPSILON = 0.9, 0.999, 1e-8
#: Axes of kernels with input channels last, and the way back.
_BY_CHANNEL, _FROM_BY_CHANNEL = (0, 2, 3, 1), (0, 3, 1, 2)


class Memory(NamedTuple):
    """A vector like the parameters, and its views by name."""

    flat: Tensor
    views: dict[str, Tensor]


class FlatMember:
    """One member's tensors: what is trained as views of one vector, the rest beside it.

    Args:
        arrays: float32, by name, without a leading axis.
        device: where to compute.
        untrained: names of those that no optimiser, decay or gradient may touch, such as running
            averages.
        channels_last: lay kernels ``[out, in, height, width]`` out by out, height, width, in.

    Attributes:
        flat: all values that are trained, ``[p]``.
        values: views of it by name, and the untrained tensors, for changes in place.
        untrained: these.
        leaves: the memory of ``flat`` as leaves that autograd watches, by name.
        gradients: memory for the gradient and for a part of it.
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        device: str,
        untrained: Collection[str] = (),
        *,
        channels_last: bool = False,
    ) -> None:
        import torch

        # Sorted: a checkpoint gives arrays back in another order, and the moments by place.
        trained = sorted(set(arrays) - set(untrained))
        self._shapes = {name: arrays[name].shape for name in trained}
        axes = len(_BY_CHANNEL) if channels_last else None
        self._by_channel = {name for name in trained if arrays[name].ndim == axes}
        parts = {name: arrays[name] for name in trained}
        parts |= {name: parts[name].transpose(_BY_CHANNEL) for name in self._by_channel}
        joined = np.concatenate([part.ravel() for part in parts.values()])
        self.flat = torch.from_numpy(joined).to(device)
        views = self.views(self.flat)
        self.leaves = {n: v.detach().requires_grad_() for n, v in views.items()}
        # Of their own memory: in that of the leaves a change between two passes, by the statistics
        # of a batch, would be one of what the way back needs.
        rest = {name: arrays[name].copy() for name in sorted(untrained)}
        self.untrained = {n: torch.from_numpy(value).to(device) for n, value in rest.items()}
        self.values = views | self.untrained
        memories = [torch.empty_like(self.flat) for _ in range(2)]
        self.gradients = [Memory(memory, self.views(memory)) for memory in memories]

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Returns the tensors by name that lie in a vector like ``flat``."""
        sizes = [int(np.prod(shape)) for shape in self._shapes.values()]
        return {
            name: self._view(name, part)
            for name, part in zip(self._shapes, flat.split(sizes), strict=True)
        }

    def _view(self, name: str, part: Tensor) -> Tensor:
        shape = self._shapes[name]
        if name not in self._by_channel:
            return part.view(shape)
        return part.view([shape[axis] for axis in _BY_CHANNEL]).permute(_FROM_BY_CHANNEL)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns copies of the tensors."""
        return {name: value.cpu().numpy().copy() for name, value in self.values.items()}

    def gradient(self, loss: Tensor) -> Tensor:
        """Returns the gradient of ``loss`` as one vector, which the next call overwrites.

        Tensors on which the loss does not depend have the gradient 0.
        """
        import torch

        leaves = list(self.leaves.values())
        parts = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        laid_out = [
            part.permute(_BY_CHANNEL) if name in self._by_channel else part
            for name, part in zip(self.leaves, parts, strict=True)
        ]
        return torch.cat([part.reshape(-1) for part in laid_out], out=self.gradients[0].flat)


class FlatOptimizer:
    """Adamax or Adam (Kingma and Ba 2015) on one vector, as PyTorch computes them.

    Both with PyTorch's defaults: decay 0.9 and 0.999, epsilon 1e-8.

    Args:
        name: which of the two.
        flat: the parameters, ``[p]``, changed in place.
        learning_rate: step size, constant.

    Attributes:
        first, second: moments, ``[p]``; the second of Adamax is a running maximum.
        steps: steps taken.
        memory: ``[p]``, of no meaning between two calls.
    """

    def __init__(self, name: OptimizerName, flat: Tensor, learning_rate: float) -> None:
        import torch

        self._flat, self._rate = flat, learning_rate
        self.first, self.second = torch.zeros_like(flat), torch.zeros_like(flat)
        self.memory = torch.empty_like(flat)
        # On a GPU, and in other precisions, PyTorch's functions one after the other.
        self._compiled = flat.device.type == "cpu" and flat.dtype == torch.float32
        adamax = self._adamax_compiled if self._compiled else self._adamax
        self._move = {"adamax": adamax, "adam": self._adam}[name]
        self.steps = 0

    def step(self, gradient: Tensor) -> None:
        """Moves the parameters once."""
        self.steps += 1
        self._move(gradient, self._rate / (1 - _FIRST_DECAY**self.steps))

    def _adamax_compiled(self, gradient: Tensor, rate: float) -> None:
        from medrobust.training.engine import adamax_kernels

        tensors = (self._flat, gradient, self.first, self.second)
        arrays = (tensor.numpy() for tensor in tensors)
        adamax_kernels.step(*arrays, np.float32(1 - _FIRST_DECAY), np.float32(rate))

    def _adamax(self, gradient: Tensor, rate: float) -> None:
        import torch

        self.first.lerp_(gradient, 1 - _FIRST_DECAY)
        torch.abs(gradient, out=self.memory).add_(_EPSILON)
        torch.maximum(self.second.mul_(_SECOND_DECAY), self.memory, out=self.second)
        self._flat.addcdiv_(self.first, self.second, value=-rate)

    def _adam(self, gradient: Tensor, rate: float) -> None:
        import torch

        self.first.lerp_(gradient, 1 - _FIRST_DECAY)
        self.second.mul_(_SECOND_DECAY).addcmul_(gradient, gradient, value=1 - _SECOND_DECAY)
        torch.sqrt(self.second, out=self.memory)
        self.memory.div_((1 - _SECOND_DECAY**self.steps) ** 0.5).add_(_EPSILON)
        self._flat.addcdiv_(self.first, self.memory, value=-rate)

    def decay(self, l1: float, l2: float) -> None:
        """Takes ``rate * l1 * sign(p)`` and then ``rate * l2 * p`` from the parameters."""
        import torch

        if self._compiled and (l1 or l2):
            from medrobust.training.engine import adamax_kernels

            amounts = np.float32(self._rate * l1), np.float32(1 - self._rate * l2)
            adamax_kernels.decay(self._flat.numpy(), *amounts)
            return
        if l1:
            self._flat.sub_(torch.sign(self._flat, out=self.memory), alpha=self._rate * l1)
        if l2:
            self._flat.mul_(1 - self._rate * l2)
