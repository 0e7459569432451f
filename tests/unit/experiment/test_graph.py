"""The experiment graph and the plan: names, chunks, sources, what is skipped, what it will cost."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.attacks.engine.spec import HopSkipJumpSpec
from medrobust.core.errors import InputError
from medrobust.core.machine import snakemake_command
from medrobust.experiment import costs, plan, sources
from medrobust.experiment.calls import call_of, work_of
from medrobust.experiment.catalogue import artefacts_of
from medrobust.experiment.config import Model
from medrobust.experiment.entries import entries_of
from medrobust.experiment.graph import member_ranges
from medrobust.experiment.sources import build_graph


def signnet(values, root, **more):
    """The graph of signnet alone, on signals if nothing else is said, with these settings."""
    chosen = {"studies": ["signnet"], "leave_out": ["chest_xray", "kather"], **values}
    return build_graph(chosen, root, **more)


MODEL = {
    "label": "M",
    "vote": "soft",
    "architecture": {"name": "mlp"},
    "method": {"name": "sgd_cross_entropy", "learning_rate": 0.1, "max_epochs": 1},
}


@given(st.integers(1, 400), st.integers(1, 150), st.none() | st.integers(1, 99), st.integers(2, 5))
def test_training_jobs_cover_every_member_once(members, per_job, multiclass, n_classes):
    model = Model(**MODEL, members=members, members_per_job=per_job, members_multiclass=multiclass)
    ranges = member_ranges(model, n_classes)
    covered = [m for first, last in ranges for m in range(first, last + 1)]
    assert covered == list(range(multiclass if multiclass and n_classes > 2 else members))
    assert all(last - first < per_job for first, last in ranges)


@pytest.mark.parametrize(("points", "per_job"), [(21, "auto"), (1000, "auto"), (7, 3), (5, 9)])
def test_attack_jobs_cover_every_point_once(root, points, per_job):
    study = {
        "datasets": {"mitbih": {"points": points}},
        "attacks": {"hopskipjump": {"points_per_job": per_job}},
    }
    graph = signnet({"overrides": {"signnet": study}}, root)
    chunks = graph.chunks("signnet", "mitbih", "mlp", "hopskipjump")
    assert [p for a, b in chunks for p in range(a, b)] == list(range(points))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder to work in, without Kaggle credentials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def drop(folder, *names):
    place = folder / "raw/mitbih"
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        (place / name).write_bytes(b"x")
    return str(folder / "raw")


def test_without_account_or_files_the_account_free_source_is_chosen(root, elsewhere):
    assert signnet({}, root).sources == {"mitbih": "physionet", "ptbdb": "physionet"}


def test_with_a_credential_kaggle_is_chosen(root, elsewhere, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    assert signnet({}, root).sources == {"mitbih": "kaggle", "ptbdb": "kaggle"}


def test_files_at_hand_win_and_the_setting_wins_over_them(root, elsewhere):
    raw = drop(elsewhere, "mitbih_train.csv", "mitbih_test.csv")
    assert signnet({"raw_dir": raw}, root).sources["mitbih"] == "kaggle"
    chosen = {"raw_dir": raw, "sources": {"mitbih": "physionet"}}
    assert signnet(chosen, root).sources["mitbih"] == "physionet"


def test_a_part_of_a_release_is_labelled_subset(root, elsewhere):
    raw = drop(elsewhere, "100.dat", "100.hea", "100.atr")
    graph = signnet({"raw_dir": raw, "allow_subset": True}, root)
    assert (graph.sources["mitbih"], graph.origins["mitbih"]) == ("subset", "physionet")
    # Of PTB nothing is there, so all of it will be fetched.
    assert graph.sources["ptbdb"] == "physionet"


def test_files_of_another_size_are_a_subset_too(root, elsewhere):
    raw = drop(elsewhere, "mitbih_train.csv", "mitbih_test.csv")
    graph = signnet({"raw_dir": raw, "allow_subset": True}, root)
    assert (graph.sources["mitbih"], graph.origins["mitbih"]) == ("subset", "kaggle")


def test_a_part_of_the_ptb_records_is_a_subset(root, elsewhere):
    place = elsewhere / "raw/ptbdb/patient001"
    place.mkdir(parents=True)
    for suffix in (".hea", ".dat"):
        (place / f"s0010_re{suffix}").write_bytes(b"x")
    graph = signnet({"raw_dir": str(elsewhere / "raw"), "allow_subset": True}, root)
    assert (graph.sources["ptbdb"], graph.origins["ptbdb"]) == ("subset", "physionet")


@pytest.mark.parametrize(("protocol", "name"), [("code", "ptbdb"), ("text", "ptbdb_8020")])
def test_both_divisions_of_ptb_are_drawn_as_ptbd(root, elsewhere, protocol, name):
    graph = signnet({"protocol": protocol}, root)
    cells = [cell for cell in graph.cells("signnet") if cell.dataset.startswith("ptbdb")]
    assert [cell.path for cell in cells] == [f"{name}@physionet/fold0/rep0"]
    entries = entries_of(graph, "signnet", artefacts_of("signnet")["table3"])
    assert {entry["dataset"] for entry in entries} == {"MIT-BIH", "PTBD"}
    # Figure 2 shows the first data set.
    assert graph.cells("signnet")[0].dataset == "mitbih"


def test_settings_are_shown_as_they_can_be_typed(root):
    from medrobust.experiment.config import Config

    shown = sources.changed_settings(Config(seed=3, overrides={"signnet": {"replicates": 2}}))
    words = shlex.split(shown)
    assert words == ["--config", "seed=3", 'overrides={"signnet": {"replicates": 2}}']
    assert sources.changed_settings(Config()) == ""


def test_the_smoke_scale_uses_stand_ins_whatever_lies_there(root, elsewhere):
    raw = drop(elsewhere, "mitbih_train.csv", "mitbih_test.csv")
    sources = signnet({"scale": "smoke", "raw_dir": raw}, root).sources
    assert sources == {"mitbih": "standin", "ptbdb": "standin"}


def test_studies_without_data_are_skipped_only_if_asked_for(root, elsewhere):
    missing = {"sources": {"mitbih": "kaggle"}}
    assert signnet(missing, root).sources["mitbih"] == "kaggle"
    graph = signnet(missing | {"on_missing_data": "skip"}, root)
    with pytest.raises(InputError, match="The data of none of the selected studies"):
        sources.refuse_without_data(graph)
    # Where it is only asked what is there, that is said instead.
    assert "cannot run yet" in sources.preflight_text(graph)
    assert "left out" in plan.format_plan(plan.make_plan(graph), graph)


def test_data_sets_that_no_study_uses_are_prepared_if_asked_for(root, elsewhere):
    plain = signnet({}, root)
    graph = signnet({"also_prepare": ["moons", "mitbih", "kather_8"]}, root)
    added = {"moons": "generated", "kather_8": "official"}
    assert graph.sources == plain.sources | added == graph.origins
    assert [cell.path for cell in graph.cells("signnet")] == [
        cell.path for cell in plain.cells("signnet")
    ]
    assert graph.resolved.run == plain.resolved.run
    text = plan.format_plan(plan.make_plan(graph), graph)
    assert "also prepared: kather_8@official, 258.1 MB" in text and "mitbih@" not in text
    everything = signnet({"also_prepare": "all", "scale": "smoke", "leave_out": []}, root)
    assert everything.sources == dict.fromkeys(everything.registry, "standin")
    fewer = signnet({"also_prepare": True, "scale": "smoke", "leave_out": ["busis"]}, root)
    assert set(everything.sources) - set(fewer.sources) == {"busis"}


def test_what_cannot_be_had_is_skipped_only_if_asked_for(root, elsewhere):
    wanted = {"also_prepare": ["moons", "busis", "covid_ct"]}
    assert {"busis", "covid_ct"} <= set(signnet(wanted, root).sources)
    graph = signnet(wanted | {"on_missing_data": "skip"}, root)
    assert set(graph.sources) == {"mitbih", "ptbdb", "moons"}
    text = plan.format_plan(plan.make_plan(graph), graph)
    assert "left out, its data cannot be had: busis" in text and "also prepared: moons" in text
    # What is left out is still told of.
    assert "busis: cannot run yet" in sources.preflight_text(graph)


def test_preflight_of_named_data_sets(root, elsewhere):
    graph = signnet({"scale": "laptop", "also_prepare": ["svhn"]}, root)
    text = sources.preflight_text(graph, ["covid_ct", "moons"])
    assert "covid_ct: cannot run yet" in text and "moons: can run" in text
    assert "signnet" not in text and "svhn" not in text
    command = f"{snakemake_command()} results/data/moons@generated/card.md"
    assert f"{command} --config scale=laptop " in text
    assert "results/data/covid_ct@standin/card.md --config scale=smoke" in text
    every = sources.preflight_text(graph, ["all"])
    assert all(f"{name}: can" in every for name in graph.registry)
    with pytest.raises(InputError, match="Did you mean 'moons'"):
        sources.preflight_text(graph, ["moon"])
    both = sources.preflight_text(graph)
    assert "signnet: can run" in both and "svhn: can run" in both


def test_a_members_seed_does_not_depend_on_the_run(root):
    names = [signnet({"scale": s}, root).cells("signnet")[0].names for s in ("paper", "laptop")]
    assert names[0] == names[1]


def test_preflight_repeats_the_settings_in_the_command(root, elsewhere):
    text = sources.preflight_text(signnet({"scale": "laptop"}, root))
    assert "signnet --config scale=laptop" in text and "physionet" in text


def test_expected_queries_are_those_measured_with_art():
    """68,427 queries for one restart of 100 iterations (measured); 24,500 for 50."""
    for iterations, measured in ((100, 68427), (50, 24500)):
        spec = HopSkipJumpSpec(max_iter=iterations, restarts=1, start="random")
        expected = spec.expected_queries()
        assert expected == pytest.approx(measured, rel=0.02)


def test_the_plan_scales_with_the_amounts(root, elsewhere):
    def of(points):
        datasets = {"mitbih": {"points": points}, "ptbdb": {"extra": True}}
        study = {"datasets": datasets}
        return plan.make_plan(signnet({"overrides": {"signnet": study}}, root))[0]

    base, double = of(21), of(42)
    assert double.queries == 2 * base.queries
    assert double.cpu_hours > base.cpu_hours and double.gpu_hours == 0
    # Two points of the convolutional networks take about an hour; those of the others one job.
    assert double.jobs == base.jobs + (21 - 11)
    assert base.download_gb == pytest.approx(0.0939, abs=0.001)
    text = plan.format_plan([base], signnet({}, root))
    assert re.search(r"signnet +\d+ ", text) and "paper-code" in text


def test_networks_go_to_the_gpu_and_forests_do_not(root, elsewhere):
    made = plan.make_plan(signnet({"device": "cuda"}, root))[0]
    assert made.gpu_hours > 0 and made.cpu_hours > 0


def test_measured_times_replace_the_built_in_unit_costs(root, elsewhere):
    folder = elsewhere / "results/laptop-code/signnet/models/mitbih@physionet/fold0/rep0/mlp"
    folder.mkdir(parents=True)
    kind = "train:sgd_cross_entropy:mlp:187"
    timing = folder / "members_0-24.timing.json"
    timing.write_text(json.dumps({"kind": kind, "units": 1000, "wall_s": 99, "cpu_s": 50}))
    assert plan.measured_unit_seconds(elsewhere / "results") == {kind: 0.05}
    before = costs.training_unit_seconds("sgd_cross_entropy", "mlp")
    costs_here = plan.measured_costs(elsewhere / "results")
    cpu = plan.make_plan(signnet({}, root), costs_here)[0].cpu_hours
    timing.write_text(json.dumps({"kind": kind, "units": 1, "wall_s": 99, "cpu_s": 5}))
    assert plan.measured_unit_seconds(elsewhere / "results") == {}
    assert cpu > plan.make_plan(signnet({}, root))[0].cpu_hours and before < 0.05


def test_the_plan_says_how_far_off_stated_costs_were(root, elsewhere):
    folder = elsewhere / "results/laptop-code/signnet/models/mitbih@physionet/fold0/rep0/mlp"
    folder.mkdir(parents=True)
    stated = costs.training_unit_seconds("sgd_cross_entropy", "mlp")
    # Per unit: 1, 3 and 6 times the stated cost; a short job and one of a removed method.
    kinds = {"a": ("mlp", 1), "b": ("mlp", 3), "c": ("mlp", 6), "d": ("gone", 1)}
    for name, (architecture, times) in kinds.items():
        kind = (
            f"train:sgd_cross_entropy:{architecture}:187" if name != "d" else "train:gone:mlp:187"
        )
        units = 100 / (times * stated)
        text = json.dumps({"kind": kind, "units": units, "wall_s": 1, "cpu_s": 100})
        (folder / f"{name}.timing.json").write_text(text)
    found = {cost.kind: cost for cost in plan.measured_costs(elsewhere / "results")}
    mlp = found["train:sgd_cross_entropy:mlp:187"]
    assert (mlp.jobs, mlp.unit_seconds) == (3, pytest.approx(3 * stated))
    assert (mlp.lowest, mlp.highest) == (pytest.approx(1 / 3), pytest.approx(2))
    text = plan.plan_text(signnet({}, root))
    assert (
        "train:sgd_cross_entropy:mlp:187: 3 jobs, 3 times what was stated; "
        "single jobs 0.33 to 2.00 of their median" in text
    )
    assert "train:gone:mlp:187: 1 job\n" in text + "\n"


def test_effort_is_a_table_and_convergence_a_figure(root, elsewhere):
    graph = signnet({}, root)
    folder = "results/paper-code/signnet"
    assert graph.artefact("signnet", "effort") == f"{folder}/tables/effort.html"
    assert graph.artefact("signnet", "convergence") == f"{folder}/figures/convergence.png"
    assert graph.artefact("signnet", "table4") == f"{folder}/tables/table4.html"


def test_committed_records_serve_whatever_is_drawn_from_them(root, elsewhere):
    kept = elsewhere / "kept/paper-code"
    for dataset in ("mitbih@kaggle", "ptbdb@kaggle"):
        (kept / "evaluations" / dataset).mkdir(parents=True)
    facts = signnet({}, root).run_facts("signnet")
    facts["study"]["artefacts"] = ["table3"]
    (kept / "run.json").write_text(json.dumps(facts))
    graph = signnet({"records_from": "kept"}, root)
    assert "effort" in graph.study("signnet").artefacts
    drawn = entries_of(graph, "signnet", artefacts_of("signnet")["effort"])
    assert drawn[0]["arrays"][0].startswith("kept/paper-code/")
    facts["study"]["replicates"] = 2
    (kept / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"study\.replicates was 2, is 1"):
        signnet({"records_from": "kept"}, root)


def test_data_sets_of_no_selected_study_have_a_source_too(root, elsewhere):
    graph = signnet({}, root)
    assert "moons" not in graph.sources
    more = sources.with_dataset(sources.with_dataset(graph, "moons"), "svhn")
    assert (more.sources["moons"], more.sources["svhn"]) == ("generated", "official")
    assert {name: more.sources[name] for name in graph.sources} == graph.sources
    assert sources.with_dataset(more, "svhn") is more
    with pytest.raises(InputError, match="Did you mean 'moons'"):
        sources.with_dataset(graph, "moon")
    smoke = sources.with_dataset(signnet({"scale": "smoke"}, root), "moons")
    assert smoke.sources["moons"] == "standin"


def test_a_part_of_an_unselected_release_is_a_subset(root, elsewhere):
    place = elsewhere / "raw/svhn"
    place.mkdir(parents=True)
    (place / "train_32x32.mat").write_bytes(b"x")
    values = {"raw_dir": str(elsewhere / "raw"), "allow_subset": True}
    graph = sources.with_dataset(signnet(values, root), "svhn")
    assert (graph.sources["svhn"], graph.origins["svhn"]) == ("subset", "official")
    # How much memory its jobs need is known without a study.
    assert plan.dataset_megabytes(signnet({}, root), "svhn") == 1221


def test_committed_records_say_which_study_is_meant(root, elsewhere):
    kept = elsewhere / "evidence/signnet/paper-code"
    (kept / "evaluations/mitbih@kaggle").mkdir(parents=True)
    (kept / "evaluations/ptbdb@kaggle").mkdir(parents=True)
    facts = signnet({}, root).run_facts("signnet")
    # Settings that did not exist when the records were made have their defaults.
    for attack in facts["study"]["attacks"].values():
        del attack["grid"], attack["select"]
    (kept / "run.json").write_text(json.dumps(facts))
    both = {"studies": ["signnet", "nsr"]}
    graph = build_graph(both | {"records_from": "evidence/signnet"}, root)
    assert list(graph.resolved.studies) == ["signnet"]
    with pytest.raises(InputError, match="records of one study"):
        build_graph(both | {"records_from": "evidence"}, root)


def test_attacks_on_a_split_know_their_points_and_models(root, elsewhere):
    graph = build_graph({"studies": ["nsr"]}, root)
    assert graph.attack_points("nsr", "mitbih_val", "pgd100") == 21892
    assert graph.attack_points("nsr", "mitbih_val", "spsa") == 5 * 162
    assert graph.attack_points("nsr", "mitbih_val", "beat") == 1
    assert graph.attacked_models("nsr", "beat", "mitbih_val") == ["mlp_ce"]
    assert len(graph.attacked_models("nsr", "pgd20", "mitbih_val")) == 18
    assert graph.subset_per_class("nsr", "pgd100") == 162
    chunks = graph.chunks("nsr", "mitbih_val", "mlp_ce", "pgd100")
    assert [p for a, b in chunks for p in range(a, b)] == list(range(21892))
    (cell,) = graph.cells("nsr")
    assert graph.points_file(cell, "spsa").endswith("mitbih_val@physionet/fold0/spsa/points.csv")
    with pytest.raises(InputError, match="has no cohort"):
        call_of(graph, "choose_cohort", **vars(cell))


def test_tallies_tell_the_points_of_the_smallest_attack_on_the_same_models_apart(root, elsewhere):
    """The smallest of the parts; parts of other models, and whole splits, do not count."""
    parts = {"pgd20": 30, "spsa": 12, "noise": None}
    attacks = {name: {"points_per_class": count} for name, count in parts.items()}
    graph = build_graph({"studies": ["nsr"], "overrides": {"nsr": {"attacks": attacks}}}, root)
    assert graph.subset_per_class("nsr", "noise") == 12
    attacks["spsa"]["models"] = ["cnn_ce"]
    attacks["noise"]["models"] = ["mlp_ce"]
    graph = build_graph({"studies": ["nsr"], "overrides": {"nsr": {"attacks": attacks}}}, root)
    assert graph.subset_per_class("nsr", "noise") == 30


def test_how_records_were_divided_into_jobs_does_not_bar_their_redrawing(root, elsewhere):
    kept = elsewhere / "evidence/nsr/paper-code"
    (kept / "evaluations/mitbih_val@kaggle").mkdir(parents=True)
    facts = build_graph({"studies": ["nsr"]}, root).run_facts("nsr")
    facts["study"]["attacks"]["pgd100"]["points_per_job"] = 3
    (kept / "run.json").write_text(json.dumps(facts))
    redrawn = {"studies": ["nsr"], "records_from": "evidence/nsr"}
    assert build_graph(redrawn, root).sources == {"mitbih_val": "kaggle"}
    facts["study"]["attacks"]["pgd100"]["options"]["num_steps"] = 3
    (kept / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"pgd100.options.num_steps was 3, is 100"):
        build_graph(redrawn, root)


def test_an_artefact_waits_only_for_what_it_shows(root, elsewhere):
    graph = build_graph({"studies": ["nsr"]}, root)
    entries = entries_of(graph, "nsr", artefacts_of("nsr")["figure1"])
    assert [entry["model"] for entry in entries[:2]] == ["MLP:ce", "MLP:jacob"]
    assert all(entry["model"].startswith("MLP:") for entry in entries) and len(entries) == 9
    assert all(set(entry["tallies"]) == {"pgd100"} for entry in entries)
    beat = entries_of(graph, "nsr", artefacts_of("nsr")["figure8"])
    kept = {entry["model"]: entry["attack_arrays"] for entry in beat}
    assert list(kept.pop("MLP:ce")) == ["beat"] and not any(kept.values())


def test_parts_that_are_left_out_leave_their_attacks(root, elsewhere):
    graph = build_graph({"studies": ["nsr"], "leave_out": ["mlp_ce", "spsa"]}, root)
    assert set(graph.study("nsr").attacks) == {"pgd20", "pgd100", "noise"}
    # Nothing of SPSA to show; of another attack, the models that are left.
    assert entries_of(graph, "nsr", artefacts_of("nsr")["figure6"]) == []
    entries = entries_of(graph, "nsr", artefacts_of("nsr")["figure1"])
    assert len(entries) == 8 and "MLP:ce" not in {entry["model"] for entry in entries}


def test_what_is_drawn_from_committed_records_says_so(root, elsewhere):
    from medrobust.experiment import captions

    of_study = {"scale": "laptop", "studies": ["signnet"]}
    own = captions.run_facts(build_graph(of_study, root), "signnet")
    assert own["drawn_from"] == "" and "records_from" not in own["command"]
    folder = f"{root}/docs/evidence/signnet"
    facts = captions.run_facts(build_graph(of_study | {"records_from": folder}, root), "signnet")
    assert facts["drawn_from"] == folder
    assert f"records_from={folder}" in facts["command"] and "scale=laptop" in facts["command"]


def test_a_model_may_have_fewer_trainings_than_its_data_set(root, elsewhere):
    """Costly methods once, cheap ones four times: each row of a table says of how many it is."""
    less = {"nsr": {"replicates": 4, "models": {"mlp_adv01": {"replicates": 2}}}}
    graph = build_graph({"studies": ["nsr"], "scale": "smoke", "overrides": less}, root)
    cells = graph.cells("nsr")
    assert [cell.replicate for cell in cells] == [0, 1, 2, 3]
    assert ["mlp_adv01" in graph.trained(cell) for cell in cells] == [True, True, False, False]
    assert all("mlp_ce" in graph.trained(cell) for cell in cells)
    table = artefacts_of("nsr")["table1"]
    entries = entries_of(graph, "nsr", table)
    assert sum(entry["model"] == "MLP:adv0.1" for entry in entries) == 2
    assert sum(entry["model"] == "MLP:ce" for entry in entries) == 4
    trained = [own["model"] for job, own in work_of(graph, "nsr") if job == "train_members"]
    assert trained.count("mlp_adv01") == 2 and trained.count("mlp_ce") == 4
    missing = vars(cells[2]) | {"model": "mlp_adv01", "first": 0, "last": 0}
    with pytest.raises(InputError, match=r"2 trainings \(models.mlp_adv01.replicates\)"):
        call_of(graph, "train_members", **missing)
