"""Devices and threads: where a job computes, on which GPU, and with how many threads.

The number of compute threads is a constant of the run (config ``compute_threads``), not the
cores that a job happens to get: matrix products differ in the last bit between thread
counts, and boundary attacks turn a last bit into another label.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.runtime import gpus

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

MKL_MODE = "AUTO,STRICT"
#: Ends the name of a device whose matrix products may use TF32.
TF32 = "+tf32"
CUBLAS_WORKSPACES = ":4096:8"
WAIT_SECONDS = 5.0

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def fix_threads(compute_threads: int) -> None:
    """Sets the number of threads of torch and numba; call it before importing either.

    Matrix products of Intel's MKL are set to the mode whose results do not depend on where in
    memory a matrix begins: members that are trained as one stack begin at any address. cuBLAS gets
    the workspaces with which it sums in one order; it reads this when CUDA starts.
    """
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(compute_threads)
    os.environ["MKL_CBWR"] = MKL_MODE
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = CUBLAS_WORKSPACES
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


def asked_device(device: str, *, allow_tf32: bool) -> str:
    """Returns a job's argument ``device`` for two settings of the configuration.

    Args:
        device: "auto", "cpu" or "cuda".
        allow_tf32: whether matrix products on a GPU may round their factors to 10 bits.
    """
    return device + TF32 if allow_tf32 and device != "cpu" else device


def choose_device(wanted: str, uses_gpu: bool) -> str:
    """Returns how to compute: "cpu", "cuda" or "cuda+tf32"; the log says why.

    What is returned stands in provenance and in the keys of journals.

    Args:
        wanted: see :func:`asked_device`; with "+tf32" a GPU may use TF32.
        uses_gpu: whether the work has a use for a GPU; if not, it gets "cpu" whatever is wanted.

    Raises:
        InputError: "cuda" is asked for and no CUDA device is usable.
    """
    asked = wanted.removesuffix(TF32)
    if asked == "cpu":
        return "cpu"
    if not uses_gpu:
        logger.info("computes on the CPU: this work has no use for a GPU")
        return "cpu"
    if asked == "auto" and gpus.under_scheduler(os.environ) and not gpus.given(os.environ):
        logger.info(
            "computes on the CPU: device is auto, and the scheduler gave this job no GPU "
            "(device: cuda asks for one)"
        )
        return "cpu"
    if missing := _why_no_cuda():
        if asked == "auto":
            logger.info("computes on the CPU: device is auto, and %s", missing)
            return "cpu"
        raise InputError(
            f"The configuration asks for a CUDA device and PyTorch finds none: {missing}.",
            where="config key device",
            remedy="set `device: cpu` (or auto), or install a CUDA build of PyTorch.",
        )
    chosen = "cuda" + wanted.removeprefix(asked)
    if asked == "auto":
        logger.info("computes on a GPU (%s): device is auto, and PyTorch finds one", chosen)
    return chosen


def _why_no_cuda() -> str:
    """Returns why PyTorch cannot use a GPU, "" where it can."""
    import torch

    if not torch.backends.cuda.is_built():
        return "this PyTorch is a CPU build"
    if gpus.instances(os.environ):
        # To ask would start CUDA with the first instance, before one is chosen.
        return ""
    if torch.cuda.is_available():
        return ""
    seen = os.environ.get(gpus.VISIBLE)
    if seen is not None and not gpus.named(seen):
        return f"{gpus.VISIBLE} is {seen!r}, which hides every GPU"
    return "no CUDA device is there, or its driver does not answer"


@contextlib.contextmanager
def gpu_slot(kind: str) -> Iterator[str]:
    """Yields the device to use, "cpu" or "cuda:k", and makes a GPU compute alike every time.

    Of several GPUs a job takes one that no other job of this user holds, and holds it until the
    end. The lock is of the GPU itself, so it does not matter under which numbers two jobs see it.
    Where Slurm gave GPUs to this job alone, nothing is locked: it may have meant to share them.

    Args:
        kind: what :func:`choose_device` returned.

    Raises:
        InputError: the memory of the GPU is too small for the work.
    """
    if kind == "cpu":
        yield kind
        return
    compute_alike(allow_tf32=kind.endswith(TF32))
    import torch

    with contextlib.ExitStack() as stack:
        if gpus.of_this_job_alone(os.environ):
            logger.info("computes on the GPU that Slurm gave this job")
            device = "cuda:0"
        else:
            device = stack.enter_context(_locked())
        try:
            yield device
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"The memory of the GPU is too small for this work: {error}",
                where=device,
                remedy="train fewer members in a job (`members_per_job`), use a GPU with more "
                "memory, or set `device: cpu`. A smaller `batch_size` takes less too, but is "
                "another training, on slices another attack.",
            ) from None


def compute_alike(*, allow_tf32: bool) -> None:
    """Makes CUDA give the same values each time, matrix products in full float32 but on request.

    PyTorch, "Reproducibility" and "TensorFloat-32": by default convolutions use TF32, and some
    sums are of changing order. Of an operation that PyTorch has in no other form a warning in the
    log gives the name. Nothing of this concerns the CPU.
    """
    import torch

    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers[:] = logger.handlers
    torch.use_deterministic_algorithms(True, warn_only=True)
    # To fill memory that is about to be written costs time and changes no value.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32


def in_halves(
    *places: int, axis: int = 0, recorded: bool = False
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Returns a decorator: where a GPU's memory is too small for all rows, it gets half of them.

    From then on no call gets more rows at once than fitted. The log says so, because on a GPU the
    last bits of a row may depend on the block that it is in. On a CPU this never happens.

    Args:
        places: which arguments have rows along their first axis, as many each; the first of them
            tells how many.
        axis: of the rows in what the function returns: an array, a tensor, or a tuple of these.
        recorded: whether what is returned may be part of a graph of gradients. A graph holds the
            memory of both halves: then the error goes on to whoever can take fewer rows.
    """

    def decorator(function: Callable[..., Result]) -> Callable[..., Result]:
        of_function: dict[str, int] = {}

        @functools.wraps(function)
        def call(*arguments: Any) -> Result:
            rows = len(arguments[places[0]])
            # Of a method, each object has its own.
            known = of_function if places[0] == 0 else vars(arguments[0])
            if rows <= known.get(_FITTING, rows):
                try:
                    return function(*arguments)
                except RuntimeError as error:
                    if rows == 1 or not _memory_is_full(error, recorded=recorded):
                        raise
                _free_memory()
                known[_FITTING] = (rows + 1) // 2
                logger.warning(
                    "the memory of the GPU is too small for a block of %d rows; blocks have %d at "
                    "most from now on, which can change last bits",
                    rows,
                    known[_FITTING],
                )
            size = known[_FITTING]
            parts = [
                call(*(a[i : i + size] if n in places else a for n, a in enumerate(arguments)))
                for i in range(0, rows, size)
            ]
            return _joined(parts, axis)

        return call

    return decorator


_FITTING = "_rows_that_fit"


def _memory_is_full(error: RuntimeError, *, recorded: bool) -> bool:
    import torch

    if recorded and torch.is_grad_enabled():
        return False
    # The libraries behind convolutions and products have words of their own for it.
    return isinstance(error, torch.OutOfMemoryError) or "STATUS_ALLOC_FAILED" in str(error)


def _free_memory() -> None:
    import torch

    torch.cuda.empty_cache()


def _joined(parts: list[Any], axis: int) -> Any:
    import numpy as np

    if isinstance(parts[0], tuple):
        return tuple(_joined(list(each), axis) for each in zip(*parts, strict=True))
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, axis=axis)
    import torch

    return torch.cat(parts, dim=axis)


@contextlib.contextmanager
def _locked() -> Iterator[str]:
    """Yields a GPU that nobody else holds, locked."""
    folder = Path(tempfile.gettempdir()) / f"medrobust-gpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = False
    while True:
        for name, device in _seen():
            with open(folder / re.sub(r"[^\w-]", "_", name), "w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                logger.info("computes on the GPU %s, as %s", name, device)
                with _only(name):
                    yield device
                return
        if not told:
            logger.info(
                "every GPU that this job sees is held by another job; waiting "
                "(`--resources gpu=N` starts no more jobs than N GPUs take)"
            )
            told = True
        time.sleep(WAIT_SECONDS)


def _seen() -> list[tuple[str, str]]:
    """Returns the name of each GPU, the same in every process, and the device that it is here."""
    if names := gpus.instances(os.environ):
        # A process uses one instance: the first of those that it is shown.
        return [(name, "cuda:0") for name in names]
    import torch

    shown = gpus.named(os.environ.get(gpus.VISIBLE, ""))
    found = []
    for index in range(torch.cuda.device_count()):
        uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        name = shown[index] if index < len(shown) else str(index)
        found.append((f"GPU-{uuid}" if uuid else name, f"cuda:{index}"))
    return found


@contextlib.contextmanager
def _only(name: str) -> Iterator[None]:
    """Shows CUDA one instance of a divided GPU; it has not started yet, and reads this once."""
    before = os.environ.get(gpus.VISIBLE, "")
    if name not in gpus.instances(os.environ):
        yield
        return
    os.environ[gpus.VISIBLE] = name
    try:
        yield
    finally:
        os.environ[gpus.VISIBLE] = before
