"""The short terminal: what Snakemake says, in few lines, with one line on the whole run.

A filter on the handler that writes Snakemake's messages to the terminal. It holds back what
concerns single jobs and writes instead: in a dry run one table, in a run how many jobs are done and
how long the rest takes, and of the job that runs longest its own progress and its log. Warnings,
errors with the logs of failed jobs, and what the filter does not know pass. Snakemake's own log
file, ``.snakemake/log/``, keeps all.

Snakemake itself is not imported: events are known by their names. Whatever goes wrong in here, the
filter takes itself away and Snakemake's own messages go on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrobust.experiment.gpus import gpus_of_run
from medrobust.experiment.graph import Graph
from medrobust.experiment.plan import TIMED, job_seconds, measured_unit_seconds
from medrobust.experiment.progress import RunProgress, span

FULL_LISTING = "--quiet host"

# Rules whose jobs the plan knows a cost of.
KIND_OF_RULE = {
    **{kind: kind for kind in TIMED},
    "train": "train_members",
    "attack": "attack_chunk",
}
_OF_SINGLE_JOBS = {
    *("JOB_INFO", "JOB_STARTED", "JOB_FINISHED", "GROUP_INFO", "SHELLCMD", "PROGRESS"),
    *("RUN_INFO", "RESOURCES_INFO", "RULEGRAPH", "WORKFLOW_STARTED"),
}
# Messages without an event that say nothing to who runs studies.
_IDLE = (
    *("Select jobs to execute", "Using shell:", "Conda environments: ignored"),
    *("Singularity containers: ignored", "Group jobs: inactive", "Reasons:"),
    *("Loading script code for rule", "Adding "),  # of the report, for each of its files
    "Auto-selected partition",  # of the executor for Slurm, for each job
)
# Of executors of clusters, once for each job.
_SUBMITTED = re.compile(r"Submitted (group )?job|(Group )?[Jj]ob \S+ has been submitted")
_BY_THE_USER = "Terminating processes on user request"
_TICK_SECONDS, _TICK_SECONDS_IN_FILE = 1.0, 5.0
# In a file: a line at each tenth of the work, and after 1, 2, 4, ... minutes, at last each hour.
_FIRST_PAUSE, _LAST_PAUSE, _SHORTEST_PAUSE = 60.0, 3600.0, 15.0
_LONG_JOB = 10.0  # seconds after which a running job is shown
_LONG_JOB_IN_FILE = 300.0
_TAIL_BYTES = 4096
_SAID = re.compile(r"^\d\d:\d\d:\d\d INFO (.+?: \S+/\d+.*? (\d+):(\d\d):(\d\d) left.*)$")


@dataclass(frozen=True)
class PlannedJob:
    """A job that is to run.

    Attributes:
        number: Snakemake's number of the job.
        rule: name of its rule.
        wildcards: their values, as text.
        log: it writes a log; without one it only says that a target is made.
    """

    number: int
    rule: str
    wildcards: Mapping[str, str]
    log: bool


def install(
    handlers: Sequence[logging.Handler],
    graph: Graph,
    jobs: Callable[[], list[PlannedJob]],
    slots: Callable[[], float],
    *,
    dry_run: bool,
) -> ShortTerminal | None:
    """Makes Snakemake's messages on the terminal short.

    Args:
        handlers: of Snakemake's logger. Without Snakemake's own handler of the terminal (another
            logger plugin writes there) nothing is done.
        graph: of the configuration.
        jobs: returns the jobs that are to run; called once they are known.
        slots: returns how many jobs run at once.
        dry_run: nothing runs.
    """
    for handler in handlers:
        if handler.name == "DefaultStreamHandler" and hasattr(handler, "stream"):
            short = ShortTerminal(handler, graph, jobs, slots, dry_run=dry_run)
            handler.addFilter(short)
            return short
    return None


class ShortTerminal(logging.Filter):
    """See the module; arguments as for :func:`install`.

    Attributes:
        working: it has not failed and taken itself away.
    """

    def __init__(
        self,
        handler: logging.StreamHandler,
        graph: Graph,
        jobs: Callable[[], list[PlannedJob]],
        slots: Callable[[], float],
        *,
        dry_run: bool,
    ) -> None:
        super().__init__()
        self._handler, self._graph, self._jobs, self._slots = handler, graph, jobs, slots
        self._dry_run = dry_run
        self.working = True
        self._board: _Board | None = None
        self._messages: dict[int, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether Snakemake's handler is to write the record itself."""
        try:
            shown = self._shown(record)
            if shown and self._board is not None:
                self._board.make_way()
            return shown
        except Exception as error:
            self._give_up(error)
            return True

    def stop(self) -> None:
        """Ends the line on the run, with a last one that sums it up."""
        with contextlib.suppress(Exception):
            if self._board is not None:
                self._board.stop()
        self._board = None

    def _shown(self, record: logging.LogRecord) -> bool:
        event = getattr(getattr(record, "event", None), "name", None)
        if event == "RUN_INFO" and hasattr(record, "stats"):
            self._plan_known(record.stats)
        elif event == "JOB_INFO" and self._board is not None:
            self._board.started(record.jobid, record.rule_msg or record.rule_name, record.log)
            if not record.log and record.rule_msg:
                self._messages[record.jobid] = record.rule_msg
        elif event == "JOB_FINISHED" and self._board is not None:
            self._board.ended(record.job_id)
            if record.job_id in self._messages:
                self._board.say(self._messages.pop(record.job_id))
        elif event == "JOB_ERROR" and self._board is not None:
            self._board.ended(record.jobid, failed=True)
        elif str(record.msg).startswith(_BY_THE_USER) and self._board is not None:
            self._board.interrupt()
        if record.levelno >= logging.WARNING:
            return True
        about = getattr(getattr(record, "quietness", None), "name", None)
        text = str(record.msg or "").strip()
        idle = event is None and (text.startswith(_IDLE) or _SUBMITTED.match(text))
        return not (event in _OF_SINGLE_JOBS or about == "RULES" or idle)

    def _plan_known(self, stats: Mapping[str, int]) -> None:
        # Snakemake tells the jobs before a run once, before and after a dry run.
        if self._board is not None:
            return
        jobs = self._jobs()
        planned: list[tuple[int, float]] = []
        if self._dry_run:
            text = dry_run_text(self._graph, jobs, list(stats), self._slots())
            self._handler.stream.write(text + "\n")
            self._handler.flush()
        else:
            seconds = _seconds_of(self._graph, jobs)
            planned = [(job.number, seconds[job.number][0]) for job in jobs]
        progress = RunProgress(planned, self._slots())
        self._board = _Board(self._handler, progress, silent=self._dry_run)

    def _give_up(self, error: Exception) -> None:
        self.working = False
        self._handler.removeFilter(self)
        self.stop()
        with contextlib.suppress(Exception):
            self._handler.stream.write(
                f"The short terminal failed ({type(error).__name__}: {error}); from here on "
                "Snakemake's own messages.\n"
            )


def _seconds_of(graph: Graph, jobs: Sequence[PlannedJob]) -> dict[int, tuple[float, bool]]:
    """Returns the predicted seconds of each job, and whether on a GPU; a mere message takes none.

    A job that the configuration does not know (asked for by its path) costs its start.
    """
    measured = measured_unit_seconds(Path("results"))
    costs = {}
    for job in jobs:
        kind = KIND_OF_RULE.get(job.rule, "")
        if not job.log:
            costs[job.number] = (0.0, False)
            continue
        try:
            costs[job.number] = job_seconds(graph, kind, job.wildcards, measured)
        except (KeyError, IndexError, ValueError):
            costs[job.number] = job_seconds(graph, "", job.wildcards)
    return costs


def dry_run_text(
    graph: Graph, jobs: Sequence[PlannedJob], order: Sequence[str], slots: float
) -> str:
    """Returns what a dry run says: jobs and hours of each rule, the longest job, where the rest is.

    Args:
        graph: of the configuration.
        jobs: the jobs that would run.
        order: names of rules, as rows are to be ordered.
        slots: how many jobs would run at once.
    """
    costs = _seconds_of(graph, jobs)
    artefacts = {
        f"{study}_{name}": f"{study}: tables, figures, claims"
        for study in graph.resolved.studies
        for name in graph.study(study).artefacts
    }
    rows: dict[str, list[float]] = {artefacts.get(rule, rule): [0, 0.0, 0.0] for rule in order}
    for job in jobs:
        row = rows.setdefault(artefacts.get(job.rule, job.rule), [0, 0.0, 0.0])
        seconds, gpu = costs[job.number]
        row[0] += 1
        row[1 + gpu] += seconds / 3600
    rows = {name: row for name, row in rows.items() if row[0]}
    # Pages come last, however early one of them can be drawn.
    rows = dict(sorted(rows.items(), key=lambda item: ":" in item[0]))
    rows["total"] = [sum(row[column] for row in rows.values()) for column in range(3)]
    columns = ["CPU h", "GPU h"] if rows["total"][2] else ["CPU h"]
    width = max(len("What would run"), *map(len, rows))
    lines = [f"{'What would run':<{width}}  {'jobs':>6}" + "".join(f"{c:>11}" for c in columns)]
    for name, (count, *hours) in rows.items():
        shown = "".join(f"{h:>11,.2f}" for h in hours[: len(columns)])
        lines.append(f"{name:<{width}}  {count:>6,}{shown}")
    seconds = [costs[job.number][0] for job in jobs]
    left = RunProgress([(j.number, s) for j, s in zip(jobs, seconds, strict=True)], slots)
    at_once = "1 job" if slots == 1 else f"{slots:,.0f} jobs"
    lines += [
        f"About {span(left.seconds_left())} with {at_once} at once; "
        f"the longest job about {span(max(seconds, default=0.0))}.",
        *([said] if (said := gpus_of_run(graph).said) else []),
        f"Each job with its files and its reason: the same command with {FULL_LISTING} behind the "
        "targets.",
        "Disk, download and queries of whole studies: snakemake --cores 1 plan",
    ]
    return "\n".join(lines)


class _Board:
    """The lines on the run: in place on a terminal, seldom in a file."""

    def __init__(
        self, handler: logging.StreamHandler, progress: RunProgress, *, silent: bool
    ) -> None:
        self._stream, self._progress = handler.stream, progress
        is_terminal = getattr(self._stream, "isatty", lambda: False)()
        self._in_place = is_terminal and os.environ.get("TERM", "dumb") != "dumb"
        self._silent = silent
        self._lock = threading.RLock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._about: dict[int, tuple[str, str]] = {}
        self._drawn = self._interrupted = False
        self._not_before = 0.0
        self._decile, self._pause, self._last = 0, _FIRST_PAUSE, time.monotonic()
        self._next = self._last + _FIRST_PAUSE

    def started(self, job: int, what: str, logs: Sequence[str]) -> None:
        """Notes that a job was started."""
        with self._lock:
            self._about[job] = (what, str(logs[0]) if logs else "")
            self._progress.started(job)
            if self._thread is None and logs and not self._silent:
                self._thread = threading.Thread(target=self._refresh, daemon=True)
                self._thread.start()

    def ended(self, job: int, *, failed: bool = False) -> None:
        """Notes that a job is done, or failed."""
        with self._lock:
            if not (failed and self._interrupted):
                self._progress.ended(job, failed=failed)

    def interrupt(self) -> None:
        """Notes that the user ends the run: jobs that end from now on have not failed."""
        self._interrupted = True

    def say(self, text: str) -> None:
        """Writes a line of its own."""
        if not self._silent:
            with self._lock:
                self._clear()
                self._write(text + "\n")

    def make_way(self) -> None:
        """Clears the lines: something else is about to be written."""
        with self._lock:
            self._clear()
            self._not_before = time.monotonic() + 0.3

    def stop(self) -> None:
        """Ends the lines, with one that sums up the run."""
        self._end.set()
        with self._lock:
            self._clear()
            if self._thread is not None:
                self._write(self._sum_up() + "\n")
            self._silent = True

    def _refresh(self) -> None:
        # In the background, and nothing of it may end a run.
        with contextlib.suppress(Exception):
            pause = _TICK_SECONDS if self._in_place else _TICK_SECONDS_IN_FILE
            while not self._end.wait(pause):
                said = self._said_by_jobs()
                with self._lock:
                    if self._end.is_set() or self._silent:
                        return
                    if self._in_place:
                        self._draw(said)
                    else:
                        self._tell(said)

    def _said_by_jobs(self) -> dict[int, tuple[str, float]]:
        # Of a few jobs: on a cluster hundreds run, and their logs lie on a shared disk.
        with self._lock:
            running = self._progress.running()[:8]
            logs = {job: self._about[job][1] for job, _ in running if self._about[job][1]}
        found = {job: last_progress(Path(log)) for job, log in logs.items()}
        return {job: said for job, said in found.items() if said is not None}

    def _headline(self, said: Mapping[int, tuple[str, float]]) -> str:
        progress = self._progress
        told = {job: seconds for job, (_, seconds) in said.items()}
        failed = f", {progress.failed} failed" if progress.failed else ""
        return (
            f"[{min(progress.share(told), 0.99):4.0%}] {progress.done:,} of {progress.total:,} "
            f"jobs done{failed}, about {span(progress.seconds_left(told))} left"
        )

    def _longest(self, said: Mapping[int, tuple[str, float]], least: float) -> list[str]:
        running = [(j, s) for j, s in self._progress.running() if self._about[j][1]]
        if not running or running[0][1] < least:
            return []
        job, seconds = running[0]
        what, log = self._about[job]
        others = f" (and {len(running) - 1} more)" if len(running) > 1 else ""
        own = said[job][0] if job in said else f"running for {span(seconds)}"
        return [f"{what}: {own}{others}", f"log: {log}"]

    def _draw(self, said: Mapping[int, tuple[str, float]]) -> None:
        if time.monotonic() < self._not_before:
            return
        columns = shutil.get_terminal_size().columns - 1
        lines = [self._headline(said), *("  " + x for x in self._longest(said, _LONG_JOB))]
        lines = [x if len(x) <= columns else x[: columns - 1] + "…" for x in lines]
        # The cursor goes back to the first line's start: what jobs write themselves, unknown to
        # us, replaces these lines instead of following them.
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        self._write("\r\x1b[J" + "\n".join(lines) + up + "\r")
        self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self._write("\r\x1b[J")
            self._drawn = False

    def _tell(self, said: Mapping[int, tuple[str, float]]) -> None:
        now, decile = time.monotonic(), int(10 * self._progress.share())
        tenth = decile > self._decile and now - self._last >= _SHORTEST_PAUSE
        if not tenth and now < self._next:
            return
        self._decile = max(decile, self._decile)
        self._last, self._next = now, now + self._pause
        self._pause = min(2 * self._pause, _LAST_PAUSE)
        line = "; ".join([self._headline(said), *self._longest(said, _LONG_JOB_IN_FILE)])
        self._write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def _sum_up(self) -> str:
        progress = self._progress
        failed = f", {progress.failed} failed" if progress.failed else ""
        done = f"{progress.done:,} of {progress.total:,} jobs done{failed}"
        if self._interrupted:
            return f"{done}, stopped after {span(progress.elapsed)}; the same command continues"
        return f"{done}, in {span(progress.elapsed)}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def last_progress(log: Path) -> tuple[str, float] | None:
    """Returns the last line of progress in a job's log and the seconds left by it, or None.

    Such lines are written by :class:`medrobust.core.logs.Progress`.
    """
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        found = _SAID.match(line)
        if found:
            hours, minutes, seconds = (int(found[i]) for i in (2, 3, 4))
            return found[1], 3600 * hours + 60 * minutes + seconds
    return None
