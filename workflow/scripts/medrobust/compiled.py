"""Compiling with numba, and a cache that notices every edit.

Numba caches a compiled function until the file of that function changes; it does not see edits
of functions that it calls in other files. So the cache lies in a folder named by the content of all
modules that hold compiled functions (``*_kernels.py``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

_PACKAGE = Path(__file__).parent


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles ``function`` at its first call, without holding the interpreter's lock.

    Sums are never reordered and NaN is respected (no fast-math), so results are the same on
    every machine of one instruction set.
    """
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = before or _cache_folder()
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = before


@cache
def _cache_folder() -> str:
    """Returns the folder of the cache, or "" (numba's own choice) where it cannot be written."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*_kernels.py")):
        digest.update(file.read_bytes())
    folder = _PACKAGE / "__pycache__" / f"numba-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if os.access(folder, os.W_OK) else ""
