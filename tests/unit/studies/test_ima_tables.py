"""Tables, matrix and comparison of ima from made tallies."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import intervals
from medrobust.reporting import comparison, plotting, rows
from medrobust.reporting.request import Entry
from medrobust.studies.ima import results as ima_results
from medrobust.studies.ima import tables as ima
from medrobust.studies.ima.results import (
    TABLES,
    VALIDATION_LEVEL,
    read_printed,
    read_results,
    table_of,
)

from tests.unit.drawing import draw
from tests.unit.ima_files import (
    CONTEXT,
    COVID,
    FASHION,
    MOONS,
    SOURCES,
    SVHN,
    labels_of,
    made_entry,
    made_outcomes,
    made_request,
    write_tally,
)

LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def published(root):
    return root / "resources/published/ima.csv"


@pytest.fixture(scope="module")
def printed(published):
    return read_printed(str(published))


@pytest.fixture(scope="module")
def entries(tmp_path_factory, printed):
    """IMA and ce of each data set, on Moons in three trainings."""
    folder = tmp_path_factory.mktemp("ima")
    found = [
        made_entry(folder, printed, MOONS, m, attacks=["pgd_moons"], replicate=k, spread=0.02)
        for m in ("IMA", "ce")
        for k in range(3)
    ]
    wanted = [
        (FASHION, "IMA", ["pgd_fashion"]),
        (FASHION, "L2:IMA", ["pgd_fashion_l2"]),
        (FASHION, "ce", ["pgd_fashion", "pgd_fashion_l2"]),
        (SVHN, "ce", ["pgd_svhn"]),
        (SVHN, "L2:emax=10dEps", ["pgd_svhn_l2"]),
        (COVID, "rand0.1", ["pgd_covid"]),
    ]
    return found + [made_entry(folder, printed, d, m, attacks=a) for d, m, a in wanted]


def build(folder, published, entries, number, **more):
    request = made_request(folder, f"table{number}", published, entries, **more)
    draw("ima", f"table{number}", request)
    return pd.read_csv(folder / f"table{number}.csv", dtype={"epsilon": str})


def one_tally(folder, found, clean=None, dataset=MOONS, name="t", **more):
    labels = labels_of(dataset)
    clean = labels if clean is None else clean
    return write_tally(folder / f"{name}.csv", labels, clean, found, **more)


def test_the_tables_are_the_papers(printed):
    frame = printed.frame
    theirs = {
        (number, part["dataset"].iloc[0], part["norm"].iloc[0])
        for number, part in frame.groupby("table")
        if not number.isdigit() or int(number) <= 13
    }
    assert theirs == {(t.number, t.dataset, t.norm) for t in TABLES}
    mine = frame[frame["table"].isin([t.number for t in TABLES])]
    assert set(mine["attack"]) == {ima_results.PRINTED_ATTACK}
    assert set(mine["metric"]) == {ima_results.METRIC}


def test_a_row_is_of_the_model_that_was_trained_so():
    assert table_of("9").model("IMA") == "IMA" and table_of("10").model("IMA") == "L2:IMA"
    assert table_of("10").model("ce") == "ce"
    assert table_of("B1").model("beta=0.5") == table_of("C4").model("emax=60dEps") == "L2:IMA"
    assert table_of("C7").model("emax=60dEps") == "IMA"
    assert table_of("B2").model("beta=0.1") == "beta=0.1"


def test_every_published_number_is_listed_and_those_run_are_compared(
    tmp_path, published, printed, entries
):
    frames = [build(tmp_path, published, entries, table.number) for table in TABLES]
    for table, frame in zip(TABLES, frames, strict=True):
        mine = frame[frame["origin"] == "paper"]
        theirs = printed.frame[printed.frame["table"] == table.number]
        keys = ["dataset", "method", "metric", "attack", "norm", "epsilon"]
        assert set(map(tuple, mine[keys].to_numpy())) == set(map(tuple, theirs[keys].to_numpy()))
        assert list(dict.fromkeys(mine["method"])) == list(dict.fromkeys(theirs["method"]))
    paths = [tmp_path / f"table{table.number}.csv" for table in TABLES]
    made = comparison.build_comparison(
        "ima", published, paths, tmp_path / "c", CONTEXT, SOURCES, ima.remark
    )
    assert len(made) == len(printed.frame) == 763
    runs = made[made["verdict"] != "not run"]
    # Two models of Table 8, 9 and 10, one of 11 and 13, one row of B1, B2 and C4 to C6.
    assert len(runs) == 2 * 7 + 2 * 7 + 2 * 7 + 8 + 9 + 7 + 7 + 7 + 7 + 8
    assert set(runs["verdict"]) <= {"within interval", "outside interval"}
    segmentation = made[made["artefact"].isin([f"Table {k}" for k in range(14, 20)])]
    assert len(segmentation) == 130 and set(segmentation["verdict"]) == {"not run"}
    assert segmentation["reason"].str.endswith("is not part of this run").all()
    validation = made[made["column"].str.contains("val", regex=False)]
    assert len(validation) == 24
    ran = validation[(validation["row"] == "emax=60dEps") & (validation["artefact"] == "Table C4")]
    assert "validation points is not part" in ran["reason"].iloc[0]


def with_validation(folder, entry, n, right):
    accuracy = None if n == 0 else right / n
    path = folder / f"validation-{entry.replicate}-{right}.json"
    counts = {"n_train": 54000, "n_val": n, "n_test": 120, "validation_accuracy": accuracy}
    path.write_text(json.dumps(counts))
    return dataclasses.replace(entry, summary=str(path))


def test_validation_points_stand_beside_those_of_the_print(tmp_path, published, entries):
    trainings = [
        with_validation(tmp_path, dataclasses.replace(entries[6], replicate=k), 600, right)
        for k, right in enumerate((540, 528))
    ]
    frame = build(tmp_path, published, trainings, "C5").set_index(["method", "epsilon"])
    row = frame.loc[("emax=60dEps", VALIDATION_LEVEL)]
    assert (row["reproduced"], row["published"]) == (pytest.approx(0.89), 0.891)
    assert (row["n"], row["replicates"], row["selection"]) == (600, 2, "validation_set")
    assert (row["lowest"], row["highest"], row["published_in_spread"]) == (0.88, 0.9, "yes")
    assert row["ci_low"] < 0.89 < row["ci_high"] and pd.isna(row["worst_case"])
    text = (tmp_path / "tableC5.md").read_text()
    assert "clean accuracy on the 600 validation points" in text
    others = frame.drop(index="emax=60dEps", level=0)
    assert others["status"].eq("not run").all()


def test_impossible_validation_accuracies_are_refused(tmp_path, published, entries):
    broken = with_validation(tmp_path, entries[6], 600, 540.5)
    with pytest.raises(InputError, match="impossible with 600 validation points"):
        build(tmp_path, published, [broken], "C5")
    none = with_validation(tmp_path, entries[6], 0, 0)
    frame = build(tmp_path, published, [none], "C5").set_index(["method", "epsilon"])
    assert frame.loc[("emax=60dEps", VALIDATION_LEVEL), "status"] == ima.NO_VALIDATION


def test_a_number_is_the_plain_share_of_test_points(tmp_path, published, printed):
    """SVHN's classes differ in size, and no point counts more than once."""
    labels = labels_of(SVHN)
    random = np.random.default_rng(1)
    levels = printed.levels(table_of("11"))
    shares = dict(zip(levels, np.linspace(0.9, 0.2, len(levels)), strict=True))
    clean, found = made_outcomes(labels, shares, random)
    tally = one_tally(tmp_path, found, clean, SVHN, random=random)
    entry = Entry(SVHN, "MMA", "official", 0, tallies={"pgd_svhn": tally})
    frame = build(tmp_path, published, [entry], 11).set_index(["method", "epsilon"]).loc["MMA"]
    for level, prediction in {0.0: clean, **found}.items():
        reached = np.where(clean != labels, clean, prediction)
        row = frame.loc[f"{level:g}"]
        right = int((reached == labels).sum())
        assert row["reproduced"] == pytest.approx(right / labels.size)
        low, high = intervals.share_interval(right, labels.size)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
        assert row["attacked"] == (0 if level == 0 else (clean == labels).sum())
    assert (frame["n"] == labels.size).all() and (
        frame["status"] == "reproduced, one training"
    ).all()
    assert frame[["lowest", "highest", "sd", "published_in_spread"]].isna().all(axis=None)


def test_replicates_are_averaged_and_their_range_stands_beside(tmp_path, published, entries):
    frame = build(tmp_path, published, entries, 8).set_index(["method", "epsilon"])
    single = [
        build(tmp_path, published, [entry], 8).set_index(["method", "epsilon"])["reproduced"]
        for entry in entries[:3]
    ]
    for level in ("0", "0.1", "0.3"):
        row = frame.loc["IMA", level]
        values = [one.loc["IMA", level] for one in single]
        assert row["reproduced"] == pytest.approx(np.mean(values))
        assert (row["lowest"], row["highest"]) == pytest.approx((min(values), max(values)))
        assert row["sd"] == pytest.approx(np.std(values, ddof=1))
        assert row["status"] == "reproduced, mean of 3 trainings" and row["replicates"] == 3
        # Three numbers do not span where their mean lies: Student's t goes beyond them.
        wanted = 4.303 * row["sd"] / np.sqrt(3)
        assert row["reproduced"] - row["ci_low"] >= min(wanted, row["reproduced"]) - 1e-3
        assert row["further_low"] <= row["ci_low"] <= row["reproduced"] <= row["ci_high"]
    # The first of the made trainings has the printed accuracy, rounded to whole points.
    assert frame.loc[("IMA", "0.2"), "published_in_spread"] in ("yes", "no")
    text = (tmp_path / "table8.md").read_text()
    build(tmp_path, published, entries, 8)
    text = (tmp_path / "table8.md").read_text()
    assert "Lowest to highest training" in text and "one further training" in text
    two = build(tmp_path, published, entries[:2], 8).set_index(["method", "epsilon"])
    assert "2 trainings, over points alone" in two.loc[("IMA", "0.1"), "interval"]


def test_stars_mark_what_another_training_does_not_explain():
    row = {"published": 0.9, "reproduced": 0.95, "ci_low": 0.94, "ci_high": 0.96}
    three = row | {"further_low": 0.92, "further_high": 0.98}
    assert rows.star(three, 4) == "*"
    assert rows.star(three | {"published": 0.93}, 4) == ""  # outside the mean's interval alone
    assert rows.star(three | {"published": 0.92}, 2) == ""
    assert rows.star(row | {"further_low": None, "further_high": None}, 4) == ""


def test_what_was_not_run_is_never_a_number(tmp_path, published, entries):
    frame = build(tmp_path, published, entries[6:7], "C5").set_index(["method", "epsilon"])
    ours = frame.loc["emax=60dEps"]
    assert ours.drop(index=VALIDATION_LEVEL)["reproduced"].notna().all()
    rest = frame.drop(index="emax=60dEps", level=0)
    assert rest["status"].eq("not run").all()
    assert rest["reproduced"].isna().all() and rest["published"].notna().all()
    assert ours.loc[VALIDATION_LEVEL, "status"] == ima.NO_VALIDATION
    text = (tmp_path / "tableC5.md").read_text()
    assert "emax=60dEps is the model IMA of the main tables" in text
    empty = build(tmp_path, published, [], 13)
    assert empty["status"].eq("not run").all() and len(empty) == 99


def test_levels_and_points_that_differ_say_so(tmp_path, published):
    labels = labels_of(MOONS)
    found = {0.05: labels, 0.1: 1 - labels, 0.2: labels, 0.4: 1 - labels}
    tally = one_tally(tmp_path, found, per_class=40)
    entry = Entry(MOONS, "ce", "generated", 0, tallies={"pgd_moons": tally})
    frame = build(tmp_path, published, [entry], 8)
    mine = frame[frame["method"] == "ce"].set_index("epsilon")
    assert list(mine.index) == ["0", "0.05", "0.1", "0.15", "0.2", "0.25", "0.3", "0.4"]
    assert mine.loc[["0.15", "0.25", "0.3"], "status"].eq(ima.NO_LEVEL).all()
    assert (mine.loc["0.4", "origin"], mine.loc["0.2", "origin"]) == ("added", "paper")
    assert mine.loc["0.2", "non_monotone"] == 80 and mine.loc["0.2", "worst_case"] == 0
    assert mine.loc["0.2", "reproduced"] == 1 and mine.loc["0.2", "n"] == 80
    text = (tmp_path / "table8.md").read_text()
    assert "80 test points, the first 40 of each class; the paper: all test points." in text
    assert "80 of 80 points: ce at 0.2" in text and "on all 2,000 test points" not in text


def test_a_part_of_the_data_and_of_the_epochs_is_said(tmp_path, published):
    """Attacked are 80 points, all right without attack; of all 200, 150 are."""
    labels = labels_of(MOONS)
    tally = one_tally(tmp_path, dict.fromkeys(LEVELS, labels), per_class=40)
    summary = tmp_path / "clean.json"
    counts = {"n_train": 20000, "n_test": 200, "ensemble_accuracy": 0.75}
    summary.write_text(json.dumps(counts))
    entry = Entry(
        MOONS, "ce", "generated", 0, summary=str(summary), tallies={"pgd_moons": tally},
        training_points=500, epochs=3,
    )  # fmt: skip
    more = dataclasses.replace(entry, model="adv", epochs=5)
    frame = build(tmp_path, published, [entry, more], 8).set_index(["method", "epsilon"])
    assert frame.loc[("ce", "0"), ["reproduced", "clean_all"]].tolist() == [1, 0.75]
    assert frame.drop(index="0", level=1)["clean_all"].isna().all()
    text = (tmp_path / "table8.md").read_text()
    assert "trained on 500 of 20,000 training points, 3 to 5 epochs (the paper: 30)" in text
    assert "Without attack, on all 200 test points: adv 0.7500, ce 0.7500." in text
    assert "of one training" in text and "mean over trainings" not in text
    full = dataclasses.replace(entry, training_points=None, epochs=30)
    build(tmp_path, published, [full], 8)
    text = (tmp_path / "table8.md").read_text()
    assert "trained on all 20,000 training points, 30 epochs" in text
    assert "the paper: 30" not in text
    of_all = one_tally(tmp_path, dict.fromkeys(LEVELS, labels), name="whole")
    whole = dataclasses.replace(entry, tallies={"pgd_moons": of_all})
    assert build(tmp_path, published, [whole], 8)["clean_all"].isna().all()
    unknown = dataclasses.replace(entry, summary="")
    assert "at most 500 training points" in sample_of(tmp_path, published, unknown)


def sample_of(folder, published, entry):
    results = read_results(made_request(folder, "x", published, [entry]))
    return ima_results.sample_text(results, [table_of("8")])


def test_stand_ins_added_models_and_data_sets_are_set_apart(tmp_path, published):
    labels = labels_of(MOONS)
    tally = one_tally(tmp_path, dict.fromkeys(LEVELS, labels))
    entry = Entry(MOONS, "ce", "standin", 0, tallies={"pgd_moons": tally})
    added = dataclasses.replace(entry, model="wide IMA")
    other = dataclasses.replace(entry, dataset="Circles", model="wide IMA")
    frame = build(tmp_path, published, [entry, added, other], 8)
    assert set(frame.loc[frame["reproduced"].notna(), "data"]) == {"SYNTHETIC"}
    assert frame.loc[frame["method"] == "wide IMA", "origin"].eq("added").all()
    assert len(frame[frame["dataset"] == "Circles"]) == 7
    text = (tmp_path / "table8.md").read_text()
    assert text.startswith("# SYNTHETIC DATA: Table 8.")
    assert "Added models, not in the paper" in text and "added data set Circles" in text
    # Settings of IMA are rows of their own tables, not models added to the main ones.
    fashion = one_tally(
        tmp_path, dict.fromkeys(LEVELS, labels_of(FASHION)), dataset=FASHION, name="f"
    )
    beta = Entry(FASHION, "beta=0.1", "official", 0, tallies={"pgd_fashion": fashion})
    assert "beta=0.1" not in set(build(tmp_path, published, [beta], 9)["method"])
    assert build(tmp_path, published, [beta], "B2")["reproduced"].notna().sum() == 7


def test_two_selections_of_one_attack_and_two_results_of_one_are_refused(tmp_path, published):
    labels = labels_of(MOONS)
    paths = [
        one_tally(tmp_path, dict.fromkeys(LEVELS, labels), name=f"t{k}", per_class=k)
        for k in (3, 5)
    ]
    mixed = [
        Entry(MOONS, model, "generated", 0, tallies={"pgd_moons": path})
        for model, path in zip(("IMA", "ce"), paths, strict=True)
    ]
    with pytest.raises(InputError, match="first 5 of each class for ce, on other points for IMA"):
        build(tmp_path, published, mixed, 8)
    with pytest.raises(InputError, match="given twice"):
        build(tmp_path, published, [mixed[0], mixed[0]], 8)


def test_the_matrix_has_every_number_on_classification(tmp_path, published, entries, monkeypatch):
    monkeypatch.setitem(plotting._SETTINGS, "savefig.dpi", 50)
    draw("ima", "matrix", made_request(tmp_path, "matrix", published, entries))
    frame = pd.read_csv(tmp_path / "matrix.csv")
    facts = io.read_json(tmp_path / "matrix.provenance.json")
    assert len(frame) == 633 and facts["title"].startswith("All 633 numbers")
    ran = frame["reproduced"].notna()
    within = int((ran & ~frame["outside"]).sum())
    assert f"({within} of {int(ran.sum())} that ran)" in facts["caption"]
    assert "pgd_svhn_l2: norm l2" in facts["attack"]
    # In the order of their numbers, and with a key.
    picture = (tmp_path / "matrix.svg").read_text()
    numbers = re.findall(r"<!-- Table (\w+): ", picture)
    assert numbers == ["8", "9", "10", "11", "12", "13", "B1", "B2", "C4", "C5", "C6", "C7"]
    assert "<!-- published outside it -->" in picture and "<!-- not run -->" in picture


def test_a_share_has_a_width_at_its_ends(published, tmp_path):
    random = np.random.default_rng(0)
    draws = intervals.share_draws([(0, 400)], random, 20000)
    assert draws.min() >= 0 and 0.001 < np.quantile(draws, 0.975) < 0.01
    half = intervals.share_draws([(200, 400)], random, 20000)
    assert np.quantile(half, (0.025, 0.975)) == pytest.approx(
        intervals.share_interval(200, 400), abs=0.003
    )
    # From three trainings on their spread is added, by Student's t of two degrees of freedom.
    shares = [0.45, 0.5, 0.55]
    three = intervals.share_draws([(4e6 * s, 4_000_000) for s in shares], random, 20000)
    half = 4.303 * 0.05 / np.sqrt(3)
    assert np.quantile(three, (0.025, 0.975)) == pytest.approx((0.5 - half, 0.5 + half), abs=0.01)
    assert three.min() >= 0 and three.max() <= 1
    results = read_results(made_request(tmp_path, "x", published, []))
    assert results.estimate(MOONS, "IMA", "pgd_moons", 0.1) is None
