"""Several copies of a release in one raw folder: which is read."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from medrobust.data.fetching.copies import choose_copy
from medrobust.data.registry import RawTree

TREES = [RawTree(pattern="a/*.png", count=3), RawTree(pattern="b/*.png", count=2)]


def _folder(path: Path, a: int, b: int) -> Path:
    for name, n in (("a", a), ("b", b)):
        (path / name).mkdir(parents=True)
        for number in range(n):
            (path / name / f"{number}.png").write_bytes(b"png")
    return path


@pytest.mark.parametrize(
    ("held", "read"),
    [
        ([(3, 2)], {0}),
        ([(1, 1), (3, 2), (5, 5)], {1}),  # the first whole one
        ([(3, 1), (1, 2)], {0, 1}),  # the whole release, in two places
        ([(2, 0), (0, 1), (1, 1)], {0}),  # none is whole: never mixed, of equal ones the first
        ([(3, 0), (1, 1), (2, 1)], {0}),
        ([(1, 0), (0, 1), (1, 1)], {2}),
    ],
)
def test_which_copy_is_read(tmp_path: Path, held: list[tuple[int, int]], read: set[int]) -> None:
    folders = [_folder(tmp_path / str(n), *counts) for n, counts in enumerate(held)]
    copy = choose_copy(folders, TREES)
    used = {path.parents[1] for path in itertools.chain(*copy.trees.values())}
    assert used == {folders[n] for n in read}
    expected = {folders[n]: sum(held[n]) for n in range(len(held)) if n not in read}
    assert copy.passed_over == expected
    for tree, paths in copy.trees.items():
        assert paths == sorted(paths) and all(p.parent.name == tree[0] for p in paths)


def test_nothing_is_there(tmp_path: Path) -> None:
    for folders in ([], [tmp_path / "none"]):
        copy = choose_copy(folders, TREES)
        assert copy.trees == {"a/*.png": [], "b/*.png": []} and copy.passed_over == {}
