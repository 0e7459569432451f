"""Losses and Dice of pixels: against nnU-Net's own, and against sets of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from medrobust.models.engine.pixel_losses import (
    at_resolutions,
    hard_dice,
    pixel_losses,
    resolution_weights,
)

CLASSES, SHAPES = 3, [(8, 12), (4, 6), (2, 3)]


def problem(n: int = 4, seed: int = 0) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    draws = torch.Generator().manual_seed(seed)
    outputs = [
        torch.randn((n, CLASSES, *shape), generator=draws, dtype=torch.float64) for shape in SHAPES
    ]
    targets = [torch.randint(CLASSES, (n, *shape), generator=draws) for shape in SHAPES]
    targets[0][1] = 0  # a slice without foreground
    return outputs, targets


def nnunets_loss(outputs, targets, *, batch_dice: bool) -> torch.Tensor:
    pytest.importorskip("nnunetv2")
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    settings = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(settings, {}, dice_class=MemoryEfficientSoftDiceLoss)
    weights = np.array([1, 0.5, 0])
    wrapped = DeepSupervisionWrapper(loss, weights / weights.sum())
    return wrapped([o.float() for o in outputs], [t[:, None] for t in targets])


@pytest.mark.parametrize("batch_dice", [True, False])
def test_losses_equal_nnunets(batch_dice):
    outputs, targets = problem()
    group = len(outputs[0]) if batch_dice else 1
    found = pixel_losses(outputs, targets, group).mean()
    expected = nnunets_loss(outputs, targets, batch_dice=batch_dice)
    torch.testing.assert_close(found, expected, check_dtype=False)


def test_groups_have_the_losses_that_they_have_alone():
    outputs, targets = problem(6)
    found = pixel_losses(outputs, targets, 2)
    for k in range(3):
        own = [[values[2 * k : 2 * k + 2] for values in kind] for kind in (outputs, targets)]
        torch.testing.assert_close(found[k], pixel_losses(*own, 2)[0])
    assert not torch.allclose(found.mean(), pixel_losses(outputs, targets, 1).mean(), rtol=1e-4)


def test_weights_are_halved_and_the_coarsest_does_not_count():
    assert resolution_weights(4) == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])
    assert resolution_weights(1) == [1]


@given(st.data())
def test_hard_dice_equals_that_of_sets_of_pixels(data):
    shape = (3, 4, 5)
    labels, target = (
        data.draw(arrays(np.int64, shape, elements=st.integers(0, CLASSES - 1))) for _ in range(2)
    )
    found = hard_dice(torch.from_numpy(labels), torch.from_numpy(target), CLASSES)
    for n in range(shape[0]):
        for k in range(1, CLASSES):
            said, there = (set(np.flatnonzero(v[n] == k)) for v in (labels, target))
            sizes = len(said) + len(there)
            expected = 2 * len(said & there) / sizes if sizes else 0
            assert found[n, k - 1].item() == pytest.approx(expected)


def test_coarser_targets_equal_those_that_nnunet_trains_on():
    pytest.importorskip("nnunetv2")
    from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
        DownsampleSegForDSTransform,
    )

    target = torch.randint(CLASSES, (8, 12), generator=torch.Generator().manual_seed(1))
    scales = [[1, 1], [0.5, 0.5], [0.25, 0.25]]
    told = {"segmentation": target[None].to(torch.int16)}
    expected = DownsampleSegForDSTransform(ds_scales=scales)(**told)["segmentation"]
    for found, theirs in zip(at_resolutions(target[None], SHAPES), expected, strict=True):
        assert found[0].tolist() == theirs[0].tolist()
