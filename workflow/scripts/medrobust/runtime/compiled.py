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
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

import medrobust

_PACKAGE = Path(medrobust.__file__).parent


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


@intrinsic
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """``prefetch(array, index)`` in compiled code: asks for a value that will be read soon.

    Args:
        typing_context: given by numba.
        array: one-dimensional.
        index: uint64; nothing is read, so any value is safe.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(base, [arguments[1]]), cgutils.voidptr_t)
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], kind)
        # For reading; into the second-level cache, which holds a batch; as data.
        builder.call(function, [address, number(0), number(2), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


@intrinsic
def fused_multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """``fused_multiply_add(a, b, c)`` in compiled code: ``a * b + c``, rounded once.

    Args:
        typing_context: given by numba.
        a, b, c: float32.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


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
