"""A CUDA device that is not there: tensors that compute on the CPU and are marked as ``cuda:0``.

What fails on a real device fails here: an operation of marked and unmarked tensors, ``numpy()`` of
a marked one, a generator of the other device, a CPU tensor indexed by a marked one. What lets the
host wait for the device is counted, by the line of the library that does it: values that Python
reads (``item``, ``bool``, ``nonzero``, a mask as an index), and copies between host and device.

What it cannot show: speed, memory, rounding, kernels that CUDA does not have, and what the backward
pass does inside of PyTorch.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
_READS = {"item", "tolist", "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive"}
_READS |= {"equal", "allclose", "is_nonzero", "__bool__", "__int__", "__float__", "__index__"}
_READS |= {"__contains__", "__repr__"}
#: May have a tensor of the other device beside a marked one.
_ACROSS = frozenset(("copy_", "to", "type_as", "set_"))


@dataclass
class Seen:
    """What the host waited for.

    Attributes:
        reads: values that Python read from the device.
        to_host, to_device: tensors copied.
        places: how often each line of the library did one of these.
    """

    reads: int = 0
    to_host: int = 0
    to_device: int = 0
    places: Counter[str] = field(default_factory=Counter)

    @property
    def waits(self) -> int:
        """All of them."""
        return self.reads + self.to_host + self.to_device

    def count(self, kind: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.places[f"{kind} {_place()}"] += 1


def _place() -> str:
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/medrobust/" in file:
            return f"{file.rpartition('/medrobust/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "outside of the library"


class Marked(torch.Tensor):
    """A tensor that says it is on the device."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        # Only without the mode, in a thread of its own: nothing of ours does that.
        raise AssertionError(f"{function.__name__} of a marked tensor outside of `pretended`")


_Generator = torch.Generator


class _Generators(_Generator):
    """Makes generators, and keeps those that say they are on the device: they have no room for it.

    Attributes:
        marked: these.
    """

    marked: ClassVar[list[Any]] = []

    def __new__(cls, device: Any = "cpu") -> Any:
        made = _Generator()
        if torch.device(device).type == "cuda":
            cls.marked.append(made)
        return made


def is_marked(value: Any) -> bool:
    """Tells whether a value says that it is on the device."""
    return isinstance(value, Marked)


def _mark(value: Any) -> Any:
    return value.as_subclass(Marked) if type(value) is torch.Tensor else value


def _plain(value: Any) -> Any:
    return value.as_subclass(torch.Tensor) if is_marked(value) else value


class _Pretended(TorchFunctionMode):
    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            return self._run(function, args, kwargs or {})

    def _run(self, function: Any, args: Any, kwargs: Any) -> Any:
        if function is torch.device:
            return function(*args, **kwargs)
        name = getattr(function, "__name__", str(function))
        flat = tree_flatten((args, kwargs))[0]
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]
        marked = any(map(is_marked, tensors))
        if name == "__get__":
            return self._attribute(function, args, kwargs, marked)
        if name in ("__set__", "__delete__", "backward", "requires_grad_", "retain_grad"):
            return function(*args, **kwargs)
        self._refuse_mixed(name, args, flat, tensors, marked)
        if marked:
            self._count_reads(name, args, kwargs)
        named, args, kwargs = self._without_devices(args, kwargs)
        if name in ("to", "cpu", "cuda", "type_as"):
            return self._moved(function, name, args, kwargs, named)
        if name == "copy_" and is_marked(args[0]) != is_marked(args[1]):
            self._seen.count("to_device" if is_marked(args[0]) else "to_host")
        if (name == "tensor" and named == "cuda") or (name == "as_tensor" and named == "cuda"):
            self._seen.count("to_device")
        out = function(*args, **kwargs)
        on_device = named == "cuda" if named else marked
        return tree_map(_mark, out) if on_device else out

    def _attribute(self, function: Any, args: Any, kwargs: Any, marked: bool) -> Any:
        what = getattr(getattr(function, "__self__", None), "__name__", "")
        if marked and what in ("device", "is_cuda", "is_cpu"):
            return {"device": CUDA, "is_cuda": True, "is_cpu": False}[what]
        out = function(*args, **kwargs)
        return tree_map(_mark, out) if marked else out

    def _refuse_mixed(self, name: str, args: Any, flat: Any, tensors: Any, marked: bool) -> None:
        if marked and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        for generator in (value for value in flat if isinstance(value, _Generator)):
            if tensors and any(generator is one for one in _Generators.marked) != marked:
                raise RuntimeError(f"{name}: the generator is of another device, at {_place()}")
        if not marked or name in _ACROSS:
            return
        if name in ("__getitem__", "__setitem__"):
            if not is_marked(args[0]):
                raise RuntimeError(f"a CPU tensor is indexed by one of cuda:0, at {_place()}")
            # Indices may lie on the host; they are copied.
            for value in tree_flatten(args[1:])[0]:
                if isinstance(value, torch.Tensor) and not is_marked(value) and value.dim():
                    self._seen.count("to_device")
            return
        for tensor in tensors:
            if not is_marked(tensor) and tensor.dim():
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found cuda:0 and cpu: "
                    f"{name} of a CPU tensor of shape {tuple(tensor.shape)}, at {_place()}"
                )

    def _count_reads(self, name: str, args: Any, kwargs: Any) -> None:
        masked = False
        if name in ("__getitem__", "__setitem__"):
            index = [i for i in tree_flatten(args[1])[0] if isinstance(i, torch.Tensor)]
            masked = any(i.dtype == torch.bool for i in index)
            if name == "__setitem__" and masked:
                # A single value is filled in without a look at the mask.
                masked = isinstance(args[2], torch.Tensor) and args[2].dim() > 0
        alone = name == "where" and len(args) == 1 and not kwargs
        repeats = name == "repeat_interleave" and len(args) > 1 and is_marked(args[1])
        if name in _READS or masked or alone or repeats:
            self._seen.count("reads")

    def _without_devices(self, args: Any, kwargs: Any) -> tuple[str | None, Any, Any]:
        """Returns the device that is named ("cpu", "cuda" or None), and arguments without it."""
        named: list[str] = []

        def on_cpu(value: Any) -> Any:
            is_name = isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda")
            if is_name or isinstance(value, torch.device):
                named.append(torch.device(value).type)
                return torch.device("cpu")
            return value

        args, kwargs = tree_map(on_cpu, args), tree_map(on_cpu, kwargs)
        return (named[-1] if named else None), args, kwargs

    def _moved(self, function: Any, name: str, args: Any, kwargs: Any, named: str | None) -> Any:
        here = is_marked(args[0])
        like = [value for value in args[1:] if isinstance(value, torch.Tensor)]
        there = {"cpu": False, "cuda": True}.get(name, here)
        if named is not None:
            there = named == "cuda"
        elif like:
            there = is_marked(like[0])
        if name == "cuda":
            function, args, kwargs = torch.Tensor.to, (args[0], "cpu"), {}
        out = function(*map(_plain, args), **kwargs)
        if here != there:
            self._seen.count("to_device" if there else "to_host")
            # Memory of its own, as after a copy.
            out = out.clone()
        return _mark(out) if there else _plain(out)


@contextlib.contextmanager
def pretended() -> Iterator[Seen]:
    """Pretends that there is a device ``cuda:0``; yields what the host waits for."""
    seen = Seen()
    torch.Generator = _Generators
    try:
        with _Pretended(seen):
            yield seen
    finally:
        torch.Generator = _Generator
        _Generators.marked.clear()
