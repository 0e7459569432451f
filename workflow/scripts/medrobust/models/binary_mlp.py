"""Binary multi-layer perceptron with one hidden layer; many members evaluated as one.

Signnet (Yang et al. 2020), section II.C ("BNN"), as the authors' code builds it with Larq and
Keras: a dense layer with weights -1 and +1 on real inputs, batch normalisation without scale, the
sign of its result, and a dense layer with weights -1 and +1 that gives one logit per class. Only
the signs of the trained ("latent") weights enter; after each step these are clipped to [-1, 1].

Batch normalisation is Keras's: epsilon 0.001; training takes mean and biased variance of the
batch, and both enter moving averages with weight 0.1; evaluation uses the averages.
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


MOMENTUM, EPSILON = 0.9, 1e-3


class Spec(Settings):
    """Settings of the binary multi-layer perceptron."""

    hidden_units: int = Field(default=20, ge=1, description="units of the hidden layer")
    quantiser: Literal["approx_sign", "ste_sign", "swish_sign"] = Field(
        default="approx_sign",
        description="gradient that stands for that of the hidden units' sign, named as in Larq",
    )
    kernel_quantiser: Literal["approx_sign", "ste_sign", "swish_sign"] = Field(
        default="ste_sign", description="the same for the signs of the weights"
    )


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members, each from its own seed.

    Keras's defaults: weights uniform in ``+-sqrt(6 / (fan_in + fan_out))``, biases 0, moving
    mean 0, moving variance 1.

    Returns:
        float32 arrays ``w1 [M, h, d]``, ``b1 [M, h]``, ``beta [M, h]`` (centre of the
        normalisation), ``mean [M, h]``, ``variance [M, h]``, ``w2 [M, c, h]``.
    """
    inputs, units = int(np.prod(shape)), spec.hidden_units

    def layer(rng: np.random.Generator, fan_in: int, fan_out: int) -> np.ndarray:
        bound = np.sqrt(6 / (fan_in + fan_out))
        return rng.uniform(-bound, bound, (fan_out, fan_in))

    members = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        members.append(
            {
                "w1": layer(rng, inputs, units),
                "b1": np.zeros(units),
                "beta": np.zeros(units),
                "mean": np.zeros(units),
                "variance": np.ones(units),
                "w2": layer(rng, units, n_classes),
            }
        )
    return stacked.stack(members)


def training_forward(
    spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """Returns the logits with each batch's own statistics, which it adds to the moving averages.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors; changes ``mean`` and
            ``variance`` in place.
        x: ``[M, n, d]``, each member its own points.

    Returns:
        logits ``[M, n, c]``.
    """
    import torch

    from medrobust.models.engine.activations import QUANTISERS

    binary = QUANTISERS[spec.kernel_quantiser]
    hidden = stacked.first_layer(binary(parameters["w1"]), parameters["b1"], x)
    # Every unit of every member is a channel of its own.
    channels, beta = hidden.view(1, -1, hidden.shape[2]), parameters["beta"].view(-1)
    normal, mean, inverse = torch.native_batch_norm(
        channels, None, beta, None, None, True, 1 - MOMENTUM, EPSILON
    )
    variance = inverse.pow(-2).sub_(EPSILON).clamp_(min=0)
    for name, value in (("mean", mean), ("variance", variance)):
        parameters[name].lerp_(value.view_as(parameters[name]), 1 - MOMENTUM)
    active = QUANTISERS[spec.quantiser](normal.view_as(hidden))
    return torch.bmm(binary(parameters["w2"]), active).transpose(1, 2)


def after_step(parameters: dict[str, torch.Tensor]) -> None:
    """Clips the latent weights to [-1, 1], in place."""
    import torch

    with torch.no_grad():
        for name in ("w1", "w2"):
            parameters[name].clamp_(-1, 1)


def forward(spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the logits ``[M, n, c]`` with the moving averages, without gradients.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same).
    """
    from medrobust.models.engine.activations import signs

    weights = {name: signs(parameters[name]) for name in ("w1", "w2")}
    return _evaluate(parameters | weights, x)


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from float32 ``[n, *shape]`` to logits, float32 ``[M, n, n_classes]``.

    Logits are sums of ``hidden_units`` signs, so ties between classes are common; the lowest
    class wins, as with NumPy's argmax in the authors' code.
    """
    from medrobust.models.engine.activations import signs

    tensors = stacked.tensors(parameters, device)
    tensors |= {name: signs(tensors[name]) for name in ("w1", "w2")}
    return stacked.on_arrays(lambda x: _evaluate(tensors, x), device)


def _evaluate(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """As :func:`forward`, with the signs of the weights in place of the weights."""
    import torch

    from medrobust.models.engine.activations import signs

    hidden = stacked.first_layer(parameters["w1"], parameters["b1"], x)
    scale = torch.rsqrt(parameters["variance"] + EPSILON)
    shift = parameters["beta"] - parameters["mean"] * scale
    normal = torch.addcmul(shift[:, :, None], hidden, scale[:, :, None])
    return torch.bmm(parameters["w2"], signs(normal)).transpose(1, 2)


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=member_scores,
    bulk_block=256,
    initial_parameters=initial_parameters,
    forward=forward,
    training_forward=training_forward,
    after_step=after_step,
    untrained=frozenset({"mean", "variance"}),
    has_gradients=False,
)
