"""The image networks of signnet: labels of all members, and an epoch of training of one.

Labels: blocks of images of 96 pixels a side for LeNet x 100 and ResNet-18 x 10, on two processes of
one thread each, as two jobs of an attack run on two processors. Beside it, on the same block, a
plain loop over members, each a module of PyTorch. Both in turn, the least CPU time of each counts.

Training: some steps of one member on batches of 64, one thread, as seconds for an epoch of 2,532
images, of which a fifth is held out.

    python benchmarks/bench_image_networks.py [--only labels training] [--repeats 3]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
from medrobust.models import batch_norm_resnet18, lenet
from medrobust.models.contract import Architecture
from medrobust.runtime.devices import fix_threads
from medrobust.training import adam_cross_entropy
from medrobust.training.engine.work import Work

SHAPE, CLASSES = (3, 96, 96), 2
MEMBERS = {"lenet": 100, "batch_norm_resnet18": 10}
MODULES = {"lenet": lenet, "batch_norm_resnet18": batch_norm_resnet18}
EPOCH, BATCH, STEPS = 2_532 * 0.8, 64, 4
BAR = 1.5


def plain(name: str):
    """Returns one untrained network as a module of PyTorch."""
    from torch import nn

    if name == "lenet":
        return nn.Sequential(
            nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(16 * 24 * 24, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
            nn.Linear(84, CLASSES),
        ).eval()  # fmt: skip
    from monai.networks.nets import resnet18

    return resnet18(
        spatial_dims=2, n_input_channels=3, num_classes=CLASSES, conv1_t_size=7, conv1_t_stride=2
    ).eval()


def spent(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def labels(name: str, repeats: int) -> tuple[float, float, int]:
    """Returns CPU seconds per image of all members, fused and one by one, and the block."""
    fix_threads(1)
    import torch

    members, module = MEMBERS[name], MODULES[name]
    entry: Architecture = module.ARCHITECTURE
    spec, block = module.Spec(), entry.label_block or 64
    arrays = module.initial_parameters(spec, SHAPE, CLASSES, list(range(members)))
    scores = module.member_scores(spec, arrays, SHAPE, CLASSES, "cpu")
    modules = [plain(name) for _ in range(members)]
    x = np.random.default_rng(0).random((block, *SHAPE), dtype=np.float32)

    def loop() -> np.ndarray:
        with torch.inference_mode():
            return torch.stack([own(torch.from_numpy(x)) for own in modules]).numpy()

    times = [(spent(lambda: scores(x)), spent(loop)) for _ in range(repeats + 1)][1:]
    fused, apart = (min(column) / block for column in zip(*times, strict=True))
    return fused, apart, block


def compare_labels(repeats: int) -> None:
    context = multiprocessing.get_context("spawn")
    for name, members in MEMBERS.items():
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            found = list(pool.map(labels, [name] * 2, [repeats] * 2))
        fused, apart, block = (float(np.mean(column)) for column in zip(*found, strict=True))
        print(
            f"{name} x {members}, blocks of {block:.0f}: {1e3 * fused:.1f} ms per image, one after "
            f"the other {1e3 * apart:.1f} ms: {apart / fused:.2f} times as fast (bar {BAR}); "
            f"{2 / fused:.1f} labels per second on two processors"
        )


def time_training() -> None:
    """Prints an epoch of one member, from the difference of two trainings."""
    rng = np.random.default_rng(0)
    for name, module in MODULES.items():

        def train(steps: int, name=name, module=module) -> None:
            n = steps * BATCH
            work = Work(
                rng.random((n, *SHAPE), dtype=np.float32), np.arange(n) % 2, CLASSES, [0], [1]
            )
            spec = adam_cross_entropy.Spec(learning_rate=1e-3, batch_size=BATCH, max_epochs=1)
            adam_cross_entropy.train(spec, name, module.Spec(), work)

        train(1)
        step = (spent(lambda train=train: train(1 + STEPS)) - spent(lambda: train(1))) / STEPS
        print(
            f"{name}: {step:.2f} s per step of {BATCH} images, {1e3 * step / BATCH:.2f} ms each; "
            f"an epoch of {EPOCH:.0f} images {step * EPOCH / BATCH:.0f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choices = ("labels", "training")
    parser.add_argument("--only", nargs="+", choices=choices, default=choices)
    parser.add_argument("--repeats", type=int, default=3, help="of each block")
    arguments = parser.parse_args()
    if "labels" in arguments.only:
        compare_labels(arguments.repeats)
    if "training" in arguments.only:
        fix_threads(1)
        time_training()


if __name__ == "__main__":
    main()
