"""Training methods, one module each.

A method module exposes ``Spec`` (its settings), ``ARCHITECTURES`` (the architectures it can
train) and ``train(spec, architecture, architecture_spec, work) -> Trained``; ``work`` is
described in :mod:`medrobust.training.engine.work`. It may have ``USES_GPU = False``, and
``passes(spec, n_classes, n_rows)`` where the plan cannot go by its ``max_epochs`` or ``epochs``: an
epoch is no single pass over the data, or costs more with some settings than with others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrobust.core.registry import module_of, parse_spec


def planned_passes(method: Mapping[str, Any], n_classes: int, n_rows: int) -> float:
    """Returns how often training a member goes over the data at most (1 if the method has no say).

    Args:
        method: ``name`` and settings.
        n_classes: classes of the data set.
        n_rows: training points.
    """
    module = module_of("method", method["name"])
    if hasattr(module, "passes"):
        spec = parse_spec("method", method, file="settings of the model", prefix="method")
        return float(module.passes(spec, n_classes, n_rows))
    return float(method.get("max_epochs", method.get("epochs", 1)))
