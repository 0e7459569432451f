"""A Slurm of one node, the shipped profile, and a slice of signnet through it to its end."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from medrobust.experiment.resources import CUDA_MB

from tests.workflow.conftest import COHORT, Project, start, tiny, wait_for
from tests.workflow.slurm import Slurm, lacking, through_slurm

pytestmark = pytest.mark.workflow

#: Time limit of the partitions, in minutes: less than any job asks for.
LIMIT = 8
# Some seconds of training, to be caught in the act; six jobs that are submitted, six that are not.
AMOUNTS = (
    f"{{signnet: {{{COHORT}, datasets: {{mitbih: {{points: 2}}}}, "
    "models: {mlp: {members: 2, members_per_job: 2, method: {max_epochs: 400, patience: 400}}, "
    "random_forest: {members: 4, members_per_job: 4}}, "
    "attacks: {hopskipjump: {points_per_job: 2, options: {restarts: 2, max_iter: 3}}}}}"
)
SETTINGS = tiny(overrides=AMOUNTS, device="cuda")
KEPT = (
    "*/signnet/models/**/*.safetensors",
    "*/signnet/evaluations/**/*.parquet",
    "*/signnet/tables/*.csv",
)
# The rules ask for GPUs (device: cuda); what computes notes what it was given, and does without.
WITHOUT_CUDA = """

def choose_device(*_):
    import json

    given = {name: os.environ.get(name) for name in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES")}
    with open("devices.txt", "a", encoding="utf-8") as file:
        file.write(json.dumps(given) + "\\n")
    return "cpu"
"""
# Training notes from which epoch it goes on.
NOTED = """

_load = Checkpoint.load


def _noted(self):
    saved = _load(self)
    if saved is not None:
        with open("resumed.txt", "a", encoding="utf-8") as file:
            file.write(f"{os.environ.get('SLURM_JOB_ID')} {saved[1]['epoch']}\\n")
    return saved


Checkpoint.load = _noted
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if missing := lacking():
        pytest.skip(f"no Slurm to test with: {missing}")
    with pytest.MonkeyPatch.context() as patch, Slurm(tmp_path_factory.mktemp("slurm"), LIMIT) as s:
        for name in ("SLURM_CONF", "PATH"):
            patch.setenv(name, s.environment[name])
        yield s


def project_without_cuda(make_project) -> Project:
    project = make_project()
    # A job of seconds then has a checkpoint to be killed after.
    loop = "workflow/scripts/medrobust/training/engine/loop.py"
    project.edit(loop, "CHECKPOINT_SECONDS = 5.0", "CHECKPOINT_SECONDS = 0.2")
    for name, more in (("devices", WITHOUT_CUDA), ("journal", NOTED)):
        module = project.folder / f"workflow/scripts/medrobust/runtime/{name}.py"
        module.write_text(module.read_text(encoding="utf-8") + more, encoding="utf-8")
    return project


def kept(project: Project) -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern in KEPT:
        found |= project.files(pattern)
    assert len(found) > 8
    return found


def about(job: dict[str, str]) -> str:
    """Returns rule and model of one of Slurm's jobs, by the comment that the plugin gives it."""
    rule, _, wildcards = job.get("Comment", "").removeprefix("rule_").partition("_wildcards_")
    models = [model for model in ("mlp", "random_forest") if f"_{model}_" in f"{wildcards}_"]
    return " ".join([rule, *models])


def test_the_profile_for_one_machine_is_read(make_project):
    """Beside the default one; Snakemake refuses a key that it does not know."""
    said = make_project().snakemake(
        "signnet_tab4", "-n", "--profile", "profiles/local-gpu", *SETTINGS, listed=False
    )
    assert "profiles/local-gpu and workflow specific profile profiles/default" in said
    assert "GPU h" in said


def test_slurm_leaves_a_job_over_its_limit_pending(slurm):
    """Without an error; that is why the profile has a ceiling."""
    given = slurm("sbatch", "--parsable", "--time", str(LIMIT + 1), "--wrap", "true").strip()
    reason = ("squeue", "--noheader", "--jobs", given, "--format", "%T %r")
    wait_for(lambda: slurm(*reason) == "PENDING PartitionTimeLimit\n", seconds=20)
    slurm("scancel", given)


def test_a_study_runs_through_slurm_and_survives_a_scancel(make_project, slurm):
    local = project_without_cuda(make_project)
    local.snakemake("signnet_tab4", *SETTINGS)
    project = project_without_cuda(make_project)
    checkpoints = project.folder / "results/.progress/train"

    def caught() -> bool:
        return any(file.stat().st_size > 1000 for file in checkpoints.glob("*.checkpoint"))

    earlier = {job["JobId"] for job in slurm.jobs()}
    with start(project, "signnet_tab4", *through_slurm(LIMIT), *SETTINGS) as run:
        wait_for(caught, seconds=300)
        (training,) = (job for job in slurm.jobs() if about(job) == "train mlp")
        slurm("scancel", training["JobId"])
        status = run.wait(timeout=480)
    said = (project.folder / "background.log").read_text()
    assert status == 0 and said.count("Trying to restart job") == 1, said[-6000:]
    jobs = [job for job in slurm.jobs() if job["JobId"] not in earlier]

    # The same call has submitted it again; it went on, and ended with the bytes of a local run.
    network, again = (job for job in jobs if about(job) == "train mlp")
    (resumed,) = (project.folder / "resumed.txt").read_text().splitlines()
    job, epoch = resumed.split()
    assert network["JobId"] == training["JobId"] and job == again["JobId"] and int(epoch) > 0
    assert kept(project) == kept(local)

    # Short rules were not submitted.
    rules, models = ("train", "evaluate_clean", "attack"), ("mlp", "random_forest")
    names = [f"{rule} {model}" for rule in rules for model in models]
    assert Counter(map(about, jobs)) == Counter(["prepare", "train mlp", *names])
    ends = {job["JobId"]: job["JobState"] for job in jobs}
    assert ends.pop(training["JobId"]) == "CANCELLED" and set(ends.values()) == {"COMPLETED"}

    # All wanted more time; what they got is a limit of each, not of all together.
    assert {job["TimeLimit"] for job in jobs} == {f"00:{LIMIT:02}:00"}
    (forest,) = (job for job in jobs if about(job) == "train random_forest")
    assert forest["StartTime"] < network["EndTime"] and network["StartTime"] < forest["EndTime"]

    # Networks get the GPU, with memory for what CUDA takes; all else does without.
    on_gpu = {job["JobId"] for job in jobs if job["Partition"] == "gpu"}
    assert {about(job) for job in jobs if job["JobId"] in on_gpu} == {
        "train mlp",
        "evaluate_clean mlp",
        "attack mlp",
    }
    notes = (project.folder / "devices.txt").read_text().splitlines()
    given = {note["SLURM_JOB_ID"]: note["CUDA_VISIBLE_DEVICES"] for note in map(json.loads, notes)}
    assert {job for job, device in given.items() if device == "0"} == on_gpu
    assert {job for job, device in given.items() if device is None} == {
        job["JobId"] for job in jobs if job["JobId"] not in on_gpu and about(job) != "prepare"
    }
    memory = {job["JobId"]: int(job["MinMemoryNode"].removesuffix("M")) for job in jobs}
    least = memory[forest["JobId"]]
    assert memory[network["JobId"]] == least + CUDA_MB
    assert memory[again["JobId"]] == 2 * least + CUDA_MB
