"""The evaluation attack of ima on its networks: PGD-100 by two losses, one thread.

Moons: 2,000 points, six levels, both losses, with early stops and without, on the perceptron of the
paper after some passes of Adam on the cross-entropy. Without early stops no network takes longer.

Images: milliseconds for the gradient of one image, forward and back, on networks of random weights
(the time does not depend on them), and for the forward pass alone.

Times are CPU times, so other work beside it matters less.

    python benchmarks/bench_ima_attack.py [--only moons images]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
from medrobust.attacks import pgd, run_attack
from medrobust.models import instance_norm_cnn, layer_norm_mlp, resnet18, resnet50
from medrobust.models.ensembles import Ensemble, build_ensemble
from medrobust.runtime.devices import fix_threads
from sklearn.datasets import make_moons

LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
LOSSES = ("cross_entropy", "margin")
TRAINING, POINTS = 20_000, 2_000
BAR = 10.0
REPEATS = 3

Conv = instance_norm_cnn.Convolution
FASHION = instance_norm_cnn.Spec(
    convolutions=[
        Conv(channels=64, kernel=5, stride=2, padding=2),
        Conv(channels=128, kernel=5, stride=2, padding=2),
        Conv(channels=256, kernel=5, stride=2, padding=2),
        Conv(channels=512, kernel=4),
    ]
)
SVHN = instance_norm_cnn.Spec(
    convolutions=[
        Conv(channels=32, kernel=3, padding=1),
        Conv(channels=32, kernel=3, stride=2, padding=1),
        Conv(channels=64, kernel=3, padding=1),
        Conv(channels=64, kernel=3, stride=2, padding=1),
        Conv(channels=128, kernel=3, padding=1),
        Conv(channels=128, kernel=3, stride=2, padding=1),
        Conv(channels=256, kernel=4),
    ]
)
IMAGES = {
    "Fashion-MNIST": (instance_norm_cnn, FASHION, (1, 28, 28), 10),
    "SVHN": (instance_norm_cnn, SVHN, (3, 32, 32), 10),
    "COVID CT": (resnet18, resnet18.Spec(outputs="one"), (1, 224, 224), 2),
    "BUS": (resnet50, resnet50.Spec(), (3, 224, 224), 2),
}


def ensemble_of(module, spec, parameters: dict, shape: tuple[int, ...], classes: int) -> Ensemble:
    """Returns one network as a model under attack."""
    return build_ensemble(
        module.__name__.rsplit(".")[-1], spec, [parameters], vote="soft", input_shape=shape,
        n_classes=classes, input_range=(0.0, 1.0),
    )  # fmt: skip


def trained(x: np.ndarray, y: np.ndarray) -> Ensemble:
    """Returns the perceptron after ten passes."""
    import torch

    spec = layer_norm_mlp.Spec()
    drawn = layer_norm_mlp.initial_parameters(spec, (2,), 2, [0])
    member = {name: torch.from_numpy(v[0].copy()).requires_grad_() for name, v in drawn.items()}
    optimizer = torch.optim.Adam(member.values(), lr=1e-3)
    torch.manual_seed(0)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(10):
        for batch in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            logits = layer_norm_mlp.logits(spec, member, rows[batch])
            torch.nn.functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
    parameters = {name: v.detach().numpy()[None] for name, v in member.items()}
    return ensemble_of(layer_norm_mlp, spec, parameters, (2,), 2)


def moons_line() -> None:
    """Prints the time of all levels and losses."""
    x, y = make_moons(TRAINING + POINTS, noise=0.05, random_state=0)
    x = x.astype(np.float32)
    model = trained(x[:TRAINING], y[:TRAINING])
    x, y = x[TRAINING:], y[TRAINING:]
    seeds = np.random.default_rng(0).integers(0, 2**62, (len(LEVELS), len(LOSSES), POINTS, 1))
    wide = {"num_steps": 100, "step_share": 0.1, "clip_min": -10.0, "clip_max": 10.0}
    run_attack("pgd", model, x[:1], y[:1], pgd.Spec(epsilon=0.1, **wide), seeds[0, 0, :1])
    print(f"Moons, PGD-100, {POINTS:,} points, {len(LEVELS)} levels, {len(LOSSES)} losses: CPU s")
    for early_stop in (True, False):
        safe = np.ones((len(LEVELS), POINTS), dtype=bool)
        begin = time.process_time()
        for i, epsilon in enumerate(LEVELS):
            for j, loss in enumerate(LOSSES):
                spec = pgd.Spec(epsilon=epsilon, loss=loss, early_stop=early_stop, **wide)
                rows = run_attack("pgd", model, x, y, spec, seeds[i, j]).x_adv[:, 0]
                safe[i] &= model.predict(rows) == y
        spent = time.process_time() - begin
        how = "with early stops" if early_stop else "without"
        accuracy = " ".join(f"{a:.4f}" for a in safe.mean(axis=1))
        print(f"  {how:<18}{spent:6.1f}  (bar {BAR:.0f})   accuracy {accuracy}")


def images_line() -> None:
    """Prints what the gradient of an image costs."""
    print("Gradient of one image, one thread: CPU ms")
    for name, (module, spec, shape, classes) in IMAGES.items():
        parameters = module.initial_parameters(spec, shape, classes, [0])
        model = ensemble_of(module, spec, parameters, shape, classes)
        block = model.gradient_block
        x = np.random.default_rng(0).random((block, *shape), dtype=np.float32)
        y = np.zeros(block, dtype=np.int64)
        whole = fastest(lambda m=model, x=x, y=y: m.loss_gradients(x, y, "margin"))
        forward = fastest(lambda m=model, x=x: m.logits(x))
        print(f"  {name:<15}{1e3 * whole / block:8.2f}   forward alone {1e3 * forward / block:.2f}")


def fastest(work) -> float:
    """Returns the fewest CPU seconds that ``work`` takes, after one go."""
    work()
    spent = []
    for _ in range(REPEATS):
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return min(spent)


def main() -> None:
    """Runs the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"moons": moons_line, "images": images_line}
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    arguments = parser.parse_args()
    fix_threads(1)
    for name in arguments.only:
        parts[name]()


if __name__ == "__main__":
    main()
