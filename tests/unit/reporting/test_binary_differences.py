"""Differences of two models fold by fold, against SciPy and plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.evaluation.folds import resampled_t_interval, resampled_t_p
from medrobust.reporting.artefacts import NOT_RUN, FailedTraining
from medrobust.reporting.binary_differences import draw_binary_differences
from scipy import stats
from sklearn import metrics

from tests.unit.mirst_files import (
    FOLDS,
    N,
    Y,
    drawn,
    request_of,
    right_first,
    text_of,
    training,
)

HOW = {
    "title": "T",
    "caption": "C.",
    "pairs": [("new", "old"), ("new", "absent")],
    "attacks": {"fgsm": "FGSM"},
}


def entries_of(folder, folds=range(FOLDS), models=("new", "old")):
    shares = {"new": (0.9, 0.6), "old": (0.8, 0.5)}
    return [
        training(
            folder, "busi", model, fold, right_first(shares[model][0], fold, number),
            {"fgsm": right_first(shares[model][1], fold, 7 + number)},
        )
        for number, model in enumerate(models) for fold in folds
    ]  # fmt: skip


def f1_values(shift: int, share: float, under: float | None) -> list[float]:
    found = []
    for fold in range(FOLDS):
        right = right_first(share, fold, shift)
        if under is not None:
            right = right & right_first(under, fold, 7 + shift)
        found.append(metrics.f1_score(Y, np.where(right, Y, 1 - Y)))
    return found


def test_differences_are_those_of_the_folds(tmp_path):
    request = request_of(tmp_path, entries_of(tmp_path), ["fgsm"])
    draw_binary_differences(request, **HOW)
    frame = drawn(request)
    for attack, under in (("none", (None, None)), ("FGSM", (0.6, 0.5))):
        row = frame[
            (frame["metric"] == "F1") & (frame["attack"] == attack) & (frame["second"] == "old")
        ].iloc[0]
        one, other = f1_values(0, 0.9, under[0]), f1_values(1, 0.8, under[1])
        difference = np.subtract(one, other)
        assert row["difference"] == pytest.approx(difference.mean())
        assert row["first_value"] == pytest.approx(np.mean(one))
        assert row["second_value"] == pytest.approx(np.mean(other))
        ends = resampled_t_interval(difference, N / 240)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(ends)
        error = difference.std(ddof=1) * np.sqrt(1 / FOLDS + N / 240)
        two_sided = 2 * stats.t.sf(abs(difference.mean() / error), FOLDS - 1)
        assert row["p"] == pytest.approx(two_sided)
        # The interval leaves 0 out just where p is below .05.
        assert (row["p"] < 0.05) == (not ends[0] <= 0 <= ends[1])
    absent = frame[frame["second"] == "absent"]
    assert set(absent["status"]) == {NOT_RUN} and absent["difference"].isna().all()
    text = text_of(request)
    assert "absent" not in text and "Nadeau and Bengio" in text


def test_only_folds_that_both_have_count_and_a_failed_one_is_told(tmp_path):
    entries = entries_of(tmp_path)
    without = [one for one in entries if (one.model, one.fold) != ("old", 2)]
    failed = [FailedTraining("busi", "old", 0, 2, "loss not finite in epoch 3")]
    request = request_of(tmp_path, without, ["fgsm"], failed=failed)
    draw_binary_differences(request, **HOW)
    frame = drawn(request)
    row = frame[(frame["metric"] == "F1") & (frame["second"] == "old")].iloc[0]
    one, other = f1_values(0, 0.9, None), f1_values(1, 0.8, None)
    left = [fold for fold in range(FOLDS) if fold != 2]
    assert row["folds"] == 4
    assert row["difference"] == pytest.approx(np.mean([one[fold] - other[fold] for fold in left]))
    assert "loss not finite in epoch 3" in text_of(request)


def test_a_model_that_failed_everywhere_says_so(tmp_path):
    entries = entries_of(tmp_path, models=("new",))
    failed = [FailedTraining("busi", "old", 0, fold, "NaN") for fold in range(FOLDS)]
    request = request_of(tmp_path, entries, ["fgsm"], failed=failed)
    draw_binary_differences(request, **HOW)
    frame = drawn(request)
    told = frame[frame["second"] == "old"]["status"]
    assert all("training failed (NaN)" in one for one in told)


def test_one_fold_has_no_interval_and_no_p(tmp_path):
    request = request_of(tmp_path, entries_of(tmp_path, folds=[0]), ["fgsm"])
    draw_binary_differences(request, **HOW)
    frame = drawn(request)
    ran = frame[frame["second"] == "old"]
    assert ran["difference"].notna().all()
    assert ran[["ci_low", "ci_high", "p"]].isna().all(axis=None)


def test_p_is_of_the_side_on_which_the_mean_lies():
    above, below = resampled_t_p([0.1, 0.2, 0.15, 0.12, 0.3], 0.25)
    assert above < 0.05 and below == 1.0
    mirrored = resampled_t_p([-0.1, -0.2, -0.15, -0.12, -0.3], 0.25)
    assert mirrored == pytest.approx((below, above))
    assert resampled_t_p([-0.1, 0.1], 0.25) == pytest.approx((1.0, 1.0))
    # Without shared points it is SciPy's one-sample t.
    values = [0.02, 0.05, -0.01, 0.03]
    assert resampled_t_p(values, 0.0)[0] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert resampled_t_p([0.1], 0.25) is None and resampled_t_p([0.1, 0.1], 0.25) is None
    with pytest.raises(InputError, match="finite"):
        resampled_t_p([0.1, np.nan], 0.25)
