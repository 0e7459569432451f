"""Training of nsr's nine methods: what a step takes beside its plain passes, on one thread.

A step as the workflow takes it: points gathered, kernels rescaled, forward and backward passes,
Adamax, decay. Its passes are the forward and backward passes alone. Both stand beside
straightforward PyTorch: modules, one call of autograd per class that is asked for, PyTorch's Adamax
(and no rescaling or decay). The three adversarial methods cost the same and are one line. Then
several networks as one stack of matrix products against one after the other. Data are random
numbers; times do not depend on them. Counted is the time on the processor, which waits for nothing
else.

    python benchmarks/bench_nsr_training.py [--networks relu_mlp kachuee_cnn] [--steps 300]
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))

import numpy as np
import torch
from medrobust.core.registry import parse_spec
from medrobust.models.contract import architecture_of
from medrobust.runtime.devices import fix_threads
from medrobust.training import composed_loss
from medrobust.training.engine.apart_steps import ApartSteps, Descent
from medrobust.training.engine.flat_updates import FlatMember
from medrobust.training.engine.loop import State
from medrobust.training.engine.work import Work
from torch import nn
from torch.nn import functional

FEATURES, CLASSES, BATCH = 187, 5, 128
ENTROPY, SQUARED = {"loss": "cross_entropy"}, {"loss": "squared_error", "normalise_kernels": True}
DECAY = {"l1_decay": 0.01, "l2_decay": 0.01}
MARGIN = SQUARED | {"margin": "windowed"}
METHODS: dict[str, dict[str, Any]] = {
    "ce": ENTROPY | DECAY,
    "jacob": ENTROPY | DECAY | {"normalise_kernels": True, "jacobian_weight": 0.9},
    "mse": SQUARED,
    "mseMargin": MARGIN,
    "loss2": MARGIN | {"r2_weight": 0.5, "r2_offset": 0.01},
    "loss1": MARGIN | {"r1_weight": 0.2},
    "adv": ENTROPY | {"adversarial_weight": 1.0, "adversary": {"epsilon": 0.1}},
}
# Most that a step may take, by its plain passes; jacob's bar is how much faster it has to be.
SLOWER = 1.1
JACOB_FASTER = {"relu_mlp": 1.3, "kachuee_cnn": 1.0}


class Block(nn.Module):
    """Two convolutions with a skip connection, and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv1d(32, 32, 5, padding=2) for _ in range(2))
        self.pool = nn.MaxPool1d(5, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps ``[n, 32, d]`` to ``[n, 32, (d - 5) // 2 + 1]``."""
        return self.pool(torch.relu(self.second(torch.relu(self.first(x))) + x))


def plain_network(name: str) -> nn.Sequential:
    """Returns the network written the usual way."""
    if name == "relu_mlp":
        return nn.Sequential(
            nn.Linear(187, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
            nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32), nn.Linear(32, 5),
        )  # fmt: skip
    return nn.Sequential(
        nn.Unflatten(1, (1, 187)), nn.Conv1d(1, 32, 5, padding=2), *[Block() for _ in range(5)],
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5),
    )  # fmt: skip


def plain_loss(name: str, network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns the loss of a batch, as one writes it down."""
    if name == "adv":
        return functional.cross_entropy(network(x), y) + functional.cross_entropy(
            network(plain_pgd(network, x, y)), y
        )
    slopes_wanted = name in ("jacob", "loss1", "loss2")
    x = x.clone().requires_grad_(slopes_wanted)
    z = network(x)
    if name == "ce":
        return functional.cross_entropy(z, y)
    if name == "jacob":
        jacobian: Any = 0.0
        for k in range(CLASSES):
            (slope,) = torch.autograd.grad(z[:, k].sum(), x, create_graph=True)
            jacobian = jacobian + slope.abs().sum()
        return functional.cross_entropy(z, y) + 0.9 * jacobian / (len(x) * FEATURES)
    loss = ((z - functional.one_hot(y, CLASSES)) ** 2).sum(dim=1).mean()
    if name == "mse":
        return loss
    correct = z.argmax(dim=1) == y
    z_y = z.gather(1, y[:, None])
    terms = 1 - z_y + z
    active = (terms > 0) & (terms < 2) & correct[:, None] & (functional.one_hot(y, CLASSES) == 0)
    loss = loss + terms[active].sum() / max(int(active.sum()), 1)
    if name == "mseMargin":
        return loss
    (w,) = torch.autograd.grad(z_y.sum(), x, create_graph=True)
    w, points = w[correct], x[correct].detach()
    if not len(w):
        return loss
    if name == "loss1":
        along = points / (points * points).sum(dim=1, keepdim=True)
        return loss + 0.2 * ((w - along) ** 2).sum(dim=1).mean()
    ratio = w.abs().sum(dim=1) / (z_y[correct, 0].abs() + 0.01)
    return loss + 0.5 * torch.log(1 + ratio).mean()


def plain_pgd(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns adversarial examples: ten signed steps, the gradient by autograd."""
    found = x + torch.empty_like(x).uniform_(-0.1, 0.1)
    for _ in range(10):
        found.requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(network(found), y), found)
        found = found.detach() + 0.01 * slope.sign()
        found = torch.minimum(torch.maximum(found, x - 0.1), x + 0.1).clamp(0, 1)
    return found


def plain_step(
    name: str, network: nn.Module, x: torch.Tensor, y: torch.Tensor, *, moves: bool = False
) -> Callable[[], object]:
    """Returns a function that takes the passes of one step, and the optimiser's if it ``moves``."""
    optimizer = torch.optim.Adamax(network.parameters())

    def step() -> None:
        optimizer.zero_grad()
        plain_loss(name, network, x, y).backward()
        if moves:
            optimizer.step()

    return step


def our_training(
    network: str, method: str, x: np.ndarray, y: np.ndarray
) -> tuple[Callable[[], object], Iterator[float]]:
    """Returns a function that takes the passes of one step, and the seconds of whole steps."""
    entry = architecture_of(network)
    spec = entry.spec(bias=method != "loss1")
    work = Work(x, y, CLASSES, [0], [0], input_range=(0.0, 1.0))
    values = {"name": "composed_loss", "max_epochs": 1, "class_balanced": True}
    settings = parse_spec(
        "method", values | {"revive_kernels": True} | METHODS[method], file="", prefix=""
    )
    descent = composed_loss.descent(settings, entry, spec, work)
    parameters = entry.initial_parameters(spec, (FEATURES,), CLASSES, [0])
    member = FlatMember({name: value[0] for name, value in parameters.items()}, "cpu")
    batch = torch.from_numpy(x[:BATCH]), torch.from_numpy(y[:BATCH])
    draws = torch.Generator().manual_seed(0)
    one = np.full(1, np.inf)
    state = State(0, [0], parameters, {}, one, one, np.zeros(1), {})
    return lambda: descent.gradient(member, *batch, draws), _seconds(work, descent, state)


def _seconds(work: Work, descent: Descent, state: State) -> Iterator[float]:
    steps = ApartSteps(work, descent)
    steps.load(state)
    moments: list[float] = []
    while True:
        moments.clear()
        steps.epoch(state, lambda *_: moments.append(time.thread_time()))
        yield from np.diff(moments)
        state.epoch += 1


def least(step: Callable[[], object], steps: int) -> float:
    """Returns the least milliseconds of ``steps`` calls; the rest is noise of the machine."""
    seconds = []
    for _ in range(steps):
        begin = time.thread_time()
        step()
        seconds.append(time.thread_time() - begin)
    return 1e3 * min(seconds)


def compare(network: str, steps: int) -> None:
    """Prints one line per method."""
    rng = np.random.default_rng(0)
    x = rng.random((16 * BATCH, FEATURES), dtype=np.float32)
    y = rng.integers(0, CLASSES, len(x))
    points, labels = torch.from_numpy(x[:BATCH]), torch.from_numpy(y[:BATCH])
    head = ("step", "passes", "plain step", "plain passes", "step / plain passes", "bar")
    print(f"\n{network:<14}" + "".join(f"{column:>21}" for column in head))
    for method in METHODS:
        passes, own = our_training(network, method, x, y)
        plain = [
            plain_step(method, plain_network(network), points, labels, moves=moves)
            for moves in (True, False)
        ]
        # In turns, so that what else the machine does meets all.
        rounds = []
        for _ in range(6):
            step = 1e3 * min(next(own) for _ in range(steps // 6))
            rounds.append([step, *(least(work, steps // 6) for work in (passes, *plain))])
        times = np.min(rounds, axis=0)
        ratio, bar = times[0] / times[3], SLOWER
        if method == "jacob":
            ratio, bar = times[1] / times[3], 1 / JACOB_FASTER[network]
        cells = "".join(f"{value:>21.3f}" for value in (*times, ratio, bar))
        print(f"{method:<14}{cells}" + (" (passes / plain passes)" if method == "jacob" else ""))


def stacked_passes(members: int) -> Callable[[], object]:
    """Returns the passes of the cross-entropy of ``members`` perceptrons as one stack."""
    sizes = [187, 128, 128, 128, 32, 5]
    weights = [torch.randn(members, i, o).div_(i**0.5) for i, o in itertools.pairwise(sizes)]
    biases = [torch.zeros(members, 1, o) for o in sizes[1:]]
    leaves = [tensor.requires_grad_() for tensor in (*weights, *biases)]
    x, y = torch.rand(members, BATCH, FEATURES), torch.randint(0, CLASSES, (members * BATCH,))

    def step() -> None:
        hidden = x
        for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
            hidden = torch.baddbmm(b, hidden, w)
            hidden = hidden.relu_() if layer < 3 else hidden
        loss = functional.cross_entropy(hidden.flatten(0, 1), y, reduction="none").sum() / BATCH
        torch.autograd.grad(loss, leaves)

    return step


def compare_stacks(steps: int) -> None:
    """Prints what a stack of perceptrons takes per network."""
    alone = least(plain_step("ce", plain_network("relu_mlp"), torch.rand(BATCH, FEATURES),
                             torch.randint(0, CLASSES, (BATCH,))), steps)  # fmt: skip
    print("\nrelu_mlp, passes of ce, per network: stack of networks against a network alone")
    print(f"alone: {alone:.3f}")
    for members in (2, 4, 9):
        each = least(stacked_passes(members), max(steps // members, 3)) / members
        print(f"stack of {members}: {each:.3f}, {alone / each:.2f} times as fast")


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = list(JACOB_FASTER)
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--steps", type=int, default=300, help="of the perceptron; 30th of the CNN")
    options = parser.parse_args()
    fix_threads(1)
    print("milliseconds of one thread per batch of 128, least of the steps")
    for network in options.networks:
        compare(network, options.steps if network == "relu_mlp" else max(options.steps // 30, 6))
    if "relu_mlp" in options.networks:
        compare_stacks(options.steps)


if __name__ == "__main__":
    main()
