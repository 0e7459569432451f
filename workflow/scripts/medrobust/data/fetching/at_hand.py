"""Files that lie in the raw folders: are they the right ones? Said before anything is run."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from medrobust.core.errors import InputError
from medrobust.core.files import file_state
from medrobust.data.fetching.archives import contents, wanted_files
from medrobust.data.fetching.fetch import Located, compared, enforced
from medrobust.data.fetching.layouts import size_of
from medrobust.data.fetching.transfer import mismatch
from medrobust.data.registry import RawFile, RawTree, Source


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


def needs_each(source: Source) -> bool:
    """Tells whether no part of a source's files can be used: of a few named files each is needed.

    A part of many images, or of records, is a subset; images without their labels are nothing.
    """
    return not source.trees and source.listing is None and source.kind != "physionet"


def is_part(located: Located) -> bool:
    """Tells whether files at hand are a part of a release, by names, numbers and sizes.

    Of an archive that is still to be unpacked its members count: an adapter will read no more.
    """
    try:
        held, located = _held(located)
    except InputError:  # fetching says what is wrong
        held = {}
    if not (located.files or any(located.trees.values()) or held):
        return False  # nothing of it is there: the whole is fetched
    lacking = located.beyond_archive or _not_in(held, located)
    if located.missing and (located.archive is None or lacking):
        return True
    sizes = held | {name: size_of(path, name) for name, path in located.files.items()}
    cut = any(not _has_a_known_size(file, sizes.get(file.name)) for file in located.source.files)
    return cut or any(
        located.number(tree) > tree.count and not tree.at_least for tree in located.source.trees
    )


def _has_a_known_size(file: RawFile, size: int | None) -> bool:
    known = {content.bytes for content in (file, *file.alternatives)}
    return size is None or None in known or size in known


def _held(located: Located) -> tuple[dict[str, int], Located]:
    """Returns what would come out of an archive (name -> bytes), and what it is a part of.

    The latter is ``located``, with the source's other layout where the archive has that one.

    Raises:
        InputError: the archive cannot be read.
    """
    if not located.missing or located.archive is None:
        return {}, located
    state, source = file_state(located.archive), located.source
    # The pattern with fewer folders would fit the files of the other layout too.
    layouts = sorted([source.trees, source.other_trees], key=_depth, reverse=True)
    for trees in layouts if source.other_trees else [source.trees]:
        held = _contents(located.archive, state, *_wanted(source, trees))
        if held and trees is source.trees:
            return held, located
        if held:
            other = source.model_copy(update={"trees": trees})
            return held, replace(located, source=other, trees={t.pattern: [] for t in trees})
    return {}, located


def _depth(trees: Sequence[RawTree]) -> int:
    return max((tree.pattern.count("/") for tree in trees), default=0)


@functools.lru_cache(maxsize=32)
def _contents(
    archive: Path, state: Any, names: tuple[str, ...], patterns: tuple[str, ...]
) -> dict[str, int]:
    return contents(archive, wanted_files(names, patterns))


def _wanted(source: Source, trees: Sequence[RawTree]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns names and patterns of a source's files."""
    return tuple(f.name for f in source.files), tuple(tree.pattern for tree in trees)


def _problem(file: RawFile, path: Path, located: Located) -> str | None:
    try:
        return compared(file, path, located.source)[1]
    except InputError as error:  # it cannot be read
        return error.what


def _wrong_size(file: RawFile, path: Path, located: Located) -> str | None:
    allowed = {enforced(file, located.source).bytes, *(a.bytes for a in file.alternatives)}
    size = size_of(path, file.name)
    if size is None or None in allowed or size in allowed:
        return None
    return f"it has {size:,} bytes, not {file.bytes:,}"


def _wrong_archive(located: Located, path: Path, allow_subset: bool) -> list[str]:
    """Looks into an archive without unpacking it: its members' names, then its bytes."""
    try:
        held, located = _held(located)
    except InputError as error:
        return [f"{path}: {error.what}"]
    if not held:
        return [f"{path}: it holds none of the files of this data set"]
    lacking = [] if allow_subset and not needs_each(located.source) else _not_in(held, located)
    if lacking:
        return [f"{path}: it lacks {', '.join(lacking)}"]
    if allow_subset:
        return []
    source = located.source
    problem = mismatch(path, enforced(source.archive, source)) if source.archive else None
    return [f"{path}: {problem}"] if problem else []


def _not_in(names: Collection[str], located: Located) -> list[str]:
    """Returns what is missing and not among the names in an archive."""
    source = located.source
    lacking = [
        file.name
        for file in source.files
        if not file.optional and file.name not in located.files and file.name not in names
    ]
    for tree in source.trees:
        short = located.number(tree) < tree.count
        if short and not any(text.startswith(tree.pattern) for text in located.beyond_archive):
            held = tree.number(name for name in names if PurePosixPath(name).match(tree.pattern))
            lacking += [f"{tree.pattern} ({held} of {tree.count})"] if held < tree.count else []
    return lacking
