"""Generated slices with plans of nnU-Net, for tests and benchmarks: they need no nnU-Net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medrobust.data.prepared.slices import SliceSet


def plans(
    sides: tuple[int, int] = (16, 16), features: Sequence[int] = (4, 6, 8), convolutions: int = 1
) -> dict[str, Any]:
    """Returns plans in nnU-Net's form (nnunetv2 2.8.1).

    Args:
        sides: height and width of a patch.
        features: channels of each stage.
        convolutions: of each stage.
    """
    layers, stages = "torch.nn.modules", len(features)
    return {
        "dataset_name": "Dataset004_Hippocampus",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {
            "2d": {
                "data_identifier": "nnUNetPlans_2d",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 4,
                "patch_size": list(sides),
                "spacing": [1.0, 1.0],
                "normalization_schemes": ["ZScoreNormalization"],
                "use_mask_for_norm": [False],
                "batch_dice": True,
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet."
                    "PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": stages,
                        "features_per_stage": list(features),
                        "conv_op": f"{layers}.conv.Conv2d",
                        "kernel_sizes": [[3, 3]] * stages,
                        "strides": [[1, 1]] + [[2, 2]] * (stages - 1),
                        "n_conv_per_stage": [convolutions] * stages,
                        "n_conv_per_stage_decoder": [convolutions] * (stages - 1),
                        "conv_bias": True,
                        "norm_op": f"{layers}.instancenorm.InstanceNorm2d",
                        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                        "dropout_op": None,
                        "dropout_op_kwargs": None,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            }
        },
    }


def slice_set(
    cases: int = 5, slices: int = 4, planned: dict[str, Any] | None = None, seed: int = 1
) -> SliceSet:
    """Returns cases of bright squares within squares in noise; all but two are for training.

    Args:
        cases: their number.
        slices: of each case, of the size of a patch.
        planned: :func:`plans`; by default small ones.
        seed: of squares and noise.
    """
    planned, rng = planned or plans(), np.random.default_rng(seed)
    height, width = planned["configurations"]["2d"]["patch_size"]
    masks = np.zeros((cases, slices, height, width), dtype=np.int8)
    side = min(height, width)
    for mask in masks.reshape(-1, height, width):
        first = rng.integers(1, side // 4, 2)
        for k in (1, 2):
            low, high = first + 2 * (k - 1), first + side // 2 + 2 * (2 - k)
            mask[low[0] : high[0], low[1] : high[1]] = k
    images = masks + rng.normal(0, 0.3, masks.shape)
    images = ((images - images.mean()) / images.std()).astype(np.float32)
    return SliceSet(
        cases=tuple(f"{number:03d}" for number in range(cases)),
        images=tuple(images[:, None]),
        masks=tuple(masks),
        train=np.arange(cases - 2),
        val=np.array([cases - 2]),
        test=np.array([cases - 1]),
        class_names=("background", "outer", "inner"),
        plans=planned,
        sha256="0" * 64,
        card={"channels": ["MRI"], "name": "squares"},
    )
