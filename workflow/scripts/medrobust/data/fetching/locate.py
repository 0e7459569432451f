"""Where the raw files of a source lie: looked for by name and size, in the layouts people have.

Imports nothing heavy, because it runs whenever the Snakefile is parsed.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medrobust.core.errors import InputError
from medrobust.data.fetching.copies import choose_copy
from medrobust.data.fetching.layouts import is_clutter
from medrobust.data.registry import (
    DatasetEntry,
    Listing,
    RawFile,
    RawTree,
    Source,
    read_checksums,
)


@dataclass(frozen=True)
class Located:
    """What lies in the raw folders.

    ``source``: the source, with the files that its publisher's list names if the list is there;
    ``files``: name -> path of the listed files that are there; ``trees``: pattern -> its
    files; ``missing``: what is required and not there; ``archive``: an archive that was
    dropped by hand and may hold the rest; ``passed_over``: folders that hold such files too and
    are not read, with the number of them; ``beyond_archive``: what is missing and does not come out
    of an archive.
    """

    source: Source
    files: dict[str, Path]
    trees: dict[str, list[Path]]
    missing: list[str]
    archive: Path | None
    passed_over: dict[Path, int] = field(default_factory=dict)
    beyond_archive: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing required is missing (what an archive at hand should hold is not)."""
        return not self.missing or (self.archive is not None and not self.beyond_archive)

    def number(self, tree: RawTree) -> int:
        """Returns how many files of a tree are there and count."""
        return tree.number(path.name for path in self.trees.get(tree.pattern, ()))

    @property
    def anything(self) -> bool:
        """Whether at least one file is there."""
        return bool(self.files or any(self.trees.values()) or self.archive)


def locate(dataset: DatasetEntry, source_name: str, raw_dirs: Sequence[str | Path]) -> Located:
    """Looks for the files of one source by name and size; opens only a publisher's list of files.

    Args:
        dataset: the registry entry.
        source_name: one of its sources.
        raw_dirs: folders with a sub-folder per data set, in order of preference. A file may
            lie in ``<raw_dir>/<dataset.raw>/`` or one folder below; where something is missing
            there, also two below or in ``<raw_dir>`` itself, and in the source's other layout.

    Raises:
        InputError: the publisher's list is there but is not what the registry expects.
    """
    source = dataset.source(source_name)
    best = _looked_for(dataset, source_name, raw_dirs, source.trees, wide=False)
    others = [(source.trees, True)]
    if source.other_trees:
        others += [(source.other_trees, False), (source.other_trees, True)]
    for trees, wide in others:
        # An archive is unpacked into the usual folder.
        if not best.missing or (wide and best.archive is not None):
            continue
        if trees is not source.trees and _files_in(best):
            break
        found = _looked_for(dataset, source_name, raw_dirs, trees, wide)
        if not found.missing or (_files_in(found) and not _files_in(best)):
            best = found
    return best


def _files_in(located: Located) -> int:
    return len(located.files) + sum(map(len, located.trees.values()))


def _looked_for(
    dataset: DatasetEntry,
    source_name: str,
    raw_dirs: Sequence[str | Path],
    wanted: list[RawTree],
    wide: bool,
) -> Located:
    """Returns what lies in the usual folders, or also in those around them (``wide``)."""
    stated = dataset.source(source_name)
    if wanted is not stated.trees:
        stated = stated.model_copy(update={"trees": wanted, "other_trees": stated.trees})
    folders = _folders(dataset.folders(source_name), raw_dirs)
    source = _with_listed_files(stated, folders)
    around = _around(folders, raw_dirs, source) if wide else []
    files, missing = {}, []
    for file in source.files:
        path = _first_file([*folders, *around], file.name, _required_size(file, source))
        for name in () if path else file.other_names:
            path = path or _first_file([*folders, *around], name, None)
        if path is not None:
            files[file.name] = path
        elif not file.optional:
            missing.append(file.name)
    trees: dict[str, list[Path]] = {}
    passed_over: dict[Path, int] = {}
    for release, group in releases(source.trees).items():
        places = _folders([release], raw_dirs) if release else folders
        # Where any name will do, a folder of the same name elsewhere may hold anything.
        vague = any("*.*" in tree.pattern for tree in group)
        more = _around(places, raw_dirs, source) if wide and not vague else []
        copy = choose_copy([*places, *more], group)
        trees |= copy.trees
        passed_over |= copy.passed_over
    numbers = {
        tree: tree.number(path.name for path in trees[tree.pattern]) for tree in source.trees
    }
    short = {
        tree: f"{tree.pattern} ({n} of {tree.count})"
        for tree, n in numbers.items()
        if n < tree.count
    }
    missing += short.values()
    # An archive is unpacked into the first folder.
    elsewhere = dataset.folders(source_name)[1:]
    beyond = [text for tree, text in short.items() if tree.folder in elsewhere]
    archive = _find_archive(source, folders)
    return Located(source, files, trees, missing, archive, passed_over, beyond)


def releases(trees: Sequence[RawTree]) -> dict[str | None, list[RawTree]]:
    """Returns the trees that belong together, by the folder that the registry names for them."""
    groups: dict[str | None, list[RawTree]] = {}
    for tree in trees:
        groups.setdefault(tree.folder, []).append(tree)
    return groups


def _folders(names: Sequence[str], raw_dirs: Sequence[str | Path]) -> list[Path]:
    folders: list[Path] = []
    for folder in (Path(raw_dir) / name for raw_dir in raw_dirs for name in names):
        if folder.is_dir():
            folders += [folder, *_below(folder)]
    return folders


def _around(folders: Sequence[Path], raw_dirs: Sequence[str | Path], source: Source) -> list[Path]:
    """Returns the folders one level deeper, and those that hold the data sets' folders.

    Names of a publisher's list (SHA256SUMS.txt) are those of other releases too: its files are
    looked for in their own folder alone.
    """
    known = set(folders)
    deeper = [path for folder in folders for path in _below(folder) if path not in known]
    above = [] if source.listing else [Path(raw_dir) for raw_dir in raw_dirs]
    return [*dict.fromkeys([*deeper, *(path for path in above if path.is_dir())])]


def _below(folder: Path) -> list[Path]:
    entries = os.scandir(folder) if os.access(folder, os.R_OK) else []
    return sorted(Path(e) for e in entries if e.is_dir() and not is_clutter(e.name))


def _with_listed_files(source: Source, folders: Sequence[Path]) -> Source:
    """Returns the source with its publisher's list, and the files that it names.

    Without the list these are the files at hand that look like them.
    """
    listing = source.listing
    if listing is None:
        return source
    path = _first_file(folders, listing.name, None)
    if path is None:
        names = {
            file.relative_to(folder).as_posix()
            for folder in folders
            for pattern in listing.patterns
            for file in folder.glob(pattern)
        }
        listed = [RawFile(name=name) for name in sorted(names)]
    else:
        listed = _listed_files(listing, path)
    return source.model_copy(update={"files": [*source.files, RawFile(name=listing.name), *listed]})


def _listed_files(listing: Listing, path: Path) -> list[RawFile]:
    listed = [
        RawFile(name=name, sha256=sha256)
        for name, sha256 in read_checksums(path).items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in listing.patterns)
    ]
    if len(listed) != listing.count:
        raise InputError(
            f"This list names {len(listed)} files like {' or '.join(listing.patterns)}; the "
            f"release has {listing.count}.",
            where=str(path),
            remedy="delete it; it is then downloaded again.",
        )
    return listed


def _first_file(folders: Sequence[Path], name: str, size: int | None) -> Path | None:
    """Returns the first non-empty file; one of another size than the publisher's comes last."""
    other = None
    for path in (folder / name for folder in folders):
        actual = _size(path)
        if actual > 0 and size in (None, actual):
            return path
        other = other or (path if actual > 0 else None)
    return other


def _required_size(file: RawFile, source: Source) -> int | None:
    return file.bytes if source.checksums_from == "publisher" and not file.alternatives else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _find_archive(source: Source, folders: Sequence[Path]) -> Path | None:
    paths = [folder / name for folder in folders for name in _archive_names(source)]
    return next((path for path in paths if _size(path) > 0), None)


def _archive_names(source: Source) -> list[str]:
    return [source.archive.name, *source.archive.other_names] if source.archive else []
