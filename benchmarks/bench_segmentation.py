"""Trainings of nnU-Net's network with noise beside their passes, and the attack beside a loop.

Patches, network and classes are those of the hippocampus (56 x 40 pixels, four stages), slices
are generated. CPU seconds on one thread. Bars: an iteration of adversarial or increasing-margin
training takes at most 15 % longer than the passes through the network within it; the attack on 100
slices at four levels, through the network as the jobs run it (``nnunet.fast``), is at least twice
as fast as slice by slice, level by level, through the module as nnU-Net builds it.

    python benchmarks/bench_segmentation.py [--batch 28] [--iterations 3] [--slices 100]

Needs requirements-segmentation.txt. What of an attack's step does not hang on the number of steps
is little, so a few steps (``--steps``) tell what 100 take.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import torch
from medrobust.attacks import pixel_pgd
from medrobust.attacks.engine.pixel_network import PixelNetwork
from medrobust.data.prepared.patches import cut_patches
from medrobust.data.standins.slices import plans, slice_set
from medrobust.models import nnunet
from medrobust.models.engine.pixel_losses import at_resolutions
from medrobust.runtime.devices import fix_threads
from medrobust.training import segmentation, segmentation_adversarial, segmentation_ima
from medrobust.training.engine import slice_batches, slice_descent
from stopwatch import Stopwatch

SIDES = (56, 40)
PLANS = plans(SIDES, (32, 64, 128, 256), convolutions=2)
METHODS: dict[str, tuple[Any, dict[str, float]]] = {
    "nnUnet": (segmentation, {}),
    "adv5": (segmentation_adversarial, {"epsilon": 5}),
    "IMA15": (segmentation_ima, {"margin_step": 1.5, "largest_margin": 15}),
}
SLOWER, FASTER, LEVELS = 1.15, 2.0, (1, 5, 10, 15)


def trainings(batch: int, iterations: int) -> None:
    """Prints what iterations take by the passes within them, with and without augmentation."""
    watch, slices = Stopwatch(), slice_set(12, 20, PLANS)
    for name in ("logits", "logits_and_pattern", "pull_back"):
        watch.passes(PixelNetwork, name)
    watch.passes(torch.Tensor, "backward")
    watch.whole(slice_batches.SliceBatches, "draw", "draw")
    watch.whole(slice_descent._Descent, "move", "move")
    print(f"\n{'an iteration':<14}{'CPU s':>8}{'draw':>8}{'passes':>8}{'ratio':>8}{'bar':>8}")
    for name, (module, settings) in METHODS.items():
        spec = module.Spec(batch_size=batch, max_epochs=1, batches_per_epoch=iterations, **settings)
        work = slice_descent.SliceWork(slices, [0], [1])
        module.train(
            module.Spec(**spec.model_dump() | {"batches_per_epoch": 1}), "", nnunet.Spec(), work
        )
        watch.seconds.clear()
        begin = time.process_time()
        module.train(spec, "", nnunet.Spec(), work)
        whole = (time.process_time() - begin) / iterations
        draw, inside = (watch.seconds[key] / iterations for key in ("draw", "passes"))
        ratio, bar = (whole - draw) / inside, "" if name == "nnUnet" else f"{SLOWER:>8.2f}"
        print(f"{name:<14}{whole:>8.2f}{draw:>8.2f}{inside:>8.2f}{ratio:>8.3f}{bar}")


def attacks(count: int, steps: int) -> None:
    """Prints what the attack takes, all at once and one by one."""
    slices = slice_set(3, count, PLANS)
    module = nnunet.build(PLANS, 1, slices.n_classes, 0).eval().requires_grad_(False)
    plain = PixelNetwork(copy.deepcopy(module), (1, *SIDES))
    network = PixelNetwork(nnunet.fast(module), (1, *SIDES))
    images, targets = cut_patches(slices, list(range(count)), SIDES, 0)
    x, truth = torch.from_numpy(images).flatten(1), torch.from_numpy(targets)
    shapes = [output.shape[2:] for output in network.logits(x[:1])]
    known = at_resolutions(truth, shapes)
    specs = [pixel_pgd.Spec(epsilon=level, num_steps=steps) for level in LEVELS]

    def together(size: int) -> None:
        for first in range(0, count, size):
            own = slice(first, first + size)
            seeds = [list(range(len(x[own])))] * len(specs)
            pixel_pgd.attack(network, x[own], [target[own] for target in known], specs, seeds)

    def one_by_one() -> None:
        for row in range(count):
            own = [target[row : row + 1] for target in known]
            for spec in specs:
                pixel_pgd.attack(plain, x[row : row + 1], own, [spec], [[row]])

    print(
        f"\n{f'{count} slices, {len(LEVELS)} levels, {steps} steps':<34}{'CPU s':>8}{'faster':>8}"
    )
    begin = time.process_time()
    one_by_one()
    loop = time.process_time() - begin
    print(f"{'slice by slice, level by level':<34}{loop:>8.1f}")
    for size in (4, 10, 25):
        begin = time.process_time()
        together(size)
        taken = time.process_time() - begin
        print(
            f"{f'{size} slices and all levels':<34}{taken:>8.1f}{loop / taken:>8.2f} (bar {FASTER})"
        )


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=28, help="patches of a batch")
    parser.add_argument("--iterations", type=int, default=3, help="that are timed")
    parser.add_argument("--slices", type=int, default=100, help="that are attacked")
    parser.add_argument("--steps", type=int, default=3, help="of the attack")
    options = parser.parse_args()
    fix_threads(1)
    trainings(options.batch, options.iterations)
    attacks(options.slices, options.steps)


if __name__ == "__main__":
    main()
