"""Journals and checkpoints: what a kill, a damaged file or a second job may do to them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.core.logs import logger
from medrobust.runtime import journal as journals
from medrobust.runtime.journal import Checkpoint, Journal, clear, mark_done, progress_key

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"


@pytest.fixture(autouse=True)
def _messages_reach_caplog(monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)


def unit(i: int) -> dict[str, np.ndarray]:
    """The result of unit i; sizes differ, types and shapes too."""
    random = np.random.default_rng(i)
    return {
        "x": random.normal(size=(i % 4, 50)).astype(np.float32),
        "n": np.array(i, dtype=np.int64),
        "ok": random.random(3) > 0.5,
        "nan": np.array([np.nan, np.inf, -0.0]),
    }


def assert_units(found: dict[str, dict[str, np.ndarray]], numbers: list[int]) -> None:
    assert list(found) == [f"u{i}" for i in numbers]
    for i in numbers:
        expected = unit(i)
        assert found[f"u{i}"].keys() == expected.keys()
        for name, array in expected.items():
            other = found[f"u{i}"][name]
            assert (other.dtype, other.shape) == (array.dtype, array.shape)
            assert other.tobytes() == array.tobytes()


def written(path: Path, numbers: list[int], key: str = "key") -> None:
    with Journal(path, key) as journal:
        for i in numbers:
            journal.append(f"u{i}", unit(i))


def finished(path: Path, key: str = "key") -> dict[str, dict[str, np.ndarray]]:
    with Journal(path, key) as journal:
        return journal.finished()


@pytest.fixture
def run():
    """Starts Python programs that can import medrobust and the helpers above."""
    children: list[subprocess.Popen[str]] = []
    paths = f"import sys; sys.path[:0] = [{str(SCRIPTS)!r}, {str(SCRIPTS.parents[1])!r}]\n"

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", paths + textwrap.dedent(program), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


# --- journals ---------------------------------------------------------------------------


def test_units_come_back_as_they_were(tmp_path):
    path = tmp_path / "deep" / "a.journal"
    assert finished(path) == {}
    written(path, [0, 1, 2])
    assert_units(finished(path), [0, 1, 2])
    written(path, [3])
    with Journal(path, "key") as journal:
        assert_units(journal.finished(), [0, 1, 2, 3])
        journal.append("u4", unit(4))
        assert_units(journal.finished(), [0, 1, 2, 3, 4])
        journal.finished()["u0"].clear()
        assert_units(journal.finished(), [0, 1, 2, 3, 4])


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_cut_or_damage_loses_only_what_comes_after_it(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("j") / "a.journal"
    ends = []
    with Journal(path, "key") as journal:
        ends.append(path.stat().st_size)
        for i in range(4):
            journal.append(f"u{i}", unit(i))
            ends.append(path.stat().st_size)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "zeros"]))
    if kind == "cut":
        del content[at:]
    elif kind == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        if not any(content[at:]):
            return
        content[at:] = bytes(len(content) - at)
        at += next(i for i, byte in enumerate(path.read_bytes()[at:]) if byte)
    path.write_bytes(content)
    whole = sum(at >= end for end in ends[1:])
    if at < ends[0]:
        whole = 0
    assert_units(finished(path), list(range(whole)))
    # What is appended after the repair is read back, so the repair left no gap.
    written(path, list(range(whole, 4)))
    assert_units(finished(path), [0, 1, 2, 3])


def test_what_stood_after_a_damaged_unit_never_comes_back(tmp_path):
    path = tmp_path / "a.journal"
    with Journal(path, "key") as journal:
        for name in ("u0", "u1", "u2"):
            before = path.stat().st_size
            journal.append(name, {"a": np.zeros(5)})
    content = bytearray(path.read_bytes())
    content[2 * before - len(content) + 50] ^= 1  # within u1; all three are equally long
    path.write_bytes(content)
    with Journal(path, "key") as journal:
        assert list(journal.finished()) == ["u0"]
        journal.append("v1", {"a": np.ones(5)})  # as long as u1: u2 would follow it seamlessly
    assert list(finished(path)) == ["u0", "v1"]


def test_another_key_sees_nothing_and_the_old_journal_is_set_aside(tmp_path):
    path = tmp_path / "a.journal"
    written(path, [0, 1], key="old")
    before = path.read_bytes()
    written(path, [2], key="new")
    assert_units(finished(path, "new"), [2])
    assert (tmp_path / "a.journal.set-aside").read_bytes() == before


def test_a_unit_is_on_the_disk_when_append_returns(run, tmp_path):
    killed = run(
        """
        import os, signal
        from medrobust.runtime.journal import Journal
        from tests.unit.runtime.test_journal import unit
        journal = Journal(sys.argv[1], "key")
        for i in range(3):
            journal.append(f"u{i}", unit(i))
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path / "a.journal",
    )
    assert killed.wait() == -signal.SIGKILL
    assert_units(finished(tmp_path / "a.journal"), [0, 1, 2])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_killed_in_the_middle_of_writing_a_unit(run, tmp_path, share):
    path = tmp_path / "a.journal"
    killed = run(
        """
        import os, signal
        from medrobust.runtime import journal as journals
        from tests.unit.runtime.test_journal import unit
        journal = journals.Journal(sys.argv[1], "key")
        whole = journals._frame
        def torn(payload):
            if b"u3" not in payload:
                return whole(payload)
            frame = whole(payload)
            journal._file.write(frame[: int(float(sys.argv[2]) * len(frame))])
            os.kill(os.getpid(), signal.SIGKILL)
        journals._frame = torn
        for i in range(6):
            journal.append(f"u{i}", unit(i))
        """,
        path,
        share,
    )
    assert killed.wait() == -signal.SIGKILL
    assert_units(finished(path), [0, 1, 2])
    written(path, [3, 4, 5])
    written(tmp_path / "undisturbed.journal", [0, 1, 2, 3, 4, 5])
    assert path.read_bytes() == (tmp_path / "undisturbed.journal").read_bytes()


def test_killed_at_a_random_moment(run, tmp_path):
    program = """
        from medrobust.runtime.journal import Journal
        from tests.unit.runtime.test_journal import unit
        journal = Journal(sys.argv[1], "key")
        print("go", flush=True)
        i = len(journal.finished())
        while True:
            journal.append(f"u{i}", unit(i))
            i += 1
    """
    path = tmp_path / "a.journal"
    total = 0
    for delay in (0.0, 0.01, 0.05):
        child = run(program, path)
        assert child.stdout.readline() == "go\n"
        before = path.stat().st_size
        while path.stat().st_size == before:
            time.sleep(0.001)
        time.sleep(delay)
        child.kill()
        assert child.wait() == -signal.SIGKILL
        found = finished(path)
        assert len(found) >= total
        total = len(found)
        assert_units(found, list(range(total)))
    assert total > 0


def test_a_successor_waits_for_the_orphan_and_continues_from_it(run, tmp_path, caplog):
    path = tmp_path / "a.journal"
    orphan = run(
        """
        from medrobust.runtime.journal import Journal
        from tests.unit.runtime.test_journal import unit
        with Journal(sys.argv[1], "key") as journal:
            journal.append("u0", unit(0))
            print("held", flush=True)
            sys.stdin.readline()
            journal.append("u1", unit(1))
        """,
        path,
    )
    assert orphan.stdout.readline() == "held\n"
    caplog.set_level("INFO")
    found: list[dict] = []
    successor = threading.Thread(target=lambda: found.append(finished(path)))
    successor.start()
    deadline = time.monotonic() + 10
    while "waiting until it ends" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert f"held by process {orphan.pid} on " in caplog.text
    successor.join(0.2)
    assert successor.is_alive()
    assert not found
    orphan.stdin.write("\n")
    orphan.stdin.flush()
    assert orphan.wait(10) == 0
    successor.join(10)
    assert_units(found[0], [0, 1])


def test_a_forked_child_that_outlives_its_parent_keeps_nobody_waiting(run, tmp_path):
    path = tmp_path / "a.journal"
    parent = run(
        """
        import os, signal, time
        from medrobust.runtime.journal import Journal
        journal = Journal(sys.argv[1], "key")
        child = os.fork()
        if child == 0:
            sys.stdout.close(); os.close(1)
            time.sleep(60)
            os._exit(0)
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
    )
    child = int(parent.stdout.readline())
    try:
        assert parent.wait() == -signal.SIGKILL
        opened = threading.Thread(target=finished, args=(path,), daemon=True)
        opened.start()
        opened.join(5)
        assert not opened.is_alive()
    finally:
        os.kill(child, signal.SIGKILL)


def test_one_process_cannot_open_a_journal_twice(tmp_path):
    path = tmp_path / "a.journal"
    with Journal(path, "key") as journal:
        with pytest.raises(RuntimeError, match="open already in this process"):
            Journal(tmp_path / "." / "a.journal", "key")
        with Journal(tmp_path / "b.journal", "key"):
            journal.append("u0", unit(0))
    journal.close()  # closing twice does no harm
    assert_units(finished(path), [0])


def test_a_full_disk_is_reported_and_the_journal_stays_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.journal"
    with Journal(path, "key") as journal:
        journal.append("u0", unit(0))
        size = path.stat().st_size

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(InputError, match="No space left"):
                journal.append("u1", unit(1))
        assert path.stat().st_size == size
        assert_units(journal.finished(), [0])
        journal.append("u2", unit(2))
    assert_units(finished(path), [0, 2])


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(journals.fcntl, "lockf", no_locks)
    with pytest.raises(InputError, match="cannot lock files"):
        Journal(tmp_path / "a.journal", "key")
    monkeypatch.undo()
    written(tmp_path / "a.journal", [0])


# --- checkpoints ------------------------------------------------------------------------

STATE = {"epoch": 3, "rng": 2**127 + 1, "best": float("inf"), "names": ["a", "é"]}


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = tmp_path / "deep" / "a.checkpoint"
    with Checkpoint(path, "key") as checkpoint:
        assert checkpoint.load() is None
        checkpoint.save(unit(1), {"epoch": 2})
        checkpoint.save(unit(2), STATE)
    with Checkpoint(path, "key") as checkpoint:
        arrays, state = checkpoint.load()
        assert state == STATE
        assert_units({"u2": arrays}, [2])


@pytest.mark.parametrize("change", ["key", "cut", "flip", "empty"])
def test_a_checkpoint_of_other_work_or_damaged_is_set_aside(tmp_path, change):
    path = tmp_path / "a.checkpoint"
    with Checkpoint(path, "key") as checkpoint:
        checkpoint.save(unit(2), STATE)
    content = bytearray(path.read_bytes())
    if change == "cut":
        path.write_bytes(content[:-1])
    elif change == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif change == "empty":
        path.write_bytes(b"")
    with Checkpoint(path, "other" if change == "key" else "key") as checkpoint:
        assert checkpoint.load() is None
        assert not path.exists()
        assert (tmp_path / "a.checkpoint.set-aside").exists()
        checkpoint.save(unit(3), {})
        assert_units({"u3": checkpoint.load()[0]}, [3])


def test_killed_in_the_middle_of_a_save_keeps_the_last_one(run, tmp_path):
    path = tmp_path / "a.checkpoint"
    killed = run(
        """
        import os, signal
        from medrobust.runtime.journal import Checkpoint
        from tests.unit.runtime.test_journal import unit
        checkpoint = Checkpoint(sys.argv[1], "key")
        checkpoint.save(unit(1), {"epoch": 1})
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        checkpoint.save(unit(2), {"epoch": 2})
        """,
        path,
    )
    assert killed.wait() == -signal.SIGKILL
    assert len(list(tmp_path.glob(".a.*.part*"))) == 1
    with Checkpoint(path, "key") as checkpoint:
        arrays, state = checkpoint.load()
    assert state == {"epoch": 1}
    assert_units({"u1": arrays}, [1])
    assert not list(tmp_path.glob(".a.*"))


# --- keys, clearing ---------------------------------------------------------------------


def test_every_part_of_the_key_counts_and_order_does_not():
    key = progress_key({"a": 1, "b": [2]}, {"x": "h1", "y": "h2"}, "code")
    assert key == progress_key({"b": [2], "a": 1}, {"y": "h2", "x": "h1"}, "code")
    others = {
        progress_key({"a": 2, "b": [2]}, {"x": "h1", "y": "h2"}, "code"),
        progress_key({"a": 1, "b": [2]}, {"x": "h2", "y": "h1"}, "code"),
        progress_key({"a": 1, "b": [2]}, {"x": "h1", "y": "h2"}, "edoc"),
        progress_key({"a": 1, "b": [2], "x": "h1"}, {"y": "h2"}, "code"),
    }
    assert len(others | {key}) == 5
    assert len(key) == 64


def test_clear_removes_our_files_and_nothing_else(tmp_path):
    folder = tmp_path / ".progress"
    assert clear(folder) == 0
    written(folder / "a" / "1.journal", [0], key="old")
    written(folder / "a" / "1.journal", [0], key="new")
    with Checkpoint(folder / "b" / "c" / "2.checkpoint", "key") as checkpoint:
        checkpoint.save(unit(1), {})
    (folder / "b" / "c" / ".2.x.part.checkpoint").write_bytes(b"left by a killed save")
    (folder / "b" / "notes.txt").write_text("somebody else's")
    assert clear(folder) == 0  # nobody said that these jobs are done
    for name in ("a/1.journal", "b/c/2.checkpoint"):
        mark_done(folder / name)
    assert clear(folder) == 2
    assert [p.name for p in folder.rglob("*")] == ["b", "notes.txt"]


def test_clear_keeps_what_is_in_use(run, tmp_path):
    other = run(
        """
        from medrobust.runtime.journal import Journal
        from tests.unit.runtime.test_journal import unit
        with Journal(sys.argv[1], "key") as journal:
            journal.append("u0", unit(0))
            print("held", flush=True)
            sys.stdin.readline()
            journal.append("u1", unit(1))
        """,
        tmp_path / "other.journal",
    )
    assert other.stdout.readline() == "held\n"
    with Journal(tmp_path / "own.journal", "key") as own:
        own.append("u0", unit(0))
        for name in ("own", "other"):
            mark_done(tmp_path / f"{name}.journal")
        assert clear(tmp_path) == 0
        own.append("u1", unit(1))
        # The lock is still held, too: a second process does not get in.
        second = run(
            "from tests.unit.runtime.test_journal import finished\n"
            "print(len(finished(sys.argv[1])))",
            tmp_path / "own.journal",
        )
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.6)
    assert second.communicate(timeout=10)[0].strip() == "2"
    other.communicate("\n", timeout=10)
    assert_units(finished(tmp_path / "other.journal"), [0, 1])
    assert_units(finished(tmp_path / "own.journal"), [0, 1])


def test_whoever_waits_while_the_file_is_cleared_still_gets_a_lock_that_holds(run, tmp_path):
    """A waiting job may hold a lock file that has been removed meanwhile; it must not trust it."""
    path = tmp_path / "a.journal"
    first = Journal(path, "key")
    waiting = run(
        """
        from medrobust.runtime.journal import Journal
        print("start", flush=True)
        with Journal(sys.argv[1], "key"):
            print("held", flush=True)
            sys.stdin.readline()
        """,
        path,
    )
    assert waiting.stdout.readline() == "start\n"
    time.sleep(0.5)  # it now waits on the lock file that goes away
    (tmp_path / "a.journal.lock").unlink()
    first.close()
    assert waiting.stdout.readline() == "held\n"
    mark_done(path)
    assert clear(tmp_path) == 0
    assert path.exists()
    waiting.communicate("\n", timeout=10)
    assert clear(tmp_path) == 1
