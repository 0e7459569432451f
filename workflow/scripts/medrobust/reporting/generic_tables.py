"""Tables that serve any study: accuracy, accuracy under attack by noise level, distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.evaluation.statistics import upper_bound_text
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN, Panel, number, with_interval
from medrobust.reporting.generic_results import (
    NORM_LABELS,
    RobustResults,
    interval_text,
    read_robust_results,
)
from medrobust.reporting.generic_rows import (
    DECIMALS,
    Printed,
    accuracy_rows,
    distance_rows,
    read_printed,
    robust_rows,
)
from medrobust.reporting.levels import (
    difference_text,
    level_panel,
    mismatch_notes,
    published_text,
    reproduced_text,
)
from medrobust.reporting.plotting import model_label
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    STARS,
    attack_in_words,
    dataset_sources,
    plain,
    star,
    with_synthetic_mark,
)

if TYPE_CHECKING:
    import pandas as pd


def draw_accuracy(request: Request) -> list[Path]:
    """Writes the accuracy of each model on each data set, without attack.

    Args:
        request: with the summaries of clean results.

    Returns:
        The files written.

    Raises:
        InputError: a summary is missing or wrong.
    """
    printed = read_printed(request)
    frame = accuracy_rows(request, printed)
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title="Accuracy without attack",
        caption=f"Share of the test points that are classified correctly.{interval_text(frame)}",
        context=request.context,
        sources=dataset_sources(request.entries, ()),
        n=_test_points(frame),
        budget="none (clean test points)",
        panels=[
            Panel(_cells(part, _accuracy_cells), title=_title(part, dataset))
            for dataset, part in frame.groupby("dataset", sort=False)
        ],
        inputs=[*_published(request), *(entry.summary for entry in request.entries)],
    )


def draw_robust_accuracy(request: Request) -> list[Path]:
    """Writes the accuracy of each model under each attack within a ball, by noise level.

    Args:
        request: with tallies.

    Returns:
        The files written.

    Raises:
        InputError: a tally is missing or wrong.
    """
    results, printed = read_robust_results(request), read_printed(request)
    frame = robust_rows(request, results, printed)
    tallies = [
        tally for folds in results.tallies.values() for each in folds.values() for tally in each
    ]
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title="Accuracy under attack, by noise level",
        caption=(
            "Share of the test points that are classified correctly, by the radius ε of the attack "
            "(0: without attack). A point counts as misclassified if any run of the attack at this "
            "ε fools the model, or if it is misclassified without attack."
            f"{interval_text(frame)}{_star_text(frame)}"
        ),
        context=request.context,
        sources=dataset_sources(request.entries, ()),
        n=robust_points(results),
        budget=attacks_in_words(request, [attack for _, attack in results.attacks()]),
        notes=[*_lost_notes(frame), *mismatch_notes(tallies)],
        panels=_robust_panels(frame, printed),
        inputs=[*_published(request), *results.files],
    )


def draw_distances(request: Request) -> list[Path]:
    """Writes the distance to the nearest adversarial example, of attacks without a radius.

    Args:
        request: with records.

    Returns:
        The files written.

    Raises:
        InputError: records are missing or wrong.
    """
    printed = read_printed(request)
    frame = distance_rows(request, printed)
    attacks = list(dict.fromkeys(frame["attack"]))
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title="Distance to the nearest adversarial example",
        caption=(
            "Of each point the smallest distance that any restart of the attack found, in the "
            "units of the data. A point that is misclassified without attack counts as 0, one at "
            "which every restart failed as farther than all others."
            f"{interval_text(frame)} {upper_bound_text(frame['restarts'])}"
        ).rstrip(),
        context=request.context,
        sources=dataset_sources(request.entries, ()),
        n=_test_points(frame, "attacked points"),
        budget=with_rule(request, attacks_in_words(request, attacks)),
        notes=_censored_notes(frame),
        panels=[
            Panel(_distance_cells(part), title=_title(part, f"{dataset}, {attack}", part))
            for (dataset, attack), part in frame.groupby(["dataset", "attack"], sort=False)
        ],
        inputs=[
            *_published(request),
            *(path for entry in request.entries for path in entry.attack_records.values()),
        ],
    )


def _published(request: Request) -> list[str]:
    return [request.published] if request.published else []


def attacks_in_words(request: Request, attacks: Sequence[str]) -> str:
    """Returns attacks and their budgets; "not run" where there are none."""
    texts = [attack_in_words(request, attack, {}) for attack in dict.fromkeys(attacks)]
    return "; ".join(texts) or NOT_RUN


def with_rule(request: Request, text: str) -> str:
    """Returns attacks in words with the rule by which their points were chosen, if there is one."""
    return f"{text}, {request.cohort_rule}" if request.cohort_rule and text != NOT_RUN else text


def robust_points(results: RobustResults) -> str:
    """Returns which points the attacks were made on, in words."""
    parts: dict[str, dict[str, None]] = {}
    for dataset, attack in results.attacks():
        parts.setdefault(dataset, {})[results.points_text(dataset, attack)] = None
    return "; ".join(f"{name}: {', '.join(texts)}" for name, texts in parts.items()) or "nothing"


def _test_points(frame: pd.DataFrame, what: str = "test points") -> str:
    parts = []
    for dataset, part in frame.groupby("dataset", sort=False):
        sizes = " or ".join(f"{size:,}" for size in sorted(set(part["n"].dropna().astype(int))))
        folds = int(part["folds"].max())
        over = f" of {folds} folds together" if folds > 1 else ""
        parts.append(f"{dataset}: {sizes} {what}{over}")
    return "; ".join(parts) or "nothing was run"


def _title(part: pd.DataFrame, text: str, norm: pd.DataFrame | None = None) -> str:
    named = text if norm is None else f"{text} ({NORM_LABELS[part['norm'].iloc[0]]})"
    return with_synthetic_mark(named, set(part["source"]))


def _cells(
    part: pd.DataFrame, cells: Callable[[Mapping[str, Any]], Mapping[str, str]]
) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [{"model": model_label(row["method"]), **cells(row)} for row in plain(part)]
    )


def _trained(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns how many folds a number is over, and how many trainings of each."""
    return {"folds": str(row["folds"]), "trainings of each": str(row["replicates"])}


def _accuracy_cells(row: Mapping[str, Any]) -> dict[str, str]:
    shown = {"accuracy [95 %]": reproduced_text(row, DECIMALS)}
    if row["published"] is not None:
        shown["published"] = number(row["published"], DECIMALS)
    return (
        shown
        | {"lowest to highest": _range_text(row), "test points": f"{row['n']:,}"}
        | _trained(row)
    )


def _range_text(row: Mapping[str, Any]) -> str:
    if row["lowest"] is None:
        return "–"
    return f"{number(row['lowest'], DECIMALS)} to {number(row['highest'], DECIMALS)}"


def _robust_panels(frame: pd.DataFrame, printed: Printed) -> list[Panel]:
    panels = []
    decimals = max((digits for _, _, digits in printed.values()), default=DECIMALS)
    stars = partial(star, decimals=decimals)
    for (dataset, attack), part in frame.groupby(["dataset", "attack"], sort=False):
        kinds = {"": partial(reproduced_text, decimals=DECIMALS)}
        if part["published"].notna().any():
            kinds["published, "] = partial(published_text, decimals=decimals)
            kinds["difference, "] = partial(difference_text, decimals=DECIMALS, stars=stars)
        for kind, cell in kinds.items():
            title = _title(part, f"{kind}{dataset}, {attack}", part)
            panel = level_panel(part, cell, title, corner="noise level ε")
            panels.append(panel if kind else _with_trainings(panel, part))
    return panels


def _star_text(frame: pd.DataFrame) -> str:
    return f" Difference: reproduced minus published; {STARS}." if frame["published"].any() else ""


def _with_trainings(panel: Panel, part: pd.DataFrame) -> Panel:
    first = part.drop_duplicates("method")
    return Panel(panel.frame.join(_cells(first, _trained).drop(columns="model")), panel.title)


def _distance_cells(part: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    median, mean = (part[part["metric"] == f"{name}_distance"] for name in ("median", "mean"))
    return pd.DataFrame(
        [
            {
                "model": model_label(one["method"]),
                "median [95 %]": _distance_text(one),
                "mean [95 %]": _distance_text(other),
                "points": f"{one['n']:,}",
                **_trained(one),
                "restarts": str(one["restarts"]),
                "misclassified": str(one["misclassified"]),
                "attack failed": str(one["censored"]),
                "queries per point": f"{one['queries_per_point']:,.0f}",
            }
            for one, other in zip(plain(median), plain(mean), strict=True)
        ]
    )


def _distance_text(row: Mapping[str, Any]) -> str:
    if row["reproduced"] is None:
        return f"≥ {number(row['lower_bound'], DECIMALS)}"
    return with_interval(row["reproduced"], row["ci_low"], row["ci_high"], DECIMALS)


def _lost_notes(frame: pd.DataFrame) -> list[str]:
    lost = frame["non_monotone"].fillna(0)
    if not (lost > 0).any():
        return []
    worst = frame.loc[lost.idxmax()]
    return [
        "Some points are fooled at a level but not at a larger one (column non_monotone; at most "
        f"{int(lost.max()):,}: {worst['method']} at {worst['epsilon']}); worst_case counts them as "
        "fooled."
    ]


def _censored_notes(frame: pd.DataFrame) -> list[str]:
    if not (frame["censored"] > 0).any():
        return []
    return [
        "Where the attack failed at some points, a mean is not defined, nor is a median if it "
        "failed at half of them: the least that it can be is printed (≥)."
    ]
