"""Figures 1 to 5 and the panel of ima: what they draw, from made searches and made images."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Circle, Rectangle
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import kept_images, plotting
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.request import Entry, Request
from medrobust.studies.ima import drawings as ima_drawings
from medrobust.studies.ima import images as ima_images

from tests.unit.attack_records import clean_table, level_records
from tests.unit.drawing import draw

CONTEXT = RunContext("ima", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
SUFFIXES = (".pdf", ".png", ".svg", ".csv", ".provenance.json")
SEARCHES = ("figure2", "figure3", "figure4", "figure5")
LEVELS = (0.3, 0.01, 0.03, 0.1)


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Draws coarsely: what is tested here does not depend on it."""
    monkeypatch.setitem(plotting._SETTINGS, "savefig.dpi", 50)


def build(folder, name, entries):
    attacks = {"ct_images": {"name": "pgd", "num_steps": 100, "grid": {"epsilon": list(LEVELS)}}}
    classes, stem = ("upper", "lower"), str(folder / name)
    request = Request(entries, "", stem, CONTEXT, {}, class_names=classes, attacks=attacks)
    files = draw("ima", name, request)
    assert {path.name for path in files} == {f"{name}{suffix}" for suffix in SUFFIXES}
    return pd.read_csv(folder / f"{name}.csv"), io.read_json(folder / f"{name}.provenance.json")


# Searches


def field(low, high, width=24):
    """A map of the probability of class 1, whose boundary is x_1 = 0.3."""
    first, second = (np.linspace(a, b, width) for a, b in zip(low, high, strict=True))
    probability = np.repeat(1 / (1 + np.exp(-20 * (first[None] - 0.3))), width, axis=0)
    return {"first": first, "second": second, "probability": probability}


def made_search(order=np.inf):
    """What a search leaves where x_1 < 0.3 is class 0: ends at 0.26 and 0.34."""
    right, wrong = np.array([0.26, 0.1]), np.array([0.34, 0.1])
    low, high, middles, called = 0.0, 1.0, [], []
    for _ in range(10):
        share = (low + high) / 2
        middles.append(right + share * (wrong - right))
        called.append(middles[-1][0] < 0.3)
        low, high = (share, high) if called[-1] else (low, share)
    x = np.array([0.0, 0.1])
    view = field((-0.6, -0.5), (0.6, 0.7))
    point = {"label": [0], "x": x, "start_radius": [0.1], **view}
    parts = {
        "case0": point | {"point_id": [7], "margin": [0.2], "path": x + 0.01 * np.ones((21, 1))},
        "case1": point
        | {"point_id": [8], "margin": [0.4], "path": np.array([[0.1, 0.1], [0.18, 0.1]])}
        | {"right": right, "wrong": wrong, "middles": middles, "middle_right": called}
        | {f"segment_{n}": v for n, v in field((0.24, 0.05), (0.36, 0.15)).items()},
        "shrink": point | {"point_id": [9], "margin": [0.4], "after": [0.3], "noisy": [0.3, 0.1]},
        "balls": {"point_id": [1, 2], "label": [0, 1], "x": [[0, 0.1], [0.5, 0.2]]}
        | {"margin": [0.3, 0.2], "noisy": [[0.3, 0.1], [np.nan, np.nan]], **view},
    }
    parts["case0"]["clear"] = [1]
    parts["case1"]["path"] = np.concatenate([parts["case1"]["path"], [right, wrong]])
    general = {"order": [order], "margin_step": [0.01], "largest_margin": [0.4], "steps": [20]}
    general |= {"reach": [4.0], "points": [400], "shrunk": [17]}
    arrays = {f"{p}_{n}": v for p, part in parts.items() for n, v in part.items()} | general
    whole = ("point_id", "label", "points", "shrunk", "steps")
    return {
        name: np.asarray(value, dtype=np.int64 if name.endswith(whole) else np.float32)
        for name, value in arrays.items()
    }


def search_entry(folder, arrays, source="generated", model="IMA"):
    path = folder / f"search_{model}.safetensors"
    io.write_tensors(path, arrays)
    return Entry("Moons", model, source, 0, search=str(path))


def without(arrays, *parts):
    return {n: v for n, v in arrays.items() if not n.startswith(tuple(f"{p}_" for p in parts))}


def test_figure_2_draws_both_ways_and_says_whose(tmp_path):
    arrays = made_search()
    drawn, facts = build(tmp_path, "figure2", [search_entry(tmp_path, arrays)])
    for panel, part in zip("ab", ("case0", "case1"), strict=True):
        own = drawn[(drawn["panel"] == panel) & (drawn["what"] != "x")]
        np.testing.assert_allclose(own[["first", "second"]], arrays[f"{part}_path"])
        assert set(own["point_id"]) == {int(arrays[f"{part}_point_id"][0])}
        assert list(own["step"]) == list(range(len(own)))
    ends = drawn[drawn["panel"] == "b"]["called"]
    assert list(ends[1:]) == ["right", "right", "right", "wrong"]
    assert set(drawn.loc[drawn["panel"] == "a", "called"].dropna()) == {"right"}
    assert list(drawn.loc[drawn["what"] == "x", "radius"]) == pytest.approx([0.2, 0.4])
    caption = facts["caption"]
    assert "Training point 7 (class upper), margin 0.200" in caption
    assert "Training point 8 (class upper)" in caption and "step 3 leads to" in caption
    assert "all 20 steps (1 different places)" in caption and "squares" in caption
    assert "does not reach the boundary" in caption and not facts["synthetic"]
    assert [i["path"] for i in facts["inputs"]] == ["search_IMA.safetensors"]


@pytest.mark.parametrize("order, shape", [(np.inf, Rectangle), (2.0, Circle)])
def test_balls_have_the_shape_of_their_norm(order, shape):
    with plotting.style():
        axes = plotting.new_figure().subplots()
        ima_drawings._ball(axes, np.array([1.0, 2.0]), 0.5, order)
    (patch,) = axes.patches
    assert type(patch) is shape
    box = patch.get_path().get_extents(patch.get_patch_transform())
    assert np.allclose([box.x0, box.x1, box.y0, box.y1], [0.5, 1.5, 1.5, 2.5])


def test_a_caption_tells_norm_model_and_search(tmp_path):
    _, facts = build(tmp_path, "figure4", [search_entry(tmp_path, made_search(2.0), model="m")])
    assert "L2 norm, circles" in facts["caption"] and "The model is m on Moons" in facts["caption"]
    assert "20 steps of 4 ε / 20" in facts["attack"]


def test_figure_3_halves_towards_the_boundary(tmp_path):
    drawn, facts = build(tmp_path, "figure3", [search_entry(tmp_path, made_search())])
    steps = drawn[drawn["halving"] > 0]
    assert len(steps) == 10 and list(drawn["share"][:2]) == [0, 1]
    # The boundary is halfway: the first middle is on it, all others beside it.
    np.testing.assert_allclose(steps["first"], 0.26 + 0.08 * steps["share"], atol=1e-6)
    np.testing.assert_allclose(steps["high"] - steps["low"], 0.5 ** np.arange(10))
    np.testing.assert_allclose(steps["share"], (steps["low"] + steps["high"]) / 2)
    called = steps.set_index("halving")["called"]
    for halving in range(1, 10):
        after = steps[steps["halving"] == halving + 1].iloc[0]
        middle = steps[steps["halving"] == halving].iloc[0]["share"]
        assert after["low" if called[halving] == "right" else "high"] == middle
    assert "halved 10 times" in facts["caption"] and "training point 8" in facts["caption"]
    assert "0.08 long (L2), the last bracket 0.0002" in facts["caption"]
    assert "dashed line: the place of x_n" in facts["caption"]
    assert "Dots: classified correctly; crosses: misclassified." in facts["caption"]


def test_middles_look_alike_in_both_panels_and_everything_drawn_is_explained():
    part = ima_drawings.Search(None, made_search()).part("case1")
    rows = ima_drawings.halving_rows(part)
    with plotting.style():
        figure = plotting.new_figure()
        left, right = figure.subplots(1, 2)
        ima_drawings._draw_segment(left, part)
        ima_drawings._draw_brackets(right, rows)
        ima_drawings._halving_legend(figure)

    def marked(axes):
        """Marker and colour by place along the segment, which lies along x_1."""
        found = {}
        for line in axes.lines:
            if line.get_marker() in ("o", "X"):
                look = (line.get_marker(), line.get_color())
                first, second = (np.atleast_1d(one) for one in line.get_data())
                shares = second if axes is right else (first - 0.26) / 0.08
                found |= {round(float(share), 4): look for share in shares}
        return found

    looks = {"right": ("o", ima_drawings.MIDDLE_RIGHT), "wrong": ("X", ima_drawings.MIDDLE_WRONG)}
    expected = {round(row["share"], 4): looks[row["called"]] for row in rows.to_dict("records")}
    assert marked(left) == expected
    del expected[0.0], expected[1.0]
    assert marked(right) == expected and set(expected.values()) == set(looks.values())
    (place,) = (line for line in right.lines if line.get_linestyle() == "--")
    assert place.get_ydata()[0] == rows["share"].iloc[-1]
    (legend,) = figure.legends
    named = dict(zip((t.get_text() for t in legend.texts), legend.legend_handles, strict=True))
    assert {
        (named[f"called {called}"].get_marker(), named[f"called {called}"].get_color())
        for called in looks
    } == set(looks.values())
    assert named["place of $x_n$"].get_color() == place.get_color()
    assert {"noisy point $x_n$", "bracket", "decision boundary"} < set(named)


def test_figure_4_draws_the_ball_before_and_after(tmp_path):
    drawn, facts = build(tmp_path, "figure4", [search_entry(tmp_path, made_search())])
    balls = drawn.dropna(subset=["radius"])
    assert list(balls["radius"]) == pytest.approx([0.4, 0.3])
    noisy = drawn[drawn["what"] == "noisy point"][["first", "second"]].to_numpy()
    np.testing.assert_allclose(noisy, [[0.3, 0.1]], atol=1e-6)
    assert "17 of 400 margins became smaller" in facts["caption"]


def test_figure_5_draws_margins_and_three_computed_balls(tmp_path):
    drawn, facts = build(tmp_path, "figure5", [search_entry(tmp_path, made_search())])
    left = drawn[(drawn["panel"] == "a") & (drawn["what"] == "ball")]
    assert list(left["radius"]) == pytest.approx([0.3, 0.2]) and list(left["label"]) == [0, 1]
    assert (drawn[drawn["panel"] == "a"]["what"] == "noisy point").sum() == 1
    three = drawn[(drawn["panel"] == "b") & (drawn["what"] == "ball")]
    assert len(three) == 3 and "Computed, not from data" in facts["caption"]
    assert facts["n"] == "1 and 1 training points in (a), no data in (b)"


@pytest.mark.parametrize("seed", range(5))
def test_balls_grow_until_they_meet(seed):
    """Grown in small steps, as margins are, up to a step the same radii."""
    points = np.random.default_rng(seed).uniform(-1, 1, (4, 2))
    radii = ima_drawings.grown_radii(points)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(gaps, np.inf)
    room = gaps - radii[:, None] - radii[None]
    assert (room > -1e-12).all() and np.allclose(room.min(axis=1), 0)
    grown, step = np.zeros(4), 1e-4
    while True:
        free = (gaps - grown[:, None] - grown[None]).min(axis=1) > 2 * step
        if not free.any():
            break
        grown[free] += step
    np.testing.assert_allclose(grown, radii, atol=20 * step)


def test_the_three_balls_meet_pair_by_pair_on_the_boundaries():
    radii = ima_drawings.grown_radii(ima_drawings.THREE)
    for (i, j), at in zip(ima_drawings._PAIRS, ima_drawings.contacts(radii), strict=True):
        distances = ima_drawings.nearest_ball(at[None], ima_drawings.THREE, radii)[0]
        assert distances[i] == pytest.approx(0) and distances[j] == pytest.approx(0)
        assert distances[3 - i - j] > 0.1


def test_stand_ins_are_marked(tmp_path):
    drawn, facts = build(tmp_path, "figure4", [search_entry(tmp_path, made_search(), "standin")])
    assert facts["synthetic"] and facts["title"].startswith("SYNTHETIC DATA")
    assert set(drawn["data"]) == {"SYNTHETIC"}


@pytest.mark.parametrize("name", [*SEARCHES, "figure1", "panel"])
def test_what_was_not_run_is_said(tmp_path, name):
    drawn, facts = build(tmp_path, name, [Entry("Moons", "ce", "generated", 0)])
    assert drawn["status"][0].startswith("not run") and "Not run" in facts["caption"]
    assert "Shows neither data nor published numbers." in facts["caption"]
    assert "n: 0" not in facts["caption"] and "Data:" not in facts["caption"]
    assert drawn["data"].isna().all()
    # The picture says which figure it is, and what is missing; SVG keeps each text as a comment.
    picture = (tmp_path / f"{name}.svg").read_text()
    for text in (facts["title"], f"N{drawn['status'][0][1:]}."):
        assert f"<!-- {text} -->" in picture
    (small_print,) = re.findall(r"<!-- (medrobust, study .*?) -->", picture, re.DOTALL)
    assert small_print.endswith(
        "protocol code, commit c. Shows neither data nor published numbers."
    )


def test_points_that_a_run_has_not_are_said(tmp_path):
    half = search_entry(tmp_path, without(made_search(), "case1", "shrink"))
    drawn, facts = build(tmp_path, "figure2", [half])
    assert set(drawn["panel"]) == {"a"} and "Training point 8" not in facts["caption"]
    for name, words in (
        ("figure3", "no point had its first wrong one"),
        ("figure4", "no margin shrank"),
    ):
        drawn, facts = build(tmp_path, name, [half])
        assert words in drawn["status"][0]
        picture = (tmp_path / f"{name}.svg").read_text()
        assert (
            f"<!-- {facts['title']} -->" in picture and f"<!-- {drawn['status'][0]} -->" in picture
        )
    other = search_entry(tmp_path, without(made_search(), "case0"), model="other")
    drawn, _ = build(tmp_path, "figure2", [Entry("Moons", "ce", "generated", 0), other])
    assert set(drawn["panel"]) == {"b"}


def test_a_missing_or_broken_file_is_an_error(tmp_path):
    gone = Entry("Moons", "IMA", "generated", 0, search=str(tmp_path / "gone.safetensors"))
    with pytest.raises(InputError, match="does not exist"):
        build(tmp_path, "figure2", [gone])
    arrays = made_search()
    for name in ("reach", "case1_middles"):
        broken = search_entry(tmp_path, {n: v for n, v in arrays.items() if n != name})
        with pytest.raises(InputError, match=name):
            build(tmp_path, "figure3", [broken])


# Images


def images_entry(folder, found, *, clean=(1, 0, 0), labels=(0, 0, 0), source="kaggle", **spoil):
    """Three images, by default the first misclassified; ``found`` is level to predictions."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, (3, 1, 16, 16)).astype(np.float32)
    levels = np.array(LEVELS)
    noise = np.sign(rng.normal(size=x.shape))[:, None] * levels[None, :, None, None, None]
    x_adv = (x[:, None] + noise).astype(np.float32)
    ids = np.array([11, 12, 13])
    arrays = {"point_id": ids, "x": x, "x_adv": x_adv, "epsilon": levels} | spoil
    io.write_tensors(folder / "images.safetensors", arrays)
    clean_points = clean_table(np.array(labels), np.array(clean), ids)
    table = level_records(clean_points, {e: np.array(p) for e, p in found.items()}, loss=None)
    io.write_table(folder / "records.parquet", table)
    return Entry(
        "COVID19-CT",
        "ce",
        source,
        0,
        records=[str(folder / "records.parquet")],
        attack_arrays={"ct_images": str(folder / "images.safetensors")},
    )


NEVER = dict.fromkeys(LEVELS, (1, 0, 0))
LATE = NEVER | {0.03: (1, 0, 1), 0.1: (1, 1, 1), 0.3: (1, 1, 1)}


def test_figure_1_is_the_first_image_that_is_right_and_fooled(tmp_path):
    drawn, facts = build(tmp_path, "figure1", [images_entry(tmp_path, LATE)])
    # Image 11 is wrong without noise, 12 is not fooled at 0.03.
    assert set(drawn["point_id"]) == {13} and list(drawn["epsilon"]) == [0, 0.03]
    assert list(drawn["prediction"]) == [0, 1]
    assert list(drawn["largest_change"]) == pytest.approx([0, 0.03], abs=1e-6)
    assert "first of the 3 kept test images that the model classifies correctly" in facts["caption"]
    assert "num steps 100" in facts["attack"] and not facts["synthetic"]


@pytest.mark.parametrize(
    "clean, chosen, words",
    [
        ((1, 0, 0), 12, "None of the 3 kept test images"),
        ((1, 1, 1), 11, "classifies none of the 3"),
    ],
)
@pytest.mark.parametrize("name", ["figure1", "panel"])
def test_where_no_image_is_fooled_the_figure_says_so(tmp_path, name, clean, chosen, words):
    drawn, facts = build(tmp_path, name, [images_entry(tmp_path, NEVER, clean=clean)])
    assert set(drawn["point_id"]) == {chosen} and words in facts["caption"]


def test_the_panel_has_every_level_in_ascending_order(tmp_path):
    entry = images_entry(tmp_path, LATE)
    drawn, facts = build(tmp_path, "panel", [Entry("Moons", "IMA", "generated", 0), entry])
    assert list(drawn["epsilon"]) == [0, 0.01, 0.03, 0.1, 0.3]
    assert list(drawn["prediction"]) == [0, 0, 1, 1, 1]
    assert list(drawn["largest_change"]) == pytest.approx([0, 0.01, 0.03, 0.1, 0.3], abs=1e-6)
    images = ima_images.read_images(Request([entry], "", "", CONTEXT, {}))
    with plotting.style():
        axes = plotting.new_figure().subplots()
        ima_images._heading(axes, "(a)", images, 2, images.column(0.03))
        ima_images._heading(axes, "(a)", images, 2, images.column(0.01))
    wrong, right = axes.texts
    assert wrong.get_text() == "called infected (wrong)" and wrong.get_color() == kept_images.WRONG
    assert right.get_text() == "called uninfected" and right.get_color() != kept_images.WRONG
    _, facts = build(tmp_path, "panel", [images_entry(tmp_path, LATE, source="standin")])
    assert facts["synthetic"]


def test_images_that_do_not_fit_are_refused(tmp_path):
    flat = np.zeros((3, 256), np.float32)
    with pytest.raises(InputError, match="not grey images"):
        build(tmp_path, "panel", [images_entry(tmp_path, LATE, x=flat)])
    some = {level: LATE[level] for level in LEVELS[:3]}
    with pytest.raises(InputError, match=r"no record of image 11 at epsilon 0\.1"):
        build(tmp_path, "panel", [images_entry(tmp_path, some)])
    entry = images_entry(tmp_path, LATE)
    images = ima_images.read_images(Request([entry], "", "", CONTEXT, {}))
    with pytest.raises(InputError, match=r"not attacked at epsilon 0\.2"):
        images.column(0.2)
    (tmp_path / "images.safetensors").unlink()
    with pytest.raises(InputError, match="does not exist"):
        build(tmp_path, "figure1", [entry])
