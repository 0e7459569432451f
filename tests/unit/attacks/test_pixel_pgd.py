"""Gradient ascent on networks of pixels: one by one, in batches, and at several levels."""

from __future__ import annotations

import pytest
import torch
from medrobust.attacks import pixel_pgd
from medrobust.attacks.engine.pixel_network import PixelNetwork, loss_slopes, well_segmented
from medrobust.models.engine.pixel_losses import at_resolutions, pixel_losses

SHAPE, CLASSES = (2, 8, 8), 3
COARSE = (4, 4)


def network(seed: int = 0) -> PixelNetwork:
    """Returns two layers of convolutions with outputs at two resolutions, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inner = torch.nn.Conv2d(SHAPE[0], 5, 3, padding=1).double()
        outer = torch.nn.Conv2d(5, CLASSES, 3, padding=1).double()

    def module(images: torch.Tensor) -> list[torch.Tensor]:
        fine = outer(torch.tanh(inner(images)))
        return [fine, torch.nn.functional.avg_pool2d(fine, 2)]

    return PixelNetwork(module, SHAPE)


def patches(n: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    draws = torch.Generator().manual_seed(3)
    x = torch.randn((n, 128), generator=draws, dtype=torch.float64)
    target = torch.randint(CLASSES, (n, 8, 8), generator=draws)
    return x, at_resolutions(target, [(8, 8), COARSE])


def spec(epsilon: float, **changes) -> pixel_pgd.Spec:
    return pixel_pgd.Spec(epsilon=epsilon, **({"num_steps": 5} | changes))


@pytest.mark.parametrize("group", [1, 2, 4])
def test_slopes_are_those_of_the_loss(group):
    x, targets = patches(4)
    own = network()
    outputs, pattern = own.logits_and_pattern(x)
    found = own.pull_back(pattern, loss_slopes(targets, group)(outputs, torch.arange(4)))
    leaf = x.clone().requires_grad_()
    pixel_losses(own.logits(leaf), targets, group).sum().backward()
    torch.testing.assert_close(found, leaf.grad)


def test_levels_side_by_side_find_what_each_finds_alone():
    x, targets = patches(3)
    levels = [0.0, 0.5, 2.0]
    specs = [spec(level) for level in levels]
    seeds = [[10 * k + i for i in range(3)] for k in range(3)]
    together = pixel_pgd.attack(network(), x, targets, specs, seeds)
    assert together.shape == (3, 3, 128) and torch.equal(together[0], x)
    for k in (1, 2):
        alone = pixel_pgd.attack(network(), x, targets, [specs[k]], [seeds[k]])[0]
        torch.testing.assert_close(together[k], alone)


def test_noise_lies_in_the_ball_and_raises_the_loss():
    x, targets = patches(3)
    own, n = network(), 3
    (noisy,) = pixel_pgd.attack(own, x, targets, [spec(1.5, num_steps=40)], [[1, 2, 3]])
    assert ((noisy - x).norm(dim=1) <= 1.5 + 1e-9).all()
    (start,) = pixel_pgd.attack(own, x, targets, [spec(1.5, step_share=1e-9)], [[1, 2, 3]])
    assert (start - x).norm(dim=1).tolist() == pytest.approx([1.5] * 3)  # on the sphere
    found = pixel_losses(own.logits(noisy), targets, n).item()
    draws = torch.Generator().manual_seed(0)
    for _ in range(100):
        noise = torch.randn(x.shape, generator=draws, dtype=x.dtype)
        elsewhere = x + 1.5 * noise / noise.norm(dim=1, keepdim=True)
        assert found > pixel_losses(own.logits(elsewhere), targets, n).item()


def test_a_step_goes_along_the_gradient_divided_by_its_length():
    x, targets = patches(2)
    own = network()
    begin = spec(4.0, num_steps=1, step_share=1e-12)
    (start,) = pixel_pgd.attack(own, x, targets, [begin], [[5, 6]])
    leaf = start.clone().requires_grad_()
    pixel_losses(own.logits(leaf), targets, 2).sum().backward()
    moved = start + 0.2 * leaf.grad / leaf.grad.norm(dim=1, keepdim=True)
    away = moved - x
    expected = x + away * (4.0 / away.norm(dim=1, keepdim=True)).clamp(max=1)
    (found,) = pixel_pgd.attack(own, x, targets, [spec(4.0, num_steps=1)], [[5, 6]])
    torch.testing.assert_close(found, expected)


def test_a_start_hangs_on_its_own_seed_alone():
    x, _ = patches(2)
    first = pixel_pgd._start(x, 1.0, [7, 8])
    second = pixel_pgd._start(x.flip(0), 1.0, [9, 7])
    torch.testing.assert_close(first[0] - x[0], second[1] - x[0])


def test_well_segmented_asks_for_the_best_class():
    target = torch.zeros((2, 2, 4), dtype=torch.int64)
    target[:, 0, :] = 1
    target[:, 1, :] = 2
    said = target.clone()
    said[0, 0, :2] = 0  # Dice of class 1: 2/3, of class 2: 1
    said[1, 0, :3] = 0  # .4
    said[1, 1, :2] = 0  # 2/3
    outputs = [torch.nn.functional.one_hot(said, CLASSES).movedim(-1, 1).double()]
    rows = torch.arange(2)
    for threshold, expected in ((0.6, [True, True]), (0.7, [True, False]), (1.0, [True, False])):
        assert well_segmented(target, CLASSES, threshold)(outputs, rows).tolist() == expected
    swapped = [outputs[0].flip(0)]
    assert well_segmented(target, CLASSES, 0.7)(swapped, rows.flip(0)).tolist() == [False, True]


def test_a_level_of_no_noise_needs_no_gradients():
    assert spec(0).expected_queries() == 1 and spec(2).expected_queries() == 5
