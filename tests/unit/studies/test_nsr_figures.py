"""Figures of nsr from made tallies: what they draw."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import plotting
from medrobust.reporting.matrix import draw_cells, draw_key, points_text
from medrobust.studies.nsr import figures as nsr_figures
from medrobust.studies.nsr import results as nsr_results
from medrobust.studies.nsr.results import (
    DATASET,
    LEVELS,
    METHODS,
    NOISE_LEVELS,
    Entry,
    read_printed,
    read_results,
)

from tests.unit.drawing import draw
from tests.unit.nsr_files import labels_of, made_entry, made_request

SIZES = (120, 12, 31, 8, 40)
PER_CLASS = 8
SUFFIXES = (".pdf", ".png", ".svg", ".csv", ".provenance.json")


@pytest.fixture(autouse=True)
def coarse_and_few(monkeypatch):
    """Draws coarsely and less often: what is tested here does not depend on it."""
    monkeypatch.setitem(plotting._SETTINGS, "savefig.dpi", 50)
    monkeypatch.setattr(nsr_results, "RESAMPLES", 499)


@pytest.fixture(scope="module")
def published(root):
    return root / "resources/published/nsr.csv"


@pytest.fixture(scope="module")
def entries(tmp_path_factory, published):
    folder = tmp_path_factory.mktemp("nsr")
    labels = labels_of(SIZES)
    return [
        made_entry(folder, labels, model, ("pgd100", "spsa"), published, per_class=PER_CLASS)
        for model in ("MLP:ce", "MLP:loss2", "CNN:ce")
    ]


def build(folder, name, published, entries):
    request = made_request(folder, name, published, entries, per_class=PER_CLASS)
    files = draw("nsr", name, request)
    assert {path.name for path in files} == {f"{name}{suffix}" for suffix in SUFFIXES}
    return pd.read_csv(folder / f"{name}.csv"), io.read_json(folder / f"{name}.provenance.json")


def test_curves_draw_the_tables_numbers(tmp_path, published, entries):
    drawn, facts = build(tmp_path, "figure1", published, entries)
    printed = read_printed(str(published))
    results = read_results(made_request(tmp_path, "x", published, entries))
    ours = drawn[drawn["origin"] == "reproduced"]
    assert set(ours["method"]) == {"ce", "loss2"} and set(ours["epsilon"]) == set(LEVELS)
    for row in drawn.to_dict("records"):
        key = (f"MLP:{row['method']}", "pgd100", row["metric"], row["epsilon"])
        if row["origin"] == "published":
            assert row["value"] == printed[key]
        else:
            model, attack, metric, epsilon = key
            one = results.estimate(model, attack, epsilon, metric)
            assert (row["value"], row["ci_low"], row["ci_high"]) == pytest.approx(
                (one.value, one.ci_low, one.ci_high)
            )
    assert (drawn["origin"] == "published").sum() == 2 * len(METHODS) * len(LEVELS)
    assert "Not run: jacob, mse, mseMargin, loss1, adv0.1, adv0.2, adv0.3." in facts["caption"]


def test_each_figure_is_of_its_attack_and_network(tmp_path, published, entries):
    for name, title in {
        "figure2": "Figure 2. 100-PGD attack on the CNNs",
        "figure5": "Figure 5. 20-PGD attack on the CNNs",
        "figure6": "Figure 6. SPSA attack on the MLPs",
    }.items():
        drawn, facts = build(tmp_path, name, published, entries)
        assert facts["title"] == title
        assert ("not run" in facts["n"]) == (name == "figure5")
    assert set(drawn.loc[drawn["origin"] == "reproduced", "method"]) == {"ce", "loss2"}
    none, _ = build(tmp_path, "figure4", published, entries)
    assert set(none["origin"]) == {"published"}


def test_curves_stand_at_equal_distances_from_0_to_1(published, entries, tmp_path):
    results = read_results(made_request(tmp_path, "x", published, entries))
    curves = nsr_figures.CURVES[0]
    drawn = nsr_figures.curve_points(curves, results, read_printed(str(published)))
    with plotting.style():
        figure = nsr_figures._draw_curves(curves, drawn)
    panels = figure.axes
    assert len(panels) == 4
    for axes in panels:
        assert axes.get_ylim() == (0, 1)
        assert list(axes.get_xticks()) == list(range(7))
        assert all(list(line.get_xdata()) == list(range(7)) for line in axes.lines)
    labels = [tick.get_text() for tick in panels[2].get_xticklabels()]
    assert labels == ["0", "0.01", "0.03", "0.05", "0.1", "0.2", "0.3"]
    styles = [plotting.model_style(method) for method in METHODS]
    assert len({style["color"] for style in styles}) == len(METHODS)
    assert len({(str(s["linestyle"]), s["marker"]) for s in styles}) == len(METHODS)


@pytest.mark.parametrize("seed", range(5))
def test_the_geometry_is_the_nearest_point_of_the_plane(seed):
    minimize = pytest.importorskip("scipy.optimize").minimize
    random = np.random.default_rng(seed)
    x, w = random.normal(size=(2, 2))
    step = nsr_figures.nearest_sign_change(x, w)
    assert w @ (x + step) == pytest.approx(0, abs=1e-12)
    found = minimize(
        lambda e: e @ e,
        [1.0, 1.0],
        constraints={"type": "eq", "fun": lambda e: w @ (x + e)},
        options={"ftol": 1e-14},
    )
    assert np.allclose(found.x, step, atol=1e-5)


def test_the_geometry_figure_tells_both_lengths(tmp_path, published):
    drawn, facts = build(tmp_path, "figure3", published, [])
    cosines = np.abs(np.cos(np.deg2rad(drawn["angle_degrees"])))
    assert np.allclose(drawn["epsilon_norm_over_x_norm"], cosines)
    assert drawn["epsilon_norm_over_x_norm"].is_monotonic_increasing
    assert not facts["synthetic"] and "no data of this run enters" in facts["caption"]


def beat(folder, source="kaggle", model="MLP:ce", **spoil):
    levels = np.array([0.3, 0.01, 0.1], np.float32)
    x = np.random.default_rng(0).random((1, 187)).astype(np.float32)
    x_adv = (x[:, None, :] + levels[None, :, None]).astype(np.float32)
    x_adv[0, 1] = np.nan
    arrays = {"point_id": np.array([77]), "x": x, "x_adv": x_adv, "epsilon": levels} | spoil
    io.write_tensors(folder / "beat.safetensors", arrays)
    path = str(folder / "beat.safetensors")
    return Entry(DATASET, model, source, 0, attack_arrays={"beat": path}), x


def test_figure8_draws_the_beat_at_each_level(tmp_path, published):
    entry, x = beat(tmp_path, source="standin")
    drawn, facts = build(tmp_path, "figure8", published, [entry])
    assert facts["synthetic"] and "Heartbeat 77" in facts["caption"]
    levels = list(dict.fromkeys(drawn["epsilon"].round(6)))
    assert levels == [0, 0.01, 0.1, 0.3]
    for level, part in drawn.groupby(drawn["epsilon"].round(6)):
        assert np.allclose(part["original"], x[0]) and len(part) == 187
        if level == 0.01:
            assert part["adversarial"].isna().all()
        else:
            assert np.allclose(part["adversarial"] - part["original"], level, atol=1e-6)
    assert drawn["time_s"].max() == pytest.approx(186 / 120)
    assert nsr_figures._change_text(np.full(4, np.nan)) == "the attack failed"
    assert nsr_figures._change_text(np.array([0.1, -0.3])) == "largest 0.30, RMS 0.224"


def test_figure8_shows_the_first_of_several_trainings(tmp_path, published):
    entry, x = beat(tmp_path)
    second = dataclasses.replace(entry, replicate=1, attack_arrays={"beat": "not read"})
    drawn, _ = build(tmp_path, "figure8", published, [second, entry])
    assert np.allclose(drawn["original"].iloc[:187], x[0])


def test_figure8_refuses_what_is_no_single_beat(tmp_path, published):
    entry, _ = beat(tmp_path, x_adv=np.zeros((1, 2, 187), np.float32))
    other = dataclasses.replace(entry, model="CNN:mse")
    with pytest.raises(InputError, match="arrays of one attacked beat, found 2"):
        build(tmp_path, "figure8", published, [entry, other])
    with pytest.raises(InputError, match="not of one beat at 3 levels"):
        build(tmp_path, "figure8", published, [entry])


def test_figure8_says_that_its_attack_was_not_run(tmp_path, published):
    entry, _ = beat(tmp_path, source="standin")
    left_out = dataclasses.replace(entry, attack_arrays={})
    drawn, facts = build(tmp_path, "figure8", published, [left_out])
    assert list(drawn["status"]) == ["not run: the attack of one heartbeat"]
    assert facts["synthetic"] and "Not run: the attack of one heartbeat." in facts["caption"]
    assert "Shows neither data nor published numbers." in facts["caption"]
    picture = (tmp_path / "figure8.svg").read_text()
    assert "<!-- Figure 8. One heartbeat at all noise levels -->" in picture
    assert "<!-- Not run: the attack of one heartbeat. -->" in picture


def test_the_matrix_holds_all_756_numbers(tmp_path, published, entries):
    drawn, facts = build(tmp_path, "matrix", published, entries)
    assert len(drawn) == 756
    ran = drawn[drawn["reproduced"].notna()]
    # 100-PGD and SPSA, two metrics, three models.
    assert len(ran) == 2 * 2 * 3 * len(LEVELS)
    assert np.allclose(ran["difference"], ran["reproduced"] - ran["published"])
    low, high = ran["ci_low"] - 0.005, ran["ci_high"] + 0.005
    wanted = (ran["published"] < low - 1e-9) | (ran["published"] > high + 1e-9)
    assert (ran["outside"].astype(bool) == wanted).all()
    assert f"({int((~wanted).sum())} of {len(ran)} that were run)" in facts["caption"]


def test_the_key_shows_numbers_as_the_cells_do():
    cell = {"difference": 0.03, "outside": False}
    cells = {(0, 0): cell, (0, 1): cell | {"outside": True}, (0, 2): cell | {"difference": None}}
    with plotting.style():
        figure = plotting.new_figure()
        axes = figure.subplots()
        draw_cells(axes, cells, ["a"], ["x", "y", "z"], title="t")
        draw_key(figure)
        figure.canvas.draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == [
        *("published within the 95 % interval", "published outside it", "not run")
    ]
    within, outside, empty = legend.legend_handles
    for handle, text in zip((within, outside), axes.texts, strict=True):
        assert text.get_text() in handle.get_marker()
        assert handle.get_color() == text.get_color()
        assert ("mathbf" in handle.get_marker()) == (text.get_fontweight() == "bold")
    (hatched,) = axes.patches
    assert empty.get_hatch() == hatched.get_hatch()
    assert empty.get_edgecolor() == hatched.get_edgecolor()
    assert legend.get_window_extent().y0 > axes.title.get_window_extent().y1


def test_cells_show_points_with_sign():
    shown = [points_text(v) for v in (12.4, -0.4, 0.4, -3.5, 0.6)]
    assert shown == ["+12", "0", "0", "−4", "+1"]
    assert len(NOISE_LEVELS) == 6
