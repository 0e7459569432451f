"""Tables III and IV and Figure 2 from made records."""

import json

import numpy as np
import pandas as pd
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.evaluation import intervals
from medrobust.evaluation.statistics import upper_bound_text
from medrobust.reporting import artefacts, comparison, plotting
from medrobust.reporting.artefacts import RunContext
from medrobust.studies.signnet import figure2 as signnet_figure2
from medrobust.studies.signnet import tables as signnet
from medrobust.studies.signnet.results import SIGNALS, AttackInput, CleanInput

CONTEXT = RunContext("signnet", "paper", "code", "paper-code", "c", "h", {}, "none", 3, "snakemake")
ATTACK = "HopSkipJump (10 restarts)"
POINTS = [40, 7, 19]


@pytest.fixture
def published(root):
    return root / "resources/published/signnet.csv"


def clean(tmp_path, model, dataset="mitbih", source="kaggle", replicate=0, **more):
    summary = {
        "n_test": 1000,
        "ensemble_accuracy": 0.971,
        "member_accuracy_mean": 0.955,
        "member_accuracy_std": 0.002,
        "members": 100,
        "vote": "soft",
    } | more
    path = tmp_path / f"{dataset}-{model}-{replicate}.json"
    io.write_json(path, summary)
    return CleanInput(dataset, model, source, str(path), replicate)


def attacked(
    tmp_path,
    model,
    distances,
    dataset="mitbih",
    source="kaggle",
    replicate=0,
    misclassified=(),
    points=POINTS,
):
    """Writes records whose restart r of point i ends at distances[i][r] (None: failed).

    The last iterate is 1.1 times as far; arrays hold the nearest restart.
    """
    random = np.random.default_rng(1)
    rows, x, x_adv, x_final = [], [], [], []
    for point, per_restart in zip(points, distances, strict=True):
        original = np.random.default_rng(point).random(187).astype(np.float32)
        best, wrong = None, point in misclassified
        for restart, distance in enumerate(per_restart):
            found = distance is not None and not wrong
            direction = random.normal(size=187)
            direction /= np.linalg.norm(direction)
            near = original + (distance * direction if found else 0 if wrong else np.nan)
            far = original + (1.1 * distance * direction if found else 0 if wrong else np.nan)
            if best is None or (found and not best[0] < distance):
                best = (distance if found else np.inf, near, far)
            rows.append(
                {
                    "point_id": point,
                    "epsilon": np.nan,
                    "loss": None,
                    "restart": restart,
                    "label": 0,
                    "clean_prediction": 2 if wrong else 0,
                    "adversarial_prediction": 2 if wrong else 3 if found else None,
                    "success": found or wrong,
                    "l1": 0.0 if wrong else np.abs(distance * direction).sum() if found else None,
                    "l2": 0.0 if wrong else distance,
                    "linf": 0.0 if wrong else np.abs(distance * direction).max() if found else None,
                    "l2_final_iterate": 0.0 if wrong else 1.1 * distance if found else None,
                    "queries": 100,
                    "gradient_evaluations": 0,
                    "iterations": 20,
                    "seed": 5,
                    "init_ok": found,
                    "box_violation": False,
                }
            )
        x.append(original)
        x_adv.append(best[1])
        x_final.append(best[2])
    stem = tmp_path / f"{dataset}-{model}-{replicate}"
    half = len(rows) // 2
    chunks = [f"{stem}-0.parquet", f"{stem}-1.parquet"]
    io.write_table(chunks[0], pd.DataFrame(rows[half:]))
    io.write_table(chunks[1], pd.DataFrame(rows[:half]))
    arrays = f"{stem}.safetensors"
    tensors = {"x": x, "x_adv": x_adv, "x_final_iterate": x_final}
    tensors = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
    io.write_tensors(arrays, {"point_id": np.array(points, np.int64), **tensors})
    return AttackInput(dataset, model, source, chunks, [arrays], replicate)


def table(tmp_path, name):
    return pd.read_csv(tmp_path / f"{name}.csv").set_index(["dataset", "method"])


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    """Draws at screen resolution: what is tested here does not depend on it."""
    monkeypatch.setitem(plotting._SETTINGS, "savefig.dpi", 72)


# --- Table III ---


def test_table3_has_the_papers_cells_and_says_not_run(tmp_path, published):
    inputs = [clean(tmp_path, "MLP"), clean(tmp_path, "RandomForest", ensemble_accuracy=0.98)]
    signnet.build_accuracy(SIGNALS, inputs, published, tmp_path / "table3", CONTEXT)
    frame = table(tmp_path, "table3")
    assert list(frame.index) == [(d, m) for d in SIGNALS.datasets for m in SIGNALS.models]
    assert frame["published"].notna().all()
    row = frame.loc[("MIT-BIH", "MLP")]
    assert row["published"] == 97.1
    assert row["reproduced"] == pytest.approx(97.1)
    low, high = intervals.share_interval(971, 1000)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((100 * low, 100 * high))
    assert (row["member_accuracy_mean"], row["n"], row["members"]) == (95.5, 1000, 100)
    rest = frame.drop(index=[("MIT-BIH", "MLP"), ("MIT-BIH", "RandomForest")])
    assert rest["status"].eq("not run").all()
    assert rest["reproduced"].isna().all() and rest["n"].isna().all()
    assert rest["data"].isna().all()
    text = (tmp_path / "table3.md").read_text()
    assert "| MLP | 96.1 | not run | not run | – | 97.1 | 97.10 \\[" in text
    assert "95.50 ± 0.20 (100) | 1,000 |" in text
    assert "1,000 test points" in text
    assert "Random forest" in text and "RandomForest" not in text


def test_table3_sets_additions_apart(tmp_path, published):
    inputs = [
        clean(tmp_path, "MLP"),
        clean(tmp_path, "Transformer"),
        clean(tmp_path, "MLP", "mitbih_ns"),
    ]
    signnet.build_accuracy(SIGNALS, inputs, published, tmp_path / "table3", CONTEXT)
    frame = table(tmp_path, "table3")
    origin = frame["origin"]
    assert origin[("MIT-BIH", "MLP")] == "paper"
    assert origin[("MIT-BIH", "Transformer")] == "added"
    assert origin[("MIT-BIH, N against S", "MLP")] == "added"
    assert np.isnan(frame.loc[("MIT-BIH", "Transformer"), "published"])
    text = (tmp_path / "table3.md").read_text()
    first, second = text.split("**Added, not in the paper: MIT-BIH, N against S**")
    assert "N against S: published" not in first.split("Data:")[0]
    assert "N against S: published" in second
    order = [first.index(name) for name in ("Random forest", "*Added models", "Transformer")]
    assert order == sorted(order)


def test_table3_with_nothing_run_is_all_not_run(tmp_path, published):
    signnet.build_accuracy(SIGNALS, [], published, tmp_path / "table3", CONTEXT)
    frame = table(tmp_path, "table3")
    assert len(frame) == 12
    assert frame["status"].eq("not run").all()


def test_table3_replicates(tmp_path, published):
    inputs = [
        clean(tmp_path, "MLP", replicate=r, ensemble_accuracy=a)
        for r, a in enumerate([0.95, 0.96, 0.97])
    ]
    signnet.build_accuracy(SIGNALS, inputs, published, tmp_path / "table3", CONTEXT)
    row = table(tmp_path, "table3").loc[("MIT-BIH", "MLP")]
    assert row["reproduced"] == pytest.approx(96)
    assert row["replicates"] == 3
    assert row["interval"] == "3 trainings, over points (Agresti-Coull) and trainings (t)"
    assert row["sd"] == pytest.approx(1)
    # 96 +- 4.303 / sqrt(3) over trainings alone.
    assert row["ci_low"] < 96 - 2.48 and row["further_low"] < 96 - 4.97 < row["ci_low"]
    with pytest.raises(InputError, match="given twice"):
        signnet.build_accuracy(SIGNALS, [inputs[0], inputs[0]], published, tmp_path / "t", CONTEXT)


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"ensemble_accuracy": 97.1}, "not a fraction"),
        ({"ensemble_accuracy": 0.9713}, "impossible"),
        ({"n_test": None}, "lack 'n_test'"),
        ({"member_accuracy_mean": 1.5}, "not a fraction"),
    ],
)
def test_table3_refuses_wrong_summaries(tmp_path, published, bad, message):
    with pytest.raises(InputError, match=message):
        signnet.build_accuracy(
            SIGNALS, [clean(tmp_path, "MLP", **bad)], published, tmp_path / "t", CONTEXT
        )


def test_sources_of_one_data_set_must_agree(tmp_path, published):
    inputs = [clean(tmp_path, "MLP"), clean(tmp_path, "CNN", source="physionet")]
    with pytest.raises(InputError, match="come from the sources"):
        signnet.build_accuracy(SIGNALS, inputs, published, tmp_path / "t", CONTEXT)


# --- Table IV ---


def test_table4_is_the_mean_of_minima(tmp_path, published):
    inputs = [attacked(tmp_path, "MLP", [[0.3, 0.1], [0.4, 0.2], [0.3, 0.5]])]
    signnet.build_distances(SIGNALS, inputs, published, tmp_path / "table4", CONTEXT, ATTACK)
    frame = table(tmp_path, "table4")
    assert len(frame) == 18
    row = frame.loc[("MIT-BIH", "MLP")]
    assert row["projected"] == pytest.approx(0.2)
    assert row["reproduced"] == pytest.approx(0.22)  # unprojected, like the print
    assert row["published"] == 0.15
    assert row["difference"] == pytest.approx(0.07)
    assert row["ci_low"] < 0.22 < row["ci_high"]
    assert (row["n"], row["censored"], row["misclassified"]) == (3, 0, 0)
    assert (row["restarts"], row["iterations"]) == (2, 20)
    assert row["queries_per_point"] == 200
    assert frame.drop(index=("MIT-BIH", "MLP"))["status"].eq("not run").all()
    text = (tmp_path / "table4.md").read_text()
    assert "MIT-BIH: 3 attacked here, 21 in the paper" in text
    assert ATTACK in text
    assert text.count(upper_bound_text([2])) == 1


def test_table4_combines_only_complete_pairs(tmp_path, published):
    mitbih = attacked(tmp_path, "MLP", [[0.1], [0.2], [0.3]])
    ptbd = attacked(tmp_path, "MLP", [[0.4], [0.5], [0.6]], "ptbd", source="physionet")
    forest = attacked(tmp_path, "RandomForest", [[0.4], [0.5], [0.6]])
    inputs = [mitbih, ptbd, forest]
    signnet.build_distances(SIGNALS, inputs, published, tmp_path / "table4", CONTEXT, ATTACK)
    frame = table(tmp_path, "table4")
    combined = frame.loc[("combined", "MLP")]
    assert combined["reproduced"] == pytest.approx(1.1 * 0.35)
    assert combined["projected"] == pytest.approx(0.35)
    assert combined["source"] == "physionet+kaggle"
    assert combined["published"] == 0.12
    assert frame.loc[("combined", "RandomForest"), "status"] == "not run"
    # Nobody may take these for the paper's heartbeats.
    assert "PTBD's heartbeats were cut anew" in (tmp_path / "table4.md").read_text()


@pytest.mark.parametrize(
    ("dataset", "source", "told"),
    [
        ("PTBD", "physionet", True),
        ("PTBD", "kaggle", False),
        ("MIT-BIH", "physionet", False),  # equal to the paper's rows in every bit
        ("combined", "physionet", True),
        ("combined", "physionet+kaggle", True),
        ("combined", "kaggle+physionet", False),
    ],
)
def test_rows_that_are_not_the_papers_are_said_to_be_so(tmp_path, published, dataset, source, told):
    assert bool(signnet.remark(dataset, source)) is told
    if dataset == "combined":
        return
    name = {"PTBD": "ptbd", "MIT-BIH": "mitbih"}[dataset]
    inputs = [clean(tmp_path, "MLP", name, source=source)]
    signnet.build_accuracy(SIGNALS, inputs, published, tmp_path / "table3", CONTEXT)
    assert ("cut anew" in (tmp_path / "table3.md").read_text()) is told


def test_table4_censors_failures_and_zeroes_misclassified_points(tmp_path, published):
    inputs = [
        attacked(tmp_path, "MLP", [[0.3, None], [None, None], [0.5, 0.2]]),
        attacked(tmp_path, "CNN", [[0.3], [0.3], [0.3]], misclassified=[7]),
    ]
    signnet.build_distances(SIGNALS, inputs, published, tmp_path / "table4", CONTEXT, ATTACK)
    frame = table(tmp_path, "table4")
    mlp, cnn = frame.loc[("MIT-BIH", "MLP")], frame.loc[("MIT-BIH", "CNN")]
    assert np.isnan(mlp["reproduced"]) and np.isnan(mlp["projected"])
    assert mlp["status"].startswith("censored: 1 of 3 points")
    assert mlp["lower_bound"] == pytest.approx(1.1 * 0.5 / 3)
    assert mlp["median"] == pytest.approx(0.33)
    assert cnn["projected"] == pytest.approx(0.2)
    assert cnn["misclassified"] == 1
    text = (tmp_path / "table4.md").read_text()
    assert "≥ 0.183" in text and "undefined" in text
    assert "count as distance 0" in text
    line = next(line for line in text.splitlines() if line.startswith("| MLP"))
    assert "0.000" not in line


def test_table4_says_when_models_saw_different_points(tmp_path, published):
    inputs = [
        attacked(tmp_path, "MLP", [[0.3]] * 3),
        attacked(tmp_path, "CNN", [[0.3]] * 3, points=[1, 2, 3]),
    ]
    signnet.build_distances(SIGNALS, inputs, published, tmp_path / "table4", CONTEXT, ATTACK)
    assert "not all models were attacked on the same points" in (tmp_path / "table4.md").read_text()


def test_table4_replicates_need_one_cohort_or_three_of_them(tmp_path, published):
    def inputs(count):
        return [
            attacked(tmp_path, "MLP", [[0.3]] * 3, replicate=r, points=[r, 10 + r, 20 + r])
            for r in range(count)
        ]

    with pytest.raises(InputError, match="different points"):
        signnet.build_distances(SIGNALS, inputs(2), published, tmp_path / "t", CONTEXT, ATTACK)
    signnet.build_distances(SIGNALS, inputs(3), published, tmp_path / "table4", CONTEXT, ATTACK)
    assert table(tmp_path, "table4").loc[("MIT-BIH", "MLP"), "replicates"] == 3


def test_tables_of_stand_ins_are_marked_and_never_compared(tmp_path, published):
    clean_inputs = [clean(tmp_path, "MLP", source="standin")]
    inputs = [attacked(tmp_path, "MLP", [[0.3]] * 3, source="standin")]
    signnet.build_accuracy(SIGNALS, clean_inputs, published, tmp_path / "table3", CONTEXT)
    signnet.build_distances(SIGNALS, inputs, published, tmp_path / "table4", CONTEXT, ATTACK)
    for name in ("table3", "table4"):
        text = (tmp_path / f"{name}.md").read_text()
        assert text.startswith("# SYNTHETIC DATA")
        assert "MIT-BIH (SYNTHETIC)" in text
        assert "PTBD (SYNTHETIC)" not in text
        assert table(tmp_path, name).loc[("MIT-BIH", "MLP"), "data"] == "SYNTHETIC"
    frame = comparison.build_comparison(
        "signnet",
        published,
        [tmp_path / "table3.csv", tmp_path / "table4.csv"],
        tmp_path / "comparison",
        CONTEXT,
        {"MIT-BIH": "standin"},
    )
    assert frame["verdict"].value_counts().to_dict() == {"not run": 118, "synthetic": 2}


def test_comparison_takes_the_tables_as_written(tmp_path, published):
    signnet.build_accuracy(
        SIGNALS, [clean(tmp_path, "MLP")], published, tmp_path / "table3", CONTEXT
    )
    inputs = [attacked(tmp_path, "MLP", [[0.13], [0.14], [0.16]])]
    signnet.build_distances(SIGNALS, inputs, published, tmp_path / "table4", CONTEXT, ATTACK)
    frame = comparison.build_comparison(
        "signnet",
        published,
        [tmp_path / "table3.csv", tmp_path / "table4.csv"],
        tmp_path / "comparison",
        CONTEXT,
        {"MIT-BIH": "kaggle"},
    )
    assert len(frame) == 120
    ran = frame[frame["verdict"] != "not run"].set_index("artefact")
    assert ran["row"].tolist() == ["MLP", "MLP"]
    assert ran["column"].tolist() == ["MIT-BIH", "MIT-BIH"]
    assert ran.loc["Table III", "verdict"] == "within interval"
    assert ran.loc["Table IV", "reproduced"] == pytest.approx(1.1 * 0.43 / 3)
    assert ran.loc["Table IV", "verdict"] == "within interval"
    assert ran.loc["Table IV", "n"] == 3


def test_tables_are_equal_bytes_whatever_the_order_of_inputs(tmp_path, published):
    inputs = [
        attacked(tmp_path, "MLP", [[0.3, 0.2], [0.1, 0.2], [0.5, 0.6]]),
        attacked(tmp_path, "RandomForest", [[0.2], [0.1], [0.5]]),
    ]
    signnet.build_distances(SIGNALS, inputs, published, tmp_path / "a", CONTEXT, ATTACK)
    signnet.build_distances(SIGNALS, inputs[::-1], published, tmp_path / "b", CONTEXT, ATTACK)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


# --- Figure 2 ---


def figure2(tmp_path, inputs, cohort=POINTS, **more):
    settings = {"class_names": list("NSVFQ"), **more}
    return signnet_figure2.build_figure2(
        inputs, tmp_path / "figure2", CONTEXT, ATTACK, cohort, **settings
    )


def test_figure2_draws_the_last_iterate_of_the_first_point(tmp_path):
    inputs = [
        attacked(tmp_path, "RandomForest", [[0.3, 0.4], [0.4, 0.2], [0.3, 0.5]]),
        attacked(tmp_path, "MLP", [[0.2], [0.4], [0.3]]),
    ]
    files = figure2(tmp_path, inputs)
    assert {file.suffix for file in files} == {".pdf", ".png", ".svg", ".csv", ".json"}
    drawn = pd.read_csv(tmp_path / "figure2.csv")
    assert list(dict.fromkeys(drawn["model"])) == ["MLP", "RandomForest"]  # the paper's order
    assert len(drawn) == 2 * 187
    forest = drawn[drawn["model"] == "RandomForest"]
    original = np.random.default_rng(40).random(187).astype(np.float32)
    assert forest["original"].to_numpy() == pytest.approx(original)
    assert forest["time_s"].max() == pytest.approx(186 * 3 / 360)  # every third sample of 360 Hz
    assert np.linalg.norm(forest["difference"]) == pytest.approx(0.33, rel=1e-4)
    assert forest["distance"].iloc[0] == pytest.approx(0.33, rel=1e-4)
    assert forest["distance_at_boundary"].iloc[0] == pytest.approx(0.3, rel=1e-4)
    provenance = json.loads((tmp_path / "figure2.provenance.json").read_text())
    assert "Test point 40 (class N), the first of the cohort" in provenance["caption"]
    assert "120 samples per second" in provenance["caption"]
    assert "Not run: SCD01, SCDCE, BNN, CNN." in provenance["caption"]
    assert provenance["caption"].count(upper_bound_text([1, 2])) == 1
    assert provenance["n"] == "1 of 3 attacked points"


def test_figure2_of_ptbd_has_its_own_clock(tmp_path):
    figure2(tmp_path, [attacked(tmp_path, "MLP", [[0.2], [0.4], [0.3]], "ptbd")])
    drawn = pd.read_csv(tmp_path / "figure2.csv")
    assert drawn["time_s"].max() == pytest.approx(186 * 8 / 1000)  # every eighth of 1,000 Hz
    provenance = json.loads((tmp_path / "figure2.provenance.json").read_text())
    assert "125 samples per second" in provenance["caption"]


def panels(tmp_path, monkeypatch, inputs, **more):
    """Returns the figure that is written."""
    kept = []
    original = artefacts.write_figure_artefact

    def keep(stem, figure, *arguments, **settings):
        kept.append(figure)
        return original(stem, figure, *arguments, **settings)

    monkeypatch.setattr(artefacts, "write_figure_artefact", keep)
    figure2(tmp_path, inputs, **more)
    return kept[0]


def test_figure2_titles_name_model_distance_and_class(tmp_path, monkeypatch):
    inputs = [
        attacked(tmp_path, "MLP", [[0.2], [0.4], [0.3]]),
        attacked(tmp_path, "CNN", [[None], [0.4], [0.3]]),
        attacked(tmp_path, "RandomForest", [[0.3], [0.4], [0.3]], misclassified=[40]),
    ]
    figure = panels(tmp_path, monkeypatch, inputs)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles == [
        "Original\nclass N",
        "MLP\nL₂ 0.220 (0.200), read as F",
        "CNN\nno start for the attack",
        "Random forest\nmisclassified without attack",
    ]
    limits = {axes.get_ylim() for axes in figure.axes[1::2]}
    assert len(limits) == 1  # changes on one scale
    notes = json.loads((tmp_path / "figure2.provenance.json").read_text())["notes"]
    assert len(notes) == 2


def test_figure2_text_neither_overlaps_nor_leaves_the_page(tmp_path, monkeypatch):
    inputs = [attacked(tmp_path, model, [[0.2], [0.4], [0.3]]) for model in SIGNALS.models]
    figure = panels(tmp_path, monkeypatch, inputs)
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    page = figure.bbox
    boxes = []
    for axes in figure.axes:
        for artist in (axes._left_title, axes.xaxis.label, axes.yaxis.label):
            if artist.get_text():
                boxes.append(artist.get_window_extent(renderer))
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    assert len(boxes) > 14
    for box in boxes:
        assert box.x0 >= page.x0 and box.x1 <= page.x1 and box.y0 >= page.y0 and box.y1 <= page.y1
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_figure2_of_a_chosen_point_says_so(tmp_path):
    inputs = [attacked(tmp_path, "MLP", [[0.2], [0.4], [0.3]])]
    figure2(tmp_path, inputs, point_id=19)
    caption = json.loads((tmp_path / "figure2.provenance.json").read_text())["caption"]
    assert "Test point 19 (class N), chosen by its number" in caption
    with pytest.raises(InputError, match="not among the 3"):
        figure2(tmp_path, inputs, point_id=1)


def test_figure2_refuses_arrays_that_are_not_the_records(tmp_path):
    item = attacked(tmp_path, "MLP", [[0.2], [0.4], [0.3]])
    tensors = io.read_tensors(item.arrays[0])
    tensors["x_adv"] = tensors["x"] + 2 * (tensors["x_adv"] - tensors["x"])
    io.write_tensors(item.arrays[0], tensors)
    with pytest.raises(InputError, match="Arrays and records disagree"):
        figure2(tmp_path, [item])


def test_figure2_draws_the_projected_point_where_no_last_iterate_is_adversarial(tmp_path):
    item = attacked(tmp_path, "MLP", [[0.2], [0.4], [0.3]])
    for chunk in item.chunks:
        frame = io.read_table(chunk)
        frame["l2_final_iterate"] = np.nan
        io.write_table(chunk, frame)
    figure2(tmp_path, [item])
    drawn = pd.read_csv(tmp_path / "figure2.csv")
    assert np.linalg.norm(drawn["difference"]) == pytest.approx(0.2, rel=1e-4)
    notes = json.loads((tmp_path / "figure2.provenance.json").read_text())["notes"]
    assert notes == ["MLP: no last iterate is adversarial; drawn is the projected point."]


def test_table4_counts_points_outside_the_range(tmp_path, published):
    item = attacked(tmp_path, "MLP", [[0.2], [0.4], [0.3]])
    frame = io.read_table(item.chunks[0])
    frame["box_violation"] = True
    io.write_table(item.chunks[0], frame)
    signnet.build_distances(SIGNALS, [item], published, tmp_path / "table4", CONTEXT, ATTACK)
    text = (tmp_path / "table4.md").read_text()
    assert f"{len(frame)} adversarial points leave the range" in text


def test_figure2_refuses_models_with_different_originals(tmp_path):
    items = [attacked(tmp_path, model, [[0.2], [0.4], [0.3]]) for model in ("MLP", "CNN")]
    tensors = io.read_tensors(items[1].arrays[0])
    for name in ("x", "x_adv", "x_final_iterate"):
        tensors[name] = tensors[name] + np.float32(0.1)
    io.write_tensors(items[1].arrays[0], tensors)
    with pytest.raises(InputError, match="disagree about the original"):
        figure2(tmp_path, items)


def test_figure2_needs_one_data_set_with_arrays(tmp_path):
    items = [
        attacked(tmp_path, "MLP", [[0.2]] * 3),
        attacked(tmp_path, "MLP", [[0.2]] * 3, "mitbih_ns"),
    ]
    with pytest.raises(InputError, match="one data set"):
        figure2(tmp_path, items)
    with pytest.raises(InputError, match="at least one model"):
        figure2(tmp_path, [])
    with pytest.raises(InputError, match="are missing"):
        figure2(tmp_path, [AttackInput("mitbih", "MLP", "kaggle", items[0].chunks)])
