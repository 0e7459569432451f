"""Tables 1 to 12 of nsr from made tallies."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from medrobust.core.errors import InputError
from medrobust.evaluation import balanced
from medrobust.evaluation.tally import read_tally
from medrobust.reporting import comparison
from medrobust.reporting.rows import signed
from medrobust.studies.nsr import results as nsr_results
from medrobust.studies.nsr import tables as nsr
from medrobust.studies.nsr.results import (
    DATASET,
    LEVELS,
    METHODS,
    NOISE_LEVELS,
    PER_CLASS_DATASET,
    TABLES,
)

from tests.unit.drawing import draw
from tests.unit.nsr_files import (
    CONTEXT,
    every_model,
    labels_of,
    made_entry,
    made_outcomes,
    made_request,
    write_tally,
)

SIZES = (200, 12, 31, 8, 40)
PER_CLASS = 8


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    """Draws less: what is tested here does not depend on it."""
    monkeypatch.setattr(nsr_results, "RESAMPLES", 499)


@pytest.fixture(scope="module")
def published(root):
    return root / "resources/published/nsr.csv"


@pytest.fixture(scope="module")
def entries(tmp_path_factory, published):
    folder = tmp_path_factory.mktemp("nsr")
    labels = labels_of(SIZES)
    attacks = ("pgd20", "pgd100", "spsa")
    return [
        made_entry(folder, labels, model, attacks, published, per_class=PER_CLASS)
        for model in every_model()
    ]


def build(folder, published, entries, number=1, **more):
    request = made_request(
        folder, f"table{number}", published, entries, per_class=PER_CLASS, **more
    )
    draw("nsr", f"table{number}", request)
    return pd.read_csv(folder / f"table{number}.csv", dtype={"epsilon": str})


def test_the_twelve_tables_are_the_papers(published):
    frame = comparison.read_published(published, "nsr")
    names = {v: k for k, v in nsr_results.PRINTED_ATTACKS.items()}
    found = {
        (int(number), names[part["attack"].iloc[0]], part["method"].iloc[0][:3], metric)
        for (number, metric), part in frame.groupby(["table", "metric"])
    }
    assert found == {(t.number, t.attack, t.network, t.metric) for t in TABLES}
    assert len(frame) == 756
    for _, part in frame.groupby("table"):
        methods = list(dict.fromkeys(name.split(":")[1] for name in part["method"]))
        assert methods == list(METHODS)
        assert list(dict.fromkeys(part["epsilon"].astype(float))) == list(LEVELS)


def test_every_published_number_finds_its_reproduced_one(tmp_path, published, entries):
    for table in TABLES:
        build(tmp_path, published, entries, table.number)
    tables = [tmp_path / f"table{table.number}.csv" for table in TABLES]
    frame = comparison.build_comparison(
        "nsr", published, tables, tmp_path / "c", CONTEXT, {DATASET: "kaggle"}, nsr.remark
    )
    assert len(frame) == 756
    assert frame["reproduced"].notna().all() and frame["ci_low"].notna().all()
    assert set(frame["verdict"]) <= {"within interval", "outside interval"}
    assert (frame["verdict"] == "within interval").mean() > 0.5


def test_a_table_number_is_the_metric_on_the_tiled_set(tmp_path, published):
    metrics = pytest.importorskip("sklearn.metrics")
    labels = labels_of(SIZES)
    random = np.random.default_rng(5)
    clean, found = made_outcomes(labels, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], random)
    # Points that the level 0.1 loses again.
    found[0.1] = np.where(np.arange(labels.size) % 5 == 0, labels, found[0.1])
    tally = write_tally(tmp_path / "t.csv", labels, clean, found)
    entry = nsr_results.Entry(DATASET, "MLP:mse", "kaggle", 0, tallies={"pgd20": tally})
    shown = {
        table.metric: build(tmp_path, published, [entry], table.number)
        .query("method == 'MLP:mse'")
        .set_index("epsilon")
        for table in TABLES[:2]
    }
    repeats = np.repeat(np.arange(labels.size), balanced.tile_counts(labels))
    reached = {0.0: clean} | {e: np.where(clean != labels, clean, found[e]) for e in NOISE_LEVELS}
    for epsilon, prediction in reached.items():
        truth, said = labels[repeats], prediction[repeats]
        row = f"{epsilon:g}"
        assert shown["ACC"].loc[row, "reproduced"] == pytest.approx((truth == said).mean())
        wanted = metrics.precision_score(truth, said, average="macro", zero_division=0)
        assert shown["PREC"].loc[row, "reproduced"] == pytest.approx(wanted)
    row = shown["ACC"].loc["0.1"]
    assert row["ci_low"] < row["reproduced"] < row["ci_high"]
    assert (row["n"], row["replicates"], row["selection"]) == (291, 1, "test_set")
    assert row["difference"] == pytest.approx(row["reproduced"] - 0.14)
    assert row["attacked"] == (clean == labels).sum()
    assert row["queries_per_point"] == 10
    so_far = np.any([reached[e] != labels for e in NOISE_LEVELS[:4]], axis=0)
    weights = balanced.tile_counts(labels)
    assert row["worst_case"] == pytest.approx(((~so_far) * weights).sum() / weights.sum())
    assert row["non_monotone"] == (so_far & (reached[0.1] == labels)).sum() > 0


def test_what_was_not_run_is_never_a_number(tmp_path, published, entries):
    frame = build(tmp_path, published, entries[:1], 1).set_index(["method", "epsilon"])
    assert len(frame) == 63
    ran = frame.loc["MLP:ce"]
    assert ran["status"].eq("reproduced").all()
    rest = frame.drop(index="MLP:ce", level=0)
    assert rest["status"].eq("not run").all()
    numbers = ["reproduced", "ci_low", "ci_high", "n", "difference", "worst_case", "source"]
    assert rest[numbers].isna().all(axis=None) and rest["published"].notna().all()
    text = (tmp_path / "table1.md").read_text()
    assert text.count("| not run |") > 0 and '"not run": this run' in text
    empty = build(tmp_path, published, [], 12)
    assert empty["status"].eq("not run").all() and len(empty) == 63


def test_levels_that_were_not_attacked_say_so(tmp_path, published):
    labels = labels_of(SIZES)
    clean, found = made_outcomes(labels, [0.9] * 7, np.random.default_rng(0))
    some = {e: found[e] for e in (0.01, 0.1, 0.3)} | {0.15: found[0.1]}
    tally = write_tally(tmp_path / "t.csv", labels, clean, some)
    entry = nsr_results.Entry(DATASET, "CNN:ce", "kaggle", 0, tallies={"pgd100": tally})
    frame = build(tmp_path, published, [entry], 7)
    mine = frame[frame["method"] == "CNN:ce"].set_index("epsilon")
    assert list(mine.index) == ["0", "0.01", "0.03", "0.05", "0.1", "0.15", "0.2", "0.3"]
    absent = mine.loc[["0.03", "0.05", "0.2"]]
    assert absent["status"].eq("this noise level is not part of this run").all()
    assert absent["reproduced"].isna().all() and absent["source"].isna().all()
    assert (mine.loc["0.15", "origin"], mine.loc["0.01", "origin"]) == ("added", "paper")
    made = comparison.build_comparison(
        "nsr", published, [tmp_path / "table7.csv"], tmp_path / "c", CONTEXT, {DATASET: "kaggle"}
    )
    row = made[(made["artefact"] == "Table 7") & (made["row"] == "CNN:ce")].set_index("column")
    gone = row.loc[f"{DATASET}, epsilon 0.05"]
    assert (gone["verdict"], gone["reason"]) == (
        "not run",
        "this noise level is not part of this run",
    )


def test_spsa_is_read_on_its_own_points(tmp_path, published, entries):
    frame = build(tmp_path, published, entries, 9)
    assert set(frame["dataset"]) == {PER_CLASS_DATASET}
    assert set(frame["selection"]) == {"first_per_class"} and set(frame["n"]) == {40}
    text = (tmp_path / "table9.md").read_text()
    assert "40 test points, the first 8 of each class" in text
    assert "the paper: the first 162 of each class" in text
    # The clean row is of these points too, each counted once.
    cells = read_tally(entries[0].tallies["spsa"]).cells(0)
    row = frame[(frame["method"] == "MLP:ce") & (frame["epsilon"] == "0")].iloc[0]
    assert cells.points == 40 and set(cells.weight) == {1}
    matrix = balanced.confusion(cells, 5)
    assert row["reproduced"] == pytest.approx(np.trace(matrix) / 40)


def test_stand_ins_added_models_and_data_sets_are_set_apart(tmp_path, published):
    labels = labels_of(SIZES)
    clean, found = made_outcomes(labels, [0.9] * 7, np.random.default_rng(0))
    tally = write_tally(tmp_path / "t.csv", labels, clean, found)
    entry = nsr_results.Entry(DATASET, "MLP:ce", "standin", 0, tallies={"pgd20": tally})
    added = dataclasses.replace(entry, model="Linear")
    other = dataclasses.replace(entry, dataset="MIT-BIH, split by patient")
    frame = build(tmp_path, published, [entry, added, other], 1)
    assert set(frame.loc[frame["status"] == "reproduced", "data"]) == {"SYNTHETIC"}
    assert frame.loc[frame["method"] == "Linear", "origin"].eq("added").all()
    assert len(frame[frame["dataset"] == "MIT-BIH, split by patient"]) == 7
    text = (tmp_path / "table1.md").read_text()
    assert text.startswith("# SYNTHETIC DATA: Table 1.")
    assert "Added models, not in the paper" in text
    assert "added data set MIT-BIH, split by patient (SYNTHETIC)" in text


def test_two_selections_of_one_attack_are_refused(tmp_path, published):
    labels = labels_of(SIZES)
    clean, found = made_outcomes(labels, [0.9] * 7, np.random.default_rng(0))
    paths = [write_tally(tmp_path / f"{k}.csv", labels, clean, found, per_class=k) for k in (3, 5)]
    models = ("MLP:ce", "MLP:mse")
    mixed = [
        nsr_results.Entry(DATASET, model, "kaggle", 0, tallies={"spsa": path})
        for model, path in zip(models, paths, strict=True)
    ]
    with pytest.raises(InputError, match="first 5 of each class for MLP:mse, on other points"):
        build(tmp_path, published, mixed, 9)
    with pytest.raises(InputError, match="given twice"):
        build(tmp_path, published, [mixed[0], mixed[0]], 9)


def test_replicates_are_averaged(tmp_path, published):
    labels = labels_of(SIZES)
    entries = [
        made_entry(tmp_path, labels, "MLP:ce", ("pgd20",), published, seed=seed)
        for seed in range(3)
    ]
    frame = build(tmp_path, published, entries, 1).query("method == 'MLP:ce'")
    single = [
        build(tmp_path, published, [one], 1).query("method == 'MLP:ce'")["reproduced"].to_numpy()
        for one in entries
    ]
    assert np.allclose(frame["reproduced"], np.mean(single, axis=0))
    assert set(frame["replicates"]) == {3}
    assert set(frame["interval"]) == {
        "3 trainings, over points (Agresti-Coull within classes) and trainings (t)"
    }
    spread = np.std(single, axis=0, ddof=1)
    assert np.allclose(frame["sd"], spread)
    assert (frame["further_low"] <= frame["ci_low"]).all()
    build(tmp_path, published, entries, 1)
    text = (tmp_path / "table1.md").read_text()
    assert "Standard deviation between trainings" in text and "one further training" in text


def test_a_class_without_test_points_is_named_and_in_no_mean(tmp_path, published):
    """A perfect model of a test set without class F has PREC 1, and the table and figure say so."""
    labels = labels_of((200, 12, 31, 0, 40))
    tally = write_tally(tmp_path / "t.csv", labels, labels, dict.fromkeys(NOISE_LEVELS, labels))
    both = {"pgd20": tally, "pgd100": tally}
    entry = nsr_results.Entry(DATASET, "MLP:ce", "kaggle", 0, tallies=both)
    note = f"{DATASET}: no test point of class F; precision (PREC) is the mean over the other 4"
    for number in (1, 2):
        frame = build(tmp_path, published, [entry], number).query("method == 'MLP:ce'")
        for column in ("reproduced", "ci_high", "worst_case"):
            assert set(frame[column]) == {1.0}
        assert frame["ci_low"].between(0.8, 0.99).all()
        assert note in (tmp_path / f"table{number}.md").read_text()
    request = made_request(tmp_path, "figure1", published, [entry])
    draw("nsr", "figure1", request)
    facts = json.loads((tmp_path / "figure1.provenance.json").read_text())
    assert note in json.dumps(facts, ensure_ascii=False)
    whole = made_entry(tmp_path, labels_of(SIZES), "MLP:ce", ("pgd20",), published)
    build(tmp_path, published, [whole], 2)
    assert "no test point" not in (tmp_path / "table2.md").read_text()


def test_differences_outside_the_interval_are_starred(tmp_path, published):
    row = {"published": 0.5, "reproduced": 0.47, "ci_low": 0.45, "ci_high": 0.49}
    assert nsr.outside(row)
    # 0.5 stands for everything from 0.495 on.
    assert not nsr.outside(row | {"ci_high": 0.4951})
    assert signed(-0.0301, 3) == "−0.030" and signed(0.01, 3) == "+0.010"
    assert signed(-0.0001, 3) == "0.000"
