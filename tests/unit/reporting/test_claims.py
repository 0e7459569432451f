"""Claims: told to hold, told not to, or open, and never more than the results say."""

import html.parser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.evaluation import intervals, statistics
from medrobust.reporting import claims
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.claims import (
    CANNOT_TELL,
    COMBINED,
    DOES_NOT_HOLD,
    HOLDS,
    OVERALL,
    Claim,
    Finding,
    Statement,
    all_of,
    any_of,
    between,
    mean_above_zero,
    open_statement,
    printed_between,
    verdict_of,
)

PAPER = RunContext("s", "paper", "code", "paper-code", "c", "h", {}, "none", 1, "test")
LAPTOP = RunContext("s", "laptop", "code", "laptop-code", "c", "h", {}, "none", 1, "test")
TRUE = Statement("true", 0.001, 1.0, "T 1")
FALSE = Statement("false", 1.0, 0.001, "F 2")
OPEN = Statement("open", 0.4, 1.0, "O 3")


def rng(seed=0):
    return np.random.default_rng(seed)


# --- joining statements ---


@pytest.mark.parametrize(
    "parts, every, one",
    [
        ([TRUE, TRUE], HOLDS, HOLDS),
        ([TRUE, OPEN], CANNOT_TELL, HOLDS),
        ([TRUE, FALSE], DOES_NOT_HOLD, HOLDS),
        ([OPEN, OPEN], CANNOT_TELL, CANNOT_TELL),
        ([OPEN, FALSE], DOES_NOT_HOLD, CANNOT_TELL),
        ([FALSE, FALSE], DOES_NOT_HOLD, DOES_NOT_HOLD),
        ([FALSE, open_statement("not run", "why")], DOES_NOT_HOLD, CANNOT_TELL),
    ],
)
def test_all_and_any(parts, every, one):
    assert verdict_of(all_of(parts)) == every
    assert verdict_of(any_of(parts)) == one
    assert verdict_of(all_of(reversed(parts))) == every


probabilities = st.floats(0, 1)
leaves = st.builds(Statement, st.text("abc", max_size=3), probabilities, probabilities)
trees = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda parts, every: (all_of if every else any_of)(parts),
        st.lists(inner, min_size=1, max_size=4),
        st.booleans(),
    ),
    max_leaves=8,
)


def negated(statement):
    parts = getattr(statement, "parts", ())
    if not parts:
        return Statement(statement.label, statement.p_against, statement.p_for)
    return (any_of if statement.every else all_of)([negated(part) for part in parts])


@given(trees)
@settings(max_examples=100, deadline=None)
def test_not_all_is_any_not(tree):
    other = negated(tree)
    assert (other.p_for, other.p_against) == (tree.p_against, tree.p_for)
    assert {leaf.label for leaf in other.leaves()} == {leaf.label for leaf in tree.leaves()}
    assert set(tree.deciding(against=False)) <= set(tree.leaves())


def test_chance_alone_seldom_tells_anything():
    # All of eight statements are as true as untrue: each p uniform. One of them is clear at .05
    # in 34 % of all runs; the joined statement may be told untrue in 5 % only.
    random = rng(3)
    told = 0
    for draw in random.random((4000, 8)):
        sides = random.random(8) < 0.5
        parts = [
            Statement("s", p if side else 1.0, 1.0 if side else p)
            for p, side in zip(draw, sides, strict=True)
        ]
        told += verdict_of(all_of(parts)) != CANNOT_TELL
    assert told / 4000 <= 0.05


def test_one_clear_statement_among_many_must_be_clearer():
    against = Statement("s", 1.0, 0.02)
    assert verdict_of(all_of([against])) == DOES_NOT_HOLD
    assert verdict_of(all_of([against, TRUE])) == DOES_NOT_HOLD  # 2 x .02
    assert verdict_of(all_of([against, TRUE, TRUE])) == CANNOT_TELL  # 3 x .02


# --- single statements ---


def test_a_mean_is_above_zero_if_test_and_interval_say_so():
    differences = rng(1).normal(0.5, 0.3, 21)
    found = mean_above_zero("a above b", differences, rng(), decimals=2)
    p, _ = statistics.signed_rank_p(differences)
    assert (found.p_for, found.p_against) == (p, 1.0) and p < 0.001
    low, high = intervals.mean_interval(differences, generator=rng())
    assert f"{differences.mean():.2f} [{low:.2f}, {high:.2f}]" in found.figures
    other = mean_above_zero("b above a", -differences, rng(), decimals=2)
    assert (other.p_for, other.p_against) == (1.0, p)


def test_differences_that_are_all_equal_are_judged_by_the_test_alone():
    found = mean_above_zero("a above b", np.full(12, 0.25), rng(), decimals=2)
    assert found.p_for == statistics.smallest_p(12) and found.p_against == 1.0
    few = mean_above_zero("a above b", np.full(4, 0.25), rng(), decimals=2)
    assert few.undecided


def test_an_outlier_alone_decides_nothing():
    # The signed-rank test says "below", the mean is above 0: neither is told.
    differences = np.append(np.full(20, -0.1) - rng(2).random(20) / 100, 9.0)
    assert differences.mean() > 0
    assert statistics.signed_rank_p(differences)[0] < 0.05
    found = mean_above_zero("a above b", differences, rng(), decimals=2)
    assert (found.p_for, found.p_against) == (1.0, 1.0)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_few_points_decide_nothing(n):
    differences = np.linspace(1, 2, n)
    found = mean_above_zero("a above b", differences, rng(), decimals=2)
    assert verdict_of(found) == CANNOT_TELL
    assert f"{n} differing point" in found.undecided
    draws = rng().normal(1, 0.01, 999)
    short = between("a", 1.0, draws, 0, np.inf, n=n, decimals=1)
    assert verdict_of(short) == CANNOT_TELL and "too few" in short.undecided
    assert verdict_of(between("a", 1.0, draws, 0, np.inf, n=6, decimals=1)) == HOLDS


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_censored_points_decide_nothing(bad):
    found = mean_above_zero("a above b", np.append(np.ones(20), bad), rng(), decimals=2)
    assert verdict_of(found) == CANNOT_TELL
    assert found.undecided == "1 of 21 points have no adversarial example"


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.0, np.inf, HOLDS),
        (-np.inf, 0.0, DOES_NOT_HOLD),
        (0.5, 1.5, HOLDS),
        (0.95, 1.05, CANNOT_TELL),
        (1.5, 2.0, DOES_NOT_HOLD),
        (-1.0, 0.5, DOES_NOT_HOLD),
        (1.0, np.inf, CANNOT_TELL),
        (-np.inf, 1.5, HOLDS),
    ],
)
def test_a_quantity_between_bounds(low, high, expected):
    draws = rng(4).normal(1.0, 0.1, 9999)
    found = between("x", 1.0, draws, low, high, n=21, decimals=2, unit=" points")
    assert verdict_of(found) == expected
    # The verdict is that of the interval which is printed.
    ends = np.quantile(draws, (0.025, 0.975))
    inside, outside = low <= ends[0] and ends[1] <= high, ends[1] < low or ends[0] > high
    assert (verdict_of(found) == HOLDS, verdict_of(found) == DOES_NOT_HOLD) == (inside, outside)
    assert found.figures == f"x: 1.00 [{ends[0]:.2f}, {ends[1]:.2f}] points"
    assert min(found.p_for, found.p_against) >= 0 and max(found.p_for, found.p_against) <= 1
    if np.isfinite([low, high]).all():
        assert found.p_for >= 2 / 10_000


def test_an_infinite_draw_is_no_error():
    draws = np.append(np.full(9990, 3.0), np.full(9, np.inf))
    assert "3.00 [3.00, 3.00]" in between("x", 3.0, draws, 1, 2, n=9, decimals=2).figures


@pytest.mark.parametrize(
    "lowest, highest, expected",
    [
        (0.01, 0.03, HOLDS),
        (0.0, 0.02, HOLDS),
        (-0.01, 0.01, CANNOT_TELL),
        (-0.02, 0.0, DOES_NOT_HOLD),
        (0.39 - 0.35 - 0.01, 0.39 - 0.35 + 0.01, HOLDS),
        (0.1 - 0.09 - 0.01, 0.1 - 0.09 + 0.01, HOLDS),  # not exact in binary
    ],
)
def test_print_tells_up_to_its_rounding(lowest, highest, expected):
    assert verdict_of(printed_between("a", lowest, highest, 0.0, np.inf)) == expected


# --- rows ---


def claim(name="c", statement=TRUE, datasets=("A",), n=21, replicates=3, **more):
    def judge(results, dataset):
        found = statement(results, dataset) if callable(statement) else statement
        return Finding(found, n, replicates, notes=more.get("notes", ()))

    printed = more.get("printed")
    return Claim(name, "words of the paper", "Section 1", "this.", judge, datasets, printed)


def judged(*made, sources=None, context=PAPER, **more):
    sources = {"A": "kaggle", "B": "kaggle"} if sources is None else sources
    return claims.judge_claims(made, "results", sources, context, **more)


def test_a_row_says_what_was_found():
    frame = judged(claim(notes=("a note",)))
    row = frame.iloc[0]
    assert list(frame.columns) == list(claims.COLUMNS) and len(frame) == 1
    assert (row["verdict"], row["figures"], row["n"], row["replicates"]) == (HOLDS, "T 1", 21, 3)
    assert row["reason"] == "a note" and row["source"] == "kaggle"
    assert (row["scale"], row["protocol"]) == ("paper", "code")


def test_reasons_name_what_decided():
    several = all_of([TRUE, OPEN, FALSE])
    fails = judged(claim(statement=several)).iloc[0]
    assert fails["verdict"] == DOES_NOT_HOLD and fails["reason"] == "not so: false"
    assert fails["figures"] == "T 1; O 3; F 2"
    undecided = all_of([TRUE, OPEN, open_statement("other", "CNN was not run")])
    still = judged(claim(statement=undecided)).iloc[0]
    assert still["reason"] == "open: open, other (CNN was not run)"
    weak = all_of([TRUE, TRUE, Statement("weak", 1.0, 0.03)])
    reason = judged(claim(statement=weak)).iloc[0]["reason"]
    assert reason == "against it, but not clear among so many: weak"
    clear = all_of([TRUE, Statement("less", 0.02)])
    assert judged(claim(statement=clear)).iloc[0]["reason"] == "least clear: less (p = 0.020)"
    alone = judged(claim(statement=open_statement("it", "nobody knows"), datasets=())).iloc[0]
    assert (alone["verdict"], alone["reason"]) == (CANNOT_TELL, "nobody knows")


def test_data_sets_get_a_verdict_each_and_one_together():
    def by_dataset(results, dataset):
        assert results == "results"
        return {"A": TRUE, "B": FALSE, "C": OPEN}[dataset]

    def verdicts(*datasets):
        sources = dict.fromkeys("ABC", "kaggle")
        frame = judged(claim(statement=by_dataset, datasets=datasets), sources=sources)
        return dict(zip(frame["dataset"], frame["verdict"], strict=True))

    assert verdicts("A") == {"A": HOLDS}
    assert verdicts("A", "B") == {"A": HOLDS, "B": DOES_NOT_HOLD, OVERALL: DOES_NOT_HOLD}
    assert verdicts("A", "C")[OVERALL] == CANNOT_TELL
    assert verdicts("C", "B")[OVERALL] == DOES_NOT_HOLD
    frame = judged(claim(datasets=("A", "B")), sources={"A": "kaggle", "B": "physionet"})
    assert frame["verdict"].tolist() == [HOLDS] * 3
    assert frame["source"].tolist() == ["kaggle", "physionet", "kaggle+physionet"]
    assert frame["reason"].iloc[2] == "A: holds; B: holds"


def test_what_was_not_run_cannot_be_told():
    def never(results, dataset):
        assert dataset == "A"
        return TRUE

    made = claim(statement=never, datasets=("A", "B", COMBINED), printed=lambda d: FALSE)
    frame = judged(made, sources={"A": "kaggle"}).set_index("dataset")
    assert frame["verdict"].to_dict() == {
        **{"A": HOLDS, "B": CANNOT_TELL, COMBINED: CANNOT_TELL},
        OVERALL: CANNOT_TELL,
    }
    for name in ("B", COMBINED):
        assert frame.loc[name, "reason"] == "B is not part of this run"
        assert pd.isna(frame.loc[name, "n"]) and frame.loc[name, "source"] == ""
    # What the printed numbers say does not depend on the run.
    assert frame["in_print"].eq(DOES_NOT_HOLD).all()
    assert judged(made, sources={}).loc[2, "reason"] == "A and B are not part of this run"


def test_stand_ins_are_never_judged():
    frame = judged(claim(datasets=("A", "B")), sources={"A": "standin", "B": "kaggle"})
    assert frame["verdict"].tolist() == [CANNOT_TELL, HOLDS, CANNOT_TELL]
    assert frame["reason"].iloc[0] == "stand-in data, evidence of nothing"
    assert frame["figures"].iloc[0] == "T 1"
    both = claim(datasets=("A", "B", COMBINED))
    frame = judged(both, sources={"A": "standin", "B": "kaggle"}).set_index("dataset")
    assert frame.loc[COMBINED, "verdict"] == CANNOT_TELL
    assert frame.loc[COMBINED, "source"] == "standin+kaggle"


def test_limits_are_told_with_every_verdict():
    def remark(dataset, source):
        return f"{dataset} is {source}"

    made = claim(statement=all_of([OPEN, OPEN]), datasets=("A", "B"), replicates=1)
    sources = {"A": "subset", "B": "kaggle"}
    frame = judged(made, sources=sources, context=LAPTOP, remark=remark)
    first = frame["reason"].iloc[0]
    assert first.startswith("open: open; one training of each model")
    assert "a subset of the release; A is subset; scale laptop" in first
    assert "subset of the release" not in frame["reason"].iloc[1]
    assert frame["reason"].str.contains("scale laptop, not the published amounts").all()
    assert "one training" not in judged(claim(replicates=2))["reason"].iloc[0]
    assert "scale" not in judged(made, sources=sources)["reason"].iloc[0]


def test_a_claim_without_data_needs_no_run():
    printed = judged(claim(statement=FALSE, datasets=(), n=None, replicates=None), context=LAPTOP)
    row = printed.iloc[0]
    assert (row["verdict"], row["dataset"], row["source"]) == (DOES_NOT_HOLD, "", "")
    assert row["reason"] == ""


# --- files ---


def build(tmp_path, made, sources, context=PAPER, inputs=()):
    return claims.build_claims(
        made, "results", tmp_path / "claims", context, sources, budget="HSJ", inputs=inputs
    )


def test_files_say_the_same(tmp_path):
    quote = '<b>"a|b" & *c*'
    made = [
        Claim("x", quote, "Section 1", "this <i>.", lambda r, d: Finding(TRUE, 21, 1), ("A", "B")),
        claim("y", statement=FALSE),
        claim("z", statement=open_statement("s", "nobody knows"), datasets=()),
    ]
    source = tmp_path / "records.csv"
    source.write_text("1")
    files = build(tmp_path, made, {"A": "kaggle"}, LAPTOP, [source])
    assert [f.name.split(".", 1)[1] for f in files] == ["csv", "html", "md", "provenance.json"]
    frame = pd.read_csv(files[0], keep_default_na=False)
    assert list(frame.columns) == list(claims.COLUMNS) and len(frame) == 5
    assert frame["quote"].iloc[0] == quote
    page, text = files[1].read_text(), files[2].read_text()
    assert "3 claims. holds: 0, does not hold: 1, cannot tell: 2." in page
    assert "3 claims. holds: 0, does not hold: 1, cannot tell: 2." in text
    assert "<b>&quot;a" not in page and "&lt;b&gt;&quot;a|b&quot; &amp; *c*" in page
    # Once in the list of all claims, and once in the table of its own.
    assert page.count("<tr>") == (1 + 3) + (3 + 5)
    assert page.count('class="within"') == 1 and page.count('class="outside"') == 1 + 1
    assert "nobody knows" in text and r"a\|b" in text
    for shown in (page, text):
        assert "scale laptop" in shown and "SYNTHETIC" not in shown

    class Closed(html.parser.HTMLParser):
        """Refuses tags that close nothing."""

        open_tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

    parser = Closed()
    parser.feed(page)
    assert not parser.open_tags


def test_files_of_stand_ins_are_marked(tmp_path):
    files = build(tmp_path, [claim()], {"A": "standin"})
    for file in files[1:3]:
        assert "SYNTHETIC" in file.read_text()
    with pytest.raises(InputError, match="unknown"):
        build(tmp_path, [claim()], {"A": "kagle"})
    with pytest.raises(InputError, match="does not exist"):
        build(tmp_path, [claim()], {"A": "kaggle"}, inputs=[tmp_path / "none"])


@pytest.mark.parametrize(
    "p, text", [(0.0, "< 0.0001"), (2e-4, "= 0.0002"), (0.0099, "= 0.0099"), (0.0312, "= 0.031")]
)
def test_p_values_as_text(p, text):
    assert claims.p_text(p) == f"p {text}"


def test_a_difference_of_nothing_is_on_no_side():
    zero = np.zeros(999)
    tie = claims.draws_above_zero("x", 0.0, zero, n=50, decimals=3)
    assert (tie.p_for, tie.p_against) == (1.0, 1.0)
    draws = np.random.default_rng(0).normal(1, 1, 9999)
    statement = claims.draws_above_zero("x", 1.0, draws, n=50, decimals=3)
    assert statement.p_for == pytest.approx(2 * (draws <= 0).mean(), abs=3e-4)
    assert statement.p_against == 1.0
    mirrored = claims.draws_above_zero("x", -1.0, -draws, n=50, decimals=3)
    assert (mirrored.p_for, mirrored.p_against) == (1.0, statement.p_for)
    assert claims.draws_above_zero("x", 1.0, draws, n=3, decimals=3).undecided


# --- one point ---


def test_of_one_point_no_interval_is_told():
    draws = np.array([1.0, 2.0, 3.0])
    told = [
        claims.between("a ratio", 2.0, draws, 1.5, 2.5, n=1, decimals=2),
        claims.draws_above_zero("a difference", 2.0, draws, n=1, decimals=2),
    ]
    assert [one.figures for one in told] == ["a ratio: 2.00", "a difference: 2.00"]
    assert [one.undecided for one in told] == ["1 point is too few for a test"] * 2
    alone = claims.mean_above_zero("a mean", [2.0], np.random.default_rng(0), decimals=2)
    assert alone.figures.startswith("a mean: difference 2.00, p = 1.0")
    same = claims.mean_above_zero("a mean", [2.0] * 3, np.random.default_rng(0), decimals=2)
    assert "difference 2.00 [2.00, 2.00]" in same.figures
