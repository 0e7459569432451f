"""Two halves of signnet in the experiment graph: artefacts, points drawn at random, records."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.experiment.calls import call_of, work_of
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.committed import check_committed
from medrobust.experiment.config import Attack, resolve
from medrobust.experiment.entries import cells_of_artefact, entries_of
from medrobust.experiment.sources import build_graph
from medrobust.jobs.evaluate import draw_points
from pydantic import ValidationError

SMOKE = {"studies": ["signnet"], "scale": "smoke"}


def shown(graph, name):
    return {
        cell.dataset for cell in cells_of_artefact(graph, "signnet", artefacts_of("signnet")[name])
    }


def test_each_artefact_shows_its_half(root):
    graph = build_graph(SMOKE | {"include_extras": ["mitbih_ns", "chest_xray_patient"]}, root)
    for name in ("table1", "table2", "image_differences"):
        assert shown(graph, name) == {"chest_xray", "kather", "chest_xray_patient"}
    for name in ("table3", "table4"):
        assert shown(graph, name) == {"mitbih", "ptbdb", "mitbih_ns"}
    for name in ("paired", "claims", "effort", "convergence"):
        assert shown(graph, name) == {cell.dataset for cell in graph.cells("signnet")}
    assert shown(graph, "figure1") == {"kather"} and shown(graph, "figure2") == {"mitbih"}
    models = {e["model"] for e in entries_of(graph, "signnet", artefacts_of("signnet")["table1"])}
    assert models == {"SCD01", "SCDCE", "MLP", "LeNet", "ResNet18", "RandomForest"}


def test_a_figure_of_one_point_gets_the_cohort_of_its_own_data_set(root):
    graph = build_graph(SMOKE, root)
    files = {
        name: call_of(graph, "build_artefact", study="signnet", artefact=name, run="smoke-code")
        for name in ("figure1", "figure1_xray", "figure2")
    }
    cohorts = {name: call.inputs["cohort"].split("/")[-3] for name, call in files.items()}
    assert cohorts == {
        "figure1": "kather@standin",
        "figure1_xray": "chest_xray@standin",
        "figure2": "mitbih@standin",
    }
    without = build_graph(SMOKE | {"leave_out": ["chest_xray", "kather"]}, root)
    call = call_of(without, "build_artefact", study="signnet", artefact="figure1", run="smoke-code")
    assert "cohort" not in call.inputs and call.params["entries"] == []


# --- points drawn at random ---


def test_the_attack_on_random_images_is_an_extra(root):
    assert list(resolve(SMOKE, root).studies["signnet"].attacks) == ["hopskipjump"]
    graph = build_graph(SMOKE | {"include_extras": ["extended"]}, root)
    assert graph.attack_points("signnet", "kather", "extended") == 12
    assert "extended" not in graph.attacks("signnet", "mitbih")
    work = [(job, found) for job, found in work_of(graph, "signnet") if job == "draw_points"]
    assert {found["dataset"] for _, found in work} == {"chest_xray", "kather"}
    (call,) = (call_of(graph, job, **f) for job, f in work if f["dataset"] == "kather")
    assert call.params["models"] == [
        *("scd01_images", "scdce_images", "mlp_images", "lenet", "resnet18"),
        "random_forest_images",
    ]
    cell = next(cell for cell in graph.cells("signnet") if cell.dataset == "kather")
    assert call.outputs["drawn"] == graph.points_file(cell, "extended")
    assert graph.points_file(cell, "hopskipjump") == graph.cohort(cell)
    with pytest.raises(InputError, match="takes no points drawn at random"):
        call_of(graph, "draw_points", **vars(cell), attack="hopskipjump")
    with pytest.raises(InputError, match="takes no points of a split"):
        call_of(graph, "select_points", **vars(cell), attack="extended")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"select": "random"}, "needs points"),
        ({"select": "random", "points": 5, "keep_arrays": 1}, "need `select: test`"),
        ({"points": 5}, "points needs `select: random`"),
    ],
)
def test_points_are_said_where_they_count(settings, says):
    with pytest.raises(ValidationError, match=says):
        Attack(name="hopskipjump", **settings)


def answers(folder, n=40):
    labels = np.arange(n) % 2
    wrong = {"a": np.arange(n) < n // 2, "b": np.zeros(n, bool)}
    for name, missed in wrong.items():
        frame = {"point_id": np.arange(n) + 100, "label": labels}
        frame["prediction"] = np.where(missed, 1 - labels, labels)
        io.write_table(folder / f"{name}.parquet", pd.DataFrame(frame))
    return [str(folder / f"{name}.parquet") for name in wrong]


def drawn(folder, points, attack="extended", seed=1):
    out = str(folder / "drawn.csv")
    names = ["signnet", "kather@standin", 0, attack]
    draw_points(
        predictions=answers(folder), models=["a", "b"], drawn=out, points=points, names=names,
        seed=seed,
    )  # fmt: skip
    return pd.read_csv(out)


def test_random_points_are_drawn_whatever_models_say_and_starts_are_not(tmp_path):
    found = drawn(tmp_path, 30)
    assert len(set(found["point_id"])) == 30 and list(found["position"]) == list(range(30))
    # Model a is wrong on the first half of the points: some of these are among 30 of 40.
    assert (found["point_id"] < 120).any()
    # A start is one that all classify correctly, of the other class.
    assert (found["start_id"] >= 120).all()
    assert ((found["start_id"] - 100) % 2 != found["label"]).all()
    assert drawn(tmp_path, 30).equals(found) and not drawn(tmp_path, 30, seed=2).equals(found)
    assert not drawn(tmp_path, 30, attack="other").equals(found)
    assert len(drawn(tmp_path, 500)) == 40


# --- records, scales ---


def test_a_scale_may_change_as_many_numbers_of_a_list(root, tmp_path):
    import shutil

    for folder in ("config", "resources/checksums"):
        shutil.copytree(root / folder, tmp_path / folder)
    file = tmp_path / "config/scales/laptop.yaml"
    scale = yaml.safe_load(file.read_text())

    def with_stages(stages):
        models = scale["studies"]["signnet"]["models"]
        models["resnet18"] = {"architecture": {"stages": stages}}
        file.write_text(yaml.safe_dump(scale))
        return resolve({"scale": "laptop", "studies": ["signnet"]}, tmp_path)

    resolved = with_stages([1, 2, 3, 4])
    assert resolved.studies["signnet"].models["resnet18"].architecture["stages"] == [1, 2, 3, 4]
    assert "stages" in resolved.unlike_the_paper("signnet")
    for wrong in ([1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, True]):
        with pytest.raises(InputError, match="numbers only"):
            with_stages(wrong)


def test_records_of_before_say_alike_which_models_are_trained_on_what(root, tmp_path):
    kept = tmp_path / "signnet/smoke-code"
    only = SMOKE | {"leave_out": ["chest_xray", "kather"]}
    facts = build_graph(only, root).run_facts("signnet")
    for dataset in facts["study"]["datasets"]:
        (kept / f"evaluations/{dataset}@standin").mkdir(parents=True)
    # As it was: null said of every model that it is trained on all data sets.
    for model in facts["study"]["models"].values():
        assert model["datasets"] is not None
        model["datasets"] = None
    kept.mkdir(exist_ok=True)
    (kept / "run.json").write_text(json.dumps(facts))
    redrawn = build_graph(SMOKE | {"records_from": str(kept.parent)}, root)
    assert set(redrawn.study("signnet").datasets) == {"mitbih", "ptbdb"}
    check_committed(redrawn, "signnet")
    facts["study"]["models"]["bnn"]["datasets"] = ["mitbih"]
    (kept / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"models\.bnn\.datasets was \['mitbih'\], is None"):
        check_committed(redrawn, "signnet")
