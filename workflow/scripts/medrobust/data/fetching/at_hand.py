"""Files that lie in the raw folders: are they the right ones? Said before anything is run."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path, PurePosixPath

from medrobust.core.errors import InputError
from medrobust.data.fetching.archives import extract, wanted_files
from medrobust.data.fetching.fetch import Located, compared, enforced
from medrobust.data.fetching.transfer import mismatch
from medrobust.data.registry import RawFile


def wrong_files(located: Located, *, read: bool, allow_subset: bool = False) -> list[str]:
    """Returns what is wrong with the files of a data set, one sentence each.

    Only what would stop the run: a checksum that is known from a copy is no reason.

    Args:
        located: what lies there.
        read: compare checksums too, and look into an archive that is still to be unpacked; else
            sizes only.
        allow_subset: a part is accepted, and so is an archive that holds a part.
    """
    wrong = []
    for file in located.source.files:
        if file.name in located.files:
            path = located.files[file.name]
            problem = _problem(file, path, located) if read else _wrong_size(file, path, located)
            wrong += [f"{path}: {problem}"] if problem else []
    paths = [path for tree in located.trees.values() for path in tree]
    wrong += [f"{path}: it is empty (0 bytes)" for path in paths if path.stat().st_size == 0]
    if read and located.missing and located.archive is not None:
        wrong += _wrong_archive(located, located.archive, allow_subset)
    return wrong


def _problem(file: RawFile, path: Path, located: Located) -> str | None:
    try:
        return compared(file, path, located.source)[1]
    except InputError as error:  # it cannot be read
        return error.what


def _wrong_size(file: RawFile, path: Path, located: Located) -> str | None:
    allowed = {enforced(file, located.source).bytes, *(a.bytes for a in file.alternatives)}
    size = path.stat().st_size
    if None in allowed or size in allowed:
        return None
    return f"it has {size:,} bytes, not {file.bytes:,}"


def _wrong_archive(located: Located, path: Path, allow_subset: bool) -> list[str]:
    """Looks into an archive without unpacking it: its members' names, then its bytes."""
    source = located.source
    select = wanted_files([f.name for f in source.files], [tree.pattern for tree in source.trees])
    seen: set[str | None] = set()

    def look(member: str) -> None:
        seen.add(select(member))

    try:
        extract(path, path.parent, look)
    except InputError as error:
        return [f"{path}: {error.what}"]
    if seen <= {None}:
        return [f"{path}: it holds none of the files of this data set"]
    if allow_subset:
        return []
    lacking = _not_in(seen - {None}, located)
    if lacking:
        return [f"{path}: it lacks {', '.join(lacking)}"]
    problem = mismatch(path, enforced(source.archive, source)) if source.archive else None
    return [f"{path}: {problem}"] if problem else []


def _not_in(names: Set[str], located: Located) -> list[str]:
    """Returns what is missing and not among the names in an archive."""
    source = located.source
    lacking = [
        file.name
        for file in source.files
        if not file.optional and file.name not in located.files and file.name not in names
    ]
    for tree in source.trees:
        short = len(located.trees[tree.pattern]) < tree.count
        if short and not any(text.startswith(tree.pattern) for text in located.beyond_archive):
            held = sum(PurePosixPath(name).match(tree.pattern) for name in names)
            lacking += [f"{tree.pattern} ({held} of {tree.count})"] if held < tree.count else []
    return lacking
