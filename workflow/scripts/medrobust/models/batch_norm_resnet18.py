"""ResNet-18 with batch normalisation: the residual network of signnet on images.

He et al. (2016), ResNet-18. Signnet (Yang et al. 2020) trains ten of them on X-ray and histology
images of 96 pixels a side; its code leaves open which of two it is: torchvision's, whose first
convolution has width 7 and stride 2 and is followed by pooling (``stem: imagenet``), or one for
small images, width 3 and stride 1 without pooling (``stem: cifar``).

Layers, biases and first values are those of ``resnet18`` in MONAI (Cardoso et al. 2022), for
images in two dimensions, whose shortcuts have biases: :mod:`medrobust.models.engine.batch_normed`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import batch_normed, residual, stacked
from medrobust.models.engine.batch_normed import forward, member_scores, training_forward

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

    def network(self) -> batch_normed.Network:
        """Returns the network that these settings stand for."""
        blocks = residual.basic_blocks(self.stages)
        return batch_normed.Network(STEMS[self.stem], blocks, skip_biases=True)


def initial_parameters(
    spec: Spec, shape: tuple[int, ...], n_classes: int, seeds: list[int]
) -> dict[str, np.ndarray]:
    """Draws the initial values of members: :func:`batch_normed.initial_parameters`.

    Raises:
        InputError: a point is not a square image, or the last stage leaves one pixel of it (with
            four stages: of 32 pixels a side or fewer, ``stem: cifar`` 8 or fewer).
    """
    fits(spec, shape, n_classes)
    return batch_normed.initial_parameters(spec, shape[0], n_classes, seeds)


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
    untrained=batch_normed.UNTRAINED,
    members_apart=True,
    logits=batch_normed.logits,
    training_logits=batch_normed.training_logits,
    logits_and_pattern=batch_normed.logits_and_pattern,
    pull_back=batch_normed.pull_back,
    gradient_block=16,
    gpu_block=512,
    fits=fits,
    first_pooling=batch_normed.first_pooling,
    pooled_features=batch_normed.pooled_features,
    step_seconds=0.026,
    member_bytes=batch_normed.member_bytes,
)
