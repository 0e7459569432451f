"""Forest of decision trees, stored as plain arrays and evaluated tree by tree in compiled code.

Signnet's random forest (Yang et al. 2020, section II.C) is scikit-learn's; its trees are grown by
:mod:`medrobust.training.bagged_trees`. One member is one tree; all trees lie one after the
other in flat arrays:

``offset [M + 1]`` int64, first node of each tree; ``left``, ``right`` int32, child nodes counted
from the tree's first node (-1 in a leaf); ``feature`` int32; ``threshold`` float64;
``probability`` float32 ``[nodes, n_classes]``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medrobust.core.schema import Settings
from medrobust.models.contract import Architecture

_NODE_ARRAYS = ("left", "right", "feature", "threshold", "probability")


class Spec(Settings):
    """Settings of the forest: none, all of them belong to how the trees are grown."""


def concatenate(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins the trees of several training jobs, in the order given."""
    sizes = np.concatenate([np.diff(part["offset"]) for part in parts])
    joined = {name: np.concatenate([part[name] for part in parts]) for name in _NODE_ARRAYS}
    return joined | {"offset": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)}


def member_scores(
    spec: Spec,
    parameters: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_classes: int,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from points to the class probabilities given by every tree.

    The function maps float32 ``[n, *shape]`` to float32 ``[M, n, n_classes]``. A point goes
    left where ``x[feature] <= threshold``, float32 against float64, as in scikit-learn.
    Forests are always evaluated on the CPU.
    """
    from medrobust.models.engine.forest_kernels import leaf_probabilities

    arrays = [np.ascontiguousarray(parameters[name]) for name in ("offset", *_NODE_ARRAYS)]

    def scores(x: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(x.reshape(len(x), -1), dtype=np.float32)
        return leaf_probabilities(flat, *arrays)

    return scores


ARCHITECTURE = Architecture(
    spec=Spec,
    scores="probabilities",
    uses_gpu=False,
    concatenate=concatenate,
    member_scores=member_scores,
)
