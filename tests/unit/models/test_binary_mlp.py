"""The binary network: quantisers, batch normalisation and steps against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.models import binary_mlp
from medrobust.models.blocks import LABELS as BLOCK
from medrobust.models.engine.activations import QUANTISERS, SWISH_BETA
from medrobust.models.ensembles import build_ensemble

KEEP = binary_mlp.MOMENTUM


def slope_by_definition(name: str, x: np.ndarray) -> np.ndarray:
    """Larq's documented slopes, point by point, in float64."""
    if name == "ste_sign":
        return np.array([1.0 if abs(v) <= 1 else 0.0 for v in x])
    if name == "approx_sign":
        return np.array([2 - 2 * abs(v) if abs(v) <= 1 else 0.0 for v in x])
    b = 5.0 * x
    return np.array(
        [5 * (2 - v * np.tanh(v / 2)) / (1 + np.cosh(v)) if abs(v) < 700 else 0.0 for v in b]
    )


POINTS = np.array([-200.0, -3, -1.0000001, -1, -0.6, -1e-9, -0.0, 0.0, 1e-9, 0.3, 1, 1.5, 200])


@pytest.mark.parametrize("name", sorted(QUANTISERS))
def test_quantisers_give_signs_and_pass_back_larqs_slopes(name):
    x = torch.tensor(POINTS, requires_grad=True)
    values = QUANTISERS[name](x)
    assert values.tolist() == [-1.0 if v < 0 else 1.0 for v in POINTS]  # the sign of 0 is +1
    values.backward(torch.full_like(x, 3.0))
    np.testing.assert_allclose(x.grad, 3 * slope_by_definition(name, POINTS), atol=1e-12)


@pytest.mark.parametrize("name", sorted(QUANTISERS))
@given(x=st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_slopes_are_finite_wherever_x_is(name, x):
    values = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    QUANTISERS[name](values).sum().backward()
    assert torch.isfinite(values.grad).all()
    expected = slope_by_definition(name, np.array(x, dtype=np.float32).astype(float))
    np.testing.assert_allclose(values.grad, expected, atol=2e-5)


def test_swish_is_the_derivative_of_signswish():
    """BNN+ (Darabi et al. 2018): 2 s(bx) (1 + bx (1 - s(bx))) - 1, s the logistic function."""
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    logistic = torch.sigmoid(SWISH_BETA * x)
    smooth = 2 * logistic * (1 + SWISH_BETA * x * (1 - logistic)) - 1
    (expected,) = torch.autograd.grad(smooth.sum(), x)
    (slope,) = torch.autograd.grad(QUANTISERS["swish_sign"](x).sum(), x)
    torch.testing.assert_close(slope, expected)


def random_members(
    members: int = 4, units: int = 6, inputs: int = 11, classes: int = 3
) -> dict[str, np.ndarray]:
    spec = binary_mlp.Spec(hidden_units=units)
    parameters = binary_mlp.initial_parameters(spec, (inputs,), classes, list(range(members)))
    rng = np.random.default_rng(1)
    for name, low, high in (("b1", -1, 1), ("beta", -1, 1), ("mean", -1, 1), ("variance", 0.1, 3)):
        shape = parameters[name].shape
        parameters[name] = rng.uniform(low, high, shape).astype(np.float32)
    return parameters


def plain_logits(parameters: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The evaluated network, member by member, in float64 with weights -1 and +1."""
    logits = []
    for k in range(len(parameters["w1"])):
        w1, b1, beta, mean, variance, w2 = (
            parameters[n][k].astype(float) for n in ("w1", "b1", "beta", "mean", "variance", "w2")
        )
        hidden = x.astype(float) @ np.where(w1 < 0, -1, 1).T + b1
        normal = (hidden - mean) / np.sqrt(variance + 0.001) + beta
        logits.append(np.where(normal < 0, -1, 1) @ np.where(w2 < 0, -1, 1).T)
    return np.stack(logits)


def test_evaluation_equals_a_plain_loop():
    parameters = random_members()
    parameters["w1"][0, 0, 0] = 0.0  # counts as +1
    x = np.random.default_rng(2).random((150, 11)).astype(np.float32)
    expected = plain_logits(parameters, x)
    ensemble = build_ensemble(
        "bnn", binary_mlp.Spec(hidden_units=6), [parameters], vote="majority", input_shape=(11,),
        n_classes=3, input_range=(0.0, 1.0),
    )  # fmt: skip
    np.testing.assert_array_equal(ensemble.member_scores(x), expected)
    assert (ensemble.member_predictions(x) == expected.argmax(2)).all()
    ties = (expected == expected.max(2, keepdims=True)).sum(2) > 1
    assert ties.any(), "ties, which go to the lowest class, are part of the comparison"
    tensors = {name: torch.from_numpy(value) for name, value in parameters.items()}
    own = torch.from_numpy(x).expand(4, 150, 11)
    np.testing.assert_array_equal(binary_mlp.forward(binary_mlp.Spec(), tensors, own), expected)


def test_a_points_logits_do_not_depend_on_the_others_of_its_block():
    """At the size of the study: 100 members, 187 inputs, 20 units, 5 classes."""
    parameters = random_members(100, 20, 187, 5)
    scores = binary_mlp.member_scores(binary_mlp.Spec(), parameters, (187,), 5, "cpu")
    rng = np.random.default_rng(3)
    x = rng.random((BLOCK, 187), dtype=np.float32)
    whole = scores(x)
    order = rng.permutation(BLOCK)
    np.testing.assert_array_equal(scores(x[order]), whole[:, order])
    others = x.copy()
    others[5:] = 0
    np.testing.assert_array_equal(scores(others)[:, :5], whole[:, :5])


class Reference(torch.nn.Module):
    """One member as a PyTorch module in float64; signs carry the slope of a known polynomial."""

    def __init__(self, parameters: dict[str, np.ndarray], k: int, kernel: str) -> None:
        super().__init__()
        self.kernel = kernel

        def tensor(name: str) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.tensor(parameters[name][k], dtype=torch.float64))

        self.w1, self.b1, self.w2 = tensor("w1"), tensor("b1"), tensor("w2")
        self.norm = torch.nn.BatchNorm1d(len(self.b1), eps=0.001, momentum=0.1).double()
        self.norm.weight.requires_grad_(False)
        self.norm.bias = tensor("beta")

    @staticmethod
    def _sign(x: torch.Tensor, stand_in: torch.Tensor) -> torch.Tensor:
        """The value is the sign, the slope that of ``stand_in``."""
        sign = torch.where(x < 0, -1.0, 1.0).double()
        return sign + (stand_in - stand_in.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stand_in = (lambda w: w) if self.kernel == "ste_sign" else (lambda w: 2 * w - w * w.abs())
        hidden = torch.nn.functional.linear(x, self._sign(self.w1, stand_in(self.w1)), self.b1)
        normal = self.norm(hidden)
        inside = normal.clamp(-1, 1)
        active = self._sign(normal, 2 * inside - inside * inside.abs())
        return active @ self._sign(self.w2, stand_in(self.w2)).T


@pytest.mark.parametrize("kernel", ["ste_sign", "approx_sign"])
def test_a_training_step_equals_a_network_with_pytorchs_batch_normalisation(kernel):
    parameters = random_members()
    rng = np.random.default_rng(4)
    x = torch.from_numpy(rng.random((4, 40, 11)).astype(np.float32))
    y = torch.from_numpy(rng.integers(0, 3, (4, 40)))
    tensors = {
        name: torch.from_numpy(value.copy()).requires_grad_(
            name not in binary_mlp.ARCHITECTURE.untrained
        )
        for name, value in parameters.items()
    }
    spec = binary_mlp.Spec(hidden_units=6, kernel_quantiser=kernel)
    logits = binary_mlp.training_forward(spec, tensors, x)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").backward()
    for k in range(4):
        reference = Reference(parameters, k, kernel)
        expected = reference(x[k].double())
        torch.nn.functional.cross_entropy(expected, y[k], reduction="sum").backward()
        torch.testing.assert_close(logits[k].double(), expected)
        for name in ("w1", "w2"):
            gradient = getattr(reference, name).grad
            torch.testing.assert_close(tensors[name].grad[k].double(), gradient, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            tensors["beta"].grad[k].double(), reference.norm.bias.grad, atol=1e-4, rtol=0
        )
        assert float(tensors["b1"].grad[k].abs().max()) < 1e-4  # normalisation takes it away
        # Keras averages the biased variance, PyTorch the unbiased one.
        mean, variance = (reference.norm.get_buffer(f"running_{n}") for n in ("mean", "var"))
        batch_mean, batch_variance = mean / 0.1, (variance - 0.9) / 0.1 * 39 / 40
        for name, batch in (("mean", batch_mean), ("variance", batch_variance)):
            expected = KEEP * parameters[name][k] + (1 - KEEP) * batch.numpy()
            np.testing.assert_allclose(tensors[name][k], expected, atol=1e-5)


def test_a_batch_of_one_point_has_variance_zero():
    parameters = random_members(2)
    tensors = {name: torch.from_numpy(value.copy()) for name, value in parameters.items()}
    logits = binary_mlp.training_forward(binary_mlp.Spec(), tensors, torch.rand(2, 1, 11))
    assert torch.isfinite(logits).all()
    np.testing.assert_allclose(tensors["variance"], KEEP * parameters["variance"], atol=1e-6)


def test_initial_values_are_those_of_keras():
    parameters = binary_mlp.initial_parameters(binary_mlp.Spec(), (187,), 5, list(range(40)))
    for name, fans in (("w1", 187 + 20), ("w2", 20 + 5)):
        bound = np.sqrt(6 / fans)
        assert 0.98 * bound < np.abs(parameters[name]).max() <= bound
        assert abs(parameters[name].std() - bound / np.sqrt(3)) < 0.02 * bound
    assert (parameters["variance"] == 1).all()
    assert not any(parameters[name].any() for name in ("b1", "beta", "mean"))
    again = binary_mlp.initial_parameters(binary_mlp.Spec(), (187,), 5, [7])
    assert again["w1"][0].tobytes() == parameters["w1"][7].tobytes()


def test_latent_weights_are_clipped_to_one():
    tensors = {
        name: torch.tensor([[-3.0, -0.5, 2.0]], requires_grad=True) for name in ("w1", "b1", "w2")
    }
    binary_mlp.after_step(tensors)
    assert tensors["w1"].tolist() == tensors["w2"].tolist() == [[-1.0, -0.5, 1.0]]
    assert tensors["b1"].tolist() == [[-3.0, -0.5, 2.0]]
