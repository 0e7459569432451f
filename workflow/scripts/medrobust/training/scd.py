"""Stochastic coordinate descent: sign networks trained without gradients.

Signnet (Yang et al. 2020), section II.A and signnet-code: SCD01 (``loss: zero_one``) and SCDCE
(``loss: cross_entropy``). Every network is trained alone, from its own random stream, by the
compiled iteration of :mod:`medrobust.training.engine.scd_descent_kernels`; networks run side by
side in ``work.threads`` threads, which changes none of them. With more than two classes each member
is one network per class, that class against the rest.

Finished networks are journalled: a killed job loses at most those it was working on.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medrobust.core.errors import InputError
from medrobust.core.logs import Progress
from medrobust.core.schema import Settings
from medrobust.core.seeds import generator
from medrobust.models.sign_network import networks_per_member
from medrobust.training.contract import Method
from medrobust.training.engine.work import Trained, Work

# Between two reports; also the time until an interrupted job notices.
_ITERATIONS_PER_CALL = 20

_ARRAYS = ("hidden_weights", "hidden_bias", "output_weights", "output_bias")


class Spec(Settings):
    """Settings of stochastic coordinate descent; amounts as in signnet-code."""

    loss: Literal["zero_one", "cross_entropy"] = Field(
        description="what the output node minimises: zero_one is SCD01, cross_entropy SCDCE"
    )
    iterations: int = Field(default=1000, ge=1, description="iterations of each network")
    row_share: float = Field(
        gt=0, le=1, description="share of each class's rows drawn for an iteration (nrows)"
    )
    hidden_step: float = Field(
        default=0.17, gt=0, description="change of a hidden node's weight (inc1)"
    )
    output_step: float = Field(default=0.2, gt=0, description="change of an output weight (inc2)")
    features_per_iteration: int = Field(
        ge=1, description="weights of the hidden node tried in an iteration (updated_features)"
    )
    window: int = Field(
        default=20, ge=1, description="ranks on each side of the best threshold that are tried"
    )
    balanced_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of the iterations, the first, that go by balanced accuracy (b_ratio)",
    )
    initial_bias: Literal["mean", "median"] = Field(
        default="mean", description="first biases of the hidden nodes, before they are searched"
    )
    binary_weights: bool = Field(
        default=False, description="weights are -1 or 1 and change by flipping"
    )


@dataclass(frozen=True)
class _Task:
    """One network to train: member ``place`` of the job, class ``label`` against the rest."""

    place: int
    label: int
    name: str
    seed: int


def passes(spec: Spec, n_classes: int, n_rows: int) -> int:
    """Returns how often a member's training goes over the data, for the plan."""
    return spec.iterations * networks_per_member(n_classes)


def most(shape: Sequence[int]) -> dict[str, int]:
    """Returns the largest values of settings that hang on the features of a point."""
    return {"features_per_iteration": math.prod(shape)}


def train(spec: Spec, architecture: str, architecture_spec: Any, work: Work) -> Trained:
    """Trains ``work``'s members.

    Raises:
        InputError: a class has fewer than two training points, or more weights are to be tried
            than a node has.
    """
    x = work.x.reshape(len(work.x), -1)
    _check(spec, x, work)
    problems = _problems(x, work.y, work.n_classes)
    report = _Report(spec, work)

    def run(task: _Task) -> tuple[_Task, dict[str, np.ndarray]]:
        hidden = architecture_spec.hidden_units
        return task, _train_network(spec, hidden, problems[task.label], task, report)

    networks = {} if work.journal is None else work.journal.finished()
    tasks = list(_tasks(work))
    waiting = [task for task in tasks if task.name not in networks]
    report.start(len(tasks) - len(waiting), len(tasks))
    with ThreadPoolExecutor(work.threads) as pool:
        futures = [pool.submit(run, task) for task in waiting]
        try:
            for future in as_completed(futures):
                task, arrays = future.result()
                if work.journal is not None:
                    work.journal.append(task.name, arrays)
                networks[task.name] = arrays
        except BaseException:
            report.stopped = True
            pool.shutdown(cancel_futures=True)
            raise
    return _join(work, tasks, networks)


def _check(spec: Spec, x: np.ndarray, work: Work) -> None:
    if spec.features_per_iteration > x.shape[1]:
        raise InputError(
            f"{spec.features_per_iteration} weights of a node are to be tried in an iteration, "
            f"but the points have only {x.shape[1]} features.",
            where="method.features_per_iteration",
            remedy=f"ask for at most {x.shape[1]}.",
        )
    counts = np.bincount(work.y, minlength=work.n_classes)
    if counts.min() < 2:
        raise InputError(
            f"Class {int(counts.argmin())} has {counts.min()} training points; stochastic "
            "coordinate descent needs at least 2 of each class.",
            remedy="use the complete release, or a larger stand-in.",
        )


def _problems(x: np.ndarray, y: np.ndarray, n_classes: int) -> list[Any]:
    """Returns the two-class problem of each label against the rest; they share their arrays."""
    from medrobust.training.engine.scd_descent_kernels import Problem

    order = np.argsort(y, kind="stable")
    columns = np.ascontiguousarray(x[order].T, dtype=np.float32)
    low, high = (column.astype(np.float64) for column in (columns.min(axis=1), columns.max(axis=1)))
    edges = np.searchsorted(y[order], np.arange(n_classes + 1)).tolist()
    return [Problem(columns, low, high, *edge) for edge in itertools.pairwise(edges)]


def _tasks(work: Work) -> Iterator[_Task]:
    labels = [1] if work.n_classes == 2 else range(work.n_classes)
    for place, (member, seed) in enumerate(zip(work.members, work.seeds, strict=True)):
        for label in labels:
            yield _Task(place, label, f"member{member}-class{label}", seed)


def _train_network(
    spec: Spec,
    hidden: int,
    problem: Any,
    task: _Task,
    report: _Report,
) -> dict[str, np.ndarray]:
    """Trains one network; returns its arrays and its ``score`` (as ``Network.best``)."""
    from medrobust.training.engine import scd_descent_kernels as kernels

    rng = generator(task.seed, "network", task.label)
    rules = kernels.Rules(
        cross_entropy=spec.loss == "cross_entropy",
        binary_weights=spec.binary_weights,
        row_share=spec.row_share,
        hidden_step=spec.hidden_step,
        output_step=spec.output_step,
        features=spec.features_per_iteration,
        window=spec.window,
        balanced_iterations=int(spec.balanced_share * spec.iterations),
        median_bias=spec.initial_bias == "median",
    )
    network = _initial_network(spec, hidden, problem.columns.shape, rng)
    kernels.project(problem.columns, network.w, network.projections)
    for start in range(0, spec.iterations, _ITERATIONS_PER_CALL):
        stop = min(start + _ITERATIONS_PER_CALL, spec.iterations)
        kernels.descend(problem, rules, network, rng, start, stop)
        report.update(task, start, stop, network)
    arrays = (network.best_w, network.best_b, network.best_v, network.best_c)
    named = {name: a.astype(np.float32) for name, a in zip(_ARRAYS, arrays, strict=True)}
    return named | {"score": network.best}


def _initial_network(
    spec: Spec, hidden: int, shape: tuple[int, ...], rng: np.random.Generator
) -> Any:
    """Draws weights from the normal distribution, those of each node scaled to length 1."""
    from medrobust.training.engine.scd_descent_kernels import Network

    inputs, points = shape
    w, v = rng.standard_normal((hidden, inputs)), rng.standard_normal(hidden)
    if spec.binary_weights:
        w, v = np.where(w < 0, -1.0, 1.0), np.where(v < 0, -1.0, 1.0)
    else:
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        v /= np.linalg.norm(v)
    return Network(
        w=w,
        b=np.zeros(hidden),
        v=v,
        c=np.zeros(1),
        projections=np.empty((hidden, points)),
        codes=np.zeros(points, dtype=np.uint64),
        best_w=w.copy(),
        best_b=np.zeros(hidden),
        best_v=v.copy(),
        best_c=np.zeros(1),
        best=np.array([-1.0, 0.0, 0.0, -1.0]),
        latest=np.zeros(3),
    )


class _Report:
    """Progress of all threads together, in iterations."""

    def __init__(self, spec: Spec, work: Work) -> None:
        self._spec, self._work = spec, work
        self._lock = threading.Lock()
        self._done, self._networks = 0, 0
        self._progress: Progress | None = None
        self.stopped = False

    def start(self, finished: int, networks: int) -> None:
        """Begins after ``finished`` of ``networks`` networks."""
        name = "SCD01" if self._spec.loss == "zero_one" else "SCDCE"
        total = networks * self._spec.iterations
        self._done, self._networks = finished * self._spec.iterations, networks
        self._progress = Progress(f"{name}, {networks} networks", total, unit="iterations")

    def update(self, task: _Task, start: int, stop: int, network: Any) -> None:
        """Reports the iterations ``start .. stop - 1`` of one network.

        Raises:
            InterruptedError: another thread failed, so this one need not go on.
        """
        if self.stopped:
            raise InterruptedError("another network's training failed")
        objective, accuracy, balanced = network.latest
        what = "loss" if self._spec.loss == "cross_entropy" else "objective"
        rest = "" if self._work.n_classes == 2 else f" class {task.label} against the rest,"
        with self._lock:
            self._done += stop - start
            self._progress.update(
                self._done,
                f"member {self._work.members[task.place]},{rest} iteration {stop}: {what} "
                f"{objective:.4f}, accuracy {accuracy:.4f}, balanced {balanced:.4f}; best so "
                f"far {network.best[1]:.4f}, balanced {network.best[2]:.4f}",
            )


def _join(work: Work, tasks: list[_Task], networks: dict[str, dict[str, np.ndarray]]) -> Trained:
    """Returns the arrays of all networks as :mod:`medrobust.models.sign_network` lays them out."""
    per_member = networks_per_member(work.n_classes)
    parameters = {}
    for name in _ARRAYS:
        stacked = np.stack([networks[task.name][name] for task in tasks])
        parameters[name] = stacked.reshape(len(work.members), per_member, *stacked.shape[1:])
    parameters["output_bias"] = parameters["output_bias"][..., 0]
    history = []
    for place, member in enumerate(work.members):
        scores = np.stack([networks[t.name]["score"] for t in tasks if t.place == place])
        history.append(
            {
                "member": member,
                "training_accuracy": scores[:, 1].tolist(),
                "training_balanced_accuracy": scores[:, 2].tolist(),
                "best_iteration": (scores[:, 3] + 1).astype(int).tolist(),
            }
        )
    return Trained(parameters, history)


METHOD = Method(
    spec=Spec,
    architectures=frozenset({"sign_network"}),
    train=train,
    # Branches and short sums over few points: nothing that a GPU does well.
    uses_gpu=False,
    most=most,
    passes=passes,
    unit_seconds={"sign_network": 1.5e-7},
    value_seconds={"sign_network": 6e-11},
)
