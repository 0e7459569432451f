"""Files in a data set's folders that no source of it uses: why not, and what to do.

What is not recognised must not be treated as not there: a file under nearly its name would be
passed over, and another source downloaded. Names and sizes are looked at, nothing is opened.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medrobust.data.fetching.layouts import is_clutter, official_name
from medrobust.data.registry import DatasetEntry, Source

MOST_FILES = 20_000
"""So many files are looked at, in folders at most ``MOST_DEEP`` below the data set's."""
MOST_DEEP = 5

PACKINGS = (".gz", ".bz2", ".xz", ".zip", ".7z", ".rar", ".tar", ".tgz")
_BESIDE_DATA = (".txt", ".md", ".pdf", ".html", ".htm", ".rst", ".docx", ".part", ".json", ".xml")
"""Suffixes of what people and publishers lay beside data."""
_COPY = re.compile(r"( ?\(\d+\)| - Copy| copy)(?=\.|$)")
"""What browsers and file managers add to a name."""
_EMPTY = "it is empty (0 bytes) and counts as missing"
_NEARLY = 0.8
_SHOWN = 6


@dataclass(frozen=True)
class _Known:
    """What sources know.

    Attributes:
        files: names of files by their last part, small letters: ``a.csv`` -> ``x/A.csv``.
        archives: names of archives.
        patterns: of files.
        not_read: patterns of files that belong to the release and are not read.
    """

    files: dict[str, str]
    archives: tuple[str, ...]
    patterns: tuple[str, ...]
    not_read: tuple[str, ...]

    @classmethod
    def of(cls, sources: Sequence[Source], folder: str) -> _Known:
        """Returns what several sources know together of one folder."""
        files: list[str] = []
        archives: list[str] = []
        patterns: list[str] = []
        for source in sources:
            files += [n for file in source.files for n in (file.name, *file.other_names)]
            trees = [*source.trees, *source.other_trees]
            patterns += [tree.pattern for tree in trees if tree.folder in (None, folder)]
            if source.listing:
                files.append(source.listing.name)
                patterns += source.listing.patterns
            if source.archive:
                archives += [source.archive.name, *source.archive.other_names]
        not_read = [pattern for source in sources for pattern in source.not_read]
        by_last = {PurePosixPath(name).name.casefold(): name for name in files}
        return cls(by_last, *(tuple(dict.fromkeys(p)) for p in (archives, patterns, not_read)))

    def uses(self, path: PurePosixPath) -> bool:
        """Tells whether a file, by its path within a data set's folder, is read or not needed."""
        name = self.files.get(path.name.casefold())
        if name is not None and f"/{path.as_posix()}".endswith(f"/{name}"):
            return True
        return (
            path.name in self.archives
            or any(official_name(path, pattern) for pattern in self.patterns)
            or any(path.match(pattern) for pattern in self.not_read)
        )

    def expected(self) -> str:
        """Returns in words what is looked for."""
        return " or ".join([*self.patterns, *self.files.values(), *self.archives][:4])


def unused_files(
    dataset: DatasetEntry,
    raw_dirs: Sequence[str | Path],
    others: Sequence[DatasetEntry] = (),
) -> list[str]:
    """Returns a sentence for each kind of file in a data set's folders that is not used.

    Args:
        dataset: the registry entry.
        raw_dirs: folders with a sub-folder per data set.
        others: entries whose files may lie in the same folders.
    """
    folders = sorted({name for source in dataset.sources for name in dataset.folders(source)})
    kinds: dict[tuple[Path, str, str], list[Path]] = defaultdict(list)
    for name in folders:
        own = _Known.of(list(dataset.sources.values()), name)
        known = _Known.of(_sources_of(name, (dataset, *others)), name)
        for folder in (Path(raw_dir) / name for raw_dir in raw_dirs):
            for path in _files(folder):
                reason = _reason(path, PurePosixPath(path.relative_to(folder)), known, own)
                if reason is not None:
                    kinds[path.parent, path.suffix.lower(), reason].append(path)
    told = [_sentence(paths, reason) for (_, _, reason), paths in kinds.items()]
    more = len(told) - _SHOWN
    return told[:_SHOWN] + ([f"and {more} more kinds of files are not used"] if more > 0 else [])


def empty_files(
    dataset: DatasetEntry,
    raw_dirs: Sequence[str | Path],
    others: Sequence[DatasetEntry] = (),
) -> list[str]:
    """Returns those sentences of :func:`unused_files` that tell of files without content."""
    return [text for text in unused_files(dataset, raw_dirs, others) if text.endswith(_EMPTY)]


def _sources_of(folder: str, entries: Sequence[DatasetEntry]) -> list[Source]:
    """Returns the sources whose files may lie in a folder."""
    return [
        entry.source(source)
        for entry in entries
        for source in entry.sources
        if folder in entry.folders(source)
    ]


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files of a folder and of those below; no more than ``MOST_FILES``."""
    places = [(folder, 0)]
    left = MOST_FILES
    while places:
        place, deep = places.pop()
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:  # it is not there, or may not be read
            continue
        for entry in entries:
            if is_clutter(entry.name):
                continue
            if entry.is_dir():
                places += [(Path(entry), deep + 1)] if deep < MOST_DEEP else []
            elif (left := left - 1) >= 0:
                yield Path(entry)


def _sentence(paths: Sequence[Path], reason: str) -> str:
    if len(paths) == 1:
        return f"{paths[0]} is not used: {reason}"
    return f"{len(paths):,} files like {paths[0]} are not used: {reason}"


def _reason(path: Path, below: PurePosixPath, known: _Known, own: _Known) -> str | None:
    """Returns why a file is not used and what to do; None if it is used, or is no data."""
    if known.uses(below):
        empty = path.stat().st_size == 0
        return _EMPTY if empty else None
    plain = _COPY.sub("", below.name)
    packing = next((end for end in PACKINGS if plain.lower().endswith(end)), "")
    stem = plain[: -len(packing)] if packing else plain
    if packing and stem.casefold() in own.files:
        return f"it is packed; unpack it as {own.files[stem.casefold()]}"
    if plain.casefold() in own.files:
        return f"its name or place differs; move it to {own.files[plain.casefold()]}"
    if any(official_name(PurePosixPath(below.name), PurePosixPath(p).name) for p in own.patterns):
        return f"it lies elsewhere than {own.expected()}; move it there"
    if packing:
        return (
            f"no archive of this name is known; call it {' or '.join(own.archives)}, or unpack it"
            if own.archives
            else "it is packed; unpack it"
        )
    near = difflib.get_close_matches(stem.casefold(), own.files, n=1, cutoff=_NEARLY)
    if near:
        return f"its name is nearly {own.files[near[0]]}; rename it if it is that file"
    if below.suffix.lower() in _BESIDE_DATA:
        return None
    return f"the release has no such file; expected are {own.expected()}"
