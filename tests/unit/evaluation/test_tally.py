"""Tallies of attacks, held against loops over single points."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import balanced, tally
from medrobust.jobs.tally import tally_attack

from tests.unit.attack_records import clean_table, level_records

LEVELS = (0.01, 0.1, 0.3)
CLASSES = 3


def made(seed, n=40, runs=1, classes=CLASSES):
    """Returns clean predictions and the found predictions, ``[runs][level][n]``."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)])
    predictions = np.where(random.random(n) < 0.8, labels, random.integers(0, classes, n))

    def reached():
        other = (labels + random.integers(1, classes, n)) % classes
        return np.where(random.random(n) < 0.5, labels, other)

    found = [{e: reached() for e in LEVELS} for _ in range(runs)]
    ids = np.sort(random.choice(10 * n, n, replace=False))
    return clean_table(labels, predictions, ids), found


def joined(clean, found):
    return pd.concat(
        [level_records(clean, one, restart=r) for r, one in enumerate(found)], ignore_index=True
    )


def loop(clean, found, level, reading):
    """Returns (final prediction, success, non-monotone) of each point, the slow way."""
    rows = []
    for i, point in enumerate(clean.to_dict("records")):
        label, said = point["label"], point["prediction"]
        reached = []
        for e in LEVELS:
            hits = [one[e][i] for one in found if one[e][i] != label]
            reached.append(said if said != label else hits[0] if hits else label)
        upto = [r for e, r in zip(LEVELS, reached, strict=True) if e <= level]
        won = [r != label for r in upto]
        worst = next((r for r in upto if r != label), label)
        if reading == "attack":
            rows.append((upto[-1], not won[-1] and any(won)))
        else:
            gaps = any(any(won[:k]) and not won[k] for k in range(len(won)))
            rows.append((worst, gaps))
    return rows


def counted(frame, level, reading):
    rows = frame[(frame["reading"] == reading) & np.isclose(frame["epsilon"], level)]
    keys = ["label", "prediction", "tile_count"]
    return rows.groupby(keys)[["points", "non_monotone"]].sum().reset_index()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_a_tally_counts_what_a_loop_over_points_finds(seed, runs):
    clean, found = made(seed, runs=runs)
    frame = tally.make_tally(clean, joined(clean, found))
    weights = balanced.tile_counts(clean["label"].to_numpy())
    for level in LEVELS:
        for reading in ("attack", "worst_case"):
            rows = loop(clean, found, level, reading)
            wanted = pd.DataFrame(rows, columns=["prediction", "non_monotone"]).assign(
                label=clean["label"], tile_count=weights, points=1
            )
            keys = ["label", "prediction", "tile_count"]
            wanted = wanted.groupby(keys)[["points", "non_monotone"]].sum().reset_index()
            got = counted(frame, level, reading)
            pd.testing.assert_frame_equal(got, wanted, check_dtype=False)


def test_clean_rows_count_the_clean_predictions():
    clean, found = made(1)
    frame = tally.make_tally(clean, joined(clean, found))
    rows = frame[frame["epsilon"] == 0]
    assert set(rows["reading"]) == {"clean"} and set(rows["loss"]) == {""}
    assert rows["points"].sum() == len(clean)
    right = rows.loc[rows["label"] == rows["prediction"], "points"].sum()
    assert right == (clean["label"] == clean["prediction"]).sum()
    assert (rows[["attacked", "queries", "non_monotone"]] == 0).all(axis=None)


def test_several_runs_are_told_apart_from_their_worst():
    clean, found = made(2, runs=3)
    frame = tally.make_tally(clean, joined(clean, found))
    label, said = clean["label"].to_numpy(), clean["prediction"].to_numpy()
    correct = label == said
    for level in LEVELS:
        each = frame[(frame["reading"] == "each_run") & (frame["epsilon"] == level)]
        assert each["points"].sum() == 3 * len(clean) and set(each["runs"]) == {3}
        right = each.loc[each["label"] == each["prediction"], "points"].sum()
        assert right == sum(int((correct & (one[level] == label)).sum()) for one in found)
        worst = frame[(frame["reading"] == "attack") & (frame["epsilon"] == level)]
        kept = np.all([one[level] == label for one in found], axis=0)
        assert worst.loc[worst["label"] == worst["prediction"], "points"].sum() == int(
            (correct & kept).sum()
        )
    alone = tally.make_tally(clean, joined(clean, found[:1]))
    assert "each_run" not in set(alone["reading"])


def test_several_losses_count_as_one_attack():
    clean, found = made(3, runs=2)
    parts = [level_records(clean, one, loss=n) for n, one in zip("ba", found, strict=True)]
    frame = tally.make_tally(clean, pd.concat(parts, ignore_index=True))
    attacked = frame[frame["reading"] == "attack"]
    assert set(attacked["loss"]) == {"a+b"}
    label = clean["label"].to_numpy()
    # The loss that comes first in the alphabet says what a point is taken for.
    first = np.where(found[1][0.1] != label, found[1][0.1], found[0][0.1])
    reached = np.where(clean["prediction"] == label, first, clean["prediction"])
    got = attacked[attacked["epsilon"] == 0.1].groupby(["label", "prediction"])["points"].sum()
    wanted = pd.Series(1, index=[label, reached]).groupby(level=[0, 1]).sum()
    assert got.to_dict() == wanted.to_dict()


def test_efforts_are_sums_and_the_worst_case_pays_for_all_levels():
    clean, found = made(4, runs=2)
    frame = tally.make_tally(clean, joined(clean, found))
    per_level = frame.groupby(["reading", "epsilon"])[["queries", "gradient_evaluations"]].sum()
    correct = int((clean["label"] == clean["prediction"]).sum())
    for k, level in enumerate(LEVELS, start=1):
        assert per_level.loc[("attack", level), "queries"] == 2 * 10 * len(clean)
        assert per_level.loc[("attack", level), "gradient_evaluations"] == 2 * 7 * correct
        assert per_level.loc[("worst_case", level), "queries"] == k * 2 * 10 * len(clean)
        assert per_level.loc[("each_run", level), "queries"] == 2 * 10 * len(clean)
    rows = frame[(frame["reading"] == "attack") & (frame["epsilon"] == 0.1)]
    assert rows["attacked"].sum() == correct


def test_worst_and_attacked_levels_differ_by_the_lost_points():
    clean, found = made(5)
    frame = tally.make_tally(clean, joined(clean, found))

    def missed(reading, level):
        rows = frame[(frame["reading"] == reading) & (frame["epsilon"] == level)]
        return rows.loc[rows["label"] != rows["prediction"], "points"].sum()

    for level in LEVELS:
        rows = frame[(frame["reading"] == "attack") & (frame["epsilon"] == level)]
        lost = rows["non_monotone"].sum()
        assert missed("worst_case", level) - missed("attack", level) == lost
    assert frame["non_monotone"].sum() > 0


def test_the_subset_is_the_first_of_each_class(tmp_path):
    clean, found = made(6)
    shuffled = clean.sample(frac=1, random_state=0)
    frame = tally.make_tally(shuffled, joined(clean, found), subset_per_class=4)
    io.write_table(tmp_path / "t.csv", frame)
    read = tally.read_tally(tmp_path / "t.csv")
    cells = read.cells(0.1, subset=True)
    first = clean.groupby("label").head(4)
    assert cells.points == len(first) and set(cells.weight) == {1}
    label = clean["label"].to_numpy()
    reached = np.where(clean["prediction"] == label, found[0][0.1], clean["prediction"])
    wanted = np.zeros((CLASSES, CLASSES))
    np.add.at(wanted, (label[first.index], reached[first.index]), 1)
    assert np.array_equal(balanced.confusion(cells, CLASSES), wanted)


def test_an_attack_on_the_first_of_each_class_is_not_tiled(tmp_path):
    clean, found = made(7)
    first = clean.groupby("label").head(4)
    part = {e: p[first.index] for e, p in found[0].items()}
    frame = tally.make_tally(clean, level_records(first, part), subset_per_class=4)
    assert set(frame["selection"]) == {"first_per_class"} and set(frame["per_class"]) == {4}
    assert set(frame["tile_count"]) == {1} and frame["in_subset"].all()
    assert frame.loc[frame["epsilon"] == 0, "points"].sum() == len(first)
    assert set(frame["test_points"]) == {len(clean)}
    # The same points of an attack on all of them, read as the subset, say the same.
    every = tally.make_tally(clean, level_records(clean, found[0]), subset_per_class=4)
    assert set(every["selection"]) == {"test_set"} and set(every["per_class"]) == {0}
    both = []
    for name, one in {"part": frame, "all": every}.items():
        io.write_table(tmp_path / f"{name}.csv", one)
        cells = tally.read_tally(tmp_path / f"{name}.csv").cells(0.3, subset=True)
        both.append(balanced.confusion(cells, CLASSES))
    assert np.array_equal(*both)


def test_small_classes_give_all_they_have():
    labels = np.array([0] * 9 + [1] * 2)
    clean = clean_table(labels, labels)
    first = clean.groupby("label").head(5)
    frame = tally.make_tally(clean, level_records(first, {0.1: 1 - first["label"].to_numpy()}))
    assert set(frame["per_class"]) == {5}
    rows = frame[(frame["epsilon"] == 0.1) & (frame["reading"] == "attack")]
    assert rows["points"].sum() == 7


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda clean, records: (clean, records.iloc[:-1]), "incomplete"),
        (lambda clean, records: (clean, records.assign(epsilon=np.nan)), "radii"),
        (lambda clean, records: (clean.iloc[1:], records), "not in the test set"),
        (
            lambda clean, records: (
                clean,
                records[records["point_id"] != clean["point_id"].iloc[0]],
            ),
            "neither all test points nor the first",
        ),
        (
            lambda clean, records: (clean.assign(label=(clean["label"] + 1) % 3), records),
            "different labels",
        ),
        (
            lambda clean, records: (clean.assign(prediction=(clean["label"] + 1) % 3), records),
            "clean predictions of",
        ),
        (lambda clean, records: (clean.drop(columns="label"), records), "need a point_id"),
    ],
)
def test_what_does_not_fit_together_is_refused(spoil, message):
    clean, found = made(8)
    with pytest.raises(InputError, match=message):
        tally.make_tally(*spoil(clean, joined(clean, found)))


def test_one_clean_prediction_may_differ_and_is_counted():
    labels = np.repeat([0, 1], 50)
    clean = clean_table(labels, labels)
    records = level_records(clean, {0.1: labels})
    other = clean.assign(prediction=np.where(clean["point_id"] == 3, 1, clean["prediction"]))
    frame = tally.make_tally(other, records)
    assert set(frame["clean_mismatches"]) == {1}
    assert set(tally.make_tally(clean, records)["clean_mismatches"]) == {0}


def test_the_job_writes_what_is_read_again(tmp_path):
    clean, found = made(9)
    io.write_table(tmp_path / "clean.parquet", clean)
    records = joined(clean, found)
    chunks, timings = [], []
    half = records["point_id"] < records["point_id"].median()
    for k, part in enumerate((records[half], records[~half])):
        chunks.append(str(tmp_path / f"chunk{k}.parquet"))
        timings.append(str(tmp_path / f"chunk{k}.timing.json"))
        io.write_table(chunks[-1], part.reset_index(drop=True))
        io.write_json(timings[-1], {"device": "cpu", "hardware": "h", "versions": {}, "cpu_s": k})
    names = {"predictions": "clean.parquet", "out": "tally.csv", "made_with": "made.json"}
    names["outcomes"] = "outcomes.parquet"
    files = {key: str(tmp_path / name) for key, name in names.items()}
    tally_attack(**files, chunks=chunks, timings=timings, subset_per_class=5)
    assert io.read_json(tmp_path / "made.json") == [
        {"device": "cpu", "hardware": "h", "versions": {}}
    ]
    read = tally.read_tally(tmp_path / "tally.csv")
    assert read.levels == LEVELS and read.subset_per_class == 5
    assert read.readings == ("clean", "attack", "worst_case")
    wanted = tally.make_tally(clean, joined(clean, found), 5)
    pd.testing.assert_frame_equal(read.frame, wanted, check_dtype=False)
    assert read.cells(0.2) is None
    text = (tmp_path / "tally.csv").read_text()
    (tmp_path / "tally.csv").write_text(text.replace("epsilon,loss", "epsilon,lost", 1))
    with pytest.raises(InputError, match="not a tally"):
        tally.read_tally(tmp_path / "tally.csv")
    (tmp_path / "tally.csv").write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(InputError, match="contradicts itself"):
        tally.read_tally(tmp_path / "tally.csv")
    with pytest.raises(InputError, match="do not exist"):
        tally_attack(predictions="none.parquet", chunks=["r"], timings=[], out="o", made_with="m")


def test_marking_a_subset_changes_no_cell(tmp_path):
    clean, found = made(10)
    cells = []
    for subset in (None, 4):
        path = tmp_path / f"{subset}.csv"
        io.write_table(path, tally.make_tally(clean, joined(clean, found), subset))
        cells.append(tally.read_tally(path).cells(0.3))
    for name in ("label", "prediction", "weight", "count"):
        assert np.array_equal(getattr(cells[0], name), getattr(cells[1], name))


def test_every_column_is_documented(root):
    text = (root / "docs/nsr.md").read_text(encoding="utf-8")
    section = text[text.index("## tally.csv") : text.index("## Tables")]
    cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(tally.SCHEMA)
