"""Stand-ins of volumes with masks: ellipsoids with concentric parts in noise.

Generated, seeded and small; each volume has its own shape, place, and scale of values, as the real
ones do. They show that the workflow runs and are evidence of nothing.
"""

from __future__ import annotations

import numpy as np

from medrobust.core.seeds import generator
from medrobust.data.formats.nifti_files import Volume

_SIDES = (18, 26)
_SPACING = (1.0, 1.0, 1.5)


def standin_pair(number: int, channels: int, classes: int, seed: int) -> tuple[Volume, Volume]:
    """Returns image and mask of one case.

    Args:
        number: of the case.
        channels: of the image.
        classes: values of the mask, background included; every one occurs.
        seed: root seed.

    Returns:
        The image, float32 ``[x, y, z]`` (``[x, y, z, channels]`` where there are several), and the
        mask, uint8 ``[x, y, z]``.
    """
    random = generator(seed, "standin", "volumes", channels, classes, number)
    shape = tuple(random.integers(*_SIDES, size=3).tolist())
    centre = [(n - 1) / 2 + random.uniform(-2, 2) for n in shape]
    radius = [n * random.uniform(0.28, 0.36) for n in shape]
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    distance = np.sqrt(
        sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True))
    )
    mask = np.zeros(shape, np.uint8)
    for label in range(1, classes):
        mask[distance < 1 - (label - 1) / classes] = label
    scale = 10 ** random.uniform(2, 5)
    parts = [
        scale * (1 + 0.5 * (-1) ** channel * mask + random.normal(0, 0.35, shape))
        for channel in range(channels)
    ]
    image = np.stack(parts, axis=-1).astype(np.float32)
    affine = np.diag([*_SPACING, 1.0])
    if channels == 1:
        image = image[..., 0]
    return Volume(image, affine, _SPACING, "RAS"), Volume(mask, affine, _SPACING, "RAS")
