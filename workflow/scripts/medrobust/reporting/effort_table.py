"""Table of what restarts and iterations gain: has an attack's published effort converged?

One block shows the mean smallest distance against the number of restarts, one against the number
of iterations, one whether the median has settled: whether it changed by less than 2 % when the
iterations were doubled. The last two need traces (:mod:`medrobust.evaluation.traces`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core import seeds
from medrobust.evaluation.effort import (
    SETTLED_CHANGE,
    expected_minima,
    iteration_counts,
    mean_of_minima,
    median_change,
    median_distance,
    relative_gain,
    restart_counts,
)
from medrobust.evaluation.statistics import upper_bound_text
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN, Panel, RunContext, number, with_interval
from medrobust.reporting.attack_runs import (
    NORM_LABELS,
    TERMS,
    AttackFiles,
    Norm,
    Runs,
    by_dataset,
    counts,
    named,
    read_runs,
)
from medrobust.reporting.plotting import model_label

if TYPE_CHECKING:
    import pandas as pd

RESTARTS, ITERATIONS = "restarts", "iterations"
_KEY = ("dataset", "method", "varied", "restarts", "iterations", "n", "replicates", "misclassified")
_OF_TERM = (
    *("mean", "ci_low", "ci_high", "censored", "lower_bound"),
    *("gain", "gain_ci_low", "gain_ci_high"),
    *("median", "median_change", "settled"),
)
COLUMNS = (
    *_KEY,
    *(f"{term}_{name}" for term in TERMS for name in _OF_TERM),
    *("gain_from", "interval", "scale", "protocol", "source"),
)


@dataclass(frozen=True)
class _Step:
    """An amount of effort: the best of ``restarts`` runs of ``iterations`` iterations.

    Attributes:
        varied: what the block that this belongs to varies.
        restarts, iterations: the effort.
        distances: term to ``[n, R]`` of each replicate, R >= ``restarts``.
    """

    varied: str
    restarts: int
    iterations: int
    distances: Mapping[str, Sequence[np.ndarray]]

    @property
    def amount(self) -> int:
        """How much there is of what is varied."""
        return self.restarts if self.varied == RESTARTS else self.iterations


def build_effort(
    models: Sequence[AttackFiles],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    attack: str,
    *,
    norm: Norm = 2,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Writes the mean smallest distance against restarts and against iterations.

    Args:
        models: the attack on each model and data set, in the order to print.
        out_stem: path without suffix.
        context: the run.
        attack: the attack and its budget in words.
        norm: the norm that the attack minimises.
        notes: lines on the data, printed below the table.

    Returns:
        The files written.

    Raises:
        InputError: no model, or records or traces that are not valid
            (:func:`medrobust.reporting.attack_runs.read_runs`).
    """
    groups = by_dataset(models)
    sources = {dataset: group[0].source for dataset, group in groups.items()}
    runs = {(files.dataset, files.model): read_runs(files, norm) for files in models}
    frame = _rows(runs, sources, context)
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title="Effort. What more restarts and more iterations of the attack gain",
        caption=(
            f"Mean over points of the smallest {NORM_LABELS[norm]} distance. Restarts: the "
            "expected smallest distance over so many restarts, which is its mean over all subsets "
            "of that size. Iterations: the smallest over all restarts, had each ended after so "
            "many iterations. As printed: the attack's last iterate, as the paper reports it. At "
            "the boundary: after projection to the decision boundary. Gain: by how much the mean "
            "becomes smaller, in percent, with its 95 % interval. Settled: whether the median over "
            f"points changed by less than {100 * SETTLED_CHANGE:g} % when the iterations were "
            f"doubled, from half to all. {_unsettled(frame)}"
            f"{upper_bound_text(_restarts(runs))}"
        ),
        context=context,
        sources=sources,
        n=counts(frame),
        budget=attack,
        notes=[*_notes(frame, runs), *notes],
        panels=_panels(frame, runs, sources),
        inputs=[file for one in models for part in (*one.records, *one.arrays) for file in part],
    )


# --- rows -------------------------------------------------------------------------------


def _steps(runs: Sequence[Runs]) -> list[_Step]:
    """Returns the efforts to show of a model, those that vary restarts first."""
    total = runs[0].boundary.shape[1]
    iterations = max(one.iterations for one in runs)
    final = {term: [getattr(one, term) for one in runs] for term in TERMS}
    steps = [_Step(RESTARTS, count, iterations, final) for count in restart_counts(total)]
    if all(one.traces is not None for one in runs):
        steps += [
            _Step(
                ITERATIONS,
                total,
                t,
                {term: [getattr(one.traces, term)[..., t] for one in runs] for term in TERMS},
            )
            for t in iteration_counts(min(one.traces.max_iter for one in runs))
        ]
    return steps


def _rows(
    runs: Mapping[tuple[str, str], Sequence[Runs] | None],
    sources: Mapping[str, str],
    context: RunContext,
) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for (dataset, model), found in runs.items():
        previous = None
        for step in _steps(found) if found else []:
            if previous is not None and previous.varied != step.varied:
                previous = None
            row = dict.fromkeys(COLUMNS) | {
                "dataset": dataset,
                "method": model,
                "varied": step.varied,
                "restarts": step.restarts,
                "iterations": step.iterations,
                "misclassified": sum(one.misclassified for one in found),
                "gain_from": None if previous is None else previous.amount,
                "scale": context.scale,
                "protocol": context.protocol,
                "source": sources[dataset],
            }
            for term in TERMS:
                row |= _estimates(step, previous, term, (dataset, model), context)
            rows.append(row)
            previous = step
    return _typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def _estimates(
    step: _Step, previous: _Step | None, term: str, cell: tuple[str, str], context: RunContext
) -> dict[str, Any]:
    names = ("bootstrap", context.study, "effort", *cell, step.varied, step.amount, term)
    estimate = mean_of_minima(
        step.distances[term], step.restarts, generator=seeds.generator(context.seed, *names)
    )
    gain = (None, None, None)
    if previous is not None:
        before, after = (
            [expected_minima(array, one.restarts) for array in one.distances[term]]
            for one in (previous, step)
        )
        gain = relative_gain(before, after, generator=seeds.generator(context.seed, *names, "gain"))
    values = (
        *(estimate.value, estimate.ci_low, estimate.ci_high),
        *(estimate.censored, estimate.lower_bound),
        *gain,
        *_settled(step, previous, term),
    )
    shared = {"n": estimate.n, "replicates": estimate.replicates, "interval": estimate.basis}
    return shared | {f"{term}_{name}": v for name, v in zip(_OF_TERM, values, strict=True)}


def _settled(
    step: _Step, previous: _Step | None, term: str
) -> tuple[float | None, float | None, str | None]:
    """Returns the median over points, its change since half the iterations, and the verdict.

    The last two are None where ``previous`` is not half as many iterations; the verdict is
    "undefined" where a median is infinite, since the attack failed at half of the points.
    """

    def median(one: _Step) -> float | None:
        minima = [expected_minima(array, one.restarts) for array in one.distances[term]]
        return median_distance(minima)

    now = median(step)
    half = step.amount // 2
    if step.varied == RESTARTS or previous is None or not half or previous.amount != half:
        return now, None, None
    change = median_change(median(previous), now)
    if change is None:
        return now, None, "undefined"
    return now, change, "yes" if abs(change) < SETTLED_CHANGE else "no"


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Gives every column its type, also where it holds nothing."""
    texts = {"dataset", "method", "varied", "interval", "scale", "protocol", "source"}
    texts |= {f"{term}_settled" for term in TERMS}
    whole = {"restarts", "iterations", "n", "replicates", "misclassified", "gain_from"}
    whole |= {f"{term}_censored" for term in TERMS}
    kinds = {
        name: "string" if name in texts else "Int64" if name in whole else "float64"
        for name in frame.columns
    }
    return frame.astype(kinds)


# --- printing ---------------------------------------------------------------------------


def _panels(
    frame: pd.DataFrame,
    runs: Mapping[tuple[str, str], Any],
    sources: Mapping[str, str],
) -> list[Panel]:
    panels = []
    for dataset, source in sources.items():
        synthetic = f" ({artefacts.SYNTHETIC})" if artefacts.is_synthetic(source) else ""
        models = [model for name, model in runs if name == dataset]
        for varied in (RESTARTS, ITERATIONS):
            part = frame[(frame["dataset"] == dataset) & (frame["varied"] == varied)]
            if not part.empty:
                fixed = f"{dataset}{synthetic}, number of {varied}"
                panels.append(Panel(_printed(part, models, varied), title=fixed))
        last = _doubled(frame[frame["dataset"] == dataset])
        if len(last):
            title = f"{dataset}{synthetic}, median when the iterations are doubled"
            panels.append(Panel(_printed_medians(frame, last, models), title=title))
    return panels


def _doubled(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns of each model the row of all its iterations, where half of them are known too."""
    last = frame[frame["varied"] == ITERATIONS].groupby(["dataset", "method"], sort=False).tail(1)
    return last[last["boundary_settled"].notna()]


def _unsettled(frame: pd.DataFrame) -> str:
    """Returns which models' medians have not settled, in words; "" where none is known."""
    last = _doubled(frame)
    if last.empty:
        return ""
    words = []
    for term, heading in TERMS.items():
        rows = last[last[f"{term}_settled"] == "no"]
        cells = list(rows[["dataset", "method"]].itertuples(index=False, name=None))
        words.append(f"{heading}: {named(cells) if cells else 'none'}")
    return f"Not settled, {', '.join(words)}. "


def _printed_medians(
    frame: pd.DataFrame, last: pd.DataFrame, models: Sequence[str]
) -> pd.DataFrame:
    """Returns as text the medians with half and with all iterations, their change, the verdict."""
    import pandas as pd

    known = frame[frame["varied"] == ITERATIONS].set_index(["dataset", "method", "iterations"])
    by_model = {row["method"]: row for row in last.to_dict("records")}
    rows = []
    for model in models:
        row, end = {("", "model"): model_label(model)}, by_model.get(model)
        half = None if end is None else end["gain_from"]
        row["", "iterations"] = NOT_RUN if end is None else f"{half} → {end['iterations']}"
        for term, heading in TERMS.items():
            texts = [NOT_RUN] * 3
            if end is not None:
                before = known.loc[(end["dataset"], model, half), f"{term}_median"]
                medians = [number(value, 3) for value in (before, end[f"{term}_median"])]
                change = number(100 * end[f"{term}_median_change"], 1)
                texts = [" → ".join(medians), change, end[f"{term}_settled"]]
            names = ("median", "smaller by %", "settled")
            row |= {(heading, name): text for name, text in zip(names, texts, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(list(rows[0])))


def _printed(part: pd.DataFrame, models: Sequence[str], varied: str) -> pd.DataFrame:
    """Returns a block as text: one row per model, both distances at each amount of effort.

    Where models were attacked with different amounts, each has the gain of its own last step.
    """
    import pandas as pd

    amounts = sorted(set(part[varied]))
    alike = len({tuple(own[varied]) for _, own in part.groupby("method")}) == 1
    rows = []
    for model in models:
        found = part[part["method"] == model].set_index(varied)
        row: dict[tuple[str, str], str] = {("", "model"): model_label(model)}
        for term, heading in TERMS.items():
            for amount in amounts:
                known = amount in found.index
                row[heading, f"{amount}"] = _mean(found.loc[amount], term) if known else NOT_RUN
            if len(amounts) > 1:
                step = f"{amounts[-2]} → {amounts[-1]}" if alike else "of the last step"
                row[heading, f"gain {step} in % [95 %]"] = _gain(found, term, named_step=not alike)
        rows.append(row)
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(list(rows[0])))


def _mean(row: Mapping[str, Any], term: str) -> str:
    text = number(row[f"{term}_mean"], 3)
    return f"≥ {number(row[f'{term}_lower_bound'], 3)}" if text == "–" else text


def _gain(found: pd.DataFrame, term: str, *, named_step: bool) -> str:
    """Returns the gain of a model's last step, with the step if asked; "not run" if there is none.

    Args:
        found: the model's rows by amount, ascending.
    """
    if found.empty or found["gain_from"].isna().iloc[-1]:
        return NOT_RUN
    row = found.iloc[-1]
    percent = [100 * row[f"{term}_{name}"] for name in ("gain", "gain_ci_low", "gain_ci_high")]
    text = with_interval(*percent, 1)
    return f"{row['gain_from']} → {row.name}: {text}" if named_step else text


def _restarts(runs: Mapping[tuple[str, str], Sequence[Runs] | None]) -> list[int]:
    """Returns the restarts behind each number that is shown."""
    return [one.boundary.shape[1] for each in runs.values() for one in each or ()]


def _notes(frame: pd.DataFrame, runs: Mapping[tuple[str, str], Sequence[Runs] | None]) -> list[str]:
    notes = []
    if any(frame[f"{term}_gain_ci_low"].notna().any() for term in TERMS):
        notes.append(
            "Intervals of gains: paired bootstrap t, over what the intervals of means are "
            "drawn over. They say what other points would change, not what other runs would."
        )
    bases = [text for text in dict.fromkeys(frame["interval"]) if "undefined" not in text]
    if bases:
        notes.append(f"Intervals of means, in the CSV file: {'; '.join(bases)}.")
    if any((frame[f"{term}_censored"] > 0).any() for term in TERMS):
        notes.append(
            "A restart without an adversarial example is infinitely far. Where all restarts of "
            "a subset are, at any point, the mean is not defined: the least that it can be is "
            "printed, with such subsets as 0, and no gain."
        )
    if (frame["misclassified"] > 0).any():
        notes.append("Points that a model misclassifies without attack count as distance 0.")
    without = [
        cell
        for cell, found in runs.items()
        if found is None or any(one.traces is None for one in found)
    ]
    if without:
        notes.append(
            "The attack's engine kept no trace of its iterations, so what they gain is not known: "
            f"{named(without)}."
        )
    return notes
