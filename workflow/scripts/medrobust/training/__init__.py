"""Training methods, one module each.

A module holds one method and ends with ``METHOD``, an object of
:class:`medrobust.training.contract.Method`, which says what its functions are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrobust.core.registry import parse_spec
from medrobust.models.contract import architecture_of
from medrobust.training.contract import method_of


def planned_passes(method: Mapping[str, Any], n_classes: int, n_rows: int) -> float:
    """Returns how often training a member goes over the data at most (1 if the method has no say).

    Args:
        method: ``name`` and settings.
        n_classes: classes of the data set.
        n_rows: training points.
    """
    passes = method_of(method["name"]).passes
    if passes is not None:
        spec = parse_spec("method", method, file="settings of the model", prefix="method")
        return float(passes(spec, n_classes, n_rows))
    return float(method.get("max_epochs", method.get("epochs", 1)))


def trains_on_gpu(architecture: str, method: str) -> bool:
    """Tells whether a GPU serves the training: both the architecture and the method use one."""
    return architecture_of(architecture).uses_gpu and method_of(method).uses_gpu
