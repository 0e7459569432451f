"""Faults on purpose: whatever is done to a run, running it again must end as if nothing had been.

    python -m tests.workflow.faults [--kills 50] [--seed 0] [--only kills,download,...]

Each kind of fault has undisturbed runs to compare with, byte for byte. What was done is printed,
with what is needed to do it again: the draws follow from the seed, their moments depend on how
fast the machine is.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medrobust.jobs import JOBS

from tests.unit.servers import Behaviour, file_server
from tests.workflow import zenodo
from tests.workflow.conftest import COHORT, Project, jobs_of, start, tiny, wait_for
from tests.workflow.slurm import Slurm, lacking, through_slurm

ROOT = Path(__file__).resolve().parents[2]

# Long enough to be caught in the act: some seconds of training, of growing trees, of attacking.
LONG = (
    f"{{signnet: {{{COHORT}, datasets: {{mitbih: {{points: 2}}}}, "
    "models: {mlp: {members: 2, members_per_job: 2, method: {max_epochs: 150, tolerance: 0.0}}, "
    "random_forest: {members: 4, members_per_job: 4}}, "
    "attacks: {hopskipjump: {points_per_job: 2, options: {restarts: 6, max_iter: 40}}}}}"
)
SETTINGS = ("signnet_tab4", *tiny(overrides=LONG))
# What depends on the moment, not on the work: times and messages.
VOLATILE = ("*.log", "*.benchmark.tsv", "*.timing.json", "*.provenance.json")
_JOB = re.compile(rf"\\x8c(?:\\x[0-9a-f]{{2}}|\\.|.)({'|'.join(JOBS)})\\x94")


@dataclass
class Outcome:
    """What was done to the runs, and what it did to them."""

    kills: int = 0
    other: int = 0
    wrong: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def check(self, what: str, holds: bool) -> None:
        if not holds:
            self.wrong.append(what)
            self.say(f"WRONG: {what}")


def long_project(folder: Path) -> Project:
    """Returns a copy in which a job of seconds has checkpoints to be killed after."""
    project = Project(ROOT, folder)
    project.edit(
        "workflow/scripts/medrobust/training/engine/loop.py",
        "CHECKPOINT_SECONDS = 5.0",
        "CHECKPOINT_SECONDS = 0.2",
    )
    return project


def kept(project: Project) -> dict[str, str]:
    """Returns the hash of every file of the results that must not depend on what happened."""
    results = project.folder / "results"
    return {
        str(path.relative_to(results)): hashlib.sha256(lasting(path)).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and ".progress" not in path.parts
        if not any(path.match(pattern) for pattern in VOLATILE)
    }


def lasting(path: Path) -> bytes:
    """Returns a file's content; of a manifest, and of a card, which repeats it, the raw files.

    A manifest also says how its own call came by each file. Where the kill came after they were
    unpacked, and before it was written, the next call finds them.
    """
    if path.name == "card.md":
        return b""
    if path.name not in ("raw.json", "card.json"):
        return path.read_bytes()
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop("archives", None)
    files = content.get("files") or []
    content["files"] = [[file["name"], file["bytes"], file["sha256"]] for file in files]
    return json.dumps(content, sort_keys=True).encode()


def job_of(process: int) -> str | None:
    """Returns the name of the job that a process runs, as its script has it."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{process}/cmdline").read_bytes().decode()
        script = re.search(r"[^\s\0'\"]+\.run_job\.py", command)
        found = _JOB.search(Path(script[0]).read_text(encoding="utf-8")) if script else None
        return found[1] if found else None
    return None


def running(project: Project) -> dict[int, str]:
    """Returns the processes of the project's jobs, with their names."""
    jobs = {process: job_of(process) for process in jobs_of(project)}
    return {process: job for process, job in jobs.items() if job}


def wait_until_runs(project: Project, job: str) -> None:
    """Waits until a process of the project runs the job."""
    wait_for(lambda: job in running(project).values(), 300)


def durations(project: Project, *arguments: str) -> dict[str, float]:
    """Runs without disturbance; returns the seconds of each job, in the order of their ends."""
    begun: dict[int, tuple[str, float]] = {}
    lasted: dict[str, float] = {}
    with start(project, *arguments) as run:
        while run.poll() is None:
            now, jobs = time.monotonic(), running(project)
            for process in set(begun) - set(jobs):
                job, begin = begun.pop(process)
                lasted[job] = max(now - begin, lasted.pop(job, 0.0))
            for process, job in jobs.items():
                begun.setdefault(process, (job, now))
            time.sleep(0.02)
    assert run.returncode == 0, (project.folder / "background.log").read_text()[-3000:]
    return lasted


def kill(processes: list[int]) -> None:
    """Kills processes that may have ended."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def undisturbed_run(outcome: Outcome, folder: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Runs the study; returns the seconds of its jobs, and the hashes of what it made."""
    project = long_project(folder / "undisturbed")
    lasted = durations(project, *SETTINGS)
    outcome.say("jobs: " + ", ".join(f"{job} {lasted[job]:.1f} s" for job in lasted))
    return lasted, kept(project)


# --- kills ------------------------------------------------------------------------------


def strike(
    project: Project, arguments: tuple[str, ...], job: str, whom: str, delay: float
) -> str | None:
    """Runs until ``job`` has run for ``delay`` seconds, then kills; returns what was hit.

    ``whom``: the ``job``, ``snakemake``, or ``both``. None: the run ended before.
    """

    def its_jobs() -> list[int]:
        return [process for process, name in running(project).items() if name == job]

    with start(project, *arguments) as run:
        wait_for(lambda: bool(its_jobs()) or run.poll() is not None, 300)
        time.sleep(delay)
        if run.poll() is not None:
            assert run.returncode == 0, (project.folder / "background.log").read_text()[-3000:]
            return None
        # A job that ended meanwhile leaves whatever runs now.
        jobs = running(project)
        victims = [process for process, name in jobs.items() if name == job] or list(jobs)
        if whom != "job" or not victims:
            os.kill(run.pid, signal.SIGKILL)
        if whom != "snakemake":
            kill(victims)
        run.wait(timeout=300)
    hit = sorted({jobs[process] for process in victims}) or ["no job"]
    return f"{whom} killed while {', '.join(hit)} ran, {delay:.2f} s after {job} began"


def unlock(outcome: Outcome, project: Project, arguments: tuple[str, ...]) -> None:
    """Takes away the lock that a killed Snakemake leaves, as its message says."""
    if any((project.folder / ".snakemake/locks").glob("*")):
        said = project.snakemake(*arguments, fails=True)
        outcome.check("a lock is not explained", "--unlock" in said)
        options = arguments[arguments.index("--config") :] if "--config" in arguments else ()
        project.snakemake("--unlock", *options)


def finish(
    outcome: Outcome, project: Project, arguments: tuple[str, ...], expected: dict[str, str]
) -> None:
    """Runs to the end and compares; nothing may be left behind."""
    unlock(outcome, project, arguments)
    project.snakemake(*arguments)
    compare(outcome, project, expected)


def compare(outcome: Outcome, project: Project, expected: dict[str, str]) -> None:
    """Holds what was made against an undisturbed run; looks for what was left behind."""
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not jobs_of(project), 60)
    found = kept(project)
    lost, more = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    changed = sorted(
        name for name in expected.keys() & found.keys() if expected[name] != found[name]
    )
    outcome.check(f"lost: {lost}", not lost)
    outcome.check(f"changed: {changed}", not changed)
    outcome.check(f"left behind: {more}", not more)
    outcome.check("a job runs on", not jobs_of(project))
    progress = project.folder / "results/.progress"
    left = (
        [str(path) for path in progress.rglob("*") if path.is_file()] if progress.exists() else []
    )
    outcome.check(f"journals of finished jobs are left: {left}", not left)


def one_life(
    outcome: Outcome,
    project: Project,
    arguments: tuple[str, ...],
    expected: dict[str, str],
    lasted: dict[str, float],
    rng: random.Random,
    most: int,
) -> None:
    """Kills a run at one random moment of each of its jobs, then lets it end."""
    whoms: list[str] = []
    for job, seconds in lasted.items():
        if most <= 0:
            break
        if not whoms:
            whoms = rng.sample(["job", "snakemake", "both"], 3)
        whom = whoms.pop()
        # Every delay is drawn, so that one that misses does not shift the others.
        delay = rng.uniform(0.0, seconds)
        hit = strike(project, arguments, job, whom, delay)
        if hit:
            outcome.kills, most = outcome.kills + 1, most - 1
            outcome.say(f"kill {outcome.kills}: {hit}")
        unlock(outcome, project, arguments)
    finish(outcome, project, arguments, expected)


def kills(outcome: Outcome, folder: Path, rng: random.Random, number: int) -> None:
    """Kills a study from its data to its table, ``number`` times."""
    lasted, expected = undisturbed_run(outcome, folder)
    target, life = outcome.kills + number, 0
    while outcome.kills < target:
        life += 1
        project = long_project(folder / f"life{life}")
        left = target - outcome.kills
        one_life(outcome, project, SETTINGS, expected, lasted, rng, left)
        shutil.rmtree(project.folder)


def download(outcome: Outcome, folder: Path, rng: random.Random, number: int) -> None:
    """Kills the download and the preparation of a release of one archive, ``number`` times."""
    tiles = zenodo.all_tiles()
    path, target = f"/{zenodo.KATHER}.zip", ("results/data/kather@official/card.json",)
    with file_server(Behaviour({path: tiles}, delay=0.02)) as url:

        def fresh(name: str) -> Project:
            project = Project(ROOT, folder / name)
            zenodo.at_zenodo(project, url, tiles)
            return project

        undisturbed = fresh("download")
        lasted = durations(undisturbed, *target)
        outcome.say("jobs: " + ", ".join(f"{job} {lasted[job]:.1f} s" for job in lasted))
        expected = kept(undisturbed)
        end, life = outcome.kills + number, 0
        while outcome.kills < end:
            life += 1
            project = fresh(f"download{life}")
            one_life(outcome, project, target, expected, lasted, rng, end - outcome.kills)
            raw = project.folder / "resources/raw"
            parts = [str(found) for found in raw.rglob("*.part*")]
            outcome.check(f"half downloads are left: {parts}", not parts)
            shutil.rmtree(project.folder)


# --- other faults -----------------------------------------------------------------------


@contextlib.contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[None]:
    """Mounts a disk of its own, in memory, on a folder; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def can_mount(folder: Path) -> bool:
    """Says whether disks of one's own can be mounted here."""
    try:
        with mounted(folder, 1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def full_disk(outcome: Outcome, folder: Path, rng: random.Random, number: int) -> None:
    """The disk of the results is full at some moment; room is made, and the run continues."""
    if not can_mount(folder / "probe"):
        outcome.say("full disk: not tried, mounting needs root")
        return
    lasted, expected = undisturbed_run(outcome, folder)
    for turn in range(number):
        project = long_project(folder / f"full{turn}")
        results = project.folder / "results"
        with mounted(results, 64):
            job = rng.choice(list(lasted))
            with start(project, *SETTINGS) as run:
                wait_until_runs(project, job)
                filler = results / "filler"
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 20))
                run.wait(timeout=300)
            said = (project.folder / "background.log").read_text(encoding="utf-8")
            outcome.other += 1
            outcome.say(f"disk full while {job} ran: exit status {run.returncode}")
            told = "disk is full" in said or "No space left" in said
            outcome.check("a full disk was not told", run.returncode == 0 or told)
            filler.unlink()
            finish(outcome, project, SETTINGS, expected)
        shutil.rmtree(project.folder)


def read_only(outcome: Outcome, folder: Path, rng: random.Random, number: int) -> None:
    """The results become read-only at some moment, and writable again."""
    if not can_mount(folder / "probe"):
        outcome.say("read-only results: not tried, mounting needs root")
        return
    lasted, expected = undisturbed_run(outcome, folder)
    for turn in range(number):
        project = long_project(folder / f"readonly{turn}")
        results = project.folder / "results"
        with mounted(results, 64):
            job = rng.choice(list(lasted))

            def remount(how: str, place: Path = results) -> bool:
                done = subprocess.run(
                    ["mount", "-o", f"remount,{how}", place], check=False, capture_output=True
                )
                return done.returncode == 0

            with start(project, *SETTINGS) as run:
                wait_until_runs(project, job)
                # Busy while a file is open for writing.
                with contextlib.suppress(AssertionError):
                    wait_for(lambda: remount("ro") or run.poll() is not None, 60)
                run.wait(timeout=300)
            outcome.other += 1
            outcome.say(f"read-only while {job} ran: exit status {run.returncode}")
            if run.returncode:
                said = project.snakemake(*SETTINGS, fails=True)
                # The second is by Snakemake, where a job whose files are there is to run again.
                words = ("Nothing can be written here", "Write-protected output files")
                outcome.check("read-only results are not told", any(word in said for word in words))
            remount("rw")
            finish(outcome, project, SETTINGS, expected)
        shutil.rmtree(project.folder)


def two_at_once(outcome: Outcome, folder: Path, rng: random.Random, number: int) -> None:
    """Two runs in one folder, and the command line beside a run, at random moments."""
    lasted, expected = undisturbed_run(outcome, folder)
    options = SETTINGS[1:]
    for turn in range(number):
        project = long_project(folder / f"two{turn}")
        with start(project, *SETTINGS) as first:
            wait_until_runs(project, "train_members")
            time.sleep(rng.uniform(0.0, lasted["train_members"]))
            second = project.snakemake(*SETTINGS, fails=True) if first.poll() is None else "lock"
            outcome.check("a second run is not refused", "lock" in second)
            # The same members by the command line: one works, the other waits for it.
            project.medrobust("train", "signnet", "mlp", *options)
            first.wait(timeout=300)
        outcome.other += 1
        outcome.say(f"two at once: the first ended with {first.returncode}")
        outcome.check("the first run is disturbed", first.returncode == 0)
        finish(outcome, project, SETTINGS, expected)
        shutil.rmtree(project.folder)


def slurm(outcome: Outcome, folder: Path, rng: random.Random, number: int) -> None:
    """Jobs of a Slurm are cancelled, requeued, or lose their node; the same call goes on."""
    if missing := lacking():
        outcome.say(f"Slurm: not tried, {missing}")
        return
    _, expected = undisturbed_run(outcome, folder)
    deeds: list[str] = []
    with Slurm(folder / "slurm", 8) as cluster:
        os.environ.update({name: cluster.environment[name] for name in ("SLURM_CONF", "PATH")})
        node = cluster("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N").strip()

        def state(name: str) -> None:
            cluster("scontrol", "update", f"NodeName={node}", f"State={name}", "Reason=fault")

        for turn in range(number):
            project = long_project(folder / f"slurm{turn}")
            earlier = {job["JobId"] for job in cluster.jobs()}

            def at_work(before: set[str] = earlier) -> list[str]:
                jobs = [job for job in cluster.jobs() if job["JobId"] not in before]
                return [job["JobId"] for job in jobs if job["JobState"] == "RUNNING"]

            deeds = deeds or rng.sample(["scancel", "requeue", "drain", "down"], 4)
            deed = deeds.pop()
            arguments = (SETTINGS[0], *through_slurm(8), *SETTINGS[1:])
            with start(project, *arguments) as run:
                for _ in range(rng.randint(1, 3)):  # of the first jobs, which take longest
                    time.sleep(rng.uniform(0.0, 8.0))
                    wait_for(lambda: bool(at_work()) or run.poll() is not None, 300)
                hit = at_work()
                if deed == "scancel":
                    cluster("scancel", *hit)
                elif deed == "requeue":  # the profile forbids it
                    refused = subprocess.run(
                        ["scontrol", "requeue", *hit], check=False, capture_output=True
                    )
                    outcome.check("a job was requeued", refused.returncode != 0 or not hit)
                else:
                    state("DRAIN" if deed == "drain" else "DOWN")
                    time.sleep(5)
                    state("RESUME")
                run.wait(timeout=600)
            outcome.other += 1
            outcome.say(f"{deed} of jobs {', '.join(hit)}: exit status {run.returncode}")
            outcome.check("the run did not end well by itself", run.returncode == 0)
            finish(outcome, project, SETTINGS, expected)
            shutil.rmtree(project.folder)


def report(outcome: Outcome, folder: Path, rng: random.Random, number: int) -> None:
    """A report is interrupted at some moment: there is none, or a whole one."""
    project = long_project(folder / "report")
    project.snakemake(*SETTINGS)
    expected = kept(project)
    file = project.folder / "report.html"
    make = ("--report", "report.html", *SETTINGS)
    begin = time.monotonic()
    project.snakemake(*make)
    seconds, whole = time.monotonic() - begin, file.stat().st_size
    for _ in range(number):
        file.unlink(missing_ok=True)
        delay = rng.uniform(0.0, seconds)
        with start(project, *make) as run:
            time.sleep(delay)
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
        outcome.kills += 1
        size = file.stat().st_size if file.exists() else None
        outcome.say(f"kill {outcome.kills}: report killed after {delay:.2f} s, file: {size} bytes")
        unlock(outcome, project, make)
        project.snakemake(*make)
        text = file.read_text(encoding="utf-8")
        outcome.check("the report is not whole", text.rstrip().endswith("</html>"))
        outcome.check("the report is smaller", len(text.encode()) > 0.95 * whole)
        compare(outcome, project, expected)


FAULTS: dict[str, Callable[[Outcome, Path, random.Random, int], None]] = {
    "kills": kills,
    "download": download,
    "report": report,
    "full_disk": full_disk,
    "read_only": read_only,
    "two_at_once": two_at_once,
    "slurm": slurm,
}


#: Kinds that kill, with how many of ten kills are theirs.
KILLS = {"kills": 7, "download": 2, "report": 1}


def shares(kills: int, chosen: list[str]) -> dict[str, int]:
    """Returns how many of so many kills each of the chosen kinds deals."""
    weights = {name: KILLS[name] for name in chosen}
    numbers = {name: kills * weights[name] // sum(weights.values()) for name in chosen}
    if chosen:
        numbers[chosen[0]] += kills - sum(numbers.values())
    return numbers


def main() -> int:
    """Reads the command line; returns 1 if anything was lost, changed or left behind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="kills in all (50)")
    parser.add_argument("--other", type=int, default=4, help="faults of each other kind (4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(FAULTS), help="kinds, with commas between")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(FAULTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    outcome = Outcome()
    numbers = shares(options.kills, [name for name in chosen if name in KILLS])
    for name in chosen:
        rng = random.Random(f"{options.seed} {name}")
        outcome.say(f"== {name}: {FAULTS[name].__doc__}")
        with tempfile.TemporaryDirectory(prefix="faults") as folder:
            FAULTS[name](outcome, Path(folder), rng, numbers.get(name, options.other))
    outcome.say(
        f"{outcome.kills} kills, {outcome.other} other faults (seed {options.seed}): "
        f"{len(outcome.wrong)} wrong"
    )
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
