"""How long it takes to turn large image files into small arrays, and how much memory.

The files are made here: grey pictures of 1,500 x 1,250 pixels, the size of chest X-rays. Of a PNG
whose last rows are black the bytes are counted too. The plain way beside it is a loop over
Pillow's open, convert and resize on as many processes. The last lines are the whole preparation of
so many X-rays: decoding, audit, card, picture and files.

    python benchmarks/bench_images.py [--files 400] [--processes 2] [--repeat 3] [--size 96]
        [--kind jpeg] [--black 0]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

from medrobust.core.io import sha256_of_file
from medrobust.data.formats.images import ImageSpec, read_images
from medrobust.data.prepared.prepare import prepare

WIDTH, HEIGHT = 1500, 1250
DISTINCT = 40
FULL_SET = 5856


def write_files(folder: Path, number: int, kind: str, black: int) -> list[Path]:
    """Writes files with the grain of X-rays and, as JPEG, their size in bytes (about 200 kB)."""
    paths = []
    for index in range(number):
        path = folder / f"{index:05d}.{kind}"
        if index < DISTINCT:
            random = np.random.default_rng(index)
            coarse = Image.fromarray(random.integers(0, 256, (24, 20), np.uint8))
            values = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
            grain = random.normal(0, 3, values.shape)
            picture = np.clip(values + grain, 0, 255).astype(np.uint8)
            picture[HEIGHT - black :] = 0
            Image.fromarray(picture).save(path, **({"quality": 88} if kind == "jpeg" else {}))
        else:
            os.link(paths[index % DISTINCT], path)
        paths.append(path)
    return paths


def plain_picture(size: int, path: Path) -> np.ndarray:
    """One file, as a short script would read it."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((size, size))).transpose(2, 0, 1)


def plain(paths: list[Path], size: int, processes: int) -> np.ndarray:
    """All files, on a pool of processes."""
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return np.stack(pool.map(partial(plain_picture, size), paths))


def prepare_x_rays(paths: list[Path], out: Path, processes: int) -> None:
    """Prepares the files as chest X-rays, a quarter of them normal, all of different people."""
    files = []
    for index, path in enumerate(paths):
        folder = "test" if index % 10 == 0 else "train"
        name = (
            f"PNEUMONIA/person{index}_virus_{index}" if index % 4 else f"NORMAL/IM-{index:04d}-0001"
        )
        known = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        files.append({"name": f"{folder}/{name}.jpeg", "path": str(path)} | known)
    options = {"split": "official", "balanced": False}
    prepare(
        "chest_xray",
        "chest_xray",
        options,
        "kaggle",
        {"files": files},
        out,
        1,
        {},
        allow_subset=True,
        processes=processes,
    )


def best(work: Callable[[], object], repeat: int) -> tuple[float, object]:
    """Returns the shortest of ``repeat`` wall times and the last result."""
    seconds = []
    for _ in range(repeat):
        begin = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), result


def peak_megabytes(processes: int) -> float:
    """Returns the most memory that this process and its children together can have held."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + processes * child) / 1024


def main() -> None:
    """Runs the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=400, help="number of files (bar: 5,000)")
    parser.add_argument("--processes", type=int, default=2, help="processes side by side")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    parser.add_argument("--size", type=int, default=96, help="width and height of the result")
    parser.add_argument("--kind", choices=["jpeg", "png"], default="jpeg", help="format")
    parser.add_argument("--black", type=int, default=0, help="black rows at the bottom")
    options = parser.parse_args()
    spec = ImageSpec(options.size, "grey_rgb")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(Path(folder), options.files, options.kind, options.black)
        ours, read = best(
            lambda: read_images(paths, spec, processes=options.processes), options.repeat
        )
        memory = peak_megabytes(options.processes)
        whole, _ = best(
            lambda: prepare_x_rays(paths, Path(folder) / "out", options.processes), options.repeat
        )
        whole_memory = peak_megabytes(options.processes)
        bar, expected = best(lambda: plain(paths, options.size, options.processes), options.repeat)
    kind = options.kind.upper()
    print(f"{options.files:,} {kind} files of {WIDTH} x {HEIGHT} px to {options.size} px")
    for name, seconds in (("medrobust", ours), ("plain Pillow loop", bar)):
        per_file = 1000 * seconds / options.files
        print(f"    {name:20s} {seconds:7.2f} s  {per_file:6.2f} ms per file", end="")
        print(f"  {FULL_SET * seconds / options.files:6.1f} s for {FULL_SET:,}")
    print(f"plain/ours {bar / ours:.2f} (bar: 1)")
    print(f"most memory, all processes: {memory:.0f} MB (bar: 4,000)")
    print(f"the whole preparation: {whole:.2f} s, {whole_memory:.0f} MB")
    difference = np.abs(read.x.astype(int) - expected)
    print(f"grey levels between the two: {difference.mean():.2f} on average")


if __name__ == "__main__":
    main()
