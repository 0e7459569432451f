"""Rows of a block: by device and architecture alone, within memory, stated where a GPU is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrobust.core.registry import ARCHITECTURES, parse_spec
from medrobust.jobs.shared import machines
from medrobust.models import blocks
from medrobust.models.contract import architecture_of
from medrobust.models.engine import stacked
from medrobust.models.ensembles import build_ensemble

from tests import registered

# fmt: off
SVHN = [
    {"channels": c, "kernel": k, "stride": s, "padding": p}
    for c, k, s, p in (
        (32, 3, 1, 1), (32, 3, 2, 1), (64, 3, 1, 1), (64, 3, 2, 1), (128, 3, 1, 1), (128, 3, 2, 1),
        (256, 4, 1, 0),
    )
]
#: Settings, shape, classes and members of the papers.
PAPERS = {
    "mlp": ({"hidden_units": 20}, (187,), 5, 100),
    "bnn": ({"hidden_units": 20}, (187,), 5, 100),
    "cnn1d": ({}, (187,), 5, 1),
    "relu_mlp": ({}, (187,), 5, 1),
    "kachuee_cnn": ({}, (187,), 5, 1),
    "layer_norm_mlp": ({}, (2,), 2, 1),
    "instance_norm_cnn": ({"convolutions": SVHN}, (3, 32, 32), 10, 1),
    "resnet18": ({}, (1, 224, 224), 2, 1),
    "resnet50": ({}, (3, 224, 224), 2, 1),
    "lenet": ({}, (3, 96, 96), 2, 100),
    "batch_norm_resnet18": ({}, (3, 96, 96), 2, 1),
}
# fmt: on


def bytes_kept(name, rows=2):
    """Returns what a pass keeps for its way back, but for the weights, bytes per row."""
    settings, shape, classes, members = PAPERS[name]
    entry = architecture_of(name)
    spec = parse_spec("architecture", {"name": name, **settings}, file="test", prefix="a")
    parameters = entry.initial_parameters(spec, shape, classes, list(range(members)))
    tensors = stacked.tensors(parameters, "cpu")
    weights = {value.untyped_storage().data_ptr() for value in tensors.values()}
    kept = {}

    def keep(value):
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    x = torch.rand(rows, int(np.prod(shape)), requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        outputs = entry.forward(spec, tensors, x)
    assert outputs.requires_grad == entry.has_gradients
    return sum(kept.values()) / rows


def test_the_papers_networks_are_all_that_have_a_forward():
    assert set(PAPERS) == {n for n in ARCHITECTURES if architecture_of(n).forward is not None}


@pytest.mark.parametrize("name", PAPERS)
def test_what_a_block_keeps_fits_a_gpu(name):
    rows = blocks.gradient_block(architecture_of(name), "cuda")
    assert rows * bytes_kept(name) <= blocks.GPU_BYTES
    assert rows.bit_count() == 1


@pytest.mark.parametrize("name", registered.of_points(ARCHITECTURES))
def test_a_gpu_gets_more_rows_of_whatever_number_it_has(name):
    entry = architecture_of(name)
    rows = {blocks.label_block(entry, device) for device in ("cuda", "cuda:3", "cuda+tf32")}
    rows |= {blocks.gradient_block(entry, device) for device in ("cuda", "cuda:0")}
    assert len(rows) == 1
    on_cpu = blocks.label_block(entry, "cpu"), blocks.gradient_block(entry, "cpu")
    assert min(rows) > max(on_cpu)
    assert on_cpu == (entry.label_block or 64, entry.gradient_block or 512)


def test_an_ensemble_has_the_blocks_of_its_device(monkeypatch):
    entry = architecture_of("relu_mlp")
    spec = entry.spec(hidden_layers=1, hidden_units=4)
    parameters = entry.initial_parameters(spec, (4,), 2, [1])
    asked = []

    def scores(x):
        asked.append(len(x))
        return np.zeros((1, len(x), 2), dtype=np.float32)

    def gradient_rows(device):
        monkeypatch.setattr(stacked, "tensors", lambda values, device, **settings: values)
        ensemble = build_ensemble(
            "relu_mlp", spec, [parameters], vote="soft", input_shape=(4,), n_classes=2,
            input_range=(0.0, 1.0), device=device,
        )  # fmt: skip
        ensemble._scores = scores
        ensemble.member_scores(np.zeros((3, 4), dtype=np.float32))
        return ensemble.gradient_block

    assert [gradient_rows("cpu"), gradient_rows("cuda:0")] == [512, 4096]
    assert asked == [64, 4096]


def test_the_block_stands_beside_a_gpu_alone(tmp_path):
    entry = architecture_of("resnet18")
    assert blocks.stated_block(entry, "cpu") == {}
    assert blocks.stated_block(entry, "cuda+tf32") == {"block": 128}
    from medrobust.core import io

    facts = {"hardware": "h", "versions": {}, "wall_s": 1}
    for name, more in (("a", {"device": "cpu"}), ("b", {"device": "cuda", "block": 128})):
        io.write_json(tmp_path / name, facts | more)
    found = machines([str(tmp_path / name) for name in "aba"])
    assert [machine.get("block") for machine in found] == [None, 128]
