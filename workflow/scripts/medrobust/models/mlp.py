"""Multi-layer perceptron with one hidden layer; many members evaluated as one.

Signnet (Yang et al. 2020), section II.C ("MLP"): 20 hidden units with the logistic function;
initial values as in scikit-learn's MLPClassifier, which the authors' code used. With two classes
there is one output, the logit of class 1; with more there is one logit per class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import stacked

if TYPE_CHECKING:
    import torch


class Spec(Settings):
    """Settings of the multi-layer perceptron."""

    hidden_units: int = Field(default=20, ge=1, description="units of the hidden layer")
    activation: Literal["logistic", "relu"] = Field(
        default="logistic", description="function of the hidden units"
    )


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members, each from its own seed.

    Weights and biases are uniform in ``+-sqrt(k / (fan_in + fan_out))``, with k = 2 for the
    logistic function and 6 otherwise (Glorot and Bengio 2010, as scikit-learn applies it).

    Returns:
        float32 arrays ``w1 [M, h, d]``, ``b1 [M, h]``, ``w2 [M, o, h]``, ``b2 [M, o]``.
    """
    inputs, outputs = int(np.prod(shape)), 1 if n_classes == 2 else n_classes
    gain = 2.0 if spec.activation == "logistic" else 6.0

    def layer(rng: np.random.Generator, fan_in: int, fan_out: int) -> tuple[np.ndarray, np.ndarray]:
        bound = np.sqrt(gain / (fan_in + fan_out))
        return rng.uniform(-bound, bound, (fan_in, fan_out)).T, rng.uniform(-bound, bound, fan_out)

    members = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        w1, b1 = layer(rng, inputs, spec.hidden_units)
        w2, b2 = layer(rng, spec.hidden_units, outputs)
        members.append({"w1": w1, "b1": b1, "w2": w2, "b2": b2})
    return stacked.stack(members)


def forward(spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the outputs of all members.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same).

    Returns:
        outputs ``[M, n, o]`` before the output function.
    """
    import torch

    from medrobust.models.engine.activations import logistic

    w1, b1, w2, b2 = (parameters[name] for name in ("w1", "b1", "w2", "b2"))
    hidden = stacked.first_layer(w1, b1, x)
    hidden = logistic(hidden) if spec.activation == "logistic" else torch.relu(hidden)
    return torch.baddbmm(b2[:, :, None], w2, hidden).transpose(1, 2)


def momentum_epoch(
    spec: Spec,
    x: np.ndarray,
    y: np.ndarray,
    order: np.ndarray,
    parameters: dict[str, np.ndarray],
    velocities: dict[str, np.ndarray],
    *,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
    l2_penalty: float,
) -> tuple[float, float]:
    """Takes one pass over the data with one member, without autograd and several times as fast.

    The steps are those of :mod:`medrobust.training.sgd_cross_entropy` but for rounding. BLAS has
    to run on one thread; the interpreter's lock is free.

    Args:
        spec: the architecture's settings.
        x: points, float32 ``[n, d]``.
        y: labels, int64 ``[n]``.
        order: the rows of ``x`` in the order to take them, int64 ``[n]``.
        parameters: the member's arrays, as :func:`initial_parameters` names them and without
            the leading axis; overwritten.
        velocities: of the same names and shapes, overwritten; 0 before the first step.
        batch_size: points per step; the last batch may be smaller.
        learning_rate, momentum, nesterov: as PyTorch's SGD names them.
        l2_penalty: ``l2_penalty / 2 * sum(w**2) / batch points`` is part of a batch's loss.

    Returns:
        the mean loss and the accuracy over the pass, each batch by the weights that it met.
    """
    from medrobust.models.engine import mlp_kernels

    rule = mlp_kernels.Rule(
        spec.activation == "logistic", batch_size, learning_rate, momentum, nesterov, l2_penalty
    )
    sets = (parameters, velocities)
    layers = [_first_layer_transposed(arrays) for arrays in sets]
    loss, accuracy = mlp_kernels.epoch(x, y, order, *layers, rule)
    for arrays, (first, second, bias) in zip(sets, layers, strict=True):
        arrays["w1"][:], arrays["b1"][:] = first[:-1].T, first[-1]
        arrays["w2"][:], arrays["b2"][:] = second, bias
    return loss, accuracy


def _first_layer_transposed(member: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Returns copies: first layer ``[d + 1, h]``, its last row the biases, ``w2`` and ``b2``."""
    first = np.vstack([member["w1"].T, member["b1"]])
    return np.ascontiguousarray(first), member["w2"].copy(), member["b2"].copy()


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from points to the logits of all members.

    The function maps float32 ``[n, *shape]`` to float32 ``[M, n, n_classes]``; with two
    classes the logit of class 0 is 0.
    """
    import torch

    tensors = stacked.tensors(parameters, device)

    def logits(x: torch.Tensor) -> torch.Tensor:
        outputs = forward(spec, tensors, x)
        return torch.cat([torch.zeros_like(outputs), outputs], 2) if n_classes == 2 else outputs

    return stacked.on_arrays(logits, device)


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=member_scores,
    bulk_block=256,
    initial_parameters=initial_parameters,
    forward=forward,
    momentum_epoch=momentum_epoch,
)
