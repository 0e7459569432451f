"""The image networks of signnet: LeNet against PyTorch's layers, ResNet-18 against MONAI's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from medrobust.core.errors import InputError
from medrobust.core.registry import parse_spec
from medrobust.models import batch_norm_resnet18, lenet
from medrobust.models.contract import architecture_of
from medrobust.models.ensembles import build_ensemble
from medrobust.training.contract import method_of
from medrobust.training.engine.work import Trained, Work
from torch import nn

from tests.unit.models.residual_oracles import as_monai, images, loaded, monai_nets, moved, tensors

Resnet = batch_norm_resnet18.Spec
#: MONAI's network with a sixteenth of the maps.
SMALL = [4, 8, 16, 32]
STEMS = {
    "imagenet": {"conv1_t_size": 7, "conv1_t_stride": 2},
    "cifar": {"conv1_t_size": 3, "no_max_pool": True},
}


# LeNet.


def lenet_reference(channels: int, side: int, classes: int) -> nn.Sequential:
    """LeNet_celeba of the code of signnet, layer by layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * (side // 4) ** 2, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, classes),
    )  # fmt: skip


def loaded_lenet(arrays: dict[str, np.ndarray], k: int, side: int) -> nn.Sequential:
    channels, classes = arrays["w1"].shape[2], arrays["w5"].shape[1]
    module = lenet_reference(channels, side, classes).double()
    weighted = [layer for layer in module if hasattr(layer, "weight")]
    with torch.no_grad():
        for layer, own in enumerate(weighted, start=1):
            own.weight.copy_(torch.from_numpy(arrays[f"w{layer}"][k]))
            own.bias.copy_(torch.from_numpy(arrays[f"b{layer}"][k]))
    return module


@pytest.mark.parametrize("shape", [(3, 96, 96), (1, 28, 28), (2, 19, 19), (1, 4, 4)], ids=str)
def test_lenet_equals_pytorchs_layers(shape):
    arrays = moved(lenet.initial_parameters(lenet.Spec(), shape, 3, [0, 1]))
    members, x, y = tensors(arrays), images(shape, 4), torch.tensor([0, 1, 2, 0])
    rows = x.flatten(1)
    shared = lenet.forward(lenet.Spec(), members, rows)
    logits = lenet.forward(lenet.Spec(), members, rows.expand(2, *rows.shape))
    torch.testing.assert_close(shared, logits)
    nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(2), reduction="sum").backward()
    for k in range(2):
        module = loaded_lenet(arrays, k, shape[1])
        expected = module(x)
        torch.testing.assert_close(logits[k], expected)
        nn.functional.cross_entropy(expected, y, reduction="sum").backward()
        weighted = [layer for layer in module if hasattr(layer, "weight")]
        for layer, own in enumerate(weighted, start=1):
            torch.testing.assert_close(members[f"w{layer}"].grad[k], own.weight.grad)
            torch.testing.assert_close(members[f"b{layer}"].grad[k], own.bias.grad)


def test_lenets_first_values_spread_as_pytorchs_initialisers_spread_them():
    arrays = lenet.initial_parameters(lenet.Spec(), (3, 96, 96), 2, [0, 1, 2])
    assert arrays["w3"].shape == (3, 120, 16 * 24 * 24)
    torch.manual_seed(0)
    for layer in range(1, 6):
        like = torch.empty(arrays[f"w{layer}"].shape[1:])
        if layer <= 2:
            nn.init.kaiming_normal_(like, mode="fan_out")
        else:
            nn.init.xavier_normal_(like)
        values = arrays[f"w{layer}"]
        assert values.std() == pytest.approx(float(like.std()), rel=5 / np.sqrt(like.numel()))
        assert abs(values).max() > 2 * values.std()  # normal, not uniform
        assert not arrays[f"b{layer}"].any()


# ResNet-18.


def monai_resnet(spec: Resnet, channels: int, classes: int) -> nn.Module:
    return monai_nets().resnet18(
        spatial_dims=2, n_input_channels=channels, num_classes=classes,
        widen_factor=spec.stages[0] / 64, **STEMS[spec.stem],
    )  # fmt: skip


def loaded_monai(spec: Resnet, arrays: dict[str, np.ndarray], k: int) -> nn.Module:
    module = monai_resnet(spec, arrays["w1"].shape[2], arrays["w_output"].shape[1])
    return loaded(module, spec.network(), arrays, k)


CASES = [
    (Resnet(stages=SMALL), (3, 64, 64)),
    (Resnet(stages=SMALL), (1, 33, 33)),
    (Resnet(stages=SMALL, stem="cifar"), (3, 32, 32)),
    (Resnet(stages=SMALL, stem="cifar"), (2, 9, 9)),
]
each = pytest.mark.parametrize(("spec", "shape"), CASES, ids=lambda case: str(case)[:60])


@each
def test_an_evaluated_resnet_equals_monais(spec, shape):
    arrays = moved(batch_norm_resnet18.initial_parameters(spec, shape, 3, [4, 5]))
    x = images(shape, 3)
    found = batch_norm_resnet18.forward(spec, tensors(arrays, untrained=set(arrays)), x.flatten(1))
    model = build_ensemble(
        "batch_norm_resnet18", spec, [arrays], vote="majority", input_shape=shape, n_classes=3,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    scores = model.member_scores(x.numpy())
    for k in range(2):
        expected = loaded_monai(spec, arrays, k).eval()(x)
        torch.testing.assert_close(found[k], expected)
        np.testing.assert_allclose(scores[k], expected.detach(), rtol=1e-4, atol=1e-4)


@each
@pytest.mark.parametrize("n", [1, 5])
def test_a_training_step_of_resnet_equals_monais(spec, shape, n):
    arrays = moved(batch_norm_resnet18.initial_parameters(spec, shape, 3, [4, 5]))
    members = tensors(arrays, untrained=batch_norm_resnet18.ARCHITECTURE.untrained)
    x = torch.stack([images(shape, n, seed=k) for k in range(2)])
    y = torch.arange(n) % 3
    logits = batch_norm_resnet18.training_forward(spec, members, x.flatten(2))
    nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(2), reduction="sum").backward()
    for k in range(2):
        module = loaded_monai(spec, arrays, k).train()
        expected = module(x[k])
        torch.testing.assert_close(logits[k], expected)
        nn.functional.cross_entropy(expected, y, reduction="sum").backward()
        gradients = {n: value.grad[k] for n, value in members.items() if value.requires_grad}
        for name, value in as_monai(spec.network(), gradients).items():
            torch.testing.assert_close(
                value, module.get_parameter(name).grad, atol=1e-7, rtol=1e-5, msg=name
            )
        after = as_monai(
            spec.network(), {name: value[k].detach() for name, value in members.items()}
        )
        for name in (name for name in after if "running" in name):
            torch.testing.assert_close(after[name], module.get_buffer(name), msg=name)


def test_resnets_first_values_are_drawn_as_monai_draws_them():
    spec = Resnet()
    arrays = batch_norm_resnet18.initial_parameters(spec, (3, 96, 96), 2, [0])
    torch.manual_seed(0)
    drawn = monai_resnet(spec, 3, 2).state_dict()
    ours = as_monai(
        spec.network(), {name: torch.from_numpy(value[0]) for name, value in arrays.items()}
    )
    for name, value in ours.items():
        expected = drawn[name].float()
        assert value.shape == expected.shape, name
        if value.numel() < 200 or expected.std() == 0:
            torch.testing.assert_close(value.std() == 0, expected.std() == 0, msg=name)
            if expected.std() == 0:
                torch.testing.assert_close(value, expected, msg=name)
            continue
        near = 6 / np.sqrt(value.numel())
        assert float(value.std()) == pytest.approx(float(expected.std()), rel=near), name
        # Largest in spreads: 1.7 of a uniform, 3 and more of a normal distribution.
        largest = [float(v.abs().max() / v.std()) for v in (value, expected)]
        assert (largest[0] > 2) == (largest[1] > 2), name


def test_full_resnet18_has_the_published_number_of_weights():
    """11,689,512 of ResNet-18 with 1,000 classes; MONAI's shortcuts have 896 biases more."""
    spec = Resnet()
    arrays = batch_norm_resnet18.initial_parameters(spec, (3, 224, 224), 1000, [0])
    trained = sum(v[0].size for name, v in arrays.items() if name not in ("mean", "variance"))
    assert trained == 11_689_512 + 128 + 256 + 512
    assert arrays["mean"].shape == arrays["variance"].shape == (1, 4800)


@pytest.mark.parametrize(
    ("spec", "side"),
    [(Resnet(), 32), (Resnet(stem="cifar"), 8), (Resnet(stages=[4]), 4),
     (Resnet(stages=[4], stem="cifar"), 1)],
)  # fmt: skip
def test_the_smallest_image_that_resnet_takes_is_the_smallest_that_trains_alone(spec, side):
    small = spec.model_copy(update={"stages": SMALL[: len(spec.stages)]})
    with pytest.raises(InputError, match=f"{side + 1} pixels a side"):
        batch_norm_resnet18.initial_parameters(small, (1, side, side), 2, [0])
    arrays = batch_norm_resnet18.initial_parameters(small, (1, side + 1, side + 1), 2, [0])
    members = tensors(arrays, untrained={"mean", "variance"})
    batch_norm_resnet18.training_forward(small, members, images((1, (side + 1) ** 2), 1))
    with pytest.raises(ValueError, match="more than 1 value"):
        batch_norm_resnet18.training_forward(small, members, images((1, side**2), 1))


@each
def test_folding_and_winograds_convolutions_change_rounding_alone(spec, shape):
    arrays = moved(batch_norm_resnet18.initial_parameters(spec, shape, 3, [4, 5]))
    x = images(shape, 3)
    values = tensors(arrays, torch.float32, untrained=set(arrays))
    expected = batch_norm_resnet18.forward(spec, values, x.flatten(1).float())
    scores = batch_norm_resnet18.member_scores(spec, arrays, shape, 3, "cpu")
    found = scores(x.numpy().astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_point_of_resnet_has_the_same_bytes_wherever_it_stands_in_a_block():
    spec, rows = Resnet(stages=SMALL), batch_norm_resnet18.ARCHITECTURE.label_block
    arrays = moved(batch_norm_resnet18.initial_parameters(spec, (3, 40, 40), 2, [1, 2]))
    scores = batch_norm_resnet18.member_scores(spec, arrays, (3, 40, 40), 2, "cpu")
    x = images((3, 40, 40), rows, torch.float32).numpy()
    order = np.random.default_rng(2).permutation(rows)
    assert scores(x[order]).tobytes() == scores(x)[:, order].tobytes()


def test_a_point_of_lenet_has_the_same_bytes_wherever_it_stands_in_a_block():
    rows = lenet.ARCHITECTURE.label_block
    # More members than share a convolution, and more images than are computed at a time.
    seeds = list(range(lenet.GROUP + 3))
    assert rows > lenet.IMAGES
    arrays = moved(lenet.initial_parameters(lenet.Spec(), (3, 24, 24), 2, seeds))
    scores = lenet.member_scores(lenet.Spec(), arrays, (3, 24, 24), 2, "cpu")
    x = images((3, 24, 24), rows, torch.float32).numpy()
    order = np.random.default_rng(2).permutation(rows)
    whole = scores(x)
    assert scores(x[order]).tobytes() == whole[:, order].tobytes()
    for k in range(len(seeds)):
        expected = loaded_lenet(arrays, k, 24)(torch.from_numpy(x).double()).detach()
        np.testing.assert_allclose(whole[k], expected, rtol=1e-4, atol=1e-5)


# Training.

NETWORKS = {
    "lenet": (lenet.Spec(), (3, 12, 12)),
    "batch_norm_resnet18": (Resnet(stages=[4, 6], stem="cifar"), (2, 9, 9)),
}
network = pytest.mark.parametrize("name", NETWORKS)


class Interrupted(Exception):
    pass


class Kept:
    """A checkpoint in memory, which interrupts the job when it has saved ``most`` times."""

    def __init__(self, most: int | None = None) -> None:
        self.saved, self._left = None, most

    def save(self, arrays, info) -> None:
        self.saved = ({name: value.copy() for name, value in arrays.items()}, {**info})
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._left = None
                raise Interrupted

    def load(self):
        return self.saved


def trained(name: str, members: list[int], *, epochs: int = 3, checkpoint=None) -> Trained:
    spec, shape = NETWORKS[name]
    random = np.random.default_rng(3)
    y = np.arange(21) % 2
    x = (random.random((21, *shape)) + 0.4 * y.reshape(-1, 1, 1, 1)).astype(np.float32)
    values = {"learning_rate": 0.003, "batch_size": 8, "max_epochs": epochs}
    values |= {"name": "adam_cross_entropy"}
    method = parse_spec("method", values, file="test", prefix="method")
    work = Work(x, y, 2, members, [m + 11 for m in members])
    work = dataclasses.replace(work, checkpoint=checkpoint)
    return method_of("adam_cross_entropy").train(method, name, spec, work)


@network
def test_members_train_together_as_each_does_alone(name):
    together = trained(name, [0, 1, 2])
    for k in range(3):
        alone = trained(name, [k])
        assert alone.history[0] == together.history[k]
        for key, value in alone.parameters.items():
            assert value[0].tobytes() == together.parameters[key][k].tobytes(), key
    untrained = architecture_of(name).untrained
    starts = architecture_of(name).initial_parameters(*NETWORKS[name], 2, [11, 12, 13])
    assert all((starts[key] != together.parameters[key]).any() for key in starts)
    assert untrained == ({"mean", "variance"} if "resnet" in name else set())


@network
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(name, monkeypatch):
    from medrobust.training.engine import loop

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole, kept = trained(name, [0, 1]), Kept(most=2)
    with pytest.raises(Interrupted):
        trained(name, [0, 1], checkpoint=kept)
    assert kept.saved[1]["epoch"] == 2
    resumed = trained(name, [0, 1], checkpoint=kept)
    for key, value in whole.parameters.items():
        assert value.tobytes() == resumed.parameters[key].tobytes(), key
    assert resumed.history == whole.history
