"""What killed processes leave is removed; what others are writing is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import medrobust
import numpy as np
import pytest
from medrobust.core import io
from medrobust.core.files import remove_left_files, temporary_file
from medrobust.data.formats.images import ImageSpec, read_images
from medrobust.data.prepared.prepare import prepare

from tests.unit.image_releases import encoded, picture

WRITING = """
import sys, time
from medrobust.core import io
with io.atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"x" * 1000)
    print("writing", flush=True)
    time.sleep(60)
"""


def writing(path: Path) -> subprocess.Popen:
    """A process that is in the middle of writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(medrobust.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    return process


def parts(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part*"))


def killed(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_only_what_nobody_writes_is_removed(tmp_path: Path) -> None:
    process = writing(tmp_path / "x.npy")
    try:
        assert len(parts(tmp_path)) == 1
        io.remove_left_parts(tmp_path)
        assert len(parts(tmp_path)) == 1
    finally:
        killed(process)
    assert len(parts(tmp_path)) == 1  # the process could not remove it
    (tmp_path / "x.part.npy").write_bytes(b"not hidden: somebody's own")
    io.remove_left_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.part.npy"]
    with temporary_file(tmp_path, "a", ".b") as mine:
        assert remove_left_files(tmp_path, "a*.b") == [] and mine.exists()
    assert not mine.exists() and remove_left_files(tmp_path / "none", "*") == []


def test_the_next_preparation_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("x.npy", "preview.png"):
        killed(writing(out / name))
    assert len(parts(out)) == 2
    options = {"classes": ["N", "S"], "n_train": 20, "n_test": 10}
    prepare("mitbih", "mitbih", options, "standin", None, out, 1, {})
    assert parts(out) == [] and (out / "x.npy").exists()


def test_the_array_of_a_killed_decoder_is_removed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    left = tmp_path / "temporary/medrobust-images-abc.npy"
    np.save(left, np.zeros(10))
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(1, 40, 40), "a.png"))
    first = read_images([path], ImageSpec(8, "grey")).x
    assert not left.exists() and first.shape == (1, 1, 8, 8)


# ------------------------------------------------------------------- output nobody reads


@pytest.mark.parametrize(
    "arguments",
    [
        ["preflight", "all", "--quick"],
        ["preflight", "moons"],
        ["plan", "--config", "scale=smoke"],
        ["config-reference"],
        ["data-reference"],
        ["--help"],
        ["plan", "--help"],
    ],
    ids=" ".join,
)
def test_a_reader_that_stops_reading_gives_no_traceback(root: Path, arguments: list[str]) -> None:
    """As ``preflight | head``: the reader is gone when the text is written."""
    command = [sys.executable, "-m", "medrobust", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(root / "workflow/scripts")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, env=environment, **pipes) as process:
        process.stdout.close()
        said = process.stderr.read()
    # argparse, which prints the help, takes no notice.
    assert process.returncode == (0 if "--help" in arguments else 128 + signal.SIGPIPE)
    assert "Traceback" not in said and "Broken" not in said
