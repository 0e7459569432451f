"""Members trained one by one that normalise batches: by each batch's statistics, as PyTorch does.

The oracle is MONAI's network in training mode with PyTorch's Adam.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from medrobust.core.registry import parse_spec
from medrobust.core.seeds import derive_seed, generator
from medrobust.models import resnet50
from medrobust.models.contract import architecture_of
from medrobust.models.engine import batch_normed
from medrobust.training.contract import method_of
from medrobust.training.engine import apart_steps
from medrobust.training.engine.apart_steps import ApartSteps, Descent
from medrobust.training.engine.flat_updates import FlatMember
from medrobust.training.engine.loop import StoppingRule, run_epochs
from medrobust.training.engine.robust_descent import ROBUST_ARCHITECTURES, networks_of
from medrobust.training.engine.work import Work
from torch.nn.functional import cross_entropy

from tests.unit.models.residual_oracles import as_monai, loaded, moved
from tests.unit.models.test_resnet50 import Scaled, monai_resnet

SPEC = resnet50.Spec(stages=[2, 3, 3, 4], blocks=[1, 1, 1, 1], mean=[0.4], deviation=[0.3])
SHAPE, CLASSES, POINTS, BATCH, RATE, SEED = (1, 33, 33), 3, 20, 8, 0.01, 7
NORMALISING = sorted(n for n in ROBUST_ARCHITECTURES if architecture_of(n).untrained)
AVERAGES = ("mean", "variance")


def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y = np.arange(POINTS) % CLASSES
    x = rng.random((POINTS, *SHAPE)) * 0.5 + 0.2 * y.reshape(-1, 1, 1, 1)
    return x.astype(np.float32), y.astype(np.int64)


def work() -> Work:
    x, y = points()
    return Work(x, y, CLASSES, [0], [SEED], input_range=(0.0, 1.0))


def starts() -> dict[str, np.ndarray]:
    """Returns one member, its averages other than at first, with a leading axis."""
    return moved(resnet50.initial_parameters(SPEC, SHAPE, CLASSES, [SEED]))


def flat_member(arrays: dict[str, np.ndarray], dtype=np.float32) -> FlatMember:
    own = {name: value[0].astype(dtype) for name, value in arrays.items()}
    return FlatMember(own, "cpu", batch_normed.UNTRAINED)


def batches(epoch: int = 0):
    """Yields the batches of an epoch, and the generator of each."""
    x, y = points()
    order, draws = generator(SEED, "epoch", epoch).permutation(POINTS), torch.Generator()
    for k, first in enumerate(range(0, POINTS, BATCH)):
        rows = order[first : first + BATCH]
        draws.manual_seed(derive_seed(SEED, "batch", epoch, k))
        yield torch.from_numpy(x[rows]).flatten(1), torch.from_numpy(y[rows]), draws


def test_which_networks_of_the_robust_methods_normalise_batches():
    assert NORMALISING == ["batch_norm_resnet18", "resnet50"]


def test_training_equals_monais_network_in_training_mode(monkeypatch):
    """Two epochs of training with noise: each batch counts once as it is and once with noise."""
    settings = {"learning_rate": RATE, "batch_size": BATCH, "max_epochs": 2}
    settings |= {"name": "adversarial_training", "epsilon": 0.1, "steps": 0}
    arrays = starts()
    entry = dataclasses.replace(resnet50.ARCHITECTURE, initial_parameters=lambda *_: arrays)
    monkeypatch.setattr(resnet50, "ARCHITECTURE", entry)
    spec = parse_spec("method", settings, file="test", prefix="method")
    trained = method_of("adversarial_training").train(spec, "resnet50", SPEC, work())

    module = monai_resnet(SPEC, SHAPE[0], CLASSES)
    module = loaded(module, SPEC.network(), arrays, 0)
    network = torch.nn.Sequential(Scaled(SPEC), module).train()
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE)
    for epoch in range(2):
        for x, y, draws in batches(epoch):
            noise = torch.empty_like(x).uniform_(-1, 1, generator=draws) * 0.1
            noisy = (x + noise).clamp(0, 1)
            logits = [network(rows.double().view(-1, *SHAPE)) for rows in (x, noisy)]
            optimiser.zero_grad()
            (0.5 * sum(cross_entropy(one, y) for one in logits)).backward()
            optimiser.step()
    values = {name: torch.from_numpy(value[0]) for name, value in trained.parameters.items()}
    state = module.state_dict()
    for name, value in as_monai(SPEC.network(), values).items():
        # The first steps of Adam turn a gradient that rounds to either side of 0 into a whole step.
        wanted = state[name].float()
        assert float((value - wanted).abs().median()) < 1e-5, name
        np.testing.assert_allclose(value, wanted, atol=4 * RATE, err_msg=name)
    moved_by = np.abs(trained.parameters["mean"] - arrays["mean"]).max()
    assert moved_by > 0.05  # what the tolerance above must not hide


@pytest.mark.parametrize("decay", [(0.0, 0.0), (0.5, 0.0), (0.0, 2.0)], ids=["no", "l1", "l2"])
@pytest.mark.parametrize("optimizer", ["adam", "adamax"])
def test_averages_are_what_the_batches_made_of_them_whatever_moves_the_weights(optimizer, decay):
    """To the last bit: neither the optimiser nor decay touches them."""
    networks, found = networks_of("resnet50", SPEC), []

    def gradient(member, x, y, draws):
        learning, _ = networks(member)
        found.append({name: value.clone() for name, value in member.values.items()})
        logits = learning.logits(x)
        loss = cross_entropy(logits, y)
        return member.gradient(loss), loss.detach(), (logits.argmax(dim=1) == y).sum()

    descent = Descent(
        gradient, lambda y, rng: rng.permutation(len(y)), BATCH, optimizer, RATE,
        l1_decay=decay[0], l2_decay=decay[1], untrained=batch_normed.UNTRAINED,
    )  # fmt: skip
    arrays = starts()
    after, _ = run_epochs(
        work(), arrays, ApartSteps(work(), descent), stopping=StoppingRule(1), what="test",
        ghosts=False,
    )  # fmt: skip
    expected = {name: torch.from_numpy(arrays[name][0].copy()) for name in AVERAGES}
    for weights, (x, _, _) in zip(found, batches(), strict=True):
        for name in AVERAGES:
            assert weights[name].numpy().tobytes() == expected[name].numpy().tobytes()
        batch_normed.training_logits(SPEC, weights, expected, x)
    for name in AVERAGES:
        assert after[name][0].tobytes() == expected[name].numpy().tobytes(), name
        assert not np.allclose(after[name], arrays[name])
    trained = [name for name in arrays if name not in AVERAGES]
    assert all((after[name] != arrays[name]).any() for name in trained)


def test_the_fixed_network_is_the_evaluated_one_and_learns_nothing():
    arrays = starts()
    member = flat_member(arrays)
    learning, fixed = networks_of("resnet50", SPEC)(member)
    x, _, _ = next(batches())
    before = {name: value.clone() for name, value in member.values.items()}
    evaluated = batch_normed.logits(SPEC, before, x)
    torch.testing.assert_close(fixed.logits(x), evaluated, rtol=0, atol=0)
    logits, pattern = fixed.logits_and_pattern(x)
    fixed.pull_back(pattern, torch.ones_like(logits))
    for name, value in before.items():
        assert member.values[name].equal(value), name
    assert not torch.allclose(learning.logits(x), evaluated, atol=1e-3)
    # It learned; the fixed one sees it at once.
    assert not torch.allclose(fixed.logits(x), evaluated, atol=1e-3)


def test_the_way_back_through_batch_statistics_can_be_gone_twice():
    """A penalty on the slopes of the network that learns, against MONAI's in training mode."""
    arrays = starts()
    member = flat_member(arrays, np.float64)
    learning, _ = networks_of("resnet50", SPEC)(member)
    x, y, _ = next(batches())
    x = x.double()
    logits, pattern = learning.logits_and_pattern(x)
    own = logits.softmax(dim=1) - torch.eye(CLASSES, dtype=x.dtype)[y]
    slopes = learning.pull_back(pattern, own)
    loss = cross_entropy(logits, y) + slopes.square().sum()
    gradient = member.views(member.gradient(loss))

    module = monai_resnet(SPEC, SHAPE[0], CLASSES)
    module = loaded(module, SPEC.network(), arrays, 0).train()
    for one in module.modules():
        if isinstance(one, torch.nn.ReLU):
            one.inplace = False
    leaf = x.view(-1, *SHAPE).clone().requires_grad_()
    out = torch.nn.Sequential(Scaled(SPEC), module)(leaf)
    (slope,) = torch.autograd.grad(cross_entropy(out, y, reduction="sum"), leaf, create_graph=True)
    (cross_entropy(out, y) + slope.square().sum()).backward()
    for name, value in as_monai(SPEC.network(), gradient).items():
        torch.testing.assert_close(
            value, module.get_parameter(name).grad, rtol=1e-6, atol=1e-9, msg=name
        )
    averages = as_monai(SPEC.network(), {**member.values})
    for name in (name for name in averages if "running" in name):
        torch.testing.assert_close(averages[name], module.get_buffer(name), msg=name)


def test_what_is_not_trained_lies_beside_the_vector_of_what_is():
    arrays = {"mean": np.zeros(2, np.float32), "w": np.ones((2, 2), np.float32)}
    member = FlatMember(arrays, "cpu", {"mean"})
    assert member.flat.tolist() == [1, 1, 1, 1] and set(member.leaves) == {"w"}
    assert set(member.values) == {"mean", "w"} and set(member.untrained) == {"mean"}
    member.untrained["mean"].add_(3)
    assert member.arrays()["mean"].tolist() == [3, 3] and arrays["mean"].tolist() == [0, 0]
    loss = (member.leaves["w"] ** 2).sum()
    member.untrained["mean"].add_(1)  # between a pass and its way back
    assert member.gradient(loss).tolist() == [2, 2, 2, 2]


def test_kernels_with_channels_last_are_the_same_numbers_in_another_order():
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(4, 3, 2, 5)).astype(np.float32), "b": np.ones(4, np.float32)}
    x = torch.from_numpy(rng.normal(size=(2, 3, 6, 6)).astype(np.float32))

    def gradient(member: FlatMember) -> dict[str, torch.Tensor]:
        maps = torch.nn.functional.conv2d(x, member.leaves["w"], member.leaves["b"])
        return {n: v.clone() for n, v in member.views(member.gradient(maps.square().sum())).items()}

    plain, by_channel = (FlatMember(arrays, "cpu", channels_last=on) for on in (False, True))
    kernels = by_channel.values["w"]
    assert kernels.is_contiguous(memory_format=torch.channels_last)
    assert by_channel.flat[4 : 4 + 3].tolist() == arrays["w"][0, :, 0, 0].tolist()
    for name, array in arrays.items():
        kept = by_channel.arrays()[name]
        assert kept.tobytes() == array.tobytes() and kept.flags.c_contiguous
    found = gradient(by_channel)
    for name, value in gradient(plain).items():
        torch.testing.assert_close(found[name], value)
    # A move of the vector moves the kernels: the gradient lies in the same order.
    by_channel.flat.sub_(by_channel.gradients[0].flat)
    torch.testing.assert_close(kernels, torch.from_numpy(arrays["w"]) - found["w"])


@pytest.mark.parametrize("channels_last", [False, True])
def test_resnet50_is_trained_with_the_layout_that_it_states(channels_last, monkeypatch):
    layouts = []

    class Seen(FlatMember):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            layouts.append(self.values["w_1_2"].is_contiguous(memory_format=torch.channels_last))

    monkeypatch.setattr(apart_steps, "FlatMember", Seen)
    entry = dataclasses.replace(resnet50.ARCHITECTURE, channels_last=channels_last)
    monkeypatch.setattr(resnet50, "ARCHITECTURE", entry)
    settings = {"name": "multi_instance", "epsilon": 0.1, "max_epochs": 1, "batch_size": BATCH}
    method_of("multi_instance").train(
        parse_spec("method", settings, file="", prefix=""), "resnet50", SPEC, work()
    )
    assert layouts == [channels_last]
