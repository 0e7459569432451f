"""Raw files that stay what they were: what is read is what was hashed when they were looked for.

Between ``fetch``, which writes sizes and SHA-256, and the end of reading, somebody may replace a
file. Every file is hashed before it is read; its inode, size and times are compared before and
after. A card so never states the SHA-256 of other bytes than those that became its arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.files import file_state
from medrobust.data.registry import STANDIN

AGAIN = (
    "run `fetch` again: `snakemake --cores 2 data --forcerun fetch`, or `python -m medrobust fetch`"
)
"""What makes raw.json tell of the files that are there now."""

_NAMES_SHOWN = 5


def raw_files(manifest: Mapping[str, Any] | None, source: str) -> dict[str, Path]:
    """Returns the path of each raw file by its official name; generated data have none."""
    return {file["name"]: Path(file["path"]) for file in _records(manifest, source)}


@contextmanager
def held_files(
    manifest: Mapping[str, Any] | None, source: str, processes: int = 1
) -> Iterator[dict[str, Path]]:
    """Yields the raw files for reading, as :func:`raw_files` returns them, and holds them.

    Args:
        manifest: what was fetched (``files``: name, path, bytes, sha256).
        source: source of the files, or "standin".
        processes: at most so many files are hashed at a time.

    Raises:
        InputError: before: a file is missing, or is not the one that the manifest tells of;
            after: one was replaced or written to meanwhile.
    """
    records = _records(manifest, source)
    before = [file_state(record["path"]) for record in records]
    _raise_for(differing(records, read=True, processes=processes))
    yield raw_files(manifest, source)
    changed = [
        f"{record['path']}: it was replaced or written to while it was read"
        for record, state in zip(records, before, strict=True)
        if file_state(record["path"]) != state
    ]
    _raise_for(changed)


def differing(records: Sequence[Mapping[str, Any]], *, read: bool, processes: int = 1) -> list[str]:
    """Returns how files differ from what was recorded of them, one sentence each.

    Args:
        records: ``path``, ``bytes`` and ``sha256`` of each file.
        read: hash the files; else compare sizes only.
        processes: at most so many files are hashed at a time.
    """
    with ThreadPoolExecutor(max(1, processes)) as pool:  # hashing is done outside Python
        found = pool.map(lambda record: _difference(record, read=read), records)
        return [text for text in found if text is not None]


def _difference(record: Mapping[str, Any], *, read: bool) -> str | None:
    path = Path(record["path"])
    try:
        size = path.stat().st_size
        if size != record.get("bytes", size):
            return f"{path}: {record['bytes']:,} bytes were recorded, it has {size:,}"
        if read and "sha256" in record and io.sha256_of_file(path) != record["sha256"]:
            return f"{path}: another SHA-256 was recorded"
    except FileNotFoundError:
        return f"{path}: it is no longer there"
    except OSError as error:
        return f"{path}: it cannot be read ({error.strerror})"
    return None


def _raise_for(differences: Sequence[str]) -> None:
    if not differences:
        return
    shown = "\n    ".join(differences[:_NAMES_SHOWN])
    more = len(differences) - _NAMES_SHOWN
    raise InputError(
        "Raw files are no longer those that were looked for and recorded in raw.json:\n    "
        + shown
        + (f"\n    and {more:,} more" if more > 0 else ""),
        remedy=f"{AGAIN}; then prepare.",
    )


def _records(manifest: Mapping[str, Any] | None, source: str) -> list[Mapping[str, Any]]:
    if source == STANDIN or (manifest is not None and manifest.get("kind") == "generated"):
        return []
    if manifest is None or not manifest.get("files"):
        raise InputError(
            f"There are no raw files for source {source!r}.",
            remedy="run `snakemake --cores 1 preflight` to see what is needed.",
        )
    return list(manifest["files"])
