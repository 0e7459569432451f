"""What attacks miss in the plane: accuracies under attack against those by looking everywhere.

Not in the paper. In two dimensions the nearest point of another label can be found without an
attack (:mod:`medrobust.evaluation.plane`); the share of test points that are further
from it than a level is the accuracy that a perfect attack would leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN, Panel, number
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Entry, Request
from medrobust.reporting.rows import level_text, signed, typed, with_synthetic_mark
from medrobust.studies.ima.results import (
    LINF,
    MOONS,
    ImaResults,
    budget_text,
    in_order,
    main_table,
    read_results,
    sample_text,
    shown_sources,
)

NOISE_MOONS = "noise_moons"
COLUMNS = (
    "dataset",
    "method",
    "epsilon",
    "exact",
    "pgd",
    "pgd_misses",
    "noise",
    "n",
    "replicate",
    "source",
)
DECIMALS = 4


def mapped_models(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Returns the models of Moons that have a map of the plane, the first replicate of each."""
    mapped: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda one: one.replicate):
        if entry.plane and entry.dataset == MOONS:
            mapped.setdefault(entry.model, entry)
    return mapped


def distances_of(entry: Entry) -> np.ndarray:
    """Returns each test point's distance to another label, float64 ``[n]``, from a model's map.

    Raises:
        InputError: the map holds no distances.
    """
    found = io.read_tensors(entry.plane).get("distance")
    if found is None or found.ndim != 1 or not len(found):
        raise InputError(
            "This map of the plane holds no distances to another label.",
            where=entry.plane,
            remedy="delete it and run the same command.",
        )
    return found.astype(np.float64)


def exact_rows(request: Request, results: ImaResults) -> list[dict[str, Any]]:
    """Returns one row per mapped model and level: accuracies of its first replicate.

    ``exact``, under PGD and under the worst draw of noise (missing where it was not run), and
    ``pgd_misses``, the share of the test points that PGD leaves and a wrong point is near.

    Raises:
        InputError: a map holds no distances.
    """
    table = main_table(MOONS, LINF)
    mapped = mapped_models(request.entries)
    rows = []
    for model in in_order(mapped):
        entry = mapped[model]
        distance = distances_of(entry)
        for level in results.levels(table.attack, MOONS):
            exact = float((distance > level).mean())
            pgd, noise = (
                _first(results.shares(MOONS, model, attack, level))
                for attack in (table.attack, NOISE_MOONS)
            )
            rows.append(
                {
                    "dataset": MOONS,
                    "method": model,
                    "epsilon": level_text(level),
                    "exact": exact,
                    "pgd": pgd,
                    "pgd_misses": None if pgd is None else pgd - exact,
                    "noise": noise,
                    "n": len(distance),
                    "replicate": entry.replicate,
                    "source": entry.source,
                }
            )
    return rows


def _first(shares: Sequence[float]) -> float | None:
    return shares[0] if shares else None


def build_exact(request: Request) -> list[Path]:
    """Writes accuracies under PGD and noise beside the exact ones.

    Args:
        request: with maps of the plane and the tallies of PGD and noise on Moons.

    Returns:
        The files written.

    Raises:
        InputError: a file is missing or wrong.
    """
    import pandas as pd

    table = main_table(MOONS, LINF)
    results = read_results(request, [table.attack, NOISE_MOONS])
    rows = exact_rows(request, results)
    frame = typed(pd.DataFrame(rows, columns=list(COLUMNS)), whole={"replicate"})
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title="What attacks miss: Moons, by looking everywhere",
        caption=(
            "Accuracy by noise level (radius in L∞) if every perturbation is tried: the share of "
            "the test points whose distance to the nearest place that the model gives another "
            "label, sought on a fine grid, is above the level. PGD misses: accuracy under 100-PGD "
            "with two losses less that. Of the first training. Not in the paper."
        ),
        context=request.context,
        sources=shown_sources(results, [MOONS] if rows else []),
        n=sample_text(results, [table]),
        budget=budget_text(request, [table.attack, NOISE_MOONS]),
        notes=[
            "Distances are right to the spacing of the grid, 0.0025, to either side: where many "
            "points are that near to a level, exact accuracies are uncertain by a part of them.",
            "Exact accuracies are of all test points, also where attacks took a part.",
        ],
        panels=_panels(rows),
        inputs=[*results.files, *(e.plane for e in request.entries if e.plane)],
    )


def _panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    import pandas as pd

    if not rows:
        empty = pd.DataFrame([{"noise level": NOT_RUN}])
        return [Panel(empty, title="No model of Moons is part of this run")]
    sources = {row["source"] for row in rows}
    shown = (("Exact", "exact"), ("PGD misses", "pgd_misses"), ("Worst draw of noise", "noise"))
    return [
        Panel(pd.DataFrame(_cells(rows, column)), title=with_synthetic_mark(title, sources))
        for title, column in shown
    ]


def _cells(rows: Sequence[Mapping[str, Any]], column: str) -> list[dict[str, str]]:
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        line = lines.setdefault(row["method"], {"noise level": model_label(row["method"])})
        value = row[column]
        text = signed if column == "pgd_misses" else number
        line[row["epsilon"]] = NOT_RUN if value is None else text(value, DECIMALS)
    return list(lines.values())
