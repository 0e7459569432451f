"""Residual networks with batch normalisation: what ResNet-18 and ResNet-50 have in common.

Layers are those of :mod:`medrobust.models.engine.residual`. First values are MONAI's (Cardoso et
al. 2022) for images in two dimensions: convolutions normal by their fan out (He et al. 2015),
biases of shortcuts, where there are any, and weights of the output PyTorch's, the output's bias 0.

Batch normalisation is PyTorch's: training takes mean and biased variance of the batch; the mean and
the unbiased variance enter running averages with weight 0.1; evaluation uses the averages. There
it is part of the convolution before it: one scale and one shift per map.

The functions are those of an architecture (:class:`medrobust.models.contract.Architecture`). They
take settings that say which network they stand for: ``spec.network()``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from medrobust.models.engine import apart, folded, images, residual, stacked, traced, winograd

if TYPE_CHECKING:
    import torch

MOMENTUM, EPSILON = 0.1, 1e-5
#: Arrays that no optimiser moves: the running averages.
UNTRAINED = frozenset({"mean", "variance"})


@dataclass(frozen=True)
class Network:
    """A residual network with batch normalisation.

    Attributes:
        stem: the first convolution.
        blocks: first to last.
        skip_biases: whether convolutions of shortcuts have biases.
        mean, deviation: of each channel, by which points are scaled first, ``(x - mean) /
            deviation``; empty: they are taken as they are.
    """

    stem: residual.Stem
    blocks: list[residual.Block]
    skip_biases: bool = False
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def layers(self) -> list[residual.Layer]:
        """Returns all convolutions; the first has as many channels before it as ``mean``."""
        layers = list(residual.convolutions(self.blocks))
        width, stride, _ = self.stem
        return [residual.Layer("1", len(self.mean), layers[0].before, width, stride), *layers]

    def maps(self) -> dict[str, int]:
        """Returns the number of maps of each convolution, by name, in the order of averages."""
        return {layer.name: layer.after for layer in self.layers()}

    def features(self) -> int:
        """Returns how many values the last stage gives."""
        return self.blocks[-1].path[-1].after


class Spec(Protocol):
    """Settings that stand for a network."""

    def network(self) -> Network:
        """Returns the network."""


def initial_parameters(
    spec: Spec, channels: int, classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members, each from its own seed.

    Returns:
        float32 arrays with a leading member axis: those of
        :mod:`~medrobust.models.engine.residual`, a ``scale`` and a ``shift`` for each convolution,
        the running averages of all maps, ``mean`` and ``variance``, ``w_output [c, f]`` and
        ``b_output [c]``.
    """
    network = spec.network()
    return stacked.stack([_initial_member(network, channels, classes, seed) for seed in seeds])


def _initial_member(
    network: Network, channels: int, classes: int, seed: int
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    maps, features = network.maps(), network.features()
    member = {"w1": images.initial_kernels(rng, maps["1"], channels, network.stem.width)}
    for layer in residual.convolutions(network.blocks):
        member[f"w{layer.name}"] = images.initial_kernels(
            rng, layer.after, layer.before, layer.width
        )
        if network.skip_biases and layer.name.endswith("_skip"):
            member[f"b{layer.name}"] = images.uniform(rng, (layer.after,), layer.before)
    member |= residual.scales_and_shifts(member)
    count = sum(maps.values())
    return member | {
        "mean": np.zeros(count),
        "variance": np.ones(count),
        "w_output": images.uniform(rng, (classes, features), features),
        "b_output": np.zeros(classes),
    }


def member_bytes(spec: Spec, shape: tuple[int, ...], n_classes: int) -> int:
    """Returns the size of one member's arrays, as float32, without drawing them.

    Args:
        spec: the architecture's settings.
        shape: of a point, channels first.
        n_classes: classes of the data set.
    """
    network = spec.network()
    first, *others = network.layers()
    layers = [first._replace(before=shape[0]), *others]
    kernels = sum(layer.after * layer.before * layer.width**2 for layer in layers)
    # Scale, shift and both averages of each map.
    maps = 4 * sum(layer.after for layer in layers)
    skips = [layer.after for layer in layers if layer.name.endswith("_skip")]
    biases = sum(skips) if network.skip_biases else 0
    return 4 * (kernels + maps + biases + n_classes * (network.features() + 1))


def forward(spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Returns the logits of all members with the running averages.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors.
        x: ``[M, n, d]`` (each member its own points) or ``[n, d]`` (all members the same), images
            as rows: channels, height, width.

    Returns:
        logits ``[M, n, c]``.
    """
    return apart.each_member(lambda p, own: logits(spec, p, own), parameters, x)


def training_forward(
    spec: Spec, parameters: dict[str, torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """Returns the logits with each batch's own statistics, which it adds to the running averages.

    Args:
        spec: the architecture's settings.
        parameters: as :func:`initial_parameters` names them, as tensors; changes ``mean`` and
            ``variance`` in place.
        x: ``[M, n, d]``, each member its own points.

    Returns:
        logits ``[M, n, c]``.
    """
    return apart.each_member(lambda p, own: training_logits(spec, p, p, own), parameters, x)


def logits(spec: Spec, member: apart.Member, x: torch.Tensor) -> torch.Tensor:
    """Returns one member's logits ``[n, c]`` for x ``[n, d]``, with the running averages."""
    return _logits(spec.network(), member, member, x, training=False)


def training_logits(
    spec: Spec, member: apart.Member, moving: apart.Member, x: torch.Tensor
) -> torch.Tensor:
    """Returns one member's logits with the batch's own statistics.

    Args:
        spec: the architecture's settings.
        member: its tensors but for the averages.
        moving: the running averages, ``mean`` and ``variance``, to which the batch's statistics are
            added in place.
        x: ``[n, d]``, at least one point.

    Returns:
        logits ``[n, c]``.
    """
    return _logits(spec.network(), member, moving, x, training=True)


def logits_and_pattern(
    spec: Spec, member: apart.Member, x: torch.Tensor
) -> tuple[torch.Tensor, traced.Trace]:
    """Returns one member's logits ``[n, c]`` and the record of the pass."""
    return traced.logits_and_trace(lambda points: logits(spec, member, points), x)


def pull_back(
    spec: Spec, member: apart.Member, pattern: traced.Trace, slopes: torch.Tensor
) -> torch.Tensor:
    """Returns slopes with respect to the points: :func:`traced.pull_back`."""
    return traced.pull_back(pattern, slopes)


def first_pooling(spec: Spec) -> residual.Pooling | None:
    """Returns the name of the pooling after the first convolution; None where there is none."""
    return spec.network().stem.pooling


def pooled_features(
    spec: Spec, member: apart.Member, x: torch.Tensor, pooling: residual.Pooling
) -> torch.Tensor:
    """Returns what the first pooling of one member hands on, with the running averages.

    The first steps of :func:`residual.features` stand here again: that is part of every training
    and attack, which would all run anew if it were divided.

    Args:
        spec: the architecture's settings.
        member: its tensors.
        x: points ``[n, d]``.
        pooling: which takes the place of the network's own, if it has any.

    Returns:
        maps ``[n, k, h, w]``.
    """
    from torch.nn.functional import batch_norm, conv2d, relu

    network = spec.network()
    stem = network.stem._replace(pooling=pooling)
    mean, variance = (values["1"] for values in _averages(network, member))
    x = _scaled(network, images.square(member, x))
    maps = conv2d(x, member["w1"], stride=stem.stride, padding=stem.width // 2)
    maps = batch_norm(maps, mean, variance, member["scale1"], member["shift1"], eps=EPSILON)
    return residual.pooled(stem, relu(maps))


def _logits(
    network: Network, member: apart.Member, moving: apart.Member, x: torch.Tensor, *, training: bool
) -> torch.Tensor:
    """Returns one member's logits ``[n, c]`` for x ``[n, d]``."""
    from torch.nn.functional import batch_norm, linear

    from medrobust.models.engine import convolutions
    from medrobust.models.engine.batch_statistics import Normalised

    means, variances = _averages(network, moving)
    # The way back to the points is gone once more where it is part of what a network learns by.
    twice = training and x.requires_grad and x.device.type == "cpu"

    def normalised(name: str, maps: torch.Tensor) -> torch.Tensor:
        values = means[name], variances[name], member[f"scale{name}"], member[f"shift{name}"]
        if twice and convolutions.by_channel(maps):
            return Normalised.apply(maps, *values[2:], *values[:2], MOMENTUM, EPSILON)
        return batch_norm(maps, *values, training, MOMENTUM, EPSILON)

    x = _scaled(network, images.square(member, x))
    x = residual.features(network.blocks, network.stem, member, x, normalised, twice=twice)
    return linear(x, member["w_output"], member["b_output"])


def _averages(network: Network, moving: apart.Member) -> list[dict[str, torch.Tensor]]:
    """Returns one member's running means and variances by convolution, as views."""
    maps = network.maps()
    parts = (moving[name].split(list(maps.values())) for name in ("mean", "variance"))
    return [dict(zip(maps, part, strict=True)) for part in parts]


def _scaled(network: Network, x: torch.Tensor) -> torch.Tensor:
    """Returns images ``[n, channels, side, side]`` scaled channel by channel.

    The numbers of each channel stay numbers: as a tensor they would have to be sent to the device.
    """
    import torch

    if not network.mean:
        return x
    channels = zip(x.unbind(1), network.mean, network.deviation, strict=True)
    return torch.stack([(one - mean) / deviation for one, mean, deviation in channels], dim=1)


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from float32 ``[n, *shape]`` to logits, float32 ``[M, n, n_classes]``.

    On a CPU normalisation is part of the convolutions, and those of width 3 and stride 1 are
    computed with fewer products: :mod:`medrobust.models.engine.winograd`.
    """
    if device != "cpu":
        tensors = stacked.tensors(parameters, device)
        return stacked.on_arrays(lambda x: forward(spec, tensors, x), device)
    network, memory = spec.network(), winograd.Memory()
    members = [
        folded.fold(
            network.blocks, network.stem, _with_averages(network, parameters, m), EPSILON, memory
        )
        for m in range(len(parameters["w1"]))
    ]

    def scores(x: torch.Tensor) -> torch.Tensor:
        import torch

        scaled = _scaled(network, x.view(-1, *shape))
        return torch.stack([member.logits(scaled) for member in members])

    return stacked.on_arrays(scores, device)


def _with_averages(network: Network, parameters: dict[str, np.ndarray], m: int) -> apart.Member:
    """Returns the arrays of member ``m``, with a ``mean`` and a ``variance`` per convolution."""
    member, counts = {name: value[m] for name, value in parameters.items()}, network.maps()
    ends = np.cumsum(list(counts.values()))[:-1]
    for key in ("mean", "variance"):
        parts = np.split(member[key], ends)
        member |= {f"{key}{name}": part for name, part in zip(counts, parts, strict=True)}
    return member
