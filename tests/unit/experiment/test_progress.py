"""How much of a run is done and left, against sums by hand on a clock by hand."""

from __future__ import annotations

import doctest

import pytest
from medrobust.experiment import progress
from medrobust.experiment.progress import OVERDUE, TRUST_SECONDS, RunProgress


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(seconds: dict[int, float], slots: float = 1) -> tuple[RunProgress, Clock]:
    clock = Clock()
    return RunProgress(seconds.items(), slots, clock), clock


def test_before_the_first_job_the_plan_tells() -> None:
    made, _ = run({1: 100.0, 2: 300.0, 3: 200.0}, slots=2)
    assert made.seconds_left() == 300.0  # 600 s on 2 cores
    assert made.share() == 0.0 and (made.done, made.total) == (0, 3)


def test_many_cores_do_not_shorten_the_longest_job() -> None:
    made, _ = run({1: 100.0, 2: 5000.0}, slots=64)
    assert made.seconds_left() == 5000.0


def test_jobs_that_took_twice_as_long_as_planned_lengthen_the_rest() -> None:
    made, clock = run({1: 600.0, 2: 600.0})
    made.started(1)
    clock.now += 1200
    made.ended(1)
    factor = (1200 + TRUST_SECONDS) / (600 + TRUST_SECONDS)
    assert made.seconds_left() == pytest.approx(600 * factor)
    assert made.share() == 0.5 and made.done == 1 and made.elapsed == 1200


def test_a_running_job_counts_by_its_time_and_by_what_it_says_itself() -> None:
    made, clock = run({1: 100.0, 2: 100.0})
    made.started(1)
    clock.now += 25
    assert made.seconds_left() == 175.0 and made.share() == 0.125
    assert made.seconds_left({1: 10.0}) == 110.0
    assert made.share({1: 75.0}) == 0.125 and made.share({1: 25.0}) == 0.25
    assert made.running() == [(1, 25.0)]
    clock.now += 975  # ten times what was planned: not done for that
    assert made.seconds_left() == 100.0 + OVERDUE * 1000
    assert made.share() == pytest.approx(0.5 / (1 + OVERDUE))


def test_a_failed_job_is_neither_done_nor_left_until_it_starts_again() -> None:
    made, _ = run({1: 100.0, 2: 100.0})
    made.started(1)
    made.ended(1, failed=True)
    assert (made.done, made.failed) == (0, 1) and made.seconds_left() == 100.0
    made.started(1)
    assert made.failed == 0 and made.seconds_left() == 200.0


def test_durations_are_told_in_the_units_that_matter() -> None:
    assert doctest.testmod(progress).failed == 0
