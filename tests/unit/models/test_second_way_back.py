"""Batch normalisation whose way back is gone twice, and networks that contain it."""

from __future__ import annotations

import pytest
import torch
from medrobust.models import resnet50
from medrobust.models.engine import batch_normed, batch_statistics, stacked
from medrobust.models.engine.batch_statistics import Normalised

from tests.unit.models.residual_oracles import images, moved

Spec = resnet50.Spec
#: Side and images: few pixels and many, several images and one.
CASES = [(33, 5), (64, 4), (33, 1)]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.double)


def maps(*shape: int) -> torch.Tensor:
    return (drawn(*shape) + 2).to(memory_format=torch.channels_last).requires_grad_()


def test_slopes_are_right_and_those_of_slopes():
    """Of maps, scale and shift, against differences; slopes at scale and shift count as well."""
    torch.manual_seed(0)
    x, scale, shift = maps(3, 4, 3, 2), *(drawn(4).requires_grad_() for _ in range(2))
    averages = torch.zeros(4, dtype=torch.double), torch.ones(4, dtype=torch.double)

    def normalised(*values: torch.Tensor) -> torch.Tensor:
        return Normalised.apply(*values, *averages, 0.1, 1e-5)

    assert torch.autograd.gradcheck(normalised, (x, scale, shift))
    assert torch.autograd.gradgradcheck(normalised, (x, scale, shift))


def penalised(spec: Spec, member: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """Returns what a loss with slopes at the points gives, and the averages after the pass."""
    moving = {name: member[name].clone() for name in batch_normed.UNTRAINED}
    leaves = {n: v.detach().requires_grad_() for n, v in member.items() if n not in moving}
    points = x.flatten(1).requires_grad_()
    logits = batch_normed.training_logits(spec, leaves, moving, points)
    losses = torch.nn.functional.cross_entropy(logits, torch.arange(len(x)) % 3, reduction="none")
    (slopes,) = torch.autograd.grad(losses.sum(), points, create_graph=True)
    loss = losses.mean() + slopes.square().sum(dim=1).sqrt().mean()
    return [
        loss.detach(),
        slopes.detach(),
        *torch.autograd.grad(loss, list(leaves.values())),
        *moving.values(),
    ]


def member(spec: Spec, side: int, dtype: torch.dtype, *, by_channel: bool):
    arrays = moved(resnet50.initial_parameters(spec, (3, side, side), 3, [4]))
    stack = stacked.tensors(arrays, "cpu", by_channel=by_channel)
    return {name: value[0].to(dtype) for name, value in stack.items()}


@pytest.mark.parametrize("pooling", ["max", "drop_max"])
@pytest.mark.parametrize(("side", "n"), CASES)
def test_a_penalty_on_slopes_is_the_same_whatever_the_layout(side, n, pooling, monkeypatch):
    """PyTorch's own functions, as kernels of the usual layout take them, are the oracle."""
    spec = Spec(stages=[3, 4, 5, 6], blocks=[1, 2, 1, 2], pooling=pooling)
    used, own = [], batch_statistics.Normalised.apply
    monkeypatch.setattr(Normalised, "apply", lambda *a: used.append(a[0].shape) or own(*a))
    x = images((3, side, side), n)
    expected = penalised(spec, member(spec, side, torch.double, by_channel=False), x)
    assert not used
    found = penalised(spec, member(spec, side, torch.double, by_channel=True), x)
    # After drop-max pooling, which hands on the usual layout, two convolutions have that as well.
    assert len(used) == len(spec.network().maps()) - 2 * (pooling == "drop_max")
    for ours, pytorchs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, pytorchs, rtol=1e-6, atol=1e-9)


def test_in_single_precision_it_is_as_near_to_the_truth_as_pytorchs():
    spec, x = Spec(stages=[16, 16, 16, 16], blocks=[1, 1, 1, 1]), images((3, 64, 64), 8)
    truth = penalised(spec, member(spec, 64, torch.double, by_channel=False), x)
    ours, pytorchs = (
        penalised(spec, member(spec, 64, torch.float32, by_channel=on), x.float())
        for on in (True, False)
    )

    def error(found: list[torch.Tensor]) -> float:
        pairs = zip(found, truth, strict=True)
        return max(float((a - b).norm() / b.norm()) for a, b in pairs)

    assert error(ours) < max(1e-4, 2 * error(pytorchs))


def test_a_pass_whose_way_back_is_gone_once_takes_pytorchs_normalisation(monkeypatch):
    spec = Spec(stages=[3, 4], blocks=[1, 1])
    monkeypatch.setattr(Normalised, "apply", lambda *a: pytest.fail("taken"))
    values = member(spec, 33, torch.double, by_channel=True)
    x = images((3, 33, 33), 2).flatten(1)
    batch_normed.training_logits(spec, values, values, x)
    batch_normed.logits(spec, values, x.requires_grad_())
