"""Writing tables and figures with their captions, marks and provenance.

Every artefact states what it rests on: scale, protocol, data source, n and attack budget
stand in its caption, in a figure's file metadata and in ``<stem>.provenance.json``. Where a
data source is a stand-in, the word SYNTHETIC stands in the title, across the picture and in
a column of the table. Bytes depend on content alone (no dates, fixed hash salts), and files
appear whole.
"""

from __future__ import annotations

import dataclasses
import html
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust.core import io
from medrobust.core.errors import InputError, nearest
from medrobust.core.sources import SOURCES
from medrobust.reporting import webpage

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Attacks whose registered name is not how they are printed.
ATTACK_LABELS = {
    "hopskipjump": "HopSkipJump",
    "pgd": "PGD",
    "spsa": "SPSA",
    "uniform_noise": "uniform noise",
}
#: Setting of an attack that says who is attacked by others: data set or model to its settings.
OTHERS = "others"
NOT_RUN = "not run"
#: How the status begins of a number of a model whose training failed.
TRAINING_FAILED = "training failed"
#: Said of a figure whose attack is :data:`NOT_RUN`: it has words alone.
SHOWS_NOTHING = "Shows neither data nor published numbers"
SYNTHETIC = "SYNTHETIC"
SYNTHETIC_NOTE = "SYNTHETIC stand-in data: shows that the workflow runs, evidence of nothing."


@dataclass(frozen=True)
class FailedTraining:
    """A training whose loss, weights or scores ended NaN or infinite.

    Attributes:
        dataset, model: as printed.
        replicate, fold: numbers.
        reason: what happened, such as "loss not finite in epoch 3".
    """

    dataset: str
    model: str
    replicate: int
    fold: int
    reason: str


@dataclass(frozen=True)
class RunContext:
    """What every artefact of a run has in common.

    Attributes:
        study: name of the study.
        scale: "paper", "laptop" or "smoke".
        protocol: "code" or "text".
        run: name of the run's folder, ``<scale>-<protocol>``.
        commit: version of the code that draws (empty if unknown).
        config_hash: hash of the validated configuration.
        versions: package name to version.
        hardware: the machine in words.
        seed: root seed.
        command: one that makes it again.
        unlike_the_paper: a sentence on the amounts that differ from the paper's, "" if none does.
        drawn_from: folder of the committed records that it is drawn from; "": of this run's own.
        failed: trainings behind the artefact that failed; nothing of them is shown or counted.
        warnings: what must be said of the attacks behind it, in sentences
            (:mod:`medrobust.reporting.attack_checks`).
    """

    study: str
    scale: str
    protocol: str
    run: str
    commit: str
    config_hash: str
    versions: Mapping[str, str]
    hardware: str
    seed: int
    command: str
    unlike_the_paper: str = ""
    drawn_from: str = ""
    failed: tuple[FailedTraining, ...] = ()
    warnings: tuple[str, ...] = ()

    def status_without_results(self, dataset: str, model: str) -> str:
        """Returns the status of a number that there is not: not run, or its training failed."""
        for one in self.failed:
            if (one.dataset, one.model) == (dataset, model):
                return f"{TRAINING_FAILED} ({one.reason})"
        return NOT_RUN


def has_results(status: str) -> bool:
    """Tells from a number's status whether its model was run, and its training did not fail."""
    return status != NOT_RUN and not status.startswith(TRAINING_FAILED)


def in_place_of(status: str) -> str:
    """Returns what stands in the cell of a number that there is not, from its status."""
    return TRAINING_FAILED if status.startswith(TRAINING_FAILED) else NOT_RUN


def failed_text(failed: Sequence[FailedTraining]) -> str:
    """Returns which trainings failed, in a sentence; "" if none."""
    if not failed:
        return ""
    several = {one.replicate for one in failed} | {one.fold for one in failed} != {0}
    parts = []
    for one in failed:
        which = f", replicate {one.replicate}, fold {one.fold}" if several else ""
        parts.append(f"{one.model} on {one.dataset}{which} ({one.reason})")
    return f"Training failed, nothing of it is shown or counted: {'; '.join(parts)}."


@dataclass(frozen=True)
class Panel:
    """A printed block of a table.

    Attributes:
        frame: text cells; plain columns, or two levels (group, column).
        title: heading of the block, empty for none.
        sections: heading to print above the row at each position.
    """

    frame: pd.DataFrame
    title: str = ""
    sections: Mapping[int, str] = field(default_factory=dict)


def is_synthetic(sources: Mapping[str, str] | str) -> bool:
    """Tells whether any data source is a stand-in; a source may be a sum ("kaggle+standin")."""
    names = [sources] if isinstance(sources, str) else list(sources.values())
    return any("standin" in name.split("+") for name in names)


def check_sources(sources: Mapping[str, str]) -> None:
    """Raises InputError if a data set's source is none of :data:`SOURCES`."""
    for dataset, source in sources.items():
        if source not in SOURCES:
            close = nearest(source, SOURCES)
            raise InputError(
                f"The data source {source!r} is unknown.",
                where=dataset,
                remedy=f"did you mean {close!r}?" if close else f"one of {', '.join(SOURCES)}.",
            )


def describe_attack(name: str, settings: Mapping[str, Any]) -> str:
    """Returns an attack and its budget in words, for captions.

    Settings appear in their order, names with blanks for underscores; a true switch appears
    by its name alone, false and empty ones not at all. What :data:`OTHERS` holds comes last.
    """
    usual = {key: value for key, value in settings.items() if key != OTHERS}
    inside = settings_in_words(usual) + others_in_words(settings.get(OTHERS, {}))
    label = ATTACK_LABELS.get(name, name)
    return f"{label} ({inside.removeprefix('; ')})" if inside else label


def others_in_words(others: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns by which settings some data sets and models are attacked: "; CNN: restarts 3".

    Args:
        others: data set or model to its settings; equal ones are said once.
    """
    alike: dict[str, list[str]] = {}
    for who, settings in others.items():
        alike.setdefault(settings_in_words(settings), []).append(who)
    return "".join(f"; {', '.join(names)}: {words}" for words, names in alike.items())


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Returns settings of an attack in words, see :func:`describe_attack`."""
    parts = []
    for key, value in settings.items():
        words = key.replace("_", " ")
        if value is True:
            parts.append(words)
        elif value is not None and value is not False and value != "":
            parts.append(f"{words} {count(value)}")
    return ", ".join(parts)


def count(value: Any) -> str:
    """Returns a whole number with thousands separators; anything else as text."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def number(value: float | None, decimals: int, missing: str = "–") -> str:
    """Returns ``value`` with ``decimals`` decimals and a minus sign (not a hyphen) below 0.

    ``missing`` for None and NaN.
    """
    if value is None or math.isnan(value):
        return missing
    size = "∞" if math.isinf(value) else f"{abs(value):.{decimals}f}"
    return f"−{size}" if value < 0 else size


def with_interval(value: float | None, low: float | None, high: float | None, decimals: int) -> str:
    """Returns "value [low, high]", without the bracket where there is no interval."""
    text = number(value, decimals)
    if any(end is None or math.isnan(end) for end in (low, high)):
        return text
    return f"{text} [{number(low, decimals)}, {number(high, decimals)}]"


def full_caption(
    caption: str,
    context: RunContext,
    sources: Mapping[str, str],
    n: str,
    budget: str,
) -> str:
    """Returns ``caption`` and the statement of scale, protocol, data, n and attack.

    Args:
        caption: what is shown, in sentences.
        context: the run.
        sources: data set (as printed) to source name.
        n: sample sizes in words.
        budget: the attack and its budget in words; :data:`NOT_RUN` if nothing is shown, neither
            data nor published numbers.
    """
    data = (
        "; ".join(f"{dataset}: {SOURCES[source]}" for dataset, source in sources.items())
        or "the published numbers alone"
    )
    shown = SHOWS_NOTHING
    if budget != NOT_RUN:
        amounts = f"{context.unlike_the_paper} Data" if context.unlike_the_paper else "Data"
        shown = f"{amounts}: {data}. n: {n}. Attack: {budget}"
    statement = (
        f"Study {context.study}, scale {context.scale}, protocol {context.protocol}, "
        f"seed {context.seed}. {shown}."
    )
    warning = f"{SYNTHETIC_NOTE} " if is_synthetic(sources) else ""
    parts = [caption.strip(), failed_text(context.failed), *context.warnings, statement]
    return warning + " ".join(filter(None, parts))


# --- tables -----------------------------------------------------------------------------


def write_table_artefact(
    stem: str | os.PathLike[str],
    frame: pd.DataFrame,
    *,
    title: str,
    caption: str,
    context: RunContext,
    sources: Mapping[str, str],
    n: str,
    budget: str,
    notes: Sequence[str] = (),
    panels: Sequence[Panel] = (),
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> list[Path]:
    """Writes a table as ``<stem>.csv``, ``.md``, ``.html``, ``.tex`` and ``.provenance.json``.

    The CSV holds ``frame`` in full and a last column ``data`` ("SYNTHETIC", "real", or empty
    where nothing was run), by row where ``frame`` has a column ``source``.

    Args:
        stem: path without suffix.
        frame: the numbers.
        title: short heading.
        caption: what the table shows.
        context: the run.
        sources: data set (as printed) to source name.
        n: sample sizes in words.
        budget: attack and budget in words.
        notes: lines printed below the table.
        panels: how the table is printed; by default ``frame`` as it is.
        inputs: files that the table was made from; their hashes go to the provenance.

    Returns:
        The files written.

    Raises:
        InputError: an unknown data source, or no room on the disk.
    """
    check_sources(sources)
    synthetic = is_synthetic(sources)
    heading = f"{SYNTHETIC} DATA: {title}" if synthetic else title
    stated = full_caption(caption, context, sources, n, budget)
    notes = [*notes, *context.warnings]
    shown = list(panels) or [Panel(_as_text(frame))]
    files = {suffix: _with_suffix(stem, suffix) for suffix in (".csv", ".md", ".html", ".tex")}
    io.write_table(files[".csv"], _with_data_column(frame, synthetic))
    io.write_text(files[".md"], _markdown(heading, stated, shown, notes))
    io.write_text(files[".html"], _webpage(heading, stated, shown, notes, synthetic))
    io.write_text(files[".tex"], _latex(heading, stated, shown, notes, Path(stem).name, context))
    provenance = write_provenance(
        stem,
        files.values(),
        title=heading,
        caption=stated,
        context=context,
        sources=sources,
        n=n,
        budget=budget,
        notes=notes,
        inputs=inputs,
    )
    return [*files.values(), provenance]


def _with_suffix(stem: str | os.PathLike[str], suffix: str) -> Path:
    # Not Path.with_suffix: a stem may hold a dot ("eps0.1").
    stem = Path(stem)
    return stem.parent / f"{stem.name}{suffix}"


def _with_data_column(frame: pd.DataFrame, synthetic: bool) -> pd.DataFrame:
    marked = frame.copy()
    if "source" in marked.columns:
        texts = marked["source"].fillna("").astype(str)
        marked["data"] = [
            "" if not text else SYNTHETIC if is_synthetic(text) else "real" for text in texts
        ]
    else:
        marked["data"] = SYNTHETIC if synthetic else "real"
    return marked


def _as_text(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    def text(value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
            return "–"
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    return frame.astype(object).map(text)


def _markdown(heading: str, caption: str, panels: Sequence[Panel], notes: Sequence[str]) -> str:
    lines = [f"# {markdown_escape(heading)}", ""]
    for panel in panels:
        if panel.title:
            lines += [f"**{markdown_escape(panel.title)}**", ""]
        lines += [markdown_table(panel.frame, panel.sections), ""]
    lines += [markdown_escape(caption), ""]
    lines += [f"- {markdown_escape(note)}" for note in notes]
    return "\n".join(lines).rstrip("\n") + "\n"


def _webpage(
    heading: str, caption: str, panels: Sequence[Panel], notes: Sequence[str], synthetic: bool
) -> str:
    parts = []
    for panel in panels:
        if panel.title:
            parts.append(f"<h2>{html.escape(panel.title)}</h2>")
        numeric = [found for _, found in _numeric(panel.frame)]
        parts.append(webpage.table(panel.frame, panel.sections, numeric))
    parts.append(f"<p>{html.escape(caption)}</p>")
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    parts += [f"<ul>{items}</ul>"] if items else []
    return webpage.page(heading, "\n".join(parts), banner=SYNTHETIC_NOTE if synthetic else "")


def markdown_table(frame: pd.DataFrame, sections: Mapping[int, str] | None = None) -> str:
    """Returns a frame of text as a Markdown table; two-level columns become "group: column"."""
    sections = sections or {}
    names = [
        ": ".join(str(part) for part in name if str(part)) if isinstance(name, tuple) else str(name)
        for name in frame.columns
    ]
    lines = ["| " + " | ".join(markdown_escape(name) for name in names) + " |"]
    marks = ["---:" if position and numeric else "---" for position, numeric in _numeric(frame)]
    lines.append("|" + "|".join(marks) + "|")
    for position, row in enumerate(frame.itertuples(index=False, name=None)):
        if position in sections:
            heading = f"*{markdown_escape(sections[position])}*"
            lines.append("| " + " | ".join([heading] + [""] * (len(names) - 1)) + " |")
        lines.append("| " + " | ".join(markdown_escape(str(cell)) for cell in row) + " |")
    return "\n".join(lines)


def _numeric(frame: pd.DataFrame) -> list[tuple[int, bool]]:
    """Tells for each column position whether it holds numbers as text (to be right-aligned)."""
    return [
        (position, any(re.match(r"[-−≥]?\s*\d", str(cell)) for cell in frame.iloc[:, position]))
        for position in range(frame.shape[1])
    ]


def markdown_escape(text: str) -> str:
    """Returns ``text`` so that Markdown prints it literally, on one line."""
    escaped = re.sub(r"([\\`*_|\[\]#])", r"\\\1", html.escape(text, quote=False))
    return " ".join(escaped.split())


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        # After a row's end, [ and * would be read as arguments of \\.
        "[": "{[}",
        "]": "{]}",
        "*": "{*}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "→": r"$\rightarrow$",
        "∞": r"$\infty$",
        "−": "$-$",
        "–": "--",
        "—": "---",
        "…": r"\ldots{}",
        "ε": r"$\varepsilon$",
        "σ": r"$\sigma$",
        "μ": r"$\mu$",
        "₂": r"\textsubscript{2}",
        "₀": r"\textsubscript{0}",
        "₁": r"\textsubscript{1}",
        "\u00a0": "~",
        "\u2009": r"\,",
        "\n": " ",
    }
)


def latex_escape(text: str) -> str:
    """Returns ``text`` so that LaTeX prints it literally, safe inside a table cell."""
    return text.translate(_LATEX)


def _latex(
    heading: str,
    caption: str,
    panels: Sequence[Panel],
    notes: Sequence[str],
    name: str,
    context: RunContext,
) -> str:
    label = re.sub(r"[^A-Za-z0-9:.-]+", "-", f"tab:{context.study}-{name}")
    lines = [
        "% Needs \\usepackage{booktabs,graphicx} and \\usepackage[T1]{fontenc}; UTF-8 input.",
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{\textbf{{{latex_escape(heading)}.}} {latex_escape(caption)}}}",
        rf"\label{{{label}}}",
        r"\footnotesize",
    ]
    for position, panel in enumerate(panels):
        if position:
            lines.append(r"\par\medskip")
        if panel.title:
            lines.append(rf"\textit{{{latex_escape(panel.title)}}}\par\smallskip")
        lines += _tabular(panel)
    if notes:
        lines.append(r"\par\smallskip\begin{minipage}{\linewidth}\raggedright")
        lines += [rf"{latex_escape(note)}\par" for note in notes]
        lines.append(r"\end{minipage}")
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def _tabular(panel: Panel) -> list[str]:
    columns = list(panel.frame.columns)
    width = len(columns)
    marks = "".join("r" if position and yes else "l" for position, yes in _numeric(panel.frame))
    # Wide tables shrink to the line, narrow ones keep their size.
    lines = [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{marks}}}",
        r"\toprule",
    ]
    if columns and isinstance(columns[0], tuple):
        lines += _grouped_header(columns)
        columns = [column[1] for column in columns]
    lines += [" & ".join(latex_escape(str(column)) for column in columns) + r" \\", r"\midrule"]
    for position, row in enumerate(panel.frame.itertuples(index=False, name=None)):
        if position in panel.sections:
            if position:
                lines.append(r"\midrule")
            heading = latex_escape(panel.sections[position])
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{heading}}}}} \\")
        lines.append(" & ".join(latex_escape(str(cell)) for cell in row) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def _grouped_header(columns: Sequence[tuple[str, str]]) -> list[str]:
    cells, rules, start = [], [], 1
    groups: list[tuple[str, int]] = []
    for group, _ in columns:
        if groups and groups[-1][0] == group:
            groups[-1] = (group, groups[-1][1] + 1)
        else:
            groups.append((group, 1))
    for group, width in groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{latex_escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [" & ".join(cells).strip() + r" \\", " ".join(rules)]


# --- figures ----------------------------------------------------------------------------


def write_figure_artefact(
    stem: str | os.PathLike[str],
    figure: Figure,
    drawn: pd.DataFrame,
    *,
    title: str,
    caption: str,
    context: RunContext,
    sources: Mapping[str, str],
    n: str,
    budget: str,
    notes: Sequence[str] = (),
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> list[Path]:
    """Writes a figure as ``<stem>.pdf``, ``.png``, ``.svg`` with the data it draws (``.csv``).

    A line of small print below the picture and the metadata of each file state the run;
    a picture of stand-in data gets a watermark. Arguments as for
    :func:`write_table_artefact`; ``figure`` comes from
    :func:`medrobust.reporting.plotting.new_figure` and ``drawn`` holds every number that it shows.

    Returns:
        The files written, ``<stem>.provenance.json`` last.

    Raises:
        InputError: an unknown data source, or no room on the disk.
    """
    from medrobust.reporting import plotting

    check_sources(sources)
    synthetic = is_synthetic(sources)
    heading = f"{SYNTHETIC} DATA: {title}" if synthetic else title
    stated = full_caption(caption, context, sources, n, budget)
    files = {suffix: _with_suffix(stem, suffix) for suffix in (".pdf", ".png", ".svg")}
    with plotting.style():
        plotting.footer(figure, _small_print(context, sources, n, budget))
        if synthetic:
            plotting.mark_synthetic(figure)
        plotting.settle(figure)
        for suffix, path in files.items():
            with io.atomic_path(path) as temporary:
                figure.savefig(
                    temporary,
                    format=suffix[1:],
                    metadata=_metadata(suffix, heading, stated, context, sources, n),
                )
    files[".csv"] = _with_suffix(stem, ".csv")
    io.write_table(files[".csv"], _with_data_column(drawn, synthetic))
    provenance = write_provenance(
        stem,
        files.values(),
        title=heading,
        caption=stated,
        context=context,
        sources=sources,
        n=n,
        budget=budget,
        notes=notes,
        inputs=inputs,
    )
    return [*files.values(), provenance]


def _small_print(context: RunContext, sources: Mapping[str, str], n: str, budget: str) -> str:
    data = "; ".join(f"{dataset} ({SOURCES[source]})" for dataset, source in sources.items())
    # Committed records were made by other commits than the one that draws them.
    by = "drawn from committed records by" if context.drawn_from else "commit"
    code = f", {by} {context.commit[:10]}" if context.commit else ""
    shown = f"{data or 'Published numbers'}. n: {n}. {budget}"
    if failed := dict.fromkeys(one.model for one in context.failed):
        shown += f". {TRAINING_FAILED}: {', '.join(failed)}"
    return (
        f"medrobust, study {context.study}, scale {context.scale}, protocol {context.protocol}"
        f"{code}. {SHOWS_NOTHING if budget == NOT_RUN else shown}."
    )


def _metadata(
    suffix: str,
    heading: str,
    caption: str,
    context: RunContext,
    sources: Mapping[str, str],
    n: str,
) -> dict[str, Any]:
    facts = [
        f"study={context.study}",
        f"scale={context.scale}",
        f"protocol={context.protocol}",
        f"source={'; '.join(f'{name}: {source}' for name, source in sources.items())}",
        f"n={n}",
        f"synthetic={'yes' if is_synthetic(sources) else 'no'}",
        f"config={context.config_hash}",
        f"commit={context.commit}",
    ]
    if suffix == ".pdf":
        return {
            "Title": heading,
            "Subject": caption,
            "Keywords": ", ".join(facts),
            "Creator": "medrobust",
            "CreationDate": None,
            "ModDate": None,
        }
    if suffix == ".svg":
        return {
            "Title": heading,
            "Description": caption,
            "Keywords": facts,
            "Creator": "medrobust",
            "Date": None,
        }
    return {
        "Title": heading,
        "Description": caption,
        "Comment": ", ".join(facts),
        "Software": "medrobust",
    }


# --- provenance -------------------------------------------------------------------------


def write_provenance(
    stem: str | os.PathLike[str],
    files: Any,
    *,
    title: str,
    caption: str,
    context: RunContext,
    sources: Mapping[str, str],
    n: str,
    budget: str,
    notes: Sequence[str] = (),
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Writes ``<stem>.provenance.json`` and returns its path.

    It holds the run, the statements of the caption, and the SHA-256 of the ``files``
    written and of the ``inputs`` they were made from.

    Raises:
        InputError: an input file does not exist.
    """
    path = _with_suffix(stem, ".provenance.json")
    run = dataclasses.asdict(dataclasses.replace(context, versions=dict(context.versions)))
    for name in ("drawn_from", "failed", "warnings"):
        if not run[name]:
            del run[name]
    io.write_json(
        path,
        {
            "artefact": Path(stem).name,
            "title": title,
            "caption": caption,
            "synthetic": is_synthetic(sources),
            "sources": dict(sources),
            "n": n,
            "attack": budget,
            "notes": list(notes),
            "run": run,
            "files": {file.name: io.sha256_of_file(file) for file in files},
            "inputs": [
                {"path": _shown_path(file), "sha256": _hash_of_input(file)} for file in inputs
            ],
        },
    )
    return path


def _hash_of_input(path: str | os.PathLike[str]) -> str:
    if not Path(path).is_file():
        raise InputError("This input of a table or figure does not exist.", where=str(path))
    return io.sha256_of_file(path)


def _shown_path(path: str | os.PathLike[str]) -> str:
    """Returns a path relative to the working folder: provenance names no one's machine."""
    path = Path(path)
    if not path.is_absolute():
        return path.as_posix()
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name
