"""The short terminal, fed with records as Snakemake logs them."""

from __future__ import annotations

import io
import logging
import re
from enum import Enum
from pathlib import Path

import pytest
from medrobust.core import logs
from medrobust.experiment import terminal
from medrobust.experiment.plan import TIMED, make_plan
from medrobust.experiment.progress import RunProgress
from medrobust.experiment.sources import build_graph
from medrobust.experiment.terminal import PlannedJob, dry_run_text, install, last_progress

ROOT = Path(__file__).resolve().parents[3]


class Event(Enum):
    RUN_INFO = 1
    JOB_INFO = 2
    JOB_FINISHED = 3
    JOB_ERROR = 4
    JOB_STARTED = 5


class Quiet(Enum):
    RULES = 1


class Screen(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def graph():
    return build_graph({"scale": "smoke", "studies": ["signnet"]}, ROOT)


ATTACK = {
    **{"run": "smoke-code", "study": "signnet", "dataset": "mitbih", "source": "standin"},
    **{"fold": "0", "replicate": "0", "model": "mlp", "attack": "hopskipjump", "chunk": "0"},
}
JOBS = [
    PlannedJob(0, "all", {}, log=False),
    PlannedJob(1, "signnet_table4", {}, log=True),
    PlannedJob(2, "attack", ATTACK, log=True),
]


class Run:
    """A logger with Snakemake's handler of the terminal, made short."""

    def __init__(self, graph, stream, *, dry_run=False, jobs=lambda: JOBS) -> None:
        self.logger = logging.Logger("snakemake")
        self.stream = stream
        self.handler = logging.StreamHandler(stream)
        self.handler.name = "DefaultStreamHandler"
        self.logger.addHandler(self.handler)
        self.short = install(self.logger.handlers, graph, jobs, lambda: 2, dry_run=dry_run)

    def say(self, text, level=logging.INFO, **extra) -> str:
        before = len(self.stream.getvalue())
        self.logger.log(level, text, extra=extra)
        return self.stream.getvalue()[before:]

    def plan(self) -> str:
        return self.say("Job stats:", event=Event.RUN_INFO, stats={"attack": 1, "total": 3})

    def start(self, job: int, log: str = "a.log") -> str:
        extra = {"jobid": job, "rule_msg": f"message {job}", "rule_name": "r"}
        return self.say(
            "rule r:", event=Event.JOB_INFO, log=[log] if log else [], reason="why", **extra
        )

    def finish(self, job: int) -> str:
        return self.say("Finished", event=Event.JOB_FINISHED, job_id=job)


def test_single_jobs_are_held_back_and_trouble_is_not(graph) -> None:
    run = Run(graph, io.StringIO())
    assert run.plan() == run.start(2) == run.finish(2) == ""
    assert run.say("Execute 3 jobs...", event=Event.JOB_STARTED) == ""
    assert run.say("Select jobs to execute...") == run.say("\nReasons:\n  x") == ""
    assert run.say("Submitted job 3 with external jobid '17'.") == ""
    assert run.say("Job 3 has been submitted with SLURM jobid 17 (log: a.log).") == ""
    assert run.say("Adding figure2.png (354.71 KB).") == ""
    assert run.say("removing x", quietness=Quiet.RULES) == ""
    run.start(1)
    assert "Error in rule r" in run.say(
        "Error in rule r", logging.ERROR, event=Event.JOB_ERROR, jobid=1
    )
    assert "careful" in run.say("careful", logging.WARNING)
    assert "Nobody foresaw this" in run.say("Nobody foresaw this")
    run.short.stop()
    assert re.search(r"1 of 3 jobs done, 1 failed, in \d+ s\n$", run.stream.getvalue())


def test_what_the_user_ends_has_not_failed(graph) -> None:
    run = Run(graph, io.StringIO())
    run.plan()
    run.start(1)
    assert "Terminating" in run.say("Terminating processes on user request, this might take ...")
    run.say("Error in rule r", logging.ERROR, event=Event.JOB_ERROR, jobid=1)
    run.short.stop()
    said = run.stream.getvalue().splitlines()[-1]
    assert re.sub(r"\d+ s", "5 s", said) == (
        "0 of 3 jobs done, stopped after 5 s; the same command continues"
    )


def test_a_target_says_what_was_made_once_it_is(graph) -> None:
    run = Run(graph, io.StringIO())
    run.plan()
    assert run.start(0, log="") == ""
    assert run.finish(0) == "message 0\n"


def test_dry_run_counts_and_adds_up_hours_as_the_plan_does(graph) -> None:
    run = Run(graph, io.StringIO(), dry_run=True)
    text = run.plan()
    rows = {line.split("  ")[0]: line.split()[-2:] for line in text.splitlines()}
    assert rows["attack"][0] == rows["all"][0] == "1" and rows["total"][0] == "3"
    assert rows["signnet: tables, figures, claims"][0] == "1"
    assert "--quiet host" in text and run.plan() == run.start(2) == ""
    assert "\ndevice auto: " in text and len(text.splitlines()) == 9


def test_every_rule_that_the_plan_knows_a_cost_of_has_it_in_the_dry_run() -> None:
    text = "\n".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    rules = re.findall(r"^rule (\w+):(.*?)(?=^rule |\Z)", text, re.DOTALL | re.MULTILINE)
    kinds = {rule: re.findall(r'params_of\("(\w+)"', body) for rule, body in rules}
    timed = {rule: kind[0] for rule, kind in kinds.items() if kind and kind[0] in TIMED}
    assert set(timed.values()) == set(TIMED)
    assert {rule: terminal.KIND_OF_RULE[rule] for rule in timed} == timed


@pytest.mark.parametrize("study", ["nsr", "ima_segmentation"])
def test_hours_of_a_dry_run_are_those_of_the_plan(study) -> None:
    from medrobust.experiment.calls import work_of

    graph = build_graph({"scale": "laptop", "studies": [study]}, ROOT)
    rules = {kind: rule for rule, kind in terminal.KIND_OF_RULE.items()}
    jobs = [
        PlannedJob(i, rules[job], {k: str(v) for k, v in work.items()}, log=True)
        for i, (job, work) in enumerate(work_of(graph, study))
        if job in rules
    ]
    (plan,) = make_plan(graph)
    lines = dry_run_text(graph, jobs, [], 1).splitlines()
    (total,) = [line for line in lines if line.startswith("total")]
    assert float(total.split()[-1]) == pytest.approx(plan.cpu_hours, abs=0.006)
    assert plan.cpu_hours > 0.5


def test_a_dry_run_of_files_that_no_plan_knows_still_lists_them(graph) -> None:
    job = PlannedJob(0, "attack", {**ATTACK, "model": "unheard_of"}, log=True)
    assert "attack" in dry_run_text(graph, [job], [], 1)


def test_when_it_fails_snakemakes_own_messages_go_on(graph) -> None:
    def broken():
        raise RuntimeError("no jobs")

    run = Run(graph, io.StringIO(), jobs=broken)
    said = run.plan()
    assert "The short terminal failed (RuntimeError: no jobs)" in said and "Job stats:" in said
    assert "rule r:" in run.start(1)
    run.short.stop()


def test_without_snakemakes_handler_nothing_is_done(graph) -> None:
    assert install([logging.StreamHandler()], graph, list, lambda: 1, dry_run=False) is None


def test_a_jobs_own_progress_is_read_from_its_log(tmp_path) -> None:
    log = tmp_path / "job.log"
    assert last_progress(log) is None
    try:
        logs.log_to(log)
        logs.logger.info("begun: 3 of something")
        assert last_progress(log) is None
        progress = logs.Progress("training", 12, unit="epochs", interval=0, done=0)
        progress._start -= 3600
        progress.update(3, "loss 0.2")
        progress.update(4, "loss 0.1")
        logs.logger.info("checkpoint written")
    finally:
        logs.logger.handlers[0].close()
        logs.log_to(None)
    text, seconds = last_progress(log)
    assert text.startswith("training: 4/12 epochs, 4 per hour, 2:00:00 left; loss 0.1")
    assert seconds == 7200


@pytest.fixture
def board(tmp_path):
    def make(stream):
        handler = logging.StreamHandler(stream)
        clock = lambda: make.now  # noqa: E731
        progress = RunProgress([(1, 3600.0), (2, 3600.0)], 1, clock)
        made = terminal._Board(handler, progress, silent=False)
        # What `started` begins in the background is done by hand here.
        made._thread = object()
        return made

    make.now = 0.0
    return make


def test_on_a_terminal_lines_are_drawn_in_place_and_cleared(board, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    made = board(screen)
    made.started(1, "Training the first of many networks", ["results/a/very/long/path/of/a.log"])
    board.now = 900.0
    made._draw({})
    first, second, third = screen.getvalue().removeprefix("\r\x1b[J").split("\n")
    assert first == "[ 12%] 0 of 2 jobs done, about 1 h 45 …"
    assert second.startswith("  Training the first") and third.startswith("  log: results/a/very")
    assert third.endswith("\x1b[2A\r") and all(len(x) < 40 for x in (first, second))
    before = len(screen.getvalue())
    made.make_way()
    assert screen.getvalue()[before:] == "\r\x1b[J"
    made._draw({})  # not at once: what follows is to be written first
    assert screen.getvalue()[before:] == "\r\x1b[J"
    made.stop()
    assert screen.getvalue().endswith("0 of 2 jobs done, in 15 min\n")


def test_in_a_file_lines_are_seldom(board, monkeypatch) -> None:
    file = io.StringIO()
    made = board(file)
    now = [made._last]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    made.started(1, "Training mlp", ["a.log"])
    for _ in range(12 * 60 * 24):  # every 5 s for a day
        now[0] += 5
        board.now += 5
        made._tell({})
    lines = file.getvalue().splitlines()
    # 1, 2, 4, 8, 16, 32 and 60 minutes, then one an hour, and tenths of the work before.
    assert 25 <= len(lines) <= 40
    assert "Training mlp: running for 23 h" in lines[-1] and "log: a.log" in lines[-1]
    assert "\x1b" not in file.getvalue()


def test_a_jobs_own_word_on_its_time_left_is_taken(board) -> None:
    made = board(io.StringIO())
    made.started(1, "Training mlp", ["a.log"])
    told = {1: ("training: 3/4 epochs, 1 per hour, 0:10:00 left", 600.0)}
    assert made._headline(told).endswith("about 1 h 10 min left")
    assert made._longest(told, 0.0)[0].endswith("0:10:00 left")
