"""What is told of files without reading them, and temporary ones; imports nothing heavy."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def file_state(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """Returns what changes when a file is replaced or written to (inode, size, times), or None.

    Equal before and after something was read: it was read from the same bytes.
    """
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextlib.contextmanager
def temporary_file(folder: str | os.PathLike[str], prefix: str, suffix: str) -> Iterator[Path]:
    """Yields a new empty file, which is removed at the end, unless it was moved away.

    As long as it is used it is locked, whatever its name becomes: one that is not was left by a
    process that was killed (:func:`remove_left_files`).
    """
    handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=suffix)
    try:
        _locked(handle)
        yield Path(name)
    finally:
        os.close(handle)
        Path(name).unlink(missing_ok=True)


def remove_left_files(folder: str | os.PathLike[str], pattern: str) -> list[Path]:
    """Removes the temporary files of a folder that processes left which are no longer there.

    Args:
        folder: where they lie; it need not exist.
        pattern: glob pattern of their names.

    Returns:
        The files removed.
    """
    removed = []
    for path in sorted(Path(folder).glob(pattern)):
        try:
            handle = os.open(path, os.O_RDWR)
        except OSError:  # somebody else's, or just gone
            continue
        try:
            if _locked(handle):
                path.unlink(missing_ok=True)
                removed.append(path)
        finally:
            os.close(handle)
    return removed


def _locked(handle: int) -> bool:
    """Locks an open file for this process; False if another has it, or files cannot be locked."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
