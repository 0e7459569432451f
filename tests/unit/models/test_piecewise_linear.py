"""The networks of nsr: against PyTorch's layers; gradients with respect to points by autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrobust.core.errors import InputError
from medrobust.models import kachuee_cnn, relu_mlp
from medrobust.models.ensembles import build_ensemble
from torch import nn

NAMES = {"relu_mlp": relu_mlp, "kachuee_cnn": kachuee_cnn}
both = pytest.mark.parametrize("module", NAMES.values(), ids=NAMES)


class Block(nn.Module):
    """As the protocol lists it: conv, relu, conv, + skip, relu, pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, channels, 5, padding=2)
        self.second = nn.Conv1d(channels, channels, 5, padding=2)
        self.pool = nn.MaxPool1d(5, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(torch.relu(self.second(torch.relu(self.first(x))) + x))


def reference(module, member: dict[str, torch.Tensor]) -> nn.Sequential:
    """The network built of PyTorch's layers."""
    if module is relu_mlp:
        net = nn.Sequential(
            nn.Linear(187, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
            nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32), nn.Linear(32, 5),
        )  # fmt: skip
    else:
        net = nn.Sequential(
            nn.Unflatten(1, (1, 187)), nn.Conv1d(1, 32, 5, padding=2),
            *[Block(32) for _ in range(5)],
            nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5),
        )  # fmt: skip
    net.to(member["w1"].dtype)
    layers = [layer for layer in net.modules() if hasattr(layer, "weight")]
    assert len(layers) == sum(name.startswith("w") for name in member)
    with torch.no_grad():
        for k, layer in enumerate(layers, start=1):
            layer.weight.copy_(member[f"w{k}"])
            layer.bias.copy_(member.get(f"b{k}", torch.zeros_like(layer.bias)))
    return net


def member_of(module, *, bias: bool = True, dtype=torch.float64) -> dict[str, torch.Tensor]:
    arrays = module.initial_parameters(module.Spec(bias=bias), (187,), 5, [3])
    rng = np.random.default_rng(0)
    member = {}
    for name, value in arrays.items():
        noise = rng.normal(0, 0.2, value.shape[1:]) if name.startswith("b") else 0
        member[name] = torch.from_numpy(value[0] + noise).to(dtype).requires_grad_()
    return member


def points(n: int, dtype=torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).random((n, 187))).to(dtype)


@both
@pytest.mark.parametrize("bias", [True, False])
def test_logits_equal_pytorchs_layers(module, bias):
    member, x = member_of(module, bias=bias), points(7)
    spec = module.Spec(bias=bias)
    expected = reference(module, member)(x)
    torch.testing.assert_close(module.logits_and_pattern(spec, member, x)[0], expected)
    stacked = {name: torch.stack([value, 2 * value]) for name, value in member.items()}
    shared = module.forward(spec, stacked, x)
    torch.testing.assert_close(shared[0], expected)
    torch.testing.assert_close(module.forward(spec, stacked, x.expand(2, 7, 187)), shared)
    assert not torch.allclose(shared[1], expected)
    assert any(name.startswith("b") for name in member) == bias


@both
def test_slopes_pulled_back_equal_autograd_point_by_point_and_class_by_class(module):
    """Values, and gradients with respect to the weights of a function of them."""
    member, x, spec = member_of(module), points(4), module.Spec()
    net = reference(module, member)
    mix = torch.from_numpy(np.random.default_rng(2).normal(size=(5, 4, 187)))
    expected = torch.empty(5, 4, 187, dtype=x.dtype)
    total = 0.0
    for k in range(5):
        for i in range(4):
            point = x[i : i + 1].clone().requires_grad_()
            (slope,) = torch.autograd.grad(net(point)[0, k], point, create_graph=True)
            expected[k, i] = slope[0].detach()
            total = total + (slope[0] * mix[k, i]).abs().sum()
    slopes = torch.eye(5, dtype=x.dtype)[:, None, :]
    _, pattern = module.logits_and_pattern(spec, member, x)
    found = module.pull_back(spec, member, pattern, slopes)
    torch.testing.assert_close(found, expected)
    weights = [layer.weight for layer in net.modules() if hasattr(layer, "weight")]
    wanted = torch.autograd.grad(total, weights)
    got = torch.autograd.grad(
        (found * mix).abs().sum(), [member[f"w{k}"] for k in range(1, len(weights) + 1)]
    )
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b)


@both
def test_slopes_of_one_function_per_point(module):
    member, x, spec = member_of(module), points(4).requires_grad_(), module.Spec()
    slopes = torch.from_numpy(np.random.default_rng(5).normal(size=(4, 5)))
    logits, pattern = module.logits_and_pattern(spec, member, x)
    (expected,) = torch.autograd.grad((logits * slopes).sum(), x)
    torch.testing.assert_close(module.pull_back(spec, member, pattern, slopes), expected)


@both
def test_first_values_are_pytorchs_or_of_length_one(module):
    plain = module.initial_parameters(module.Spec(unit_norm_start=False), (187,), 5, [1, 2])
    unit = module.initial_parameters(module.Spec(), (187,), 5, [1, 2])
    modules = reference(module, member_of(module)).modules()
    layers = [layer for layer in modules if hasattr(layer, "weight")]
    for k, layer in enumerate(layers, start=1):
        for name, own in ((f"w{k}", layer.weight), (f"b{k}", layer.bias)):
            assert plain[name].shape == (2, *own.shape) and plain[name].dtype == np.float32
            bound = np.prod(layer.weight.shape[1:]) ** -0.5
            assert np.abs(plain[name]).max() <= bound
            if own.numel() > 100:
                assert plain[name].std() == pytest.approx(bound / 3**0.5, rel=0.1)
        rows = unit[f"w{k}"].reshape(2, len(layer.bias), -1).astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=2), 1, atol=1e-6)
        drawn = plain[f"w{k}"].reshape(rows.shape)
        np.testing.assert_allclose(
            rows, drawn / np.linalg.norm(drawn, axis=2, keepdims=True), atol=1e-6
        )
        assert not unit[f"b{k}"].any()
    alone = module.initial_parameters(module.Spec(), (187,), 5, [2])
    assert all(value[0].tobytes() == unit[name][1].tobytes() for name, value in alone.items())


def test_kernels_that_the_authors_rescale():
    assert relu_mlp.normalised_kernels(relu_mlp.Spec()) == ["1", "2", "3", "4"]
    convolutions, dense = [str(k) for k in range(1, 10)], ["12", "13"]
    assert kachuee_cnn.normalised_kernels(kachuee_cnn.Spec()) == convolutions + dense


def test_the_published_sizes():
    sizes = {
        name: sum(value.size for value in m.initial_parameters(m.Spec(), (187,), 5, [0]).values())
        for name, m in NAMES.items()
    }
    assert sizes["relu_mlp"] == 187 * 128 + 2 * 128**2 + 128 * 32 + 32 * 5 + 3 * 128 + 32 + 5
    assert sizes["kachuee_cnn"] == 192 + 10 * (32 * 32 * 5 + 32) + 64 * 32 + 32 + 32 * 5 + 5


@pytest.mark.parametrize("shape", [(100,), (28, 28)])
def test_signals_too_short_for_the_pooling_are_refused(shape):
    with pytest.raises(InputError, match="kachuee_cnn"):
        kachuee_cnn.initial_parameters(kachuee_cnn.Spec(), shape, 5, [0])


@both
def test_an_ensemble_evaluates_them(module):
    parameters = module.initial_parameters(module.Spec(), (187,), 5, [0, 1])
    name = next(name for name, m in NAMES.items() if m is module)
    ensemble = build_ensemble(
        name, module.Spec(), [parameters], vote="soft", input_shape=(187,), n_classes=5,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    x = points(5, torch.float32)
    scores = ensemble.member_scores(x.numpy())
    for k in range(2):
        member = {n: torch.from_numpy(value[k]) for n, value in parameters.items()}
        expected = reference(module, member)(x).detach()
        np.testing.assert_allclose(scores[k], expected, rtol=1e-4, atol=1e-5)


def test_a_network_without_hidden_layers_is_one_matrix():
    spec = relu_mlp.Spec(hidden_layers=0)
    parameters = relu_mlp.initial_parameters(spec, (187,), 5, [0])
    member = {name: torch.from_numpy(value[0]) for name, value in parameters.items()}
    w = member["w2"] @ member["w1"]
    _, pattern = relu_mlp.logits_and_pattern(spec, member, torch.rand(3, 187))
    found = relu_mlp.pull_back(spec, member, pattern, torch.eye(5)[:, None, :].expand(5, 3, 5))
    torch.testing.assert_close(found, w[:, None, :].expand(5, 3, 187))


@pytest.mark.parametrize("bias", [True, False])
def test_the_written_out_backward_pass_equals_autograds_to_the_last_bit(bias):
    spec = relu_mlp.Spec(bias=bias)
    member = member_of(relu_mlp, bias=bias, dtype=torch.float32)
    x = points(130, torch.float32)
    slopes = torch.from_numpy(np.random.default_rng(6).normal(size=(130, 5))).float()
    logits, pattern = relu_mlp.logits_and_pattern(spec, member, x)
    expected = torch.autograd.grad((logits * slopes).sum(), list(member.values()))
    with torch.no_grad():
        gradients = {name: torch.full_like(value, torch.nan) for name, value in member.items()}
        relu_mlp.backpropagate(spec, member, x, pattern, slopes, gradients)
    for found, wanted in zip(gradients.values(), expected, strict=True):
        assert torch.equal(found, wanted)
