"""Training networks of pixels: margins by hand, the search on a network that is known, resuming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from medrobust.attacks.engine.pixel_network import PixelNetwork, loss_slopes, well_segmented
from medrobust.attacks.pixel_pgd import EVERYWHERE
from medrobust.core.errors import InputError
from medrobust.data.standins.slices import plans, slice_set
from medrobust.models import nnunet
from medrobust.runtime.journal import Checkpoint
from medrobust.training import segmentation, segmentation_adversarial, segmentation_ima
from medrobust.training.engine import slice_descent
from medrobust.training.engine.boundary_search import BoundarySearch, search
from medrobust.training.engine.slice_batches import SliceBatches
from medrobust.training.engine.slice_descent import SliceWork

from tests.unit.slice_files import needs_nnunet


@given(
    st.lists(
        st.tuples(
            st.floats(0, 9, width=32),
            st.one_of(st.just(np.nan), st.just(np.inf), st.floats(0, 20, width=32)),
        ),
        min_size=1,
    )
)
def test_margins_move_as_their_slices_say(pairs):
    margins, distances = np.array(pairs, dtype=np.float32).T
    found = segmentation_ima.updated_margins(margins, distances, step=1.5, largest=10)
    for before, distance, after in zip(margins, distances, found, strict=True):
        if np.isnan(distance):
            assert after == before
        elif np.isinf(distance):
            assert after == pytest.approx(min(before + 1.5, 10), rel=1e-6)
        else:
            assert after == pytest.approx(min((before + distance) / 2, 10), rel=1e-6)


def test_the_search_ends_where_dice_crosses_the_threshold():
    """Pixels are foreground where they are above 0: noise that lowers half of them is found."""
    shape = (1, 2, 5)
    images = torch.tensor([[3.0, 3, 3, 3, 3, 1, 1, 1, 1, 1]], dtype=torch.float64)
    target = torch.ones((1, 2, 5), dtype=torch.int64)
    module = lambda x: [torch.cat([torch.zeros_like(x), x], dim=1)]  # noqa: E731
    network = PixelNetwork(module, shape)
    correct = well_segmented(target, 2, 0.7)
    rows = torch.arange(1)
    settings = BoundarySearch("l2", 20, 4.0, 25, "cross_entropy", EVERYWHERE)
    for radius, there in ((1.0, False), (6.0, True)):
        found = search(
            network,
            images,
            loss_slopes([target], 1),
            correct,
            torch.tensor([radius], dtype=torch.float64),
            images.clone(),
            settings,
        )
        assert (len(found.rows) == 1) == there
        assert ((found.ends - images).norm(dim=1) <= radius + 1e-9).all()
        if there:
            way = found.noisy - images
            nearer, further = (images + way * share for share in (1 - 1e-5, 1 + 1e-5))
            assert correct(network.logits(nearer), rows).item()
            assert not correct(network.logits(further), rows).item()


def test_a_margin_step_beyond_the_largest_margin_is_refused():
    with pytest.raises(ValueError, match="margin_step is larger"):
        segmentation_ima.Spec(margin_step=2, largest_margin=1)


METHODS = {
    "plain": (segmentation, {}),
    "adversarial": (segmentation_adversarial, {"epsilon": 2.0, "steps": 2}),
    "ima": (
        segmentation_ima,
        {"margin_step": 0.5, "largest_margin": 2.0, "steps": 2, "bisections": 2},
    ),
}


def trained(name: str, checkpoint=None, **changes):
    module, settings = METHODS[name]
    settings = settings | {"batch_size": 4, "max_epochs": 2, "batches_per_epoch": 3} | changes
    work = SliceWork(slice_set(), [0], [11], checkpoint=checkpoint)
    return module.train(module.Spec(**settings), "nnunet", nnunet.Spec(), work)


@needs_nnunet
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("killed", [3, 4, 6])
def test_a_training_resumes_with_the_same_bytes(name, killed, tmp_path, monkeypatch):
    """Killed after the first epoch, within the second, and after the last."""
    whole = trained(name)
    monkeypatch.setattr(slice_descent, "CHECKPOINT_SECONDS", 0.0)

    class Killed(Exception):
        pass

    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        save, saves = checkpoint.save, []

        def save_then_die(*arguments):
            save(*arguments)
            saves.append(arguments)
            if len(saves) == killed:
                raise Killed

        checkpoint.save = save_then_die
        with pytest.raises(Killed):
            trained(name, checkpoint)
    with Checkpoint(tmp_path / "c", "key") as checkpoint:
        resumed = trained(name, checkpoint)
    assert resumed.history == whole.history
    for kind in ("parameters", "extras"):
        for key, value in getattr(whole, kind).items():
            assert value.tobytes() == getattr(resumed, kind)[key].tobytes()


@needs_nnunet
def test_it_is_the_fast_network_that_is_trained(monkeypatch):
    """With slopes at parameters, and without these where noise is looked for."""
    made, asked, fast = [], [], nnunet.fast

    def noted(module, **how):
        network = fast(module, **how)
        made.append(network is not module)
        return lambda images: asked.append(bool(how)) or network(images)

    monkeypatch.setattr(nnunet, "fast", noted)
    trained("adversarial", max_epochs=1, batches_per_epoch=1, steps=3)
    assert made == [True, True]
    assert asked == [True] * 3 + [False] * 2


@needs_nnunet
def test_margins_are_of_training_slices_and_move():
    slices, found = slice_set(), trained("ima").extras["margin"]
    training = slices.numbers(slices.train)
    others = np.setdiff1d(np.arange(slices.first[-1]), training)
    assert found.shape == (1, slices.first[-1]) and (found[0, others] == 0).all()
    assert (found[0, training] != 0.5).any() and (found <= 2.0).all()


@needs_nnunet
def test_the_loss_falls():
    short = trained("plain", max_epochs=1, batches_per_epoch=3).history[0]["loss"]
    long = trained("plain", max_epochs=4, batches_per_epoch=6, learning_rate=0.02)
    assert long.history[0]["loss"] < short - 0.2


@needs_nnunet
def test_batches_hang_on_their_numbers_alone_and_tell_their_slices():
    slices = slice_set()
    batches = SliceBatches(slices, (16, 16), 6, seed=3)
    first, other, again = (batches.draw(*k) for k in ((0, 0), (0, 1), (0, 0)))
    assert first.images.shape == (6, 1, 16, 16)
    assert torch.equal(first.images, again.images) and (first.numbers == again.numbers).all()
    assert not torch.equal(first.images, other.images)
    assert set(first.numbers) <= set(slices.numbers(slices.train).tolist())
    assert first.targets[0].min() >= 0 and first.targets[0].max() <= 2
    assert len(first.targets) > 1 and first.targets[1].shape == (6, 8, 8)


@needs_nnunet
def test_slices_larger_than_a_patch_stay_as_they_are():
    """nnU-Net's transforms change what they are given in place."""
    slices = slice_set(planned=plans((24, 24)))
    before = [part.copy() for part in (*slices.images, *slices.masks)]
    batches = SliceBatches(slices, (16, 16), 6, seed=3)
    first = batches.draw(0, 0).images
    for number in range(1, 10):
        batches.draw(0, number)
    assert torch.equal(batches.draw(0, 0).images, first)
    for part, known in zip((*slices.images, *slices.masks), before, strict=True):
        assert np.array_equal(part, known)


@needs_nnunet
def test_a_slice_is_the_one_that_its_patch_shows():
    slices = slice_set()
    batches = SliceBatches(slices, (16, 16), 6, seed=3)
    batches._loader.transforms = None
    drawn = batches._loader.generate_train_batch()
    numbers = batches._numbers(drawn["keys"])
    training = slices.numbers(slices.train)
    for image, number in zip(drawn["data"], numbers, strict=True):
        shown = set(image[image != 0].tolist())
        there = [n for n in training if shown <= set(slices.image(n).ravel().tolist())]
        assert len(shown) > 50 and there == [number]


@needs_nnunet
def test_networks_hang_on_their_seed():
    known = plans()
    first, again, other = (nnunet.arrays_of(nnunet.build(known, 1, 3, s)) for s in (1, 1, 2))
    assert all((first[name] == again[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)
    copy = nnunet.with_arrays(nnunet.build(known, 1, 3, 2), first)
    assert all((first[n] == v).all() for n, v in nnunet.arrays_of(copy).items())


def test_patches_that_the_network_cannot_halve_are_refused():
    assert nnunet.patch_size(nnunet.Spec(), plans()) == (16, 16)
    assert nnunet.patch_size(nnunet.Spec(patch_size=[4, 8]), plans()) == (4, 8)
    for sides in ([16, 18], [0, 0], [-4, 8], [4, 4]):
        with pytest.raises(InputError, match="height must be a multiple of 4 and its width of 4"):
            nnunet.patch_size(nnunet.Spec(patch_size=sides), plans())
