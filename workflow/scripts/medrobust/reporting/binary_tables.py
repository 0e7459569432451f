"""Tables of a binary classifier by attack: one row for each attack, one column for each model.

They serve any study of data sets of two classes, and a study's own tables through settings: which
printed table, what its models and attacks are called there. A number is held against the published
one of the same table, data set, model, metric, attack and epsilon, which print may write as a
fraction ("5/255").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.evaluation.binary import BINS, RATES, SCORES
from medrobust.evaluation.statistics import Estimate
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import NOT_RUN, Panel, in_place_of, number, with_interval
from medrobust.reporting.binary_results import (
    NO_ATTACK,
    BinaryResults,
    Key,
    read_binary_results,
)
from medrobust.reporting.comparison import read_published
from medrobust.reporting.generic_results import norm_of
from medrobust.reporting.generic_tables import attacks_in_words, robust_points
from medrobust.reporting.levels import NO_LEVEL, mismatch_notes
from medrobust.reporting.request import Request
from medrobust.reporting.rows import (
    ROW_COLUMNS,
    dataset_sources,
    estimate_columns,
    interval_notes,
    level_text,
    number_row,
    plain,
    typed,
    with_synthetic_mark,
)

if TYPE_CHECKING:
    import pandas as pd

DECIMALS = 3
COLUMNS = ("interval", "folds", "folds_failed")
_TEXT, _WHOLE = frozenset({"interval"}), frozenset({"folds", "folds_failed"})
#: Radii that differ by less are one: print rounds them (0.0196 for 5/255).
_SAME_LEVEL = 1e-3
OVER_FOLDS = (
    "Folds share training points, which the corrected resampled t allows for (Nadeau and Bengio "
    "2003); an interval covers other points of the same data to train and test on, not other "
    "hospitals."
)
_MEANING = {
    "F1": "2 TP / (2 TP + FP + FN)",
    "sensitivity": "share of the positive points that are found",
    "specificity": "share of the negative points that are left",
    "precision": "share of the points called positive that are so",
    "AUC": "area under the receiver operating characteristic",
    "Brier score": "mean squared difference of probability and outcome, 0 is best",
    "ECE": f"expected calibration error in {BINS} bins of equal width, 0 is best",
}


@dataclass(frozen=True)
class Printed:
    """A published number of a binary classifier.

    Attributes:
        table, dataset, method, metric, attack, norm, epsilon: as published.
        value: the number.
        decimals: that it is printed with.
    """

    table: str
    dataset: str
    method: str
    metric: str
    attack: str
    norm: str
    epsilon: str
    value: float
    decimals: int

    @property
    def level(self) -> float:
        """Its radius as a number, 0 without attack; NaN, which is none, if it is no number."""
        try:
            return float(Fraction(self.epsilon or "0"))
        except ValueError:
            return float("nan")


@dataclass(frozen=True)
class Layout:
    """How results are named and ordered in a table.

    Attributes:
        table: number of the printed table; "": any.
        methods: model of the run to its name in the table, in the order of its columns; empty: all,
            by their names.
        attacks: attack of the study to its name in print; others keep theirs.
        metrics: in order.
    """

    table: str = ""
    methods: Mapping[str, str] = field(default_factory=dict)
    attacks: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[str] = RATES

    def method(self, model: str) -> str:
        """Returns the name of a model in the table."""
        return self.methods.get(model, model)

    def attack(self, name: str) -> str:
        """Returns the name of an attack in print."""
        return self.attacks.get(name, name)


# --- drawing ----------------------------------------------------------------------------


def draw_binary_metrics(
    request: Request,
    *,
    title: str = "Binary classification under attack",
    metrics: Sequence[str] = RATES,
    positive: int = 1,
    table: str = "",
    methods: Mapping[str, str] | None = None,
    attacks: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes F1, sensitivity, specificity and precision of each model without and under attack.

    Args:
        request: with tallies and summaries, of data sets of two classes.
        title: of the table.
        metrics: which, in order.
        positive: number of the positive class.
        table, methods, attacks: see :class:`Layout`.

    Returns:
        The files written.

    Raises:
        InputError: a file is missing or wrong, or a data set has more than two classes.
    """
    layout = Layout(table, methods or {}, attacks or {}, metrics)
    return _write(request, layout, title, positive, "")


def draw_binary_scores(
    request: Request,
    *,
    title: str = "Ranking and calibration under attack",
    metrics: Sequence[str] = tuple(SCORES),
    positive: int = 1,
    table: str = "",
    methods: Mapping[str, str] | None = None,
    attacks: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes AUC, Brier score and calibration error of each model without and under attack.

    Arguments as for :func:`draw_binary_metrics`; the request has probabilities too.
    """
    layout = Layout(table, methods or {}, attacks or {}, metrics)
    note = (
        "Probabilities are those of the last row of each attack run (with an early stop that is "
        "the first misclassified one), of several runs the one that leaves the label the least; "
        "points that are misclassified without attack count with their clean probability. An "
        "attack that aimed at the order of points would lower the AUC further."
    )
    return _write(request, layout, title, positive, note)


def _write(request: Request, layout: Layout, title: str, positive: int, note: str) -> list[Path]:
    results = read_binary_results(request, positive)
    frame = binary_rows(request, results, layout)
    tallies = [
        tally
        for folds in results.robust.tallies.values()
        for each in folds.values()
        for tally in each
    ]
    several = (frame["folds"] > 1).any()
    return write_binary_table(
        request,
        results,
        frame,
        title=title,
        caption=_caption(layout, _positive_name(request, positive), several=several),
        notes=[
            *([note] if note else []),
            *interval_notes(frame[frame["reproduced"].notna()]),
            *([OVER_FOLDS] if several else []),
            *_failed_notes(results),
            *mismatch_notes(tallies),
        ],
        panels=_panels(frame, layout),
        inputs=[request.published] if request.published else [],
    )


def write_binary_table(
    request: Request,
    results: BinaryResults,
    frame: pd.DataFrame,
    *,
    title: str,
    caption: str,
    panels: Sequence[Panel],
    notes: Sequence[str] = (),
    inputs: Sequence[str] = (),
) -> list[Path]:
    """Writes a table of results of two classes, with their data, points and attacks.

    Args:
        request: whose the table is.
        results: what it shows; their files are inputs of the table.
        frame, title, caption, panels, notes: as of
            :func:`medrobust.reporting.artefacts.write_table_artefact`.
        inputs: further files that it was made from.

    Returns:
        The files written.
    """
    attacks = list(dict.fromkeys(attack for _, attack in results.robust.attacks()))
    return artefacts.write_table_artefact(
        request.out_stem,
        frame,
        title=title,
        caption=caption,
        context=request.context,
        sources=dataset_sources(request.entries, ()),
        n=robust_points(results.robust),
        budget=attacks_in_words(request, attacks),
        notes=notes,
        panels=panels,
        inputs=[*inputs, *results.files],
    )


def _positive_name(request: Request, positive: int) -> str:
    names = request.class_names
    return f"class {positive}" + (f" ({names[positive]})" if positive < len(names) else "")


def _caption(layout: Layout, positive: str, *, several: bool) -> str:
    meanings = "; ".join(f"{metric}: {_MEANING[metric]}" for metric in layout.metrics)
    numbers = "Means over folds" if several else "Numbers"
    return (
        f"The positive class is {positive}. {meanings}. {numbers} with 95 % intervals. A point "
        "counts with the class that the attack reached, or with its clean prediction if that is "
        "wrong."
    )


def _failed_notes(results: BinaryResults) -> list[str]:
    parts = [
        f"{model} on {dataset}: {text}"
        for dataset in results.datasets()
        for model in results.models(dataset)
        if (text := results.failed_text(dataset, model))
    ]
    if not parts:
        return []
    told = "; ".join(parts)
    return [f"Means of the folds that are left, not of all: {told}."]


# --- rows -------------------------------------------------------------------------------


def binary_rows(request: Request, results: BinaryResults, layout: Layout) -> pd.DataFrame:
    """Returns one row per data set, metric, attack, level and model.

    Args:
        request: with the attacks of the study and its published numbers.
        results: the run's.
        layout: names and order.

    Returns:
        The columns :data:`medrobust.reporting.rows.ROW_COLUMNS`, ``sd`` being the sample deviation
        of the folds; then ``interval`` (what it covers), ``folds`` and ``folds_failed``. What was
        not run but is published has a row of its own.
    """
    import pandas as pd

    published = read_printed(request, layout)
    rows, told = [], set()
    for dataset in results.datasets():
        for metric in layout.metrics:
            for attack, level in results.attacked_levels(dataset):
                for model in _models(results, layout, dataset):
                    key = (dataset, model, attack)
                    printed = _matching(published, key, level, metric, layout)
                    told.add(printed)
                    rows.append(_row(request, results, layout, key, level, metric, printed))
    rows += [_not_run(request, one, layout) for one in published if one not in told]
    frame = pd.DataFrame(rows, columns=[*ROW_COLUMNS, *COLUMNS])
    return typed(frame, _TEXT, _WHOLE)


def read_printed(request: Request, layout: Layout) -> list[Printed]:
    """Returns the published numbers of a table (of all, without one), in their order.

    Raises:
        InputError: the file is wrong.
    """
    if not request.published:
        return []
    frame = read_published(request.published, request.context.study)
    chosen = frame["metric"].isin(list(layout.metrics))
    if layout.table:
        chosen &= frame["table"] == layout.table
    names = Printed.__dataclass_fields__
    return [Printed(**{n: row[n] for n in names}) for row in frame[chosen].to_dict("records")]


def _models(results: BinaryResults, layout: Layout, dataset: str) -> list[str]:
    there = results.models(dataset)
    return [model for model in layout.methods if model in there] if layout.methods else there


def _matching(
    published: Sequence[Printed], key: Key, level: float, metric: str, layout: Layout
) -> Printed | None:
    """Returns the published number of a number of the run, None if there is none."""
    dataset, model, attack = key
    named = (dataset, layout.method(model), metric, layout.attack(attack))
    for one in published:
        same = (one.dataset, one.method, one.metric, one.attack) == named
        if same and np.isclose(one.level, level, rtol=_SAME_LEVEL, atol=0):
            return one
    return None


def _row(
    request: Request,
    results: BinaryResults,
    layout: Layout,
    key: Key,
    level: float,
    metric: str,
    printed: Printed | None,
) -> dict[str, Any]:
    dataset, model, attack = key
    value = printed.value if printed else None
    norm = "" if attack == NO_ATTACK else norm_of(request.attacks.get(attack, {}), "Linf")
    row = number_row(
        (*ROW_COLUMNS, *COLUMNS),
        value,
        request.context,
        table=printed.table if printed else layout.table,
        dataset=dataset,
        method=layout.method(model),
        metric=metric,
        attack=layout.attack(attack),
        norm=printed.norm if printed else norm,
        epsilon=printed.epsilon if printed else level_text(level) if level else "",
        status=request.context.status_without_results(dataset, model),
    )
    failed = results.folds_without(dataset, model)
    estimate = results.estimate(key, level, metric)
    if estimate is None:
        ran = any(one == key[:2] for one in results.test_per_train)
        return row | ({"status": NO_LEVEL} if ran else {}) | {"folds_failed": failed}
    more = {"folds": estimate.folds, "folds_failed": failed}
    numbers = estimate_columns(estimate, value, results.robust.sources[dataset])
    return row | numbers | more | {"status": _status(results, key, estimate, failed)}


def _status(results: BinaryResults, key: Key, estimate: Estimate, failed: int) -> str:
    """Returns what must be known of a number: not defined, or of fewer folds than there are."""
    if estimate.value is None:
        return estimate.basis
    if not failed:
        return "reproduced"
    of = estimate.folds + failed
    return f"{estimate.folds} of {of} folds: {results.failed_text(*key[:2])}"


def _not_run(request: Request, printed: Printed, layout: Layout) -> dict[str, Any]:
    models = {name: model for model, name in layout.methods.items()}
    model = models.get(printed.method, printed.method)
    names = ("table", "dataset", "method", "metric", "attack", "norm", "epsilon")
    return number_row(
        (*ROW_COLUMNS, *COLUMNS),
        printed.value,
        request.context,
        status=request.context.status_without_results(printed.dataset, model),
        **{name: getattr(printed, name) for name in names},
    )


# --- printing ---------------------------------------------------------------------------


def _panels(frame: pd.DataFrame, layout: Layout) -> list[Panel]:
    """Returns a panel for each data set and metric."""
    return [
        Panel(
            _cells(part, list(layout.methods.values())),
            title=with_synthetic_mark(f"{metric}, {dataset}", set(part["source"])),
        )
        for (dataset, metric), part in frame.groupby(["dataset", "metric"], sort=False)
    ]


def _cells(part: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Returns a row for each attack, and for each model its number beside the published one.

    Args:
        part: rows of one data set and metric.
        order: of the models; others come after these, as they are.
    """
    import pandas as pd

    beside = part["published"].notna().any()
    several = part.groupby("attack")["epsilon"].nunique().max() > 1
    shown: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for row in plain(part):
        name = "no attack" if row["attack"] == NO_ATTACK else row["attack"]
        first = {("", "attack"): name}
        if several:
            first[("", "ε")] = row["epsilon"] or "0"
        cells = shown.setdefault((row["attack"], row["epsilon"]), first)
        cells[(row["method"], "here [95 %]")] = _number_text(row)
        if beside:
            cells[(row["method"], "published")] = number(row["published"], DECIMALS)
    table = pd.DataFrame(list(shown.values()))
    places = {name: place for place, name in enumerate(["", *order])}
    table = table[sorted(table.columns, key=lambda name: places.get(name[0], len(places)))]
    for model, what in table.columns:
        empty = number(None, DECIMALS) if what == "published" else NOT_RUN
        table[(model, what)] = table[(model, what)].fillna(empty)
    if beside:
        table.columns = pd.MultiIndex.from_tuples(list(table.columns))
    else:
        table.columns = [model or what for model, what in table.columns]
    return table


def _number_text(row: Mapping[str, Any]) -> str:
    if row["reproduced"] is None:
        return "not defined" if " is not defined " in row["status"] else in_place_of(row["status"])
    text = with_interval(row["reproduced"], row["ci_low"], row["ci_high"], DECIMALS)
    if row["folds_failed"]:
        text += f" ({row['folds']} of {row['folds'] + row['folds_failed']} folds)"
    return text
