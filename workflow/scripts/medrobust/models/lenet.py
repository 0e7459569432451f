"""LeNet for images: signnet's small convolutional network, of which the paper has a hundred.

LeCun et al. (1998), as the code of signnet (Yang et al. 2020) has it for images of 96 pixels a side
("LeNet_celeba"): 6 and 16 kernels of width 5 that keep the size of the map, ReLU and max-pooling
by 2 after each, dense layers of 120 and 84 units with ReLU, output, logits of all classes. Here for
square images of any size and number of channels.

Members are trained one after the other, as their own batches leave nothing to share. Evaluated on
the same points they share the first convolution.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import apart, images, stacked

if TYPE_CHECKING:
    import torch


CHANNELS, WIDTH, UNITS = (6, 16), 5, (120, 84)
#: Members whose first convolutions are one, and images at a time: what they make fits a cache.
GROUP, IMAGES = 8, 8


class Spec(Settings):
    """LeNet has no settings."""


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members, each from its own seed.

    As the authors' code: kernels normal with variance ``2 / (channels out * width^2)`` (He et al.
    2015, fan out), dense weights normal with variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio
    2010), biases 0.

    Returns:
        float32 arrays ``w1, w2 [M, out, in, 5, 5]``, ``w3 [M, 120, f]``, ``w4 [M, 84, 120]``,
        ``w5 [M, c, 84]``, and ``b1 .. b5 [M, out]``.

    Raises:
        InputError: a point is not a square image, or pooling leaves nothing of it.
    """
    fits(spec, shape, n_classes)
    features = CHANNELS[-1] * (shape[1] // 4) ** 2
    return stacked.stack([_initial_member(shape[0], features, n_classes, seed) for seed in seeds])


def fits(spec: Spec, shape: tuple[int, ...], n_classes: int) -> None:
    """Raises an InputError for points that are no square images, or too small for the pooling."""
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] < 4:
        raise InputError(
            "The architecture lenet needs square images of 4 pixels a side or more; these points "
            f"have the shape {list(shape)}.",
            where="key architecture",
            remedy="use it on images [channels, side, side], or use another architecture.",
        )


def _initial_member(channels: int, features: int, classes: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    member: dict[str, np.ndarray] = {}
    for layer, (outputs, inputs) in enumerate(_layers(channels, *CHANNELS), start=1):
        member[f"w{layer}"] = images.initial_kernels(rng, outputs, inputs, WIDTH)
    for layer, (outputs, inputs) in enumerate(_layers(features, *UNITS, classes), start=3):
        spread = np.sqrt(2 / (inputs + outputs))
        member[f"w{layer}"] = rng.normal(0, spread, (outputs, inputs))
    return member | {f"b{name[1:]}": np.zeros(len(value)) for name, value in member.items()}


def _layers(*widths: int) -> Iterator[tuple[int, int]]:
    """Yields outputs and inputs of layers that lead from the first of these widths to the last."""
    for inputs, outputs in itertools.pairwise(widths):
        yield outputs, inputs


def forward(spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the logits of all members.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same), images
            as rows: channels, height, width.

    Returns:
        logits ``[M, n, c]``.
    """
    return apart.each_member(_logits, parameters, x)


def _logits(member: apart.Member, x: torch.Tensor) -> torch.Tensor:
    """Returns one member's logits ``[n, c]`` for points ``[n, d]``."""
    from torch.nn.functional import conv2d, linear, max_pool2d, relu

    hidden = images.square(member, x)
    for layer in (1, 2):
        hidden = conv2d(hidden, member[f"w{layer}"], member[f"b{layer}"], padding=WIDTH // 2)
        # The largest first: ReLU then has fewer values to go through, with the same result.
        hidden = relu(max_pool2d(hidden, 2))
    hidden = hidden.flatten(1)
    for layer in (3, 4):
        hidden = relu(linear(hidden, member[f"w{layer}"], member[f"b{layer}"]))
    return linear(hidden, member["w5"], member["b5"])


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from float32 ``[n, *shape]`` to logits, float32 ``[M, n, n_classes]``."""
    tensors = _channels_last(stacked.tensors(parameters, device))
    return stacked.on_arrays(lambda x: _evaluate(tensors, x), device)


def _channels_last(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns weights in the order of memory in which :func:`_evaluate` takes them."""
    members, units, features = tensors["w3"].shape
    maps = tensors["w3"].view(members, units, CHANNELS[-1], -1)
    kernels = {name: tensors[name].permute(0, 1, 3, 4, 2).contiguous() for name in ("w1", "w2")}
    kernels = {name: value.permute(0, 1, 4, 2, 3) for name, value in kernels.items()}
    return tensors | kernels | {"w3": maps.transpose(2, 3).reshape(members, units, features)}


def _evaluate(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the logits ``[M, n, c]`` of points ``[n, d]``, members fused, without gradients."""
    import torch

    members = len(parameters["w1"])
    features = x.new_empty((members, len(x), parameters["w3"].shape[2]))
    maps = images.square({"w1": parameters["w1"][0]}, x)
    maps = maps.contiguous(memory_format=torch.channels_last)
    for rows in _slices(len(x), IMAGES):
        for some in _slices(members, GROUP):
            group = {name: parameters[name][some] for name in ("w1", "b1", "w2", "b2")}
            _convolve(group, maps[rows], features[some, rows])
    hidden = features
    for layer in (3, 4, 5):
        weights, biases = parameters[f"w{layer}"], parameters[f"b{layer}"]
        # ReLU of what comes in: pooling and the layer before leave it to their successor.
        hidden = torch.baddbmm(biases[:, None], hidden.relu_(), weights.transpose(1, 2))
    return hidden


def _convolve(group: dict[str, torch.Tensor], maps: torch.Tensor, features: torch.Tensor) -> None:
    """Writes what the convolutions of some members make of images, before ReLU.

    With the colours of a pixel side by side, and the kernels of several members in one convolution,
    vectors of a processor are full; six maps of one member leave most of their places empty.

    Args:
        group: ``w1, b1, w2, b2`` of ``k`` members.
        maps: ``[n, channels, side, side]``.
        features: ``[k, n, f]``.
    """
    from torch.nn.functional import conv2d, max_pool2d

    padding, first = WIDTH // 2, CHANNELS[0]
    shared = conv2d(maps, group["w1"].flatten(0, 1), group["b1"].flatten(), padding=padding)
    shared = max_pool2d(shared, 2).relu_()
    for member, found in enumerate(features):
        own = shared[:, first * member : first * (member + 1)]
        own = conv2d(own, group["w2"][member], group["b2"][member], padding=padding)
        found.copy_(max_pool2d(own, 2).permute(0, 2, 3, 1).flatten(1))


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n, size))


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=member_scores,
    # Larger ones take as long per image, and a padded row costs as any other.
    label_block=16,
    initial_parameters=initial_parameters,
    forward=forward,
    members_apart=True,
    gradient_block=64,
    fits=fits,
    step_seconds=3.1e-3,
)
