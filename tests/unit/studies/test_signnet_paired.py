"""The table of paired comparisons, from made records."""

import numpy as np
import pandas as pd
import pytest
from medrobust.core.errors import InputError
from medrobust.evaluation import statistics
from medrobust.reporting.artefacts import RunContext
from medrobust.studies.signnet import paired as signnet_paired
from medrobust.studies.signnet.results import SIGNALS, AttackInput

from tests.unit.attack_files import write_records

CONTEXT = RunContext("signnet", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
N = 21


def distances(seed, level, n=N):
    return level * np.random.default_rng(seed).lognormal(0, 0.3, (n, 2))


def attacked(
    tmp_path, model, boundary, dataset="mitbih", source="kaggle", replicate=0, points=None, **more
):
    path = tmp_path / f"{dataset}-{model}-{replicate}.parquet"
    written = write_records(path, boundary, 1.1 * np.asarray(boundary), points=points, **more)
    return AttackInput(dataset, model, source, [written], replicate=replicate)


def build(tmp_path, inputs, context=CONTEXT):
    signnet_paired.build_paired(inputs, tmp_path / "paired", context, "HSJ (2 restarts)")
    frame = pd.read_csv(tmp_path / "paired.csv", keep_default_na=False, na_values=[""])
    text = (tmp_path / "paired.md").read_text()
    return frame.set_index(["dataset", "distance", "first", "second"]).sort_index(), text


def test_pairs_are_those_of_the_papers_sentences():
    assert signnet_paired.model_pairs(SIGNALS.models) == [
        ("SCDCE", "SCD01"),
        *(("SCD01", name) for name in ("BNN", "MLP", "CNN", "RandomForest")),
        *(("SCDCE", name) for name in ("BNN", "MLP", "CNN", "RandomForest")),
    ]
    assert signnet_paired.model_pairs(["MLP", "SCD01"]) == [("SCD01", "MLP")]
    assert signnet_paired.model_pairs(["MLP", "CNN"]) == []


def test_numbers_are_those_of_the_smallest_distances(tmp_path):
    sign, mlp = distances(1, 0.4), distances(2, 0.2)
    inputs = [attacked(tmp_path, "SCDCE", sign), attacked(tmp_path, "MLP", mlp)]
    frame, text = build(tmp_path, inputs)
    difference = sign.min(axis=1) - mlp.min(axis=1)
    for distance, factor in (("as printed", 1.1), ("at the boundary", 1.0)):
        row = frame.loc[("MIT-BIH", distance, "SCDCE", "MLP")]
        assert row["status"] == "compared" and row["origin"] == "paper"
        assert row["mean_difference"] == pytest.approx(factor * difference.mean())
        assert row["median_difference"] == pytest.approx(factor * np.median(difference))
        assert row["ratio"] == pytest.approx(sign.min(axis=1).mean() / mlp.min(axis=1).mean())
        assert row["first_larger"] == (difference > 0).sum()
        assert row["p"] == pytest.approx(statistics.signed_rank_p(difference)[0])
        # The one pair that ran is a family of its own.
        assert row["p_holm"] == row["p"] and row["smallest_p_holm"] == 2.0**-20
        assert row["significant"] and row["can_be_significant"]
        assert (row["n"], row["replicates"], row["censored"]) == (N, 1, 0)
        assert (row["scale"], row["source"], row["data"]) == ("paper", "kaggle", "real")
    others = frame.drop(
        index=[("MIT-BIH", d, "SCDCE", "MLP") for d in ("as printed", "at the boundary")]
    )
    assert others["status"].eq("not run").all() and others["p"].isna().all()
    assert len(frame) == 2 * 2 * (9 + 9)  # images and signals
    larger = f"{(difference > 0).sum()} : {(difference < 0).sum()}"
    assert text.count(f"| {larger} |") == 2
    assert "PTBD: not run" in text and "MIT-BIH: 21 points" in text
    assert text.count(statistics.upper_bound_text([2])) == 1
    assert "| SCD01 − BNN | – | not run |" in text or "| SCD01 − BNN | not run |" in text


def test_holm_is_over_the_pairs_of_one_table(tmp_path):
    levels = {
        "SCD01": 0.3,
        "SCDCE": 0.35,
        "BNN": 0.3,
        "MLP": 0.2,
        "CNN": 0.28,
        "RandomForest": 0.25,
    }
    inputs = [
        attacked(tmp_path, model, distances(seed, level))
        for seed, (model, level) in enumerate(levels.items())
    ]
    frame, _ = build(tmp_path, inputs)
    part = frame.loc[("MIT-BIH", "at the boundary")]
    assert len(part) == 9
    assert part["p_holm"].to_numpy() == pytest.approx(statistics.holm(part["p"]))
    assert part["smallest_p_holm"].to_numpy() == pytest.approx(9 * 2.0**-20)


def test_models_on_other_points_are_not_compared(tmp_path):
    inputs = [
        attacked(tmp_path, "SCD01", distances(1, 0.4)),
        attacked(tmp_path, "MLP", distances(2, 0.2)),
        attacked(tmp_path, "RandomForest", distances(3, 0.2), points=np.arange(N) + 1),
    ]
    frame, text = build(tmp_path, inputs)
    row = frame.loc[("MIT-BIH", "as printed", "SCD01", "RandomForest")]
    assert row["status"] == "attacked on other points: not compared"
    assert np.isnan(row["p"]) and np.isnan(row["mean_difference"])
    assert frame.loc[("MIT-BIH", "as printed", "SCD01", "MLP"), "status"] == "compared"
    assert text.count("MIT-BIH: Random forest attacked on other points") == 1
    assert "| SCD01 − Random forest | other points |" in text


def test_replicates_are_averaged_by_point(tmp_path):
    sign = [distances(seed, 0.4) for seed in (1, 2)]
    mlp = distances(3, 0.2)
    inputs = [attacked(tmp_path, "SCD01", one, replicate=r) for r, one in enumerate(sign)]
    frame, text = build(tmp_path, [*inputs, attacked(tmp_path, "MLP", mlp)])
    row = frame.loc[("MIT-BIH", "at the boundary", "SCD01", "MLP")]
    mean = np.mean([one.min(axis=1) for one in sign], axis=0)
    assert row["mean_difference"] == pytest.approx((mean - mlp.min(axis=1)).mean())
    assert row["p"] == pytest.approx(statistics.signed_rank_p(mean - mlp.min(axis=1))[0])
    assert row["n"] == N and row["replicates"] == 1  # the MLP's
    other = attacked(tmp_path, "SCD01", sign[0], replicate=2, points=np.arange(N) + 1)
    with pytest.raises(InputError, match="different points"):
        build(tmp_path, [*inputs, other])
    inputs.append(attacked(tmp_path, "MLP", mlp, replicate=1))
    inputs.append(attacked(tmp_path, "MLP", mlp))
    frame, text = build(tmp_path, inputs)
    assert frame.loc[("MIT-BIH", "as printed", "SCD01", "MLP"), "replicates"] == 2
    assert "mean over the replicates" in text


def test_censored_and_misclassified_points(tmp_path):
    sign, mlp = distances(1, 0.4), distances(2, 0.2)
    sign[4] = np.nan
    inputs = [attacked(tmp_path, "SCD01", sign), attacked(tmp_path, "MLP", mlp, wrong=[0])]
    frame, text = build(tmp_path, inputs)
    row = frame.loc[("MIT-BIH", "at the boundary", "SCD01", "MLP")]
    smallest = np.nan_to_num(sign.min(axis=1), nan=np.inf)
    other = np.where(np.arange(N) == 0, 0.0, mlp.min(axis=1))
    assert row["censored"] == 1 and np.isnan(row["mean_difference"])
    assert row["p"] == pytest.approx(statistics.signed_rank_p(smallest - other)[0])
    assert row["median_difference"] == pytest.approx(np.median(smallest - other))
    assert "the mean difference is undefined" in text
    assert "| SCD01 − MLP | undefined |" in text


def test_few_points_can_never_be_significant(tmp_path):
    points = [[0.5], [0.6], [0.7]]
    near = [[0.1], [0.1], [0.1]]
    inputs = [attacked(tmp_path, "SCD01", points), attacked(tmp_path, "MLP", near)]
    frame, text = build(tmp_path, inputs)
    row = frame.loc[("MIT-BIH", "as printed", "SCD01", "MLP")]
    assert (row["p"], row["can_be_significant"]) == (0.25, False)
    assert "0.250 (at least 0.250)" in text and "no outcome could have been significant" in text


def test_added_models_stand_below(tmp_path):
    inputs = [
        attacked(tmp_path, model, distances(seed, 0.3))
        for seed, model in enumerate(("Other", "SCD01", "SCDCE", "MLP"))
    ]
    frame, text = build(tmp_path, inputs)
    origin = frame["origin"].groupby("second").first()
    assert origin["Other"] == "added" and origin["MLP"] == "paper"
    first = text.split("**MIT-BIH, at the boundary**")[0]
    order = ["SCDCE − MLP", "*Added models", "SCD01 − Other", "SCDCE − Other"]
    assert sorted(order, key=first.index) == order


def test_stand_ins_are_marked_and_nothing_is_no_error(tmp_path):
    inputs = [
        attacked(tmp_path, model, distances(1, 0.3), source="standin") for model in ("SCD01", "MLP")
    ]
    frame, text = build(tmp_path, inputs)
    assert text.startswith("# SYNTHETIC DATA") and "MIT-BIH (SYNTHETIC), as printed" in text
    assert set(frame["data"].dropna()) == {"SYNTHETIC"}
    frame, text = build(tmp_path, [])
    assert frame["status"].eq("not run").all() and len(frame) == 72
    assert "nothing was run" in text
    frame, text = build(tmp_path, [attacked(tmp_path, "MLP", distances(1, 0.3))])
    assert frame["status"].eq("not run").all() and "nothing was run" in text
