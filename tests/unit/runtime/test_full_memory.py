"""A GPU whose memory is too small for a block: half of it, and the log says so."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from medrobust.models import gradients
from medrobust.models.callables import _Module
from medrobust.models.engine import stacked
from medrobust.models.ensembles import build_ensemble
from medrobust.models.gradients import InputGradients
from medrobust.models.relu_mlp import Spec, initial_parameters
from medrobust.runtime import devices
from medrobust.runtime.devices import in_halves

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def warned(caplog, monkeypatch):
    monkeypatch.setattr(devices.logger, "propagate", True)
    caplog.set_level(logging.WARNING, logger="medrobust")
    return lambda: [int(r.args[1]) for r in caplog.records]


class Memory:
    """Room for ``rows`` rows; keeps how many were asked for."""

    def __init__(self, rows: int, error: Exception = FULL) -> None:
        self.rows, self.error, self.asked = rows, error, []

    def hold(self, rows) -> None:
        self.asked.append(len(rows))
        if len(rows) > self.rows:
            raise self.error


def test_rows_are_halved_until_they_fit_and_stay_so(warned):
    memory = Memory(3)

    @in_halves(0, 1)
    def doubled(rows, more, factor):
        memory.hold(rows)
        return factor * rows, more + 1

    x = np.arange(20).reshape(10, 2)
    for _ in range(2):
        first, second = doubled(x, x[:, 0], 2)
        np.testing.assert_array_equal(first, 2 * x)
        np.testing.assert_array_equal(second, x[:, 0] + 1)
    assert memory.asked == [10, 5, 3, 2, 3, 2, *[3, 3, 3, 1]]
    assert warned() == [5, 3]


def test_what_does_not_fit_row_by_row_fails():
    memory = Memory(0)
    with pytest.raises(torch.OutOfMemoryError):
        in_halves(0)(memory.hold)(np.zeros(4))
    assert memory.asked == [4, 2, 1]


@pytest.mark.parametrize(
    ("error", "halved"),
    [
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_other_errors_are_none_of_its_business(error, halved):
    memory = Memory(1, error)

    @in_halves(0)
    def same(rows):
        memory.hold(rows)
        return rows

    if halved:
        assert same(torch.arange(2)).tolist() == [0, 1]
    else:
        with pytest.raises(RuntimeError):
            same(torch.arange(2))
        assert memory.asked == [2]


def logits(x, memory=None):
    """Logits of which each row depends on itself alone, in any block."""
    if memory is not None:
        memory.hold(x)
    return torch.stack([x.sum(dim=1), x[:, 0] * x[:, 1]], dim=1)


def points(n):
    return np.random.default_rng(5).standard_normal((n, 4)).astype(np.float32)


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_gradients_stay_what_they_are(loss, warned):
    x, y, memory = points(11), np.arange(11) % 2, Memory(2)
    whole = InputGradients(logits, input_shape=(4,), block=8)
    halves = InputGradients(lambda r: logits(r, memory), input_shape=(4,), block=8)
    for one, other in zip(
        halves.loss_gradients(x, y, loss), whole.loss_gradients(x, y, loss), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert warned() == [4, 2] and memory.asked == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]


def test_labels_stay_what_they_are(warned):
    memory = Memory(2)
    ask = stacked.on_arrays(lambda x: logits(x, memory)[None], "cpu")
    x = points(8)
    np.testing.assert_array_equal(ask(x), stacked.on_arrays(lambda x: logits(x)[None], "cpu")(x))
    assert warned() == [4, 2]


def test_logits_of_an_ensemble_stay_what_they_are(monkeypatch, warned):
    spec, memory = Spec(hidden_layers=1, hidden_units=4), Memory(100)
    parameters = initial_parameters(spec, (4,), 2, [1])
    ensemble = build_ensemble(
        "relu_mlp", spec, [parameters], vote="soft", input_shape=(4,), n_classes=2,
        input_range=(-5.0, 5.0),
    )  # fmt: skip
    x = points(8)
    expected = ensemble.logits(x)
    joined = gradients.joined_logits

    def in_small_memory(outputs, n_classes):
        memory.hold(outputs[0])
        return joined(outputs, n_classes)

    monkeypatch.setattr(gradients, "joined_logits", in_small_memory)
    # Rounding may depend on the block; that is what the log says.
    np.testing.assert_allclose(ensemble.logits(x), expected, rtol=1e-5, atol=1e-6)
    assert warned() == [256, 128, 64]


def test_a_graph_is_left_to_the_pass_that_makes_it(warned):
    """Halves that one graph holds need the memory of the whole."""
    memory = Memory(2)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return logits(x * self.weight, memory)

    memory.rows = 8
    own = _Module(Module(), points(8), 2, 8)
    memory.rows, memory.asked, x, y = 2, [], points(8), np.arange(8) % 2
    _, slopes = own.loss_gradients(x, y, "margin")
    assert memory.asked == [8, 4, 2, 2, 2, 2]
    expected = InputGradients(logits, input_shape=(4,), block=8).loss_gradients(x, y, "margin")
    np.testing.assert_array_equal(slopes, expected[1])
    own.logits(x)
    assert warned() == [4, 2, 4, 2]
