"""Made results of the study mirst: five folds, whose numbers are known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
from medrobust.core import io
from medrobust.evaluation.outcomes import outcomes_of
from medrobust.evaluation.tally import make_tally
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.request import Entry, Request

from tests.unit.attack_records import clean_table, level_records

CONTEXT = RunContext(
    "mirst", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake mirst"
)
EPSILON = 0.0196078431
N, FOLDS = 60, 5
Y = (np.arange(N) % 5 < 2).astype(int)


def facts(*attacks: str) -> dict:
    """Returns what a request says of attacks."""
    return {name: {"name": "pgd", "epsilon": EPSILON, "num_steps": 10} for name in attacks}


def right_first(share: float, fold: int, seed: int = 0) -> np.ndarray:
    """Returns for each point whether it is right: a share of the points, others in each fold."""
    random = np.random.default_rng([seed, fold])
    spread = 0.05 * np.sin(fold + seed)
    chosen = random.permutation(N) < round(N * np.clip(share + spread, 0, 1))
    return chosen


def training(
    folder, dataset, model, fold, clean, attacked, *, source="official", random_init=False
) -> Entry:
    """Writes a training's results, where the same are not there yet.

    Args:
        folder: to write to.
        dataset, model: as printed.
        fold: number.
        clean: bool ``[N]``, which points are right without attack.
        attacked: attack to bool ``[N]``, which are right under it, and float ``[N]``, the
            probability of class 1 then; or the first alone.
        source: of the data.
        random_init: as of the entry.
    """
    tallies, probabilities = {}, {}
    for attack, given in attacked.items():
        right, probability = given if isinstance(given, tuple) else (given, None)
        stem = written(folder, clean, right, probability)
        tallies[attack], probabilities[attack] = f"{stem}.csv", f"{stem}.parquet"
    summary = folder / f"{int(clean.sum())}.json"
    facts = {"n_train": 240, "n_test": N, "ensemble_accuracy": int(clean.sum()) / N}
    summary.write_text(json.dumps(facts), encoding="utf-8")
    return Entry(
        dataset, model, source, 0, fold=fold, tallies=tallies, probabilities=probabilities,
        summary=str(summary), random_init=random_init,
    )  # fmt: skip


def written(folder, clean, right, probability) -> str:
    """Writes tally and outcomes of an attack; returns their path without suffix."""
    found = np.where(right & clean, Y, 1 - Y)
    probability = found if probability is None else probability
    content = b"".join(
        np.asarray(one, dtype=float).tobytes() for one in (clean, found, probability)
    )
    stem = folder / hashlib.sha256(content).hexdigest()[:16]
    if not stem.with_suffix(".csv").is_file():
        called = np.where(clean, Y, 1 - Y)
        table = with_probability(clean_table(Y, called), called)
        records = with_probability(level_records(table, {EPSILON: found}), probability)
        io.write_table(f"{stem}.csv", make_tally(table, records))
        io.write_table(f"{stem}.parquet", outcomes_of(records, table))
    return str(stem)


def with_probability(frame: pd.DataFrame, probability: np.ndarray) -> pd.DataFrame:
    """Returns a table with the probabilities of both classes."""
    one = np.asarray(probability, dtype=float)
    return frame.assign(probability_0=1 - one, probability_1=one)


def request_of(folder, entries, attacks, *, published="", failed=(), name="table") -> Request:
    """Returns a request to draw something of these results."""
    return Request(
        entries=entries, published=published, out_stem=str(folder / name),
        context=replace(CONTEXT, failed=tuple(failed)), attack={}, attacks=facts(*attacks),
        class_names=["benign", "malignant"],
    )  # fmt: skip


def drawn(request: Request) -> pd.DataFrame:
    """Returns the numbers that were written."""
    text = dict.fromkeys(("epsilon", "attack", "norm", "status", "source"), str)
    return pd.read_csv(
        f"{request.out_stem}.csv", dtype=text, keep_default_na=False, na_values=[""]
    ).fillna({"status": "", "source": ""})


def text_of(request: Request) -> str:
    """Returns the text that was written."""
    with open(f"{request.out_stem}.md", encoding="utf-8") as file:
        return file.read()
