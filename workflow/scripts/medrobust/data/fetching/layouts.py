"""Under which other names the files of a release are the same files.

People rename suffixes (``.jpg`` for ``.jpeg``), write folders in small letters, and pack or unpack
files. Here it is told which name of the release a file stands for; adapters see that name alone.
Nothing is opened but the end of a gzip file.
"""

from __future__ import annotations

import fnmatch
import os
import struct
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath

SUFFIXES = ((".jpeg", ".jpg"), (".tif", ".tiff"), (".nii.gz", ".nii"))
"""Suffixes of one format; case does not matter either."""

_WILD = frozenset("*?[")


def is_clutter(name: str) -> bool:
    """Tells whether a file or folder is hidden, or a copy of attributes that macOS makes."""
    return name.startswith(".") or name == "__MACOSX"


def official_name(path: PurePath, pattern: str) -> str | None:
    """Returns the name of a release's file that ``path`` stands for, None if it fits not.

    Args:
        path: of a file; its end is compared, part by part.
        pattern: a glob pattern. The case of its folders and of its suffix does not matter, and a
            suffix of ``SUFFIXES`` stands for the others of its kind.
    """
    *folders, last = PurePosixPath(pattern).parts
    end = path.parts[-1 - len(folders) :]
    if len(end) <= len(folders):
        return None
    for found, wanted in zip(end, folders, strict=False):
        if not fnmatch.fnmatchcase(found.casefold(), wanted.casefold()):
            return None
    name = _official_last(end[-1], last)
    if name is None:
        return None
    named = [w if not _WILD & set(w) else f for f, w in zip(end, folders, strict=False)]
    return "/".join([*named, name])


def _official_last(name: str, pattern: str) -> str | None:
    kinds = [kind for kind in SUFFIXES if pattern.lower().endswith(kind)]
    plain = PurePosixPath(pattern).suffix
    kind = kinds[0] if kinds else (plain,)
    official = next((suffix for suffix in kind if pattern.endswith(suffix)), plain)
    if not official or _WILD & set(official):
        return name if fnmatch.fnmatchcase(name, pattern) else None
    stem = pattern[: -len(official)]
    for suffix in kind:
        base = name[: -len(suffix)]
        if name.lower().endswith(suffix.lower()) and fnmatch.fnmatchcase(base, stem):
            return base + official
    return None


def matching_files(folder: Path, pattern: str) -> dict[str, Path]:
    """Returns the files below ``folder`` that a pattern is about: official name -> path.

    Of two files that stand for one name (``a.jpeg`` and ``a.jpg``) the one that has it is taken.
    """
    *folders, _ = PurePosixPath(pattern).parts
    found: dict[str, Path] = {}
    for path in _files(folder, folders):
        name = official_name(path, pattern)
        if name is not None and (name not in found or path.name == PurePosixPath(name).name):
            found[name] = path
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _files(folder: Path, below: list[str]) -> Iterator[Path]:
    """Yields the files of the folders ``below`` (patterns, one a level) of ``folder``."""
    try:
        entries = [entry for entry in os.scandir(folder) if not is_clutter(entry.name)]
    except OSError:  # it is no folder, or may not be read
        return
    if not below:
        yield from (Path(entry) for entry in entries if entry.is_file())
        return
    names = {entry.name for entry in entries}
    exact = [name for name in names if name == below[0]]
    alike = [n for n in names if fnmatch.fnmatchcase(n.casefold(), below[0].casefold())]
    for name in sorted(exact or alike):
        yield from _files(folder / name, below[1:])


def has_official_name(path: Path, name: str) -> bool:
    """Tells whether a file has its name of the release, and so its packing."""
    return path.name == PurePosixPath(name).name


def is_packed(path: Path, name: str) -> bool:
    """Tells whether a file is a gzip file of the one that the release calls ``name``."""
    return path.name.endswith(".gz") and not name.endswith(".gz")


def size_of(path: Path, name: str) -> int | None:
    """Returns the bytes that the release's file ``name`` has in ``path``, None if unknown.

    A gzip file ends with the size of its content, modulo 2**32.
    """
    if has_official_name(path, name):
        return path.stat().st_size
    if not is_packed(path, name) or path.stat().st_size < 18:
        return None
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return int(struct.unpack("<I", file.read(4))[0])
