"""The page that a report opens on: what was found, in one look, over all runs at hand.

It is made of what lies in ``results/``: every artefact has a provenance file beside it, which says
of what run and data it is. So a report of one run tells of the others too, and a run of which only
one figure was asked for is there with that figure.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from medrobust.core import io
from medrobust.reporting import claims, comparison, webpage
from medrobust.reporting.artefacts import SYNTHETIC_NOTE

if TYPE_CHECKING:
    import pandas as pd

#: Where a study's artefacts lie, in the order in which they are listed, and the file to show.
FOLDERS = {"figures": ".png", "tables": ".html", "claims": ".html", "comparison": ".html"}
TITLE = "What was found"


@dataclass(frozen=True)
class Shown:
    """One artefact: the file to look at, and what its provenance says."""

    file: Path
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name without suffix."""
        return self.file.stem

    @property
    def real(self) -> bool:
        """Whether it shows numbers of real data."""
        return bool(self.facts.get("sources")) and not self.facts.get("synthetic")


@dataclass
class Made:
    """What one run made of one study."""

    study: str
    run: str
    folder: Path
    shown: list[Shown] = field(default_factory=list)

    @property
    def real(self) -> bool:
        """Whether anything of it shows real data."""
        return any(one.real for one in self.shown)

    @property
    def synthetic(self) -> bool:
        """Whether anything of it shows stand-in data."""
        return any(one.facts.get("synthetic") for one in self.shown)

    @property
    def facts(self) -> dict[str, Any]:
        """What the newest artefact says of the run."""
        return max(self.shown, key=lambda one: one.file.stat().st_mtime).facts["run"]

    @property
    def where(self) -> str:
        """Study and run in words."""
        return f"{self.study}, {self.run}"


Link = Callable[[Path, str], str]
"""(file, text) -> HTML that opens the file."""


def start_page(
    results: Path, published: Path, front: Mapping[str, str], link: Link, pipeline: str = ""
) -> str:
    """Returns the page's content as HTML, without a page's head.

    Args:
        results: folder of the runs, ``results/<run>/<study>/...``.
        published: folder with ``<study>.csv`` of the published numbers.
        front: study to the name of the figure that is shown first.
        link: makes a link to a file.
        pipeline: a picture of what ran, as the text of an SVG file; empty for none.
    """
    made = made_in(results)
    if not made:
        return "<p>No table and no figure has been made yet.</p>"
    # Real data first; of it what is nearest to the published amounts.
    scales = ("paper", "laptop", "smoke")
    rank = {scale: number for number, scale in enumerate(scales)}
    made.sort(key=lambda one: (not one.real, rank.get(one.run.split("-")[0], 9), one.study))
    held = [(one, numbers_of(one, published)) for one in made]
    parts = [
        _lead(held),
        _numbers([(one, frame) for one, frame in held if frame is not None], link),
        _front(made, front, link),
        _claims(made, link),
        _runs(made, link),
    ]
    if pipeline:
        uri = webpage.data_uri(pipeline.encode(), "image/svg+xml")
        parts.append(f'<h2>How it is made</h2>\n<img alt="The pipeline" src="{uri}">')
    return f'<style>{_CSS}</style>\n<div class="start">\n' + "\n".join(parts) + "\n</div>"


def made_in(results: Path) -> list[Made]:
    """Returns what the runs in a folder made, by study and run; empty runs are left out."""
    found = []
    for folder in sorted(results.glob("*-*/*")):
        one = Made(folder.name, folder.parent.name, folder)
        for kind, suffix in FOLDERS.items():
            for file in sorted((folder / kind).glob("*.provenance.json"), key=_natural):
                shown = file.with_name(file.name.removesuffix(".provenance.json") + suffix)
                if shown.is_file():
                    one.shown.append(Shown(shown, io.read_json(file)))
        if one.shown:
            found.append(one)
    return found


def _natural(file: Path) -> list[Any]:
    parts = re.split(r"(\d+)", file.name)
    return [int(part) if part.isdigit() else part for part in parts]


def numbers_of(made: Made, published: Path) -> pd.DataFrame | None:
    """Returns every published number of a run's study beside what the run found.

    Columns as of :func:`medrobust.reporting.comparison.compare`. None where nothing was printed, or
    no table of the paper was made.
    """
    whole = made.folder / "comparison/comparison.csv"
    if whole.is_file():
        return io.read_table(whole)
    printed = published / f"{made.study}.csv"
    tables = sorted((made.folder / "tables").glob("table*.csv"))
    if not printed.is_file() or not tables:
        return None
    import pandas as pd

    context: Any = SimpleNamespace(**{name: made.facts[name] for name in ("scale", "protocol")})
    found = pd.concat([comparison.read_reproduced(table) for table in tables], ignore_index=True)
    return comparison.compare(comparison.read_published(printed, made.study), found, context)


# --- the answer in a sentence -------------------------------------------------------------


def _lead(held: Sequence[tuple[Made, pd.DataFrame | None]]) -> str:
    real = [one for one, _ in held if one.real]
    sentences = []
    for one, frame in held:
        if frame is None or not one.real:
            continue
        counts = frame["verdict"].value_counts()
        within, outside = (int(counts.get(v, 0)) for v in (comparison.WITHIN, comparison.OUTSIDE))
        if not within + outside:
            said = f"none of its {len(frame):,} published numbers was held against print yet."
            sentences.append(f"<li><b>{html.escape(one.where)}</b>: {said}</li>")
            continue
        sentences.append(
            f"<li><b>{html.escape(one.where)}</b>: {within + outside:,} of {len(frame):,} "
            "published numbers were reproduced and held against print; "
            f"{within:,} of them agree with it, {outside:,} do not ({_trainings(frame)}).</li>"
        )
    synthetic = [one.where for one, _ in held if one.synthetic]
    note = (
        f'<p class="banner">{html.escape(SYNTHETIC_NOTE)} This is so of '
        f"{html.escape('; '.join(synthetic))}.</p>"
        if synthetic
        else ""
    )
    if not real:
        return note
    return f"<ul>{''.join(sentences)}</ul>\n{note}"


def _trainings(frame: pd.DataFrame) -> str:
    """Returns of how many trainings the numbers are that were held against print."""
    held = frame[frame["verdict"].isin([comparison.WITHIN, comparison.OUTSIDE])]["replicates"]
    fewest, most = int(held.min()), int(held.max())
    if most == 1:
        return "one training of each model"
    return f"{fewest} to {most} trainings" if fewest < most else f"{most} trainings of each model"


# --- published numbers as one picture ------------------------------------------------------

_CELL = 11
_COLOURS = {
    comparison.WITHIN: "#3b82c4",
    comparison.OUTSIDE: "#e8863a",
    comparison.CANNOT_TELL: "#f2d94e",
    comparison.SYNTHETIC: "#c79ac7",
    comparison.NOT_RUN: "#e4e4e4",
}


def _numbers(held: Sequence[tuple[Made, pd.DataFrame]], link: Link) -> str:
    if not held:
        return ""
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(_WORDS[verdict])}</span>'
        for verdict, colour in _COLOURS.items()
    )
    blocks = "\n".join(_mosaic(one, frame, link) for one, frame in held)
    return (
        "<h2>The published numbers, and what these runs found</h2>\n"
        "<p>Each square is one number that a paper prints. It agrees if some value that rounds to "
        "it lies in the interval that the reproduced number is held against; where that interval "
        "covers one training's test points alone, another training may give another colour.</p>\n"
        f'<p class="legend">{legend}</p>\n{blocks}'
    )


_WORDS = {
    comparison.WITHIN: "agrees with print",
    comparison.OUTSIDE: "does not agree",
    comparison.CANNOT_TELL: "cannot be told",
    comparison.SYNTHETIC: "SYNTHETIC stand-in: never judged",
    comparison.NOT_RUN: "not run",
}


def _mosaic(one: Made, frame: pd.DataFrame, link: Link) -> str:
    pages = {_short(shown): shown.file for shown in one.shown if shown.file.suffix == ".html"}
    blocks = []
    for artefact, part in frame.groupby("artefact", sort=False):
        rows, columns = (list(dict.fromkeys(part[name])) for name in ("row", "column"))
        squares = "".join(
            f'<rect x="{columns.index(cell["column"]) * _CELL}" '
            f'y="{rows.index(cell["row"]) * _CELL}" '
            f'width="{_CELL - 1}" height="{_CELL - 1}" fill="{_COLOURS[cell["verdict"]]}">'
            f"<title>{html.escape(_told(cell))}</title></rect>"
            for cell in part.to_dict("records")
        )
        width, height = len(columns) * _CELL, len(rows) * _CELL
        page = pages.get(str(artefact))
        name = link(page, str(artefact)) if page else html.escape(str(artefact))
        blocks.append(
            f'<figure><svg width="{width}" height="{height}" role="img" '
            f'aria-label="{html.escape(str(artefact))}">{squares}</svg>'
            f"<figcaption>{name}</figcaption></figure>"
        )
    whole = pages.get("Comparison")
    title = link(whole, one.where) if whole else html.escape(one.where)
    return f'<h3>{title}</h3>\n<div class="mosaic">{"".join(blocks)}</div>'


def _told(cell: dict[str, Any]) -> str:
    text = f"{cell['row']}, {cell['column']}: published {cell['published']:g}"
    if cell["reproduced"] == cell["reproduced"]:
        text += f", here {cell['reproduced']:.4g}"
    return f"{text}; {_WORDS[cell['verdict']]}"


# --- a figure, claims, runs ------------------------------------------------------------------


def _front(made: Sequence[Made], front: Mapping[str, str], link: Link) -> str:
    figures = [(one, shown) for one in made for shown in one.shown if shown.file.suffix == ".png"]
    if not figures:
        return ""
    # The runs stand in order already; among equals the first counts.
    one, shown = min(
        figures, key=lambda pair: (not pair[1].real, front.get(pair[0].study) != pair[1].name)
    )
    uri = webpage.data_uri(shown.file.read_bytes(), "image/png")
    title = html.escape(str(shown.facts["title"]))
    caption = html.escape(str(shown.facts["caption"]))
    return (
        f"<h2>{title}</h2>\n<p>{link(shown.file, one.where)}</p>\n"
        f'<img alt="{title}" src="{uri}">\n'
        f"<details><summary>Caption</summary><p>{caption}</p></details>"
    )


def _claims(made: Sequence[Made], link: Link) -> str:
    parts = []
    for one in made:
        file = one.folder / "claims/claims.csv"
        if not file.is_file() or not one.real:
            continue
        frame = io.read_table(file)
        last = frame.groupby("claim", sort=False).last()
        counts = ", ".join(f"{int((last['verdict'] == v).sum())} {v}" for v in claims.VERDICTS)
        told = last[last["verdict"] != claims.CANNOT_TELL]
        rows = "".join(
            f'<tr><td class="{claims.CLASSES[row["verdict"]]}">{html.escape(row["verdict"])}</td>'
            f"<td>“{html.escape(row['quote'])}”</td><td>{html.escape(row['where'])}</td></tr>"
            for row in told.to_dict("records")
        )
        table = (
            '<div class="scroll"><table><thead><tr><th>verdict</th><th>the paper says</th>'
            f"<th>where</th></tr></thead><tbody>{rows}</tbody></table></div>"
            if rows
            else ""
        )
        page = file.with_suffix(".html")
        parts.append(f"<h3>{link(page, one.where)}</h3>\n<p>{counts}.</p>\n{table}")
    if not parts:
        return ""
    return "<h2>What the papers say, and what these runs say</h2>\n" + "\n".join(parts)


def _runs(made: Sequence[Made], link: Link) -> str:
    rows = []
    for one in made:
        facts = one.facts
        sources = sorted(
            {
                f"{data} ({source})"
                for shown in one.shown
                for data, source in (shown.facts.get("sources") or {}).items()
            }
        )
        shown = " · ".join(link(each.file, _short(each)) for each in one.shown)
        cells = [
            html.escape(one.study),
            html.escape(f"{facts['scale']}, {facts['protocol']}"),
            html.escape(", ".join(sources)) or "published numbers alone",
            html.escape(f"{facts['commit'][:7]}, seed {facts['seed']}, {facts['hardware']}"),
            shown,
        ]
        mark = ' class="synthetic"' if one.synthetic else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(
        f"<th>{name}</th>"
        for name in ("study", "scale, protocol", "data (source)", "made by", "open")
    )
    return (
        "<h2>What ran</h2>\n"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def _short(shown: Shown) -> str:
    title = str(shown.facts["title"]).removeprefix("SYNTHETIC DATA: ")
    return (
        title.split(". ")[0] if title.startswith(("Table", "Figure")) else shown.name.capitalize()
    )


_CSS = """
.start h2 { margin: 1.6rem 0 .4rem; } .start h3 { margin: .9rem 0 .2rem; font-size: 1rem; }
.start .mosaic { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: flex-end; }
.start figure { margin: 0; } .start figcaption { font-size: .72rem; color: #444; }
.start .legend span { margin-right: 1.1rem; white-space: nowrap; }
.start .legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem; }
.start img { max-width: 100%; max-height: 80vh; }
""".strip()


# --- where it is shown -----------------------------------------------------------------------


def write_overview(
    results: Path, published: Path, front: Mapping[str, str], out: Path, pipeline: str = ""
) -> None:
    """Writes the page as a file of its own, with links to the files beside it."""

    def link(file: Path, text: str) -> str:
        address = os.path.relpath(file, out.parent).replace(os.sep, "/")
        return f'<a href="{html.escape(address)}">{html.escape(text)}</a>'

    content = start_page(results, published, front, link, pipeline)
    io.write_text(out, webpage.page(TITLE, content))


def in_report(
    results: Path,
    published: Path,
    front: Mapping[str, str],
    contained: Sequence[Path],
    pipeline: str = "",
) -> str:
    """Returns the page for the description of Snakemake's report.

    Args:
        results: folder of the runs.
        published: folder of the published numbers.
        front: as for :func:`start_page`.
        contained: files that the report has anyway; all others that are linked are put into the
            page itself.
        pipeline: as for :func:`start_page`.
    """
    there = {file.resolve(): str(file) for file in contained}
    # The names are those of the report's own script (app.js, content.js of Snakemake 9.27.1).
    mimes = {".html": ("html", "text/html"), ".png": ("img", "image/png")}

    def link(file: Path, text: str) -> str:
        content, mime = mimes[file.suffix]
        known = there.get(file.resolve())
        if known is not None:
            where = f"results[{json.dumps(known)}].data_uri"
            also = f",resultPath:{json.dumps(known)},navbarMode:'resultinfo'"
            store = ""
        else:
            where, also = "this.dataset.page", ""
            store = f' data-page="{webpage.data_uri(file.read_bytes(), mime)}"'
        action = f"app.setView({{content:'{content}',contentPath:{where}{also}}});return false"
        return f'<a href="#" onclick="{html.escape(action)}"{store}>{html.escape(text)}</a>'

    # The report centres what it shows, which hides the top of what is longer than the window.
    wide = (
        ".overflow-auto:has(> div .start){display:block!important}"
        ".max-w-lg:has(.start){max-width:none!important;width:100%}"
        "div:has(> div > .max-w-lg .start) > #rulegraph{display:none}"
    )
    # Within the page alone: the report's own lists are tables too.
    style = f"<style>{wide}\n.start {{ {webpage.STYLE} }}</style>"
    return _in_short_lines(
        f"{style}\n<h1>{TITLE}</h1>\n{start_page(results, published, front, link, pipeline)}"
    )


def _in_short_lines(text: str) -> str:
    # docutils, through which the report's description passes, refuses lines of more than 10,000
    # characters (line_length_limit). Between tags a new line changes nothing here, and within an
    # address browsers leave it out.
    text = text.replace("><", ">\n<")
    return re.sub(r"[A-Za-z0-9+/=]{2000}", r"\g<0>\n", text)
