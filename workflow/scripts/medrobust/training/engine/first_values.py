"""What members begin with: an architecture's own draws, or pretrained weights in their place."""

from __future__ import annotations

import numpy as np

from medrobust.core.schema import Settings
from medrobust.models.contract import architecture_of
from medrobust.models.engine.pretrained import with_pretrained
from medrobust.training.engine.work import Work


def first_values(architecture: str, spec: Settings, work: Work) -> dict[str, np.ndarray]:
    """Returns the first values of ``work``'s members, float32 with a leading member axis.

    Every member gets the same pretrained arrays; what these lack, such as the output layer, each
    draws from its own seed.

    Args:
        architecture: registered name.
        spec: its settings.
        work: points, classes, seeds, and ``first_values``.

    Raises:
        InputError: the points are not for this architecture, or a pretrained array is not.
    """
    drawn = architecture_of(architecture).initial_parameters(
        spec, work.x.shape[1:], work.n_classes, work.seeds
    )
    return with_pretrained(drawn, dict(work.first_values)) if work.first_values else drawn
