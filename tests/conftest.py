"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from medrobust.runtime.devices import MKL_MODE

ROOT = Path(__file__).resolve().parents[1]

# Set before torch or numba are imported: results and timings then match the workflow's jobs.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["MKL_CBWR"] = MKL_MODE


# How long an example takes depends on what else the machine does.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, from the variable MEDROBUST_REAL_DATA."""
    value = os.environ.get("MEDROBUST_REAL_DATA")
    if not value:
        pytest.skip("MEDROBUST_REAL_DATA is not set: no real data to test on")
    return Path(value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of the workflow first, those of most tests ahead: the longest start first.

    With several processes the short ones then fill the end, where one process would wait for
    the other.
    """
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.parent.name != "workflow", -tests[item.path]))


_seconds: dict[str, float] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds up the time of each folder of tests, fixtures included."""
    folder = "/".join(report.nodeid.split("/")[:2])
    _seconds[folder] = _seconds.get(folder, 0.0) + report.duration


def pytest_terminal_summary(terminalreporter) -> None:
    """Prints the time of each folder before the closing line."""
    for folder, seconds in sorted(_seconds.items()):
        terminalreporter.write_line(f"[stage] {folder}: {seconds:.0f} s")
