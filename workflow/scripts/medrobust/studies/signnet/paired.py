"""The sign networks against every other model, on the same attacked points.

Tables II and IV print means; whether two of them differ by more than the choice of points explains
is decided point by point (:mod:`medrobust.evaluation.paired`). Compared are the pairs that the
paper's sentences speak of: each sign network with each other model, and SCD01 with SCDCE.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import seeds
from medrobust.evaluation import paired, statistics
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import (
    NOT_RUN,
    Panel,
    RunContext,
    has_results,
    in_place_of,
    number,
    with_interval,
)
from medrobust.reporting.claims import p_text
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.studies.signnet import results
from medrobust.studies.signnet.results import AttackInput

if TYPE_CHECKING:
    import pandas as pd

SIGN_NETWORKS = ("SCD01", "SCDCE")
#: Column of the records to how tables call that distance.
DISTANCES = {"l2_final_iterate": "as printed", "l2": "at the boundary"}
COMPARED = "compared"
OTHER_POINTS = "attacked on other points: not compared"

COLUMNS = (
    *("dataset", "distance", "first", "second", "origin", "status", "n", "pairs", "replicates"),
    *("first_larger", "second_larger", "censored"),
    *("mean_difference", "mean_difference_low", "mean_difference_high"),
    *("median_difference", "median_difference_low", "median_difference_high"),
    *("ratio", "ratio_low", "ratio_high"),
    *("p", "p_holm", "smallest_p", "smallest_p_holm"),
    *("significant", "can_be_significant", "scale", "protocol", "source"),
)
_WHOLE = ("n", "pairs", "replicates", "first_larger", "second_larger", "censored")
_SWITCHES = ("significant", "can_be_significant")
_TEXT = (*COLUMNS[:6], "scale", "protocol", "source")


def model_pairs(models: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the pairs to compare: SCDCE with SCD01, and each with every model but these two.

    Args:
        models: names, the paper's first; pairs without either sign network are left out.
    """
    others = [name for name in models if name not in SIGN_NETWORKS]
    own = [name for name in SIGN_NETWORKS if name in models]
    between = [("SCDCE", "SCD01")] if len(own) == 2 else []
    return between + [(sign, other) for sign in own for other in others]


def randomness(seed: int, dataset: str, column: str) -> Callable[..., np.random.Generator]:
    """Returns the generator of each (first, second, statistic) of a data set and distance.

    It does not depend on which model is first: a difference and its negative get mirrored
    intervals, wherever they are printed.
    """

    def generator(first: str, second: str, statistic: str) -> np.random.Generator:
        names = (*sorted((first, second)), statistic)
        return seeds.generator(seed, "paired", results.STUDY, dataset, column, *names)

    return generator


def build_paired(
    inputs: Sequence[AttackInput],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
) -> list[Path]:
    """Writes the paired comparisons of the sign networks, per data set and kind of distance.

    A point's distance is the smallest over the restarts, its mean over the replicates. Holm's
    adjustment is over the pairs of one data set and one kind of distance: the two kinds are two
    views of one question.

    Args:
        inputs: attack records that exist, of any models and data sets.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words.

    Returns:
        The files written.

    Raises:
        InputError: records are missing or contradict themselves, two inputs are the same model,
            data set and replicate, or a model's replicates attacked different points.
    """
    groups = results.grouped(inputs)
    sources = results.sources_of(inputs)
    points = {
        key: [statistics.point_distances(item.chunks).set_index("point_id") for item in items]
        for key, items in groups.items()
    }
    cells = results.cells_by_part(groups)
    frame, notes = _compare(points, cells, sources, context)
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title="Sign networks against the other models, on the same points",
        caption=(
            "Differences of the smallest L2 distance over the restarts, point by point, first "
            "model minus second; ratio of the two means; 95 % intervals over "
            "points. Larger at: points where the first, and where the second, is larger. p: "
            "two-sided signed-rank test, adjusted by Holm over the pairs of a table. As printed: "
            "the attack's last iterate, as the paper reports it. "
            f"{results.bounds_text(points.values())}"
        ).rstrip(),
        context=context,
        sources=sources,
        n=_sizes(frame),
        budget=attack,
        notes=[*notes, *_notes(frame)],
        panels=_panels(frame, cells),
        inputs=[path for item in inputs for path in item.chunks],
    )


def _compare(
    points: Mapping[tuple[str, str], Sequence[pd.DataFrame]],
    cells: Mapping[tuple[str, str], results.Part],
    sources: Mapping[str, str],
    context: RunContext,
) -> tuple[pd.DataFrame, list[str]]:
    """Returns one row per data set, distance and pair, and what to say of models left out."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for dataset, part in {dataset: part for (dataset, _), part in cells.items()}.items():
        models = [model for name, model in cells if name == dataset]
        ran = {model: points[dataset, model] for model in models if (dataset, model) in points}
        for column, distance in DISTANCES.items():
            values = {
                model: paired.mean_over_replicates([frame[column] for frame in frames])
                for model, frames in ran.items()
            }
            together, apart = paired.common_points(values)
            found = _found(together, dataset, column, context)
            for pair in model_pairs(models):
                row = _row(dataset, part, distance, pair, context)
                if pair in found:
                    row |= found[pair] | {"status": COMPARED, "source": sources[dataset]}
                    row["replicates"] = min(len(ran[model]) for model in pair)
                elif set(pair) <= set(values):
                    row |= {"status": OTHER_POINTS, "source": sources[dataset]}
                rows.append(row)
        if apart := [model_label(model) for model in apart] if ran else []:
            notes.append(
                f"{results.heading(dataset)}: {', '.join(apart)} attacked on other points than the "
                "other models, so not compared with them."
            )
    return _typed(pd.DataFrame(rows, columns=list(COLUMNS))), notes


def _found(
    together: pd.DataFrame, dataset: str, column: str, context: RunContext
) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the comparisons of the models that share their points, by pair."""
    pairs = model_pairs(list(together.columns))
    if not pairs:
        return {}
    result = paired.compare_pairs(together, pairs, randomness(context.seed, dataset, column))
    return {(row["first"], row["second"]): row for row in result.to_dict("records")}


def _row(
    dataset: str, part: results.Part, distance: str, pair: tuple[str, str], context: RunContext
) -> dict[str, Any]:
    of_paper = dataset in part.datasets and set(pair) <= set(part.models)
    return dict.fromkeys(COLUMNS) | {
        "dataset": dataset,
        "distance": distance,
        "first": pair[0],
        "second": pair[1],
        "origin": "paper" if of_paper else "added",
        "status": _status_without_results(dataset, pair, context),
        "scale": context.scale,
        "protocol": context.protocol,
    }


def _status_without_results(dataset: str, pair: tuple[str, str], context: RunContext) -> str:
    found = [context.status_without_results(dataset, model) for model in pair]
    return next((status for status in found if status != NOT_RUN), NOT_RUN)


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Gives every column its type, so that a table without results has the same columns."""
    for name in frame.columns:
        if name in _WHOLE:
            frame[name] = frame[name].astype("float64").astype("Int64")
        elif name in _SWITCHES:
            frame[name] = frame[name].astype("boolean")
        elif name in _TEXT:
            frame[name] = [value if isinstance(value, str) else "" for value in frame[name]]
        else:
            frame[name] = frame[name].astype("float64")
    return frame


def _sizes(frame: pd.DataFrame) -> str:
    ran = frame[frame["status"] == COMPARED]
    sizes = ran.groupby("dataset", sort=False)["n"].first()
    told = (f"{results.heading(name)}: {int(n)} points" for name, n in sizes.items())
    return "; ".join(told) or "nothing was run"


def _notes(frame: pd.DataFrame) -> list[str]:
    ran = frame[frame["status"] == COMPARED]
    notes = [
        f"{results.heading(name)}: not run."
        for name in dict.fromkeys(frame["dataset"])
        if not frame.loc[frame["dataset"] == name, "status"].map(has_results).any()
    ]
    if (ran["replicates"] > 1).any():
        notes.append("A point's distance is its mean over the replicates.")
    if not ran.empty:
        notes.append(
            "The intervals and tests are over points: what another training would change is not in "
            "them."
        )
    if (ran["censored"] > 0).any():
        notes.append(
            "Where a point has no adversarial example in one of two models, it counts as the "
            "larger one in the test, and the mean difference is undefined."
        )
    if not ran["can_be_significant"].fillna(True).all():
        notes.append(
            "So few points differ in some pairs that no outcome could have been significant "
            "after adjustment: the least possible adjusted p is told."
        )
    told = map(results.remark, ran["dataset"], ran["source"])
    return [*notes, *(f"{text}." for text in dict.fromkeys(told) if text)]


def _panels(frame: pd.DataFrame, cells: Mapping[tuple[str, str], results.Part]) -> list[Panel]:
    """Returns one block per data set with results and kind of distance."""
    import pandas as pd

    of_paper = {dataset: set(part.models) for (dataset, _), part in cells.items()}
    panels = []
    for (dataset, distance), part in frame.groupby(["dataset", "distance"], sort=False):
        if not part["status"].map(has_results).any():
            continue
        plain = part.astype(object).where(part.notna(), None).to_dict("records")
        added = [i for i, row in enumerate(plain) if not set(_pair(row)) <= of_paper[dataset]]
        # Added models are last among each sign network's rivals: gather them below.
        order = [i for i in range(len(plain)) if i not in added] + added
        title = f"{results.marked(results.heading(dataset), frame, dataset)}, {distance}"
        sections = {len(plain) - len(added): "Added models, not in the paper"} if added else {}
        table = pd.DataFrame([_shown(plain[i]) for i in order])
        panels.append(Panel(table, title=title, sections=sections))
    return panels or [Panel(pd.DataFrame({"result": ["nothing was run"]}))]


def _pair(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["first"], row["second"]


def _shown(row: Mapping[str, Any]) -> dict[str, str]:
    pair = " − ".join(model_label(name) for name in _pair(row))
    if row["status"] != COMPARED:
        text = "other points" if has_results(row["status"]) else in_place_of(row["status"])
        return {"models": pair, "mean difference [95 %]": text} | dict.fromkeys(
            ("median difference [95 %]", "ratio of means [95 %]", "larger at", "p", "p (Holm)"), "–"
        )

    def interval(name: str, decimals: int) -> str:
        value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
        return "undefined" if value is None else with_interval(value, low, high, decimals)

    adjusted = p_text(row["p_holm"]).removeprefix("p ").removeprefix("= ")
    if not row["can_be_significant"]:
        adjusted += f" (at least {number(row['smallest_p_holm'], 3)})"
    return {
        "models": pair,
        "mean difference [95 %]": interval("mean_difference", 3),
        "median difference [95 %]": interval("median_difference", 3),
        "ratio of means [95 %]": interval("ratio", 2),
        "larger at": f"{row['first_larger']} : {row['second_larger']}",
        "p": p_text(row["p"]).removeprefix("p ").removeprefix("= "),
        "p (Holm)": adjusted,
    }


def draw_paired(request: Request) -> list[Path]:
    """Writes the paired comparison of the request's models."""
    return build_paired(
        results.attack_inputs(request),
        request.out_stem,
        request.context,
        results.attack_text(request),
    )
