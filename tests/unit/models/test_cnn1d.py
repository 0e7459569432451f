"""The convolutional network over a signal: against PyTorch's own layers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from medrobust.core.errors import InputError
from medrobust.models import cnn1d
from medrobust.models.blocks import LABELS as BLOCK
from medrobust.models.ensembles import build_ensemble


def reference(parameters: dict[str, np.ndarray], k: int) -> torch.nn.Sequential:
    """One member built of PyTorch's layers, as the paper lists them."""
    nn, layers = torch.nn, []
    for i, pool in ((1, 4), (2, 4), (3, 2)):
        channels, inputs, width = parameters[f"w{i}"][k].shape
        layers += [nn.Conv1d(inputs, channels, width, padding="same"), nn.ReLU()]
        layers += [nn.MaxPool1d(pool)]
    layers.append(nn.Flatten())
    for i in (4, 5):
        outputs, inputs = parameters[f"w{i}"][k].shape
        layers += [nn.Linear(inputs, outputs), *([nn.ReLU()] if i == 4 else [])]
    module = nn.Sequential(*layers)
    weighted = [layer for layer in module if hasattr(layer, "weight")]
    with torch.no_grad():
        for i, layer in enumerate(weighted, start=1):
            layer.weight.copy_(torch.from_numpy(parameters[f"w{i}"][k]))
            layer.bias.copy_(torch.from_numpy(parameters[f"b{i}"][k]))
    return module


def members(length: int, classes: int = 5, count: int = 2) -> dict[str, np.ndarray]:
    spec = cnn1d.Spec(dense_units=9)
    parameters = cnn1d.initial_parameters(spec, (length,), classes, list(range(count)))
    rng = np.random.default_rng(0)
    for i in range(1, 6):
        shape = parameters[f"b{i}"].shape
        parameters[f"b{i}"] = rng.normal(0, 0.3, shape).astype(np.float32)
    return parameters


# 187: the heartbeats; 64: pooling drops nothing, so the last sample needs its eighth zero;
# 33, 50: other remainders.
@pytest.mark.parametrize("length", [187, 64, 50, 33])
def test_logits_and_gradients_equal_pytorchs_layers(length):
    parameters = members(length)
    x = torch.rand(6, length, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([0, 1, 2, 3, 4, 0])
    tensors = {n: torch.from_numpy(v.copy()).requires_grad_() for n, v in parameters.items()}
    logits = cnn1d.forward(cnn1d.Spec(), tensors, x.expand(2, 6, length))
    shared = cnn1d.forward(cnn1d.Spec(), tensors, x)
    assert torch.equal(shared, logits)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(2)).backward()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same'")
        for k in range(2):
            module = reference(parameters, k)
            expected = module(x[:, None])
            torch.testing.assert_close(logits[k], expected, atol=1e-5, rtol=0)
            (torch.nn.functional.cross_entropy(expected, y) / 2).backward()
            weighted = [layer for layer in module if hasattr(layer, "weight")]
            for i, layer in enumerate(weighted, start=1):
                for name, value in ((f"w{i}", layer.weight), (f"b{i}", layer.bias)):
                    torch.testing.assert_close(
                        tensors[name].grad[k], value.grad, atol=1e-5, rtol=1e-4
                    )


@pytest.mark.parametrize("classes", [2, 5])
def test_an_ensemble_gives_every_members_logits_in_blocks_of_its_own_size(classes):
    parameters = members(187, classes)
    ensemble = build_ensemble(
        "cnn1d", cnn1d.Spec(), [parameters], vote="majority", input_shape=(187,),
        n_classes=classes, input_range=(0.0, 1.0),
    )  # fmt: skip
    sizes = []
    scores = ensemble._scores

    def watched(x: np.ndarray) -> np.ndarray:
        sizes.append(len(x))
        return scores(x)

    ensemble._scores = watched
    x = np.random.default_rng(2).random((BLOCK + 4, 187), dtype=np.float32)
    found = ensemble.member_scores(x)
    assert found.shape == (2, BLOCK + 4, classes) and sizes == [BLOCK, BLOCK]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same'")
        for k in range(2):
            expected = reference(parameters, k)(torch.from_numpy(x)[:, None])
            np.testing.assert_allclose(found[k], expected.detach(), atol=1e-5)


def test_a_points_logits_do_not_depend_on_the_others_of_its_block():
    spec = cnn1d.Spec()
    parameters = cnn1d.initial_parameters(spec, (187,), 5, [0, 1])
    scores = cnn1d.member_scores(spec, parameters, (187,), 5, "cpu")
    rng = np.random.default_rng(3)
    x = rng.random((BLOCK, 187), dtype=np.float32)
    whole = scores(x)
    for _ in range(5):
        order = rng.permutation(BLOCK)
        assert scores(x[order]).tobytes() == whole[:, order].tobytes()
    for rows in (1, 3, 10):
        others = rng.random(x.shape, dtype=np.float32)
        others[:rows] = x[:rows]
        assert scores(others)[:, :rows].tobytes() == whole[:, :rows].tobytes()


def test_initial_values_spread_as_pytorchs_initialisers_spread_them():
    parameters = cnn1d.initial_parameters(cnn1d.Spec(), (187,), 5, [0, 1, 2])
    assert parameters["w4"].shape == (3, 128, 256 * 5)
    torch.manual_seed(0)
    for i in range(1, 6):
        values = parameters[f"w{i}"]
        like = torch.empty(values.shape[1:])
        if i <= 3:
            torch.nn.init.kaiming_normal_(like, mode="fan_out")
        else:
            torch.nn.init.xavier_normal_(like)
        tolerance = 5 * float(like.std()) / np.sqrt(like.numel())
        assert abs(values.std() - float(like.std())) < tolerance
        assert not parameters[f"b{i}"].any()
    alone = cnn1d.initial_parameters(cnn1d.Spec(), (187,), 5, [2])
    assert alone["w3"][0].tobytes() == parameters["w3"][2].tobytes()


@pytest.mark.parametrize("shape", [(31,), (3, 96, 96)])
def test_points_that_are_no_signals_are_refused(shape):
    with pytest.raises(InputError, match="signals of at least 32 samples"):
        cnn1d.initial_parameters(cnn1d.Spec(), shape, 2, [0])
