"""A made run of nsr: tallies of models whose accuracies are about the printed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from medrobust.core import io
from medrobust.evaluation.tally import make_tally
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.request import Entry, Request
from medrobust.studies.nsr.results import (
    DATASET,
    METHODS,
    NETWORKS,
    NOISE_LEVELS,
    model_name,
    read_printed,
)

from tests.unit.attack_records import clean_table, level_records

CONTEXT = RunContext("nsr", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
CLASS_NAMES = ("N", "S", "V", "F", "Q")
#: Test points per class of MIT-BIH (21,892); tests use a tenth.
SIZES = (18118, 556, 1448, 162, 1608)
ATTACKS = {
    "pgd20": {"name": "pgd", "steps": 20, "step_size": 0.01},
    "pgd100": {"name": "pgd", "steps": 100, "step_size": 0.01},
    "spsa": {"name": "spsa", "iterations": 100, "directions": 2048},
    "noise": {"name": "uniform_noise", "restarts": 3},
}
GRID = {"epsilon": list(NOISE_LEVELS)}


def labels_of(sizes) -> np.ndarray:
    """Returns the true classes of a made test set, mixed."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


def made_outcomes(labels, accuracies, random):
    """Returns clean predictions and found predictions of a model with given accuracies.

    Args:
        labels: true classes.
        accuracies: of clean points, then of each noise level.
        random: generator.
    """
    other = (labels + random.integers(1, 5, labels.size)) % 5
    # One draw per point: a point fooled at a level is fooled at each larger one, but for a few.
    threshold = random.random(labels.size)
    found = {}
    for epsilon, accuracy in zip(NOISE_LEVELS, accuracies[1:], strict=True):
        missed = threshold > accuracy
        recovered = random.random(labels.size) < 0.005
        found[epsilon] = np.where(missed & ~recovered, other, labels)
    return np.where(threshold > accuracies[0], other, labels), found


def accuracies_of(printed, model, attack):
    """Returns the printed accuracies of a model; of the noise, that of small perturbations."""
    if attack == "noise":
        clean = printed[model, "pgd20", "ACC", 0.0]
        return [clean - 0.3 * e for e in (0.0, *NOISE_LEVELS)]
    return [printed[model, attack, "ACC", e] for e in (0.0, *NOISE_LEVELS)]


def write_tally(
    path: Path, labels, predictions, found, *, per_class=None, runs=1, subset=None
) -> str:
    """Writes the tally of one attack; ``found`` is a level's predictions, or one per run."""
    clean = clean_table(labels, predictions)
    attacked = clean if per_class is None else clean.groupby("label").head(per_class)
    parts = found if runs > 1 else [found]
    records = pd.concat(
        [
            level_records(
                attacked, {e: p[attacked.index] for e, p in one.items()}, restart=r, loss=None
            )
            for r, one in enumerate(parts)
        ],
        ignore_index=True,
    )
    io.write_table(path, make_tally(clean, records, subset))
    return str(path)


def made_entry(folder, labels, model, attacks, published, *, source="kaggle", per_class=20, seed=0):
    """Returns the results of one model, whose accuracies are about the printed ones."""
    printed = read_printed(str(published))
    tallies = {}
    for attack in attacks:
        random = np.random.default_rng([seed, *model.encode()])
        clean, found = made_outcomes(labels, accuracies_of(printed, model, attack), random)
        if attack == "noise":
            more = [made_outcomes(labels, accuracies_of(printed, model, attack), random)[1]]
            found = [found, *more]
        tallies[attack] = write_tally(
            folder / f"{model.replace(':', '_')}-{attack}-{source}-{seed}.csv",
            labels,
            clean,
            found,
            per_class=per_class if attack == "spsa" else None,
            runs=2 if attack == "noise" else 1,
            subset=per_class,
        )
    summary = folder / f"{model.replace(':', '_')}-{source}-{seed}.json"
    io.write_json(summary, {"n_train": 70043, "n_test": len(labels)})
    return Entry(DATASET, model, source, seed, summary=str(summary), tallies=tallies)


def every_model(networks=NETWORKS):
    """Returns the names of the paper's models."""
    return [model_name(network, method) for network in networks for method in METHODS]


def made_request(folder, stem, published, entries, *, per_class=20, **more) -> Request:
    """Returns the request of an artefact of a run with these entries."""
    attacks = {
        name: {**facts, "grid": GRID, "points_per_class": per_class if name == "spsa" else None}
        for name, facts in ATTACKS.items()
    }
    return Request(
        entries=entries,
        published=str(published),
        out_stem=str(folder / stem),
        context=more.pop("context", CONTEXT),
        attack={},
        attacks=attacks,
        class_names=CLASS_NAMES,
        **more,
    )
