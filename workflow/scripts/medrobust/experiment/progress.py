"""How far a run is, and how long it still takes, by the plan's unit costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

# What the plan says weighs as much as this many seconds of finished jobs.
TRUST_SECONDS = 60.0
# An overdue job is taken to need this much of its time again.
OVERDUE = 0.2


@dataclass
class _Job:
    seconds: float
    started: float | None = None
    state: str = "waiting"  # or running, done, failed


class RunProgress:
    """Which jobs of a run are done, and what is left.

    Args:
        jobs: id and predicted seconds of each job that is to run.
        slots: how many jobs run at once.
        clock: seconds, from any start.
    """

    def __init__(
        self,
        jobs: Iterable[tuple[int, float]],
        slots: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = {job: _Job(seconds) for job, seconds in jobs}
        self._slots, self._clock = max(slots, 1), clock
        self._start = clock()

    @property
    def total(self) -> int:
        """Jobs that are to run."""
        return len(self._jobs)

    @property
    def done(self) -> int:
        """Jobs that are finished."""
        return self._count("done")

    @property
    def failed(self) -> int:
        """Jobs that failed and were not started again."""
        return self._count("failed")

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._start

    def started(self, job: int) -> None:
        """Notes that a job was started, or handed to a cluster."""
        # A job that the plan did not foresee (of a checkpoint, say) costs its start at least.
        self._jobs.setdefault(job, _Job(1.0))
        self._jobs[job].started, self._jobs[job].state = self._clock(), "running"

    def ended(self, job: int, *, failed: bool = False) -> None:
        """Notes that a job is done, or failed."""
        known = self._jobs.get(job)
        if known is not None:
            known.state = "failed" if failed else "done"
            if known.started is not None:
                known.started = self._clock() - known.started  # from now on, what it took

    def running(self) -> list[tuple[int, float]]:
        """Returns the running jobs with their seconds so far, the longest first."""
        now = self._clock()
        found = [(i, now - job.started) for i, job in self._jobs.items() if job.state == "running"]
        return sorted(found, key=lambda pair: -pair[1])

    def share(self, told: Mapping[int, float] | None = None) -> float:
        """Returns how much of the work is done, 0 to 1; a failed job is none of it.

        Args:
            told: what running jobs themselves say of their seconds left.
        """
        total = sum(job.seconds for job in self._jobs.values())
        if total == 0:
            return 1.0
        done = sum(job.seconds for job in self._jobs.values() if job.state == "done")
        factor = self._factor()
        for i, elapsed in self.running():
            whole = elapsed + self._rest(i, elapsed, factor, told or {})
            done += self._jobs[i].seconds * (elapsed / whole if whole else 0.0)
        return done / total

    def seconds_left(self, told: Mapping[int, float] | None = None) -> float:
        """Returns the predicted seconds until all jobs are done.

        The plan's costs, times what finished jobs of this run took over what was planned for them;
        never less than the longest single job still takes.

        Args:
            told: what running jobs themselves say of their seconds left.
        """
        factor = self._factor()
        rests = [job.seconds * factor for job in self._jobs.values() if job.state == "waiting"]
        rests += [self._rest(i, elapsed, factor, told or {}) for i, elapsed in self.running()]
        return max(sum(rests) / self._slots, max(rests, default=0.0))

    def _rest(self, job: int, elapsed: float, factor: float, told: Mapping[int, float]) -> float:
        # One that takes longer than planned is not about to end because of it.
        planned = self._jobs[job].seconds * factor
        return told.get(job, max(planned - elapsed, OVERDUE * elapsed))

    def _factor(self) -> float:
        done = [job for job in self._jobs.values() if job.state == "done" and job.started]
        took = sum(job.started for job in done) + TRUST_SECONDS
        return took / (sum(job.seconds for job in done) + TRUST_SECONDS)

    def _count(self, state: str) -> int:
        return sum(job.state == state for job in self._jobs.values())


def span(seconds: float) -> str:
    """Returns a duration in the two units that matter, e.g. ``2 h 10 min``.

    >>> span(42), span(600), span(7800), span(200_000), span(20_000_000)
    ('42 s', '10 min', '2 h 10 min', '2 d 7 h', '231 d')
    """
    if seconds < 60:
        return f"{max(round(seconds), 0)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 10:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if hours < 24:
        return f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours and days < 10 else f"{days:,} d"
