"""Devices and threads: where a job computes, and with how many threads.

The number of compute threads is a constant of the run (config ``compute_threads``), not the
cores that a job happens to get: matrix products differ in the last bit between thread
counts, and boundary attacks turn a last bit into another label.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medrobust.core.errors import InputError
from medrobust.core.logs import logger

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

MKL_MODE = "AUTO,STRICT"

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def fix_threads(compute_threads: int) -> None:
    """Sets the number of threads of torch and numba; call it before importing either.

    Matrix products of Intel's MKL are set to the mode whose results do not depend on where in
    memory a matrix begins: members that are trained as one stack begin at any address.
    """
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(compute_threads)
    os.environ["MKL_CBWR"] = MKL_MODE
    import torch

    torch.set_num_threads(compute_threads)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Holds the BLAS of NumPy and SciPy, which compiled code calls, to one thread each.

    For work that uses threads of its own, and whose last bits may not depend on their number.
    """
    with _blas().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - its BLAS is found only once it is loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def choose_device(wanted: str, uses_gpu: bool) -> str:
    """Returns "cpu" or "cuda" for the config value ``auto``, ``cpu`` or ``cuda``.

    Args:
        wanted: the config value.
        uses_gpu: whether the work has a use for a GPU; if not, it gets "cpu" whatever is wanted.

    Raises:
        InputError: "cuda" is asked for and no CUDA device is usable.
    """
    if wanted == "cpu" or not uses_gpu:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise InputError(
            "The configuration asks for a CUDA device and PyTorch finds none.",
            where="config key device",
            remedy="set `device: cpu` (or auto), or install a CUDA build of PyTorch.",
        )
    return "cpu"


@contextlib.contextmanager
def gpu_slot(device: str) -> Iterator[str]:
    """Yields the device to use, holding a lock on one GPU where several local jobs share them.

    Under a scheduler such as Slurm the devices are assigned already, so nothing is locked.
    """
    if device != "cuda" or "SLURM_JOB_ID" in os.environ:
        yield device
        return
    import torch

    folder = Path(tempfile.gettempdir()) / f"medrobust-gpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        for index in range(torch.cuda.device_count()):
            with open(folder / f"slot{index}", "w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                yield f"cuda:{index}"
                return
        logger.info("every GPU is taken by another job; waiting")
        time.sleep(5)
