"""What the tables of several studies share: grouping of results, typed rows, marks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from medrobust import artefacts
from medrobust.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from medrobust.studies import Request

#: Samples per second of the MIT-BIH heartbeats. Kachuee et al. (2018, section III) state 125,
#: but the rows that they released are every third sample of the records' 360 per second, equal
#: in every bit (docs/data-mitbih.md).
MITBIH_SAMPLING_RATE = 120.0

#: Columns of every table of numbers, in order: what names a number, what it is, where it is from.
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


def grouped(
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


def sources_of(
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


def draw_not_run(request: Request, title: str, what: str) -> list[Path]:
    """Writes a figure that only says what was not run, where a selection left its results out.

    Args:
        request: of the figure.
        title: the figure's.
        what: that was not run, in words.
    """
    import pandas as pd

    from medrobust import plotting

    with plotting.style():
        figure = plotting.new_figure(height=1.2)
        text = f"{artefacts.NOT_RUN}: {what}"
        figure.text(0.5, 0.6, text, ha="center", va="center")
        return artefacts.write_figure_artefact(
            request.out_stem,
            figure,
            pd.DataFrame({"status": [text]}),
            title=title,
            caption=f"{text[0].upper()}{text[1:]}.",
            context=request.context,
            sources={entry.dataset: entry.source for entry in request.entries},
            n="0",
            budget=artefacts.NOT_RUN,
        )


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns rows as dictionaries with None for what is missing."""
    objects = frame.astype(object).where(frame.notna(), None)
    return objects.to_dict("records")


def marked(text: str, sources: Collection[str]) -> str:
    """Returns a heading with a mark if anything below it comes from stand-in data."""
    return f"{text} (SYNTHETIC)" if any(map(artefacts.is_synthetic, sources)) else text


def printed_values(published: pd.DataFrame, *key: str) -> dict[tuple[str, ...], float]:
    """Returns the published numbers by the columns ``key``.

    Args:
        published: as :func:`medrobust.evaluation.comparison.read_published` reads it.
        key: names of columns that tell the numbers apart.
    """
    keys = zip(*(published[name] for name in key), strict=True)
    return dict(zip(keys, published["value"], strict=True))
