"""Effort of attacks: expected minima against all subsets, gains, the table."""

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.evaluation import effort, intervals, statistics
from medrobust.evaluation.statistics import upper_bound_text
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.effort_table import build_effort
from medrobust.reporting.request import Entry, Request

from tests.unit.attack_files import attack_files, made_traces, write_records
from tests.unit.drawing import draw

CONTEXT = RunContext("signnet", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
ATTACK = "HopSkipJump (10 restarts)"
NAN, INF = np.nan, np.inf


def random():
    return np.random.default_rng(1)


# --- expected minima ---

distances = st.one_of(st.floats(0, 100), st.just(INF), st.just(0.0), st.just(1.0))


@given(st.integers(1, 7).flatmap(lambda r: st.tuples(st.lists(distances, min_size=r, max_size=r),
                                                     st.integers(1, r))),
       st.sampled_from([INF, 0.0]))  # fmt: skip
def test_expected_minima_are_means_over_all_subsets(case, failed_as):
    row, count = case
    subsets = [min(subset) for subset in itertools.combinations(row, count)]
    expected = np.mean([failed_as if np.isinf(value) else value for value in subsets])
    found = effort.expected_minima(np.array([row]), count, failed_as=failed_as)
    assert found == pytest.approx([expected], rel=1e-12)


def test_expected_minima_of_one_and_of_all_restarts():
    rows = np.array([[0.3, 0.1, 0.2], [0.5, INF, 0.7], [INF, INF, 2.0]])
    assert effort.expected_minima(rows, 1) == pytest.approx([0.2, INF, INF])
    assert effort.expected_minima(rows, 2) == pytest.approx([(0.1 + 0.1 + 0.2) / 3, 1.7 / 3, INF])
    assert effort.expected_minima(rows, 3) == pytest.approx([0.1, 0.5, 2.0])


@pytest.mark.parametrize("count", [0, 4])
def test_expected_minima_refuse_what_cannot_be(count):
    with pytest.raises(InputError, match="cannot be chosen"):
        effort.expected_minima(np.ones((2, 3)), count)
    for bad in (NAN, -1.0):
        with pytest.raises(InputError, match="negative or not a number"):
            effort.expected_minima(np.array([[bad, 1.0]]), 1)


def test_the_mean_with_all_restarts_is_that_of_table_iv():
    rows = random().random((9, 4))
    found = effort.mean_of_minima([rows], 4, generator=random())
    assert found == statistics.mean_estimate([rows.min(axis=1)], generator=random())


def test_a_subset_that_failed_leaves_no_mean_but_a_bound():
    rows = np.array([[0.2, 0.4, 0.6], [0.3, INF, 0.5]])
    one = effort.mean_of_minima([rows], 1, generator=random())
    assert (one.value, one.ci_low, one.censored) == (None, None, 1)
    assert one.lower_bound == pytest.approx((0.4 + 0.8 / 3) / 2)
    two = effort.mean_of_minima([rows], 2, generator=random())
    assert two.value == pytest.approx(((0.2 + 0.2 + 0.4) / 3 + (0.3 + 0.3 + 0.5) / 3) / 2)
    assert two.censored == 0 and two.lower_bound is None


@pytest.mark.parametrize(
    ("restarts", "shown"),
    [(1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (10, [1, 2, 3, 5, 10]), (12, [1, 2, 3, 5, 10, 12])],
)
def test_numbers_of_restarts_shown(restarts, shown):
    assert effort.restart_counts(restarts) == shown


@pytest.mark.parametrize(
    ("max_iter", "shown"), [(100, [25, 50, 100]), (50, [12, 25, 50]), (3, [0, 1, 3]), (1, [0, 1])]
)
def test_numbers_of_iterations_shown(max_iter, shown):
    assert effort.iteration_counts(max_iter) == shown


# --- gains ---


def test_the_gain_is_relative_and_its_interval_paired():
    before = random().lognormal(0, 1, 30)
    found = effort.relative_gain([before], [0.8 * before], generator=random())
    # All points gain alike: there is no spread to tell an interval from.
    assert found == (pytest.approx(0.2), None, None)
    after = 0.8 * before * random().uniform(0.99, 1.01, 30)
    gain, low, high = effort.relative_gain([before], [after], generator=random())
    assert low < gain < high and high - low < 0.01  # what differs between points drops out
    gain, low, high = effort.relative_gain([before], [before + 0.1], generator=random())
    assert gain == pytest.approx(-0.1 / before.mean())
    assert low < gain < high < 0


def test_the_gains_interval_is_that_of_a_ratio():
    before = random().lognormal(0, 0.5, 25)
    after = before * random().uniform(0.7, 1.0, 25)
    found = effort.relative_gain([before], [after], generator=random())
    low, high = intervals.ratio_interval(after, before, generator=random())
    assert found == pytest.approx((1 - after.mean() / before.mean(), 1 - high, 1 - low))


def test_gains_of_replicates():
    before = [random().lognormal(0, 0.5, 25) * k for k in (1.0, 1.4, 0.8)]
    after = [
        each * np.random.default_rng(k).uniform(0.6, 0.8 + 0.1 * k, 25)
        for k, each in enumerate(before)
    ]
    gain, low, high = effort.relative_gain(before, after, generator=random())
    start, end = (np.mean([one.mean() for one in side]) for side in (before, after))
    assert gain == pytest.approx(1 - end / start)
    gains = [1 - a.mean() / b.mean() for a, b in zip(after, before, strict=True)]
    points = intervals.ratio_interval(
        np.mean(after, axis=0), np.mean(before, axis=0), generator=random()
    )
    wanted = intervals.over_trainings(gain, (1 - points[1], 1 - points[0]), gains)
    assert (low, high) == pytest.approx(wanted)
    # Below three trainings: over points alone, of both together.
    two = effort.relative_gain(before[:2], after[:2], generator=random())
    low, high = intervals.ratio_interval(
        np.mean(after[:2], axis=0), np.mean(before[:2], axis=0), generator=random()
    )
    assert two[1:] == pytest.approx((1 - high, 1 - low))


def test_no_gain_where_there_is_none_to_tell():
    one = np.array([1.0, 2.0])
    nothing = (None, None, None)
    assert effort.relative_gain([np.array([1, INF])], [one], generator=random()) == nothing
    assert effort.relative_gain([np.zeros(2)], [np.zeros(2)], generator=random()) == nothing
    assert effort.relative_gain([one[:1]], [one[:1] / 2], generator=random()) == (0.5, None, None)
    few = [np.array([1.0, 2.0]), np.array([1.0]), np.array([2.0, 3.0])]
    halved = [each / 2 for each in few]
    assert effort.relative_gain(few, halved, generator=random()) == (0.5, None, None)
    with pytest.raises(InputError, match="not of the same points"):
        effort.relative_gain([one], [one[:1]], generator=random())


# --- the table ---


def built(tmp_path, models, **more):
    build_effort(models, tmp_path / "effort", CONTEXT, ATTACK, **more)
    frame = pd.read_csv(tmp_path / "effort.csv")
    return frame.set_index(["dataset", "method", "varied", "restarts", "iterations"])


def test_the_table_against_all_subsets_and_prefixes(tmp_path):
    boundary, iterate, queries = made_traces(2, 6, 5, 8)
    frame = built(tmp_path, [attack_files(tmp_path, "MLP", boundary, iterate, queries)])
    text = (tmp_path / "effort.md").read_text(encoding="utf-8")
    assert text.count(upper_bound_text([5])) == 1
    part = frame.loc["MIT-BIH", "MLP"]
    assert list(part.index) == [
        *(("restarts", k, 8) for k in (1, 2, 3, 5)),
        *(("iterations", 5, t) for t in (2, 4, 8)),
    ]
    for term, kept in (("boundary", boundary), ("iterate", iterate)):
        for count in (1, 2, 3, 5):
            subsets = itertools.combinations(range(5), count)
            mean = np.mean([kept[:, s, -1].min(axis=1).mean() for s in map(list, subsets)])
            found = part.loc[("restarts", count, 8)]
            assert found[f"{term}_mean"] == pytest.approx(mean, rel=1e-6)
            assert found[f"{term}_ci_low"] < mean < found[f"{term}_ci_high"]
        means = [kept[..., t].min(axis=1).mean() for t in (2, 4, 8)]
        rows = part.loc["iterations"]
        assert rows[f"{term}_mean"].to_numpy() == pytest.approx(means, rel=1e-6)
        gains = [1 - means[1] / means[0], 1 - means[2] / means[1]]
        assert rows[f"{term}_gain"].to_numpy()[1:] == pytest.approx(gains, rel=1e-5)
        assert np.isnan(rows[f"{term}_gain"].iloc[0])
        last = rows.iloc[-1]
        assert last[f"{term}_gain_ci_low"] <= last[f"{term}_gain"] <= last[f"{term}_gain_ci_high"]
    # The first of a block has no other to gain on.
    assert part["gain_from"].fillna(-1).tolist() == [-1, 1, 2, 3, -1, 2, 4]
    whole = part.loc[("restarts", 5, 8)], part.loc[("iterations", 5, 8)]
    for name in ("iterate_mean", "boundary_mean"):
        assert whole[0][name] == pytest.approx(whole[1][name], rel=1e-6)
    text = (tmp_path / "effort.md").read_text()
    assert "**MIT-BIH, number of restarts**" in text and "**MIT-BIH, number of iterations**" in text
    assert "as printed: gain 4 → 8 in % \\[95 %\\]" in text
    last = part.loc[("iterations", 5, 8)]
    printed = [last[f"boundary_gain{end}"] * 100 for end in ("", "_ci_low", "_ci_high")]
    assert "{:.1f} \\[{:.1f}, {:.1f}\\] |\n".format(*printed) in text
    assert "n: MIT-BIH: 6 points." in text and ATTACK in text and "paired" in text


def settling(tmp_path, name, last, points=5):
    """Returns files of runs with median 1 after half of 8 iterations, and ``last`` in the end."""
    boundary, iterate, queries = made_traces(1, points, 2, 8)
    spread = np.linspace(0.5, 1.5, points)[:, None, None]
    boundary[:] = np.broadcast_to(spread, boundary.shape)
    boundary[..., 5:] *= last
    iterate[:] = 1.2 * boundary
    return attack_files(tmp_path, name, boundary, iterate, queries)


def test_the_table_says_whose_median_has_settled(tmp_path):
    models = [settling(tmp_path, "MLP", 0.985), settling(tmp_path, "CNN", 0.975)]
    frame = built(tmp_path, models)
    last = frame.xs(8, level="iterations").xs("iterations", level="varied")
    assert last["boundary_settled"].tolist() == last["iterate_settled"].tolist() == ["yes", "no"]
    assert last["boundary_median"].tolist() == pytest.approx([0.985, 0.975])
    assert last["boundary_median_change"].tolist() == pytest.approx([0.015, 0.025])
    # Twice as many as a quarter is half; restarts are not iterations.
    half = frame.xs(4, level="iterations")
    assert half["boundary_settled"].tolist() == ["yes", "yes"]
    assert frame.xs("restarts", level="varied")["boundary_settled"].isna().all()
    text = (tmp_path / "effort.md").read_text()
    assert "**MIT-BIH, median when the iterations are doubled**" in text
    assert "Not settled, as printed: MIT-BIH (CNN), at the boundary: MIT-BIH (CNN)." in text
    printed = "| 4 → 8 | 1.200 → 1.182 | 1.5 | yes | 1.000 → 0.985 | 1.5 | yes |"
    assert f"| MLP {printed}" in text
    assert "less than 2 % when" in text


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [(2.0, 1.0, 0.5), (1.0, 1.1, -0.1), (0.0, 0.0, 0.0), (None, 1.0, None), (1.0, None, None)],
)
def test_changes_of_medians(before, after, change):
    found = effort.median_change(before, after)
    assert found is change if change is None else found == pytest.approx(change)


def test_medians_are_averaged_over_replicates_and_may_be_infinite():
    assert effort.median_distance([np.array([1.0, 9.0, 2.0]), np.array([4.0])]) == 3.0
    assert effort.median_distance([np.array([1.0, INF, INF])]) is None


def test_of_a_median_that_is_not_known_nothing_is_said(tmp_path):
    boundary, iterate, queries = made_traces(1, 3, 2, 8)
    for array in (boundary, iterate):
        array[:2] = NAN  # runs that failed
    queries[:2] = 0
    frame = built(tmp_path, [attack_files(tmp_path, "MLP", boundary, iterate, queries)])
    last = frame.xs(8, level="iterations").xs("iterations", level="varied")
    assert last["boundary_settled"].tolist() == ["undefined"]
    assert last[["boundary_median", "boundary_median_change"]].isna().all().all()


def test_models_attacked_with_other_amounts_have_their_own_last_step(tmp_path):
    models = [
        attack_files(tmp_path, "MLP", *made_traces(1, 6, 5, 8)),
        attack_files(tmp_path, "CNN", *made_traces(2, 6, 2, 4)),
    ]
    frame = built(tmp_path, models)
    text = (tmp_path / "effort.md").read_text()
    assert "gain of the last step in %" in text
    for varied, restarts, amounts in (("restarts", 2, (1, 4)), ("iterations", 2, (2, 4))):
        row = frame.loc[("MIT-BIH", "CNN", varied, restarts, 4)]
        percent = [100 * row[f"boundary_gain{end}"] for end in ("", "_ci_low", "_ci_high")]
        assert row["gain_from"] == amounts[0]
        step = f"{amounts[0]} → {restarts if varied == 'restarts' else 4}"
        assert "{}: {:.1f} \\[{:.1f}, {:.1f}\\]".format(step, *percent) in text.replace("−", "-")
    assert "| CNN | 2 → 4 |" in text and "| MLP | 4 → 8 |" in text


def test_the_last_row_is_table_iv(tmp_path):
    boundary = np.array([[0.3, 0.1], [0.4, NAN], [0.6, 0.5]])
    files = attack_files(tmp_path, "MLP", boundary, 1.2 * boundary)
    frame = built(tmp_path, [files])
    points = statistics.point_distances(files.records[0])
    row = frame.loc[("MIT-BIH", "MLP", "restarts", 2, 20)]
    assert row["boundary_mean"] == pytest.approx(points["l2"].mean())
    assert row["iterate_mean"] == pytest.approx(points["l2_final_iterate"].mean())


def test_failures_and_misclassified_points(tmp_path):
    boundary = np.array([[0.2, 0.4], [0.6, NAN], [0.9, 0.9]])
    records = write_records(tmp_path / "r.parquet", boundary, boundary + 0.1, wrong=[2])
    files = attack_files(tmp_path, "MLP", boundary, boundary)
    # A valid record of a misclassified point may lack the last iterate.
    frame = pd.read_parquet(records)
    frame.loc[frame["point_id"] == 2, "l2_final_iterate"] = NAN
    frame.to_parquet(records)
    files = dataclasses.replace(files, records=[[records]])
    frame = built(tmp_path, [files])
    one, two = (frame.loc[("MIT-BIH", "MLP", "restarts", k, 20)] for k in (1, 2))
    assert np.isnan(one["boundary_mean"]) and one["boundary_censored"] == 1
    assert one["boundary_lower_bound"] == pytest.approx((0.3 + 0.3 + 0) / 3)
    assert one["iterate_lower_bound"] == pytest.approx((0.4 + 0.35 + 0) / 3)
    assert two["boundary_mean"] == pytest.approx((0.2 + 0.6 + 0) / 3)
    assert np.isnan(two["boundary_gain"])
    assert two["misclassified"] == 1
    text = (tmp_path / "effort.md").read_text()
    assert "| MLP | ≥ 0.250 | 0.333 | – | ≥ 0.200 | 0.267 | – |" in text
    assert "count as distance 0" in text and "infinitely far" in text


def test_models_without_traces_say_so(tmp_path):
    boundary, iterate, queries = made_traces(2, 6, 2, 8)
    traced = attack_files(tmp_path, "MLP", boundary, iterate, queries)
    plain = attack_files(tmp_path, "CNN", boundary[..., -1], iterate[..., -1])
    other = attack_files(tmp_path, "CNN", boundary[..., -1], iterate[..., -1], dataset="PTBD")
    frame = built(tmp_path, [traced, plain, other])
    rows = frame.reset_index()
    assert set(rows.loc[rows["method"] == "CNN", "varied"]) == {"restarts"}
    text = (tmp_path / "effort.md").read_text()
    assert "| CNN | not run | not run | not run | not run |" in text
    assert "**PTBD, number of restarts**" in text and "**PTBD, number of iterations**" not in text
    assert "not known: MIT-BIH (CNN); PTBD (CNN)." in text


def test_stand_ins_are_marked(tmp_path):
    rows = np.array([[0.2, 0.4], [0.6, 0.3]])
    models = [
        attack_files(tmp_path, "MLP", rows, rows, source="standin"),
        attack_files(tmp_path, "MLP", rows, rows, dataset="PTBD"),
    ]
    frame = built(tmp_path, models, notes=["A remark."])
    assert frame["data"].groupby("dataset").first().to_dict() == {
        "MIT-BIH": "SYNTHETIC",
        "PTBD": "real",
    }
    text = (tmp_path / "effort.md").read_text()
    assert text.startswith("# SYNTHETIC DATA") and "A remark." in text
    assert "**MIT-BIH (SYNTHETIC), number of restarts**" in text
    assert "**PTBD, number of restarts**" in text
    inputs = json.loads((tmp_path / "effort.provenance.json").read_text())["inputs"]
    assert len(inputs) == 4


def test_another_norm_takes_its_distances_from_the_traces(tmp_path):
    boundary, iterate, queries = made_traces(2, 4, 2, 8)
    traced = attack_files(tmp_path, "MLP", boundary, iterate, queries)
    # Records, in L2, that say something else.
    records = write_records(tmp_path / "r.parquet", np.ones((4, 2)), np.ones((4, 2)))
    plain = attack_files(tmp_path, "CNN", np.ones((4, 2)), np.ones((4, 2)))
    models = [dataclasses.replace(traced, records=[[records]]), plain]
    frame = built(tmp_path, models, norm="inf")
    assert set(frame.reset_index()["method"]) == {"MLP"}
    row = frame.loc[("MIT-BIH", "MLP", "restarts", 2, 20)]
    assert row["iterate_mean"] == pytest.approx(iterate[..., -1].min(axis=1).mean(), rel=1e-6)
    text = (tmp_path / "effort.md").read_text()
    assert "smallest L∞ distance" in text
    assert "| CNN | not run | not run | not run | not run | not run | not run |" in text


def test_replicates_are_averaged(tmp_path):
    first, second = np.array([[0.2, 0.4], [0.6, 0.3]]), np.array([[0.1, 0.1], [0.5, 0.3]])
    files = attack_files(tmp_path, "MLP", first, first)
    records = write_records(tmp_path / "second.parquet", second, second)
    two = dataclasses.replace(
        files, records=[*files.records, [records]], arrays=[*files.arrays, *files.arrays]
    )
    frame = built(tmp_path, [two])
    row = frame.loc[("MIT-BIH", "MLP", "restarts", 2, 20)]
    assert row["boundary_mean"] == pytest.approx((0.2 + 0.3 + 0.1 + 0.3) / 4)
    assert (row["replicates"], row["n"]) == (2, 2)
    elsewhere = write_records(tmp_path / "third.parquet", second, second, points=[7, 8])
    bad = dataclasses.replace(two, records=[*files.records, [elsewhere]])
    with pytest.raises(InputError, match="attacked different points"):
        built(tmp_path, [bad])
    fewer = write_records(tmp_path / "fourth.parquet", second[:, :1], second[:, :1])
    bad = dataclasses.replace(two, records=[*files.records, [fewer]])
    with pytest.raises(InputError, match="different numbers of restarts"):
        built(tmp_path, [bad])


def test_what_does_not_belong_together_is_refused(tmp_path):
    boundary, iterate, queries = made_traces(2, 4, 2, 8)
    files = attack_files(tmp_path, "MLP", boundary, iterate, queries)
    rows = boundary[..., -1]
    path = tmp_path / "r.parquet"
    swapped = dataclasses.replace(files, records=[[str(path)]])
    write_records(path, rows, rows, points=[3, 4, 5, 6])
    with pytest.raises(InputError, match="not those of the points"):
        built(tmp_path, [swapped])
    write_records(path, rows[:, :1], rows[:, :1])
    with pytest.raises(InputError, match="not those of the points"):
        built(tmp_path, [swapped])
    write_records(path, rows, rows)
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    with pytest.raises(InputError, match="same number of restarts"):
        built(tmp_path, [swapped])
    with pytest.raises(InputError, match="given twice"):
        built(tmp_path, [files, files])
    other = dataclasses.replace(files, model="CNN", source="physionet")
    with pytest.raises(InputError, match="two sources"):
        built(tmp_path, [files, other])
    with pytest.raises(InputError, match="no attack on any model"):
        built(tmp_path, [])


def test_an_added_model_changes_nothing_of_the_others(tmp_path):
    models = [attack_files(tmp_path, name, *made_traces(i, 6, 3, 8)) for i, name in enumerate("AB")]
    alone = built(tmp_path, models[:1])
    both = built(tmp_path, models[::-1])
    # Each draws its own resamples.
    same = [dataclasses.replace(models[0], model=name) for name in "CD"]
    ends = built(tmp_path, same)["boundary_ci_low"].groupby("method").first()
    assert ends["C"] != ends["D"]
    pd.testing.assert_frame_equal(both[both.index.get_level_values("method") == "A"], alone)


def test_the_study_draws_both_with_the_papers_models_first(tmp_path):
    names = [("SCD01", "PTBD"), ("Added", "mitbih"), ("RandomForest", "mitbih"), ("MLP", "mitbih")]
    models = [
        attack_files(tmp_path, name, *made_traces(i, 3, 2, 4), dataset=dataset, source="physionet")
        for i, (name, dataset) in enumerate(names)
    ]
    entries = [
        Entry(
            m.dataset,
            m.model,
            m.source,
            0,
            points="signals",
            records=m.records[0],
            arrays=m.arrays[0],
        )
        for m in models
    ]
    request = Request(
        entries, "", str(tmp_path / "out"), CONTEXT, {"name": "hopskipjump", "norm": 2}
    )
    order = [
        ("PTBD", "SCD01"),
        ("MIT-BIH", "MLP"),
        ("MIT-BIH", "RandomForest"),
        ("MIT-BIH", "Added"),
    ]
    for artefact, column in (("effort", "method"), ("convergence", "model")):
        draw("signnet", artefact, request)
        frame = pd.read_csv(tmp_path / "out.csv")
        rows = frame[["dataset", column]].itertuples(index=False, name=None)
        assert list(dict.fromkeys(rows)) == order
        provenance = json.loads((tmp_path / "out.provenance.json").read_text())
        assert provenance["attack"] == "HopSkipJump (norm 2)"
        (cut_anew,) = [note for note in provenance["notes"] if "cut anew" in note]
        assert cut_anew.startswith("PTBD")
