"""What the tables of several studies share: grouping of results, typed rows, marks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.intervals import MIN_REPLICATES
from medrobust.reporting import artefacts
from medrobust.reporting.artefacts import number
from medrobust.reporting.comparison import (
    OUTSIDE,
    Remark,
    held_against,
    normal_epsilon,
    verdict,
)

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.evaluation.statistics import Estimate
    from medrobust.reporting.artefacts import RunContext
    from medrobust.reporting.request import Request

#: Samples per second of the MIT-BIH heartbeats. Kachuee et al. (2018, section III) state 125,
#: but the rows that they released are every third sample of the records' 360 per second, equal
#: in every bit (docs/data-mitbih.md).
MITBIH_SAMPLING_RATE = 120.0

#: Columns of every table of numbers, in order: what names a number, what it is, where it is from.
#: ``sd``: sample deviation between trainings; ``further_low``, ``further_high``: what one further
#: training gives (:class:`medrobust.evaluation.statistics.Estimate`).
ROW_COLUMNS = (
    "table",
    "dataset",
    "method",
    "metric",
    "attack",
    "norm",
    "epsilon",
    "origin",
    "status",
    "published",
    "reproduced",
    "ci_low",
    "ci_high",
    "n",
    "replicates",
    "sd",
    "further_low",
    "further_high",
    "difference",
    "scale",
    "protocol",
    "source",
)
TEXT_COLUMNS = frozenset(
    {
        *("table", "dataset", "method", "metric", "attack", "norm", "epsilon", "origin", "status"),
        *("scale", "protocol", "source"),
    }
)
WHOLE_COLUMNS = frozenset({"n", "replicates"})


def as_named(name: str) -> str:
    """Returns a data set's name as it is."""
    return name


def replicates_by_model(
    inputs: Sequence[Any], label: Callable[[str], str] = as_named
) -> dict[tuple[str, str], list[Any]]:
    """Groups results by (printed data set, model); replicates in their order.

    Args:
        inputs: frozen dataclasses with ``dataset``, ``model`` and ``replicate``.
        label: name of a data set to how it is printed.

    Raises:
        InputError: two inputs are the same model, data set and replicate.
    """
    groups: dict[tuple[str, str], list[Any]] = {}
    for item in inputs:
        named = dataclasses.replace(item, dataset=label(item.dataset))
        group = groups.setdefault((named.dataset, named.model), [])
        if any(other.replicate == named.replicate for other in group):
            raise InputError(
                f"The results of {named.model} on {named.dataset}, replicate {named.replicate}, "
                "are given twice."
            )
        group.append(named)
    return {key: sorted(group, key=lambda item: item.replicate) for key, group in groups.items()}


def dataset_sources(
    inputs: Sequence[Any], order: Sequence[str], label: Callable[[str], str] = as_named
) -> dict[str, str]:
    """Returns the source of each printed data set, those in ``order`` first.

    Raises:
        InputError: a source is unknown, or a data set has two.
    """
    found: dict[str, str] = {}
    for item in inputs:
        name = label(item.dataset)
        if found.setdefault(name, item.source) != item.source:
            raise InputError(
                f"The results on {name} come from the sources {found[name]!r} and {item.source!r}.",
                remedy="use one source of a data set in a table.",
            )
    artefacts.check_sources(found)
    first = [name for name in order if name in found]
    return {name: found[name] for name in [*first, *(n for n in found if n not in order)]}


def typed(
    frame: pd.DataFrame, text: Collection[str] = (), whole: Collection[str] = ()
) -> pd.DataFrame:
    """Gives every column its type, so that a table without results has the same columns.

    Args:
        frame: rows of numbers; changed in place.
        text: further columns of text; empty for what is missing.
        whole: further columns of whole numbers. All others are float64.
    """
    for name in frame.columns:
        if name in WHOLE_COLUMNS or name in whole:
            frame[name] = frame[name].astype("float64").astype("Int64")
        elif name in TEXT_COLUMNS or name in text:
            frame[name] = [value if isinstance(value, str) else "" for value in frame[name]]
        else:
            frame[name] = frame[name].astype("float64")
    return frame


def number_row(
    columns: Sequence[str], published: float | None, context: RunContext, **named: Any
) -> dict[str, Any]:
    """Returns the row of a number before it is known whether it was run.

    Args:
        columns: of the table.
        published: the printed number, None where there is none.
        context: the run.
        named: what names the number, by column, ``dataset`` and ``method`` among it; may replace
            what is filled in here.
    """
    return {
        **dict.fromkeys(columns),
        "origin": "added" if published is None else "paper",
        "status": context.status_without_results(named["dataset"], named["method"]),
        "published": published,
        "scale": context.scale,
        "protocol": context.protocol,
        "source": "",
        **named,
    }


def estimate_columns(estimate: Estimate, published: float | None, source: str) -> dict[str, Any]:
    """Returns what a row says of a number that was estimated.

    Args:
        estimate: the number; its ``value`` may be None, where it is not defined.
        published: the printed number, None where there is none.
        source: of the data.
    """
    comparable = published is not None and estimate.value is not None
    return {
        "status": "reproduced",
        "reproduced": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "n": estimate.n,
        "replicates": estimate.replicates,
        "difference": estimate.value - published if comparable else None,
        "source": source,
        "interval": estimate.basis,
        "sd": estimate.sd,
        "further_low": estimate.further_low,
        "further_high": estimate.further_high,
    }


def interval_notes(frame: pd.DataFrame) -> list[str]:
    """Returns what the intervals of a table cover, one note for each kind of them."""
    return [f"Intervals: {text}." for text in dict.fromkeys(frame["interval"]) if text]


def remark_notes(frame: pd.DataFrame, remark: Remark) -> list[str]:
    """Returns what a reader must know of the data behind the numbers of a table."""
    ran = frame[frame["source"] != ""]
    remarks = dict.fromkeys(map(remark, ran["dataset"], ran["source"]))
    return [f"{text[0].upper()}{text[1:]}." for text in remarks if text]


def draw_not_run(request: Request, title: str, what: str) -> list[Path]:
    """Writes a figure that only says what was not run, where a selection left its results out.

    It shows neither data nor published numbers, and says so.

    Args:
        request: of the figure.
        title: the figure's.
        what: that was not run, in words.
    """
    import pandas as pd

    from medrobust.reporting import plotting

    with plotting.style():
        failed = artefacts.failed_text(request.context.failed)
        text = failed.rstrip(".") or f"{artefacts.NOT_RUN}: {what}"
        said = f"{text[0].upper()}{text[1:]}."
        figure = words_alone(title, said)
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            pd.DataFrame({"status": [text], "source": [""]}),
            title=title,
            caption=said,
            context=request.context,
            sources={entry.dataset: entry.source for entry in request.entries},
            n="0",
            budget=artefacts.NOT_RUN,
        )


def words_alone(title: str, text: str) -> Any:
    """Returns a picture of a figure's title and a sentence, where there is nothing to draw.

    Call it inside ``with plotting.style():``.
    """
    from medrobust.reporting import plotting

    figure = plotting.new_figure(height=1.2)
    figure.text(0.5, 0.74, title, ha="center", va="center", fontweight="bold")
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns rows as dictionaries with None for what is missing."""
    objects = frame.astype(object).where(frame.notna(), None)
    return objects.to_dict("records")


def with_synthetic_mark(text: str, sources: Collection[str]) -> str:
    """Returns a heading with a mark if anything below it comes from stand-in data."""
    return f"{text} (SYNTHETIC)" if any(map(artefacts.is_synthetic, sources)) else text


def printed_values(published: pd.DataFrame, *key: str) -> dict[tuple[str, ...], float]:
    """Returns the published numbers by the columns ``key``.

    Args:
        published: as :func:`medrobust.reporting.comparison.read_published` reads it.
        key: names of columns that tell the numbers apart.
    """
    keys = zip(*(published[name] for name in key), strict=True)
    return dict(zip(keys, published["value"], strict=True))


def level_text(epsilon: float) -> str:
    """Returns a noise level as it is printed ("0", "0.01")."""
    return normal_epsilon(epsilon)


def signed(value: float, decimals: int) -> str:
    """Returns a number with its sign, "+0.012" or "−0.012"; without one if it rounds to 0."""
    text = number(abs(value), decimals)
    if float(text) == 0:
        return text
    return f"+{text}" if value > 0 else f"−{text}"


def published_outside(row: Mapping[str, Any], decimals: int) -> bool:
    """Tells whether a published number lies outside the interval that it is held against.

    See :func:`medrobust.reporting.comparison.held_against`. Whatever data the reproduced number
    rests on: only the comparison refuses to judge stand-ins.

    Args:
        row: with ``published``, ``reproduced`` and the ends of its intervals.
        decimals: of the published number.
    """
    ends = (row["reproduced"], *held_against(row))
    return verdict(row["published"], decimals, *ends, source="kaggle") == OUTSIDE


def covered(trainings: Iterable[int]) -> str:
    """Returns what the 95 % intervals of models with so many trainings cover, in words."""
    several = {number >= MIN_REPLICATES for number in trainings}
    if several == {True, False}:
        return f"test points and, of {MIN_REPLICATES} trainings and more, trainings"
    return "test points and trainings" if several == {True} else "test points alone"


def grey_text(frame: pd.DataFrame) -> str:
    """Returns what it means that a published number is printed in grey, for a caption.

    Args:
        frame: rows of numbers with ``further_low`` and ``reproduced``.
    """
    told = frame[frame["reproduced"].notna()]["further_low"].notna()
    if told.any() and told.all():
        return "the published one lies within what one further training gives in 95 of 100 cases"
    within = "the published one lies within the 95 % interval of the reproduced one"
    if not told.any():
        return f"{within}, which covers test points, not what another training would change"
    return f"{within} (of three trainings and more: of one further training)"


#: What an asterisk in a table says, for its caption.
STARS = (
    "* marks those whose published number, of one training, lies outside what one further training "
    "gives in 95 of 100 cases, rounding allowed for; with fewer than three trainings nothing is "
    "marked"
)


def star(row: Mapping[str, Any], decimals: int) -> str:
    """Returns "*" for a published number that another training does not explain (:data:`STARS`).

    Args:
        row: as for :func:`published_outside`.
        decimals: of the published number.
    """
    told = row["further_low"] is not None
    return "*" if told and published_outside(row, decimals) else ""


# --- attacks of a study -----------------------------------------------------------------

#: Facts of an attack that are told in words of their own, or not at all.
_TOLD_APART = ("name", "grid", "points_per_class", "clip_min", "clip_max")


def attack_settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of an attack that its description lists.

    Args:
        facts: an entry of :attr:`medrobust.reporting.request.Request.attacks`.
    """
    return {name: value for name, value in facts.items() if name not in _TOLD_APART}


def attack_in_words(request: Request, attack: str, printed: Mapping[str, str]) -> str:
    """Returns an attack of the study and its budget in words.

    Args:
        request: with the attacks of the study.
        attack: name in the study.
        printed: name in the study to the name in print, for an attack that is not there.
    """
    facts = request.attacks.get(attack)
    if facts is None:
        return printed.get(attack, attack)
    text = artefacts.describe_attack(facts["name"], attack_settings(facts))
    for name, values in (facts.get("grid") or {}).items():
        shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        if any(isinstance(value, str) for value in values):
            text += f", {name} {' and '.join(value.replace('_', ' ') for value in shown)}"
        else:
            text += f" at {name.replace('_', ' ')} {', '.join(shown)}"
    per_class = facts.get("points_per_class")
    return f"{text}, first {per_class:,} test points of each class" if per_class else text


def correct_count(accuracy: float, n: int, points: str, where: str) -> int:
    """Returns how many points are classified correctly at an accuracy.

    Args:
        accuracy: as a fraction.
        n: number of points.
        points: which, in words, such as "test points".
        where: the file that says so.

    Raises:
        InputError: the accuracy is no fraction, or not one that ``n`` points can have.
    """
    if not 0 <= accuracy <= 1:
        raise InputError(f"An accuracy of {accuracy} is not a fraction in [0, 1].", where=where)
    right = round(accuracy * n)
    if n < 1 or abs(accuracy * n - right) > 1e-3:
        raise InputError(
            f"An accuracy of {accuracy} is impossible with {n} {points}.",
            where=where,
            remedy="evaluate the model again (delete the file and run the same command).",
        )
    return right


def read_clean_summary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads ``clean.json`` and adds ``right``, the number of correctly classified test points.

    Raises:
        InputError: the file is missing, incomplete, or holds an accuracy that cannot be.
    """
    if not Path(path).is_file():
        raise InputError("This summary of clean results does not exist.", where=str(path))
    summary = io.read_json(path)
    for name in ("n_test", "ensemble_accuracy"):
        if not isinstance(summary.get(name), int | float):
            raise InputError(f"The clean results lack {name!r}.", where=str(path))
    mean = summary.get("member_accuracy_mean")
    if mean is not None and not 0 <= mean <= 1:
        raise InputError(f"An accuracy of {mean} is not a fraction in [0, 1].", where=str(path))
    right = correct_count(summary["ensemble_accuracy"], summary["n_test"], "test points", str(path))
    return summary | {"right": right}


def common_size(sizes: Iterable[int], where: str) -> int:
    """Returns the number of test points of all replicates.

    Raises:
        InputError: they differ.
    """
    different = sorted(set(sizes))
    if len(different) > 1:
        raise InputError(
            f"The replicates were tested on different numbers of points: {different}.", where=where
        )
    return different[0]


def check_one_cohort(replicates: Sequence[pd.DataFrame], where: str) -> None:
    """Refuses few replicates that attacked different points: their distances are averaged by point.

    Args:
        replicates: distances by point (:func:`medrobust.evaluation.statistics.point_distances`).
        where: of which model, in words.

    Raises:
        InputError: the points differ, and there are fewer replicates than an interval over
            replicates takes.
    """
    if len(replicates) < MIN_REPLICATES and any(
        list(frame["point_id"]) != list(replicates[0]["point_id"]) for frame in replicates
    ):
        raise InputError(
            "The replicates attacked different points.",
            where=where,
            remedy="attack one cohort in all replicates, or run at least "
            f"{MIN_REPLICATES} of them.",
        )


def ordered_models(
    groups: Iterable[tuple[str, str]], dataset: str, printed: Sequence[str]
) -> list[str]:
    """Returns the printed models of a data set, then what was added to them.

    Args:
        groups: (data set, model) of the results.
        dataset: which.
        printed: models of the paper on it, in its order.
    """
    return [
        *printed,
        *(model for name, model in groups if name == dataset and model not in printed),
    ]
