"""Fashion-MNIST: 28 x 28 grey pictures of articles of clothing, ten classes.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
learning algorithms", arXiv:1708.07747, 2017; four IDX files
(:mod:`medrobust.data.formats.idx_files`).

The release has 60,000 training and 10,000 test images. Ma and Liang (study ima, "Experiments on
Classification") use it without saying how many images are for validation: see
:mod:`medrobust.data.sets.engine.small_images`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrobust.core.schema import checked
from medrobust.data.contract import Adapter
from medrobust.data.formats.idx_files import read_idx
from medrobust.data.prepared.store import Prepared
from medrobust.data.sets.engine.small_images import Options, Part, divided, official_file, standin

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SHAPE = (1, 28, 28)
OFFICIAL_ROWS = (60_000, 10_000)
TRAIN_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST_FILES = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


def adapt(
    options: Mapping[str, Any],
    source: str,
    files: Mapping[str, Path],
    *,
    seed: int,
    allow_subset: bool = False,
    processes: int = 1,
) -> Prepared:
    """Returns the images and their split.

    Args:
        options: the fields of :class:`medrobust.data.sets.engine.small_images.Options`.
        source: "standin", or any source of the four files.
        files: raw file by its official name (none for a stand-in).
        seed: root seed, of a stand-in only: the split has a seed of its own in the options.
        allow_subset: not used: files with fewer images are read, and told as incomplete.
        processes: not used: reading takes less time than a process takes to start.

    Returns:
        x uint8 ``[70000, 1, 28, 28]``, to be scaled to [0, 1]: training images, then test images,
        each in the order of its file.

    Raises:
        InputError: an option is wrong, or raw files are missing or damaged.
    """
    chosen = checked(Options, options, file="config/datasets.yaml", prefix="options")
    if source == "standin":
        return standin(chosen, CLASSES, SHAPE, seed)
    parts = [
        _part(files, names, most)
        for names, most in zip((TRAIN_FILES, TEST_FILES), OFFICIAL_ROWS, strict=True)
    ]
    note = (
        "Images and labels read from the four IDX files: training images first, then test images."
    )
    return divided(*parts, CLASSES, chosen, official_rows=OFFICIAL_ROWS, note=note)


def _part(files: Mapping[str, Path], names: tuple[str, str], most: int) -> Part:
    images, labels = (official_file(files, name, (*TRAIN_FILES, *TEST_FILES)) for name in names)
    x = read_idx(images, SHAPE[1:], most=most)
    return Part(names[0], x[:, None], read_idx(labels, (), most=most))


ADAPTER = Adapter(spec=Options, adapt=adapt)
