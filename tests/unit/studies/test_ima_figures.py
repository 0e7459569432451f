"""Curves, decision regions, margins and noise of ima from made results: what they show."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import plotting
from medrobust.reporting.request import Entry
from medrobust.studies.ima import (
    curves as ima_curves,
)
from medrobust.studies.ima import (
    margins as ima_margins,
)
from medrobust.studies.ima import (
    noise as ima_noise,
)
from medrobust.studies.ima import (
    results as ima_results,
)
from medrobust.studies.ima.margins import excess_draws
from medrobust.studies.ima.results import main_table, read_printed, read_results

from tests.unit.drawing import draw
from tests.unit.ima_files import (
    COVID,
    FASHION,
    MOONS,
    labels_of,
    made_entry,
    made_margins,
    made_request,
    write_margins,
    write_plane,
)

SUFFIXES = (".pdf", ".png", ".svg", ".csv", ".provenance.json")


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Draws coarsely: what is tested here does not depend on it."""
    monkeypatch.setitem(plotting._SETTINGS, "savefig.dpi", 50)


@pytest.fixture(scope="module")
def published(root):
    return root / "resources/published/ima.csv"


@pytest.fixture(scope="module")
def printed(published):
    return read_printed(str(published))


@pytest.fixture(scope="module")
def entries(tmp_path_factory, printed):
    folder = tmp_path_factory.mktemp("ima")
    moons = [
        made_entry(
            folder,
            printed,
            MOONS,
            "IMA",
            attacks=["pgd_moons"],
            replicate=k,
            spread=0.02,
            plane=write_plane(folder / f"plane{k}.safetensors", 0.5 - k, k),
            margins=made_margins(folder, "IMA", "pgd_moons", k),
        )
        for k in range(2)
    ]
    covid = [
        made_entry(folder, printed, COVID, m, attacks=["pgd_covid"]) for m in ("adv0.1", "adv0.15")
    ]
    for model in ("IMA", "MMA"):
        margins = made_margins(folder, model, "pgd_covid")
        more = {"attacks": ["pgd_covid"], "margins": margins}
        covid.append(made_entry(folder, printed, COVID, model, **more))
    fashion = [
        made_entry(folder, printed, FASHION, "ce", attacks=["pgd_fashion", "pgd_fashion_l2"]),
        made_entry(folder, printed, FASHION, "L2:DDN", attacks=["pgd_fashion_l2"]),
    ]
    return [*moons, *covid, *fashion]


def build(folder, name, published, entries):
    files = draw("ima", name, made_request(folder, name, published, entries))
    if name.startswith("figure"):
        assert {path.name for path in files} == {f"{name}{suffix}" for suffix in SUFFIXES}
    return pd.read_csv(folder / f"{name}.csv"), io.read_json(folder / f"{name}.provenance.json")


# --- curves ---


def comments(path):
    """Returns the texts of a picture, which SVG keeps as comments."""
    return re.findall(r"<!-- (.*?) -->", path.read_text())


def made_curves(replicates):
    """Returns curves of this run: one value at two levels, by method the trainings of each."""
    rows = [
        {"dataset": "d", "norm": "L2", "method": method, "origin": "reproduced", "replicates": n}
        for method, counts in replicates.items()
        for n in counts
    ]
    return pd.DataFrame(rows, columns=["dataset", "norm", "method", "origin", "replicates"])


@pytest.mark.parametrize(
    ("replicates", "line", "band", "words"),
    [
        ({"a": (1, 1)}, "one training", "95 % interval", "one training; bands: the 95 % interval"),
        (
            *({"a": (5, 5), "b": (5, 5)}, "mean of 5 trainings", "lowest to highest training"),
            "the mean of 5 trainings; bands: from the lowest to the highest of them.",
        ),
        (
            *({"a": (3, 3), "b": (5, 5)}, "mean of 3 to 5 trainings", "lowest to highest training"),
            "the mean of 3 to 5 trainings; bands: from the lowest to the highest of them.",
        ),
        (
            *({"a": (1, 1), "b": (5, 5)}, "mean of 1 to 5 trainings"),
            "lowest to highest training, or 95 % interval",
            "and the 95 % interval of models trained once",
        ),
        (
            *({"a": (1, 5)}, "mean of 1 to 5 trainings"),
            "lowest to highest training, or 95 % interval",
            "the mean of 1 to 5 trainings",
        ),
    ],
)
def test_lines_and_bands_are_named_by_what_they_are(replicates, line, band, words):
    drawn = made_curves(replicates)
    found = ima_curves.run_lines(drawn)
    assert (found.line, found.band) == (f"this run, {line}", band)
    assert words in ima_curves.curve_note(drawn)
    assert ima_curves.run_lines(drawn.assign(origin="published")) is None


def test_methods_stand_in_one_order():
    names = ["ce", "adv0.3", "rand0.2", "adv0.15", "DDN", "L2:IMA", "new", "adv", "MMA", "TRADES"]
    assert ima_curves.in_order(names) == [
        *("L2:IMA", "MMA", "TRADES", "DDN", "adv", "adv0.15", "adv0.3", "rand0.2", "ce", "new")
    ]


def test_curves_draw_the_tables_numbers(tmp_path, published, printed, entries):
    drawn, facts = build(tmp_path, "figure7", published, entries)
    results = read_results(made_request(tmp_path, "x", published, entries))
    ours = drawn[drawn["origin"] == "reproduced"]
    assert set(zip(ours["norm"], ours["method"], strict=True)) == {
        *(("Linf", "ce"), ("L2", "ce"), ("L2", "DDN"))
    }
    for row in drawn.to_dict("records"):
        table = main_table(FASHION, row["norm"])
        if row["origin"] == "published":
            level = f"{row['epsilon']:g}"
            assert row["value"] == printed.value(table, row["method"], level)
        else:
            where = (FASHION, table.model(row["method"]), table.attack, row["epsilon"])
            one = results.estimate(*where)
            assert (row["value"], row["ci_low"], row["ci_high"]) == pytest.approx(
                (one.value, one.ci_low, one.ci_high)
            )
    assert (drawn["origin"] == "published").sum() == 49 + 56
    assert "this run, one training; bands: the 95 % interval over test points." in facts["caption"]
    assert "DDN in L2 is drawn from the numbers of Table 10; the" in facts["caption"]
    assert "DDN in L∞" not in facts["caption"]
    texts = comments(tmp_path / "figure7.svg")
    assert {"this run, one training", "95 % interval", "as printed"} <= set(texts)
    assert "L∞: Not run: IMA, MMA, TRADES, adv0.1, adv0.2, adv0.3." in facts["caption"]
    none, facts = build(tmp_path, "figure8", published, entries)
    assert set(none["origin"]) == {"published"} and "not run" in facts["n"]
    assert "drawn from the numbers of Table 12; the" in facts["caption"]
    assert "Solid" not in facts["caption"] and "Dashed lines: the printed" in facts["caption"]
    assert not any("this run," in text for text in comments(tmp_path / "figure8.svg"))


def test_each_table_has_curves_that_can_be_told_apart(printed):
    for table in ima_results.MAIN_TABLES:
        styles = [plotting.model_style(method) for method in printed.methods(table)]
        assert len({style["color"] for style in styles}) == len(styles)
        assert len({style["marker"] for style in styles}) == len(styles)


def test_a_band_is_the_range_of_several_trainings(tmp_path, published, printed, entries):
    results = read_results(made_request(tmp_path, "x", published, entries))
    drawn = ima_curves.curve_points(main_table(MOONS, "Linf"), results, printed)
    with plotting.style():
        axes = plotting.new_figure().subplots()
        ima_curves.draw_curves(axes, drawn[drawn["method"] == "IMA"], norm="Linf")
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices
    at = heights[np.isclose(heights[:, 0], 0.2), 1]
    shares = results.shares(MOONS, "IMA", "pgd_moons", 0.2)
    assert (at.min(), at.max()) == pytest.approx((min(shares), max(shares)))
    assert len(set(shares)) == 2
    dashed, solid = sorted(axes.lines, key=lambda line: line.get_linestyle() == "-")
    assert list(dashed.get_ydata()) == [1, 0.999, 0.9975, 0.9915, 0.9755, 0.927, 0.823]
    assert solid.get_ydata()[4] == pytest.approx(np.mean(shares))


# --- Moons ---


def test_regions_are_those_of_the_first_training(tmp_path, published, entries):
    drawn, facts = build(tmp_path, "figure6", published, entries)
    grid = drawn[drawn["part"] == "regions"]
    assert set(grid["method"]) == {"IMA"} and set(grid["replicate"]) == {0}
    # Training 0's line has slope 0.5, training 1's slope -0.5.
    above = grid["second"] - 0.25 > 0.5 * (grid["first"] - 0.5)
    sure = (grid["value"] - 0.5).abs() > 1e-4
    assert (above == (grid["value"] > 0.5))[sure].all() and sure.sum() > 50
    assert "(training 0)" in facts["caption"] and "Not run: MMA" in facts["caption"]
    assert "this run, the mean of 2 trainings; bands: from the lowest to" in facts["caption"]
    assert "adv of Table 8 is adv0.3 in the paper's text, trained with ε = 0.3" in facts["caption"]
    texts = comments(tmp_path / "figure6.svg")
    assert {"this run, mean of 2 trainings", "lowest to highest training"} <= set(texts)
    assert facts["sources"] == {MOONS: "generated"}
    none, facts = build(tmp_path, "figure6", published, [])
    assert set(none["origin"]) == {"published"} and "(none were mapped)" in facts["caption"]


def test_the_boundary_and_both_classes_are_drawn(entries):
    plane = ima_curves.read_plane(entries[0])
    with plotting.style():
        axes = plotting.new_figure().subplots()
        ima_curves.draw_regions(axes, plane)
    drawn = [np.stack(line.get_data(), axis=1) for line in axes.lines]
    assert [len(one) for one in drawn] == [int((plane.labels == k).sum()) for k in (0, 1)]
    contour = next(c for c in axes.collections if not c.get_facecolor().size)
    (path,) = contour.get_paths()
    line = path.vertices
    assert np.allclose(line[:, 1] - 0.25, 0.5 * (line[:, 0] - 0.5), atol=0.02)


def test_a_file_that_is_no_plane_is_refused(tmp_path, published):
    path = tmp_path / "p.safetensors"
    io.write_tensors(path, {"first": np.zeros(3, np.float32)})
    entry = Entry(MOONS, "IMA", "generated", 0, plane=str(path))
    with pytest.raises(InputError, match="not a model evaluated on a grid"):
        build(tmp_path, "figure6", published, [entry])


# --- margins ---


def test_margins_are_summarised_as_they_are(tmp_path, published, entries):
    frame, facts = build(tmp_path, "margins", published, entries)
    assert len(frame) == 12
    row = frame[(frame["dataset"] == COVID) & (frame["method"] == "IMA")].iloc[0]
    margins = io.read_tensors(entries[4].margins)["margin"][0].astype(float)
    assert row["quantile_50"] == row["recommended"] == pytest.approx(np.median(margins))
    assert row["quantile_95"] == pytest.approx(np.quantile(margins, 0.95))
    assert row["mean"] == pytest.approx(margins.mean())
    assert row["share_at_largest"] == pytest.approx((margins > 0.2999).mean())
    # float32's 0.3 is above 0.3; a margin that is cut to 0.3 is not.
    assert (margins > 0.3).any() and row["share_above_level"] == 0
    assert (row["paper_radius"], row["nearest_adv"], row["best_adv"]) == (0.1, "adv0.1", "adv0.15")
    mma = frame[(frame["dataset"] == COVID) & (frame["method"] == "MMA")].iloc[0]
    theirs = io.read_tensors(entries[5].margins)["margin"][0]
    assert mma["share_above_level"] == pytest.approx((theirs > 0.301).mean(), abs=0.005)
    assert mma["accuracy_at_level"] == pytest.approx(0.03, abs=0.006)
    assert mma["excess"] == pytest.approx(mma["share_above_level"] - mma["accuracy_at_level"])
    assert pd.isna(mma["recommended"])
    moons = frame[(frame["dataset"] == MOONS) & (frame["method"] == "IMA")].iloc[0]
    assert moons["replicates"] == 2
    absent = frame[frame["dataset"] == "SVHN"]
    assert absent["status"].eq("not run").all() and absent["mean"].isna().all()
    assert "names no rule" in facts["caption"]
    text = (tmp_path / "margins.md").read_text()
    assert "Are MMA's margins overestimated?" in text and "| not run |" in text


def test_margins_stand_beside_the_accuracy_of_the_same_training(tmp_path, published):
    printed = read_printed(str(published))
    margins = write_margins(tmp_path / "m.safetensors", np.full(100, 0.4))
    made = [
        made_entry(tmp_path, printed, MOONS, "MMA", replicate=k, spread=0.1, **more)
        for k, more in enumerate(({}, {"margins": margins}, {}))
    ]
    results = read_results(made_request(tmp_path, "x", published, made))
    each = results.shares(MOONS, "MMA", "pgd_moons", 0.3)
    assert len(set(each)) == 3
    frame, _ = build(tmp_path, "margins", published, made)
    row = frame[(frame["dataset"] == MOONS) & (frame["method"] == "MMA")].iloc[0]
    assert row["accuracy_at_level"] == pytest.approx(each[1])
    assert row["excess"] == pytest.approx(1 - each[1])
    found, draws = excess_draws(results, main_table(MOONS, "Linf"), "MMA", 0.3)
    assert found == pytest.approx(1 - each[1]) and draws.mean() == pytest.approx(found, abs=0.02)
    # What has no margins keeps all of its trainings.
    assert results.with_margins(MOONS, "IMA") is not None
    assert len(results.with_margins(MOONS, "MMA").shares(MOONS, "MMA", "pgd_moons", 0.3)) == 1
    assert len(results.shares(MOONS, "MMA", "pgd_moons", 0.3)) == 3


def test_the_histograms_hold_every_margin(tmp_path, published, entries):
    drawn, facts = build(tmp_path, "figure9", published, entries)
    bars = drawn[drawn["part"] == "margins"]
    for method, margins in (("IMA", entries[4].margins), ("MMA", entries[5].margins)):
        part = bars[bars["method"] == method]
        assert part["value"].sum() == pytest.approx(1) and len(part) == 24
        values = io.read_tensors(margins)["margin"][0]
        beyond = part[part["from"] > 0.2999]["value"].sum()
        assert beyond == pytest.approx((values > 0.30001).mean())
    assert "Not run: TRADES, adv0.2" in facts["caption"]
    # Its legend has no room for more.
    texts = comments(tmp_path / "figure9.svg")
    assert "this run" in texts and not any("interval" in text for text in texts)
    none, _ = build(tmp_path, "figure9", published, [])
    assert set(none["part"]) == {"curves"}


@pytest.mark.parametrize(
    ("margins", "words"),
    [([[0.1, -0.1]], "negative"), ([[0.1, np.nan]], "negative"), ([0.1, 0.2], "not a file")],
)
def test_margins_that_cannot_be_are_refused(tmp_path, published, margins, words):
    path = tmp_path / "m.safetensors"
    arrays = {"margin": np.asarray(margins, np.float32), "label": np.zeros(2, np.int64)}
    io.write_tensors(path, arrays)
    entry = Entry(COVID, "IMA", "kaggle", 0, margins=str(path))
    with pytest.raises(InputError, match=words):
        build(tmp_path, "margins", published, [entry])


# --- noise ---


def noisy(folder, wrong, hits, model="ce"):
    """Returns ce on COVID-19 CT: points wrong without noise, and flipped by each of four draws."""
    labels = labels_of(COVID)
    clean = np.where(np.isin(np.arange(labels.size), wrong), 1 - labels, labels)
    from medrobust.evaluation.tally import make_tally

    from tests.unit.attack_records import clean_table, level_records

    table = clean_table(labels, clean)
    frames = []
    for restart, flipped in enumerate(hits):
        found = np.where(np.isin(np.arange(labels.size), flipped), 1 - labels, labels)
        frames.append(level_records(table, {0.05: found}, loss=None, restart=restart))
    path = folder / f"noise-{model}.csv"
    io.write_table(path, make_tally(table, pd.concat(frames, ignore_index=True)))
    return Entry(COVID, model, "kaggle", 0, tallies={"noise_covid": str(path)})


def test_flips_are_of_points_that_are_right_without_noise(tmp_path, published):
    entry = noisy(tmp_path, wrong=[0, 1, 2], hits=[[0, 5, 6], [5], [5, 7], []])
    frame, _ = build(tmp_path, "noise", published, [entry])
    row = frame[(frame["kind"] == "noise") & (frame["dataset"] == COVID)].iloc[0]
    # 5, 6 and 7 flip; 0 is wrong anyway. Draws flip 2, 1, 2 and 0 points.
    assert row["reproduced"] == pytest.approx(3 / 200)
    assert row["mean_of_draws"] == pytest.approx(5 / 4 / 200)
    assert (row["draws"], row["n"]) == (4, 200)
    assert row["ci_low"] < row["reproduced"] < row["ci_high"]
    text = frame[(frame["kind"] == "in the text") & (frame["published"] == 0.0275)].iloc[0]
    assert text["reproduced"] == pytest.approx(3 / 200)
    rest = frame[frame["kind"] == "in the text"].drop(index=text.name)
    assert rest["status"].eq("not run").all() and rest["reproduced"].isna().all()
    page = (tmp_path / "noise.md").read_text()
    assert "0.0150" in page and "Not run under noise: Moons, Fashion-MNIST." in page


def test_numbers_of_the_text_come_from_their_own_attack(tmp_path, published, printed):
    models = ("ce", "rand0.1")
    entries = [made_entry(tmp_path, printed, COVID, m, attacks=["pgd_covid"]) for m in models]
    frame, _ = build(tmp_path, "noise", published, entries)
    texts = frame[frame["kind"] == "in the text"]

    def told(method, quantity):
        return texts[(texts["method"] == method) & (texts["quantity"] == quantity)].iloc[0]

    assert told("ce", "accuracy under PGD")["reproduced"] == 0
    assert told("rand0.1", "accuracy")["reproduced"] == pytest.approx(0.98)
    assert told("ce", ima_noise.FLIPPED)["status"] == "not run"


# --- both ---


@pytest.mark.parametrize("name", ["figure6", "figure9", "margins", "noise"])
def test_stand_ins_are_marked(tmp_path, published, entries, name):
    made = [dataclasses.replace(entry, source="standin") for entry in entries]
    made.append(dataclasses.replace(noisy(tmp_path, [], [[1], [2]]), source="standin"))
    _, facts = build(tmp_path, name, published, made)
    assert facts["synthetic"] and facts["title"].startswith("SYNTHETIC DATA")


def test_a_recommended_radius_is_the_median(tmp_path):
    assert ima_margins.recommended_radius(np.array([0.01, 0.3, 0.1])) == pytest.approx(0.1)
    path = write_margins(tmp_path / "m.safetensors", [0.01, 0.3, 0.1])
    entry = Entry(COVID, "IMA", "kaggle", 4, margins=path)
    found = ima_results.read_margins(entry)
    assert found.replicate == 4 and found.margin == pytest.approx([0.01, 0.3, 0.1])


def test_settings_that_differ_are_told_apart(tmp_path, published):
    request = made_request(tmp_path, "x", published, [])
    text = ima_results.budget_text(request, ["pgd_fashion", "pgd_fashion_l2"])
    assert text.startswith("PGD (num steps 100, step share 0.1), the worse of the losses")
    assert "pgd_fashion: norm linf, ε 0.05 0.1" in text and "norm l2, ε 0.5 1 2" in text
    assert "losses" not in ima_results.budget_text(request, ["noise_covid"])
