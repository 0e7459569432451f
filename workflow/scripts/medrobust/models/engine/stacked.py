"""What networks share whose members are kept as one stack: arrays with a leading member axis.

Weights of dense layers lie as ``[M, outputs, inputs]`` and hidden values as ``[M, units, n]``:
of the layouts tried, products of these run fastest on a CPU, forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from medrobust.runtime.devices import in_halves

if TYPE_CHECKING:
    import torch


def concatenate(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins the members of several training jobs, in the order given."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def stack(members: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Returns the arrays of single members as float32 arrays ``[M, ...]``."""
    return {
        name: np.ascontiguousarray(np.stack([m[name] for m in members]), dtype=np.float32)
        for name in members[0]
    }


def first_layer(weights: torch.Tensor, biases: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Returns ``weights x + biases`` of all members, ``[M, units, n]``.

    Args:
        weights: ``[M, units, d]``.
        biases: ``[M, units]``.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same).
    """
    import torch

    if x.dim() == 3:
        return torch.baddbmm(biases[:, :, None], weights, x.transpose(1, 2))
    # All members see the same points: one product instead of M small ones.
    flat = torch.addmm(biases.reshape(-1, 1), weights.flatten(0, 1), x.T)
    return flat.view(*biases.shape, len(x))


class OnArrays:
    """A function of tensors as one from arrays float32 ``[n, *shape]`` to float32 ``[M, n, o]``.

    Args:
        outputs: from points ``[n, d]`` to ``[M, n, o]``, tensors on ``device``.
        device: "cpu" or "cuda[:k]".

    Attributes:
        on_tensors: the function itself; it keeps no record for gradients.
    """

    def __init__(self, outputs: Callable[[torch.Tensor], torch.Tensor], device: str) -> None:
        import torch

        @in_halves(0, axis=1)
        def on_tensors(x: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                return outputs(x)

        self.on_tensors, self._device = on_tensors, device

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns the outputs of points."""
        import torch

        flat = torch.from_numpy(np.ascontiguousarray(x.reshape(len(x), -1))).to(self._device)
        return self.on_tensors(flat).cpu().numpy()


def on_arrays(
    outputs: Callable[[torch.Tensor], torch.Tensor], device: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns ``outputs``, a function of points ``[n, d]``, as one from arrays to arrays.

    See :class:`OnArrays`.
    """
    return OnArrays(outputs, device)


def channels_last(kernels: torch.Tensor) -> torch.Tensor:
    """Returns the same kernels, ``[..., out, in, height, width]``, with ``in`` side by side."""
    return kernels.movedim(-3, -1).contiguous().movedim(-1, -3)


def tensors(
    parameters: dict[str, np.ndarray], device: str, *, by_channel: bool = False
) -> dict[str, torch.Tensor]:
    """Returns the arrays as tensors on ``device``.

    Args:
        parameters: arrays with a leading member axis.
        device: "cpu" or "cuda[:k]".
        by_channel: lay kernels of convolutions in two dimensions out by :func:`channels_last`.
    """
    import torch

    made = {name: torch.from_numpy(value).to(device) for name, value in parameters.items()}
    if not by_channel:
        return made
    return {name: channels_last(t) if t.dim() == 5 else t for name, t in made.items()}
