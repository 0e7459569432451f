"""The networks of ima: against PyTorch's layers; gradients with respect to points by autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrobust.core.errors import InputError
from medrobust.models import instance_norm_cnn, layer_norm_mlp, resnet18
from medrobust.models.ensembles import build_ensemble
from torch import nn

Conv = instance_norm_cnn.Convolution

FASHION = instance_norm_cnn.Spec(
    convolutions=[
        Conv(channels=64, kernel=5, stride=2, padding=2),
        Conv(channels=128, kernel=5, stride=2, padding=2),
        Conv(channels=256, kernel=5, stride=2, padding=2),
        Conv(channels=512, kernel=4),
    ]
)
SVHN = instance_norm_cnn.Spec(
    convolutions=[
        Conv(channels=32, kernel=3, padding=1),
        Conv(channels=32, kernel=3, stride=2, padding=1),
        Conv(channels=64, kernel=3, padding=1),
        Conv(channels=64, kernel=3, stride=2, padding=1),
        Conv(channels=128, kernel=3, padding=1),
        Conv(channels=128, kernel=3, stride=2, padding=1),
        Conv(channels=256, kernel=4),
    ]
)
SMALL = resnet18.Spec(stages=[4, 6, 8, 10])


def moons_reference() -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 32), nn.LeakyReLU(),
        nn.Linear(32, 64), nn.LayerNorm(64), nn.LeakyReLU(),
        nn.Linear(64, 128), nn.LayerNorm(128), nn.LeakyReLU(),
        nn.Linear(128, 2),
    )  # fmt: skip


def fashion_reference() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 64, 5, 2, 2), nn.LeakyReLU(),
        nn.Conv2d(64, 128, 5, 2, 2), nn.InstanceNorm2d(128), nn.LeakyReLU(),
        nn.Conv2d(128, 256, 5, 2, 2), nn.InstanceNorm2d(256), nn.LeakyReLU(),
        nn.Conv2d(256, 512, 4, 1, 0), nn.Flatten(), nn.LayerNorm(512), nn.LeakyReLU(),
        nn.Linear(512, 10),
    )  # fmt: skip


def svhn_reference() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (3, 32, 32)),
        nn.Conv2d(3, 32, 3, 1, 1), nn.LeakyReLU(),
        nn.Conv2d(32, 32, 3, 2, 1), nn.InstanceNorm2d(32), nn.LeakyReLU(),
        nn.Conv2d(32, 64, 3, 1, 1), nn.InstanceNorm2d(64), nn.LeakyReLU(),
        nn.Conv2d(64, 64, 3, 2, 1), nn.InstanceNorm2d(64), nn.LeakyReLU(),
        nn.Conv2d(64, 128, 3, 1, 1), nn.InstanceNorm2d(128), nn.LeakyReLU(),
        nn.Conv2d(128, 128, 3, 2, 1), nn.InstanceNorm2d(128), nn.LeakyReLU(),
        nn.Conv2d(128, 256, 4, 1, 0), nn.Flatten(), nn.LayerNorm(256), nn.LeakyReLU(),
        nn.Linear(256, 10),
    )  # fmt: skip


class Block(nn.Module):
    """The basic block of He et al. (2016), Figure 5 left, normalised map by map."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(after, after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.GroupNorm(after, after)
        self.skip = nn.Identity()
        if stride > 1:
            skip = nn.Conv2d(before, after, 1, stride, bias=False)
            self.skip = nn.Sequential(skip, nn.GroupNorm(after, after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inside)) + self.skip(x))


class ToUnit(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5) / 0.5


def resnet_reference(stages: list[int], side: int, outputs: int) -> nn.Module:
    blocks, before = [], stages[0]
    for number, after in enumerate(stages):
        blocks += [Block(before, after, 1 + (number > 0)), Block(after, after, 1)]
        before = after
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)), ToUnit(),
        nn.Conv2d(1, stages[0], 7, 2, 3, bias=False), nn.GroupNorm(stages[0], stages[0]),
        nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs),
    )  # fmt: skip


CASES = {
    "moons": (layer_norm_mlp, layer_norm_mlp.Spec(), (2,), 2, moons_reference),
    "fashion": (instance_norm_cnn, FASHION, (1, 28, 28), 10, fashion_reference),
    "svhn": (instance_norm_cnn, SVHN, (3, 32, 32), 10, svhn_reference),
    "resnet": (resnet18, SMALL, (1, 64, 64), 2, lambda: resnet_reference(SMALL.stages, 64, 2)),
}
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def member_of(case, dtype=torch.float64) -> dict[str, torch.Tensor]:
    """One member whose normalisations have scales and shifts of their own."""
    module, spec, shape, classes, _ = case
    rng = np.random.default_rng(0)
    member = {}
    for name, value in module.initial_parameters(spec, shape, classes, [3]).items():
        noise = rng.normal(0, 0.2, value[0].shape) if name.startswith("s") else 0
        member[name] = torch.from_numpy(value[0] + noise).to(dtype).requires_grad_()
    return member


def points(case, n: int, dtype=torch.float64) -> torch.Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.random((n, int(np.prod(case[2]))))).to(dtype)


def loaded(case, member) -> nn.Module:
    """The reference with the member's values, taken in the order of the layers."""
    net = case[4]().to(next(iter(member.values())).dtype)
    weights = iter([v for name, v in member.items() if name.startswith("w")])
    biases = iter([v for name, v in member.items() if name.startswith("b")])
    scales = iter([v for name, v in member.items() if name.startswith("scale")])
    shifts = iter([v for name, v in member.items() if name.startswith("shift")])
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.GroupNorm | nn.LayerNorm):
                layer.weight.copy_(next(scales))
                layer.bias.copy_(next(shifts))
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.copy_(next(weights))
                if layer.bias is not None:
                    layer.bias.copy_(next(biases))
    for rest in (weights, biases, scales, shifts):
        assert next(rest, None) is None
    return net


@each
def test_logits_equal_pytorchs_layers(case):
    module, spec, _, classes, _ = case
    member, x = member_of(case), points(case, 3)
    expected = loaded(case, member)(x)
    assert expected.shape == (3, classes)
    torch.testing.assert_close(module.logits(spec, member, x), expected)
    torch.testing.assert_close(module.logits_and_pattern(spec, member, x)[0], expected)
    stacked = {name: torch.stack([value, 1.5 * value]) for name, value in member.items()}
    both = module.forward(spec, stacked, x)
    torch.testing.assert_close(both[0], expected)
    torch.testing.assert_close(module.forward(spec, stacked, x.expand(2, *x.shape)), both)
    assert not torch.allclose(both[1], expected)


@each
@pytest.mark.parametrize("recorded", [True, False], ids=["in a graph", "alone"])
def test_slopes_pulled_back_equal_autograd(case, recorded):
    module, spec, _, classes, _ = case
    member, x = member_of(case), points(case, 3)
    slopes = torch.from_numpy(np.random.default_rng(5).normal(size=(3, classes)))
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad((loaded(case, member)(leaf) * slopes).sum(), leaf)
    with torch.set_grad_enabled(recorded):
        _, pattern = module.logits_and_pattern(spec, member, x)
        found = module.pull_back(spec, member, pattern, slopes)
    torch.testing.assert_close(found, expected)
    assert found.requires_grad == recorded


@each
def test_several_functions_and_gradients_of_their_slopes(case):
    module, spec, _, classes, _ = case
    member, x = member_of(case), points(case, 2)
    net = loaded(case, member)
    leaf = x.clone().requires_grad_()
    logits = net(leaf)
    wanted = [torch.autograd.grad(logits[:, k].sum(), leaf, create_graph=True)[0] for k in range(2)]
    _, pattern = module.logits_and_pattern(spec, member, x)
    rows = torch.eye(classes, dtype=x.dtype)[:2, None, :]
    found = module.pull_back(spec, member, pattern, rows)
    torch.testing.assert_close(found, torch.stack(wanted))
    first = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    (expected,) = torch.autograd.grad(torch.stack(wanted).square().sum(), first.weight)
    (got,) = torch.autograd.grad(found.square().sum(), member["w1"])
    torch.testing.assert_close(got, expected)


@each
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_ensembles_give_the_gradients_of_pytorchs_layers(case, loss):
    module, spec, shape, classes, _ = case
    member, x = member_of(case), points(case, 3)
    y = torch.tensor([0, classes - 1, 1])
    leaf = x.clone().requires_grad_()
    logits = loaded(case, member)(leaf)
    if loss == "cross_entropy":
        total = nn.functional.cross_entropy(logits, y, reduction="sum")
    else:
        others = logits.masked_fill(nn.functional.one_hot(y, classes).bool(), -np.inf)
        total = (others.amax(dim=1) - logits.gather(1, y[:, None])[:, 0]).sum()
    (expected,) = torch.autograd.grad(total, leaf)
    arrays = {k: v.detach().numpy()[None].astype(np.float32) for k, v in member.items()}
    model = build_ensemble(
        module.__name__.rsplit(".")[-1], spec, [arrays], vote="soft", input_shape=shape,
        n_classes=classes, input_range=(0.0, 1.0),
    )  # fmt: skip
    assert model.has_gradients
    rows = x.numpy().astype(np.float32).reshape(3, *shape)
    found, slopes = model.loss_gradients(rows, y.numpy(), loss)
    assert slopes.shape == rows.shape
    np.testing.assert_allclose(found, logits.detach(), rtol=1e-4, atol=1e-4)
    largest = float(expected.abs().max())
    np.testing.assert_allclose(slopes.reshape(3, -1), expected, atol=1e-4 * largest)
    np.testing.assert_array_equal(model.predict(rows), logits.argmax(dim=1))


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_one_output_has_the_gradient_of_two(loss):
    """Logits 0 and z: the loss is the binary cross-entropy, or z and its negative."""
    spec = SMALL.model_copy(update={"outputs": "one"})
    case = (resnet18, spec, (1, 64, 64), 2, None)
    member, x = member_of(case), points(case, 2)
    leaf = x.clone().requires_grad_()
    z = loaded((*case[:4], lambda: resnet_reference(SMALL.stages, 64, 1)), member)(leaf)[:, 0]
    if loss == "cross_entropy":
        target = torch.tensor([0.0, 1.0], dtype=z.dtype)
        total = nn.functional.binary_cross_entropy_with_logits(z, target, reduction="sum")
    else:
        total = z[0] - z[1]
    (expected,) = torch.autograd.grad(total, leaf)
    arrays = {k: v.detach().numpy()[None].astype(np.float32) for k, v in member.items()}
    model = build_ensemble(
        "resnet18", spec, [arrays], vote="soft", input_shape=(1, 64, 64), n_classes=2,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    rows = x.numpy().astype(np.float32).reshape(2, 1, 64, 64)
    _, slopes = model.loss_gradients(rows, np.array([0, 1]), loss)
    largest = float(expected.abs().max())
    np.testing.assert_allclose(slopes.reshape(2, -1), expected, atol=1e-4 * largest)


def test_a_query_of_large_images_computes_a_small_block(monkeypatch):
    """Padding is computed like any row: a block of 64 images for one label would take seconds."""
    arrays = resnet18.initial_parameters(SMALL, (1, 64, 64), 2, [1])
    seen, forward = [], resnet18.forward
    monkeypatch.setattr(
        resnet18, "forward", lambda spec, p, x: seen.append(x.shape[-2]) or forward(spec, p, x)
    )
    model = build_ensemble(
        "resnet18", SMALL, [arrays], vote="soft", input_shape=(1, 64, 64), n_classes=2,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    rows = np.random.default_rng(0).random((5, 1, 64, 64), dtype=np.float32)
    one, all_rows = model.predict(rows[:1]), model.predict(rows)
    block = resnet18.ARCHITECTURE.label_block
    assert seen == [block] * 3 and block <= 8
    assert one[0] == all_rows[0]


@each
def test_first_values(case):
    """Uniform in +-1/sqrt(fan in), as PyTorch draws them; ResNet's blocks as He et al. do."""
    module, spec, shape, classes, _ = case
    arrays = module.initial_parameters(spec, shape, classes, [1, 2])
    again = module.initial_parameters(spec, shape, classes, [2])
    for name, value in arrays.items():
        assert value.dtype == np.float32 and np.array_equal(value[1], again[name][0])
        if name.startswith("scale"):
            assert (value == 1).all()
        elif name.startswith("shift"):
            assert (value == 0).all()
        elif name.startswith("w_") and name != "w_output":
            spread = np.sqrt(2 / np.prod([value.shape[1], *value.shape[3:]]))
            assert value.std() == pytest.approx(spread, rel=0.25)
            assert abs(value).max() > 1.8 * spread
        elif name.startswith("w"):
            bound = 1 / np.sqrt(np.prod(value.shape[2:]))
            assert 0.8 * bound < abs(value).max() <= bound
        assert name.startswith("s") or not np.array_equal(value[0], value[1])


def test_full_resnet18_has_the_published_number_of_weights():
    """11,176,512 of ResNet-18 without its output, less two input channels of the first kernels."""
    arrays = resnet18.initial_parameters(resnet18.Spec(), (1, 224, 224), 2, [0])
    assert sum(value[0].size for value in arrays.values()) == 11_176_512 - 2 * 64 * 49 + 513 * 2


def test_one_output_is_the_logit_of_class_1():
    case = (resnet18, SMALL.model_copy(update={"outputs": "one"}), (1, 40, 40), 2, None)
    member, x = member_of(case), points(case, 3)
    found = resnet18.logits(case[1], member, x)
    net = loaded((*case[:4], lambda: resnet_reference(SMALL.stages, 40, 1)), member)
    torch.testing.assert_close(found[:, 1:], net(x))
    assert (found[:, 0] == 0).all()


def test_scaled_maps_are_those_of_pytorch():
    spec = FASHION.model_copy(update={"scaled_maps": True})
    case = (instance_norm_cnn, spec, (1, 28, 28), 10, None)

    def reference() -> nn.Module:
        layers = list(fashion_reference().children())
        affine = [
            nn.InstanceNorm2d(layer.num_features, affine=True)
            if isinstance(layer, nn.InstanceNorm2d)
            else layer
            for layer in layers
        ]
        return nn.Sequential(*affine)

    member, x = member_of(case), points(case, 2)
    net = reference().double()
    scales = [layer for layer in net.modules() if isinstance(layer, nn.InstanceNorm2d)]
    with torch.no_grad():
        for k, layer in enumerate(scales, start=2):
            layer.weight.copy_(member[f"scale{k}"])
            layer.bias.copy_(member[f"shift{k}"])
    rest = {n: v for n, v in member.items() if n not in ("scale2", "shift2", "scale3", "shift3")}
    filled = loaded((*case[:4], lambda: net), rest)
    torch.testing.assert_close(instance_norm_cnn.logits(spec, member, x), filled(x))


@each
def test_an_ensemble_scores_points_as_the_network_does(case):
    module, spec, shape, classes, _ = case
    arrays = module.initial_parameters(spec, shape, classes, [1])
    ensemble = build_ensemble(
        {v: k for k, v in NAMES.items()}[module], spec, [arrays], vote="soft",
        input_shape=shape, n_classes=classes, input_range=(0.0, 1.0),
    )  # fmt: skip
    x = points(case, 3, torch.float32)
    member = {name: torch.from_numpy(value[0]) for name, value in arrays.items()}
    expected = module.logits(spec, member, x)
    found = ensemble.member_scores(x.numpy().reshape(3, *shape))
    np.testing.assert_allclose(found[0], expected.numpy(), atol=1e-5)


NAMES = {
    "layer_norm_mlp": layer_norm_mlp,
    "instance_norm_cnn": instance_norm_cnn,
    "resnet18": resnet18,
}


ONE_PIXEL = instance_norm_cnn.Spec(
    convolutions=[
        {"channels": 4, "kernel": 5, "stride": 3},
        {"channels": 4, "kernel": 3, "stride": 3},
        {"channels": 4, "kernel": 2},
        {"channels": 4, "kernel": 1},
    ]
)


@pytest.mark.parametrize("stages", [[4], [4, 6], [4, 6, 8], [4, 6, 8, 10]])
def test_the_smallest_image_that_resnet18_takes_is_the_smallest_that_it_tells_apart(stages):
    """Of a smaller one, the last stage leaves one pixel, and normalisation nothing of that."""
    spec, side = resnet18.Spec(stages=stages), {1: 2, 2: 8, 3: 16, 4: 32}[len(stages)]
    with pytest.raises(InputError, match=f"{side + 1} pixels a side"):
        resnet18.initial_parameters(spec, (1, side, side), 2, [0])
    arrays = resnet18.initial_parameters(spec, (1, side + 1, side + 1), 2, [0])
    member = {name: torch.from_numpy(value[0]) for name, value in arrays.items()}
    distances = []
    for pixels in (side, side + 1):
        draws = torch.Generator().manual_seed(0)
        found = resnet18.logits(spec, member, torch.rand(9, pixels**2, generator=draws))
        distances.append(float(found.std(dim=0).max()))
    assert distances[0] < 1e-4 < 1e-2 < distances[1]  # rounding errors of the one pixel


@pytest.mark.parametrize(
    ("module", "spec", "shape", "classes", "text"),
    [
        (instance_norm_cnn, FASHION, (187,), 5, r"larger square images.*\[187\]"),
        (instance_norm_cnn, FASHION, (1, 28, 27), 5, "larger square images"),
        (instance_norm_cnn, SVHN, (3, 24, 24), 5, "larger square images"),
        (instance_norm_cnn, ONE_PIXEL, (1, 28, 28), 5, r"convolution 3 leaves less than 2 x 2"),
        (resnet18, SMALL, (1, 32, 32), 2, "33 pixels a side"),
        (resnet18, SMALL.model_copy(update={"outputs": "one"}), (1, 40, 40), 3, "two classes"),
    ],
)
def test_data_that_do_not_fit_are_refused(module, spec, shape, classes, text):
    with pytest.raises(InputError, match=text):
        module.initial_parameters(spec, shape, classes, [0])
