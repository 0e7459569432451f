"""What is told of a file without reading it; imports nothing heavy."""

from __future__ import annotations

import os
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
