"""How many rows a model is asked about at a time, by device and architecture.

A matrix product may round a row otherwise in a batch of another size, and a boundary attack turns a
last bit into another label. So blocks have a fixed size, the last one padded, and that size is part
of what defines a record: it follows from the kind of device and from the architecture alone, never
from how much memory is free.

* On a CPU a block is as small as saves time: padded rows cost as much as others.
* A GPU computes thousands of rows of a small network in the time of one. An architecture whose rows
  are large or costly states ``gpu_block``: a power of two, so that what a pass keeps for its way
  back at the papers' sizes takes at most :data:`GPU_BYTES`.
"""

from __future__ import annotations

import math

from medrobust.models.contract import Architecture

#: Rows of a block on a CPU, of labels and of passes with gradients, unless an architecture says
#: otherwise. A pass with its way back has fixed costs, which larger blocks share, and what it holds
#: for 512 rows of a small network still fits a processor's cache.
LABELS, GRADIENTS = 64, 512
#: Values of a point from which on a block of :data:`LABELS` reads more weights than it computes.
WIDE = 4096
#: Rows of any block on a GPU, unless an architecture says otherwise.
ON_GPU = 4096
#: The most that a block should keep: it fits a GPU of 8 GB beside the network.
GPU_BYTES = 2**32


def label_block(architecture: Architecture, device: str) -> int:
    """Returns the rows of a block that is asked for labels.

    Args:
        architecture: what the model is made of.
        device: "cpu" or "cuda", with anything behind it.
    """
    if device.startswith("cuda"):
        return architecture.gpu_block or ON_GPU
    return architecture.label_block or LABELS


def bulk_block(architecture: Architecture, shape: tuple[int, ...], device: str) -> int:
    """Returns the rows of a block in which many rows are asked; 0: as many as of the others.

    Args:
        architecture: what the model is made of.
        shape: of a point.
        device: "cpu" or "cuda", with anything behind it.
    """
    on_cpu, wide = device == "cpu", math.prod(shape) >= WIDE
    return (architecture.bulk_block or 0) if on_cpu and wide else 0


def gradient_block(architecture: Architecture, device: str) -> int:
    """Returns the rows of a pass with gradients, or of one that gives logits; arguments as above.

    On a GPU they are as many as for labels.
    """
    if device.startswith("cuda"):
        return label_block(architecture, device)
    return architecture.gradient_block or GRADIENTS


def stated_block(architecture: Architecture, device: str) -> dict[str, int]:
    """Returns what provenance says beside the name of a GPU: ``{"block": rows}``.

    Of a CPU it says nothing: there the code has the same blocks wherever it runs.
    """
    on_gpu = device.startswith("cuda")
    return {"block": label_block(architecture, device)} if on_gpu else {}
