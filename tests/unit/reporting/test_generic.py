"""Generic tables and curves, on made results whose numbers are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation.statistics import MIN_REPLICATES, upper_bound_text
from medrobust.evaluation.tally import make_tally
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.catalogue import function_of
from medrobust.reporting.comparison import NOT_RUN, OUTSIDE, WITHIN, build_comparison
from medrobust.reporting.generic import GENERIC
from medrobust.reporting.generic_results import distance_estimate, norm_of
from medrobust.reporting.request import Entry, Request
from scipy.stats import t

from tests.unit.attack_records import clean_table, level_records

CONTEXT = RunContext("mine", "laptop", "code", "laptop-code", "c", "h", {}, "none", 3, "snakemake")
ATTACKS = {
    "pgd": {"name": "pgd", "num_steps": 3, "grid": {"epsilon": [0.1, 0.2]}},
    "pgd_l2": {"name": "pgd", "norm": "l2", "grid": {"epsilon": [0.1, 0.2]}},
    "near": {"name": "hopskipjump", "norm": 2},
}
N = 20


def write_summary(path, right: int, n: int = N) -> str:
    facts = {"n_test": n, "ensemble_accuracy": right / n, "members": 4, "vote": "soft"}
    path.write_text(json.dumps(facts), encoding="utf-8")
    return str(path)


def write_tally(path, right: int, fooled: tuple[int, int], n: int = N) -> str:
    """Writes a tally: so many points right, of these so many fooled at each level."""
    labels = np.arange(n) % 2
    wrong = 1 - labels
    place = np.arange(n)
    clean = clean_table(labels, np.where(place < right, labels, wrong))
    found = {
        epsilon: np.where(place < count, wrong, labels)
        for epsilon, count in zip((0.1, 0.2), fooled, strict=True)
    }
    io.write_table(path, make_tally(clean, level_records(clean, found)))
    return str(path)


def write_records(path, distances, ids=None, wrong: int = 0) -> str:
    """Writes records of a boundary attack: NaN where it failed; the last ``wrong`` are wrong."""
    distances = np.asarray(distances, dtype=float)
    label = np.zeros(distances.size, dtype=int)
    clean = clean_table(label, np.where(np.arange(label.size) >= label.size - wrong, 1, 0), ids)
    frame = level_records(clean, {1.0: np.where(np.isnan(distances), 0, 1)}, loss=None)
    frame["epsilon"] = np.nan
    hit = frame["clean_prediction"] == frame["label"]
    for column, scale in (("l1", 3.0), ("l2", 1.0), ("linf", 0.5), ("l2_final_iterate", 2.0)):
        frame[column] = np.where(hit, scale * distances, 0.0)
    io.write_table(path, frame)
    return str(path)


def request_of(folder, name: str, entries, **more) -> Request:
    return Request(
        entries=entries,
        published=more.pop("published", ""),
        out_stem=str(folder / name),
        context=CONTEXT,
        attack={"name": "pgd"},
        attacks=ATTACKS,
        **more,
    )


def drawn(folder, name: str, entries, **more) -> pd.DataFrame:
    """Draws a generic artefact and returns its CSV."""
    request = request_of(folder, name, entries, **more)
    files = function_of(GENERIC[name].draw)(request)
    assert all(file.is_file() for file in files)
    return pd.read_csv(folder / f"{name}.csv", dtype={"epsilon": str, "table": str})


def robust_entries(folder, folds: int = 1, trainings: int = 1, source: str = "kaggle"):
    """Returns entries of two models; training r of fold f has f + r more points fooled."""
    return [
        Entry(
            "images",
            model,
            source,
            replicate,
            tallies={
                attack: write_tally(
                    folder / f"{model}{fold}{replicate}{attack}.csv",
                    18,
                    (2 + fold + replicate + k, 6 + fold + replicate + k),
                    # The folds of a data set need not be of one size.
                    N + 2 * fold,
                )
                for attack in ("pgd", "pgd_l2")
            },
            summary=write_summary(
                folder / f"{model}{fold}{replicate}.json", 18 - fold, N + 2 * fold
            ),
            fold=fold,
        )
        for k, model in enumerate(("plain", "strong"))
        for fold in range(folds)
        for replicate in range(trainings)
    ]


def t_ends(values) -> list[float]:
    k = len(values)
    half = t.ppf(0.975, k - 1) * np.std(values, ddof=1) / np.sqrt(k)
    return [np.mean(values), max(0, np.mean(values) - half), min(1, np.mean(values) + half)]


# --- shares ---


def test_one_training_has_an_interval_over_points(tmp_path):
    frame = drawn(tmp_path, "robust_accuracy", robust_entries(tmp_path))
    row = frame.set_index(["method", "attack", "epsilon"]).loc["plain", "pgd", "0.2"]
    assert (
        row["reproduced"] == 12 / 20 and row["n"] == 20 and "over points alone" in row["interval"]
    )
    assert row[["ci_low", "ci_high"]].tolist() == pytest.approx([0.3860, 0.7817], abs=1e-4)
    assert list(frame.groupby("attack")["norm"].first()) == ["Linf", "L2"]
    assert row["data"] == "real" and row["attacked"] == 18 and np.isnan(row["lowest"])
    text = (tmp_path / "robust_accuracy.md").read_text(encoding="utf-8")
    assert "0.600 \\[0.386, 0.782\\]" in text and "images, pgd\\_l2 (L2)" in text
    assert "one training, over points alone (Agresti-Coull). An interval over points says" in text
    assert "Bengio" not in text


def test_three_trainings_have_an_interval_over_trainings(tmp_path):
    entries = robust_entries(tmp_path, trainings=MIN_REPLICATES)
    row = drawn(tmp_path, "robust_accuracy", entries).iloc[2]
    assert row["reproduced"] == pytest.approx(np.mean([12, 11, 10]) / 20)
    assert (row["lowest"], row["highest"], row["replicates"]) == (0.5, 0.6, 3)
    assert row["interval"] == "3 trainings, over points (Agresti-Coull) and trainings (t)"
    assert row["sd"] == pytest.approx(0.05)
    assert row["further_low"] < row["ci_low"] < 0.55 - 4.303 * 0.05 / np.sqrt(3)
    text = (tmp_path / "robust_accuracy.md").read_text(encoding="utf-8")
    assert "An interval over points" not in text


@pytest.mark.parametrize("trainings", [1, 2])
def test_folds_are_averaged_whatever_their_size(tmp_path, trainings):
    entries = robust_entries(tmp_path, folds=4, trainings=trainings)
    frame = drawn(tmp_path, "robust_accuracy", entries)
    row = frame[frame["method"] == "strong"].set_index(["attack", "epsilon"]).loc["pgd", "0.1"]
    shares = [
        np.mean([(18 - 3 - fold - r) / (20 + 2 * fold) for r in range(trainings)])
        for fold in range(4)
    ]
    found = row[["reproduced", "ci_low", "ci_high"]].tolist()
    assert found == pytest.approx(t_ends(shares))
    each = f", mean of {trainings} trainings each" if trainings > 1 else ""
    assert row["interval"] == f"t over 4 folds{each}, at least as wide as over points"
    assert row[["n", "folds", "replicates"]].tolist() == [20 + 22 + 24 + 26, 4, trainings]
    text = (tmp_path / "robust_accuracy.md").read_text(encoding="utf-8")
    assert "t over 4 folds" in text and "Bengio and Grandvalet 2004" in text
    assert "4 folds, in turn of 20 test points, 22 test points" in text

    clean = drawn(tmp_path, "accuracy", entries).iloc[0]
    shares = [(18 - fold) / (20 + 2 * fold) for fold in range(4)]
    assert clean[["reproduced", "ci_low", "ci_high"]].tolist() == pytest.approx(t_ends(shares))
    assert clean["interval"] == row["interval"] and clean["members"] == 4


def test_one_fold_of_several_has_an_interval_over_points(tmp_path):
    entries = [entry for entry in robust_entries(tmp_path, folds=2) if entry.fold == 1]
    for name in ("accuracy", "robust_accuracy"):
        frame = drawn(tmp_path, name, entries)
        assert set(frame["interval"]) == {"one training, over points alone (Agresti-Coull)"}
        assert set(frame["folds"]) == {1}


def test_results_that_are_given_twice_are_refused(tmp_path):
    entries = robust_entries(tmp_path)
    with pytest.raises(InputError, match="fold 0, replicate 0, are given twice"):
        drawn(tmp_path, "accuracy", [*entries, entries[0]])


def test_tallies_of_other_points_of_a_fold_are_refused(tmp_path):
    entries = robust_entries(tmp_path, folds=2)
    other = write_tally(tmp_path / "other.csv", 18, (1, 1), N + 4)
    entries[1] = replace(entries[1], tallies={"pgd": other})
    with pytest.raises(InputError, match="other points"):
        drawn(tmp_path, "robust_accuracy", entries)


def test_curves_have_the_numbers_of_the_table(tmp_path):
    entries = robust_entries(tmp_path, folds=2, source="standin")
    table = drawn(tmp_path, "robust_accuracy", entries)
    curves = drawn(tmp_path, "robust_curves", entries)
    columns = ["reproduced", "ci_low", "ci_high", "folds", "interval", "n"]
    pd.testing.assert_frame_equal(curves[columns], table[columns])
    assert set(curves["data"]) == {"SYNTHETIC"}
    facts = json.loads((tmp_path / "robust_curves.provenance.json").read_text(encoding="utf-8"))
    assert "t over 2 folds" in facts["caption"] and "Dashed" not in facts["caption"]


def test_without_attacks_within_a_ball_a_figure_says_so(tmp_path):
    entries = [replace(entry, tallies={}) for entry in robust_entries(tmp_path)]
    assert list(drawn(tmp_path, "robust_curves", entries)["status"]) == [
        "not run: the attacks within a ball"
    ]
    assert drawn(tmp_path, "robust_accuracy", entries).empty


def test_published_numbers_stand_beside_those_of_the_run(tmp_path):
    rows = [
        "study,table,dataset,method,metric,attack,norm,epsilon,value,source",
        "mine,2,images,plain,accuracy,pgd,Linf,0.20,0.95,made up",
        "mine,1,images,plain,accuracy,none,,,0.85,made up",
    ]
    (tmp_path / "print.csv").write_text("\n".join(rows), encoding="utf-8")
    entries = robust_entries(tmp_path)
    published = str(tmp_path / "print.csv")
    frame = drawn(tmp_path, "robust_accuracy", entries, published=published)
    row = frame.set_index(["method", "attack", "epsilon"]).loc["plain", "pgd", "0.2"]
    assert (row["table"], row["published"], row["origin"]) == ("2", 0.95, "paper")
    assert row["difference"] == pytest.approx(0.6 - 0.95)
    assert (frame["origin"] == "paper").sum() == 1
    text = (tmp_path / "robust_accuracy.md").read_text(encoding="utf-8")
    # One training: that print is another one may be all that differs, so nothing is marked.
    assert "−0.350 |" in text and "published, images, pgd (L∞)" in text
    several = robust_entries(tmp_path, trainings=MIN_REPLICATES)
    drawn(tmp_path, "robust_accuracy", several, published=published)
    text = (tmp_path / "robust_accuracy.md").read_text(encoding="utf-8")
    assert "−0.400\\*" in text and "with fewer than three trainings nothing is marked" in text
    clean = drawn(tmp_path, "accuracy", entries, published=published).iloc[0]
    assert (clean["table"], clean["published"]) == ("1", 0.85)
    drawn(tmp_path, "robust_curves", entries, published=published)
    facts = json.loads((tmp_path / "robust_curves.provenance.json").read_text(encoding="utf-8"))
    assert "Dashed: the published numbers." in facts["caption"]


def test_the_comparison_finds_numbers_in_generic_tables(tmp_path):
    rows = [
        "study,table,dataset,method,metric,attack,norm,epsilon,value,source",
        "mine,2,images,plain,accuracy,pgd,Linf,0.20,0.6,made up",
        "mine,2,images,strong,accuracy,pgd,Linf,0.20,0.95,made up",
        "mine,1,images,plain,accuracy,none,,,0.9,made up",
        "mine,3,images,gone,accuracy,none,,,0.9,made up",
    ]
    (tmp_path / "print.csv").write_text("\n".join(rows), encoding="utf-8")
    published = str(tmp_path / "print.csv")
    entries = robust_entries(tmp_path)
    for name in ("accuracy", "robust_accuracy"):
        drawn(tmp_path, name, entries, published=published)
    tables = [tmp_path / "accuracy.csv", tmp_path / "robust_accuracy.csv"]
    sources = {"images": "kaggle"}
    made = build_comparison("mine", published, tables, tmp_path / "compared", CONTEXT, sources)
    assert list(made["verdict"]) == [WITHIN, OUTSIDE, WITHIN, NOT_RUN]


# --- distances ---


def near_entry(folder, distances, fold=0, replicate=0, model="plain", **more) -> Entry:
    path = write_records(folder / f"{model}{fold}{replicate}.parquet", distances, **more)
    return Entry("images", model, "kaggle", replicate, attack_records={"near": path}, fold=fold)


def test_distances_of_one_training(tmp_path):
    values = np.linspace(0.1, 2.0, 20)
    frame = drawn(tmp_path, "distances", [near_entry(tmp_path, values, wrong=1)])
    median, mean = (frame[frame["metric"] == f"{of}_distance"].iloc[0] for of in ("median", "mean"))
    expected = np.append(values[:-1], 0.0)
    assert median["reproduced"] == pytest.approx(np.median(expected))
    assert mean["reproduced"] == pytest.approx(np.mean(expected))
    assert mean["ci_low"] < mean["reproduced"] < mean["ci_high"]
    assert mean["interval"] == "one training, over points alone (bootstrap t)"
    assert (mean["norm"], mean["misclassified"], mean["queries_per_point"]) == ("L2", 1, 10)
    assert mean["restarts"] == 1
    text = (tmp_path / "distances.md").read_text(encoding="utf-8")
    assert text.count(upper_bound_text([1])) == 1


def test_distances_are_in_the_norm_of_the_attack(tmp_path):
    entries = [near_entry(tmp_path, [1.0, 2.0, 3.0])]
    request = request_of(tmp_path, "distances", entries)
    attacks = {**ATTACKS, "near": {"name": "hopskipjump", "norm": "inf"}}
    function_of(GENERIC["distances"].draw)(replace(request, attacks=attacks))
    frame = pd.read_csv(tmp_path / "distances.csv")
    assert list(frame["reproduced"]) == [1.0, 1.0] and set(frame["norm"]) == {"Linf"}


def test_failed_attacks_bound_what_is_not_defined(tmp_path):
    frame = drawn(tmp_path, "distances", [near_entry(tmp_path, [1.0, 2.0, 3.0, np.nan])])
    median, mean = frame.iloc[0], frame.iloc[1]
    assert median["reproduced"] == 2.5 and np.isnan(mean["reproduced"])
    assert mean["lower_bound"] == pytest.approx(1.5) and mean["censored"] == 1
    assert mean["status"] == "censored: 1 of 4 points have no adversarial example"
    assert "≥ 1.500" in (tmp_path / "distances.md").read_text(encoding="utf-8")


def test_distances_over_folds(tmp_path):
    folds = [np.array([1.0, 2.0, 6.0]), np.array([2.0, 3.0]), np.array([1.0, 3.0, 5.0])]
    entries = [near_entry(tmp_path, values, fold=k) for k, values in enumerate(folds)]
    frame = drawn(tmp_path, "distances", entries)
    for row, of in ((frame.iloc[0], np.median), (frame.iloc[1], np.mean)):
        values = [of(one) for one in folds]
        half = t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
        expected = [np.mean(values), max(0, np.mean(values) - half), np.mean(values) + half]
        assert row[["reproduced", "ci_low", "ci_high"]].tolist() == pytest.approx(expected)
        assert (row["interval"], row["n"], row["folds"]) == ("t over 3 folds", 8, 3)


def test_a_fold_without_a_number_leaves_none_over_folds():
    folds = {0: [np.array([1.0, 2.0])], 1: [np.array([3.0, np.inf])]}
    made = distance_estimate(folds, "mean", np.random.default_rng(0))
    assert made.value is made.ci_low is None and made.censored == 1
    assert made.lower_bound == pytest.approx((1.5 + 1.5) / 2) and made.folds == 2


def test_two_trainings_on_different_points_are_refused(tmp_path):
    one = near_entry(tmp_path, [1.0, 2.0], ids=[3, 4])
    other = near_entry(tmp_path, [1.0, 2.0], ids=[3, 5], replicate=1)
    with pytest.raises(InputError, match="attacked different points"):
        drawn(tmp_path, "distances", [one, other])


def test_norms_of_attacks():
    assert norm_of({"norm": "l2"}, "Linf") == norm_of({"norm": 2}, "Linf") == "L2"
    assert norm_of({"norm": "inf"}, "L2") == norm_of({}, "Linf") == "Linf"
