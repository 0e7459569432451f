"""Input gradients of an ensemble: logits, and the slope of a loss at every row, in one pass.

The rows of a pass do not see each other, but a matrix product may round a row otherwise in a
batch of another size. So passes have a fixed number of rows (the last one padded with zeros), as
labels have (:mod:`medrobust.models.blocks`).

How members are joined: one member, its logits; several with a soft vote, the logarithm of the mean
softmax, whose largest entry is the ensemble's label. A majority vote of several members has no
slope.

Losses, which an attack raises: ``cross_entropy``, ``-log softmax(z)_y``; ``margin``,
``max_{i != y} z_i - z_y``, above 0 exactly where the label is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from medrobust.models import blocks
from medrobust.runtime.devices import in_halves

if TYPE_CHECKING:
    import torch

Loss = Literal["cross_entropy", "margin"]

#: From points ``[n, d]`` to joined logits ``[n, c]`` and the way back: a function from slopes with
#: respect to these logits to slopes with respect to the points, ``[n, d]``.
Pass = Callable[["torch.Tensor"], "tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]"]


class InputGradients:
    """Logits of one model, and gradients of losses with respect to its inputs.

    Args:
        logits: function from points ``[n, d]`` to joined logits ``[n, c]``, both torch tensors on
            ``device``, that automatic differentiation can follow.
        input_shape: shape of one point.
        device: "cpu" or "cuda[:k]".
        block: rows of a pass.
        recorded: the same logits with the way back; None: automatic differentiation of ``logits``.
    """

    def __init__(
        self,
        logits: Callable[[torch.Tensor], torch.Tensor],
        *,
        input_shape: tuple[int, ...],
        device: str = "cpu",
        block: int = blocks.GRADIENTS,
        recorded: Pass | None = None,
    ) -> None:
        self._logits, self._device = logits, device
        self._recorded = recorded or self._differentiated
        self.input_shape, self.block = tuple(input_shape), block

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Returns the logits of points float32 ``[n, *input_shape]``, float32 ``[n, c]``."""
        import torch

        logits = []
        with torch.inference_mode():
            for rows, size in self._blocks(x):
                logits.append(self._logits(rows).cpu().numpy()[:size])
        return np.concatenate(logits)

    def loss_gradients(
        self, x: np.ndarray, y: np.ndarray, loss: Loss
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the logits and each row's gradient of its own loss, from one pass.

        Args:
            x: float32 ``[n, *input_shape]``.
            y: int64 ``[n]``, labels.
            loss: "cross_entropy" or "margin".

        Returns:
            logits float32 ``[n, c]`` and gradients float32 ``[n, *input_shape]``, in units of the
            loss per unit of x.
        """
        logits, gradients = [], []
        for first, (rows, size) in zip(range(0, len(x), self.block), self._blocks(x), strict=True):
            labels = np.zeros(self.block, dtype=np.int64)
            labels[:size] = y[first : first + size]
            of_block = self._pass(rows, labels, loss)
            logits.append(of_block[0][:size])
            gradients.append(of_block[1][:size])
        if len(logits) == 1:
            return logits[0], gradients[0].reshape(x.shape)
        return np.concatenate(logits), np.concatenate(gradients).reshape(x.shape)

    def logits_of(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the logits of one whole block of tensors, ``[block, d]`` to ``[block, c]``."""
        import torch

        with torch.inference_mode():
            return self._logits(x)

    @in_halves(1, 2)
    def gradients_of(
        self, x: torch.Tensor, y: torch.Tensor, loss: Loss
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits and gradients of one whole block of tensors on the device.

        Args:
            x: float32 ``[block, d]``.
            y: int64 ``[block]``.
            loss: "cross_entropy" or "margin".
        """
        from medrobust.models.engine import loss_slopes

        slopes_of = {
            "cross_entropy": loss_slopes.cross_entropy_slopes,
            "margin": loss_slopes.margin_slopes,
        }[loss]
        joined, back = self._recorded(x)
        logits = joined.detach()
        return logits, back(slopes_of(logits, y))

    def _blocks(self, x: np.ndarray):
        """Yields blocks as tensors ``[block, d]``, and how many of their rows count."""
        import torch

        if len(x) == 0:
            raise ValueError("gradients need at least one point")
        flat = np.ascontiguousarray(x, dtype=np.float32).reshape(len(x), -1)
        for first in range(0, len(flat), self.block):
            rows = flat[first : first + self.block]
            size = len(rows)
            if size < self.block:
                padding = np.zeros((self.block - size, flat.shape[1]), dtype=np.float32)
                rows = np.concatenate([rows, padding])
            yield torch.from_numpy(rows).to(self._device), size

    @in_halves(1, 2)
    def _pass(self, x: torch.Tensor, y: np.ndarray, loss: Loss) -> tuple[np.ndarray, np.ndarray]:
        import torch

        from medrobust.models.engine import loss_kernels

        slopes_of = {
            "cross_entropy": loss_kernels.cross_entropy_slopes,
            "margin": loss_kernels.margin_slopes,
        }[loss]
        joined, back = self._recorded(x)
        logits = joined.detach().cpu().numpy()
        slopes = np.empty(logits.shape, dtype=np.float32)
        slopes_of(np.ascontiguousarray(logits), y, slopes)
        return logits, back(torch.from_numpy(slopes).to(self._device)).cpu().numpy()

    def _differentiated(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        import torch

        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            joined = self._logits(leaf)
        return joined, lambda slopes: torch.autograd.grad(joined, leaf, slopes)[0]


def joined_logits(outputs: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Returns the logits ``[n, c]`` of members together.

    Args:
        outputs: ``[M, n, o]``; one output of two classes is the logit of class 1, that of class 0
            then is 0.
        n_classes: c.
    """
    import torch

    if outputs.shape[2] == 1 and n_classes == 2:
        outputs = torch.cat([torch.zeros_like(outputs), outputs], 2)
    if len(outputs) == 1:
        return outputs[0]
    # The logarithm of the mean, in the form that cannot overflow.
    members = torch.log_softmax(outputs, 2)
    return torch.logsumexp(members, 0) - float(np.log(len(outputs)))
