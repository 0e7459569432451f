"""PGD and SPSA on the MLP of the noise-to-signal-ratio paper: time; PGD against two libraries.

(The networks of ima: ``bench_ima_attack.py``.)

Workload: PGD-100 on as many points as MIT-BIH has test rows, six levels, two processes of one
thread that share the points, as two jobs of the workflow would. Once with early stops, where the
time depends on how weak the network is, and once without, which no network exceeds.

Libraries: the same steps (cross-entropy, no early stop) on one thread, on the same network and
points, in the maximum norm by signs and in L2 by gradients of length 1: ART's
ProjectedGradientDescentPyTorch at the batch size that suits it best, and torchattacks' PGD and
PGDL2 if ``--torchattacks`` names a folder that holds them
(``pip install --no-deps --target FOLDER torchattacks``).

SPSA: milliseconds for one point and iteration with 2,048 directions.

Times are wall times; ``CPU`` beside them tells whether the machine was busy with something else.
Heartbeats are generated, unless ``--data`` names the folder of a prepared data set of 187 values
and five classes.

    python benchmarks/bench_pgd.py [--data FOLDER] [--torchattacks FOLDER] [--only levels ...]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
from medrobust.attacks import pgd, run_attack, spsa
from medrobust.data.prepared.store import load_dataset
from medrobust.data.standins.ecg import ecg_standin
from medrobust.models import cnn1d
from medrobust.models.ensembles import build_ensemble
from medrobust.runtime.devices import fix_threads
from relu_network import as_ensemble, torch_network

LEVELS = (0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
TEST_ROWS, STEPS, STEP_SIZE = 21_892, 100, 0.01
PROCESSES = 2
LEVELS_BAR, LIBRARY_BAR = 40.0, 1.5
PARTS = ("levels", "linf", "l2", "spsa")
#: Radius and length of a step of the comparison with libraries.
COMPARED = {"linf": (0.05, STEP_SIZE), "l2": (0.2, 0.02)}


def heartbeats(folder: str | None) -> tuple[np.ndarray, ...]:
    """Returns rows and labels to train on, and to attack."""
    if folder:
        data = load_dataset(folder)
        split = data.x_train, data.y_train, data.x_test, data.y_test
    else:
        data = ecg_standin(20_000, TEST_ROWS, ("N", "S", "V", "F", "Q"), seed=0)
        split = data.x[:20_000], data.y[:20_000], data.x[20_000:], data.y[20_000:]
    return tuple(
        np.ascontiguousarray(part, dtype=np.float32 if i % 2 == 0 else np.int64)
        for i, part in enumerate(split)
    )


def trained(x: np.ndarray, y: np.ndarray):
    """Returns the network after some passes of Adamax on the cross-entropy."""
    import torch

    torch.manual_seed(0)
    network = torch_network()
    optimizer = torch.optim.Adamax(network.parameters(), lr=0.002)
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(max(1, 3_000 * 128 // len(x))):
        for batch in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(rows[batch]), labels[batch]).backward()
            optimizer.step()
    return network


def settings(epsilon: float, **options: object) -> pgd.Spec:
    """Returns the settings of PGD-100."""
    values = {"num_steps": STEPS, "step_size": STEP_SIZE, "clip_min": 0.0, "clip_max": 1.0}
    return pgd.Spec(epsilon=epsilon, **(values | options))


def seeds_for(points: int, root: int = 0) -> np.ndarray:
    """Returns seeds of one run per point."""
    return np.random.default_rng(root).integers(0, 2**62, (points, 1))


def timed(work: Callable[[], object]) -> tuple[object, float, float]:
    """Returns what ``work`` returns, its wall and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def _attack_share(
    state: dict, x: np.ndarray, y: np.ndarray, early_stop: bool
) -> tuple[float, float, list[float]]:
    """Attacks points at all levels; returns wall and CPU seconds and accuracies. Own process."""
    fix_threads(1)
    network = torch_network()
    network.load_state_dict(state)
    model = as_ensemble(network)
    run_attack("pgd", model, x[:1], y[:1], settings(0.01, num_steps=1), seeds_for(1))

    def levels() -> list[float]:
        accuracies = []
        for epsilon in LEVELS:
            spec = settings(epsilon, optimizer="adamax", early_stop=early_stop)
            found = run_attack("pgd", model, x, y, spec, seeds_for(len(x)))
            accuracies.append(float((model.predict(found.x_adv[:, 0]) == y).mean()))
        return accuracies

    accuracies, wall, cpu = timed(levels)
    return wall, cpu, accuracies


def levels_line(network, x: np.ndarray, y: np.ndarray) -> None:
    """Prints the time of all levels on two processes."""
    print(f"PGD-{STEPS}, {len(x):,} points, {len(LEVELS)} levels, {PROCESSES} processes x 1 thread")
    for early_stop in (True, False):
        with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
            jobs = [
                pool.submit(
                    _attack_share, network.state_dict(), x[i::PROCESSES], y[i::PROCESSES],
                    early_stop,
                )
                for i in range(PROCESSES)
            ]  # fmt: skip
            found = [job.result() for job in jobs]
        wall, cpu = max(f[0] for f in found), sum(f[1] for f in found)
        accuracy = np.mean([f[2] for f in found], axis=0)
        how = "with early stops" if early_stop else "without"
        print(f"  {how:<18}{wall:7.1f} s  (bar {LEVELS_BAR:.0f} s; CPU {cpu:.1f} s)"
              f"   accuracy {' '.join(f'{a:.3f}' for a in accuracy)}")  # fmt: skip


def libraries_line(network, x: np.ndarray, y: np.ndarray, folder: str | None, norm: str) -> None:
    """Prints PGD's time per point and step beside that of other libraries."""
    model, (epsilon, size) = as_ensemble(network), COMPARED[norm]
    right = np.flatnonzero(model.predict(x) == y)[:4096]
    x, y = x[right], y[right]
    spec = settings(epsilon, step_size=size, norm=norm, early_stop=False)
    run_attack("pgd", model, x[:1], y[:1], spec, seeds_for(1))
    found, _, ours = timed(lambda: run_attack("pgd", model, x, y, spec, seeds_for(len(x))))
    each = ours / len(x) / STEPS
    safe = (model.predict(found.x_adv[:, 0]) == y).mean()
    print(
        f"PGD-{STEPS}, {norm}, {len(x):,} points, epsilon {epsilon}, one thread: "
        "CPU us per point and step"
    )
    print(f"  ours                  {1e6 * each:7.2f}      accuracy {safe:.3f}")
    batches = (128, 512, 4096)
    rivals = {f"ART, batch {batch}": _art(network, norm, batch) for batch in batches}
    if folder:
        rivals |= {f"torchattacks, batch {batch}": _torchattacks(network, norm, batch, folder)
                   for batch in batches}  # fmt: skip
    for name, generate in rivals.items():
        rows, _, cpu = timed(lambda generate=generate: generate(x, y))
        safe = (model.predict(rows) == y).mean()
        theirs = cpu / len(x) / STEPS
        print(f"  {name:<22}{1e6 * theirs:7.2f}   {theirs / each:5.2f} x  (bar {LIBRARY_BAR})"
              f"  accuracy {safe:.3f}")  # fmt: skip
    spec = settings(epsilon, step_size=size, norm=norm)
    _, _, quick = timed(lambda: run_attack("pgd", model, x, y, spec, seeds_for(len(x))))
    print(f"  ours, early stops     {1e6 * quick / len(x) / STEPS:7.2f}")


def _art(network, norm: str, batch: int) -> Callable:
    import torch
    from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
        ProjectedGradientDescentPyTorch,
    )
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), (187,), 5, clip_values=(0.0, 1.0), device_type="cpu"
    )
    epsilon, size = COMPARED[norm]
    attack = ProjectedGradientDescentPyTorch(
        classifier, norm={"linf": "inf", "l2": 2}[norm], eps=epsilon, eps_step=size,
        max_iter=STEPS, num_random_init=1, batch_size=batch, verbose=False,
    )  # fmt: skip
    return attack.generate


def _torchattacks(network, norm: str, batch: int, folder: str) -> Callable:
    import torch

    sys.path.insert(0, folder)
    import torchattacks

    kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[norm]
    epsilon, size = COMPARED[norm]
    attack = kind(network, eps=epsilon, alpha=size, steps=STEPS, random_start=True)

    def generate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        rows, labels = torch.from_numpy(x), torch.from_numpy(y)
        parts = zip(rows.split(batch), labels.split(batch), strict=True)
        return torch.cat([attack(part, own) for part, own in parts]).numpy()

    return generate


def spsa_line(network, x: np.ndarray, y: np.ndarray) -> None:
    """Prints what one iteration of SPSA costs on the MLP and on a CNN."""
    parameters = cnn1d.initial_parameters(cnn1d.Spec(), (187,), 5, [0])
    cnn = build_ensemble(
        "cnn1d", cnn1d.Spec(), [parameters], vote="soft", input_shape=(187,), n_classes=5,
        input_range=(0.0, 1.0),
    )  # fmt: skip
    print("SPSA, 2,048 directions, one thread: CPU ms per point and iteration")
    for name, model, points, steps in (("MLP", as_ensemble(network), 8, 20), ("cnn1d", cnn, 1, 2)):
        labels = model.predict(x[:points])
        spec = spsa.Spec(
            epsilon=0.01, num_steps=steps, clip_min=0.0, clip_max=1.0, early_stop=False
        )
        short = spec.model_copy(update={"num_steps": 1})
        run_attack("spsa", model, x[:1], labels[:1], short, seeds_for(1))
        _, _, cpu = timed(
            lambda m=model, n=points, own=labels, s=spec: run_attack(
                "spsa", m, x[:n], own, s, seeds_for(n)
            )
        )
        rows = x[np.arange(4096) % len(x)]
        _, _, alone = timed(lambda m=model, rows=rows: m.logits(rows))
        print(
            f"  {name:<6}{1e3 * cpu / points / steps:9.2f}   its 4,096 rows alone {1e3 * alone:.2f}"
        )


def main() -> None:
    """Runs the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of a prepared data set")
    parser.add_argument("--torchattacks", help="folder that holds torchattacks")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    fix_threads(1)
    x_train, y_train, x, y = heartbeats(arguments.data)
    network = trained(x_train, y_train)
    if "levels" in arguments.only:
        levels_line(network, x, y)
    for norm in COMPARED:
        if norm in arguments.only:
            libraries_line(network, x, y, arguments.torchattacks, norm)
    if "spsa" in arguments.only:
        spsa_line(network, x, y)


if __name__ == "__main__":
    main()
