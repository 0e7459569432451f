"""The real workflow: end to end, reruns, determinism, targets, bad input."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from medrobust.core.errors import InputError

from tests.unit.raw_manifest import manifest_of
from tests.workflow.conftest import LEFT_OUT, TINY, start, tiny, wait_for

pytestmark = pytest.mark.workflow

RUN = "smoke-code-*"
RECORDS = f"{RUN}/signnet/evaluations/**/*.parquet"


def jobs(output: str) -> dict[str, int]:
    """Returns the table "Job stats" of a dry run."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total +(\d+)", output, re.M | re.S)
    if table is None:
        assert "Nothing to be done" in output, output[-3000:]
        return {}
    return {name: int(n) for name, n in re.findall(r"^(\S+) +(\d+)$", table[1], re.M)}


def test_the_whole_run_makes_every_artefact(finished):
    run = next((finished.folder / "results").glob(RUN))
    made = {str(p.relative_to(run / "signnet")) for p in (run / "signnet").rglob("*")}
    for stem, suffixes in (
        ("tables/table3", "html md csv tex provenance.json"),
        ("tables/table4", "html md csv tex provenance.json"),
        ("figures/figure2", "png pdf svg csv provenance.json"),
        ("figures/convergence", "png pdf svg csv provenance.json"),
        ("tables/effort", "html md csv tex provenance.json"),
        ("tables/paired", "html md csv tex provenance.json"),
        ("claims/claims", "html md csv provenance.json"),
        ("comparison/comparison", "csv html md provenance.json"),
        ("comparison/printed", "html csv md tex provenance.json"),
    ):
        assert {f"{stem}.{suffix}" for suffix in suffixes.split()} <= made
    # Stand-ins are marked wherever they are shown.
    for text in ("tables/table3.md", "tables/table4.tex", "comparison/comparison.html"):
        assert "SYNTHETIC" in (run / "signnet" / text).read_text(encoding="utf-8")
    assert not list((finished.folder / "results/.progress").rglob("*.journal"))


def test_the_plan_comes_first_and_counts_the_jobs(finished):
    output = finished.first_output
    done = re.search(r"^(\d+) of (\d+) jobs done, in ", output, re.M)
    assert output.index("Plan of the run smoke-code-") < done.start() and done[1] == done[2]
    planned = int(re.search(r"^signnet +(\d+) ", output, re.M)[1])
    assert planned == int(done[2]) - 1
    assert len(output.splitlines()) < 60  # the terminal's bar; no line for a job


def test_records_are_complete_and_verified(finished):
    cell = next((finished.folder / "results").glob(f"{RUN}/signnet/evaluations/*/fold0/rep0"))
    cohort = pd.read_csv(cell.parent / "cohort.csv")
    assert len(cohort) == 3
    for model in ("mlp", "random_forest"):
        clean = pd.read_parquet(cell / model / "clean.parquet").set_index("point_id")
        chosen = clean.loc[cohort["point_id"]]
        assert (chosen["label"] == chosen["prediction"]).all()
        records = pd.read_parquet(cell / model / "hopskipjump/records.parquet")
        assert len(records) == 6 and set(records["point_id"]) == set(cohort["point_id"])
        found = records[records["success"]]
        assert (found["adversarial_prediction"] != found["label"]).all()
        assert (found["l2"] <= found["l2_final_iterate"] * (1 + 1e-6)).all()
        assert not records["box_violation"].any()
        assert records["seed"].nunique() == 6


def test_a_second_run_and_touched_scripts_have_nothing_to_do(copy_of_finished):
    for script in (copy_of_finished.folder / "workflow/scripts").rglob("*.py"):
        script.touch()
    assert jobs(copy_of_finished.snakemake("-n", *tiny())) == {}


DRAWN = {
    *(f"signnet_table{number}" for number in (1, 2, 3, 4)),
    *("signnet_figure1", "signnet_figure1_xray", "signnet_figure2", "compare"),
    *("signnet_convergence", "signnet_effort", "signnet_paired", "signnet_claims"),
    *("signnet_image_differences", "signnet_extended"),
}
EDITS = [
    # file, old, new, rules that must run again (and no others but those after them)
    (
        "models/forest.py",
        'flat = np.ascontiguousarray(x.reshape(len(x), -1), dtype=np.float32)',
        'flat = np.ascontiguousarray(x.reshape(len(x), -1) + 0, dtype=np.float32)',
        {"train": 2, "evaluate_clean": 1},
    ),
    (
        "training/engine/loop.py",
        "CHECKPOINT_SECONDS = 5.0",
        "CHECKPOINT_SECONDS = 6.0",
        {"train": 2},
    ),
    ("training/bagged_trees.py", "n_jobs=1", "n_jobs=2", {"train": 2}),
    (
        "attacks/engine/hopskipjump_art.py",
        "_MAX_HALVINGS = 64",
        "_MAX_HALVINGS = 65",
        {"attack": 6},
    ),
    (
        "studies/signnet/tables.py",
        "Accuracy on the {part.what}",
        "Accuracy of the {part.what}",
        {"signnet_table1": 1, "signnet_table3": 1},
    ),
    ("reporting/comparison.py", '"cannot tell"', '"unclear"', {"compare": 1}),
    ("reporting/plotting.py", '"font.size": 8', '"font.size": 9', {"signnet_figure2": 1}),
    # A definition that nothing reaches, a comment, and what shapes no result.
    ("attacks/engine/hopskipjump_art.py", None, "\nADDED = 1\n", {}),
    ("attacks/engine/hopskipjump_art.py", None, "\n# Only a comment.\n", {}),
    ("data/prepared/cards.py", '"""', '"""In words: ', {}),
    ("core/io.py", None, "\nos.environ\n", {}),
    ("core/machine.py", None, "\nADDED = 1\n", {}),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "again"), EDITS, ids=[e[0] for e in EDITS])
def test_an_edit_reruns_exactly_what_uses_it(copy_of_finished, file, old, new, again):
    path = copy_of_finished.folder / "workflow/scripts/medrobust" / file
    text = path.read_text(encoding="utf-8")
    assert old is None or old in text
    path.write_text(text + new if old is None else text.replace(old, new, 1), encoding="utf-8")
    found = jobs(copy_of_finished.snakemake("-n", *tiny()))
    assert again.items() <= found.items()
    if "train" in again:
        # One of the two models: the other's members and attacks stay.
        assert found["train"] == 2 and found.get("evaluate_clean") == 1
    elif "attack" in again:
        assert "train" not in found and "evaluate_clean" not in found
    else:
        assert set(found) <= DRAWN | {"check_published", "all"}
    if not again:
        assert found == {}


def test_records_do_not_depend_on_cores_chunks_or_jobs(finished, make_project):
    other = make_project()
    grouped = TINY.replace("members_per_job: 2", "members_per_job: 3").replace(
        "{hopskipjump: {", "{hopskipjump: {points_per_job: 2, "
    )
    other.snakemake(*tiny(overrides=grouped), "--", "signnet_tab4", cores=1)
    pattern = "signnet/evaluations/*/fold0/rep0/*/hopskipjump/records.parquet"
    one, two = (
        {path.split("/", 1)[1]: value for path, value in project.files(f"{RUN}/{pattern}").items()}
        for project in (finished, other)
    )
    assert len(one) == 2 and one == two


def test_the_command_line_makes_the_same_files(finished, make_project):
    other = make_project()
    settings = tiny()
    folder = next(iter(finished.files(RECORDS))).split("/")[0]
    for command in (
        ["prepare", "mitbih"],
        ["train", "signnet", "mlp", "--chunk", "1"],
        ["train", "signnet", "random_forest"],
    ):
        other.medrobust(*command, *settings)
    for pattern in ("data/*/*.npy", f"{folder}/signnet/models/**/members_2-3.safetensors"):
        made = other.files(pattern)
        assert len(made) == 2
        assert made.items() <= finished.files(pattern).items()
    message = other.medrobust("train", "signnet", "mpl", *settings, fails=True)
    assert "Did you mean 'mlp'" in message and "Traceback" not in message


def test_the_report_graphs_and_lint_work_without_a_network(copy_of_finished):
    offline = ["unshare", "-rn"] if shutil.which("unshare") else []
    if subprocess.run([*offline, "true"], check=False).returncode != 0:
        offline = []
    project = copy_of_finished
    command = [*offline, *project.command("--report", "report.html", *tiny())]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = (project.folder / "report.html").read_text(encoding="utf-8")
    for shown in ("Table III", "Table IV", "Figure 2", "Comparison with print", "SYNTHETIC"):
        assert shown in report
    for stated in ("protocol", "n = 3 attacked points", "max_iter 3"):
        assert stated in report.lower()
    for graph in ("--dag", "--rulegraph"):
        assert "digraph" in project.snakemake(graph, *tiny())


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("signnet_fig2", "figures/figure2.png"),
        ("signnet_figure2", "figures/figure2.png"),
        ("signnet_tab3", "tables/table3.html"),
        ("signnet_table4", "tables/table4.html"),
        ("signnet_convergence", "figures/convergence.png"),
        ("signnet_effort", "tables/effort.html"),
        ("signnet_paired", "tables/paired.html"),
        ("signnet_claims", "claims/claims.html"),
        ("claims", "claims/claims.html"),
        ("comparison", "comparison/comparison.html"),
        ("signnet", "comparison/printed.csv"),
    ],
)
def test_artefacts_can_be_asked_for_by_name(copy_of_finished, target, files):
    run = next((copy_of_finished.folder / "results").glob(RUN))
    (run / "signnet" / files).unlink()
    found = jobs(copy_of_finished.snakemake("-n", target, *tiny()))
    assert len(found) >= 1 and "train" not in found and "attack" not in found


def commit_records(finished, other) -> Path:
    """Puts the finished run's records where evidence lies; returns that folder."""
    from medrobust.core.io import write_json
    from medrobust.experiment.evidence import KEPT, drawn_from
    from medrobust.experiment.layout import RUN_FACTS
    from medrobust.experiment.sources import build_graph

    chosen = {"overrides": yaml.safe_load(TINY), "leave_out": yaml.safe_load(LEFT_OUT)}
    graph = build_graph({"scale": "smoke", "studies": ["signnet"], **chosen}, other.folder)
    run = finished.folder / "results" / graph.resolved.run / "signnet"
    kept = other.folder / "docs/evidence/signnet" / graph.resolved.run
    files = {file for pattern in KEPT for file in run.glob(pattern)}
    for file in files | {finished.folder / file for file in drawn_from(graph, "signnet")}:
        target = kept / file.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    write_json(kept / RUN_FACTS, graph.run_facts("signnet"))
    return kept


def test_tables_can_be_redrawn_from_committed_records(finished, make_project):
    other = make_project()
    commit_records(finished, other)
    settings = tiny(records_from="docs/evidence/signnet")
    assert set(jobs(other.snakemake("-n", *settings))) == DRAWN | {"check_published", "all"}
    other.snakemake(*settings)
    for drawn in ("tables/table4.csv", "tables/table3.md", "figures/figure2.csv"):
        one, two = (
            next(p.folder.glob(f"results/{RUN}/signnet/{drawn}")) for p in (finished, other)
        )
        assert one.read_bytes() == two.read_bytes()


def test_committed_records_are_not_redrawn_under_other_settings(finished, make_project):
    other = make_project()
    kept = commit_records(finished, other)
    wrong = tiny(protocol="text", records_from="docs/evidence/signnet")
    output = other.snakemake("-n", *wrong, fails=True)
    assert "no committed records of the run" in output and "Traceback" not in output
    facts = json.loads((kept / "run.json").read_text())
    facts["study"]["attacks"]["hopskipjump"]["options"]["restarts"] = 7
    (kept / "run.json").write_text(json.dumps(facts))
    output = other.snakemake("-n", *tiny(records_from="docs/evidence/signnet"), fails=True)
    assert "hopskipjump.options.restarts was 7, is 2" in output


def test_evidence_is_exported_from_real_data_only(finished):
    output = finished.medrobust("evidence", "signnet", *tiny(), fails=True)
    assert "evidence of nothing" in output and "Traceback" not in output


def test_a_typo_stops_before_any_work_and_without_a_traceback(finished):
    output = finished.snakemake("--config", "scael=smoke", fails=True)
    assert "Did you mean 'scale'" in output and "config/config.yaml" in output
    assert "Traceback" not in output and "Execute" not in output


def test_more_points_than_the_cohort_holds(copy_of_finished):
    many = TINY.replace("points: 3", "points: 399").replace("members: 4", "members: 1")
    output = copy_of_finished.snakemake("results_missing", *tiny(overrides=many), fails=True)
    assert "Unknown target 'results_missing'" in output
    output = copy_of_finished.snakemake("signnet_tab4", *tiny(overrides=many), fails=True)
    assert "399 points are asked for, but there are only" in output
    assert "Traceback" not in output


def test_two_runs_in_one_folder(copy_of_finished):
    """The second one stops at once and says why; the first is not disturbed."""
    project = copy_of_finished
    run = next((project.folder / "results").glob(RUN))
    shutil.rmtree(run / "signnet/tables")
    for file in (run / "signnet/evaluations").rglob("records.parquet"):
        file.unlink()
    with start(project, "signnet_tab4", *tiny()) as first:
        wait_for(lambda: any((project.folder / ".snakemake/locks").iterdir()))
        second = project.snakemake("signnet_tab4", *tiny(), fails=True)
        assert "LockException" in second or "cannot be locked" in second
        assert "unlock" in second
        first.wait(timeout=300)
    assert first.returncode == 0
    assert (run / "signnet/tables/table4.md").exists()


def test_an_unreadable_record_stops_with_its_name(make_project, tmp_path):
    """Hand-dropped files that are wrong: named, with what to do."""
    raw = tmp_path / "raw/mitbih"
    raw.mkdir(parents=True)
    header = ",".join(["0.5"] * 187)
    (raw / "mitbih_train.csv").write_text(f"{header},0.0\n{header},7.0\n")
    (raw / "mitbih_test.csv").write_text(f"{header},0.0\n")
    project = make_project()
    card = "results/data/mitbih@kaggle/card.md"
    output = project.snakemake(
        card, "--config", "scale=laptop", f"raw_dir={tmp_path / 'raw'}", fails=True
    )
    assert "mitbih_train.csv" in output and "row" in output
    assert "Traceback" not in output
    assert not list((project.folder / "results").glob("data/*/x.npy"))


@pytest.mark.parametrize("setting", ["device=cpu", "raw_dir=elsewhere", "allow_subset=true"])
def test_settings_that_change_no_result_rerun_nothing(copy_of_finished, setting):
    (copy_of_finished.folder / "elsewhere").mkdir()
    key, value = setting.split("=")
    assert jobs(copy_of_finished.snakemake("-n", *tiny(**{key: value}))) == {}


def test_another_definition_of_a_data_set_prepares_it_again(copy_of_finished):
    copy_of_finished.edit(
        "config/datasets.yaml",
        "title: MIT-BIH arrhythmia heartbeats, five classes\n    adapter: mitbih\n    options:\n"
        '      classes: ["N", "S", "V", "F", "Q"]\n      split: official',
        "title: MIT-BIH arrhythmia heartbeats, five classes\n    adapter: mitbih\n    options:\n"
        '      classes: ["N", "S", "V", "F", "Q"]\n      split: patient',
    )
    found = jobs(copy_of_finished.snakemake("-n", *tiny()))
    assert found["prepare"] == 1 and found["train"] == 4


def test_replicates_attack_the_same_points(copy_of_finished):
    """A second replicate adds its own members and attacks, and the tables take both."""
    two = TINY.replace("{signnet: {", "{signnet: {replicates: 2, ").replace("job: 1", "job: 3")
    copy_of_finished.snakemake("signnet_tab4", *tiny(overrides=two))
    newest = max((copy_of_finished.folder / "results").glob(RUN), key=lambda p: p.stat().st_mtime)
    table = pd.read_csv(newest / "signnet/tables/table4.csv")
    assert set(table.loc[table["status"] == "reproduced", "replicates"]) == {2}


def test_success_clears_only_the_progress_of_finished_jobs(copy_of_finished):
    left = copy_of_finished.folder / "results/.progress/attack/0123.journal"
    left.parent.mkdir(parents=True, exist_ok=True)
    for name in (left, left.with_name("0123.journal.lock")):
        name.write_bytes(b"")
    copy_of_finished.snakemake("plan", *tiny())
    assert left.exists()


def test_stand_ins_of_another_scale_are_refused_in_words(finished):
    target = "results/data/mitbih@standin/card.md"
    output = finished.snakemake("-n", "--forcerun", "prepare", "--", target, fails=True)
    assert "stand-ins belong to --config scale=smoke" in output


def test_files_that_only_look_complete_leave_no_data_set(make_project, tmp_path):
    """Two CSV files of the official names that hold a part, accepted and yet not labelled."""
    from medrobust.jobs.data import prepare

    row = ",".join(["0.0", "1.0", *["0.5"] * 185])
    files = {}
    for name in ("mitbih_train.csv", "mitbih_test.csv"):
        path = tmp_path / name
        path.write_text("".join(f"{row},{label}.0\n" for label in range(5)))
        files[name] = path
    manifest = tmp_path / "raw.json"
    manifest.write_text(json.dumps({"dataset": "mitbih", "source": "kaggle"} | manifest_of(files)))
    common = {
        "dataset": "mitbih", "source": "kaggle", "manifest": str(manifest), "seed": 0,
        "standin": None, "allow_subset": True, "processes": 1,
    }  # fmt: skip
    with pytest.raises(InputError, match="look complete"):
        prepare(label="kaggle", out_dir=str(tmp_path / "a"), **common)
    assert not (tmp_path / "a/card.json").exists()
    prepare(label="subset", out_dir=str(tmp_path / "b"), **common)
    assert json.loads((tmp_path / "b/card.json").read_text())["source"] == "subset"


def test_every_model_of_the_study_runs(make_project):
    project = make_project()
    few = "members: 2, members_multiclass: 2, method: {iterations: 30}"
    study = (
        "{signnet: {datasets: {mitbih: {points: 2}}, cohort: {select: random}, "
        f"models: {{scd01: {{{few}}}, scdce: {{{few}}}, bnn: {{members: 2}}, mlp: {{members: 2}}, "
        "cnn: {members: 1, method: {max_epochs: 1}}, random_forest: {members: 2}}, "
        "attacks: {hopskipjump: {points_per_job: 2, options: {restarts: 1, max_iter: 2}}}}}"
    )
    settings = tiny(overrides=study, leave_out="[ptbdb, chest_xray, kather]")
    project.snakemake("signnet_tab3", "signnet_tab4", *settings)
    folder = next((project.folder / "results").glob(f"{RUN}/signnet/tables"))
    models = {"SCD01", "SCDCE", "BNN", "MLP", "CNN", "RandomForest"}
    for name in ("table3", "table4"):
        table = pd.read_csv(folder / f"{name}.csv")
        rows = table[(table["dataset"] == "MIT-BIH") & (table["status"] != "not run")]
        assert set(rows["method"]) == models
    accuracy = pd.read_csv(folder / "table3.csv").query("dataset == 'MIT-BIH'")
    assert accuracy["reproduced"].between(20, 100).all()
    assert accuracy["member_accuracy_mean"].between(10, 100).all()
    log = next((project.folder / "results").glob(f"{RUN}/signnet/models/mitbih@*/**/scdce/*.log"))
    # Which class stands in the last line depends on when lines are written.
    said = r"class \d against the rest, iteration \d+: loss [\d.]+, accuracy [\d.]+"
    assert re.search(said, log.read_text(encoding="utf-8"))
    log = next((project.folder / "results").glob(f"{RUN}/signnet/models/mitbih@*/**/bnn/*.log"))
    assert re.search(r"mean loss [\d.]+, accuracy [\d.]+, ", log.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("protocol", "name"), [("code", "ptbdb"), ("text", "ptbdb_8020")])
def test_the_protocol_chooses_the_division_of_ptb(make_project, protocol, name):
    project = make_project()
    settings = ["--config", "scale=smoke", "studies=[signnet]", f"protocol={protocol}"]
    project.snakemake("data", *settings)
    made = {path.name for path in (project.folder / "results/data").glob("*@*")}
    images = {"chest_xray@standin", "kather@standin"}
    assert made == {"mitbih@standin", f"{name}@standin"} | images
    card = json.loads((project.folder / f"results/data/{name}@standin/card.json").read_text())
    assert card["class_names"] == ["normal", "abnormal"] and card["synthetic"]


def test_raw_dir_must_exist(finished):
    output = finished.snakemake("-n", "--config", "raw_dir=nowhere", fails=True)
    assert "This folder does not exist" in output and "nowhere" in output


def test_provenance_states_commit_versions_scale_and_sources(finished):
    run = next((finished.folder / "results").glob(RUN))
    for file in run.rglob("*.provenance.json"):
        facts = json.loads(file.read_text(encoding="utf-8"))
        stated = facts["run"]
        assert (stated["scale"], stated["protocol"], stated["run"]) == ("smoke", "code", run.name)
        assert {"commit", "config_hash", "hardware", "seed", "command"} <= set(stated)
        assert {"python", "numpy", "torch"} <= set(stated["versions"])
        # Of print alone, and of images, which did not run.
        no_data = {"printed", "table1", "table2", "figure1", "figure1_xray"}
        assert facts["synthetic"] == (
            facts["artefact"] not in no_data | {"image_differences", "extended"}
        )
        for name, value in facts["files"].items():
            assert hashlib.sha256((file.parent / name).read_bytes()).hexdigest() == value
