"""Input gradients of ensembles: against automatic differentiation of single rows, and formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.models import (
    binary_mlp,
    blocks,
    cnn1d,
    forest,
    gradients,
    kachuee_cnn,
    layer_norm_mlp,
    mlp,
    relu_mlp,
)
from medrobust.models.engine import loss_kernels
from medrobust.models.ensembles import Ensemble, build_ensemble
from numpy.testing import assert_allclose

from tests.gradient_models import ensemble_of, points_of, relu_module

D = 40
ARCHITECTURES = {
    "mlp": (mlp, mlp.Spec()),
    "relu": (mlp, mlp.Spec(activation="relu")),
    "cnn1d": (cnn1d, cnn1d.Spec(dense_units=8)),
    "bnn": (binary_mlp, binary_mlp.Spec()),
}
NAMES = {mlp: "mlp", cnn1d: "cnn1d", binary_mlp: "bnn"}


def made(kind: str, classes: int, members: int, vote: str = "soft"):
    """Returns an ensemble and its joined logits as a function of one row, in float64."""
    module, spec = ARCHITECTURES[kind]
    parameters = module.initial_parameters(spec, (D,), classes, list(range(members)))
    random = np.random.default_rng(5)
    for name, value in parameters.items():
        if name.startswith("b"):
            parameters[name] = random.normal(0, 0.1, value.shape).astype(np.float32)
    ensemble = build_ensemble(
        NAMES[module], spec, [parameters], vote=vote, input_shape=(D,), n_classes=classes,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    tensors = {name: torch.from_numpy(value).double() for name, value in parameters.items()}

    def logits(row: torch.Tensor) -> torch.Tensor:
        outputs = module.forward(spec, tensors, row[None])[:, 0]
        if outputs.shape[1] == 1:
            outputs = torch.cat([0 * outputs, outputs], 1)
        return outputs[0] if members == 1 else torch.softmax(outputs, 1).mean(0).log()

    return ensemble, logits


def loss_of(logits: torch.Tensor, y: int, loss: str) -> torch.Tensor:
    if loss == "cross_entropy":
        return -torch.log_softmax(logits, 0)[y]
    others = torch.cat([logits[:y], logits[y + 1 :]])
    return others.max() - logits[y]


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize(
    ("kind", "classes", "members"),
    [("mlp", 5, 1), ("mlp", 2, 1), ("mlp", 2, 3), ("relu", 5, 4), ("cnn1d", 3, 1)],
)
def test_gradients_are_those_of_single_rows(kind, classes, members, loss):
    ensemble, logits = made(kind, classes, members)
    x, y = points_of(7, D), np.arange(7) % classes
    found, slopes = ensemble.loss_gradients(x, y, loss)
    assert found.dtype == slopes.dtype == np.float32
    assert found.shape == (7, classes) and slopes.shape == x.shape
    for row, label, z, slope in zip(x, y, found, slopes, strict=True):
        leaf = torch.from_numpy(row).double().requires_grad_()
        joined = logits(leaf)
        (expected,) = torch.autograd.grad(loss_of(joined, int(label), loss), leaf)
        assert_allclose(z, joined.detach(), atol=1e-5)
        assert_allclose(slope, expected, atol=2e-5 * float(expected.abs().max()) + 1e-8)
    np.testing.assert_array_equal(ensemble.logits(x), found)


def test_rows_depend_neither_on_place_nor_on_neighbours():
    network = ensemble_of(relu_module(187, 5), 187, 5, block=blocks.GRADIENTS)
    x, y = points_of(1100, 187), np.arange(1100) % 5
    logits, slopes = network.loss_gradients(x, y, "cross_entropy")
    order = np.random.default_rng(0).permutation(1100)
    again = network.loss_gradients(x[order], y[order], "cross_entropy")
    assert again[0].tobytes() == logits[order].tobytes()
    assert again[1].tobytes() == slopes[order].tobytes()
    few = network.loss_gradients(x[7:10], y[7:10], "cross_entropy")
    assert few[0].tobytes() == logits[7:10].tobytes()
    assert few[1].tobytes() == slopes[7:10].tobytes()


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize(
    ("module", "shape", "classes"),
    [(relu_mlp, (187,), 5), (kachuee_cnn, (187,), 5), (layer_norm_mlp, (2,), 2)],
    ids=["relu_mlp", "kachuee_cnn", "layer_norm_mlp"],
)
def test_the_way_back_that_is_written_out_gives_the_bytes_of_autograd(module, shape, classes, loss):
    spec, name = module.Spec(), module.__name__.rsplit(".")[-1]
    parameters = module.initial_parameters(spec, shape, classes, [4])
    ensemble = build_ensemble(
        name, spec, [parameters], vote="soft", input_shape=shape, n_classes=classes,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    tensors = {key: torch.from_numpy(value) for key, value in parameters.items()}
    plain = gradients.InputGradients(
        lambda x: module.forward(spec, tensors, x)[0],
        input_shape=shape,
        block=ensemble.gradient_block,
    )
    rows = ensemble.gradient_block + 3
    x, y = points_of(rows, *shape), np.arange(rows) % classes
    for found, expected in zip(
        ensemble.loss_gradients(x, y, loss), plain.loss_gradients(x, y, loss), strict=True
    ):
        assert np.abs(expected).max() > 0 and found.tobytes() == expected.tobytes()


def test_the_largest_logit_is_the_label():
    for members, vote in ((1, "majority"), (1, "soft"), (5, "soft")):
        ensemble, _ = made("mlp", 5, members, vote)
        x = points_of(200, D)
        np.testing.assert_array_equal(ensemble.logits(x).argmax(axis=1), ensemble.predict(x))


def test_soft_vote_is_the_logarithm_of_the_mean_softmax():
    ensemble, _ = made("mlp", 5, 4)
    x = points_of(9, D)
    assert_allclose(np.exp(ensemble.logits(x)), ensemble.mean_probabilities(x), rtol=1e-5)


def test_a_majority_has_no_gradient():
    ensemble, _ = made("mlp", 3, 2, "majority")
    assert not ensemble.has_gradients
    x, y = points_of(2, D), np.zeros(2, dtype=np.int64)
    for ask in (
        lambda: ensemble.logits(x),
        lambda: ensemble.loss_gradients(x, y, "margin"),
        lambda: ensemble.gradient_block,
    ):
        with pytest.raises(InputError, match="no gradients"):
            ask()
    assert made("mlp", 3, 1, "majority")[0].has_gradients
    votes = Ensemble(
        lambda x: x, kind="votes", vote="majority", input_shape=(D,), n_classes=3,
        input_range=(0, 1),
    )  # fmt: skip
    assert not votes.has_gradients
    assert forest.ARCHITECTURE.scores != "logits"
    assert not made("bnn", 3, 1)[0].has_gradients


def test_blocks_of_an_architecture():
    assert made("mlp", 3, 1)[0].gradient_block == blocks.GRADIENTS
    assert made("cnn1d", 3, 1)[0].gradient_block == cnn1d.ARCHITECTURE.gradient_block == 64


def test_images_keep_their_shape():
    network = relu_module(12, 3)
    shaped = gradients.InputGradients(network, input_shape=(3, 2, 2), block=4)
    flat = gradients.InputGradients(network, input_shape=(12,), block=4)
    x, y = points_of(5, 12), np.array([0, 1, 2, 0, 1])
    _, slopes = shaped.loss_gradients(x.reshape(5, 3, 2, 2), y, "margin")
    assert slopes.shape == (5, 3, 2, 2)
    np.testing.assert_array_equal(slopes.reshape(5, 12), flat.loss_gradients(x, y, "margin")[1])


def slopes_by(kernel, z: np.ndarray, y: int) -> np.ndarray:
    slopes = np.full((1, len(z)), np.nan, dtype=np.float32)
    kernel(z.astype(np.float32)[None], np.array([y]), slopes)
    return slopes[0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=8), st.integers(0, 7), st.booleans()
)
def test_slopes_of_the_losses(values, label, shift):
    z, y = np.array(values) + 100 * shift, label % len(values)
    z = z.astype(np.float32).astype(np.float64)
    odds = np.exp(z - z.max())
    expected = odds / odds.sum() - (np.arange(len(z)) == y)
    assert_allclose(
        slopes_by(loss_kernels.cross_entropy_slopes, z, y), expected, rtol=1e-5, atol=1e-12
    )
    others = np.delete(z, y)
    margin = slopes_by(loss_kernels.margin_slopes, z, y)
    assert margin[y] == -1 and margin.sum() == 0 and np.abs(margin).sum() == 2
    assert z[margin.argmax()] == others.max()
    losses = np.empty(1)
    loss_kernels.margins(z.astype(np.float32)[None], np.array([y]), losses)
    assert losses[0] == others.max() - z[y]


def test_a_saturated_row_keeps_its_direction():
    far = np.array([2000.0, -3.0, 0.0, 1.0])
    slopes = slopes_by(loss_kernels.cross_entropy_slopes, far, 0)
    others = np.exp(far[1:] - 1) / np.exp(far[1:] - 1).sum()
    expected = loss_kernels.SMALLEST_DOUBT * np.array([-1, *others])
    assert_allclose(slopes, expected, rtol=1e-6, atol=0)
    # The probability of the label rounds to 1 in float32; the slope does not round to 0.
    near = slopes_by(loss_kernels.cross_entropy_slopes, np.array([20.0, 0.0, 0.0]), 0)
    assert_allclose(near, np.array([-2.0, 1.0, 1.0]) / (np.exp(20) + 2), rtol=1e-6)
    wrong = slopes_by(loss_kernels.cross_entropy_slopes, far, 1)
    assert_allclose(wrong, [1, -1, 0, 0], atol=1e-30)
