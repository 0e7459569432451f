"""Margins of training points that IMA and MMA estimate, and what follows from them.

The paper says that the distribution of IMA's margins "indicates a good ε = 0.1" for adversarial
training on COVID-19 CT, and not by what rule. Here the median is taken: half of the training
points are then perturbed by less than their margin, half by more. The mean stands beside it.

MMA is said to overestimate: if a share of the points had margins above a noise level, about this
share should still be right at that level. Margins are of training points, accuracies of test
points, so the two need not be equal, but should be near each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.evaluation.intervals import share_draws
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
from medrobust.reporting.request import Request
from medrobust.reporting.rows import plain, signed, typed, with_synthetic_mark
from medrobust.studies.ima.curves import (
    curve_note,
    curve_points,
    draw_curves,
    legend_of,
    missing_text,
)
from medrobust.studies.ima.results import (
    COVID,
    LINF,
    MAIN_TABLES,
    NORM_NAMES,
    PGD_ATTACKS,
    ImaResults,
    PrintedNumbers,
    PrintedTable,
    attack_text,
    budget_text,
    main_table,
    read_printed,
    read_results,
    sample_text,
    shown_sources,
)

if TYPE_CHECKING:
    import pandas as pd

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Methods whose training estimates margins.
ESTIMATING = ("IMA", "MMA")
#: The radius for adversarial training that the paper reads off the margins, where it names one.
PAPER_RADIUS = {(COVID, LINF): 0.1}
#: A margin this near to the largest counts as the largest (float32).
_EQUAL = 1e-5
COLUMNS = (
    "dataset",
    "norm",
    "method",
    "status",
    "n",
    "replicates",
    *(f"quantile_{int(100 * q):02d}" for q in QUANTILES),
    "mean",
    "largest",
    "share_at_largest",
    "level",
    "share_above_level",
    "accuracy_at_level",
    "accuracy_ci_low",
    "accuracy_ci_high",
    "excess",
    "recommended",
    "paper_radius",
    "nearest_adv",
    "best_adv",
    "source",
)
_TEXT = frozenset({"norm", "nearest_adv", "best_adv"})


# --- numbers ----------------------------------------------------------------------------


def largest_level(table: PrintedTable, printed: PrintedNumbers) -> float:
    """Returns the largest noise level of a table: the paper's largest noise in training."""
    return printed.levels(table)[-1]


def lies_above(margins: np.ndarray, level: float) -> np.ndarray:
    """Tells which margins lie above a level; one cut to it does not, whatever float32 makes of it.

    Args:
        margins: ``[n]``.
        level: above 0.
    """
    return margins > level * (1 + _EQUAL)


def margin_rows(results: ImaResults, printed: PrintedNumbers, context: RunContext) -> pd.DataFrame:
    """Returns one row per data set, norm and method that estimates margins.

    Returns:
        The columns :data:`COLUMNS`: quantiles, mean and ``largest`` of the margins of all
        training points, of all ``replicates`` whose margins are known together;
        ``share_at_largest``; ``share_above_level``, the share of margins above the table's largest
        noise level (``level``), beside the accuracy of the same replicates there (``excess``: the
        difference); for IMA the ``recommended`` radius (the median), the paper's where it names
        one, the radius for adversarial training of this run that is nearest to it
        (``nearest_adv``), and the one with the best mean accuracy over the noise levels
        (``best_adv``).
    """
    import pandas as pd

    rows = [
        _margin_row(results, printed, context, table, method)
        for table in MAIN_TABLES
        for method in ESTIMATING
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return typed(frame, _TEXT)


def _margin_row(
    results: ImaResults,
    printed: PrintedNumbers,
    context: RunContext,
    table: PrintedTable,
    method: str,
) -> dict[str, Any]:
    model = table.model(method)
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"dataset": table.dataset, "norm": table.norm, "method": method}
    row["status"] = context.status_without_results(table.dataset, model)
    row["level"] = level = largest_level(table, printed)
    row["paper_radius"] = PAPER_RADIUS.get((table.dataset, table.norm)) if method == "IMA" else None
    found = results.margins.get((table.dataset, model), ())
    if not found:
        return row
    margins = np.concatenate([one.margin for one in found])
    names = (name for name in COLUMNS if name.startswith("quantile_"))
    above = float(lies_above(margins, level).mean())
    row |= {
        "status": "reproduced",
        "n": found[0].margin.size,
        "replicates": len(found),
        **dict(zip(names, map(float, np.quantile(margins, QUANTILES)), strict=True)),
        "mean": float(margins.mean()),
        "largest": float(margins.max()),
        "share_at_largest": float((margins >= margins.max() * (1 - _EQUAL)).mean()),
        "share_above_level": above,
        "source": results.sources[table.dataset],
    }
    same = results.with_margins(table.dataset, model)
    accuracy = same.estimate(table.dataset, model, table.attack, level)
    if accuracy is not None:
        row |= {
            "accuracy_at_level": accuracy.value,
            "accuracy_ci_low": accuracy.ci_low,
            "accuracy_ci_high": accuracy.ci_high,
            "excess": above - accuracy.value,
        }
    return row | (_recommendation(results, printed, table, margins) if method == "IMA" else {})


def recommended_radius(margins: np.ndarray) -> float:
    """Returns the radius for adversarial training that margins recommend: their median.

    Args:
        margins: ``[n]``, not negative.
    """
    return float(np.median(margins))


def _recommendation(
    results: ImaResults, printed: PrintedNumbers, table: PrintedTable, margins: np.ndarray
) -> dict[str, Any]:
    radius = recommended_radius(margins)
    means = {}
    for method in printed.methods(table):
        mean = mean_accuracy(results, printed, table, method)
        if method.startswith("adv") and mean is not None:
            means[method] = mean
    radii = {method: float(method.removeprefix("adv") or "nan") for method in means}
    known = {method: r for method, r in radii.items() if r == r}
    return {
        "recommended": radius,
        "nearest_adv": min(known, key=lambda m: abs(known[m] - radius)) if known else "",
        "best_adv": max(means, key=means.get) if len(known) > 1 else "",
    }


def mean_accuracy(
    results: ImaResults, printed: PrintedNumbers, table: PrintedTable, method: str
) -> float | None:
    """Returns the mean accuracy over the table's noise levels above 0, None if not all were run."""
    found = [
        results.estimate(table.dataset, table.model(method), table.attack, level)
        for level in printed.levels(table)[1:]
    ]
    return None if None in found else float(np.mean([one.value for one in found]))


def excess_draws(results: ImaResults, table: PrintedTable, model: str, level: float) -> Any:
    """Returns estimate and draws of (share of margins above a level) minus (accuracy there).

    Args:
        results: the run's.
        table: of the attack.
        model: in the run.
        level: noise level.

    Returns:
        (float, float64 ``[resamples]``), or None if margins or accuracy were not run.
    """
    share = share_above(results, table.dataset, model, level)
    if share is None:
        return None
    same = results.with_margins(table.dataset, model)
    accuracy = same.estimate(table.dataset, model, table.attack, level)
    if accuracy is None:
        return None
    draws = same.draws(table.dataset, model, table.attack, level)
    return share[0] - accuracy.value, share[1] - draws


def share_above(results: ImaResults, dataset: str, model: str, level: float) -> Any:
    """Returns estimate and draws of the share of margins above a level; None if not run."""
    found = results.margins.get((dataset, model), ())
    if not found:
        return None
    counts = [(float(lies_above(one.margin, level).sum()), one.margin.size) for one in found]
    draws = share_draws(counts, results.random("margins", dataset, model, f"{level:g}"))
    return float(np.mean([right / n for right, n in counts])), draws


# --- table ------------------------------------------------------------------------------


def build_margins(request: Request) -> list[Path]:
    """Writes the distributions of margins, the radius they recommend, and the check of MMA.

    Args:
        request: with margins, and tallies of PGD.

    Returns:
        The files written.

    Raises:
        InputError: a file is missing or wrong.
    """
    results = read_results(request, PGD_ATTACKS)
    printed = read_printed(request.published)
    frame = margin_rows(results, printed, request.context)
    ran = frame[frame["status"].map(has_results)]
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title="Margins of training points, and the epsilon that they recommend",
        caption=(
            "Margins that training with IMA and MMA ends with, of all training points, in the "
            "norm of the training. Recommended: the median of IMA's margins, as radius for "
            "adversarial training (adv); the paper says that their distribution indicates 0.1 on "
            "COVID-19 CT, and names no rule. Nearest adv: the radius of this run next to it; best "
            "adv: the one with the best mean accuracy over the noise levels. Check: share of "
            "margins above the largest noise level against the accuracy on test points there; "
            "a large excess says that margins are overestimated."
        ),
        context=request.context,
        sources=shown_sources(results, dict.fromkeys(ran["dataset"])),
        n=_margin_sample(ran),
        budget=budget_text(request, PGD_ATTACKS),
        notes=_margin_notes(frame),
        panels=_margin_panels(frame),
        inputs=[request.published, *results.files],
    )


def _margin_sample(ran: pd.DataFrame) -> str:
    parts = {row["dataset"]: f"{row['n']:,} training points" for row in plain(ran)}
    return "; ".join(f"{name}: {text}" for name, text in parts.items()) or "none"


def _margin_notes(frame: pd.DataFrame) -> list[str]:
    notes = [
        "A point that is misclassified has the smallest margin that IMA allows (its margin step) "
        "and margin 0 in MMA.",
        "IMA's margins end at the largest noise level; they cannot lie above it.",
    ]
    if frame["replicates"].notna().any():
        notes.append(
            "Where models were trained several times, margins are those of the first training, and "
            "so is the accuracy beside them."
        )
    if (frame["status"] == NOT_RUN).any():
        notes.append('"not run": this run has no margins of that model.')
    return notes


def _margin_panels(frame: pd.DataFrame) -> list[Panel]:
    import pandas as pd

    rows = plain(frame)
    shares = [_named(row) | _distribution_cells(row) for row in rows]
    ours = [row for row in rows if row["method"] == "IMA"]
    recommended = [_named(row) | _recommended_cells(row) for row in ours]
    checks = [_named(row) | _check_cells(row) for row in rows if row["method"] == "MMA"]
    sources = [row["source"] for row in rows]
    return [
        Panel(pd.DataFrame(cells).fillna("–"), title=with_synthetic_mark(title, sources))
        for title, cells in (
            ("Distribution", shares),
            ("Epsilon for adversarial training", recommended),
            ("Are MMA's margins overestimated?", checks),
        )
    ]


def _named(row: Mapping[str, Any]) -> dict[str, str]:
    return {"data set": row["dataset"], "norm": NORM_NAMES[row["norm"]], "method": row["method"]}


def _distribution_cells(row: Mapping[str, Any]) -> dict[str, str]:
    if not has_results(row["status"]):
        return {"5 %": in_place_of(row["status"])}
    cells = {f"{100 * q:g} %": number(row[f"quantile_{int(100 * q):02d}"], 3) for q in QUANTILES}
    return cells | {
        "mean": number(row["mean"], 3),
        "largest": number(row["largest"], 3),
        "share at the largest": number(row["share_at_largest"], 3),
    }


def _recommended_cells(row: Mapping[str, Any]) -> dict[str, str]:
    paper = {"paper": number(row["paper_radius"], 2)}
    if not has_results(row["status"]):
        return {"median (recommended)": in_place_of(row["status"]), "mean": "–", **paper}
    return {
        "median (recommended)": number(row["recommended"], 3),
        "mean": number(row["mean"], 3),
        **paper,
        "nearest adv": row["nearest_adv"] or "–",
        "best adv": row["best_adv"] or "–",
    }


def _check_cells(row: Mapping[str, Any]) -> dict[str, str]:
    level = {"noise level": f"{row['level']:g}"}
    if not has_results(row["status"]):
        return level | {"share of margins above it": in_place_of(row["status"])}
    ends = (row["accuracy_at_level"], row["accuracy_ci_low"], row["accuracy_ci_high"])
    return level | {
        "share of margins above it": number(row["share_above_level"], 3),
        "accuracy at it": NOT_RUN if ends[0] is None else with_interval(*ends, 3),
        "excess": "–" if row["excess"] is None else signed(row["excess"], 3),
    }


# --- Figure 9 ---------------------------------------------------------------------------

#: Edges of the bars, in units of the largest noise level; the last bar takes what lies beyond.
_BINS = 24
_BEYOND = 1.2


def build_covid(request: Request) -> list[Path]:
    """Writes Figure 9: accuracy on COVID-19 CT, and the margins of IMA and MMA.

    Args:
        request: with the tallies of its attack, and margins.

    Returns:
        The files written.

    Raises:
        InputError: a file is missing or wrong.
    """
    import pandas as pd

    from medrobust.reporting import plotting

    table = main_table(COVID, LINF)
    results, printed = read_results(request, [table.attack]), read_printed(request.published)
    drawn = curve_points(table, results, printed)
    level = largest_level(table, printed)
    bars = pd.concat([_bars(results, method, level) for method in ESTIMATING], ignore_index=True)
    with plotting.style():
        figure = plotting.new_figure(plotting.DOUBLE_COLUMN, 3.9)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.12))
        axes = left.subplots()
        draw_curves(axes, drawn, norm=LINF)
        axes.set_ylabel("Accuracy")
        axes.set_title("(a) Accuracy under attack\n \n ")
        legend_of(left, drawn, loc="outside lower center", ncols=4)
        panels = right.subplots(1, 2, sharex=True)
        for letter, panel, method in zip("bc", panels, ESTIMATING, strict=True):
            title = f"({letter}) Margins by {method}"
            _draw_bars(panel, bars[bars["method"] == method], level, results, method, title)
            panel.set_xlabel(f"Margin ({NORM_NAMES[LINF]})")
        panels[0].set_ylabel("Share of training points")
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            pd.concat([drawn, bars], ignore_index=True),
            title="Figure 9. COVID-19 CT: accuracy under attack, and margins",
            caption=(
                f"(a) Accuracy by noise level. {curve_note(drawn)}{missing_text(drawn)} (b), (c) "
                "Margins of the training images as training ended, share of the images by margin; "
                f"what lies above {_BEYOND * level:g} stands in the last bar. Vertical lines: the "
                f"median, and the largest noise level, {level:g}. The paper says that most of "
                "MMA's margins lie above it, and that IMA's indicate 0.1 for adversarial training."
            ),
            context=request.context,
            sources=shown_sources(results, (COVID,)),
            n=sample_text(results, [table]),
            budget=attack_text(request, table.attack),
            inputs=[request.published, *results.files],
        )


def _bars(results: ImaResults, method: str, level: float) -> pd.DataFrame:
    """Returns the share of margins in each bar; no rows if there are no margins."""
    import pandas as pd

    edges = np.linspace(0.0, _BEYOND * level, _BINS + 1)
    columns = ["part", "method", "from", "to", "value", "source"]
    found = results.margins.get((COVID, method), ())
    if not found:
        return pd.DataFrame(columns=columns).astype({"from": float, "to": float, "value": float})
    margins = np.concatenate([one.margin for one in found])
    # A billionth of slack: margins are float32, multiples of a step, and lie on edges.
    counts, _ = np.histogram(np.minimum(margins * (1 - 1e-6), edges[-1]), edges)
    return pd.DataFrame(
        {
            "part": "margins",
            "method": method,
            "from": edges[:-1],
            "to": edges[1:],
            "value": counts / margins.size,
            "source": results.sources[COVID],
        }
    )[columns]


def _draw_bars(
    axes: Any, bars: pd.DataFrame, level: float, results: ImaResults, method: str, title: str
) -> None:
    from medrobust.reporting import plotting

    axes.set_title(f"{title}\n \n ")
    axes.set_xlim(0, _BEYOND * level)
    axes.axvline(level, color=plotting.ORIGINAL, linewidth=0.9, linestyle=(0, (4, 2)))
    if bars.empty:
        axes.text(0.5, 0.5, NOT_RUN, transform=axes.transAxes, ha="center")
        return
    margins = np.concatenate([one.margin for one in results.margins[COVID, method]])
    median = float(np.median(margins))
    axes.bar(
        bars["from"],
        bars["value"],
        width=bars["to"] - bars["from"],
        align="edge",
        color=plotting.model_colour(method),
        alpha=0.75,
        edgecolor="white",
        linewidth=0.4,
    )
    axes.axvline(median, color=plotting.ADVERSARIAL, linewidth=1.1)
    axes.set_ylim(0, 1.06 * bars["value"].max())
    share = float(lies_above(margins, level).mean())
    axes.set_title(f"{title}\nmedian {median:.3f}\n{100 * share:.0f} % above {level:g}")
