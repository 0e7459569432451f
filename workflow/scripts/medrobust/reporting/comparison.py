"""Published against reproduced, number by number.

:func:`build_comparison` puts every printed number of a study beside what this run found and
says whether the published value lies in the reproduced interval, allowing for the rounding of
print (:func:`held_against`). Numbers that were not reproduced stay in the list with the reason.
Synthetic data is shown but never judged: it is evidence of nothing.

What is compared is whatever the study's tables call ``reproduced``; this module computes no
statistics of its own.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import artefacts, webpage

if TYPE_CHECKING:
    import pandas as pd

    from medrobust.reporting.artefacts import RunContext

PUBLISHED_COLUMNS = (
    "study",
    "table",
    "dataset",
    "method",
    "metric",
    "attack",
    "norm",
    "epsilon",
    "value",
    "source",
)
#: What makes a published number, and what a study's table must name to be compared with it.
KEY = ("table", "dataset", "method", "metric", "attack", "norm", "epsilon")
COLUMNS = (
    "artefact",
    "row",
    "column",
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
    "verdict",
    "reason",
)
_REPRODUCED_COLUMNS = (
    *KEY,
    "reproduced",
    "ci_low",
    "ci_high",
    "n",
    "replicates",
    "scale",
    "protocol",
    "source",
    "status",
)

#: Ends of the interval of one further training, in tables that have them.
FURTHER_COLUMNS = ("further_low", "further_high")
WITHIN = "within interval"
OUTSIDE = "outside interval"
CANNOT_TELL = "cannot tell"
NOT_RUN = artefacts.NOT_RUN
SYNTHETIC = "synthetic"
VERDICTS = (WITHIN, OUTSIDE, CANNOT_TELL, NOT_RUN, SYNTHETIC)


def read_published(path: str | os.PathLike[str], study: str | None = None) -> pd.DataFrame:
    """Reads published numbers as they were printed.

    Args:
        path: a CSV with the columns :data:`PUBLISHED_COLUMNS`.
        study: keep this study only.

    Returns:
        The rows as text (empty cells as ""), ``epsilon`` normalised ("0.10" as "0.1"), and
        three columns more: ``printed`` (the number as text), ``value`` (float64) and
        ``decimals`` (int, the most decimals printed anywhere in that table: print drops
        trailing zeros, so a "10" among tenths is 10.0).

    Raises:
        InputError: the file is missing, a column or number is wrong, or a number occurs twice.
    """

    path = Path(path)
    if not path.is_file():
        raise InputError("The file of published numbers does not exist.", where=str(path))
    frame = io.read_text_table(path)
    missing = [column for column in PUBLISHED_COLUMNS if column not in frame.columns]
    if missing:
        raise InputError(
            f"The published numbers lack the columns {', '.join(missing)}.", where=str(path)
        )
    if study is not None:
        frame = frame[frame["study"] == study].reset_index(drop=True)
        if frame.empty:
            raise InputError(f"No published number belongs to the study {study!r}.", where=path)
    frame["printed"] = frame["value"]
    numbers = [_decimal(text, path, row) for row, text in enumerate(frame["printed"], start=2)]
    frame["value"] = [float(printed) for printed in numbers]
    frame["epsilon"] = [normal_epsilon(text) for text in frame["epsilon"]]
    frame["decimals"] = [max(0, -int(printed.as_tuple().exponent)) for printed in numbers]
    frame["decimals"] = frame.groupby(["study", "table"])["decimals"].transform("max")
    repeated = frame.duplicated(["study", *KEY])
    if repeated.any():
        first = frame.loc[repeated, list(KEY)].iloc[0].to_dict()
        raise InputError(f"A published number occurs twice: {first}.", where=str(path))
    return frame


def _decimal(text: str, path: Path, row: int) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise InputError(
            f"The published value {text!r} is not a number.", where=f"{path}, line {row}"
        )
    return number


def normal_epsilon(value: object) -> str:
    """Returns a perturbation size as text that is equal for equal numbers; "" for none."""
    if value is None or value == "" or value != value:
        return ""
    try:
        return f"{float(str(value)):.10g}"
    except ValueError:
        return str(value)


def verdict(
    published: float,
    decimals: int,
    reproduced: float | None,
    ci_low: float | None,
    ci_high: float | None,
    source: str,
) -> str:
    """Returns how a reproduced number stands to the published one (one of :data:`VERDICTS`).

    The published value stands for everything that rounds to it; it is "within interval" if
    that range and [ci_low, ci_high] overlap. Without an interval there is no verdict.
    """
    if not source:
        return NOT_RUN
    if artefacts.is_synthetic(source):
        return SYNTHETIC
    if any(number is None or number != number for number in (reproduced, ci_low, ci_high)):
        return CANNOT_TELL
    # A billionth of slack: the ends of the rounding range are not exact in binary.
    half = 0.5 * 10.0**-decimals * (1 + 1e-9)
    overlap = published - half <= ci_high and ci_low <= published + half
    return WITHIN if overlap else OUTSIDE


def held_against(row: Mapping[str, object]) -> tuple[float | None, float | None]:
    """Returns the ends of the interval that a published number is held against.

    A published number is of one training. Where enough trainings were made, it is held against
    what one further training gives, otherwise against the interval of the number itself, which
    then covers test points alone.

    Args:
        row: with ``ci_low`` and ``ci_high``, and ``further_low`` and ``further_high`` if known.
    """
    for names in (FURTHER_COLUMNS, ("ci_low", "ci_high")):
        low, high = (row.get(name) for name in names)
        if low is not None and high is not None and low == low and high == high:
            return low, high
    return None, None


Remark = Callable[[str, str], str]
"""(data set as printed, source) -> what a reader must know of these data, "" if nothing."""


def no_remark(dataset: str, source: str) -> str:
    """Returns "": nothing is to be said of any data."""
    return ""


def compare(
    published: pd.DataFrame,
    reproduced: pd.DataFrame,
    context: RunContext,
    remark: Remark = no_remark,
) -> pd.DataFrame:
    """Returns one row per published number with the columns :data:`COLUMNS`.

    Args:
        published: as :func:`read_published` returns it.
        reproduced: rows of the study's tables with the columns :data:`KEY`, ``reproduced``,
            ``ci_low``, ``ci_high``, ``n``, ``replicates``, ``scale``, ``protocol``,
            ``source`` (empty where not run) and ``status``; ``further_low`` and ``further_high``
            may be there. Rows without a published
            counterpart are left out.
        context: the run.
        remark: told with every judged number.

    Raises:
        InputError: two reproduced rows have the same key, or come from another run.
    """
    import pandas as pd

    found = _by_key(reproduced, context)
    names = _column_names(published)
    rows = []
    for position, row in enumerate(published.to_dict("records")):
        match = found.get(tuple(str(row[name]) for name in KEY), {})
        source = match.get("source") or ""
        numbers = {
            name: match.get(name) if source else None
            for name in ("reproduced", "ci_low", "ci_high", "n", "replicates")
        }
        value = numbers["reproduced"]
        judged = verdict(row["value"], row["decimals"], value, *held_against(match), source)
        rows.append(
            {
                "artefact": f"Table {row['table']}",
                "row": row["method"],
                "column": names[position],
                "published": row["value"],
                **numbers,
                "difference": None if value is None else value - row["value"],
                "scale": context.scale,
                "protocol": context.protocol,
                "source": source,
                "verdict": judged,
                "reason": _reason(judged, row, match, reproduced, context, remark),
            }
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("reproduced", "ci_low", "ci_high", "difference"):
        frame[name] = frame[name].astype("float64")
    for name in ("n", "replicates"):
        frame[name] = frame[name].astype("float64").astype("Int64")
    return frame


def _by_key(reproduced: pd.DataFrame, context: RunContext) -> dict[tuple[str, ...], dict]:
    missing = [name for name in _REPRODUCED_COLUMNS if name not in reproduced.columns]
    if missing:
        raise InputError(f"A table to compare lacks the columns {', '.join(missing)}.")
    found: dict[tuple[str, ...], dict] = {}
    for row in reproduced.to_dict("records"):
        clean = {name: None if value != value else value for name, value in row.items()}
        clean["epsilon"] = normal_epsilon(clean["epsilon"])
        key = tuple("" if clean[name] is None else str(clean[name]) for name in KEY)
        if key in found:
            named = dict(zip(KEY, key, strict=True))
            raise InputError(f"A reproduced number occurs twice: {named}.")
        if (clean["scale"], clean["protocol"]) != (context.scale, context.protocol):
            raise InputError(
                f"A table of the run {clean['scale']}-{clean['protocol']} cannot be compared "
                f"as {context.scale}-{context.protocol}.",
                remedy="compare tables of one run.",
            )
        found[key] = clean
    return found


def _column_names(published: pd.DataFrame) -> list[str]:
    """Names each number's column: the data set, and whatever else varies within its table."""
    fields = ("metric", "attack", "norm", "epsilon")
    varying = {
        table: [name for name in fields if part[name].nunique() > 1]
        for table, part in published.groupby("table")
    }
    names = []
    for row in published.to_dict("records"):
        parts = [row["dataset"]]
        for name in varying[row["table"]]:
            if row[name]:
                parts.append(f"epsilon {row[name]}" if name == "epsilon" else row[name])
        names.append(", ".join(parts))
    return names


def _reason(
    judged: str,
    row: dict,
    match: dict,
    reproduced: pd.DataFrame,
    context: RunContext,
    remark: Remark,
) -> str:
    if judged == NOT_RUN:
        table = reproduced[(reproduced["table"] == row["table"])]
        ran = table[table["source"].fillna("") != ""]
        if match.get("status") and match["status"] != NOT_RUN:
            return str(match["status"])
        if table.empty:
            return f"Table {row['table']} is not part of this run"
        if row["dataset"] not in set(ran["dataset"]):
            return f"{row['dataset']} is not part of this run"
        return f"{row['method']} on {row['dataset']} is not part of this run"
    if judged == SYNTHETIC:
        return "stand-in data, evidence of nothing"
    reasons = []
    if judged == OUTSIDE and match.get("further_low") != match.get("further_low"):
        reasons.append(
            "one training: the interval does not cover what another would change"
            if match.get("replicates") == 1
            else "the interval does not cover what another training would change"
        )
    status = match.get("status")
    if judged == CANNOT_TELL:
        reasons.append(str(status) if status else "there is no interval")
    elif artefacts.TRAINING_FAILED in str(status):
        reasons.append(str(status))  # a mean of the folds that are left
    if "subset" in match["source"].split("+"):
        reasons.append("the data are a subset of the release")
    reasons += [text] if (text := remark(row["dataset"], match["source"])) else []
    if context.scale != "paper":
        reasons.append(f"scale {context.scale}, not the published amounts")
    return "; ".join(reasons)


def build_comparison(
    study: str,
    published: str | os.PathLike[str],
    tables: Sequence[str | os.PathLike[str]],
    out_stem: str | os.PathLike[str],
    context: RunContext,
    sources: Mapping[str, str],
    remark: Remark = no_remark,
    *,
    published_study: str = "",
) -> pd.DataFrame:
    """Writes ``<out_stem>.csv``, ``.html``, ``.md`` and ``.provenance.json``.

    Args:
        study: name of the study in the file of published numbers.
        published: that file.
        tables: CSV files of the study's tables, as its builders wrote them (may be none).
        out_stem: path without suffix.
        context: the run.
        sources: data set (as printed) to source name.
        remark: told with every judged number.
        published_study: the study in that file, where it has another name; then only numbers of
            tables that the study has are compared.

    Returns:
        The comparison (:func:`compare`).

    Raises:
        InputError: a file is missing or contradicts the run.
    """
    import pandas as pd

    artefacts.check_sources(sources)
    numbers = read_published(published, published_study or study)
    frames = [read_reproduced(Path(table)) for table in tables]
    if published_study:
        there = {name for frame in frames for name in frame["table"]}
        numbers = numbers[numbers["table"].isin(there)].reset_index(drop=True)
    empty = pd.DataFrame(columns=list(_REPRODUCED_COLUMNS))
    reproduced = pd.concat(frames, ignore_index=True) if frames else empty
    frame = compare(numbers, reproduced, context, remark)
    stem = Path(out_stem)
    files = [stem.parent / f"{stem.name}{suffix}" for suffix in (".csv", ".html", ".md")]
    io.write_table(files[0], frame)
    io.write_text(files[1], render_html(frame, numbers, context, sources))
    io.write_text(files[2], render_markdown(frame, numbers, context, sources))
    artefacts.write_provenance(
        stem,
        files,
        title=f"Published and reproduced numbers of {study}",
        caption=artefacts.full_caption(
            _EXPLANATION, context, sources, f"{len(frame)} published numbers", "as in each table"
        ),
        context=context,
        sources=sources,
        n=f"{len(frame)} published numbers",
        budget="as in each table",
        inputs=[published, *tables],
    )
    return frame


def read_reproduced(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError("This table to compare does not exist.", where=str(path))
    import pandas as pd

    # Names such as "none" are text, not missing values.
    text = dict.fromkeys([*KEY, "scale", "protocol", "source", "status"], str)
    frame = pd.read_csv(path, dtype=text, keep_default_na=False, na_values={})
    for name in ("reproduced", "ci_low", "ci_high", "n", "replicates", *FURTHER_COLUMNS):
        if name in frame.columns:
            frame[name] = pd.to_numeric(frame[name].replace("", None))
    return frame


_EXPLANATION = (
    "A published number is within the interval if some value that rounds to it lies in the "
    "95 % interval of the reproduced one. From three trainings on that is the interval of one "
    "further training, as the published number is one; below, it covers test points alone."
)


# --- rendering --------------------------------------------------------------------------


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the number of rows per artefact and verdict (columns :data:`VERDICTS`)."""
    import pandas as pd

    counts = pd.crosstab(frame["artefact"], frame["verdict"])
    order = list(dict.fromkeys(frame["artefact"]))
    return counts.reindex(index=order, columns=list(VERDICTS), fill_value=0).reset_index()


def _decimals(published: pd.DataFrame) -> list[int]:
    """Decimals to print a reproduced number with: one more than the paper's."""
    return [int(decimals) + 1 for decimals in published["decimals"]]


def render_markdown(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    context: RunContext,
    sources: Mapping[str, str],
) -> str:
    """Returns the summary per artefact and every reproduced number, as Markdown."""
    import pandas as pd

    lines = [f"# Published and reproduced numbers: {context.study}", ""]
    if artefacts.is_synthetic(sources):
        lines += [f"**{artefacts.SYNTHETIC_NOTE}**", ""]
    lines += [artefacts.markdown_table(summary(frame).astype(str)), ""]
    rows = []
    for row, printed, decimals in zip(
        frame.to_dict("records"), published["printed"], _decimals(published), strict=True
    ):
        if row["verdict"] == NOT_RUN:
            continue
        rows.append(
            {
                "artefact": row["artefact"],
                "row": row["row"],
                "column": row["column"],
                "published": printed,
                "reproduced": artefacts.with_interval(
                    row["reproduced"], row["ci_low"], row["ci_high"], decimals
                ),
                "n": _whole(row["n"]),
                "source": row["source"],
                "verdict": row["verdict"],
                "reason": row["reason"],
            }
        )
    if rows:
        lines += [artefacts.markdown_table(pd.DataFrame(rows)), ""]
    n = f"{len(frame)} published numbers"
    stated = artefacts.full_caption(_EXPLANATION, context, sources, n, "as in each table")
    return "\n".join([*lines, artefacts.markdown_escape(stated)]) + "\n"


def _whole(value: object) -> str:
    import pandas as pd

    return "–" if pd.isna(value) else f"{int(value):,}"


# Blue, orange, purple: told apart by colour-blind readers too; every cell also says it in words.
_CLASSES = {
    WITHIN: "within",
    OUTSIDE: "outside",
    CANNOT_TELL: "cannot",
    NOT_RUN: "notrun",
    SYNTHETIC: "synthetic",
}


def render_html(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    context: RunContext,
    sources: Mapping[str, str],
) -> str:
    """Returns a self-contained page: one coloured matrix per artefact, rows by columns.

    Nothing is loaded from elsewhere; colours repeat what each cell says in words.
    """
    cells = _cells(frame, published)
    synthetic = artefacts.is_synthetic(sources) or (frame["verdict"] == SYNTHETIC).any()
    n = f"{len(frame)} published numbers"
    stated = artefacts.full_caption(_EXPLANATION, context, sources, n, "as in each table")
    sections = "\n".join(
        _html_section(artefact, part, cells)
        for artefact, part in frame.groupby("artefact", sort=False)
    )
    return webpage.page(
        f"Published and reproduced numbers: {context.study}",
        f"<p>{html.escape(stated)}</p>\n{_html_summary(frame)}\n{sections}",
        banner=artefacts.SYNTHETIC_NOTE if synthetic else "",
    )


def _html_summary(frame: pd.DataFrame) -> str:
    counts = summary(frame)
    head = "".join(f'<th scope="col" class="{_CLASSES[v]}">{v}</th>' for v in VERDICTS)
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(str(row["artefact"]))}</th>'
        + "".join(f"<td>{row[v]}</td>" for v in VERDICTS)
        + "</tr>"
        for row in counts.to_dict("records")
    )
    return (
        '<div class="scroll"><table>\n<caption>How many published numbers of each table</caption>\n'
        f'<thead><tr><th scope="col">artefact</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


_NO_NUMBER = f'<td data-order="{webpage.order_of("")}"></td>'


def _html_section(artefact: str, part: pd.DataFrame, cells: Mapping[int, str]) -> str:
    columns = list(dict.fromkeys(part["column"]))
    rows = list(dict.fromkeys(part["row"]))
    placed = {
        (row, column): cells[index]
        for index, row, column in zip(part.index, part["row"], part["column"], strict=True)
    }
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(row)}</th>'
        + "".join(placed.get((row, column), _NO_NUMBER) for column in columns)
        + "</tr>"
        for row in rows
    )
    name = html.escape(artefact)
    return (
        f'<h2>{name}</h2>\n<div class="scroll"><table class="sortable small">\n'
        f"<caption>{name}: published, reproduced [95 % interval], verdict</caption>\n"
        f'<thead><tr><th scope="col">method</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cells(frame: pd.DataFrame, published: pd.DataFrame) -> dict[int, str]:
    cells = {}
    for index, printed, decimals in zip(
        frame.index, published["printed"], _decimals(published), strict=True
    ):
        row = frame.loc[index]
        text = f"published {html.escape(printed)}"
        if row["verdict"] != NOT_RUN:
            interval = artefacts.with_interval(
                row["reproduced"], row["ci_low"], row["ci_high"], decimals
            )
            text += f"<br>reproduced <b>{html.escape(interval)}</b><br>n = {_whole(row['n'])}"
        reason = f'<span class="r">{html.escape(row["reason"])}</span>' if row["reason"] else ""
        number = row["published"] if row["verdict"] == NOT_RUN else row["reproduced"]
        cells[index] = (
            f'<td class="{_CLASSES[row["verdict"]]}" data-order="{number}">{text}'
            f'<span class="v">{html.escape(row["verdict"])}</span>{reason}</td>'
        )
    return cells
