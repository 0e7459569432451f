"""The half of the sign-network study on images: Tables I and II, Figure 1, differences, claims."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.evaluation import image_changes
from medrobust.reporting import claims as judging
from medrobust.reporting import comparison, plotting
from medrobust.reporting.artefacts import RunContext
from medrobust.reporting.comparison import read_published
from medrobust.reporting.request import Request
from medrobust.studies.signnet import claims, extended, figure1, image_claims, tables
from medrobust.studies.signnet.claim_evidence import SignnetResults, averages
from medrobust.studies.signnet.image_differences import MEASURES, build_image_differences
from medrobust.studies.signnet.results import IMAGES, AttackInput, CleanInput

from tests.unit.attack_files import write_records
from tests.unit.drawing import draw

CONTEXT = RunContext("signnet", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
ATTACK = "HopSkipJump (10 restarts)"
SHAPE = (3, 16, 14)
XRAY, TILES = IMAGES.datasets


@pytest.fixture
def published(root):
    return root / "resources/published/signnet.csv"


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    """Draws at screen resolution: what is tested here does not depend on it."""
    monkeypatch.setitem(plotting._SETTINGS, "savefig.dpi", 72)


def original(point):
    return np.random.default_rng(point).uniform(0.3, 0.7, SHAPE).astype(np.float32)


def attacked(
    folder, model, distances, dataset="chest_xray", source="kaggle", failed=(), dots=False, **more
):
    """Writes an attack whose last iterate of image i is ``distances[i]`` away.

    It is off by one amount everywhere, or with ``dots`` at every fourth pixel of a row.
    """
    n = len(distances)
    points = np.arange(n) * 3 + 2
    x = np.stack([original(point) for point in points])
    change = np.zeros_like(x)
    change[..., :: 4 if dots else 1] = 1.0
    change /= np.linalg.norm(change[0])
    found = x + np.asarray(distances, np.float32)[:, None, None, None] * change
    found[list(failed)] = np.nan
    there = np.where(np.isin(np.arange(n), failed), np.nan, distances)[:, None]
    stem = folder / f"{dataset}-{model}"
    chunk = write_records(f"{stem}.parquet", there / 1.1, there, points=points)
    near = x + (found - x) / 1.1
    arrays = {"point_id": points, "x": x, "x_adv": near, "x_final_iterate": found}
    io.write_tensors(f"{stem}.safetensors", arrays)
    return AttackInput(
        dataset, model, source, [chunk], [f"{stem}.safetensors"], points="images", **more
    )


def written(folder, name):
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])


# --- Table I ---


def test_table1_is_table3_on_images(tmp_path, published):
    summary = {"n_test": 634, "ensemble_accuracy": 575 / 634, "member_accuracy_mean": 0.89}
    io.write_json(tmp_path / "clean.json", summary | {"members": 100, "vote": "majority"})
    inputs = [
        CleanInput(dataset, "SCD01", "kaggle", str(tmp_path / "clean.json"), points="images")
        for dataset in ("chest_xray", "chest_xray_patient")
    ]
    tables.build_accuracy(IMAGES, inputs, published, tmp_path / "table1", CONTEXT)
    frame = written(tmp_path, "table1").set_index(["dataset", "method"])
    assert [key for key in frame.index if key[0] in IMAGES.datasets] == [
        (dataset, model) for dataset in IMAGES.datasets for model in IMAGES.models
    ]
    row = frame.loc[(XRAY, "SCD01")]
    assert (row["table"], row["published"], row["member_accuracy_mean"]) == ("I", 90.7, 89.0)
    assert row["difference"] == pytest.approx(57500 / 634 - 90.7)
    assert frame.loc[(TILES, "MLP"), "status"] == "not run"
    text = (tmp_path / "table1.md").read_text()
    assert "Table I. Accuracy on the image test sets" in text
    assert "Chest X-ray: 634 test points" in text
    assert "Added, not in the paper: Chest X-ray, split by patient" in text


# --- Table II ---


def of_both(folder, **more):
    return [
        attacked(folder, model, level * np.array([1, 2, 3, 4, 5.0]), dataset, **more)
        for model, level in {"SCDCE": 3.0, "MLP": 1.0}.items()
        for dataset in ("chest_xray", "kather")
    ]


def test_table2_has_averages_combined_averages_and_single_images(tmp_path, published):
    tables.build_distances(
        IMAGES, of_both(tmp_path), published, tmp_path / "table2", CONTEXT, ATTACK
    )
    frame = written(tmp_path, "table2").set_index(["dataset", "method", "metric"])
    average = frame.loc[(XRAY, "SCDCE", "min_L2_distortion_avg")]
    assert average["reproduced"] == pytest.approx(9.0, rel=1e-5) and average["n"] == 5
    assert average["projected"] == pytest.approx(9.0 / 1.1, rel=1e-5)
    assert (average["published"], average["status"]) == (14.8, "reproduced")
    assert average["difference"] == pytest.approx(9.0 - 14.8, abs=1e-4)
    combined = frame.loc[("combined", "MLP", "min_L2_distortion_avg")]
    assert combined["reproduced"] == pytest.approx(3.0, rel=1e-5)
    assert combined["published"] == 11.0 and combined["n"] == 10
    image = frame.loc[(TILES, "SCDCE", "min_L2_distortion_image3")]
    assert image["reproduced"] == pytest.approx(12.0, rel=1e-5)
    assert (image["published"], image["point_id"], image["n"]) == (38.6, 11, 1)
    assert image["status"] == tables.OTHER_IMAGE and np.isnan(image["difference"])
    assert frame.loc[(XRAY, "LeNet", "min_L2_distortion_image0"), "status"] == "not run"
    text = (tmp_path / "table2.md").read_text()
    assert "Colorectal histology, each image" in text and "| Image 3 | 30.0 | not run |" in text
    assert "those of the paper are other images" in text
    assert text.count("What the attack spent") == 1


def test_no_single_image_is_judged_and_averages_are(tmp_path, published):
    inputs = of_both(tmp_path)
    tables.build_distances(IMAGES, inputs, published, tmp_path / "table2", CONTEXT, ATTACK)
    numbers = read_published(published, "signnet")
    found = comparison.compare(numbers, _typed(tmp_path / "table2.csv"), CONTEXT)
    found = found[found["artefact"] == "Table II"].set_index(["row", "column"])
    single = found.loc[("SCDCE", f"{XRAY}, min_L2_distortion_image2")]
    assert single["verdict"] == "cannot tell" and tables.OTHER_IMAGE in single["reason"]
    average = found.loc[("SCDCE", f"{XRAY}, min_L2_distortion_avg")]
    assert average["verdict"] in ("within interval", "outside interval")
    assert found.loc[("LeNet", "combined, min_L2_distortion_avg"), "verdict"] == "not run"


def _typed(path):
    frame = pd.read_csv(path)
    for name in ("norm", "epsilon", "source", "status"):
        frame[name] = frame[name].astype(object).fillna("")
    return frame


def test_printed_averages_of_images_are_checked(tmp_path, published):
    tables.build_printed_averages(published, tmp_path / "printed", CONTEXT)
    text = (tmp_path / "printed.md").read_text()
    assert "24.1" in text and "23.1" in text


# --- Figure 1 ---


def test_figure1_shows_the_last_iterates_and_their_numbers(tmp_path):
    inputs = [
        attacked(tmp_path, "SCDCE", [4.0, 5.0], "kather", dots=True),
        attacked(tmp_path, "LeNet", [1.0, 2.0], "kather", failed=[1]),
        attacked(tmp_path, "BNN", [1.0, 2.0], "kather"),
    ]
    figure1.build_figure1(
        inputs, tmp_path / "figure1", CONTEXT, ATTACK, [5, 2], "Figure 1", class_names=["a", "b"]
    )
    frame = written(tmp_path, "figure1").set_index("model")
    assert list(frame.index) == ["SCDCE", "LeNet", "BNN"]  # the paper's first
    assert frame.loc["SCDCE", "distance"] == pytest.approx(5.0, rel=1e-5)
    assert frame.loc["SCDCE", "distance_at_boundary"] == pytest.approx(5 / 1.1, rel=1e-5)
    assert np.isinf(frame.loc["LeNet", "distance"]) and np.isnan(
        frame.loc["LeNet", "amplification"]
    )
    # A change of one amount everywhere adds no variation.
    plain = frame.loc["BNN"]
    assert plain["total_variation"] == pytest.approx(plain["total_variation_of_original"], rel=1e-5)
    dotted = frame.loc["SCDCE"]
    assert dotted["total_variation"] > dotted["total_variation_of_original"] + 0.05
    facts = json.loads((tmp_path / "figure1.provenance.json").read_text())
    assert (
        "Test point 5" in facts["caption"] and "Not run: SCD01, MLP, ResNet18" in facts["caption"]
    )
    assert facts["notes"] == [
        "LeNet: no start for the attack: the model gives nothing that it could begin at another "
        "class than the point's, and perhaps one answer to everything."
    ]
    assert facts["title"].startswith("Figure 1. One image of Colorectal histology")


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(0.21, 4.7), (0.99, 1.0), (0.0123, 81.0), (2.0, 0.5), (0.0, 1.0), (0.0001, 10000.0)],
)
def test_amplification_is_what_two_digits_say_and_cuts_nothing_off(largest, expected):
    change = np.full((20, 20), largest)
    change[::2] *= -1
    assert figure1.amplification(change) == pytest.approx(expected)
    assert np.abs(change * figure1.amplification(change)).max() <= 1 + 1e-9


def test_one_pixel_alone_sets_the_scale_where_nothing_else_changed():
    change = np.zeros((20, 20))
    change[3, 4] = -0.25
    assert figure1.amplification(change) == 4.0


def test_figure1_without_images_says_so(tmp_path, published):
    request = Request(
        [], str(published), str(tmp_path / "figure1"), CONTEXT, {"name": "hopskipjump"}
    )
    draw("signnet", "figure1", request)
    assert "not run" in (tmp_path / "figure1.csv").read_text()


# --- differences ---


def test_image_differences_are_those_of_the_last_iterates(tmp_path):
    inputs = [
        attacked(tmp_path, "SCD01", [1.0, 2.0, 3.0], dots=True),
        attacked(tmp_path, "RandomForest", [1.0, 2.0, 3.0], failed=[0]),
    ]
    build_image_differences(inputs, tmp_path / "differences", CONTEXT, ATTACK)
    frame = written(tmp_path, "differences")
    means = frame[frame["point_id"].isna()].set_index("method")
    assert means.loc["SCD01", "distance"] == pytest.approx(2.0, rel=1e-5)
    assert means.loc["SCD01", "distance_low"] < 2 < means.loc["SCD01", "distance_high"]
    # Two of three images have an adversary.
    forest = means.loc["RandomForest"]
    assert (forest["without_adversary"], forest["n"]) == (1, 3)
    assert forest["distance"] == pytest.approx(2.5, rel=1e-5)
    assert forest["added_variation"] == pytest.approx(0, abs=1e-6)
    assert forest["high_frequency"] == pytest.approx(0, abs=1e-6)
    assert means.loc["SCD01", "high_frequency"] > 0.4
    each = frame[frame["method"] == "SCD01"].dropna(subset="point_id").set_index("point_id")
    assert list(each.index) == [2, 5, 8]
    # A similarity is at most 1, and so are the ends of its interval.
    assert (means["similarity_high"].dropna() <= 1).all()
    tensors = io.read_tensors(inputs[0].arrays[0])
    similarity = image_changes.structural_similarity(tensors["x"], tensors["x_final_iterate"])
    assert each["similarity"].to_numpy() == pytest.approx(similarity)
    text = (tmp_path / "differences.md").read_text()
    assert "Images without an adversarial version" in text
    assert all(label in text for label, _ in MEASURES.values())


def test_a_model_that_nothing_fools_has_no_differences(tmp_path):
    inputs = [
        attacked(tmp_path, "SCD01", [1.0, 2.0], failed=[0, 1]),
        attacked(tmp_path, "MLP", [1.0, 2.0]),
    ]
    build_image_differences(inputs, tmp_path / "differences", CONTEXT, ATTACK)
    frame = written(tmp_path, "differences")
    means = frame[frame["point_id"].isna()].set_index("method")
    assert means.loc["SCD01", "without_adversary"] == 2 and np.isnan(means.loc["SCD01", "distance"])
    assert means.loc["MLP", "distance"] == pytest.approx(1.5, rel=1e-5)


# --- many images ---


def test_extended_says_what_five_of_them_would_say(tmp_path):
    random = np.random.default_rng(0)
    near, far = random.uniform(1, 3, 40), random.uniform(1.5, 3.5, 40)
    inputs = [attacked(tmp_path, "SCDCE", far), attacked(tmp_path, "MLP", near)]
    extended.build_extended(inputs, tmp_path / "extended", CONTEXT, ATTACK)
    frame = written(tmp_path, "extended")
    mlp = frame[(frame["method"] == "MLP") & frame["other"].isna()].iloc[0]
    assert mlp["mean"] == pytest.approx(near.mean(), rel=1e-5) and mlp["n"] == 40
    # Sampling without replacement, to 95 %.
    half = 1.96 * near.std(ddof=1) * np.sqrt((1 - 5 / 40) / 5)
    assert mlp["few_low"] == pytest.approx(near.mean() - half, abs=0.06)
    assert mlp["few_high"] == pytest.approx(near.mean() + half, abs=0.06)
    (pair,) = frame[frame["other"] == "MLP"].to_dict("records")
    assert pair["method"] == "SCDCE"
    assert pair["mean"] == pytest.approx((far - near).mean(), rel=1e-4)
    assert pair["mean_low"] < pair["mean"] < pair["mean_high"]
    assert 0.8 < pair["share_of_few"] < 1.0
    text = (tmp_path / "extended.md").read_text()
    assert "larger in fives" in text and "Chest X-ray: 40 images" in text


def test_intervals_of_differences_may_be_below_0(tmp_path):
    random = np.random.default_rng(0)
    near, far = random.uniform(1, 2, 12), random.uniform(5, 9, 12)
    inputs = [attacked(tmp_path, "SCDCE", near), attacked(tmp_path, "MLP", far)]
    extended.build_extended(inputs, tmp_path / "extended", CONTEXT, ATTACK)
    (pair,) = written(tmp_path, "extended").query("other == 'MLP'").to_dict("records")
    assert pair["mean_low"] < pair["mean"] < pair["mean_high"] < 0
    assert pair["share_of_few"] == 0


@pytest.mark.parametrize(("images", "told"), [(4, False), (5, False), (6, True)])
def test_of_five_images_no_two_fives_can_be_drawn(tmp_path, images, told):
    values = np.random.default_rng(0).uniform(1, 2, images)
    inputs = [attacked(tmp_path, "SCDCE", values + 1), attacked(tmp_path, "MLP", values)]
    extended.build_extended(inputs, tmp_path / "extended", CONTEXT, ATTACK)
    frame = written(tmp_path, "extended")
    assert (frame["few_low"].notna().sum() == 2) == told
    assert frame["share_of_few"].notna().any() == told
    text = (tmp_path / "extended.md").read_text()
    assert (f"of {images} images no two fives can be drawn" in text) == (not told)
    assert ("100 %" in text) == told


def test_extended_that_was_not_run_says_so(tmp_path, published):
    request = Request([], str(published), str(tmp_path / "extended"), CONTEXT, {"name": "x"})
    draw("signnet", "extended", request)
    assert "nothing was run" in (tmp_path / "extended.md").read_text()


# --- claims ---

PRINTED = dict(zip(IMAGES.models, (12.3, 14.8, 13.6, 3.2, 0.5, 10.7), strict=True))
ACCURACY = dict(zip(IMAGES.models, (0.907, 0.913, 0.887, 0.926, 0.943, 0.847), strict=True))
DOTS = dict(zip(IMAGES.models, (0.02, 0.05, 0.02, 0.01, 0.01, 0.02), strict=True))


def around(mean, seed, n, spread):
    noise = np.random.default_rng(seed).normal(0, spread, n)
    return pd.Series(mean + noise - noise.mean())


def results(published, levels=PRINTED, n=20, accuracy=ACCURACY, dots=DOTS, **more):
    values = {}
    for dataset in IMAGES.datasets:
        for seed, model in enumerate(IMAGES.models):
            one = around(levels[model], seed, n, 0.2)
            values["l2_final_iterate", dataset, model] = one
            values["l2", dataset, model] = one / 1.1
            correct = np.arange(5000) < round(5000 * accuracy[model])
            order = np.random.default_rng(seed).permutation(5000)
            values["correct", dataset, model] = pd.Series(correct[order].astype(float))
            values["added_variation", dataset, model] = around(dots[model], seed, n, 0.002)
            values["similarity", dataset, model] = around(0.6, seed, n, 0.02)
    numbers = averages(published)
    keys = zip(numbers["table"], numbers["dataset"], numbers["method"], strict=True)
    found = SignnetResults(
        values=values,
        sizes={XRAY: (2532, 634), TILES: (1000, 250)},
        sources=dict.fromkeys(IMAGES.datasets, "kaggle"),
        replicates=dict.fromkeys(IMAGES.datasets, 1),
        published=dict(zip(keys, numbers["value"], strict=True)),
        seed=1,
    )
    return dataclasses.replace(found, **more)


def judged(published, found):
    frame = judging.judge_claims(
        image_claims.image_claims(published), found, found.sources, CONTEXT, tables.remark
    )
    return frame.set_index(["claim", "dataset"])


@pytest.fixture
def numbers(published):
    return read_published(published, "signnet")


# By hand from Tables I and II.
IN_PRINT = {
    ("convolutional_lead_on_xray", XRAY): "holds",  # 94.3, 92.6 above 91.3
    ("scdce_highest_on_images", XRAY): "holds",  # 14.8 above 13.6
    ("scdce_highest_on_images", TILES): "holds",  # 29.7 above 24.1
    ("mlp_second_on_xray", XRAY): "holds",  # 13.6 above 12.3
    ("resnet_follows_on_histology", TILES): "holds",  # 24.1, 23.1, 22.8
    ("scdce_leads_combined", "combined"): "holds",  # 22.3, 17.7, then 15
    ("scdce_twice_better", "combined"): "holds",  # 2.03, 1.72, 1.89
    ("figure1_scdce_highest", TILES): "holds",
    ("figure1_scdce_dottiest", TILES): "",
}


def test_the_papers_own_numbers(numbers):
    frame = judged(numbers, results(numbers))
    assert {key: frame["in_print"][key] for key in IN_PRINT} == IN_PRINT


def test_results_settle_what_they_can(numbers):
    verdicts = judged(numbers, results(numbers))["verdict"]
    for key in [
        ("convolutional_lead_on_xray", XRAY),
        ("scdce_highest_on_images", "all of them"),
        ("mlp_second_on_xray", XRAY),
        ("figure1_scdce_dottiest", TILES),
    ]:
        assert verdicts[key] == "holds", key
    # Both data sets have the X-rays' levels here.
    assert verdicts["resnet_follows_on_histology", TILES] == "does not hold"
    assert verdicts["scdce_twice_better", "combined"] == "does not hold"
    # 3,166 images, of which the paper has 3,168.
    assert verdicts["image_numbers", XRAY] == "does not hold"
    assert verdicts["image_numbers", TILES] == "holds"


def test_the_paper_s_five_images_settle_no_distance(numbers):
    frame = judged(numbers, results(numbers, n=5))
    for name in ("scdce_highest_on_images", "mlp_second_on_xray", "figure1_scdce_dottiest"):
        rows = frame.loc[name]
        assert rows["verdict"].eq("cannot tell").all()
    reason = frame["reason"]["scdce_highest_on_images", XRAY]
    assert "5 differing points can never be significant" in reason
    assert frame["verdict"]["scdce_leads_combined", "combined"] == "cannot tell"
    # Accuracies are of all test images.
    assert frame["verdict"]["convolutional_lead_on_xray", XRAY] == "holds"


def test_combined_averages_weigh_both_data_sets_alike(numbers):
    levels = {**PRINTED, "SCDCE": 20.0, "MLP": 10.0, "LeNet": 10.0, "ResNet18": 9.0}
    verdicts = judged(numbers, results(numbers, levels))["verdict"]
    assert verdicts["scdce_twice_better", "combined"] == "holds"  # 2, 2, 2.2
    found = results(numbers, levels)
    for quantity in ("l2", "l2_final_iterate"):
        found.values[quantity, TILES, "SCDCE"] = around(8.0, 9, 20, 0.2)
    frame = judged(numbers, found)
    row = frame.loc[("scdce_twice_better", "combined")]
    assert row["verdict"] == "does not hold"  # 14 over 10
    assert "SCDCE over MLP, ratio of the combined averages: 1.40 [" in row["figures"]


def test_what_people_see_is_told_and_not_judged(numbers):
    frame = judged(numbers, results(numbers))
    for name in ("adversaries_visible", "figure1_easily_spotted"):
        row = frame.loc[(name, TILES)]
        assert row["verdict"] == "cannot tell" and "takes observers" in row["reason"]
        assert "structural similarity of SCD01's adversarial images" in row["figures"]
        assert ": 0.60 [0.59, 0.61]" in row["figures"]


def test_without_images_the_claims_say_what_is_missing(numbers):
    frame = judged(numbers, results(numbers, sources={XRAY: "kaggle"}))
    assert frame["verdict"]["scdce_leads_combined", "combined"] == "cannot tell"
    assert f"{TILES} is not part" in frame["reason"]["scdce_leads_combined", "combined"]


def test_a_quote_of_both_halves_speaks_of_four_data_sets(numbers):
    by_name = {one.name: one for one in claims.claims(numbers)}
    both = by_name["abstract_sign_network_greater"]
    assert both.datasets == (*IMAGES.datasets, "PTBD", "MIT-BIH")
    told = {name: judging.verdict_of(both.printed(name)) for name in both.datasets}
    assert set(told.values()) == {"holds"}
