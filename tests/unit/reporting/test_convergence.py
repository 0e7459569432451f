"""The figure of distance against queries, from made traces."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from medrobust.core.errors import InputError
from medrobust.evaluation.statistics import upper_bound_text
from medrobust.evaluation.traces import read_traces
from medrobust.reporting import artefacts, convergence, plotting
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.convergence import build_convergence, convergence_curve, quartiles

from tests.unit.attack_files import attack_files, made_traces

CONTEXT = RunContext("signnet", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
ATTACK = "HopSkipJump (2 restarts)"
NAN, INF = np.nan, np.inf


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    """Draws at screen resolution: what is tested here does not depend on it."""
    monkeypatch.setitem(plotting._SETTINGS, "savefig.dpi", 72)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written."""
    kept = []
    original = artefacts.write_figure_artefact

    def keep(stem, figure, *arguments, **settings):
        kept.append(figure)
        return original(stem, figure, *arguments, **settings)

    monkeypatch.setattr(artefacts, "write_figure_artefact", keep)
    return kept


def built(tmp_path, models, **more):
    build_convergence(models, tmp_path / "convergence", CONTEXT, ATTACK, **more)
    return pd.read_csv(tmp_path / "convergence.csv")


def caption(tmp_path):
    return json.loads((tmp_path / "convergence.provenance.json").read_text())["caption"]


def test_quartiles_are_observed_and_know_infinity():
    rows = np.array([[1.0, 3.0, 2.0, INF], [INF, INF, 5.0, 4.0]]).T
    assert quartiles(rows).T.tolist() == [[1.0, 2.5, INF], [4.0, INF, INF]]
    assert quartiles(np.arange(5.0)[:, None]).ravel().tolist() == [1.0, 2.0, 3.0]
    # Between observations the outer one: position .25 and .75 of 0 .. 3 is .75 and 2.25.
    assert quartiles(np.arange(4.0)[:, None]).ravel().tolist() == [0.0, 1.5, 3.0]


BOUNDARY = [
    [[4, 2, 1], [5, 1, 1]],
    [[3, 3, 0.5], [NAN] * 3],
    [[NAN] * 3, [NAN] * 3],
]
ITERATE = [
    [[4, 3, 1.5], [5, 1.2, 2]],
    [[3, 6, 0.6], [NAN] * 3],
    [[NAN] * 3, [NAN] * 3],
]
QUERIES = [
    [[10, 100, 400], [20, 50, 300]],
    [[200, 300, 500], [0] * 3],
    [[0] * 3, [0] * 3],
]


def at(frame, queries):
    """Returns the drawn row of the most queries up to ``queries``."""
    return frame[frame["queries_per_restart"] <= queries].iloc[-1]


def test_medians_are_over_all_points(tmp_path):
    frame = built(tmp_path, [attack_files(tmp_path, "MLP", BOUNDARY, ITERATE, QUERIES)])
    assert frame["queries_per_restart"].iloc[0] == 10
    assert frame["queries_per_restart"].iloc[-1] == 500
    assert frame["queries_per_restart"].is_monotonic_increasing
    # One of three points has an example: the median is infinite; two of three: the larger.
    row = at(frame, 199)
    assert np.isinf(row["boundary_median"]) and row["boundary_lower_quartile"] == 1
    assert row["with_example"] == 1 and np.isinf(row["boundary_upper_quartile"])
    row = at(frame, 299)
    assert (row["boundary_median"], row["iterate_median"], row["with_example"]) == (3, 3, 2)
    row = at(frame, 399)
    # The iterate of the second point went away to 6; at 300 the first point's best is 2.
    assert (row["boundary_median"], row["iterate_median"]) == (3, 6)
    row = at(frame, 500)
    assert row["boundary_median"] == 1 and row["iterate_median"] == 1.5
    assert row["boundary_lower_quartile"] == 0.5 and np.isinf(row["boundary_upper_quartile"])
    assert (row["n"], row["restarts"], row["with_example"]) == (3, 2, 2)
    text = caption(tmp_path)
    assert "infinitely far" in text and "a point costs 2 times as many" in text
    assert text.count(upper_bound_text([2])) == 1
    assert (
        "Dots: iterations 1, 2, at the" in text
        and "n: MIT-BIH: 3 points" in text
        and ATTACK in text
    )
    assert "pooled" not in text


def test_curves_against_every_budget(tmp_path):
    boundary, iterate, queries = made_traces(4, 7, 3, 30)
    files = attack_files(tmp_path, "MLP", boundary, iterate, queries)
    curve = convergence_curve(files, [read_traces(files.arrays[0])])
    assert curve.budgets[0] == queries[..., 0].min() and curve.budgets[-1] == queries.max()
    assert len(curve.budgets) > 0.8 * convergence.BUDGETS
    for column in range(0, len(curve.budgets), 17):
        done = queries <= curve.budgets[column]
        best = np.where(done, boundary.astype(np.float32), INF).min(axis=(1, 2))
        assert curve.boundary[1, column] == pytest.approx(np.median(best))
        assert curve.boundary[0, column] == np.sort(best)[1]  # .25 * 6 = 1.5, downwards
        assert curve.boundary[2, column] == np.sort(best)[5]
        assert curve.with_example[column] == np.isfinite(best).sum()
    assert curve.boundary[1, -1] == pytest.approx(np.median(boundary[..., -1].min(axis=1)))
    assert curve.iterate[-1] == pytest.approx(np.median(iterate[..., -1].min(axis=1)))
    marks = {t: np.median(queries[..., t]) for t in (7, 15, 30)}
    assert curve.marks == marks


def test_misclassified_points_count_as_zero_from_the_start_on(tmp_path):
    boundary, iterate, queries = made_traces(4, 4, 2, 6)
    for array, spent in ((boundary, 0), (iterate, 0), (queries, 1)):
        array[0] = spent
    frame = built(tmp_path, [attack_files(tmp_path, "MLP", boundary, iterate, queries)])
    assert frame["queries_per_restart"].iloc[0] == queries[1:, :, 0].min()
    assert (frame["boundary_lower_quartile"] == 0).all()
    assert (frame["with_example"] >= 1).all()
    assert frame["boundary_median"].iloc[-1] == pytest.approx(
        np.median(boundary[..., -1].min(axis=1))
    )


def test_the_picture_has_a_panel_for_each_model_and_data_set(tmp_path, figures):
    models = [
        attack_files(tmp_path, name, *made_traces(i, 5, 2, 12), dataset=dataset)
        for i, (name, dataset) in enumerate(
            [("MLP", "MIT-BIH"), ("CNN", "MIT-BIH"), ("RandomForest", "PTBD")]
        )
    ]
    frame = built(tmp_path, models, norm="inf")
    (figure,) = figures
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["MLP", "CNN", "Random forest"]
    mlp, _, forest = figure.axes
    assert (mlp.get_xscale(), mlp.get_yscale()) == ("log", "log")
    assert mlp.get_ylabel() == "L∞ distance"
    colour = plotting.model_colour("MLP")
    part = frame[(frame["model"] == "MLP") & np.isfinite(frame["boundary_median"])]
    (line, dots) = [line for line in mlp.lines if line.get_color() == colour]
    assert line.get_xdata() == pytest.approx(part["queries_per_restart"].to_numpy())
    assert line.get_ydata() == pytest.approx(part["boundary_median"].to_numpy())
    for queries, height in zip(dots.get_xdata(), dots.get_ydata(), strict=True):
        assert height == at(part, queries)["boundary_median"]
    assert len(dots.get_xdata()) == 3
    (dashed,) = [line for line in mlp.lines if line.is_dashed()]
    assert dashed.get_ydata() == pytest.approx(
        frame.loc[(frame["model"] == "MLP"), "iterate_median"].replace(INF, NAN).dropna()
    )
    # The other model of the data set behind it, none behind the only one.
    assert (len(mlp.lines), len(forest.lines)) == (4, 3)
    headings = [block.get_suptitle() for block in figure.subfigs]
    assert headings == ["MIT-BIH", "PTBD"]
    assert {block.get_supxlabel() for block in figure.subfigs} == {"Queries per restart"}


def test_more_data_sets_still_fit_on_a_page(tmp_path, figures):
    models = [
        attack_files(tmp_path, name, *made_traces(1, 3, 1, 4), dataset=dataset)
        for dataset in ("A", "B", "C")
        for name in ("SCD01", "SCDCE", "BNN", "MLP", "CNN", "RandomForest")
    ]
    built(tmp_path, models)
    assert figures[0].get_size_inches()[1] < 9
    assert len(figures[0].axes) == 18


def test_an_attack_that_never_succeeds_is_drawn_as_that(tmp_path, figures):
    failed = np.full((3, 2, 4), NAN)
    models = [
        attack_files(tmp_path, "SCD01", failed, failed, np.zeros((3, 2, 4))),
        attack_files(tmp_path, "MLP", *made_traces(1, 3, 2, 3)),
    ]
    frame = built(tmp_path, models)
    assert set(frame["model"]) == {"MLP"}
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert texts == ["the median distance\nis 0 or infinite"]


def test_engines_without_traces_are_not_run(tmp_path, figures):
    boundary, iterate, queries = made_traces(1, 3, 2, 5)
    traced = attack_files(tmp_path, "MLP", boundary, iterate, queries)
    plain = attack_files(tmp_path, "CNN", boundary[..., -1], iterate[..., -1])
    frame = built(tmp_path, [traced, plain])
    assert set(frame["model"]) == {"MLP"} and len(figures[0].axes) == 1
    assert "Not run (no trace was kept): MIT-BIH (CNN)." in caption(tmp_path)
    frame = built(tmp_path, [plain])
    assert frame.empty and "boundary_median" in frame.columns
    assert "Nothing is drawn" in caption(tmp_path)
    assert "not run" in figures[1].texts[0].get_text()


def test_stand_ins_are_marked(tmp_path, figures):
    parts = made_traces(1, 3, 2, 5)
    models = [
        attack_files(tmp_path, "MLP", *parts, source="standin"),
        attack_files(tmp_path, "MLP", *parts, dataset="PTBD"),
    ]
    frame = built(tmp_path, models)
    assert frame.groupby("dataset")["data"].first().to_dict() == {
        "MIT-BIH": "SYNTHETIC",
        "PTBD": "real",
    }
    (figure,) = figures
    assert plotting.SYNTHETIC_TEXT in [text.get_text() for text in figure.texts]
    headings = [block.get_suptitle() for block in figure.subfigs]
    assert headings == ["MIT-BIH (SYNTHETIC)", "PTBD"]
    assert caption(tmp_path).startswith("SYNTHETIC")


def test_replicates_are_pooled_if_they_match(tmp_path):
    first = attack_files(tmp_path, "MLP", *made_traces(1, 3, 2, 5))
    second = attack_files(tmp_path, "second", *made_traces(2, 3, 2, 5))
    both = dataclasses.replace(first, arrays=[*first.arrays, *second.arrays])
    frame = built(tmp_path, [both])
    ends = [made_traces(seed, 3, 2, 5)[0][..., -1].min(axis=1) for seed in (1, 2)]
    assert frame["boundary_median"].iloc[-1] == pytest.approx(np.median(np.concatenate(ends)))
    assert (frame["n"] == 6).all() and (frame["replicates"] == 2).all()
    assert "Points of all 2 replicates are pooled." in caption(tmp_path)
    other = attack_files(tmp_path, "other", *made_traces(2, 3, 2, 7))
    bad = dataclasses.replace(first, arrays=[*first.arrays, *other.arrays])
    with pytest.raises(InputError, match="different numbers of restarts or iterations"):
        built(tmp_path, [bad])


def test_a_model_attacked_with_less_is_told_apart(tmp_path):
    models = [
        attack_files(tmp_path, "MLP", *made_traces(1, 3, 5, 8)),
        attack_files(tmp_path, "BNN", *made_traces(2, 3, 5, 8)),
        attack_files(tmp_path, "CNN", *made_traces(3, 3, 2, 4)),
    ]
    built(tmp_path, models)
    text = caption(tmp_path)
    assert "a point costs 5 (MIT-BIH (CNN): 2) times as many" in text
    assert "Dots: iterations 2, 4, 8 (MIT-BIH (CNN): 1, 2, 4), at the median" in text


def test_equal_traces_make_equal_files(tmp_path):
    models = [attack_files(tmp_path, "MLP", *made_traces(1, 3, 2, 5))]
    files = []
    for folder in ("a", "b"):
        files.append(build_convergence(models, tmp_path / folder / "c", CONTEXT, ATTACK))
    for one, two in zip(*files, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
