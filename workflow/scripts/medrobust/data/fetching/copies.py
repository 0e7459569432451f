"""Which of several copies of a release is read, where a raw folder holds more than one.

A release of many files may lie in the raw folder itself and in folders below it: unpacked twice, or
beside a copy that somebody made smaller. Its trees are taken from one of them, never mixed, unless
only several together hold the whole release. Names are looked at, nothing is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medrobust.data.fetching.layouts import matching_files
from medrobust.data.registry import RawTree


@dataclass(frozen=True)
class Copy:
    """The files of a release: pattern -> its files; and the other folders that hold some."""

    trees: dict[str, list[Path]]
    passed_over: dict[Path, int]


def choose_copy(folders: Sequence[Path], trees: Sequence[RawTree]) -> Copy:
    """Returns the files of a release from the folders that may hold it.

    The first folder that has all of it is read. If none has, but every tree is whole somewhere,
    each is taken from the first folder where it is. Else the folder with the most files is read, of
    equal ones the first.

    Args:
        folders: in order of preference.
        trees: the patterns of one release, and how many files match each.
    """
    matches = {
        folder: {
            tree.pattern: list(matching_files(folder, tree.pattern).values()) for tree in trees
        }
        for folder in folders
    }
    counts = {folder: sum(map(len, parts.values())) for folder, parts in matches.items()}

    def whole(folder: Path, tree: RawTree) -> bool:
        return tree.number(path.name for path in matches[folder][tree.pattern]) >= tree.count

    complete = [folder for folder in matches if all(whole(folder, tree) for tree in trees)]
    chosen = {
        tree.pattern: next((folder for folder in matches if whole(folder, tree)), None)
        for tree in trees
    }
    if complete or None in chosen.values():
        fullest = max(matches, key=lambda folder: counts[folder], default=None)
        best = complete[0] if complete else fullest
        chosen = dict.fromkeys(chosen, best)
    return Copy(
        {name: matches[folder][name] if folder else [] for name, folder in chosen.items()},
        {folder: n for folder, n in counts.items() if n and folder not in chosen.values()},
    )
