"""Bagged decision trees: scikit-learn's random forest, one tree per member.

Signnet-code (Yang et al. 2020): ``RandomForestClassifier(n_estimators=100, max_depth=None,
min_samples_leaf=10, max_features=None)``, that is, bagging without a choice of features. Each tree
is grown as a forest of one with a seed of its own, so that how trees are grouped into jobs changes
none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from medrobust.core.logs import Progress
from medrobust.core.schema import Settings
from medrobust.models.forest import concatenate
from medrobust.training.contract import Method
from medrobust.training.engine.work import Trained, Work


class Spec(Settings):
    """Settings of bagged trees, named as in scikit-learn."""

    min_samples_leaf: int = Field(default=1, ge=1, description="least training points in a leaf")
    max_features: int | None = Field(
        default=None, ge=1, description="features tried at a node; null: all of them"
    )
    max_depth: int | None = Field(default=None, ge=1, description="greatest depth; null: no bound")


def most(shape: Sequence[int]) -> dict[str, int]:
    """Returns the largest values of settings that hang on the features of a point."""
    return {"max_features": math.prod(shape)}


def train(spec: Spec, architecture: str, architecture_spec: Settings, work: Work) -> Trained:
    """Grows ``work``'s members, one after the other; finished trees are journalled."""
    finished = work.journal.finished() if work.journal is not None else {}
    progress = Progress("growing trees", len(work.members), unit="trees")
    x = np.ascontiguousarray(work.x.reshape(len(work.x), -1), dtype=np.float32)
    trees = []
    for done, (member, seed) in enumerate(zip(work.members, work.seeds, strict=True), start=1):
        name = f"tree{member}"
        if name not in finished:
            finished[name] = _grow(spec, x, work.y, work.n_classes, seed)
            if work.journal is not None:
                work.journal.append(name, finished[name])
        trees.append(finished[name])
        progress.update(done)
    history = [
        {"member": member, "nodes": len(tree["left"])}
        for member, tree in zip(work.members, trees, strict=True)
    ]
    return Trained(concatenate(trees), history)


def _grow(
    spec: Spec, x: np.ndarray, y: np.ndarray, n_classes: int, seed: int
) -> dict[str, np.ndarray]:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        n_estimators=1,
        min_samples_leaf=spec.min_samples_leaf,
        max_features=spec.max_features,
        max_depth=spec.max_depth,
        random_state=seed % 2**32,
        n_jobs=1,
    ).fit(x, y)
    tree = forest.estimators_[0].tree_
    shares = tree.value[:, 0, :]
    # Columns of absent classes stay 0: the forest only knows the labels it saw.
    probability = np.zeros((tree.node_count, n_classes), dtype=np.float32)
    probability[:, forest.classes_] = shares / shares.sum(axis=1, keepdims=True)
    return {
        "offset": np.array([0, tree.node_count], dtype=np.int64),
        "left": tree.children_left.astype(np.int32),
        "right": tree.children_right.astype(np.int32),
        "feature": tree.feature.astype(np.int32),
        "threshold": tree.threshold.astype(np.float64),
        "probability": probability,
    }


METHOD = Method(
    spec=Spec,
    architectures=frozenset({"forest"}),
    train=train,
    most=most,
    unit_seconds={"forest": 1.6e-4},
)
