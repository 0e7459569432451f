"""Slices: their numbers, and patches cut from them."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.data.prepared.patches import cut_patches
from medrobust.data.prepared.slices import SliceSet


def slice_set() -> SliceSet:
    rng = np.random.default_rng(0)
    shapes = [(3, 7, 4), (2, 5, 9), (4, 6, 6)]
    masks = [rng.integers(0, 3, shape).astype(np.int8) for shape in shapes]
    masks[2][1][masks[2][1] == 2] = 0
    masks[1][0, 0, 0] = -1
    return SliceSet(
        cases=("001", "002", "010"),
        images=tuple(rng.normal(size=(2, *shape)).astype(np.float32) for shape in shapes),
        masks=tuple(masks),
        train=np.array([1]),
        val=np.array([], dtype=np.int64),
        test=np.array([0, 2]),
        class_names=("background", "a", "b"),
        plans={},
        sha256="",
        card={},
    )


def test_numbers_count_slices_of_all_cases():
    slices = slice_set()
    assert slices.numbers(slices.test).tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert [slices.place(n) for n in (0, 2, 3, 4, 5, 8)] == [
        (0, 0), (0, 2), (1, 0), (1, 1), (2, 0), (2, 3),
    ]  # fmt: skip
    assert (slices.image(4) == slices.images[1][:, 1]).all()
    assert (slices.mask(6) == slices.masks[2][1]).all()
    assert slices.with_all_classes(slices.test).tolist() == [0, 1, 2, 5, 7, 8]


@pytest.mark.parametrize("seed", [1, 2])
def test_patches_are_cut_where_slices_are_larger_and_filled_where_smaller(seed):
    slices, size = slice_set(), (6, 6)
    images, targets = cut_patches(slices, [1, 3, 7], size, seed)
    assert images.shape == (3, 2, 6, 6) and targets.dtype == np.int64
    # 7 x 4: one row is cut off, a column is added on either side.
    own, mask = slices.image(1), slices.mask(1)
    assert (images[0][..., 0] == 0).all() and (targets[0][:, [0, 5]] == 0).all()
    cut = [first for first in (0, 1) if (images[0][..., 1:5] == own[:, first : first + 6]).all()]
    assert len(cut) == 1 and (targets[0][:, 1:5] == mask[cut[0] : cut[0] + 6]).all()
    # 5 x 9: a row of zeros below; what nnU-Net cut off is background.
    assert (images[1][:, 5] == 0).all() and targets.min() == 0
    # Of the right size.
    assert (images[2] == slices.image(7)).all() and (targets[2] == slices.mask(7)).all()
    again, _ = cut_patches(slices, [7, 1], size, seed)
    assert (again[1] == images[0]).all()


def test_places_hang_on_the_seed_and_the_slice():
    slices = slice_set()
    places = {cut_patches(slices, [1], (2, 2), seed)[0].tobytes() for seed in range(300)}
    assert len(places) == 6 * 3
