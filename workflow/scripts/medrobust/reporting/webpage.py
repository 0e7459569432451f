"""Self-contained web pages for tables: one look, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.banner { border: 3px solid #7a1f7a; background: #f6e6f6; padding: .7rem 1rem; font-weight: 700; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; }
caption { text-align: left; padding: .2rem 0; color: #444; }
th, td { border: 1px solid #b9b9b9; padding: .35rem .55rem; text-align: left; vertical-align: top; }
ul { padding-left: 1.2rem; }
thead th { background: #f0f0f0; } tbody th { background: #f7f7f7; white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; }
tr.section th { background: #fff; font-style: italic; }
td b { font-weight: 600; } td .v { display: block; font-size: .78rem; font-weight: 600; }
td .r { display: block; font-size: .75rem; }
.within { background: #cfe4f7; } .outside { background: #fbd9b5; }
.cannot { background: #fff6c4; } .notrun { background: #ededed; color: #4a4a4a; }
.synthetic { background: repeating-linear-gradient(45deg, #f3def3 0 8px, #faf0fa 8px 16px); }
""".strip()


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
        f"<title>{html.escape(title)}</title>\n<style>\n{_CSS}\n</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{html.escape(title)}</h1>\n{warning}{body}\n</main>\n</body>\n</html>\n"
    )


def table(frame: pd.DataFrame, sections: Mapping[int, str], numeric: list[bool]) -> str:
    """Returns a frame of text as an HTML table; two-level columns get a grouped head.

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
            f'<td class="number">{html.escape(str(cell))}</td>'
            if is_number
            else f"<td>{html.escape(str(cell))}</td>"
            for cell, is_number in zip(row[1:], numeric[1:], strict=True)
        )
        rows.append(f'<tr><th scope="row">{html.escape(str(row[0]))}</th>{cells}</tr>')
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table>\n<thead>{_head(list(frame.columns))}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


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
