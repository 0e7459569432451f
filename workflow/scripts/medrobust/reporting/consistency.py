"""Do the printed numbers agree with themselves?

A paper that prints rows and their average prints the same fact twice. This module recomputes
each declared average from its printed terms in exact arithmetic. Every printed number stands
for the range of values that round to it, so the recomputed average is a range too; the
printed average follows if the two ranges meet. What does not follow is a misprint, a slip or
an average of something else; which of them, the numbers cannot say.

Studies declare their averages as :class:`PrintedMean`; nothing here is about one paper.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from medrobust.core.errors import InputError
from medrobust.reporting.comparison import KEY, read_published

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from medrobust.reporting.artefacts import RunContext

FOLLOWS = "follows"
DOES_NOT_FOLLOW = "does not follow"


@dataclass(frozen=True)
class PrintedMean:
    """An average that a table prints beside its terms.

    Attributes:
        name: what is averaged, in words.
        table: the table's name in the file of published numbers.
        over: columns in which terms and average differ, such as ("dataset",).
        terms: for each term, its values in the columns ``over``.
        target: the average's values in those columns.
        where: further conditions, column to value. All columns that are neither in ``over``
            nor in ``where`` make one average per combination of their values.
    """

    name: str
    table: str
    over: tuple[str, ...]
    terms: tuple[tuple[str, ...], ...]
    target: tuple[str, ...]
    where: Mapping[str, str] = field(default_factory=dict)


def check_printed_means(published: pd.DataFrame, rules: Sequence[PrintedMean]) -> pd.DataFrame:
    """Recomputes every declared average.

    Args:
        published: numbers as :func:`medrobust.reporting.comparison.read_published` reads them.
        rules: the averages that the study prints.

    Returns:
        One row per printed average: ``table``, ``average`` (the rule's name), ``dataset``,
        ``method``, ``terms`` (as printed, joined by " + "), ``printed`` (text), ``recomputed``
        (mean of the terms), ``lowest`` and ``highest`` (what the terms' rounding allows),
        ``difference`` (printed - recomputed), ``decimals`` and ``verdict``.

    Raises:
        InputError: a rule names an unknown column, matches nothing, or only part of an
            average's terms are there.
    """
    import pandas as pd

    rows = []
    for rule in rules:
        found = list(_averages(published, rule))
        if not found:
            raise InputError(
                f"The average {rule.name!r} of Table {rule.table} matches no published number.",
                remedy="compare the declared names with the file of published numbers.",
            )
        rows += found
    columns = "table average dataset method terms printed recomputed lowest highest difference"
    nothing = pd.DataFrame(columns=[*columns.split(), "decimals", "verdict"])
    return pd.DataFrame(rows) if rows else nothing


def _averages(published: pd.DataFrame, rule: PrintedMean) -> Iterator[dict[str, object]]:
    unknown = [name for name in (*rule.over, *rule.where) if name not in KEY]
    if unknown:
        raise InputError(f"Published numbers have no column {unknown[0]!r}.", where=rule.name)
    part = published[published["table"] == rule.table]
    for column, value in rule.where.items():
        part = part[part[column] == value]
    rest = [name for name in KEY if name not in rule.over]
    for _, group in part.groupby(rest, sort=False, dropna=False):
        places = zip(*(group[name] for name in rule.over), strict=True)
        named = dict(zip(places, group.index, strict=True))
        terms = [named[term] for term in rule.terms if term in named]
        if rule.target not in named or not terms:
            continue
        if len(terms) != len(rule.terms):
            missing = [" ".join(term) for term in rule.terms if term not in named]
            raise InputError(
                f"The terms {', '.join(missing)} of the average {rule.name!r} are missing.",
                where=f"Table {rule.table}, {group['method'].iloc[0]}",
            )
        yield _check(group.loc[terms], group.loc[named[rule.target]], rule)


def _check(terms: pd.DataFrame, target: pd.Series, rule: PrintedMean) -> dict[str, object]:
    half = Fraction(1, 2 * 10 ** int(target["decimals"]))
    printed = Fraction(str(target["printed"]))
    mean = sum(Fraction(str(text)) for text in terms["printed"]) / len(terms)
    # Terms and average share the table's rounding unit, so the mean is uncertain by one half.
    follows = abs(mean - printed) <= 2 * half
    return {
        "table": rule.table,
        "average": rule.name,
        "dataset": target["dataset"],
        "method": target["method"],
        "terms": " + ".join(terms["printed"]),
        "printed": target["printed"],
        "recomputed": float(mean),
        "lowest": float(mean - half),
        "highest": float(mean + half),
        "difference": float(printed - mean),
        "decimals": int(target["decimals"]),
        "verdict": FOLLOWS if follows else DOES_NOT_FOLLOW,
    }


def build_consistency(
    study: str,
    published: str | os.PathLike[str],
    rules: Sequence[PrintedMean],
    out_stem: str | os.PathLike[str],
    context: RunContext,
) -> list[Path]:
    """Writes the check of all printed averages; the printed forms list only what fails.

    Args:
        study: name of the study in the file of published numbers.
        published: that file.
        rules: the averages that the study prints.
        out_stem: path without suffix; the files are those of a table artefact.
        context: the run (its scale and data have no part in this table).

    Returns:
        The files written.
    """
    from medrobust.reporting import artefacts

    frame = check_printed_means(read_published(published, study), rules)
    failing = frame[frame["verdict"] == DOES_NOT_FOLLOW]
    return artefacts.write_table_artefact(
        out_stem,
        frame,
        title="Printed averages that do not follow from their printed terms",
        caption=(
            f"{len(failing)} of {len(frame)} printed averages cannot be the mean of the numbers "
            "printed beside them, whatever was lost to rounding."
        ),
        context=context,
        sources={},
        n=f"{len(frame)} printed averages",
        budget="none",
        notes=[
            "The range is what the mean can be if every term is known to the table's last "
            "decimal only (print drops trailing zeros, so 10 among tenths is 10.0).",
            "The published numbers are kept as printed everywhere else.",
        ],
        panels=[artefacts.Panel(_printed(failing))],
        inputs=[published],
    )


def _printed(failing: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "average": f"Table {row['table']}: {row['average']}",
            "data set": row["dataset"],
            "method": row["method"],
            "terms": row["terms"],
            "printed": row["printed"],
            "mean": f"{row['recomputed']:.{row['decimals'] + 2}f}",
            "range": (
                f"{row['lowest']:.{row['decimals'] + 2}f} to "
                f"{row['highest']:.{row['decimals'] + 2}f}"
            ),
        }
        for row in failing.to_dict("records")
    ]
    columns = ["average", "data set", "method", "terms", "printed", "mean", "range"]
    return pd.DataFrame(rows, columns=columns)
