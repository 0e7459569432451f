"""Convolutional network over a signal: signnet's rival for ECG, of which the paper has ten.

Signnet (Yang et al. 2020), section II.C ("CNN"): 64 kernels of width 16, max-pooling by 4; 128
kernels, pooling by 4; 256 kernels, pooling by 2; "FullyConnected"; output. The authors' code does
not have it. What the text leaves out is settled as in their image networks (docs/protocols.md):
ReLU after each layer but the last, initial values, logits of all classes, also of two.

Convolutions have stride 1 and "same" padding: of the 15 zeros that a kernel of width 16 needs,
7 stand before the signal and 8 after it (as in PyTorch and Keras). Pooling drops what does not
fill its last window.

Members are computed one after the other: the arithmetic of one fills a processor, and one
convolution in groups for all of them took as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import stacked

if TYPE_CHECKING:
    import torch


CHANNELS, WIDTH, POOLS = (64, 128, 256), 16, (4, 4, 2)


class Spec(Settings):
    """Settings of the convolutional network over a signal."""

    dense_units: int = Field(
        default=128, ge=1, description="units of the fully connected layer before the output"
    )


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members, each from its own seed.

    As the authors' image networks: kernels normal with variance ``2 / (channels out * width)``
    (He et al. 2015, fan out), dense weights normal with variance ``2 / (fan_in + fan_out)``
    (Glorot and Bengio 2010), biases 0.

    Returns:
        float32 arrays ``w1 .. w3 [M, out, in, width]``, ``w4 [M, u, f]``, ``w5 [M, c, u]``, and
        ``b1 .. b5 [M, out]``.

    Raises:
        InputError: a point is not a signal, or it is too short for the pooling.
    """
    length = _pooled_length(shape)
    members = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        member, inputs = {}, 1
        for layer, channels in enumerate(CHANNELS, start=1):
            spread = np.sqrt(2 / (channels * WIDTH))
            member[f"w{layer}"] = rng.normal(0, spread, (channels, inputs, WIDTH))
            member[f"b{layer}"] = np.zeros(channels)
            inputs = channels
        inputs *= length
        for layer, outputs in ((4, spec.dense_units), (5, n_classes)):
            spread = np.sqrt(2 / (inputs + outputs))
            member[f"w{layer}"] = rng.normal(0, spread, (outputs, inputs))
            member[f"b{layer}"] = np.zeros(outputs)
            inputs = outputs
        members.append(member)
    return stacked.stack(members)


def forward(spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the logits of all members.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same).

    Returns:
        logits ``[M, n, c]``.
    """
    import torch

    apart = {name: value.unbind() for name, value in parameters.items()}
    members = [{name: own[m] for name, own in apart.items()} for m in range(len(apart["w1"]))]
    points = x if x.dim() == 3 else [x] * len(members)
    return torch.stack([_logits(p, own) for p, own in zip(members, points, strict=True)])


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from float32 ``[n, *shape]`` to logits, float32 ``[M, n, n_classes]``."""
    tensors = stacked.tensors(parameters, device)
    return stacked.on_arrays(lambda x: forward(spec, tensors, x), device)


def fits(spec: Spec, shape: tuple[int, ...], n_classes: int) -> None:
    """Raises an InputError for points that are no signals, or too short for the pooling."""
    _pooled_length(shape)


def _pooled_length(shape: tuple[int, ...]) -> int:
    """Returns how many samples of a signal of ``shape`` are left after all pooling."""
    length = shape[0] // int(np.prod(POOLS)) if len(shape) == 1 else 0
    if length == 0:
        raise InputError(
            f"The architecture cnn1d needs signals of at least {np.prod(POOLS)} samples; these "
            f"points have the shape {list(shape)}.",
            remedy="use it on ECG data, or another architecture.",
        )
    return length


def _logits(member: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns one member's logits ``[n, c]`` for signals ``[n, d]``."""
    from torch.nn.functional import conv1d, linear, max_pool1d, pad, relu

    hidden = x[:, None]
    before = (WIDTH - 1) // 2
    for layer, pool in enumerate(POOLS, start=1):
        # The eighth zero after the signal shapes its last sample alone, which pooling drops unless
        # the length is a multiple of the window: without it, padding is equal on both sides.
        if hidden.shape[2] % pool == 0:
            hidden = pad(hidden, (0, 1))
        hidden = conv1d(hidden, member[f"w{layer}"], member[f"b{layer}"], padding=before)
        # The largest first: ReLU then has fewer values to go through, with the same result.
        hidden = relu(max_pool1d(hidden, pool))
    hidden = relu(linear(hidden.flatten(1), member["w4"], member["b4"]))
    return linear(hidden, member["w5"], member["b5"])


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=member_scores,
    initial_parameters=initial_parameters,
    forward=forward,
    members_apart=True,
    gradient_block=64,
    gpu_block=1024,
    fits=fits,
)
