"""A user's study: some lines of YAML in a folder of their own, no published numbers, no Python."""

from __future__ import annotations

import json
import re
from math import sqrt

import numpy as np
import pandas as pd
import pytest
from medrobust.evaluation.intervals import share_interval
from scipy.stats import t
from sklearn.metrics import recall_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from tests.workflow.pages import block_of

FAST = {
    "models": {
        "plain": {"method": {"max_epochs": 5}},
        "adversarial": {"method": {"max_epochs": 2, "steps": 2}},
    },
    "attacks": {
        "pgd": {"options": {"num_steps": 3}},
        "hopskipjump": {"options": {"max_iter": 3, "restarts": 2}},
    },
    "datasets": {"moons": {"points": 8}},
}
FOLDED = """
title: A small network on ultrasound images
citation: none, an example
datasets:
  busi: {folds: 3}
models:
  small:
    label: small
    architecture: {name: mlp, hidden_units: 4}
    method: {name: sgd_cross_entropy, learning_rate: 0.01, max_epochs: 1}
attacks:
  noise:
    name: uniform_noise
    select: test
    points_per_job: 100
    options: {restarts: 1}
    grid: {epsilon: [0.1, 0.3]}
claims:
  bears_noise:
    sentence: It bears noise
    at_least: {model: small, attack: noise, epsilon: 0.1, value: 0.1}
artefacts: [accuracy, robust_accuracy, claims]
"""

#: FGSM, and the loss of Carlini and Wagner, on a network that tells two classes apart.
TWO_CLASSES = """
title: A small network on ultrasound images, as a test for malignant tumours
citation: none, an example
datasets:
  busi: {folds: 3}
models:
  small:
    label: small
    architecture: {name: mlp, hidden_units: 4}
    method: {name: adam_cross_entropy, learning_rate: 0.000003, max_epochs: 4, batch_size: 16}
attacks:
  fgsm:
    name: pgd
    select: test
    options: {epsilon: 0.001, num_steps: 1, step_share: 1.0, random_start: false, early_stop: false}
  cw:
    name: pgd
    select: test
    options:
      {epsilon: 0.001, num_steps: 3, step_size: 0.0003, loss: margin, random_start: false,
       early_stop: false}
keep_probabilities: true
artefacts: [binary_metrics, binary_scores]
"""


@pytest.fixture
def project(make_project):
    made = make_project()
    made.shrink_standins(120, 40)
    return made


def run_study(project, folder, name: str, text: str, overrides: dict | None = None):
    """Runs a study that lies elsewhere; returns the folder of its results."""
    file = folder / f"{name}.yaml"
    file.write_text(text, encoding="utf-8")
    settings = ["scale=smoke", f"studies={file}"]
    if overrides:
        settings.append(f"overrides={json.dumps({name: overrides})}")
    project.snakemake(name, "--config", *settings, cores=1)
    (made,) = (project.folder / "results").glob(f"smoke-code*/{name}")
    return made


def table(made, name: str) -> pd.DataFrame:
    return pd.read_csv(made / f"tables/{name}.csv", keep_default_na=False, na_values=[""])


def test_a_study_in_yaml_gets_tables_with_intervals_and_a_curve(root, project, tmp_path):
    text = block_of(root, "`my_studies/two_trainings.yaml`", "yaml")
    assert len(text.splitlines()) <= 30 and "published" not in text
    text = text.replace("artefacts: [", "artefacts: [claims, ")
    text += block_of(root, "may also have, under `claims`", "yaml")
    made = run_study(project, tmp_path, "two_trainings", text, FAST)
    assert not (made / "comparison").exists()
    (cell,) = made.glob("evaluations/moons@*/fold0/rep0")

    # Under attack: shares and their intervals from the records, point by point.
    shown = table(made, "robust_accuracy").set_index(["method", "epsilon"])
    assert list(shown.index.get_level_values(0).unique()) == ["plain", "adversarial"]
    for model in ("plain", "adversarial"):
        clean = pd.read_parquet(cell / model / "clean.parquet")
        right = clean["label"] == clean["prediction"]
        attacked = pd.concat(map(pd.read_parquet, (cell / model / "pgd").glob("chunk*.parquet")))
        success = attacked.groupby(["epsilon", "point_id"])["success"].any()
        resisted = {
            0.0: right.to_numpy(),
            **{e: ~s.to_numpy() for e, s in success.groupby(level=0)},
        }
        assert set(resisted) == {0.0, 0.05, 0.1, 0.2, 0.3}
        for epsilon, points in resisted.items():
            row = shown.loc[model, epsilon]
            low, high = proportion_confint(points.sum(), points.size, method="agresti_coull")
            low, high = max(0, low) * (points.sum() > 0), min(1, high)
            assert row[["reproduced", "ci_low", "ci_high"]].tolist() == pytest.approx(
                [points.mean(), low, high]
            )
            assert row["n"] == points.size == 40 and row["replicates"] == row["folds"] == 1
    assert shown.loc["plain"].loc[0.0, "reproduced"] > 0.7  # it has learnt something
    assert shown["reproduced"].nunique() > 2

    # Without attack: the same number, drawn from another file.
    accuracy = table(made, "accuracy").set_index("method")
    for model in accuracy.index:
        assert accuracy.loc[model, "reproduced"] == shown.loc[model].loc[0.0, "reproduced"]

    # The curve is drawn, from the numbers of the table.
    assert (made / "figures/robust_curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    curve = pd.read_csv(made / "figures/robust_curves.csv").set_index(["method", "epsilon"])
    columns = ["reproduced", "ci_low", "ci_high", "n"]
    pd.testing.assert_frame_equal(curve[columns], shown[columns], check_dtype=False)

    # Distances: of each point the smallest over the restarts.
    distances = table(made, "distances").set_index(["method", "metric"])
    for model in ("plain", "adversarial"):
        records = pd.read_parquet(cell / model / "hopskipjump/records.parquet")
        wrong = records["clean_prediction"] != records["label"]
        records.loc[wrong, "l2"] = 0.0
        smallest = records.groupby("point_id")["l2"].min()
        assert len(smallest) == 8 and smallest.notna().all() and smallest.max() > 0
        for name, of in (("median", np.median), ("mean", np.mean)):
            row = distances.loc[model, f"{name}_distance"]
            assert row["reproduced"] == pytest.approx(of(smallest))
            if name == "median":  # of 8 points: between the smallest and the largest
                assert (row["ci_low"], row["ci_high"]) == (smallest.min(), smallest.max())
            else:  # at least as wide as Student's t
                low, high = DescrStatsW(smallest).tconfint_mean()
                assert row["ci_low"] <= max(low, 0) + 1e-9 and row["ci_high"] >= high - 1e-9
                assert row["ci_high"] < smallest.mean() + 4 * (high - smallest.mean())
    # Adversarial examples are as near as the attack within a ball says.
    assert distances["n"].eq(8).all() and distances["censored"].eq(0).all()

    # Sentences are told from these numbers; of stand-ins nothing is.
    said = pd.read_csv(made / "claims/claims.csv", keep_default_na=False).set_index("claim")
    assert list(said.index) == ["more_robust", "costs_little", "farther", "still_right"]
    assert set(said["verdict"]) == {"cannot tell"} and set(said["in_print"]) == {""}
    assert said["reason"].str.contains("stand-in").all()
    apart = shown["reproduced"].loc["adversarial"] - shown["reproduced"].loc["plain"]
    for epsilon in (0.1, 0.2):
        label = f"adversarial above plain (moons, accuracy, pgd, ε {epsilon}): "
        (figures,) = [one for one in said.loc["more_robust", "figures"].split("; ") if label in one]
        found = figures.removeprefix(label).partition(" ")[0].replace("−", "-")
        assert float(found) == pytest.approx(apart[epsilon], abs=6e-4)
    mean = {model: distances.loc[(model, "mean_distance")] for model in ("plain", "adversarial")}
    difference = mean["adversarial"]["reproduced"] - mean["plain"]["reproduced"]
    found = re.search(r"difference (\S+)", said.loc["farther", "figures"])[1]
    assert float(found.replace("−", "-")) == pytest.approx(difference, abs=6e-4)
    assert said.loc["farther", "n"] == 8 and said.loc["still_right", "n"] == 40

    # Pages say what the intervals cover.
    for name in ("accuracy", "robust_accuracy", "distances"):
        page = (made / f"tables/{name}.html").read_text(encoding="utf-8")
        assert "95 % intervals: one training" in page and "SYNTHETIC" in page
        assert "what other test points could change, not what another training could" in page


def test_folds_are_averaged_with_an_interval_over_them(project, tmp_path):
    made = run_study(project, tmp_path, "folded", FOLDED)
    cells = sorted(made.glob("evaluations/busi@standin/fold*/rep0/small"))
    assert [cell.parts[-3] for cell in cells] == ["fold0", "fold1", "fold2"]
    clean, attacked = [], {0.1: [], 0.3: []}
    for cell in cells:
        summary = json.loads((cell / "clean.json").read_text(encoding="utf-8"))
        clean.append((summary["ensemble_accuracy"], summary["n_test"]))
        tally = pd.read_csv(cell / "noise/tally.csv")
        for epsilon, shares in attacked.items():
            rows = tally[(tally["reading"] == "attack") & (tally["epsilon"] == epsilon)]
            hit = rows.loc[rows["label"] == rows["prediction"], "points"].sum()
            shares.append(hit / rows["points"].sum())
    # Every point is a test point of one fold only.
    points = [set(pd.read_parquet(cell / "clean.parquet")["point_id"]) for cell in cells]
    assert len(set.union(*points)) == sum(map(len, points))

    def check(row: pd.Series, shares: list[float]) -> None:
        half = t.ppf(0.975, 2) * np.std(shares, ddof=1) / sqrt(3)
        sizes = [n for _, n in clean]
        over_points = share_interval(np.dot(shares, sizes), sum(sizes))
        ends = [
            max(0, min(np.mean(shares) - half, over_points[0])),
            min(1, max(np.mean(shares) + half, over_points[1])),
        ]
        found = row[["reproduced", "ci_low", "ci_high"]].tolist()
        assert found == pytest.approx([np.mean(shares), *ends])
        assert (
            row["interval"] == "t over 3 folds, at least as wide as over points"
            and row["folds"] == 3
        )
        assert row["n"] == sum(n for _, n in clean) and row["replicates"] == 1
        assert row[["lowest", "highest"]].tolist() == pytest.approx([min(shares), max(shares)])

    shares = [share for share, _ in clean]
    check(table(made, "accuracy").iloc[0], shares)
    robust = table(made, "robust_accuracy").set_index("epsilon")
    check(robust.loc[0.0], shares)
    for epsilon, under_attack in attacked.items():
        check(robust.loc[epsilon], under_attack)
    claim = pd.read_csv(made / "claims/claims.csv").iloc[0]
    assert f": {np.mean(attacked[0.1]):.3f}" in claim["figures"] and claim["replicates"] == 1
    assert claim["n"] == sum(n for _, n in clean) and claim["verdict"] == "cannot tell"
    page = (made / "tables/robust_accuracy.html").read_text(encoding="utf-8")
    assert "t over 3 folds" in page and "Bengio and Grandvalet 2004" in page
    assert re.search(r"3 folds, in turn of \d+ test points", page)


def test_two_classes_have_rates_and_scores_under_attack(project, tmp_path):
    made = run_study(project, tmp_path, "two_classes", TWO_CLASSES)
    cells = sorted(made.glob("evaluations/busi@standin/fold*/rep0/small"))
    metrics, scores = (
        table(made, name).set_index(["metric", "attack"])
        for name in ("binary_metrics", "binary_scores")
    )
    assert set(metrics["interval"].dropna()) <= {
        "corrected resampled t over 3 folds, at least as wide as over points"
    } | set(metrics["status"][metrics["reproduced"].isna()])
    for attack in ("none", "fgsm", "cw"):
        areas, found = [], []
        for cell in cells:
            clean = pd.read_parquet(cell / "clean.parquet")
            predicted = clean["prediction"]
            if attack != "none":
                clean = pd.concat(map(pd.read_parquet, (cell / attack).glob("chunk*.parquet")))
                predicted = clean["adversarial_prediction"].astype(int)
            areas.append(roc_auc_score(clean["label"], clean["probability_1"]))
            found.append(recall_score(clean["label"], predicted))
        assert len(areas) == 3
        assert scores.loc[("AUC", attack), "reproduced"] == pytest.approx(np.mean(areas))
        assert metrics.loc[("sensitivity", attack), "reproduced"] == pytest.approx(np.mean(found))
    assert scores.loc[("AUC", "fgsm"), "reproduced"] < scores.loc[("AUC", "none"), "reproduced"]
    page = (made / "tables/binary_metrics.html").read_text(encoding="utf-8")
    assert "class 1 (malignant)" in page and "Nadeau and Bengio 2003" in page
