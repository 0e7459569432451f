"""A small set of slices with plans for a small network, for tests of segmentation."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from medrobust.data.prepared.slices import SliceSet

needs_nnunet = pytest.mark.skipif(
    importlib.util.find_spec("nnunetv2") is None, reason="nnunetv2 is not installed"
)


def plans(side: int = 16, stages: int = 3) -> dict[str, Any]:
    """Returns plans in nnU-Net's form (nnunetv2 2.8.1) of a network with few channels."""
    layers = "torch.nn.modules"
    return {
        "dataset_name": "Dataset004_Hippocampus",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {
            "2d": {
                "data_identifier": "nnUNetPlans_2d",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 4,
                "patch_size": [side, side],
                "spacing": [1.0, 1.0],
                "normalization_schemes": ["ZScoreNormalization"],
                "use_mask_for_norm": [False],
                "batch_dice": True,
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet."
                    "PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": stages,
                        "features_per_stage": [4, 6, 8][:stages],
                        "conv_op": f"{layers}.conv.Conv2d",
                        "kernel_sizes": [[3, 3]] * stages,
                        "strides": [[1, 1]] + [[2, 2]] * (stages - 1),
                        "n_conv_per_stage": [1] * stages,
                        "n_conv_per_stage_decoder": [1] * (stages - 1),
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


def slice_set(cases: int = 5, slices: int = 4, side: int = 16, classes: int = 3) -> SliceSet:
    """Returns cases of bright squares within squares in noise; all but two are for training."""
    rng = np.random.default_rng(1)
    masks = np.zeros((cases, slices, side, side), dtype=np.int8)
    for mask in masks.reshape(-1, side, side):
        first = rng.integers(1, side // 4, 2)
        for k in range(1, classes):
            low, high = first + 2 * (k - 1), first + side // 2 + 2 * (classes - 1 - k)
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
        class_names=("background", "outer", "inner")[:classes],
        plans=plans(side),
        sha256="0" * 64,
        card={"channels": ["MRI"], "name": "squares", "class_names": []},
    )
