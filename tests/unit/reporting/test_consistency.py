"""The check of printed averages: the paper's known misprints, and made tables."""

import csv

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.reporting import consistency
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.comparison import PUBLISHED_COLUMNS, read_published
from medrobust.reporting.consistency import PrintedMean, check_printed_means
from medrobust.studies.signnet import tables as signnet

CONTEXT = RunContext("signnet", "paper", "code", "paper-code", "c", "h", {}, "none", 1, "test")
RULE = PrintedMean("mean", "T", ("dataset",), (("a",), ("b",)), ("all",))


def published(tmp_path, values, method="m"):
    path = tmp_path / "published.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(PUBLISHED_COLUMNS)
        for dataset, value in values.items():
            writer.writerow(["s", "T", dataset, method, "x", "none", "", "", value, "paper"])
    return path


def verdicts(tmp_path, values):
    frame = check_printed_means(read_published(published(tmp_path, values), "s"), [RULE])
    return frame["verdict"].tolist()


def test_the_papers_averages(root):
    numbers = read_published(root / "resources/published/signnet.csv", "signnet")
    frame = check_printed_means(numbers, signnet.PRINTED_MEANS)
    # 12 averages of images, 6 combined in two readings, 6 combined in Table IV.
    assert len(frame) == 12 + 6 + 6 + 6
    failing = frame[frame["verdict"] == consistency.DOES_NOT_FOLLOW]
    found = {
        (row.table, row.average, row.dataset, row.method): (row.printed, round(row.recomputed, 3))
        for row in failing.itertuples()
    }
    images = "average of the five images"
    averages = "combined average, from the printed averages"
    all_images = "combined average, from the ten images"
    assert found == {
        ("II", images, "chest_xray", "ResNet18"): ("0.5", 1.66),
        ("II", images, "chest_xray", "LeNet"): ("3.2", 2.02),
        ("II", images, "colorectal_histology", "SCD01"): ("24.1", 23.14),
        ("II", averages, "combined", "SCD01"): ("17.7", 18.2),
        ("II", all_images, "combined", "LeNet"): ("13", 12.41),
        ("II", all_images, "combined", "ResNet18"): ("11.8", 12.4),
    }


@pytest.mark.parametrize(
    "values, follows",
    [
        ({"a": "0.18", "b": "0.35", "all": "0.27"}, True),  # .265, rounded up
        ({"a": "0.18", "b": "0.35", "all": "0.26"}, True),  # .265, rounded down
        ({"a": "0.18", "b": "0.35", "all": "0.28"}, False),
        ({"a": "1", "b": "2.1", "all": "1.5"}, True),
        ({"a": "1", "b": "2.1", "all": "1.4"}, False),  # 1 among tenths is 1.0
        ({"a": "1", "b": "2", "all": "2"}, True),
        ({"a": "1", "b": "2", "all": "3"}, False),
    ],
)
def test_rounding_decides(tmp_path, values, follows):
    expected = consistency.FOLLOWS if follows else consistency.DOES_NOT_FOLLOW
    assert verdicts(tmp_path, values) == [expected]


@given(st.floats(0, 50), st.floats(0, 50), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_true_averages_always_follow(tmp_path_factory, a, b, decimals):
    def printed(value):
        # At least one number shows all decimals.
        return f"{value:.{decimals}f}"

    values = {"a": printed(a), "b": printed(b), "all": printed((a + b) / 2)}
    assert verdicts(tmp_path_factory.mktemp("p"), values) == [consistency.FOLLOWS]


@given(st.floats(0, 50), st.floats(0, 50), st.sampled_from([-1, 1]))
@settings(max_examples=40, deadline=None)
def test_averages_off_by_more_than_rounding_never_follow(tmp_path_factory, a, b, sign):
    a, b = round(a, 1), round(b, 1)
    values = {"a": f"{a:.1f}", "b": f"{b:.1f}", "all": f"{(a + b) / 2 + sign * 0.16:.1f}"}
    # .16 less the rounding of the average (.05) is more than the tolerance of .1.
    assert verdicts(tmp_path_factory.mktemp("p"), values) == [consistency.DOES_NOT_FOLLOW]


def test_missing_terms_and_unmatched_rules_are_errors(tmp_path):
    with pytest.raises(InputError, match=r"terms b .* are missing"):
        verdicts(tmp_path, {"a": "1", "all": "1"})
    with pytest.raises(InputError, match="matches no published number"):
        verdicts(tmp_path, {"c": "1", "d": "1"})
    numbers = read_published(published(tmp_path, {"a": "1"}), "s")
    with pytest.raises(InputError, match="no column 'nothing'"):
        check_printed_means(numbers, [PrintedMean("x", "T", ("nothing",), (), ())])


def test_averages_without_a_target_are_skipped(tmp_path):
    path = published(tmp_path, {"a": "1", "b": "2", "all": "1.5"})
    with open(path, "a") as file:
        file.write("s,T,a,other,x,none,,,7,paper\n")
    frame = check_printed_means(read_published(path, "s"), [RULE])
    assert frame["method"].tolist() == ["m"]


def test_artefact_lists_failures_in_print_and_all_in_csv(root, tmp_path):
    csv_path = root / "resources/published/signnet.csv"
    files = signnet.build_printed_averages(csv_path, tmp_path / "averages", CONTEXT)
    assert {file.name for file in files} == {
        "averages.csv",
        "averages.html",
        "averages.md",
        "averages.tex",
        "averages.provenance.json",
    }
    assert len(pd.read_csv(tmp_path / "averages.csv")) == 30
    text = (tmp_path / "averages.md").read_text()
    assert text.count("| Table II: ") == 6
    assert "6 of 30 printed averages" in text
    assert "published numbers alone" in text


def test_a_study_that_prints_no_averages_is_no_error(tmp_path):
    path = published(tmp_path, {"a": "1"})
    frame = check_printed_means(read_published(path), [])
    assert frame.empty and "verdict" in frame
