"""Self-contained web pages: one look, nothing loaded from elsewhere.

Tables of the class ``sortable`` are sorted and searched (with ``small`` beside it: sorted alone) by
DataTables, in the build that the Python package itables brings. It is packed into each page that
has such a table (0.25 MB), since pages are opened without a network, and one by one inside a
report. A browser that cannot unpack it (those of before 2023) shows the tables as they are.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_PAGE_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; color: #1a1a1a; background: #fff; }
""".strip()
#: Style of what stands on a page, also where the page is part of another.
STYLE = """
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.banner { border: 3px solid #7a1f7a; background: #f6e6f6; padding: .7rem 1rem; font-weight: 700; }
.scroll { overflow: auto; max-height: 85vh; max-width: 100%; }
table { border-collapse: collapse; font-size: .87rem; }
caption { text-align: left; padding: .2rem 0; color: #444; }
th, td { border: 1px solid #b9b9b9; padding: .35rem .55rem; text-align: left; vertical-align: top; }
ul { padding-left: 1.2rem; }
thead th { background: #f0f0f0; } tbody th { background: #f7f7f7; white-space: nowrap; }
/* The head and the first column stay in view while a wide table is scrolled. */
.scroll thead { position: sticky; top: 0; z-index: 2; }
.scroll th[scope=row] { position: sticky; left: 0; z-index: 1; max-width: 22rem;
  white-space: normal; }
.scroll thead tr th:first-child { position: sticky; left: 0; z-index: 3; }
.dt-search { margin: 0 0 .4rem; } .dt-search input { font: inherit; padding: .15rem .4rem; }
img { max-width: 100%; height: auto; }
td.number { text-align: right; white-space: nowrap; }
tr.section th { background: #fff; font-style: italic; }
td b { font-weight: 600; } td .v { display: block; font-size: .78rem; font-weight: 600; }
td .r { display: block; font-size: .75rem; }
.within { background: #cfe4f7; } .outside { background: #fbd9b5; }
.cannot { background: #fff6c4; } .notrun { background: #ededed; color: #4a4a4a; }
.synthetic { background: repeating-linear-gradient(45deg, #f3def3 0 8px, #faf0fa 8px 16px); }
""".strip()


_SCRIPT = """
const packed = JSON.parse(document.getElementById("packed").textContent);
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
// A section's heading is a row of its own: its rows get it in a hidden column, by which they stay
// together, in the order of the page.
function named_sections(table) {
  const titles = [];
  for (const row of [...table.tBodies[0].rows]) {
    if (row.className === "section") { titles.push(row.textContent); row.remove(); }
    else { row.insertAdjacentHTML("beforeend", `<td>${titles.length || ""}</td>`); }
  }
  const heads = table.tHead.rows;
  for (const row of heads) { row.insertAdjacentHTML("beforeend", "<th></th>"); }
  return titles;
}
function sortable(ITable, table) {
  const sections = table.querySelector("tr.section") ? named_sections(table) : [];
  const first = table.tBodies[0].rows[0];
  const numbers = [...first.cells].flatMap((cell, index) =>
    cell.dataset.order === undefined ? [] : [index]);
  const options = { paging: false, info: false, order: [], autoWidth: false,
    searching: !table.classList.contains("small") && table.tBodies[0].rows.length > 5,
    columnDefs: [{ type: "num", targets: numbers }],
    language: { search: "Search:" } };
  if (sections.length) {
    const last = first.cells.length - 1;
    options.columnDefs.push({ targets: last, visible: false, type: "num" });
    options.orderFixed = { pre: [[last, "asc"]] };
    options.rowGroup = { dataSrc: last, emptyDataGroup: null,
      startRender: (_, group) => sections[group - 1] };
  }
  new ITable(table, options);
}
try {
  const style = document.createElement("style");
  style.textContent = await unpack(packed.css);
  document.head.prepend(style);
  const code = new Blob([await unpack(packed.js)], { type: "text/javascript" });
  const { ITable } = await import(URL.createObjectURL(code));
  document.querySelectorAll("table.sortable").forEach((table) => sortable(ITable, table));
} catch (error) {
  console.warn("Tables cannot be sorted in this browser:", error);
}
""".strip()


@cache
def _library() -> str:
    """Returns the script and the style of DataTables, packed, as JSON."""
    import itables

    folder = Path(itables.__file__).parent / "html"
    packed = {
        name: base64.b64encode(
            gzip.compress((folder / f"dt_bundle.{name}").read_bytes(), mtime=0)
        ).decode()
        for name in ("js", "css")
    }
    return json.dumps(packed)


def data_uri(content: bytes, mime: str) -> str:
    """Returns a file's content as an address, so that a page needs no second file."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _scripts(body: str) -> str:
    if '<table class="sortable' not in body:
        return ""
    return (
        f'<script type="application/json" id="packed">{_library()}</script>\n'
        f'<script type="module">\n{_SCRIPT}\n</script>\n'
    )


def page(title: str, body: str, *, banner: str = "") -> str:
    """Returns a page.

    Args:
        title: plain text.
        body: HTML, escaped where it must be.
        banner: plain text of a warning above everything, empty for none.
    """
    warning = f'<p class="banner" role="note">{html.escape(banner)}</p>\n' if banner else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_PAGE_CSS}\n{STYLE}\n</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n{warning}{body}\n</main>\n{_scripts(body)}</body>\n</html>\n"
    )


def table(frame: pd.DataFrame, sections: Mapping[int, str], numeric: list[bool]) -> str:
    """Returns a frame of text as a sortable HTML table; two-level columns get a grouped head.

    Args:
        frame: text cells.
        sections: heading to print above the row at each position.
        numeric: for each column whether it holds numbers (right-aligned).
    """
    rows = []
    for position, row in enumerate(frame.itertuples(index=False, name=None)):
        if position in sections:
            heading = html.escape(sections[position])
            rows.append(f'<tr class="section"><th colspan="{len(row)}">{heading}</th></tr>')
        cells = "".join(
            f'<td class="number" data-order="{order_of(cell)}">{html.escape(str(cell))}</td>'
            if is_number
            else f"<td>{html.escape(str(cell))}</td>"
            for cell, is_number in zip(row[1:], numeric[1:], strict=True)
        )
        rows.append(f'<tr><th scope="row">{html.escape(str(row[0]))}</th>{cells}</tr>')
    body = "\n".join(rows)
    head = _head(list(frame.columns))
    return (
        f'<div class="scroll"><table class="sortable">\n<thead>{head}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def order_of(text: object) -> float:
    """Returns the number that a cell begins with, by which it is sorted; without one, the least."""
    found = re.match(r"\s*[≥<>±]?\s*([-−+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?)", str(text))
    return float(found[1].replace("−", "-").replace(",", "")) if found else -1e300


def _head(columns: list[object]) -> str:
    if not all(isinstance(column, tuple) for column in columns):
        cells = "".join(f'<th scope="col">{html.escape(str(column))}</th>' for column in columns)
        return f"<tr>{cells}</tr>"
    groups: list[tuple[str, int]] = []
    for group, _ in columns:
        if groups and groups[-1][0] == group:
            groups[-1] = (group, groups[-1][1] + 1)
        else:
            groups.append((group, 1))
    upper = "".join(
        f'<th scope="colgroup" colspan="{count}">{html.escape(str(group))}</th>'
        for group, count in groups
    )
    lower = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for _, name in columns)
    return f"<tr>{upper}</tr>\n<tr>{lower}</tr>"
