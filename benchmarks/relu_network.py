"""The network of the noise-to-signal-ratio paper's MLP as a bare model, for benchmarks."""

from __future__ import annotations

import itertools

import numpy as np
from medrobust.models.ensembles import Ensemble
from medrobust.models.gradients import InputGradients

WIDTHS = (187, 128, 128, 128, 32, 5)


def torch_network():
    """Returns 187-128 ReLU 128-128 ReLU 128-128 ReLU 128-32, 32-5 as a torch module."""
    import torch

    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
        layers.append(torch.nn.Linear(inputs, outputs))
        if i < 3:
            layers.append(torch.nn.ReLU())
    return torch.nn.Sequential(*layers)


def as_ensemble(network) -> Ensemble:
    """Returns a torch module from ``[n, 187]`` to logits ``[n, 5]`` as the workflow attacks it."""
    import torch

    for parameter in network.parameters():
        parameter.requires_grad_(False)

    def scores(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(x)).numpy()[None]

    return Ensemble(
        scores, kind="logits", vote="soft", input_shape=(WIDTHS[0],), n_classes=WIDTHS[-1],
        input_range=(0.0, 1.0), gradients=InputGradients(network, input_shape=(WIDTHS[0],)),
    )  # fmt: skip
