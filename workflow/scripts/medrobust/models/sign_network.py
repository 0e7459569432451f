"""Sign networks: one hidden layer of sign nodes and an output node; many evaluated as one.

Signnet (Yang et al. 2020), section II.A. A hidden node is ``(sign(w x + b) + 1) / 2``, that is 0 or
1 (and 0.5 on its plane); the network says 1 where ``v . hidden + c > 0``. With cross-entropy
training the output is a sigmoid of the same sum, rounded (signnet-code), which says the same. With
two classes a member is one network; with more it is one network per class, that class against the
rest, and the ensemble chooses the class with most votes.

Arrays, float32, with K = 1 for two classes, else one network per class: ``hidden_weights
[M, K, h, d]``, ``hidden_bias [M, K, h]``, ``output_weights [M, K, h]``, ``output_bias [M, K]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture
from medrobust.models.engine import stacked

if TYPE_CHECKING:
    import torch


class Spec(Settings):
    """Settings of the sign network."""

    # A hidden code must be exact as a float64: at most 52 bits.
    hidden_units: int = Field(default=20, ge=1, le=52, description="sign nodes of the hidden layer")


def networks_per_member(n_classes: int) -> int:
    """Returns K: one network for two classes, else one for each class against the rest."""
    return 1 if n_classes == 2 else n_classes


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from points to the votes of all members.

    The function maps float32 ``[n, *shape]`` to float32 ``[M, n, n_classes]``, each 0 or 1. With
    two classes a member votes for exactly one; with more, for every class whose network says so.
    """
    import torch

    tensors = stacked.tensors(parameters, device)
    weights, bias = tensors["hidden_weights"], tensors["hidden_bias"]
    output_weights, output_bias = tensors["output_weights"], tensors["output_bias"]
    members, networks, hidden, inputs = weights.shape
    columns = weights.reshape(-1, inputs).T.contiguous()

    def votes(x: torch.Tensor) -> torch.Tensor:
        codes = (torch.addmm(bias.reshape(1, -1), x, columns).sign_() + 1).mul_(0.5)
        codes = codes.view(len(x), members, networks, hidden)
        outputs = (codes * output_weights).sum(dim=3) + output_bias
        said = (outputs > 0).float().permute(1, 0, 2)
        return torch.cat([1 - said, said], dim=2) if networks == 1 else said

    return stacked.on_arrays(votes, device)


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="votes",
    uses_gpu=True,
    concatenate=stacked.concatenate,
    member_scores=member_scores,
    bulk_block=256,
)
