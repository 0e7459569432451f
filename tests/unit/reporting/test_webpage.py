"""Web pages of tables: grouped heads, sections, escaping; checked with a parser."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from medrobust.reporting import webpage


class Cells(HTMLParser):
    """Collects the text of cells, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.spans: list[int] = []

    def handle_starttag(self, tag, attributes):
        if tag == "meta":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
            self.spans.append(int(dict(attributes).get("colspan", 1)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


def parsed(text: str) -> Cells:
    cells = Cells()
    cells.feed(text)
    assert not cells.open
    return cells


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=8)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4), texts)
def test_every_cell_arrives_as_it_was(rows, title):
    frame = pd.DataFrame(rows, columns=["model", "value"])
    page = parsed(webpage.page(title, webpage.table(frame, {}, [False, True]), banner=title))
    assert page.rows == [["model", "value"], *[list(row) for row in rows]]


def test_two_level_columns_get_a_grouped_head_and_sections_a_row():
    columns = pd.MultiIndex.from_tuples([("", "model"), ("A", "x"), ("A", "y"), ("B", "x")])
    frame = pd.DataFrame([list("abcd"), list("efgh")], columns=columns)
    cells = parsed(webpage.table(frame, {1: "added"}, [False] * 4))
    assert cells.rows[:2] == [["", "A", "B"], ["model", "x", "y", "x"]]
    assert cells.spans[:3] == [1, 2, 1]
    assert cells.rows[3] == ["added"] and cells.rows[4] == list("efgh")
