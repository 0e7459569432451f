"""The reading of nsr: rankings, best method, checks of the attacks."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.studies.nsr import reading as nsr_reading
from medrobust.studies.nsr import results as nsr_results
from medrobust.studies.nsr.results import LEVELS, METHODS, NOISE_LEVELS, read_printed, read_results

from tests.unit.drawing import draw
from tests.unit.nsr_files import every_model, labels_of, made_entry, made_request

SIZES = (120, 12, 31, 8, 40)
PER_CLASS = 8


@pytest.fixture(scope="module")
def published(root):
    return root / "resources/published/nsr.csv"


@pytest.fixture(scope="module")
def entries(tmp_path_factory, published):
    folder = tmp_path_factory.mktemp("nsr")
    labels = labels_of(SIZES)
    attacks = ("pgd20", "pgd100", "spsa", "noise")
    return [
        made_entry(folder, labels, model, attacks, published, per_class=PER_CLASS)
        for model in every_model(("MLP",))
    ]


@pytest.fixture(scope="module", autouse=True)
def fewer_resamples():
    """Draws less: what is tested here does not depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nsr_results, "RESAMPLES", 499)
        yield


@pytest.fixture(scope="module")
def page(tmp_path_factory, published, entries):
    """Returns the page's rows and text, of a run of the MLPs."""
    folder = tmp_path_factory.mktemp("page")
    return build(folder, published, entries), (folder / "reading.md").read_text()


def build(folder, published, entries, **more):
    request = made_request(folder, "reading", published, entries, per_class=PER_CLASS, **more)
    draw("nsr", "reading", request)
    return pd.read_csv(folder / "reading.csv", keep_default_na=False, na_values={"value": [""]})


# --- statistics ---


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=9))
def test_tau_is_the_count_of_ordered_pairs(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    agree = tied = [0, 0]
    agree, tied = 0, [0, 0]
    couples = list(itertools.combinations(range(len(pairs)), 2))
    for i, j in couples:
        a, b = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
        agree += a * b
        tied = [tied[0] + (a == 0), tied[1] + (b == 0)]
    scale = np.sqrt((len(couples) - tied[0]) * (len(couples) - tied[1]))
    tau = nsr_reading.kendall_tau(first, second)
    if scale == 0:
        assert tau is None
    else:
        assert tau == pytest.approx(agree / scale)


def test_ranks_share_the_better_place():
    values = {"a": 0.5, "b": 0.7, "c": 0.5, "d": 0.1}
    assert [nsr_reading.rank_of(values, name) for name in "abcd"] == [2, 1, 2, 4]


def test_best_is_strictly_above_all_others():
    draws = {"a": np.array([1, 2, 3, 4.0]), "b": np.array([0, 2, 4, 1.0]), "c": np.zeros(4)}
    assert nsr_reading.best_share(draws, "a") == 0.5
    assert nsr_reading.best_share(draws, "b") == 0.25


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.004, "<1 %"), (0.5, "50 %"), (0.996, ">99 %"), (0.99, "99 %"), (1, "100 %")],
)
def test_shares_do_not_round_to_never_or_always(share, text):
    assert nsr_reading.percent(share) == text


# --- checks ---


def accuracies(**curves):
    """Returns accuracies by attack, at LEVELS."""

    def values(model, attack, level):
        return curves[attack][LEVELS.index(level)] if attack in curves else None

    return values


FALLING = [0.9, 0.8, 0.7, 0.5, 0.3, 0.1, 0.02]


def moved(position, by):
    return [v + by if k == position else v for k, v in enumerate(FALLING)]


@pytest.mark.parametrize(
    ("name", "curves", "value", "suspect"),
    [
        ("100 steps against 20", {"pgd20": FALLING, "pgd100": FALLING}, 0, False),
        ("100 steps against 20", {"pgd20": FALLING, "pgd100": moved(4, 0.02)}, 0.02, True),
        ("20 steps enough", {"pgd20": moved(5, 0.2), "pgd100": FALLING}, 0.2, True),
        ("20 steps enough", {"pgd20": moved(5, 0.04), "pgd100": FALLING}, 0.04, False),
        ("SPSA against PGD", {"spsa": moved(3, -0.1), "pgd100": FALLING}, -0.1, True),
        ("SPSA against PGD", {"spsa": moved(3, -0.01), "pgd100": FALLING}, -0.01, False),
        ("noise against PGD", {"noise": moved(2, -0.05), "pgd100": FALLING}, -0.05, True),
        ("noise against PGD", {"noise": moved(2, 0.05), "pgd100": FALLING}, 0, False),
        ("falls with ε", {"pgd100": FALLING}, -0.08, False),
        ("falls with ε", {"pgd100": moved(5, 0.25)}, 0.05, True),
        ("near 0 at 0.3", {"pgd100": FALLING}, 0.02, False),
        ("near 0 at 0.3", {"pgd100": moved(6, 0.2)}, 0.22, True),
    ],
)
def test_each_check_finds_what_it_is_for(name, curves, value, suspect):
    check = next(one for one in nsr_reading.CHECKS if one.name == name)
    found = check.measure(accuracies(**curves), "m")
    assert found == pytest.approx(value, abs=1e-12)
    assert check.suspect(found) == suspect


def test_checks_of_what_was_not_run_say_so():
    for check in nsr_reading.CHECKS:
        assert check.measure(accuracies(pgd20=FALLING), "m") is None


# --- the page ---


def test_the_page_is_made_of_the_tables_numbers(tmp_path, published, entries, page):
    frame, text = page
    printed = read_printed(str(published))
    results = read_results(made_request(tmp_path, "x", published, entries))
    names = [f"MLP:{method}" for method in METHODS]
    tau = frame[(frame["quantity"] == "kendall tau") & (frame["network"] == "MLP")]
    assert len(tau) == 3 * 2 * len(LEVELS)
    stats = pytest.importorskip("scipy.stats")
    for row in tau.to_dict("records"):
        place = (row["attack"], row["metric"], float(row["epsilon"]))
        ours = [results.value(n, place[0], place[2], place[1]) for n in names]
        theirs = [printed[n, place[0], place[1], place[2]] for n in names]
        assert row["value"] == pytest.approx(stats.kendalltau(ours, theirs).statistic)
    cnn = frame[(frame["quantity"] == "kendall tau") & (frame["network"] == "CNN")]
    assert cnn["value"].isna().all() and set(cnn["source"]) == {""}
    checks = frame[frame["kind"] == "check"]
    assert len(checks) == 18 * (len(nsr_reading.CHECKS) + 1)
    assert set(checks.loc[checks["network"] == "CNN", "flag"]) == {"not run"}
    assert set(checks.loc[checks["network"] == "MLP", "flag"]) <= {"ok", "look"}
    gap = frame[(frame["kind"] == "networks")]
    assert gap["value"].isna().all() and (gap["published"] != "").all()
    assert "not run" in text and "one training of each model" in text
    assert "In print, near 0 at 0.3" in text


def test_spsa_is_checked_on_its_points(tmp_path, published, entries, page):
    frame, _ = page
    rows = frame[(frame["quantity"] == "SPSA against PGD") & (frame["method"] == "loss2")]
    value = rows.loc[rows["network"] == "MLP", "value"].iloc[0]
    results = read_results(made_request(tmp_path, "x", published, entries))
    model = "MLP:loss2"
    wanted = min(
        results.value(model, "spsa", level, "ACC")
        - results.value(model, "pgd100", level, "ACC", subset=True)
        for level in NOISE_LEVELS
    )
    assert value == pytest.approx(wanted)


def test_noise_is_told_as_mean_and_as_worst(page):
    frame, _ = page
    rows = frame[(frame["kind"] == "noise") & (frame["method"] == "ce")]
    wide = rows.pivot_table(index="epsilon", columns="quantity", values="value")
    assert len(wide) == len(NOISE_LEVELS)
    assert (wide["mean over draws"] > wide["worst of draws"]).all()


def test_lost_points_are_a_share_of_the_test_points(tmp_path, published, entries, page):
    frame, _ = page
    rows = frame[(frame["quantity"] == nsr_reading.NON_MONOTONE) & (frame["network"] == "MLP")]
    results = read_results(made_request(tmp_path, "x", published, entries))
    for row in rows.to_dict("records"):
        (tally,) = results.of("MIT-BIH(balanced test)", f"MLP:{row['method']}", "pgd100")
        last = tally.frame.query("reading == 'worst_case' and epsilon == 0.3")
        share = last["non_monotone"].sum() / sum(SIZES)
        assert row["value"] == pytest.approx(share)
        assert row["flag"] == ("look" if share > 0.01 else "ok")


def test_nothing_run_is_a_page_without_numbers(tmp_path, published):
    frame = build(tmp_path, published, [])
    assert frame["value"].isna().all()
    assert set(frame["kind"]) == {"ranking", "networks", "check"}


@pytest.mark.parametrize(
    ("words", "value", "text"),
    [
        ("", 0.5, "0.50"),
        ("", None, "–"),
        ("4 of 9 methods run", -0.25, "−0.25 (4)"),
        ("2 of 9 methods run", None, "not run"),
    ],
)
def test_an_order_of_few_methods_says_so(words, value, text):
    assert nsr_reading._tau_text({"words": words, "value": value}) == text
