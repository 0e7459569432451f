"""Images that look alike are found, others are not; which of them stay."""

from __future__ import annotations

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.data.prepared.audit import AuditFinding, audit
from medrobust.data.prepared.near_duplicates import (
    ENOUGH_IMAGES,
    comparable,
    groups_of,
    least_of_few,
    near_pairs,
    row_hashes,
    thumbnails,
    without_repeats,
)
from medrobust.data.prepared.store import Prepared
from PIL import Image, ImageEnhance

from tests.unit.image_releases import picture

SIZE = 96


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR))[None]


def as_jpeg(image: Image.Image) -> Image.Image:
    buffer = BytesIO()
    image.convert("L").save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


CHANGES = {
    "half": lambda image: image.resize((150, 120)),
    "jpeg": as_jpeg,
    "bright": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "cut": lambda image: image.crop((2, 2, 298, 238)),
}


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    return [picture(seed, 300, 240) for seed in range(40)]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(originals, change: str) -> None:
    copies = [CHANGES[change](image) for image in originals[5:25]]
    x = np.stack([array(image) for image in [*originals, *copies]])
    assert near_pairs(x).tolist() == [[5 + i, 40 + i] for i in range(20)]


def test_the_bound_is_on_the_correlation_of_what_differs_from_the_mean() -> None:
    """Against NumPy's corrcoef of the thumbnails less their mean."""
    rng = np.random.default_rng(3)
    base = rng.integers(0, 256, (1, 1, 64, 64))
    x = np.clip(base + rng.integers(-40, 40, (30, 3, 64, 64)), 0, 255).astype(np.uint8)
    x[7] = x[3] // 2 + 40
    small = x.mean(axis=1).reshape(30, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(30, -1)
    np.testing.assert_allclose(thumbnails(x), small, rtol=1e-5)
    expected = np.corrcoef(small - small.mean(axis=0))
    for least in (0.05, 0.5, 0.9):
        wanted = np.argwhere(np.triu(expected >= least, 1))
        assert near_pairs(x, least).tolist() == wanted.tolist()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 100), (65, 71)])
def test_thumbnails_keep_the_mean_of_constant_images(height: int, width: int) -> None:
    x = np.full((3, 2, height, width), 77, np.uint8)
    np.testing.assert_allclose(thumbnails(x), 77)
    assert len(near_pairs(x)) == 0


def test_more_images_than_a_block(monkeypatch: pytest.MonkeyPatch, originals) -> None:
    x = np.stack([array(image) for image in [*originals, *originals[::2]]])
    whole = near_pairs(x)
    monkeypatch.setattr("medrobust.data.prepared.near_duplicates._BLOCK", 8)
    assert near_pairs(x).tolist() == whole.tolist() == [[2 * i, 40 + i] for i in range(20)]


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
def test_groups_are_connected_components(edges: list[tuple[int, int]]) -> None:
    pairs = np.array([sorted(edge) for edge in edges if edge[0] != edge[1]], int).reshape(-1, 2)
    members = {row: {row} for row in range(20)}
    for a, b in pairs.tolist():
        union = members[a] | members[b]
        for row in union:
            members[row] = union
    expected = sorted({tuple(sorted(group)) for group in members.values() if len(group) > 1})
    assert [tuple(group.tolist()) for group in groups_of(pairs, 20)] == expected


def test_which_repeated_images_stay(originals) -> None:
    changed = [CHANGES["jpeg"](originals[0]), CHANGES["bright"](originals[1])]
    x = np.stack([array(i) for i in [*originals[:4], originals[2], originals[3], *changed]])
    y = np.array([0, 0, 1, 1, 1, 0, 0, 1])
    rows, notes = without_repeats(x, y, "none")
    assert rows.tolist() == list(range(8)) and "drop_duplicates" in notes[0]
    rows, (note,) = without_repeats(x, y, "exact")
    # 2 and 4 are equal and agree; 3 and 5 are equal and do not.
    assert rows.tolist() == [0, 1, 2, 6, 7]
    assert "3 of 8" in note and "1 groups whose labels" in note
    rows, (note,) = without_repeats(x, y, "near")
    assert rows.tolist() == [0, 2] and "6 of 8" in note


def prepared(x: np.ndarray, y: list[int], folds: list, mode: list[str] | None = None) -> Prepared:
    import pandas as pd

    ids = pd.DataFrame({"row_id": range(len(x))} | ({"mode": mode} if mode else {}))
    split = [tuple(np.array(part, int) for part in fold) for fold in folds]
    return Prepared(x, np.array(y), ids, split, ("a", "b"), (0.0, 1.0), False, True)


def test_the_audit_tells_where_images_that_look_alike_are(originals) -> None:
    images = [*originals[:6], CHANGES["half"](originals[0]), CHANGES["jpeg"](originals[1])]
    x = np.stack([array(image) for image in images])
    folds = [([0, 1, 2, 3, 7], [4], [5, 6]), ([1, 2, 3, 4, 5, 7], [], [0, 6])]
    findings = {f.code: f for f in audit(prepared(x, [0, 0, 0, 1, 1, 1, 0, 1], folds))}
    assert findings["near_duplicates"].count == 2
    assert findings["near_duplicates"].rows == (0, 6, 1, 7)
    assert findings["near_duplicate_labels_differ"].rows == (1, 7)
    assert findings["near_duplicates_across_splits"].rows == (0, 6)
    assert "Fold 0: 1 pair that looks alike" in findings["near_duplicates_across_splits"].text
    codes = {f.code for f in audit(prepared(x[:6], [0, 1] * 3, [([0, 1, 2], [], [3, 4, 5])]))}
    assert "near_duplicates_uncertain" in codes and "no_near_duplicates" not in codes


def scan(seed: int, slices: int) -> np.ndarray:
    """Neighbouring slices of one scan, [slices, 1, 96, 96]: one picture that changes slowly."""
    ends = [array(picture(100 * seed + k, 300, 240)).astype(float) for k in range(2)]
    shares = np.linspace(0, 1, slices)[:, None, None, None]
    return ((1 - shares) * ends[0] + shares * ends[1]).astype(np.uint8)


def test_of_few_images_nothing_is_said_for_certain() -> None:
    """Two slices of one scan are found among many images; among few they may be missed."""
    two = scan(1, 12)[:2]
    others = np.concatenate([scan(1, 12)[2:], *(scan(k, 12) for k in range(2, 20))])
    many = np.concatenate([two, others])
    assert len(many) >= ENOUGH_IMAGES and [0, 1] in near_pairs(many).tolist()

    def found(x: np.ndarray) -> dict[str, AuditFinding]:
        fold = (np.arange(len(x) // 2), [], np.arange(len(x) // 2, len(x)))
        return {f.code: f for f in audit(prepared(x, [0, 1] * (len(x) // 2), [fold]))}

    assert "near_duplicates_uncertain" not in found(many)
    lost = 0
    for n in (2, 4, 8, 12):
        few = many[:n]
        lost += [0, 1] not in near_pairs(few).tolist()
        findings = found(few)
        assert "no_near_duplicates" not in findings
        assert f"certain of {n} " in findings["near_duplicates_uncertain"].text
        # No pair among so few loses more than the bound allows for.
        assert n < 4 or [0, 1] in near_pairs(few, least_of_few(n)).tolist()
    assert lost > 0
    unlike = np.stack([array(picture(seed, 300, 240)) for seed in range(ENOUGH_IMAGES)])
    assert found(unlike)["no_near_duplicates"].level == "info"
    assert "cannot be told for certain" in found(unlike[:50])["near_duplicates_uncertain"].text
    assert "0 pairs may" in found(unlike[:50])["near_duplicates_uncertain"].text
    note = without_repeats(many[:12], np.zeros(12, int), "near")[1][0]
    assert "some may have been missed" in note
    assert "missed" not in without_repeats(many, np.zeros(len(many), int), "near")[1][0]


def test_small_images_and_signals_are_not_compared() -> None:
    assert not comparable(np.zeros((5, 1, 28, 28), np.uint8))
    assert not comparable(np.zeros((5, 187), np.float32))
    assert not comparable(np.zeros((20_001, 1, 64, 64), np.uint8))
    assert comparable(np.zeros((5, 3, 64, 64), np.uint8))


@pytest.mark.parametrize(
    ("mode", "share"),
    [
        (["L", "L", "L", "RGB", "RGB", "RGB"], "100.0%"),
        (["L", "L", "RGB", "RGB", "RGB", "RGB"], "83.3%"),
        (["L", "L", "L", "L", "L", "L"], None),
        (["L", "RGB", "L", "RGB", "L", "L"], None),
    ],
)
def test_file_modes_that_give_classes_away(originals, mode: list[str], share: str | None) -> None:
    x = np.stack([array(image) for image in originals[:6]])
    data = prepared(x, [0, 0, 0, 1, 1, 1], [([0, 1, 3, 4], [], [2, 5])], mode)
    found = [f for f in audit(data) if f.code == "file_modes_tell_classes"]
    assert len(found) == (share is not None)
    assert not found or share in found[0].text


def test_hashing_rows_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).integers(0, 256, (400, 3, 32, 32), np.uint8)
    whole = row_hashes(x)
    monkeypatch.setattr("medrobust.data.prepared.near_duplicates._BLOCK_WORDS", 2**12)
    tracemalloc.start()
    assert np.array_equal(row_hashes(x), whole)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * x.nbytes
