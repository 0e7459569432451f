"""Sentences of a study's file, on made results whose verdicts are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.evaluation import intervals
from medrobust.evaluation.tally import make_tally
from medrobust.reporting.artefacts import FailedTraining, RunContext
from medrobust.reporting.claims import CANNOT_TELL, DOES_NOT_HOLD, HOLDS, OVERALL
from medrobust.reporting.generic_claims import draw_claims
from medrobust.reporting.request import Entry, Request

from tests.unit.attack_records import clean_table, level_records

CONTEXT = RunContext("mine", "laptop", "code", "laptop-code", "c", "h", {}, "none", 3, "snakemake")
ATTACKS = {
    "pgd": {"name": "pgd", "num_steps": 3, "grid": {"epsilon": [0.1, 0.2]}},
    "near": {"name": "hopskipjump", "norm": 2},
}
HEADER = "study,table,dataset,method,metric,attack,norm,epsilon,value,source\n"
N = 100


def summary(path, right: int, n: int) -> str:
    facts = {"n_test": n, "n_train": 4 * n, "ensemble_accuracy": right / n}
    path.write_text(json.dumps(facts), encoding="utf-8")
    return str(path)


def tally(path, right: int, left: tuple[int, int], n: int) -> str:
    """Writes a tally: so many points right, so many of them left at each level."""
    labels = np.arange(n) % 2
    place = np.arange(n)
    clean = clean_table(labels, np.where(place < right, labels, 1 - labels))
    found = {
        epsilon: np.where(place < count, labels, 1 - labels)
        for epsilon, count in zip((0.1, 0.2), left, strict=True)
    }
    io.write_table(path, make_tally(clean, level_records(clean, found)))
    return str(path)


def records(path, distances, first: int = 0) -> str:
    distances = np.asarray(distances, dtype=float)
    label = np.zeros(distances.size, dtype=int)
    clean = clean_table(label, label, first + np.arange(distances.size))
    frame = level_records(clean, {1.0: np.where(np.isnan(distances), 0, 1)}, loss=None)
    frame["epsilon"] = np.nan
    for column, scale in (("l1", 3.0), ("l2", 1.0), ("linf", 0.5), ("l2_final_iterate", 1.0)):
        frame[column] = scale * distances
    io.write_table(path, frame)
    return str(path)


def entries(folder, left: dict[str, list[tuple[int, int]]], n: int = N, **more) -> list[Entry]:
    """Returns entries of models; of each and each fold the points left at the two levels."""
    clean = more.pop("clean", n)
    return [
        Entry(
            more.get("dataset", "points"),
            model,
            more.get("source", "kaggle"),
            more.get("replicate", 0),
            tallies={"pgd": tally(folder / f"{model}{fold}.csv", clean, each, n)},
            summary=summary(folder / f"{model}{fold}.json", clean, n),
            fold=fold,
        )
        for model, folds in left.items()
        for fold, each in enumerate(folds)
    ]


def near(folder, distances: dict[str, list], **more) -> list[Entry]:
    return [
        Entry(
            "points",
            model,
            "kaggle",
            replicate,
            summary=summary(folder / f"{model}.json", 90, N),
            attack_records={"near": records(folder / f"{model}{replicate}.parquet", each, **more)},
        )
        for model, several in distances.items()
        for replicate, each in enumerate(several)
    ]


def said(test: str, model: str = "strong", attack: str | None = "pgd", levels=(0.1,), **more):
    facts = {"sentence": "It is so", "where": "here", "datasets": ["points"], "test": test}
    facts |= {"model": model, "attack": attack, "levels": list(levels), "than": [], "value": 0.0}
    return facts | more


def judged(folder, results, published: str = "", context=CONTEXT, **claims) -> pd.DataFrame:
    request = Request(
        entries=results,
        published=published,
        out_stem=str(folder / "claims"),
        context=context,
        attack={"name": "pgd"},
        attacks=ATTACKS,
        claims=claims,
    )
    files = draw_claims(request)
    assert [file.suffix for file in files] == [".csv", ".html", ".md", ".json"]
    assert all(file.is_file() for file in files)
    frame = pd.read_csv(folder / "claims.csv", keep_default_na=False).set_index("claim")
    return frame.assign(figures=frame["figures"].str.replace("−", "-"))


MORE = said("more", than=["plain"])


@pytest.mark.parametrize(
    ("strong", "plain", "n", "verdict"),
    [
        (80, 40, 100, HOLDS),
        (40, 80, 100, DOES_NOT_HOLD),
        (52, 48, 100, CANNOT_TELL),
        (60, 60, 100, CANNOT_TELL),
        # As far apart as can be, of too few points.
        (5, 0, 5, CANNOT_TELL),
    ],
)
def test_a_model_is_above_another_if_the_points_tell(tmp_path, strong, plain, n, verdict):
    made = entries(tmp_path, {"strong": [(strong, 0)], "plain": [(plain, 0)]}, n)
    row = judged(tmp_path, made, more=MORE).loc["more"]
    assert row["verdict"] == verdict and row["n"] == n and row["replicates"] == 1
    assert row["in_print"] == "" and row["quote"] == "It is so"
    shown = f"strong above plain (points, accuracy, pgd, ε 0.1): {(strong - plain) / n:.3f}"
    assert row["figures"].startswith(shown)
    assert ("too few for a test" in row["reason"]) == (n == 5)
    assert "one training of each model" in row["reason"]
    # A study that re-runs no paper falls short of none.
    assert "published amounts" not in row["reason"]
    assert "the study says" in (tmp_path / "claims.html").read_text(encoding="utf-8")


def test_the_numbers_and_ends_are_those_of_the_share(tmp_path):
    made = entries(tmp_path, {"strong": [(80, 30)]})
    claim = said("at_least", levels=(0.2,), value=0.2)
    figures = judged(tmp_path, made, it=claim).loc["it", "figures"]
    value, low, high = (float(one.strip("[],")) for one in figures.rsplit(": ")[-1].split(" "))
    assert value == 0.3
    assert (low, high) == pytest.approx(intervals.share_interval(30, 100), abs=0.01)


@pytest.mark.parametrize(
    ("test", "value", "verdict"),
    [
        ("at_least", 0.6, HOLDS),
        ("at_least", 0.95, DOES_NOT_HOLD),
        ("at_least", 0.79, CANNOT_TELL),
        ("at_most", 0.6, DOES_NOT_HOLD),
        ("at_most", 0.95, HOLDS),
        ("at_most", 0.81, CANNOT_TELL),
    ],
)
def test_a_number_is_held_against_a_value(tmp_path, test, value, verdict):
    made = entries(tmp_path, {"strong": [(80, 0)]})
    row = judged(tmp_path, made, it=said(test, value=value)).loc["it"]
    assert row["verdict"] == verdict
    words = test.replace("_", " ")
    assert row["tested"] == f"the accuracy of strong under pgd at ε 0.1 is {words} {value}."


def test_without_attack_and_by_a_margin(tmp_path):
    made = entries(tmp_path, {"strong": [(0, 0)]}, clean=90) + entries(
        tmp_path, {"plain": [(0, 0)]}, clean=91
    )
    facts = {"attack": None, "levels": (), "than": ["plain"]}
    frame = judged(
        tmp_path,
        made,
        close=said("more", **facts, value=-0.15),
        above=said("more", **facts),
        far=said("more", **facts, value=0.2),
    )
    assert list(frame["verdict"]) == [HOLDS, CANNOT_TELL, DOES_NOT_HOLD]
    label = "strong minus plain at least -0.15 (points, accuracy without attack): -0.010"
    assert frame.loc["close", "figures"].startswith(label)
    tested = "the accuracy of strong without attack less that of plain is at least -0.15."
    assert frame.loc["close", "tested"] == tested


def test_at_several_levels_and_above_several_models_each_counts(tmp_path):
    left = {"strong": [(80, 40)], "plain": [(40, 39)], "other": [(30, 5)]}
    made = entries(tmp_path, left)
    both, rivals = {"levels": (0.1, 0.2)}, ["plain", "other"]
    frame = judged(
        tmp_path,
        made,
        each=said("more", **both, than=["other"]),
        one_open=said("more", **both, than=["plain"]),
        both_rivals=said("more", than=rivals),
        not_all=said("at_least", **both, value=0.6),
    )
    assert list(frame["verdict"]) == [HOLDS, CANNOT_TELL, HOLDS, DOES_NOT_HOLD]
    assert "open: strong above plain (points, accuracy, pgd, ε 0.2)" in frame["reason"].iloc[1]
    assert "not so: strong at least 0.6 (points, accuracy, pgd, ε 0.2)" in frame["reason"].iloc[3]


def test_three_trainings_that_differ_say_less_than_their_points(tmp_path):
    def trained(model: str, counts) -> list[Entry]:
        made = []
        for replicate, count in enumerate(counts):
            folder = tmp_path / f"{model}{replicate}"
            folder.mkdir(exist_ok=True)
            (one,) = entries(folder, {model: [(count, 0)]}, replicate=replicate)
            made.append(one)
        return made

    plain = trained("plain", (50, 50, 50))
    alike = judged(tmp_path, trained("strong", (70, 70, 70)) + plain, more=MORE).loc["more"]
    apart = judged(tmp_path, trained("strong", (50, 70, 90)) + plain, more=MORE).loc["more"]
    assert (alike["verdict"], apart["verdict"]) == (HOLDS, CANNOT_TELL)
    assert alike["replicates"] == 3 and "training" not in alike["reason"]
    two = judged(tmp_path, trained("strong", (70, 70)) + plain, more=MORE).loc["more"]
    assert two["replicates"] == 2 and "what another training would change" in two["reason"]


@pytest.mark.parametrize(
    ("strong", "verdict", "reason"),
    [
        # By one to three points in every fold, though the folds differ by twenty.
        ([62, 71, 53, 82, 73], HOLDS, ""),
        ([58, 69, 47, 79, 68], DOES_NOT_HOLD, ""),
        ([66, 64, 52, 79, 71], CANNOT_TELL, "open"),
        ([61, 71, 51, 81, 71], CANNOT_TELL, "the same difference in every fold is no test"),
    ],
)
def test_folds_are_compared_fold_by_fold(tmp_path, strong, verdict, reason):
    plain = [60, 70, 50, 80, 70]
    left = {"strong": [(one, 0) for one in strong], "plain": [(one, 0) for one in plain]}
    row = judged(tmp_path, entries(tmp_path, left), more=MORE).loc["more"]
    assert row["verdict"] == verdict and row["n"] == 5 * N
    assert reason in row["reason"] and "difference" in row["figures"]


def test_over_folds_a_value_and_what_failed(tmp_path):
    left = {"strong": [(62, 0), (70, 0), (66, 0)], "plain": [(40, 0)]}
    made = entries(tmp_path, left)
    context = replace(
        CONTEXT, failed=tuple(FailedTraining("points", "plain", 0, k, "NaN") for k in (1, 2))
    )
    facts = {"least": said("at_least", value=0.5), "most": said("at_most", value=0.5)}
    frame = judged(tmp_path, made, context=context, **facts, more=MORE)
    assert list(frame["verdict"]) == [HOLDS, DOES_NOT_HOLD, CANNOT_TELL]
    assert "(points, accuracy, pgd, ε 0.1): 0.660 [" in frame["figures"].iloc[0]
    assert "one fold is no test" in frame.loc["more", "reason"]
    assert not frame["reason"].str.contains("one training").any()  # it is in the spread
    # One fold of two that are left of each model is not the same fold.
    apart = [made[0], replace(made[3], fold=1)]
    row = judged(tmp_path, apart, more=MORE).loc["more"]
    assert row["reason"].startswith("the two have no fold in common")


DISTANCES = np.linspace(1, 2, 12)


@pytest.mark.parametrize(
    ("strong", "value", "verdict"),
    [
        (DISTANCES + np.linspace(0.1, 0.3, 12), 0.0, HOLDS),
        (DISTANCES - np.linspace(0.1, 0.3, 12), 0.0, DOES_NOT_HOLD),
        (DISTANCES + np.tile([0.3, -0.3], 6), 0.0, CANNOT_TELL),
        (DISTANCES + np.linspace(0.1, 0.3, 12), 0.05, HOLDS),
        (DISTANCES + np.linspace(0.1, 0.3, 12), 0.35, DOES_NOT_HOLD),
    ],
)
def test_distances_are_compared_at_the_same_points(tmp_path, strong, value, verdict):
    made = near(tmp_path, {"strong": [strong], "plain": [DISTANCES]})
    claim = said("more", attack="near", levels=(), than=["plain"], value=value)
    row = judged(tmp_path, made, it=claim).loc["it"]
    assert row["verdict"] == verdict and row["n"] == 12
    # The difference is what it is, whatever it is held against.
    assert f"difference {(strong - DISTANCES).mean():.3f} [" in row["figures"]
    assert "mean distance, near, L2" in row["figures"]


def test_distances_that_cannot_be_compared(tmp_path):
    claim = said("more", attack="near", levels=(), than=["plain"])
    least = said("at_least", attack="near", levels=(), value=0.5)
    made = near(tmp_path, {"strong": [DISTANCES], "plain": [DISTANCES * 0.5]})
    frame = judged(tmp_path, made, it=claim, least=least)
    assert list(frame["verdict"]) == [HOLDS, HOLDS]
    few = near(tmp_path, {"strong": [[2.0, 3, 4]], "plain": [[1.0, 1, 1]]})
    frame = judged(tmp_path, few, it=claim, least=least)
    assert set(frame["verdict"]) == {CANNOT_TELL} and "can never be" in frame.loc["it", "reason"]
    failed = near(tmp_path, {"strong": [[np.nan, *DISTANCES]], "plain": [[1.0, *DISTANCES]]})
    frame = judged(tmp_path, failed, it=claim, least=least)
    assert set(frame["verdict"]) == {CANNOT_TELL}
    assert "1 of 13 points have no adversarial example" in frame.loc["least", "reason"]
    elsewhere = near(tmp_path, {"strong": [DISTANCES]}) + near(
        tmp_path, {"plain": [DISTANCES]}, first=5
    )
    reason = judged(tmp_path, elsewhere, it=claim).loc["it", "reason"]
    assert reason.startswith("they were attacked on different points")
    twice = near(tmp_path, {"strong": [DISTANCES] * 3, "plain": [DISTANCES * 0.5] * 3})
    row = judged(tmp_path, twice, it=claim).loc["it"]
    assert row["verdict"] == HOLDS and "another training would change" in row["reason"]


def test_what_was_not_run_and_stand_ins_tell_nothing(tmp_path):
    made = entries(tmp_path, {"strong": [(80, 40)]})
    frame = judged(
        tmp_path,
        made,
        more=MORE,
        both=said("at_least", datasets=["points", "others"], value=0.5),
    )
    assert "plain is not part of this run" in frame.loc["more", "reason"]
    rows = frame.loc["both"].set_index("dataset")
    assert list(rows["verdict"]) == [HOLDS, CANNOT_TELL, CANNOT_TELL]
    assert rows.loc["others", "reason"].startswith("others is not part of this run")
    assert rows.loc[OVERALL, "reason"] == "points: holds; others: cannot tell"
    synthetic = [replace(one, source="standin") for one in made]
    row = judged(tmp_path, synthetic, it=said("at_least", value=0.5)).loc["it"]
    assert row["verdict"] == CANNOT_TELL and "stand-in data" in row["reason"]


def test_print_is_judged_by_the_same_test_where_it_has_the_numbers(tmp_path):
    lines = [
        f"mine,1,points,{model},accuracy,pgd,Linf,{level},{value},p. 1\n"
        for model, level, value in (
            ("strong", 0.1, "0.55"),
            ("plain", 0.1, "0.50"),
            ("strong", 0.2, "0.40"),
            ("plain", 0.2, "0.40"),
        )
    ]
    lines.append("mine,2,points,strong,mean_distance,near,L2,,1.3,p. 2\n")
    lines.append("mine,3,points,strong,accuracy,none,,,0.95,p. 3\n")
    (tmp_path / "published.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
    made = entries(tmp_path, {"strong": [(40, 30)], "plain": [(80, 50)]})
    second = {"levels": (0.2,)}
    frame = judged(
        tmp_path,
        made,
        str(tmp_path / "published.csv"),
        more=MORE,
        rounded=said("more", **second, than=["plain"]),
        both=said("at_least", levels=(0.1, 0.2), value=0.5),
        clean=said("at_least", attack=None, levels=(), value=0.9),
        near=said("at_least", attack="near", levels=(), value=1.0),
        lacking=said("more", levels=(0.1,), than=["other"]),
    )
    expected = [HOLDS, CANNOT_TELL, DOES_NOT_HOLD, HOLDS, HOLDS, ""]
    assert list(frame["in_print"]) == expected
    # A reproduction at another scale may say something else, and falls short of print.
    assert frame.loc["more", "verdict"] == DOES_NOT_HOLD
    assert "not the published amounts" in frame.loc["more", "reason"]
    assert "the paper says" in (tmp_path / "claims.html").read_text(encoding="utf-8")
