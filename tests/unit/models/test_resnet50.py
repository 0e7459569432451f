"""ResNet-50 against MONAI's, with its own pooling and with drop-max written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrobust.core.errors import InputError
from medrobust.core.registry import parse_spec
from medrobust.models import batch_norm_resnet18, resnet50
from medrobust.models.engine import batch_normed, residual
from torch import nn

from tests.unit.models.residual_oracles import as_monai, images, loaded, monai_nets, moved, tensors

Spec = resnet50.Spec
#: Four stages, as MONAI's networks have, with few maps and blocks.
SMALL = {"stages": [2, 3, 4, 5], "blocks": [1, 2, 1, 2]}
GREY = {"mean": [0.3], "deviation": [0.4]}
CASES = [
    (Spec(**SMALL), (3, 64, 64)),
    (Spec(**SMALL, **GREY), (1, 33, 33)),
    (Spec(**SMALL, pooling="drop_max"), (3, 33, 33)),
    (Spec(**SMALL, **GREY, pooling="drop_max"), (1, 64, 64)),
]
each = pytest.mark.parametrize(
    ("spec", "shape"), CASES, ids=lambda case: getattr(case, "pooling", str(case))
)


class DropMax(nn.Module):
    """The second of the nine sorted values of each window, by PyTorch's functions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = x.shape[2]
        padded = nn.functional.pad(x, (1, 1, 1, 1), value=-torch.inf)
        columns = nn.functional.unfold(padded, 3, stride=2).view(*x.shape[:2], 9, -1)
        second = columns.sort(dim=2, descending=True).values[:, :, 1]
        return second.view(*x.shape[:2], (side + 1) // 2, -1)


class Scaled(nn.Module):
    """Subtracts the mean of each channel and divides by its deviation."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self._mean, self._deviation = (
            torch.tensor(values, dtype=torch.float64)[:, None, None]
            for values in (spec.mean, spec.deviation)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self._mean) / self._deviation


def monai_resnet(spec: Spec, channels: int, classes: int) -> nn.Module:
    module = monai_nets().ResNet(
        "bottleneck", spec.blocks, spec.stages, spatial_dims=2, n_input_channels=channels,
        num_classes=classes, conv1_t_size=7, conv1_t_stride=2, bias_downsample=False,
    )  # fmt: skip
    if spec.pooling == "drop_max":
        module.maxpool = DropMax()
    return module


def loaded_monai(spec: Spec, arrays: dict[str, np.ndarray], k: int) -> tuple[nn.Module, nn.Module]:
    """Returns MONAI's network, and the same after the scaling of the points."""
    module = monai_resnet(spec, arrays["w1"].shape[2], arrays["w_output"].shape[1])
    module = loaded(module, spec.network(), arrays, k)
    return module, nn.Sequential(Scaled(spec), module)


@each
def test_an_evaluated_network_equals_monais(spec, shape):
    arrays = moved(resnet50.initial_parameters(spec, shape, 3, [4, 5]))
    x = images(shape, 3)
    members = tensors(arrays, untrained=set(arrays))
    found = batch_normed.forward(spec, members, x.flatten(1))
    own = torch.stack([x, x.flip(0)])
    of_own = batch_normed.forward(spec, members, own.flatten(2))
    scores = resnet50.ARCHITECTURE.member_scores(spec, arrays, shape, 3, "cpu")
    folded = scores(x.numpy().astype(np.float32))
    for k in range(2):
        whole = loaded_monai(spec, arrays, k)[1].eval()
        expected = whole(x)
        torch.testing.assert_close(found[k], expected)
        torch.testing.assert_close(of_own[k], whole(own[k]))
        np.testing.assert_allclose(folded[k], expected.detach(), rtol=1e-4, atol=1e-4)


@each
@pytest.mark.parametrize("n", [1, 5])
def test_a_training_step_equals_monais(spec, shape, n):
    arrays = moved(resnet50.initial_parameters(spec, shape, 3, [4, 5]))
    members = tensors(arrays, untrained=resnet50.ARCHITECTURE.untrained)
    x = torch.stack([images(shape, n, seed=k) for k in range(2)])
    y = torch.arange(n) % 3
    logits = batch_normed.training_forward(spec, members, x.flatten(2))
    nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(2), reduction="sum").backward()
    for k in range(2):
        module, whole = loaded_monai(spec, arrays, k)
        expected = whole.train()(x[k])
        torch.testing.assert_close(logits[k], expected)
        nn.functional.cross_entropy(expected, y, reduction="sum").backward()
        gradients = {n: value.grad[k] for n, value in members.items() if value.requires_grad}
        for name, value in as_monai(spec.network(), gradients).items():
            torch.testing.assert_close(
                value, module.get_parameter(name).grad, atol=1e-7, rtol=1e-5, msg=name
            )
        values = {name: value[k].detach() for name, value in members.items()}
        after = as_monai(spec.network(), values)
        for name in (name for name in after if "running" in name):
            torch.testing.assert_close(after[name], module.get_buffer(name), msg=name)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_gradients_equal_monais(training):
    """As in a penalty on the gradient with respect to the points."""
    spec, shape = CASES[2]
    arrays = moved(resnet50.initial_parameters(spec, shape, 3, [4]))
    member = {
        name: value[0].detach().requires_grad_(name not in batch_normed.UNTRAINED)
        for name, value in tensors(arrays).items()
    }
    x, y = images(shape, 4), torch.arange(4) % 3

    def penalty(logits: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(logits, y)
        (slope,) = torch.autograd.grad(loss, points, create_graph=True)
        return slope.square().sum() + loss

    points = x.flatten(1).requires_grad_()
    own = (
        batch_normed.training_logits(spec, member, member, points) if training
        else batch_normed.logits(spec, member, points)
    )  # fmt: skip
    penalty(own, points).backward()
    module, whole = loaded_monai(spec, arrays, 0)
    for one in module.modules():
        if isinstance(one, nn.ReLU):
            one.inplace = False
    leaf = x.clone().requires_grad_()
    penalty(whole.train(training)(leaf), leaf).backward()
    gradients = {name: value.grad for name, value in member.items() if value.requires_grad}
    for name, value in as_monai(spec.network(), gradients).items():
        torch.testing.assert_close(
            value, module.get_parameter(name).grad, atol=1e-7, rtol=1e-5, msg=name
        )


def test_first_values_are_drawn_as_monai_draws_them():
    spec = Spec(stages=[16, 24, 32, 40], blocks=[1, 1, 2, 1])
    arrays = resnet50.initial_parameters(spec, (3, 64, 64), 5, [0])
    torch.manual_seed(0)
    drawn = monai_resnet(spec, 3, 5).state_dict()
    values = {name: torch.from_numpy(value[0]) for name, value in arrays.items()}
    ours = as_monai(spec.network(), values)
    for name, value in ours.items():
        expected = drawn[name].float()
        assert value.shape == expected.shape, name
        if expected.numel() == 1 or expected.std() == 0:
            torch.testing.assert_close(value, expected, msg=name)
            continue
        near = 6 / np.sqrt(value.numel())
        assert float(value.std()) == pytest.approx(float(expected.std()), rel=near), name
        largest = [float(v.abs().max() / v.std()) for v in (value, expected)]
        assert (largest[0] > 2) == (largest[1] > 2), name  # a normal distribution, or a uniform


def test_the_full_network_has_the_published_number_of_weights():
    """25,557,032 of ResNet-50 with 1,000 classes, in 53 convolutions and the output."""
    spec = Spec()
    network = spec.network()
    layers = [*residual.convolutions(network.blocks)]
    assert len(layers) == 52 and network.features() == 2048
    stem = 64 * 3 * 49
    kernels = stem + sum(one.before * one.after * one.width**2 for one in layers)
    maps = sum(network.maps().values())
    assert maps == 26_560
    assert kernels + 2 * maps + 2048 * 1000 + 1000 == 25_557_032
    small = resnet50.initial_parameters(Spec(stages=[2], blocks=[1]), (3, 9, 9), 4, [0])
    assert small["w_1_1"].shape == (1, 2, 2, 1, 1) and small["w_1_2"].shape == (1, 2, 2, 3, 3)
    assert small["w_1_3"].shape == small["w_1_skip"].shape == (1, 8, 2, 1, 1)


def test_the_stride_of_a_stage_is_in_its_first_convolution_of_width_3():
    """As torchvision and MONAI have it, not in the first one of width 1 (He et al.)."""
    for block in Spec().network().blocks:
        halves = block.stage > 0 and block.place == 0
        assert [layer.stride for layer in block.path] == [1, 2 if halves else 1, 1]
        assert (block.skip is not None) == (block.place == 0)


@pytest.mark.parametrize(("stages", "side"), [([2, 3, 4, 5], 32), ([4, 4], 8), ([4], 4)])
def test_the_smallest_image_it_takes_is_the_smallest_that_trains_alone(stages, side):
    spec = Spec(stages=stages, blocks=[1] * len(stages), mean=[0.0], deviation=[1.0])
    with pytest.raises(InputError, match=f"{side + 1} pixels a side"):
        resnet50.initial_parameters(spec, (1, side, side), 2, [0])
    arrays = resnet50.initial_parameters(spec, (1, side + 1, side + 1), 2, [0])
    members = tensors(arrays, untrained=batch_normed.UNTRAINED)
    batch_normed.training_forward(spec, members, images((1, (side + 1) ** 2), 1))
    with pytest.raises(ValueError, match="more than 1 value"):
        batch_normed.training_forward(spec, members, images((1, side**2), 1))


@each
def test_folding_and_winograds_convolutions_change_rounding_alone(spec, shape):
    arrays = moved(resnet50.initial_parameters(spec, shape, 3, [4, 5]))
    x = images(shape, 3)
    values = tensors(arrays, torch.float32, untrained=set(arrays))
    expected = batch_normed.forward(spec, values, x.flatten(1).float())
    found = batch_normed.member_scores(spec, arrays, shape, 3, "cpu")(x.numpy().astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_point_has_the_same_bytes_wherever_it_stands_in_a_block():
    spec, rows = Spec(**SMALL, pooling="drop_max"), resnet50.ARCHITECTURE.label_block
    arrays = moved(resnet50.initial_parameters(spec, (3, 40, 40), 2, [1, 2]))
    scores = batch_normed.member_scores(spec, arrays, (3, 40, 40), 2, "cpu")
    x = images((3, 40, 40), rows, torch.float32).numpy()
    order = np.random.default_rng(2).permutation(rows)
    assert scores(x[order]).tobytes() == scores(x)[:, order].tobytes()


def test_scaled_by_0_and_1_points_are_taken_as_they_are():
    plain = Spec(**SMALL, mean=[0.0, 0.0], deviation=[1.0, 1.0])
    shifted = Spec(**SMALL, mean=[0.5, 0.5], deviation=[0.25, 0.25])
    arrays = moved(resnet50.initial_parameters(plain, (2, 33, 33), 2, [1]))
    values = tensors(arrays, untrained=set(arrays))
    x = images((2, 33, 33), 2).flatten(1)
    torch.testing.assert_close(
        batch_normed.forward(shifted, values, x), batch_normed.forward(plain, values, 4 * x - 2)
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_are_refused_in_words(channels):
    for refuse in (resnet50.fits, lambda *a: resnet50.initial_parameters(*a, [1])):
        with pytest.raises(InputError) as caught:
            refuse(Spec(), (channels, 224, 224), 2)
        said = str(caught.value)
        assert "have 3 numbers" in said and f"these images have {channels} channels" in said
        assert "architecture.mean" in caught.value.where and caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blocks": [3, 4, 6]}, "one number for each of the 4 stages"),
        ({"blocks": [3, 4, 0, 3]}, "at least 1"),
        ({"stages": [64, 128, 256, -512]}, "at least 1"),
        ({"mean": [0.5]}, "not 1 and 3"),
        ({"mean": []}, "at least 1 item"),
        ({"mean": [0.5], "deviation": [0.0]}, "above 0"),
        ({"mean": [0.5], "deviation": [float("nan")]}, "above 0"),
        ({"mean": [float("inf")], "deviation": [1.0]}, "finite"),
        ({"pooling": "dropmax"}, "Did you mean 'drop_max'"),
        ({"stage": [64]}, "Did you mean 'stages'"),
    ],
)
def test_wrong_settings_are_refused_in_words(changes, said):
    with pytest.raises(InputError) as caught:
        parse_spec("architecture", {"name": "resnet50", **changes}, file="f.yaml", prefix="a")
    assert said in str(caught.value) and "f.yaml" in str(caught.value)


@pytest.mark.parametrize("pooling", ["max", "drop_max"])
def test_the_size_of_a_member_is_told_without_drawing_it(pooling):
    for stages, blocks, channels, classes in (
        ([64, 128, 256, 512], [3, 4, 6, 3], 3, 2),
        ([4, 8], [2, 1], 1, 5),
    ):
        scaled = {"mean": [0.0] * channels, "deviation": [1.0] * channels}
        spec = resnet50.Spec(stages=stages, blocks=blocks, pooling=pooling, **scaled)
        drawn = resnet50.initial_parameters(spec, (channels, 64, 64), classes, [0])
        told = resnet50.ARCHITECTURE.member_bytes(spec, (channels, 64, 64), classes)
        assert told == sum(array.nbytes for array in drawn.values())


def test_the_size_of_a_member_has_the_biases_of_its_shortcuts():
    spec = batch_norm_resnet18.Spec(stages=[4, 8, 8])
    drawn = batch_norm_resnet18.initial_parameters(spec, (1, 64, 64), 3, [0])
    told = batch_norm_resnet18.ARCHITECTURE.member_bytes(spec, (1, 64, 64), 3)
    assert told == sum(array.nbytes for array in drawn.values())
    assert any(name.startswith("b_") and "skip" in name for name in drawn)
