"""MONAI's residual networks with the values of ours, for tests that hold one against the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from medrobust.models.engine.batch_normed import Network
from torch import nn


def moved(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns first values with scales, shifts, averages and biases of their own."""
    rng, found = np.random.default_rng(0), {}
    for name, value in arrays.items():
        noise = 0 if name.startswith("w") else rng.uniform(-0.3, 0.3, value.shape)
        found[name] = (value + noise).astype(np.float32)
    return found


def tensors(
    arrays: dict[str, np.ndarray], dtype=torch.float64, untrained=frozenset()
) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(value).to(dtype, copy=True).requires_grad_(name not in untrained)
        for name, value in arrays.items()
    }


def images(shape: tuple[int, ...], n: int, dtype=torch.float64, seed: int = 1) -> torch.Tensor:
    random = np.random.default_rng(seed).random((n, *shape))
    return torch.from_numpy(random).to(dtype)


def monai_nets():
    return pytest.importorskip("monai.networks.nets", reason="MONAI is the oracle")


def monai_names(network: Network) -> dict[str, tuple[str, str]]:
    """Returns MONAI's names of each convolution of ours and of its normalisation."""
    names = {"1": ("conv1", "bn1")}
    for block in network.blocks:
        within = f"layer{block.stage + 1}.{block.place}."
        for k, layer in enumerate(block.path, start=1):
            names[layer.name] = f"{within}conv{k}", f"{within}bn{k}"
        if block.skip is not None:
            names[block.skip.name] = f"{within}downsample.0", f"{within}downsample.1"
    return names


def as_monai(network: Network, member: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns one member's values, or their gradients, by MONAI's names."""
    found, first = {"fc.weight": member["w_output"], "fc.bias": member["b_output"]}, 0
    names = monai_names(network)
    for name, count in network.maps().items():
        convolution, norm = names[name]
        found[f"{convolution}.weight"] = member[f"w{name}"]
        if f"b{name}" in member:
            found[f"{convolution}.bias"] = member[f"b{name}"]
        found[f"{norm}.weight"] = member[f"scale{name}"]
        found[f"{norm}.bias"] = member[f"shift{name}"]
        if "mean" in member:
            found[f"{norm}.running_mean"] = member["mean"][first : first + count]
            found[f"{norm}.running_var"] = member["variance"][first : first + count]
        first += count
    return found


def loaded(module: nn.Module, network: Network, arrays: dict[str, np.ndarray], k: int) -> nn.Module:
    """Returns MONAI's module in float64 with the values of member ``k``."""
    module = module.double()
    values = as_monai(network, {name: torch.from_numpy(value[k]) for name, value in arrays.items()})
    rest = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(values) == rest
    module.load_state_dict(values, strict=False)
    return module
