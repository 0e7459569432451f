"""Images that look alike: the same picture rescaled, recompressed, brightened or cut a little.

Each image is reduced to a grey thumbnail of 32 x 32, the mean thumbnail of the data set is taken
off (what all X-rays have in common says nothing), and two images are near duplicates if what is
left correlates by ``SIMILAR`` or more. On real samples the same picture at half size, as JPEG of
quality 30, a fifth brighter or cut by 1 % at every side stays above 0.93 in nearly all cases, while
the most alike of 500 chest X-rays of different people reach 0.84. Neighbouring slices of one CT
scan and frames of one ultrasound examination can exceed the bound: for a split they are as good as
copies. Nothing is said about pictures that were turned, mirrored or cut by more.

The mean of few images is much like each of them, and taking it off hides what two have in common.
Of the pairs that are found among 160 CT slices or 180 ultrasound images, one loses up to 0.005 of
its correlation among the 150 of these that are most like it, 0.02 among 100, 0.05 among 50, 0.12
among 20, 0.7 among 4 (of images drawn at random 0.003, 0.006, 0.015, 0.03, 0.4): always less than
3 / n. Below ``ENOUGH_IMAGES`` it is therefore not said that no two images look alike, and pairs
that may are told.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

SIMILAR = 0.95
"""Least correlation of two near duplicates."""

ENOUGH_IMAGES = 200
"""Among fewer, pairs that look alike may be missed."""

LEAST_SIDE = 64
"""Smaller images are not compared: too many of them look alike at 32 x 32."""

MOST_IMAGES = 20_000
"""More images are not compared: the time grows with their number squared."""

Drop = Literal["none", "exact", "near"]
"""Which repeated images are left out: none, those equal in every value, those that look alike."""

_SIDE = 32
_BLOCK = 1024


def comparable(x: np.ndarray) -> bool:
    """Tells whether ``x`` holds images that are large and few enough to be compared."""
    return x.ndim == 4 and min(x.shape[2:]) >= LEAST_SIDE and len(x) <= MOST_IMAGES


def thumbnails(x: np.ndarray) -> np.ndarray:
    """Returns grey thumbnails, float32 ``[n, 1024]``, of images ``[n, channels, height, width]``.

    Each value is the mean over all channels of a cell of about equal size; height and width must
    be at least 32.
    """
    result = np.empty((len(x), _SIDE * _SIDE), np.float32)
    edges = [np.arange(_SIDE) * side // _SIDE for side in x.shape[2:]]
    cells = [np.diff(edge, append=side) for edge, side in zip(edges, x.shape[2:], strict=True)]
    area = np.outer(*cells)
    for start in range(0, len(x), _BLOCK // 4):
        grey = x[start : start + _BLOCK // 4].mean(axis=1, dtype=np.float32)
        sums = np.add.reduceat(np.add.reduceat(grey, edges[0], axis=1), edges[1], axis=2)
        result[start : start + len(grey)] = (sums / area).reshape(len(grey), -1)
    return result


def near_pairs(x: np.ndarray, least: float = SIMILAR) -> np.ndarray:
    """Returns the pairs of images that look alike, equal ones included.

    Args:
        x: images ``[n, channels, height, width]``.
        least: least correlation, in (0, 1].

    Returns:
        Row numbers int64 ``[pairs, 2]``, the smaller one first, ascending.
    """
    features = thumbnails(x)
    features -= features.mean(axis=0)
    features -= features.mean(axis=1, keepdims=True)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    # An image that differs from the mean by a constant, if at all, resembles nothing.
    features = np.divide(features, length, out=np.zeros_like(features), where=length > 1e-3)
    found = []
    for start in range(0, len(x), _BLOCK):
        alike = features[start : start + _BLOCK] @ features[start:].T >= least
        first, second = np.nonzero(np.triu(alike, k=1))
        found.append(np.column_stack([first, second]) + start)
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def least_of_few(n: int) -> float:
    """Returns the least correlation, among ``n`` images, of pairs that may look alike."""
    return SIMILAR - 3 / n if n < ENOUGH_IMAGES else SIMILAR


def groups_of(pairs: np.ndarray, n: int) -> list[np.ndarray]:
    """Returns the groups of rows that pairs connect, directly or through others; ascending rows."""
    group = np.arange(n)
    first, second = pairs.T
    while (group[first] != group[second]).any():
        lower = np.minimum(group[first], group[second])
        np.minimum.at(group, group[first], lower)
        np.minimum.at(group, group[second], lower)
        group = group[group]
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return [part for part in parts if len(part) > 1]


def without_repeats(x: np.ndarray, y: np.ndarray, drop: Drop) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the rows that stay when repeated images are left out.

    Of images that repeat each other the first stays; where their labels differ none does, because
    which label is correct is not known.

    Args:
        x: images ``[n, channels, height, width]``.
        y: labels ``[n]``.
        drop: which images count as repeated.

    Returns:
        Rows, ascending int64, and a note for the card.
    """

    if drop == "none":
        note = (
            "Repeated images, if there are any (see the findings), were kept: the option "
            "drop_duplicates of the entry leaves out equal ones (exact) or those that look alike "
            "(near)."
        )
        return np.arange(len(x)), (note,)
    groups = repeated(x, drop)
    stays = np.ones(len(x), bool)
    conflicts = 0
    for group in groups:
        differ = len(np.unique(y[group])) > 1
        conflicts += differ
        stays[group if differ else group[1:]] = False
    kind = "equal" if drop == "exact" else "alike (thumbnails correlate by 0.95 or more)"
    few = drop == "near" and len(x) < ENOUGH_IMAGES
    note = (
        f"Left out: {(~stays).sum():,} of {len(x):,} images, in {len(groups):,} groups that are "
        f"{kind}: all but the first of a group, and all of the {conflicts} groups whose labels "
        "differ."
        + (f" Among fewer than {ENOUGH_IMAGES} images some may have been missed." if few else "")
    )
    return np.flatnonzero(stays), (note,)


def repeated(x: np.ndarray, which: Drop) -> list[np.ndarray]:
    """Returns the groups of images that repeat each other, ascending rows each.

    Args:
        x: images ``[n, channels, height, width]``.
        which: images that count: none, equal ones (exact), or those that look alike (near).
    """
    if which == "none":
        return []
    return duplicate_groups(x) if which == "exact" else groups_of(near_pairs(x), len(x))


_BLOCK_WORDS = 2**22
"""So many 32-bit words are hashed at a time: the memory of a block is bounded, whatever a row."""


def row_hashes(x: np.ndarray) -> np.ndarray:
    """Returns a 64-bit hash of the bytes of each row, uint64 ``[n]``.

    Equal rows have equal hashes; unequal ones collide with probability about 2**-60.
    """
    flat = x.reshape(len(x), -1)
    width = flat.dtype.itemsize
    words = -(-flat.shape[1] * width // 4)
    # A fixed random odd multiplier for each 32-bit word (multilinear hashing).
    multiplier = np.random.default_rng(20180509).integers(0, 2**63, words, dtype=np.uint64) * 2 + 1
    result = np.empty(len(x), np.uint64)
    rows = max(1, _BLOCK_WORDS // words)
    for start in range(0, len(x), rows):
        block = np.ascontiguousarray(flat[start : start + rows])
        octets = np.zeros((len(block), 4 * words), np.uint8)
        octets[:, : flat.shape[1] * width] = block.view(np.uint8).reshape(len(block), -1)
        mixed = (octets.view(np.uint32) + np.uint64(1)) * multiplier
        mixed ^= mixed >> np.uint64(31)
        result[start : start + rows] = mixed.sum(axis=1, dtype=np.uint64)
    return result


def duplicate_groups(x: np.ndarray) -> list[np.ndarray]:
    """Returns the groups of two or more equal rows: arrays of ascending row numbers."""
    hashes = row_hashes(x)
    order = np.argsort(hashes, kind="stable")
    edges = np.flatnonzero(np.diff(hashes[order])) + 1
    groups = [group for group in np.split(order, edges) if len(group) > 1]
    return [same for group in groups for same in _really_equal(x, group)]


def _really_equal(x: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Divides rows of one hash by their bytes."""
    by_bytes: dict[bytes, list[int]] = {}
    for row in rows:
        by_bytes.setdefault(x[row].tobytes(), []).append(int(row))
    return [np.array(sorted(same)) for same in by_bytes.values() if len(same) > 1]
