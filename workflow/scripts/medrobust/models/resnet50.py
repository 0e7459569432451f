"""ResNet-50 with batch normalisation, with drop-max pooling where asked for: the network of mirst.

He et al. (2016), ResNet-50: a convolution of width 7 and stride 2, pooling of width 3 and stride 2,
four stages of 3, 4, 6 and 3 bottleneck blocks, mean over the map, output. Mirst (Sun et al. 2022)
trains it on ultrasound images of 224 pixels a side, and replaces the first pooling by one that
hands on the second largest value of each window: :mod:`medrobust.models.engine.drop_max`.

Layers and first values are those of ``resnet50`` in MONAI (Cardoso et al. 2022), for images in two
dimensions and with ``bias_downsample=False``: convolutions have no biases, those of shortcuts
included, as in torchvision, whose weights thus fit
(:mod:`medrobust.models.engine.pretrained`). The network scales its input itself, so perturbations
are measured in the unit of the data: :mod:`medrobust.models.engine.batch_normed`.
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import batch_normed, pretrained, residual, stacked


class Spec(Settings):
    """Settings of ResNet-50."""

    stages: list[int] = Field(
        default=[64, 128, 256, 512],
        min_length=1,
        description="channels of each stage's convolutions of width 3, a quarter of what its "
        "blocks give; all but the first halve width and height",
    )
    blocks: list[int] = Field(
        default=[3, 4, 6, 3], min_length=1, description="blocks of each stage"
    )
    pooling: residual.Pooling = Field(
        default="max",
        description="first pooling: the largest value of each window, or the second largest",
    )
    mean: list[float] = Field(
        default=[0.485, 0.456, 0.406],
        min_length=1,
        description="of each channel, by which the network scales points first, (x - mean) / "
        "deviation; the default is ImageNet's",
    )
    deviation: list[float] = Field(
        default=[0.229, 0.224, 0.225], min_length=1, description="of each channel, above 0"
    )

    @model_validator(mode="after")
    def _one_number_for_each(self) -> Self:
        if len(self.blocks) != len(self.stages):
            raise ValueError(
                f"blocks must have one number for each of the {len(self.stages)} stages, "
                f"not {len(self.blocks)}"
            )
        if min(*self.blocks, *self.stages) < 1:
            raise ValueError("stages and blocks must be at least 1")
        if len(self.mean) != len(self.deviation):
            raise ValueError(
                f"mean and deviation must have one number for each channel, not {len(self.mean)} "
                f"and {len(self.deviation)}"
            )
        if not all(0 < value < math.inf for value in self.deviation):
            raise ValueError("deviation must be finite and above 0")
        if not all(map(math.isfinite, self.mean)):
            raise ValueError("mean must be finite")
        return self

    def network(self) -> batch_normed.Network:
        """Returns the network that these settings stand for."""
        return batch_normed.Network(
            residual.IMAGENET._replace(pooling=self.pooling),
            residual.bottleneck_blocks(self.stages, self.blocks),
            mean=tuple(self.mean),
            deviation=tuple(self.deviation),
        )


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of members: :func:`batch_normed.initial_parameters`.

    Raises:
        InputError: a point is not a square image, the last stage leaves one pixel of it (with four
            stages: of 32 pixels a side or fewer), or it has other channels than ``mean`` and
            ``deviation``.
    """
    fits(spec, shape, n_classes)
    return batch_normed.initial_parameters(spec, shape[0], n_classes, seeds)


def fits(spec: Spec, shape: tuple[int, ...], n_classes: int) -> None:
    """Raises an InputError for points that are no square images, too small, or of other channels.

    A batch of one image must leave more than one value of a map: one has no variance.
    """
    residual.check_shape(
        "resnet50",
        spec.stages,
        # First convolution, pooling, and all stages but the first.
        len(spec.stages) + 1,
        shape,
        why="maps of one pixel cannot be normalised by a batch of one image.",
        remedy="use it on larger images [channels, side, side], with fewer stages, or use another "
        "architecture.",
    )
    if shape[0] != len(spec.mean):
        raise InputError(
            f"mean and deviation of the architecture resnet50 have {len(spec.mean)} numbers, one "
            f"for each channel, but these images have {shape[0]} channels (points of the shape "
            f"{list(shape)}).",
            where="keys architecture.mean and architecture.deviation",
            remedy="give as many numbers as channels (0 and 1 take the points as they are), or "
            "prepare the images with as many channels.",
        )


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="logits",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=batch_normed.member_scores,
    # An image of 224 pixels a side fills a processor; of 64, some share the reading of the kernels.
    label_block=8,
    # Of 224 pixels a side 86 MB a row for the way back, 2.7 GB a block.
    gpu_block=32,
    initial_parameters=initial_parameters,
    forward=batch_normed.forward,
    training_forward=batch_normed.training_forward,
    untrained=batch_normed.UNTRAINED,
    members_apart=True,
    logits=batch_normed.logits,
    training_logits=batch_normed.training_logits,
    logits_and_pattern=batch_normed.logits_and_pattern,
    pull_back=batch_normed.pull_back,
    gradient_block=8,
    # Of 64 pixels a side, 1.8 times as fast to the points and 1.4 times to the weights.
    channels_last=True,
    fits=fits,
    first_pooling=batch_normed.first_pooling,
    pooled_features=batch_normed.pooled_features,
    read_weights=pretrained.read_weights,
    # In batches of 8: .24 of 224 pixels a side, a quarter of that of 96, a fifth of 64.
    step_seconds=0.031,
    step_value_seconds=1.39e-6,
    member_bytes=batch_normed.member_bytes,
)
