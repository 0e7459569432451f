"""The study ima in the configuration and the graph: models of some data sets, drawn training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.seeds import derive_seed
from medrobust.data.prepared.store import Dataset
from medrobust.experiment import entries
from medrobust.experiment.calls import call_of
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.config import resolve
from medrobust.experiment.entries import entries_of
from medrobust.experiment.evidence import CARDS, _of_selected_data, drawn_from, export_evidence
from medrobust.experiment.plan import make_plan, training_seconds
from medrobust.experiment.sources import build_graph
from medrobust.jobs import evaluate, train
from medrobust.studies.ima.results import TABLES, read_printed

ONLY_MOONS = {"studies": ["ima"], "leave_out": ["fashion_mnist", "svhn", "covid_ct"]}

DRAWN = ("tables/table8", "figures/figure6", "comparison/comparison", "claims/claims")


def moons_settings(**settings) -> dict:
    return ONLY_MOONS | {"overrides": {"ima": {"datasets": {"moons": settings}}}}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder: what lies in the project's own plays no part."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_amounts_are_the_papers(root):
    study = resolve({"studies": ["ima"]}, root).studies["ima"]
    amounts = {"moons": (30, 128), "fashion": (60, 128), "svhn": (60, 128), "covid": (100, 32)}
    for name, model in study.models.items():
        method = model.method
        assert (method["max_epochs"], method["batch_size"]) == amounts[name.split("_")[0]]
        assert method["learning_rate"] == 0.001
        if method["name"] in ("trades", "mma", "ima") or "adv" in name:
            assert method["steps"] == 20
    steps = {
        name: study.models[name].method["largest_margin"] / study.models[name].method["margin_step"]
        for name in study.models
        if name.endswith("_ima")
    }
    wanted = {"moons": 30, "fashion": 60, "fashion_l2": 60, "svhn": 60, "svhn_l2": 60, "covid": 10}
    assert steps == pytest.approx({f"{name}_ima": value for name, value in wanted.items()})


def test_extras_keep_the_margin_step_of_60_epochs(root):
    study = resolve({"studies": ["ima"], "include_extras": True}, root).studies["ima"]
    for name in ("fashion_ima", "fashion_l2_ima", "svhn_ima", "svhn_l2_ima"):
        whole = study.models[name].method
        for tenths in (10, 20, 30, 40, 50):
            part = study.models[f"{name}_emax{tenths}"].method
            assert part["margin_step"] == pytest.approx(whole["margin_step"])
            assert part["largest_margin"] == pytest.approx(tenths * whole["margin_step"])
            assert part["max_epochs"] == 60
    betas = [study.models[f"fashion_ima_beta0{k}"].method["beta"] for k in (1, 3, 7, 9)]
    assert betas == [0.1, 0.3, 0.7, 0.9]


@pytest.mark.parametrize("protocol", ["code", "text"])
@pytest.mark.parametrize("scale", ["paper", "laptop"])
def test_margins_can_reach_their_bound(root, scale, protocol):
    settings = {"scale": scale, "protocol": protocol, "include_extras": True}
    models = resolve(settings | {"studies": ["ima"]}, root).studies["ima"].models
    methods = [one.method for one in models.values() if one.method["name"] == "ima"]
    assert len(methods) == 6 + 4 * 2 + 5 * 4
    for method in methods:
        reached = method["margin_step"] * method["max_epochs"]
        assert reached >= method["largest_margin"] * (1 - 1e-6), method


def test_every_printed_model_of_the_classification_has_a_model_here(root):
    study = resolve({"studies": ["ima"], "include_extras": True}, root).studies["ima"]
    published = io.read_table(root / study.published)
    names = {use.published_name: name for name, use in study.datasets.items()}
    for row in published[published["dataset"].isin(names)].itertuples():
        same = row.method in ("beta=0.5", "emax=60dEps")
        name = "IMA" if same else row.method
        wanted = name if row.norm == "Linf" or name == "ce" else f"L2:{name}"
        assert any(
            model.published_name == wanted and model.datasets == [names[row.dataset]]
            for model in study.models.values()
        ), row


def test_models_run_on_their_data_sets_only(root, elsewhere):
    graph = build_graph({"studies": ["ima"]}, root)
    assert list(graph.models("ima", "moons")) == [
        "moons_ce", "moons_adv03", "moons_trades", "moons_mma", "moons_ima",
    ]  # fmt: skip
    cells = build_graph(moons_settings(replicates=5), root).cells("ima")
    assert [c.replicate for c in cells if c.dataset == "moons"] == [0, 1, 2, 3, 4]
    cells = graph.cells("ima")
    assert [c.replicate for c in cells if c.dataset == "covid_ct"] == [0]
    assert graph.attacked_models("ima", "pgd_moons", "svhn") == []
    assert len(graph.attacked_models("ima", "pgd_fashion_l2", "fashion_mnist")) == 8
    assert set(graph.attacks("ima", "covid_ct")) == {"pgd_covid", "noise_covid", "ct_images"}
    entries = entries_of(graph, "ima", artefacts_of("ima")["table13"])
    covid = [entry for entry in entries if entry["dataset"] == "COVID19-CT"]
    assert len(covid) == 11 and all("pgd_covid" in entry["tallies"] for entry in covid)
    assert all(set(entry["tallies"]) <= {"pgd_covid"} for entry in entries)


def shown(graph, name) -> set[str]:
    return {entry["model"] for entry in entries_of(graph, "ima", artefacts_of("ima")[name])}


def test_nobody_waits_for_models_that_are_not_shown(root, elsewhere):
    graph = build_graph({"studies": ["ima"], "include_extras": True}, root)
    entries = entries_of(graph, "ima", artefacts_of("ima")["table8"])
    assert {entry["dataset"] for entry in entries} == {"Moons"} and len(entries) == 5
    assert shown(graph, "figure1") == {"ce"}
    betas = {f"beta={b}" for b in (0.1, 0.3, 0.7, 0.9)}
    assert shown(graph, "tableB2") == {"IMA"} | betas
    assert shown(graph, "tableB1") == {"L2:IMA"} | {f"L2:{name}" for name in betas}
    steps = {f"emax={k}dEps" for k in (10, 20, 30, 40, 50)}
    assert shown(graph, "tableC7") == {"IMA"} | steps
    assert shown(graph, "tableC4") == {"L2:IMA"} | {f"L2:{name}" for name in steps}
    # A main table has room for any model that its attack is run on.
    assert shown(graph, "table9") >= {"ce", "IMA"} | betas


def test_the_rows_of_settings_are_those_in_print(root):
    printed = read_printed(str(root / "resources/published/ima.csv"))
    for table in TABLES:
        models = artefacts_of("ima")[f"table{table.number}"].models
        rows = {table.model(method) for method in printed.methods(table)}
        assert set(models) == (set() if table.main else rows)


def test_margins_are_of_methods_that_have_them_and_maps_of_the_plane(root, elsewhere):
    graph = build_graph(moons_settings(replicates=2), root)
    first, second = graph.cells("ima")
    assert set(entries._knowledge(graph, first, "moons_ima")) == {"margins", "plane", "search"}
    assert set(entries._knowledge(graph, first, "moons_ce")) == {"plane"}
    assert entries._knowledge(graph, second, "moons_ima") == {}
    graph = build_graph({"studies": ["ima"]}, root)
    (fashion,) = [c for c in graph.cells("ima") if c.dataset == "fashion_mnist"]
    assert set(entries._knowledge(graph, fashion, "fashion_mma")) == {"margins"}


def test_evidence_keeps_what_the_artefacts_are_drawn_from(root, elsewhere):
    graph = build_graph(moons_settings(replicates=2), root)
    kept = {str(path).split("moons@generated/fold0/")[1] for path in drawn_from(graph, "ima")}
    wanted = {"rep0/moons_ima/search.safetensors", "rep0/moons_mma/margins.safetensors"}
    wanted |= {"rep0/moons_ce/plane.safetensors", "rep1/moons_ce/pgd_moons/tally.csv"}
    assert wanted <= kept
    assert not any("rep1" in name and "safetensors" in name for name in kept)


def test_evidence_leaves_out_what_is_redrawn_in_seconds(root, elsewhere):
    graph = build_graph(ONLY_MOONS, root)
    run = Path("results/paper-code/ima")
    suffixes = ["html", "md", "tex", "csv", "svg", "pdf", "png", "provenance.json", "log"]
    drawn = [run / f"{name}.{suffix}" for suffix in suffixes for name in DRAWN]
    cell = graph.cells("ima")[0]
    result = Path(graph.evaluation(cell, "moons_ce", "clean.json"))
    cards = [Path(cell.data) / name for name in ("card.json", "card.md", "preview.png")]
    mains = [Path(file) for file in graph.artefacts("ima")]
    for path in [*drawn, *mains, *drawn_from(graph, "ima"), result, *cards]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    made = {str(path) for path in export_evidence(graph, "ima", Path("kept"))}
    folder = {str(p) for p in Path("kept").rglob("*") if p.is_file()}
    assert made | {"kept/paper-code/run.json"} == folder
    for name in DRAWN:
        for suffix in suffixes:
            wanted = suffix in ("csv", "png", "provenance.json")
            assert (f"kept/paper-code/{name}.{suffix}" in made) is wanted, (name, suffix)
    clean = "moons@generated/fold0/rep0/moons_ce/clean.json"
    assert {f"kept/paper-code/evaluations/{clean}"} <= made
    assert {f"kept/paper-code/data/moons@generated/{card.name}" for card in cards} <= made


def test_evidence_of_segmentation_has_all_that_its_artefacts_ask_for(root, elsewhere):
    settings = {"studies": ["ima_segmentation"], "leave_out": ["msd_heart", "msd_prostate"]}
    graph = build_graph(settings, root)
    asked = set()
    for name in graph.study("ima_segmentation").artefacts:
        work = {"run": graph.resolved.run, "study": "ima_segmentation", "artefact": name}
        for files in call_of(graph, "build_artefact", **work).inputs.values():
            asked |= {files} if isinstance(files, str) else set(files)
    results = {Path(file) for file in asked if file.startswith("results/paper-code/")}
    cards = [Path(c.data) / name for c in graph.cells("ima_segmentation") for name in CARDS]
    for path in [*results, *map(Path, graph.artefacts("ima_segmentation")), *cards]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    made = set(export_evidence(graph, "ima_segmentation", Path("kept")))
    wanted = {Path("kept/paper-code") / path.relative_to("results/paper-code/ima_segmentation")
              for path in results}  # fmt: skip
    assert len(wanted) == 15 and wanted <= made  # records, slices and state of five models


def test_evidence_is_of_the_selected_data_sets(root, elsewhere):
    graph = build_graph(ONLY_MOONS, root)
    folder = Path("results/paper-code/ima/evaluations")
    assert _of_selected_data(graph, "ima", folder / "moons@generated/fold0/rep0/a/clean.json")
    assert not _of_selected_data(graph, "ima", folder / "covid_ct@subset/fold0/rep0/a/clean.json")
    assert _of_selected_data(graph, "ima", Path("results/paper-code/ima/tables/table8.csv"))


def test_a_data_set_takes_its_models_and_their_attacks_along(root, elsewhere):
    study = resolve(ONLY_MOONS, root).studies["ima"]
    assert set(study.datasets) == {"moons"} and len(study.models) == 5
    assert set(study.attacks) == {"pgd_moons", "noise_moons"}


def test_a_model_of_an_unknown_data_set_is_refused(root):
    wrong = {"ima": {"models": {"moons_ce": {"datasets": ["moon"]}}}}
    with pytest.raises(InputError, match="moon"):
        resolve({"studies": ["ima"], "overrides": wrong}, root)


def test_committed_records_of_a_selection_can_be_redrawn(root, elsewhere):
    """Also where an attack was aimed at models that were left out, and so not made."""
    left_out = {"studies": ["nsr"], "leave_out": ["mlp_ce"]}
    graph = build_graph(left_out, root)
    assert "beat" not in graph.study("nsr").attacks
    kept = elsewhere / "evidence/nsr/paper-code"
    (kept / "evaluations/mitbih_val@physionet").mkdir(parents=True)
    (kept / "run.json").write_text(json.dumps(graph.run_facts("nsr")))
    again = build_graph({"studies": ["nsr"], "records_from": "evidence/nsr"}, root)
    assert set(again.study("nsr").attacks) == {"pgd20", "pgd100", "spsa", "noise"}


def test_the_plan_knows_drawn_training_and_replicates(root, elsewhere):
    whole = build_graph(ONLY_MOONS, root)
    part = build_graph(moons_settings(training_points=5000), root)
    cell = whole.cells("ima")[0]
    seconds = [training_seconds(g, cell, "moons_ima", 1) for g in (whole, part)]
    assert seconds[1] == pytest.approx(seconds[0] / 4)
    often = build_graph(moons_settings(replicates=5), root)
    assert make_plan(often)[0].queries == 5 * make_plan(whole)[0].queries


@pytest.mark.parametrize("points", [None, 30])
def test_training_on_a_drawn_part(tmp_path, monkeypatch, points):
    """The draw is one of the split, in its order, the same for every model and replicate."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 2)).astype(np.uint8)
    y = (x[:, 0] > 127).astype(np.int64)
    split = np.arange(0, 60, 2) if points is None else np.arange(5, 55)
    card = {"name": "x", "class_names": ["a", "b"], "input_range": [0.0, 1.0]}
    dataset = Dataset(tmp_path, x, y, split, np.arange(0), np.arange(60), card)
    monkeypatch.setattr("medrobust.data.prepared.store.load_dataset", lambda folder, fold: dataset)
    monkeypatch.setattr(train, "fix_threads", lambda threads: None)
    monkeypatch.setattr(Dataset, "hashes", lambda self: {})
    method = {"name": "ima", "margin_step": 0.01, "largest_margin": 0.3, "max_epochs": 1}
    seen = {}
    for model in ("one", "other"):
        stem = str(tmp_path / model)
        train.train_members(
            data="", out=f"{stem}.out", card=f"{stem}.card", timing=f"{stem}.timing",
            extras=f"{stem}.extras", training_points=points, members=[0, 0],
            names=["ima", "x@generated", 0, int(model == "other"), model], seed=3, device="cpu",
            model={"architecture": {"name": "layer_norm_mlp"}, "method": method},
            compute_threads=1, code="c", progress_dir=str(tmp_path / "progress"),
        )  # fmt: skip
        seen[model] = io.read_tensors(f"{stem}.extras")
        assert io.read_json(f"{stem}.card")["n_train"] == (points or 30)
        # Training reads values of the input range, not the bytes on the disk.
        assert np.abs(io.read_tensors(f"{stem}.out")["w1"]).max() < 1
    ids = seen["one"]["point_id"]
    assert np.array_equal(ids, seen["other"]["point_id"])
    assert set(ids) <= set(split) and list(ids) == sorted(set(ids)) and len(ids) == (points or 30)
    assert np.array_equal(seen["one"]["label"], y[ids])
    assert seen["one"]["margin"].shape == (1, points or 30)
    assert not np.array_equal(seen["one"]["margin"], seen["other"]["margin"])
    if points:
        assert derive_seed(3, "training points") != derive_seed(4, "training points")
        assert not np.array_equal(ids, split[:points])


def test_margins_of_several_jobs_are_joined_in_turn(tmp_path):
    def part(name, margin, label=(0, 1, 1)):
        arrays = {"margin": margin, "point_id": np.arange(3), "label": np.array(label)}
        io.write_tensors(tmp_path / name, {n: np.asarray(a) for n, a in arrays.items()})
        return str(tmp_path / name)

    files = [part("a", np.full((2, 3), 0.1)), part("b", np.full((1, 3), 0.2))]
    evaluate.join_margins(extras=files, out=str(tmp_path / "out"))
    joined = io.read_tensors(tmp_path / "out")
    assert joined["margin"].tolist() == [[0.1] * 3, [0.1] * 3, [0.2] * 3]
    assert joined["label"].tolist() == [0, 1, 1]
    other = part("c", np.full((1, 3), 0.2), label=(1, 1, 1))
    with pytest.raises(InputError, match="other members"):
        evaluate.join_margins(extras=[files[0], other], out=str(tmp_path / "out"))
    io.write_tensors(tmp_path / "none", {})
    with pytest.raises(InputError, match="no margins"):
        evaluate.join_margins(extras=[str(tmp_path / "none")], out=str(tmp_path / "out"))
