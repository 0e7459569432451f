"""What a user sees: lines counted of real commands, in a file and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

CARD = "results/data/moons@generated/card.md"


@pytest.fixture(scope="module")
def project(make_project):
    return make_project()


def on_a_terminal(project, *arguments: str) -> str:
    """Runs Snakemake on a pseudo-terminal and returns all that was written to it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        project.command(*arguments),
        cwd=project.folder,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, 65536):
            written += block
    except OSError:
        pass  # the other end is closed: Linux's way to say so
    os.close(ours)
    assert process.wait() == 0, written[-3000:]
    return written.decode()


def test_a_dry_run_of_all_studies_at_the_published_amounts_fits_on_a_screen(project):
    short = project.snakemake("-n", listed=False)
    assert len(short.splitlines()) < 40 and "Reason" not in short
    table = dict(re.findall(r"^(\S.*?) {2,}(\d[\d,]*) +[\d,.]+$", short, re.M))
    assert {"train", "attack", "fetch", "total", "ima: tables, figures, claims"} <= set(table)
    counts = {name: int(count.replace(",", "")) for name, count in table.items()}
    assert counts.pop("total") == sum(counts.values()) > 1000

    full = project.snakemake("-n", "ima_fig6", "--quiet", "host", "--config", "studies=ima")
    part = project.snakemake("-n", "ima_fig6", "--config", "studies=ima", listed=False)
    (total,) = re.findall(r"^total +(\d+) ", part, re.M)
    assert f"total{total:>17}" in full or re.search(rf"^total +{total}$", full, re.M)
    assert full.count("Reason: ") == int(total) and "on moons" not in part


def test_on_a_terminal_a_run_is_one_line_in_place_and_the_log_keeps_all(project):
    written = on_a_terminal(project, CARD)
    assert "\r\x1b[J[" in written and "of 2 jobs done" in written
    assert "Reason" not in written and "Execute" not in written
    shown = re.sub(r"\r\x1b\[J.*?\r(?=\x1b|\w|$)", "", written, flags=re.S)
    assert len(shown.splitlines()) < 20
    assert re.search(r"2 of 2 jobs done, in \d+ (s|min)", written)
    (log,) = (project.folder / ".snakemake/log").glob("*.log")
    kept = log.read_text()
    assert "Preparing the arrays of moons" in kept and "2 of 2 steps (100%) done" in kept


def test_a_failing_job_shows_its_message_and_its_log(make_project, tmp_path):
    raw = tmp_path / "raw/mitbih"
    raw.mkdir(parents=True)
    header = ",".join(["0.5"] * 187)
    (raw / "mitbih_train.csv").write_text(f"{header},0.0\n{header},7.0\n")
    (raw / "mitbih_test.csv").write_text(f"{header},0.0\n")
    said = make_project().snakemake(
        "results/data/mitbih@kaggle/card.md", "--config", f"raw_dir={raw.parent}", fails=True
    )
    assert "Error in rule prepare" in said and "mitbih_train.csv" in said
    log = said[said.index("Logfile results/data/logs/mitbih@kaggle.prepare.log") :]
    assert "ERROR" in log and "row" in log
    assert re.search(r"^1 of 2 jobs done, 1 failed, in ", said, re.M)
    assert "Complete log(s): " in said and len(said.splitlines()) < 80


@pytest.mark.parametrize("folder, options", [("results", ()), (".snakemake", ("-n",))])
def test_results_that_cannot_be_written_are_told_before_work(make_project, folder, options):
    project = make_project()
    # Where nobody can make a file, not even an administrator.
    (project.folder / folder).symlink_to("/proc/self/fdinfo")
    said = project.snakemake(CARD, *options, fails=True)
    assert "Nothing can be written here" in said and "what to do" in said
    assert "Traceback" not in said and "Error in rule" not in said


def test_the_short_terminal_fails_towards_snakemakes_own_messages(make_project):
    project = make_project()
    project.edit(
        "workflow/scripts/medrobust/experiment/terminal.py",
        "        if self._board is not None:\n            return\n        jobs = self._jobs()",
        "        raise RuntimeError('broken')",
    )
    said = project.snakemake(CARD)
    assert "The short terminal failed (RuntimeError: broken)" in said
    assert "Preparing the arrays of moons" in said and "2 of 2 steps (100%) done" in said
    assert Path(project.folder / CARD).is_file()
