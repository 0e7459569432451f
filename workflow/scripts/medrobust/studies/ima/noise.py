"""Uniform noise, and other numbers that the text of ima names.

A point flips at a level if it is classified correctly without noise and some draw of the noise
fools the model (worst), or the share of draws that do (mean). Shares are of all test points: so
the text's 2.75 % is 11 of 400 images, while no whole number of the 383 that are right without
noise (95.75 %) makes 2.75 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.evaluation import statistics
from medrobust.evaluation.intervals import share_draws
from medrobust.evaluation.tally import ATTACK, EACH_RUN
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN, Panel, number, with_interval
from medrobust.reporting.levels import NO_LEVEL, points_text
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import level_text, typed, with_synthetic_mark
from medrobust.studies.ima.results import (
    COVID,
    LINF,
    NOISE_ATTACKS,
    ImaResults,
    attack_text,
    in_order,
    main_table,
    read_printed,
    read_results,
    shown_sources,
)

if TYPE_CHECKING:
    import pandas as pd

NOISE_COVID = "noise_covid"
COLUMNS = (
    "kind",
    "dataset",
    "method",
    "epsilon",
    "quantity",
    "status",
    "published",
    "reproduced",
    "ci_low",
    "ci_high",
    "mean_of_draws",
    "draws",
    "n",
    "replicates",
    "words",
    "source",
)
_TEXT = frozenset({"kind", "quantity", "words"})
FLIPPED = "share flipped by the worst draw"


# --- numbers ----------------------------------------------------------------------------


def flipped(
    results: ImaResults,
    dataset: str,
    model: str,
    attack: str,
    epsilon: float,
    reading: str = ATTACK,
) -> list[tuple[float, int]]:
    """Returns flipped and all points of each replicate, none if the level was not run.

    Args:
        results: the run's.
        dataset, model, attack: with uniform noise.
        epsilon: level, above 0.
        reading: ``attack`` for the worst draw, ``each_run`` for the mean over draws.
    """
    found = results.level_counts(dataset, model, attack, epsilon, reading)
    return [(one.flipped, one.points) for one in found]


def flipped_draws(
    results: ImaResults, dataset: str, model: str, attack: str, epsilon: float
) -> tuple[float, np.ndarray] | None:
    """Returns estimate and draws of the share flipped by the worst draw; None if not run."""
    counts = flipped(results, dataset, model, attack, epsilon)
    if not counts:
        return None
    random = results.random("flipped", dataset, model, attack, level_text(epsilon))
    share = float(np.mean([one / n for one, n in counts]))
    return share, share_draws(counts, random)


def noise_rows(results: ImaResults) -> list[dict[str, Any]]:
    """Returns one row per data set, method and level that uniform noise was run at."""
    rows = []
    for attack, dataset in NOISE_ATTACKS.items():
        models = [m for m in results.models[dataset] if results.of(dataset, m, attack)]
        for model in in_order(models):
            for epsilon in results.levels(attack, dataset)[1:]:
                rows.append(_noise_row(results, dataset, model, attack, epsilon))
        if not models:
            rows.append(_blank("noise", dataset, "", quantity=FLIPPED))
    return rows


def _blank(kind: str, dataset: str, method: str, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | {"kind": kind, "dataset": dataset, "method": method}
    return row | {"status": NOT_RUN, "epsilon": "", "source": ""} | more


def _noise_row(
    results: ImaResults, dataset: str, model: str, attack: str, epsilon: float
) -> dict[str, Any]:
    row = _blank("noise", dataset, model, epsilon=level_text(epsilon), quantity=FLIPPED)
    worst = flipped(results, dataset, model, attack, epsilon)
    if not worst:
        return row | {"status": NO_LEVEL}
    estimate = statistics.accuracy_estimate([one for one, _ in worst], worst[0][1])
    each = flipped(results, dataset, model, attack, epsilon, EACH_RUN) or worst
    runs = results.level_counts(dataset, model, attack, epsilon, EACH_RUN)
    return row | {
        "status": "reproduced",
        "reproduced": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "mean_of_draws": float(np.mean([one / n for one, n in each])),
        "draws": runs[0].runs if runs else 1,
        "n": estimate.n,
        "replicates": estimate.replicates,
        "source": results.sources[dataset],
    }


@dataclass(frozen=True)
class InText:
    """A number of the text.

    Attributes:
        quote: as few words as carry it.
        method: as printed.
        epsilon: noise level.
        quantity: what it is.
        published: the number, as a share; None where the words give a bound only.
        read: results to (successes, trials) of each replicate.
    """

    quote: str
    method: str
    epsilon: float
    quantity: str
    published: float | None
    read: Callable[[ImaResults], list[tuple[float, int]]]


def _accuracy(method: str, epsilon: float) -> Callable[[ImaResults], list[tuple[float, int]]]:
    attack = main_table(COVID, LINF).attack
    return lambda results: results.counts(COVID, method, attack, epsilon)


def _flips(epsilon: float) -> Callable[[ImaResults], list[tuple[float, int]]]:
    return lambda results: flipped(results, COVID, "ce", NOISE_COVID, epsilon)


IN_TEXT = (
    InText(
        "2.75% of the noisy samples with uniform white noises",
        "ce",
        0.05,
        FLIPPED,
        0.0275,
        _flips(0.05),
    ),
    InText(
        "> 95% accuracy on original clean images", "ce", 0.0, "accuracy", None, _accuracy("ce", 0.0)
    ),
    InText(
        "accuracy dropped to zero on the noise level of 0.03",
        "ce",
        0.03,
        "accuracy under PGD",
        0.0,
        _accuracy("ce", 0.03),
    ),
    InText("0.9575 of “ce”", "ce", 0.0, "accuracy", 0.9575, _accuracy("ce", 0.0)),
    InText("0.9775 of “rand0.1”", "rand0.1", 0.0, "accuracy", 0.9775, _accuracy("rand0.1", 0.0)),
)


def in_text_rows(results: ImaResults) -> list[dict[str, Any]]:
    """Returns one row for each number of the text (:data:`IN_TEXT`)."""
    return [_in_text_row(results, one) for one in IN_TEXT]


def _in_text_row(results: ImaResults, one: InText) -> dict[str, Any]:
    row = _blank(
        "in the text",
        COVID,
        one.method,
        epsilon=level_text(one.epsilon),
        quantity=one.quantity,
        published=one.published,
        words=one.quote,
    )
    counts = one.read(results)
    if not counts:
        return row
    successes = [found for found, _ in counts]
    estimate = statistics.accuracy_estimate(successes, counts[0][1])
    return row | {
        "status": "reproduced",
        "reproduced": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "n": estimate.n,
        "replicates": estimate.replicates,
        "source": results.sources[COVID],
    }


# --- table ------------------------------------------------------------------------------


def build_noise(request: Request) -> list[Path]:
    """Writes what uniform noise does, and the numbers that the text names.

    Args:
        request: with the tallies of uniform noise, and of PGD on COVID-19 CT.

    Returns:
        The files written.

    Raises:
        InputError: a file is missing or wrong.
    """
    import pandas as pd

    attacks = [*NOISE_ATTACKS, main_table(COVID, LINF).attack]
    results = read_results(request, attacks)
    # The printed numbers are in the text, but the file must be right all the same.
    read_printed(request.published)
    rows = [*in_text_rows(results), *noise_rows(results)]
    frame = typed(pd.DataFrame(rows, columns=list(COLUMNS)), _TEXT, {"draws"})
    ran = dict.fromkeys(frame.loc[frame["status"] == "reproduced", "dataset"])
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title="Uniform noise, and numbers of the text",
        caption=(
            "Share of all test points that are classified correctly without noise and wrong with "
            "noise from U(−ε, ε), cut to the range of the data: worst, if any draw fools the "
            "model, with 95 % interval; in brackets, the mean over draws. No attacker chooses "
            "this noise."
        ),
        context=request.context,
        sources=shown_sources(results, ran),
        n=_sample(results),
        budget="; ".join(dict.fromkeys(attack_text(request, name) for name in attacks)),
        notes=_notes(frame, results),
        panels=_panels(rows),
        inputs=[request.published, *results.files],
    )


def _sample(results: ImaResults) -> str:
    parts = {}
    for attack, dataset in NOISE_ATTACKS.items():
        found = results.attacked(attack, dataset)
        parts[dataset] = points_text(found[0]) if found else NOT_RUN
    return "; ".join(f"{name}: {text}" for name, text in parts.items())


def _notes(frame: pd.DataFrame, results: ImaResults) -> list[str]:
    draws = sorted(set(frame["draws"].dropna()))
    notes = [f"{', '.join(map(str, draws))} draws of each point and level."] if draws else []
    absent = [d for a, d in NOISE_ATTACKS.items() if not results.attacked(a, d)]
    if absent:
        notes.append(f"Not run under noise: {', '.join(absent)}.")
    return [
        *notes,
        "2.75 % is read as the worst of 100 draws and as a share of all 400 test images (11 of "
        "them); the text says neither.",
    ]


def _panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    import pandas as pd

    texts = [row for row in rows if row["kind"] == "in the text"]
    marked = with_synthetic_mark(
        "Numbers of the text, COVID-19 CT", [row["source"] for row in texts]
    )
    panels = [Panel(pd.DataFrame([_text_cells(row) for row in texts]), title=marked)]
    for dataset in NOISE_ATTACKS.values():
        part = [r for r in rows if r["kind"] == "noise" and r["dataset"] == dataset and r["method"]]
        cells: dict[str, dict[str, str]] = {}
        for row in part:
            shown = cells.setdefault(row["method"], {"noise level": model_label(row["method"])})
            shown[row["epsilon"]] = _noise_cell(row)
        if part:
            heading = with_synthetic_mark(
                f"Share flipped by noise, {dataset}: worst [95 % interval] (mean)",
                [row["source"] for row in part],
            )
            panels.append(Panel(pd.DataFrame(list(cells.values())), title=heading))
    return panels


def _text_cells(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "in the text": row["words"],
        "model": row["method"],
        "noise level": row["epsilon"],
        "quantity": row["quantity"],
        "published": number(row["published"], 4),
        "reproduced": _reproduced(row),
    }


def _reproduced(row: Mapping[str, Any]) -> str:
    if row["reproduced"] is None:
        return row["status"]
    return with_interval(row["reproduced"], row["ci_low"], row["ci_high"], 4)


def _noise_cell(row: Mapping[str, Any]) -> str:
    if row["reproduced"] is None:
        return row["status"]
    return f"{_reproduced(row)} ({number(row['mean_of_draws'], 4)})"
