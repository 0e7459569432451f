"""A made run of ima: tallies of models whose accuracies are about the printed ones, and margins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from medrobust.core import io
from medrobust.evaluation.tally import make_tally
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.request import Entry, Request
from medrobust.studies.ima.results import (
    COVID,
    FASHION,
    MOONS,
    NOISE_ATTACKS,
    SVHN,
    TABLES,
    PrintedNumbers,
    read_printed,
)

from tests.unit.attack_records import clean_table, level_records

CONTEXT = RunContext("ima", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
SOURCES = {MOONS: "generated", FASHION: "official", SVHN: "official", COVID: "kaggle"}
#: Test points of each class; SVHN's classes differ in size.
SIZES = {MOONS: (100, 100), FASHION: (12,) * 10, SVHN: (40, 30, 20, 10, 5), COVID: (100, 100)}
LOSSES = ("cross_entropy", "margin")
TRAINING = {MOONS: 20000, FASHION: 54000, SVHN: 65931, COVID: 2022}
#: Largest margins that IMA allows, by attack.
LARGEST = {
    "pgd_moons": 0.3,
    "pgd_fashion": 0.3,
    "pgd_fashion_l2": 5.0,
    "pgd_svhn": 0.1,
    "pgd_svhn_l2": 2.0,
    "pgd_covid": 0.3,
}


def attack_facts(printed: PrintedNumbers) -> dict[str, dict]:
    """Returns the attacks of the study as a request has them."""
    found = {}
    for table in TABLES[:6]:
        norm = {"Linf": "linf", "L2": "l2"}[table.norm]
        found[table.attack] = {
            "name": "pgd",
            "norm": norm,
            "num_steps": 100,
            "step_share": 0.1,
            "grid": {"epsilon": printed.levels(table)[1:], "loss": list(LOSSES)},
            "points_per_class": None,
        }
    for name in NOISE_ATTACKS:
        grid = {"epsilon": [0.03, 0.05, 0.1]}
        found[name] = {"name": "uniform_noise", "restarts": 4, "grid": grid}
    return found


def labels_of(dataset: str) -> np.ndarray:
    """Returns the true classes of a made test set, mixed."""
    sizes = SIZES[dataset]
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


def made_outcomes(labels, shares, random):
    """Returns clean predictions and, by level, found predictions of a model.

    Args:
        labels: true classes.
        shares: level to accuracy, 0 for clean.
        random: generator.
    """
    classes = int(labels.max()) + 1
    other = (labels + random.integers(1, classes, labels.size)) % classes
    # One rank per point: a point fooled at a level is fooled at each larger one.
    rank = random.permutation(labels.size) / labels.size
    found = {e: np.where(rank < share, labels, other) for e, share in shares.items()}
    return found.pop(0.0), found


def write_tally(
    path: Path, labels, clean, found, *, losses=LOSSES, per_class=None, runs=1, random=None
) -> str:
    """Writes the tally of one attack; each loss (or draw) misses some points, none misses all.

    Args:
        path: where.
        labels, clean: true classes and clean predictions.
        found: level to the predictions that the worst run reaches.
        losses: of the attack, or (None,).
        per_class: attack the first so many of each class only.
        runs: restarts of each point.
        random: generator of what is missed.
    """
    random = random or np.random.default_rng(0)
    table = clean_table(labels, clean)
    attacked = table if per_class is None else table.groupby("label").head(per_class)
    parts = [(loss, restart) for loss in losses for restart in range(runs)]
    hits = random.integers(0, len(parts), (len(found), labels.size))
    frames = []
    for position, (loss, restart) in enumerate(parts):
        reached = {
            level: np.where(hits[k] == position, prediction, labels)[attacked.index]
            for k, (level, prediction) in enumerate(found.items())
        }
        frames.append(level_records(attacked, reached, loss=loss, restart=restart))
    io.write_table(path, make_tally(table, pd.concat(frames, ignore_index=True)))
    return str(path)


def shares_of(printed: PrintedNumbers, dataset: str, attack: str, model: str) -> dict[float, float]:
    """Returns level to printed accuracy of a model under an attack, empty if there is none."""
    for table in TABLES:
        if (table.dataset, table.attack) != (dataset, attack):
            continue
        for method in printed.methods(table):
            if table.model(method) == model:
                levels = printed.levels(table)
                return {e: printed.value(table, method, f"{e:g}") for e in levels}
    return {}


def made_entry(
    folder, printed, dataset, model, *, attacks=None, source="", replicate=0, spread=0.0, **more
) -> Entry:
    """Returns the results of one model, whose accuracies are about the printed ones.

    Args:
        folder: where files go.
        printed: the printed numbers.
        dataset, model: in print.
        attacks: names in the study, by default all that the paper prints.
        source: of the data, by default the paper's.
        replicate: number of the training.
        spread: accuracies are lower by this times the replicate.
        more: fields of the entry.
    """
    labels = labels_of(dataset)
    random = np.random.default_rng([replicate, *model.encode()])
    stem = f"{dataset}-{model}-{replicate}".replace(":", "_").replace("=", "_")
    wanted = attacks or dict.fromkeys(t.attack for t in TABLES if t.dataset == dataset)
    tallies = {}
    for attack in wanted:
        shares = shares_of(printed, dataset, attack, model)
        if not shares:
            continue
        shares = {e: max(0.0, s - spread * replicate) for e, s in shares.items()}
        clean, found = made_outcomes(labels, shares, random)
        path = folder / f"{stem}-{attack}.csv"
        tallies[attack] = write_tally(path, labels, clean, found, random=random)
    for attack, where in NOISE_ATTACKS.items():
        if where == dataset and attacks is None:
            clean, found = made_outcomes(
                labels, {0.0: 0.96, 0.03: 0.95, 0.05: 0.93, 0.1: 0.85}, random
            )
            path = folder / f"{stem}-{attack}.csv"
            tallies[attack] = write_tally(
                path, labels, clean, found, losses=(None,), runs=4, random=random
            )
    summary = folder / f"{stem}.json"
    io.write_json(summary, {"n_train": TRAINING[dataset], "n_test": len(labels)})
    return Entry(
        dataset,
        model,
        source or SOURCES[dataset],
        replicate,
        summary=str(summary),
        tallies=tallies,
        **more,
    )


def write_margins(path: Path, margins, labels=None) -> str:
    """Writes margins ``[n]`` of a model with one member."""
    margins = np.asarray(margins, np.float32)[None]
    labels = np.zeros(margins.shape[1], np.int64) if labels is None else labels
    io.write_tensors(path, {"margin": margins, "label": np.asarray(labels, np.int64)})
    return str(path)


def made_margins(folder, model: str, attack: str, replicate: int = 0) -> str:
    """Writes margins as IMA or MMA might leave them."""
    random = np.random.default_rng([replicate, *model.encode()])
    largest = LARGEST[attack]
    if "MMA" in model:
        margins = np.minimum(random.gamma(6.0, largest / 4.5, 500), 1.05 * largest)
    else:
        step = largest / 30
        margins = np.clip(step * np.round(random.gamma(3.0, 4.0, 500)), step, largest)
    name = f"margins-{attack}-{model}-{replicate}.safetensors".replace(":", "_")
    return write_margins(folder / name, margins)


def write_plane(path: Path, slope: float, replicate: int = 0) -> str:
    """Writes a model of the plane: class 1 above a line through (0.5, 0.25)."""
    first, second = np.linspace(-1.5, 2.5, 80), np.linspace(-1.1, 1.6, 54)
    random = np.random.default_rng(replicate)
    height = second[:, None] - 0.25 - slope * (first[None] - 0.5)
    points = random.uniform((-1.0, -0.6), (2.0, 1.1), (300, 2))
    arrays = {
        "first": first.astype(np.float32),
        "second": second.astype(np.float32),
        "probability": (1 / (1 + np.exp(-6 * height))).astype(np.float32),
        "points": points.astype(np.float32),
        "labels": (points[:, 1] > 0.25).astype(np.int64),
    }
    io.write_tensors(path, arrays)
    return str(path)


def made_run(folder, published, datasets=tuple(SIZES), *, moons=5, source="") -> list[Entry]:
    """Returns every model of the paper on these data sets; ``moons`` replicates on Moons."""
    printed = read_printed(str(published))
    entries = []
    for dataset in datasets:
        for model in printed.models(dataset):
            for replicate in range(moons if dataset == MOONS else 1):
                more = {}
                if model.removeprefix("L2:") in ("IMA", "MMA"):
                    attack = next(
                        t.attack
                        for t in TABLES
                        if t.dataset == dataset and t.norm == ("L2" if "L2:" in model else "Linf")
                    )
                    more["margins"] = made_margins(folder, model, attack, replicate)
                if dataset == MOONS:
                    slope = 0.1 * len(model) - 0.3
                    path = folder / f"plane-{model}-{replicate}.safetensors"
                    more["plane"] = write_plane(path, slope, replicate)
                entries.append(
                    made_entry(
                        folder,
                        printed,
                        dataset,
                        model,
                        source=source,
                        replicate=replicate,
                        spread=0.004,
                        **more,
                    )
                )
    return entries


def made_request(folder, stem, published, entries, **more) -> Request:
    """Returns the request of an artefact of a run with these entries."""
    return Request(
        entries=entries,
        published=str(published),
        out_stem=str(folder / stem),
        context=more.pop("context", CONTEXT),
        attack={},
        attacks=attack_facts(read_printed(str(published))),
        **more,
    )
