"""Reading tables: what was written comes back; what cannot be used is named by row and column."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.formats.csv_tables import Form, column_names, column_of, read_table

NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=64)
#: Any text of a cell: with separators, quotes, line ends and letters of all kinds.
TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n"), min_size=1, max_size=9
).map(lambda text: f"a{text}z")
NAMES = st.lists(TEXT, min_size=3, max_size=5, unique_by=str.strip)


@st.composite
def tables(draw):
    names = draw(NAMES)
    rows = draw(st.integers(1, 6))
    label = draw(st.integers(0, len(names) - 1))
    cells = [
        [draw(TEXT) if c == label else draw(NUMBER) for c in range(len(names))] for _ in range(rows)
    ]
    return names, label, cells, draw(st.sampled_from([",", ";", "\t"])), draw(st.booleans())


@settings(max_examples=60, deadline=None)
@given(tables(), st.booleans())
def test_what_was_written_is_read(table, mark):
    names, label, cells, separator, header = table
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with open(path, "w", encoding="utf-8-sig" if mark else "utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=separator, lineterminator="\n")
            writer.writerows([names, *cells] if header else cells)
        form = Form(header=header, separator=separator)
        known = column_names(path, form)
        assert known == (
            [n.strip() for n in names] if header else list(map(str, range(len(names))))
        )
        others = [c for c in range(len(names)) if c != label]
        read = read_table(path, form, others, [label])
    assert read.numbers.tolist() == [[row[c] for c in others] for row in cells]
    assert read.texts[known[label]].tolist() == [row[label].strip() for row in cells]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.sampled_from(["", "x", "nan", "inf", "-inf", "1_0", "NA", "null", "1,5", "--1", " "]),
)
def test_a_cell_that_is_no_finite_number_is_named(size, bad):
    rows, wrong = size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "class"])
            for row in range(1, rows + 1):
                writer.writerow([row, bad if row == wrong else 0.5, "x"])
        with pytest.raises(InputError) as caught:
            read_table(path, Form(), [0, 1], [2])
    said = str(caught.value)
    assert "1 cell or row is not usable" in said and "column b" in said
    assert f"row {wrong}" in said


def write(tmp_path, text: str) -> Path:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "This file is empty"),
        ("a,b\n", "no rows of data"),
        ("a,a\n1,2\n", "Several columns are called 'a'"),
        ("a,b\n1,2\n3\n", "rows of another length than 2 cells: row 2 has 1"),
        ("a,b\n1,2\n3,4,5\n", "row 2 has 3"),
        (b"a,b\n1,\xff\n", "not UTF-8"),
        ("a,b\n" + "x,1\n" * 30, "column a: no number: row 1 'x'; row 2 'x'"),
    ],
)
def test_a_file_that_is_no_table_says_why(tmp_path, text, says):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_table(path, Form(), [0, 1], [])
    assert says in str(caught.value) and str(path) in str(caught.value)


def test_faults_of_a_kind_are_counted_together(tmp_path):
    path = write(tmp_path, "a,b\n" + "x,1\n" * 30 + "1,\n")
    with pytest.raises(InputError) as caught:
        read_table(path, Form(), [0, 1], [])
    said = str(caught.value)
    assert (
        "31 cells" in said and "row 4 'x' and 26 more" in said and "column b: empty: row 31" in said
    )


def test_decimal_commas_are_read_where_they_are_told(tmp_path):
    path = write(tmp_path, "a;b\n1,5;2\n-0,25;1e3\n")
    read = read_table(path, Form(separator=";", decimal=","), [0, 1], [])
    assert read.numbers.tolist() == [[1.5, 2.0], [-0.25, 1000.0]]
    with pytest.raises(InputError, match="decimal"):
        read_table(path, Form(separator=";"), [0, 1], [])


def test_columns_by_name_and_number(tmp_path):
    path, names = tmp_path / "t.csv", ["age", "weight", "class"]
    assert [column_of(names, c, path=path, key="label") for c in ("age", 0, -1, 2)] == [0, 0, 2, 2]
    with pytest.raises(InputError, match="Did you mean 'weight'"):
        column_of(names, "wieght", path=path, key="label")
    for wrong in (3, -4):
        with pytest.raises(InputError, match=f"no column {wrong}: the file has 3"):
            column_of(names, wrong, path=path, key="label")


def test_a_large_file_is_read_quickly_and_as_it_is(tmp_path):
    x = np.random.default_rng(0).normal(size=(5000, 20)).round(6)
    path = tmp_path / "t.csv"
    np.savetxt(path, x, "%.6f", ",")
    read = read_table(path, Form(header=False), list(range(20)), [])
    np.testing.assert_array_equal(read.numbers, x)
