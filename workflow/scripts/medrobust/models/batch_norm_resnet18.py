"""ResNet-18 with batch normalisation: the residual network of signnet on images.

He et al. (2016), ResNet-18. Signnet (Yang et al. 2020) trains ten of them on X-ray and histology
images of 96 pixels a side; its code leaves open which of two it is: torchvision's, whose first
convolution has width 7 and stride 2 and is followed by pooling (``stem: imagenet``), or one for
small images, width 3 and stride 1 without pooling (``stem: cifar``).

Layers, biases and first values are those of ``resnet18`` in MONAI (Cardoso et al. 2022), for
images in two dimensions: convolutions normal by their fan out (He et al. 2015), those of shortcuts
with PyTorch's biases, the output with PyTorch's weights and the bias 0.

Batch normalisation is PyTorch's: training takes mean and biased variance of the batch; the mean and
the unbiased variance enter running averages with weight 0.1; evaluation uses the averages. There
it is part of the convolution before it: one scale and one shift per map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import apart, folded, images, residual, stacked, winograd

if TYPE_CHECKING:
    import torch


MOMENTUM, EPSILON = 0.1, 1e-5
STEMS = {"imagenet": residual.IMAGENET, "cifar": residual.CIFAR}


class Spec(Settings):
    """Settings of ResNet-18 with batch normalisation."""

    stages: list[int] = Field(
        default=[64, 128, 256, 512],
        min_length=1,
        description="channels of each stage; all but the first halve width and height",
    )
    stem: Literal["imagenet", "cifar"] = Field(
        default="imagenet",
        description="first convolution: width 7, stride 2, then pooling; or width 3, stride 1",
    )


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of ``len(seeds)`` members, each from its own seed.

    Returns:
        float32 arrays with a leading member axis: those of
        :mod:`~medrobust.models.engine.residual`, a ``scale`` and a ``shift`` for each convolution,
        the running averages of all maps, ``mean`` and ``variance``, ``w_output [c, f]`` and
        ``b_output [c]``.

    Raises:
        InputError: a point is not a square image, or the last stage leaves one pixel of it (with
            four stages: of 32 pixels a side or fewer, ``stem: cifar`` 8 or fewer).
    """
    fits(spec, shape, n_classes)
    return stacked.stack([_initial_member(spec, shape[0], n_classes, seed) for seed in seeds])


def fits(spec: Spec, shape: tuple[int, ...], n_classes: int) -> None:
    """Raises an InputError for points that are no square images, or too small.

    A batch of one image must leave more than one value of a map: one has no variance.
    """
    residual.check_shape(
        "batch_norm_resnet18",
        spec.stages,
        len(spec.stages) - 1 + (2 if spec.stem == "imagenet" else 0),
        shape,
        why="maps of one pixel cannot be normalised by a batch of one image.",
        remedy="use it on larger images [channels, side, side], with `stem: cifar` or fewer "
        "stages, or use another architecture.",
    )


def _initial_member(spec: Spec, channels: int, classes: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    width, features = spec.stages[0], spec.stages[-1]
    member = {"w1": images.initial_kernels(rng, width, channels, STEMS[spec.stem].width)}
    for name, before, after, kernel in residual.convolutions(spec.stages):
        member[f"w_{name}"] = images.initial_kernels(rng, after, before, kernel)
        if kernel == 1:
            member[f"b_{name}"] = images.uniform(rng, (after,), before)
    member |= residual.scales_and_shifts(member)
    maps = sum(_maps(spec).values())
    return member | {
        "mean": np.zeros(maps),
        "variance": np.ones(maps),
        "w_output": images.uniform(rng, (classes, features), features),
        "b_output": np.zeros(classes),
    }


def _maps(spec: Spec) -> dict[str, int]:
    """Returns the number of maps of each convolution, by name, in the order of the averages."""
    after = {f"_{name}": count for name, _, count, _ in residual.convolutions(spec.stages)}
    return {"1": spec.stages[0], **after}


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
    return apart.each_member(lambda p, own: _logits(spec, p, own, False), parameters, x)


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
    return apart.each_member(lambda p, own: _logits(spec, p, own, True), parameters, x)


def _logits(spec: Spec, member: apart.Member, x: torch.Tensor, training: bool) -> torch.Tensor:
    """Returns one member's logits ``[n, c]`` for x ``[n, d]``."""
    from torch.nn.functional import batch_norm, linear

    means, variances = _averages(spec, member)

    def normalised(name: str, maps: torch.Tensor) -> torch.Tensor:
        values = means[name], variances[name], member[f"scale{name}"], member[f"shift{name}"]
        return batch_norm(maps, *values, training, MOMENTUM, EPSILON)

    x = images.square(member, x)
    x = residual.features(spec.stages, STEMS[spec.stem], member, x, normalised)
    return linear(x, member["w_output"], member["b_output"])


def _averages(spec: Spec, member: apart.Member) -> list[dict[str, torch.Tensor]]:
    """Returns one member's running means and variances by convolution, as views."""
    maps = _maps(spec)
    parts = (member[name].split(list(maps.values())) for name in ("mean", "variance"))
    return [dict(zip(maps, part, strict=True)) for part in parts]


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from float32 ``[n, *shape]`` to logits, float32 ``[M, n, n_classes]``.

    On a CPU normalisation is part of the convolutions, and most of these are computed with fewer
    products: :mod:`medrobust.models.engine.winograd`.
    """
    if device != "cpu":
        tensors = stacked.tensors(parameters, device)
        return stacked.on_arrays(lambda x: forward(spec, tensors, x), device)
    stem, memory = STEMS[spec.stem], winograd.Memory()
    members = [
        folded.fold(spec.stages, stem, _with_averages(spec, parameters, m), EPSILON, memory)
        for m in range(len(parameters["w1"]))
    ]

    def logits(x: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.stack([member.logits(x.view(-1, *shape)) for member in members])

    return stacked.on_arrays(logits, device)


def _with_averages(spec: Spec, parameters: dict[str, np.ndarray], m: int) -> apart.Member:
    """Returns the arrays of member ``m``, with a ``mean`` and a ``variance`` per convolution."""
    member, counts = {name: value[m] for name, value in parameters.items()}, _maps(spec)
    ends = np.cumsum(list(counts.values()))[:-1]
    for key in ("mean", "variance"):
        parts = np.split(member[key], ends)
        member |= {f"{key}{name}": part for name, part in zip(counts, parts, strict=True)}
    return member


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=member_scores,
    # A block reads the kernels once, of which a member has 100 MB; a padded row costs as any other.
    label_block=32,
    initial_parameters=initial_parameters,
    forward=forward,
    training_forward=training_forward,
    untrained=frozenset({"mean", "variance"}),
    members_apart=True,
    gradient_block=16,
    fits=fits,
    step_seconds=0.026,
)
