"""SimCLR: its loss against the printed sum, draws of views, and that views are told together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrobust.core.errors import InputError
from medrobust.models import resnet50
from medrobust.training import simclr
from medrobust.training.engine.work import Work

SPEC = resnet50.Spec(stages=[4, 6], blocks=[1, 1])


def work_of(n: int = 24, channels: int = 3, **more) -> Work:
    """Images with a bright place of their own each."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.2, (n, channels, 32, 32)).astype(np.float32)
    for k, image in enumerate(x):
        row, column = divmod(5 * k, 24)
        image[k % channels, row : row + 8, column : column + 8] += 0.7
    return Work(x, np.zeros(n, np.int64), 2, [0], [5], input_range=(0.0, 1.0), **more)


def train(work: Work, spec: resnet50.Spec = SPEC, **changes):
    settings = {"learning_rate": 0.003, "batch_size": 12, "max_epochs": 2, "projection": 8}
    method = simclr.Spec(**settings | changes)
    return simclr.train(method, "resnet50", spec, work)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_the_printed_sum(temperature) -> None:
    """Mirst, equation 4, term by term."""
    z = torch.nn.functional.normalize(torch.randn(10, 4, dtype=torch.float64), dim=1)
    total, found = 0.0, []
    for i in range(10):
        j = (i + 5) % 10
        similar = [float(z[i] @ z[k]) / temperature for k in range(10)]
        others = sum(np.exp(similar[k]) for k in range(10) if k != i)
        total -= np.log(np.exp(similar[j]) / others)
        found.append(max((k for k in range(10) if k != i), key=similar.__getitem__) == j)
    loss, right = simclr.nt_xent(z, temperature)
    assert loss.item() == pytest.approx(total / 10, rel=1e-10)
    assert right.item() == sum(found[i] and found[i + 5] for i in range(5))


def test_training_finds_partners_and_keeps_the_output_layer() -> None:
    # Views so alike that a few steps tell them together.
    easy = {"least_crop": 0.9, "colour_strength": 0.0, "blur_share": 0.0, "learning_rate": 0.01}
    trained = train(work_of(), max_epochs=12, **easy)
    first = resnet50.initial_parameters(SPEC, (3, 32, 32), 2, [5])
    assert set(trained.parameters) == set(first)
    for name in ("w_output", "b_output"):
        assert trained.parameters[name].tobytes() == first[name].tobytes()
    assert (trained.parameters["w1"] != first["w1"]).any()
    short = train(work_of(), max_epochs=1, **easy)
    assert trained.history[0]["loss"] < short.history[0]["loss"] - 0.3
    assert trained.history[0]["stopped"] == "max_epochs"


def test_a_member_depends_on_its_seed_alone_and_leaves_the_callers_draws() -> None:
    state = torch.random.get_rng_state()
    one = train(work_of())
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    two = train(work_of())
    assert one.parameters["w1"].tobytes() == two.parameters["w1"].tobytes()


def test_views_of_one_channel_and_of_three() -> None:
    for channels in (1, 3):
        augment = simclr.augmentation(
            simclr.Spec(learning_rate=0.1, max_epochs=1), (channels, 32, 32)
        )
        torch.manual_seed(0)
        x = torch.rand(6, channels, 32, 32)
        first, second = augment(x), augment(x)
        assert first.shape == x.shape and not torch.equal(first, second)
        assert first.min() >= 0 and first.max() <= 1 + 1e-5


def test_points_that_are_no_images_are_refused() -> None:
    work = Work(np.zeros((8, 12), np.float32), np.zeros(8, np.int64), 2, [0], [5])
    with pytest.raises(InputError, match="SimCLR is for images"):
        train(work)
