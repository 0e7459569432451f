"""Pretrained weights for residual networks with batch normalisation, and their way back out.

A file of weights that somebody else trained names its arrays otherwise than we do. Two layouts are
known, each also under a prefix such as ``module.`` or ``encoder.``:

* ``torchvision``: that of torchvision's ``resnet50``, which timm and MONAI have too, and
  tonylins/simclr-converter, which turns the weights of SimCLR (Chen et al. 2020) into PyTorch's:
  ``conv1.weight``, ``bn1.running_mean``, ``layer1.0.downsample.0.weight``;
* ``simclr_v2``: that of Separius/SimCLRv2-Pytorch, which does so with the weights of SimCLRv2 (Chen
  et al. 2020), without selective kernels (``r50_1x_sk0``): ``net.0.0.weight``,
  ``net.1.blocks.0.net.1.0.running_mean``, ``net.1.blocks.0.projection.shortcut.weight``.

Both were read on 2026-11-30: docs/resnet50.md. Everything is taken but the output layer, which is
for other classes: heads are known and left aside, any other array that is missing, not known, or of
another shape is an error that lists all of them.

Files are safetensors, which hold arrays and nothing else. Files of PyTorch (``.pth``) are pickles,
which run code as they are read; they are refused with the lines that turn one into safetensors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.models.engine.batch_normed import Network, Spec

#: What a file of weights may hold beside the network: the names of its outermost parts.
HEADS = frozenset(
    {"fc", "classifier", "linear", "head", "heads", "contrastive_head", "predictor", "prototypes"}
    | {"projection", "projection_head", "projector", "mlp"}
)
#: Files that hold pickles, by their suffixes and by their first bytes (a zip archive, a pickle).
PICKLES = frozenset({".pth", ".pt", ".ckpt", ".bin", ".pkl", ".pickle", ".tar"})
_PICKLED = (b"PK\x03\x04", b"\x80")
#: How many names a message shows.
SHOWN = 20
_VARIANCE = "running_var"

#: From a network to the names of each convolution and of its normalisation in a layout, by ours.
_Names = Callable[[Network], dict[str, tuple[str, str]]]


@dataclass(frozen=True)
class Pretrained:
    """Weights that were read.

    Attributes:
        arrays: float32, by our names, without a member axis; all but the output layer.
        layout: "torchvision" or "simclr_v2".
        sha256: of the file.
        keys_ignored: names in the file of heads and of counters of batches, sorted.
    """

    arrays: dict[str, np.ndarray]
    layout: str
    sha256: str
    keys_ignored: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where an array of a layout lies in ours.

    Attributes:
        name: of our array.
        part: the rows of it.
        shape: of the array of the layout.
    """

    name: str
    part: slice
    shape: tuple[int, ...]


def _torchvision_names(network: Network) -> dict[str, tuple[str, str]]:
    names = {"1": ("conv1", "bn1")}
    for block in network.blocks:
        within = f"layer{block.stage + 1}.{block.place}"
        for k, layer in enumerate(block.path, start=1):
            names[layer.name] = f"{within}.conv{k}", f"{within}.bn{k}"
        if block.skip is not None:
            names[block.skip.name] = f"{within}.downsample.0", f"{within}.downsample.1"
    return names


def _simclr_v2_names(network: Network) -> dict[str, tuple[str, str]]:
    names = {"1": ("net.0.0", "net.0.1.0")}
    for block in network.blocks:
        within = f"net.{block.stage + 1}.blocks.{block.place}"
        for k, layer in enumerate(block.path):
            names[layer.name] = f"{within}.net.{2 * k}", f"{within}.net.{2 * k + 1}.0"
        if block.skip is not None:
            shortcut = f"{within}.projection"
            names[block.skip.name] = f"{shortcut}.shortcut", f"{shortcut}.bn.0"
    return names


LAYOUTS: dict[str, _Names] = {"torchvision": _torchvision_names, "simclr_v2": _simclr_v2_names}


def read_weights(path: str | Path, spec: Spec, *, sha256: str | None = None) -> Pretrained:
    """Reads pretrained weights for a network.

    Args:
        path: a safetensors file.
        spec: settings of ``resnet50``: how many stages, blocks and channels.
        sha256: that the file must have, in hexadecimal; None: any.

    Raises:
        InputError: there is no such file, it is a pickle or no safetensors file, it has another
            SHA-256, names in no known layout, arrays that are missing, not known, of another shape
            or no floating-point numbers, or values that cannot be.
    """
    file = Path(path)
    _refuse_others(file)
    found = _checked_hash(file, sha256)
    arrays, network = _read(file), spec.network()
    layout, prefix = _layout_of(arrays, network, file)
    places = _places(network, LAYOUTS[layout](network))
    keys = {key: key.removeprefix(prefix) for key in arrays if key.startswith(prefix)}
    own = {name: arrays[key] for key, name in keys.items() if name in places}
    rest = [key for key in arrays if keys.get(key) not in places]
    ignored = [key for key in rest if _is_counter(key, prefix, places) or _is_head(key, prefix)]
    problems = _problems(own, sorted({*rest} - {*ignored}), places)
    if problems:
        raise InputError(
            f"The weights of this file do not fit the network. {' '.join(problems)}",
            where=f"{file}, layout {layout}" + (f" under {prefix!r}" if prefix else ""),
            remedy="use weights of a network with the same stages, blocks and channels, or change "
            "these settings of the architecture.",
        )
    return Pretrained(_joined(own, places), layout, found, tuple(sorted(ignored)))


def with_pretrained(
    initial: dict[str, np.ndarray], arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns initial values in which every member begins with pretrained ones.

    Args:
        initial: of members, float32 with a leading member axis; not changed. What ``arrays`` does
            not have, such as the output layer, stays each member's own draw.
        arrays: by name, without a member axis, as :func:`read_weights` gives them.

    Raises:
        InputError: an array is none of the members', or has another shape.
    """
    wrong = [
        f"{name}: {list(value.shape)}, not {list(initial[name].shape[1:])}"
        if name in initial
        else f"{name}: not an array of this network"
        for name, value in arrays.items()
        if name not in initial or initial[name].shape[1:] != value.shape
    ]
    if wrong:
        raise InputError(
            f"Pretrained weights do not fit the network: {_listed(wrong)}.",
            remedy="use weights of a network with the same stages, blocks and channels.",
        )
    members = len(next(iter(initial.values())))
    return {
        name: np.repeat(arrays[name][None], members, axis=0).astype(value.dtype)
        if name in arrays
        else value.copy()
        for name, value in initial.items()
    }


def torchvision_layout(spec: Spec, member: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns one member's arrays by the names of torchvision's layout, the output as ``fc``.

    The way back of :func:`read_weights`. Written by :func:`medrobust.core.io.write_tensors`, it can
    be read there, and loaded into a network of torchvision, timm or MONAI.

    Args:
        spec: settings of ``resnet50``.
        member: its arrays, without a member axis.
    """
    network = spec.network()
    places = _places(network, LAYOUTS["torchvision"](network))
    body = {key: member[place.name][place.part] for key, place in places.items()}
    return body | {"fc.weight": member["w_output"], "fc.bias": member["b_output"]}


def refuse_pickle(file: Path) -> None:
    """Refuses a pickle, told by its suffix or its first bytes; no more of it is read.

    The first eight bytes of a safetensors file, a length, can be those of a pickle; after them
    comes a brace.

    Raises:
        InputError: it is one; the remedy has the lines that turn it into safetensors.
    """
    with open(file, "rb") as opened:
        start = opened.read(9)
    pickled = start.startswith(_PICKLED) and start[8:] != b"{"
    if pickled or file.suffix.lower() in PICKLES:
        raise _pickle(file)


def _refuse_others(file: Path) -> None:
    """Refuses a file that is not there, or a pickle."""
    if not file.is_file():
        raise InputError(
            "There is no such file of pretrained weights.",
            where=str(file),
            remedy="correct the path, or put the file there.",
        )
    refuse_pickle(file)


def _read(file: Path) -> dict[str, np.ndarray]:
    """Returns all arrays of a safetensors file by their names there."""
    try:
        return io.read_tensors(file)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"This file holds arrays of a type that NumPy does not have ({error}).",
            where=str(file),
            remedy="write it again with its arrays in float32 (`tensor.float()`).",
        ) from error


def _pickle(file: Path) -> InputError:
    target = file.with_suffix(".safetensors").name
    return InputError(
        "This is a pickle, as PyTorch writes them: it runs code when it is read, so it is not.",
        where=str(file),
        remedy="if you trust where it comes from, turn it into safetensors, in Python where "
        "PyTorch is installed:\n"
        "    import torch\n"
        "    from safetensors.torch import save_file\n"
        f'    state = torch.load("{file.name}", map_location="cpu", weights_only=True)\n'
        '    state = state.get("state_dict", state.get("resnet", state))\n'
        f'    save_file({{k: v.contiguous() for k, v in state.items()}}, "{target}")',
    )


def _checked_hash(file: Path, wanted: str | None) -> str:
    """Returns the SHA-256 of a file, which must be the one that is wanted, if any is."""
    found = io.sha256_of_file(file)
    if wanted is not None and wanted.lower() != found:
        raise InputError(
            f"This file has the SHA-256 {found}, not {wanted}.",
            where=str(file),
            remedy="download it again, or correct the SHA-256 if this is the file that is meant.",
        )
    return found


def _layout_of(arrays: dict[str, np.ndarray], network: Network, file: Path) -> tuple[str, str]:
    """Returns the layout of a file and the prefix of its names: those that most names have."""
    known = {layout: _places(network, names_of(network)) for layout, names_of in LAYOUTS.items()}
    found: Counter[tuple[str, str]] = Counter()
    for key in arrays:
        parts = key.split(".")
        for count in range(len(parts)):
            prefix = "".join(f"{part}." for part in parts[:count])
            name = key.removeprefix(prefix)
            found.update((layout, prefix) for layout, places in known.items() if name in places)
    likely = [one for one, count in found.items() if count > len(known[one[0]]) / 2]
    if len(likely) == 1:
        return likely[0]
    if likely:
        prefixes = ", ".join(repr(prefix) for _, prefix in likely)
        raise InputError(
            f"This file holds several networks, with the prefixes {prefixes}.",
            where=str(file),
            remedy="write a file with one of them.",
        )
    examples = "; ".join(f"{layout}: {', '.join([*known[layout]][:3])}, ..." for layout in known)
    raise InputError(
        "The arrays of this file do not have the names of this network in any layout that is "
        f"known. It holds {_listed(sorted(arrays))}.",
        where=str(file),
        remedy=f"give them the names of one of these layouts, under any prefix ({examples}), or "
        "change stages and blocks of the architecture to those of the weights.",
    )


def _places(network: Network, names: dict[str, tuple[str, str]]) -> dict[str, _Place]:
    """Returns where each array of a layout lies in ours, by its name there."""
    places, done, whole = {}, 0, slice(None)
    for layer in network.layers():
        convolution, norm = names[layer.name]
        kernels = (layer.after, layer.before, layer.width, layer.width)
        places[f"{convolution}.weight"] = _Place(f"w{layer.name}", whole, kernels)
        part = slice(done, done + layer.after)
        for key, own, rows in (
            ("weight", f"scale{layer.name}", whole),
            ("bias", f"shift{layer.name}", whole),
            ("running_mean", "mean", part),
            (_VARIANCE, "variance", part),
        ):
            places[f"{norm}.{key}"] = _Place(own, rows, (layer.after,))
        done += layer.after
    return places


def _is_counter(key: str, prefix: str, places: dict[str, _Place]) -> bool:
    """Tells whether a name is that of how many batches a normalisation has seen."""
    norm, _, last = key.removeprefix(prefix).rpartition(".")
    return last == "num_batches_tracked" and f"{norm}.{_VARIANCE}" in places


def _is_head(key: str, prefix: str) -> bool:
    """Tells whether a name is that of a head, beside the network or beside what holds it."""
    parts = prefix.split(".")[:-1]
    outer = [".".join([*parts[:count], ""]) for count in range(len(parts), -1, -1)]
    within = next(one for one in outer if key.startswith(one))
    return key.removeprefix(within).partition(".")[0] in HEADS


def _problems(
    own: dict[str, np.ndarray], strangers: list[str], places: dict[str, _Place]
) -> list[str]:
    """Returns in words what is wrong with the arrays of a file, by their names without prefix."""
    shapes = [
        f"{key} {list(value.shape)}, not {list(places[key].shape)}"
        for key, value in own.items()
        if value.shape != places[key].shape
    ]
    missing = [key for key in places if key not in own]
    kinds = [f"{key} ({value.dtype})" for key, value in own.items() if value.dtype.kind != "f"]
    broken = [key for key, value in own.items() if not _can_be(key, value)]
    found = {
        "Missing": missing,
        "Not known": strangers,
        "Of another shape": shapes,
        "No floating-point numbers": kinds,
        "NaN, infinite, or variances below 0": broken,
    }
    return [f"{what}: {_listed(keys)}." for what, keys in found.items() if keys]


def _can_be(key: str, value: np.ndarray) -> bool:
    """Tells whether all values are finite, and variances not below 0."""
    if value.dtype.kind != "f":
        return True  # told of already
    least = 0.0 if key.endswith(f".{_VARIANCE}") else -np.inf
    return bool(np.isfinite(value).all() and (value >= least).all())


def _listed(keys: list[str]) -> str:
    """Returns how many there are, and the first of them."""
    more = "" if len(keys) <= SHOWN else f" and {len(keys) - SHOWN} more"
    return f"{len(keys)} ({', '.join(keys[:SHOWN])}{more})"


def _joined(own: dict[str, np.ndarray], places: dict[str, _Place]) -> dict[str, np.ndarray]:
    """Returns a file's arrays by our names, float32; averages of all maps as one array each."""
    parts: dict[str, list[np.ndarray]] = {}
    for key, place in places.items():
        parts.setdefault(place.name, []).append(own[key].astype(np.float32))
    return {name: np.concatenate(values) for name, values in parts.items()}
