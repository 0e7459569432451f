"""Web pages of tables: grouped heads, sections, escaping; checked with a parser."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from medrobust.reporting import webpage

from tests import browser


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


def table_page(folder, frame, sections):
    file = folder / "page.html"
    numeric = [False] + [True] * (frame.shape[1] - 1)
    file.write_text(webpage.page("t", webpage.table(frame, sections, numeric)), encoding="utf-8")
    return file


SHOWN = """() => [...document.querySelectorAll("tbody tr")]
    .filter((row) => row.offsetParent !== null).map((row) => row.cells[0].innerText)"""


def expect_rows(page, expected):
    """Waits until these are the first cells of the rows: a table is drawn some time after a click.

    The rows are read in one go, since one by one they may move in between.
    """
    end = time.monotonic() + 20
    while (rows := page.evaluate(SHOWN)) != expected and time.monotonic() < end:
        page.wait_for_timeout(50)
    assert rows == expected


def test_a_table_is_sorted_by_its_numbers_and_searched(tmp_path):
    numbers = ["0.915 ± .007", "–", "≥ 10", "−2", "1,200", "9"]
    frame = pd.DataFrame({"model": list("abcdef"), "value": numbers})
    with browser.opened(table_page(tmp_path, frame, {})) as page:
        page.locator("table.dataTable").wait_for()
        expect_rows(page, list("abcdef"))
        head = page.locator("thead th").nth(1)
        head.click()
        expect_rows(page, list("bdafce"))
        head.click()
        expect_rows(page, list("ecfadb"))
        page.get_by_label("Search").fill("915")
        expect_rows(page, ["a"])


def test_sorting_keeps_sections_together_and_in_order(tmp_path):
    frame = pd.DataFrame({"model": list("abcdef"), "value": list("213546")})
    with browser.opened(table_page(tmp_path, frame, {0: "first", 3: "second"})) as page:
        page.locator("table.dataTable").wait_for()
        expect_rows(page, ["first", *"abc", "second", *"def"])
        page.locator("thead th").nth(1).click()
        expect_rows(page, ["first", *"bac", "second", *"edf"])
        page.locator("thead th").nth(1).click()
        expect_rows(page, ["first", *"cab", "second", *"fde"])


def test_two_level_heads_are_sorted_too(tmp_path):
    columns = pd.MultiIndex.from_tuples([("", "model"), ("A", "x"), ("A", "y")])
    frame = pd.DataFrame([list("a15"), list("b93"), list("c04")], columns=columns)
    with browser.opened(table_page(tmp_path, frame, {1: "added"})) as page:
        page.locator("table.dataTable").wait_for()
        page.locator("thead tr").nth(1).locator("th").nth(2).click()
        expect_rows(page, ["a", "added", "b", "c"])


def test_a_page_without_tables_has_no_script():
    assert "<script" not in webpage.page("t", "<p>text</p>")


@given(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)))
def test_a_number_is_found_in_its_cell(number):
    text = f"{number:,.3f}".replace("-", "−")
    assert webpage.order_of(f"{text} [0.1, 0.2]") == number
    assert webpage.order_of(f"≥ {text}*") == number
