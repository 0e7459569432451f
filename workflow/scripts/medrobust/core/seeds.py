"""Seeds: the seed of any piece of work is a hash of the root seed and the piece's names.

No generator is shared between pieces, so neither the order of jobs, nor how points are
grouped into chunks, nor the number of processes changes a random draw.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(root_seed: int, *names: object) -> int:
    """Returns a seed in [0, 2**63) for the piece of work called ``names``.

    Names are joined by a separator that cannot occur in them by accident, so
    ("ab", "c") and ("a", "bc") differ.
    """
    text = "\x1f".join([str(int(root_seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(root_seed: int, *names: object) -> np.random.Generator:
    """Returns a NumPy generator (PCG64) for the piece of work called ``names``."""
    return np.random.default_rng(derive_seed(root_seed, *names))
