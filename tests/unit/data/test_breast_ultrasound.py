"""Breast ultrasound: masks are no images, padding, folds, the union, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching.fetch import describe_copies, locate_or_fetch
from medrobust.data.fetching.locate import locate
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import load_dataset
from medrobust.data.registry import get_dataset, load_registry
from medrobust.data.sets import breast_ultrasound
from PIL import Image

from tests.unit.image_releases import busi, busis, encoded, picture, write_files, write_zip

BOTH = {"releases": ["busi", "busis"], "folds": 3}


def labelled(content: dict[str, bytes], release: str) -> dict[str, bytes]:
    return {
        f"{release}/{name}": value
        for name, value in content.items()
        if not name.startswith("normal")
    }


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Both releases, masks included, taken for the whole ones."""
    monkeypatch.setattr(breast_ultrasound, "RELEASE", {"busi": (10, 8), "busis": (5, 7)})
    return write_files(tmp_path / "raw", labelled(busi(), "busi") | labelled(busis(), "busis"))


def of(files: dict[str, Path], release: str) -> dict[str, Path]:
    return {name: path for name, path in files.items() if name.startswith(release + "/")}


def test_masks_are_not_read_as_images(files: dict[str, Path]) -> None:
    one = {"releases": ["busi"], "folds": 3}
    data = breast_ultrasound.adapt(one, "kaggle", of(files, "busi"), seed=1)
    assert np.bincount(data.y).tolist() == [10, 8] and data.complete
    assert not any("mask" in name for name in data.ids["file"])
    assert data.x.shape == (18, 3, 224, 224) and data.x.max(axis=(1, 2, 3)).min() > 100
    # Masks are white everywhere: none of them is a row.
    assert (data.x[:, :, 112, 112].min(axis=1) < 255).all()
    assert "20 masks" in data.notes[0]


def test_pictures_are_padded_to_a_square_first(files: dict[str, Path]) -> None:
    data = breast_ultrasound.adapt(BOTH, "official", files, seed=1)
    wide, tall = 9, len(data.y) - 1
    assert data.ids["width"][wide] > data.ids["height"][wide]
    assert data.ids["width"][tall] < data.ids["height"][tall]
    edge = data.x[wide, :, :5].max(), data.x[wide, :, -5:].max(), data.x[wide, :, :, :5].max()
    assert edge[0] == edge[1] == 0 < edge[2]
    assert data.x[tall, :, :, :5].max() == data.x[tall, :, :, -5:].max() == 0
    # The middle is the picture, at one scale in both directions.
    with Image.open(files[data.ids["file"][wide]]) as image:
        scale = 224 / image.width
        inner = image.resize((224, round(image.height * scale)), Image.Resampling.BILINEAR)
    top = (224 - inner.height) // 2
    found = data.x[wide, :, top + 4 : top + inner.height - 4].astype(int)
    expected = np.moveaxis(np.asarray(inner), -1, 0)[:, 4:-4]
    assert np.abs(found - expected).mean() < 4


def test_the_union_has_both_releases(files: dict[str, Path]) -> None:
    data = breast_ultrasound.adapt(BOTH, "official", files, seed=1)
    assert np.bincount(data.y).tolist() == [15, 15]
    assert data.ids["release"].value_counts().to_dict() == {"busi": 18, "busis": 12}
    assert all(
        name.split("/")[1] == ("benign", "malignant")[label]
        for name, label in zip(data.ids["file"], data.y, strict=True)
    )
    alone = breast_ultrasound.adapt(
        {"releases": ["busis"], "folds": 3}, "official", of(files, "busis"), seed=1
    )
    assert len(alone.y) == 12


def test_folds_cover_every_image_once(files: dict[str, Path]) -> None:
    data = breast_ultrasound.adapt(BOTH, "official", files, seed=1)
    assert sorted(np.concatenate([test for _, _, test in data.folds])) == list(range(30))
    for train, val, test in data.folds:
        assert len(val) == 0 and np.bincount(data.y[test]).tolist() == [5, 5]
        assert sorted([*train, *test]) == list(range(30))
    other = breast_ultrasound.adapt(BOTH, "official", files, seed=2)
    assert not np.array_equal(data.folds[0][2], other.folds[0][2])


def test_images_are_excluded_by_name(files: dict[str, Path]) -> None:
    names = ["busi/benign/benign (2).png", "busis/malignant/case1.jpeg"]
    data = breast_ultrasound.adapt(BOTH | {"exclude": names}, "official", files, seed=1)
    assert len(data.y) == 28 and not set(names) & set(data.ids["file"]) and data.complete
    with pytest.raises(InputError, match=r"Did you mean 'busi/benign/benign \(2\)\.png'"):
        options = BOTH | {"exclude": ["benign/benign (2).png"]}
        breast_ultrasound.adapt(options, "official", files, seed=1)


def test_images_that_look_alike_across_classes_are_both_left_out(files: dict[str, Path]) -> None:
    copy = picture(3, 103, 80, "colour").resize((206, 160))
    files["busi/malignant/malignant (4).png"].write_bytes(encoded(copy, "x.png"))
    options = BOTH | {"drop_duplicates": "near"}
    data = breast_ultrasound.adapt(options, "official", files, seed=1)
    gone = {"busi/benign/benign (3).png", "busi/malignant/malignant (4).png"}
    assert len(data.y) == 28 and not gone & set(data.ids["file"])


@pytest.mark.parametrize(
    "name",
    [
        "busi/benign/malignant (1).png",
        "busi/benign/benign 1.png",
        "busi/normal/normal (1).png",
        "busis/benign/labels.xlsx",
        "busis/case1.png",
        "other/benign/benign (1).png",
    ],
)
def test_what_is_neither_image_nor_mask_is_named(files: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match="These files are not of BUSI or BUSIS") as caught:
        breast_ultrasound.adapt(BOTH, "official", files | {name: Path(name)}, seed=1)
    assert name in str(caught.value)


def test_an_incomplete_release_stops(files: dict[str, Path]) -> None:
    del files["busis/benign/case2.png"]
    with pytest.raises(InputError, match="benign: 14 found, 15 in the release"):
        breast_ultrasound.adapt(BOTH, "official", files, seed=1)
    assert not breast_ultrasound.adapt(BOTH, "official", files, seed=1, allow_subset=True).complete


def test_union_from_a_zip_and_a_folder_to_the_arrays(tmp_path: Path) -> None:
    """BUSI as the official zip, BUSIS in folders; both put there by hand."""
    raw = tmp_path / "raw"
    top = "Dataset_BUSI_with_GT"
    write_zip(raw / "busi" / "archive.zip", {f"{top}/{n}": v for n, v in busi().items()})
    entry = get_dataset(load_registry(), "bus")
    with pytest.raises(InputError, match="cvprip"):
        locate_or_fetch(entry, "official", [], tmp_path / "nothing")
    write_files(raw / "busis", busis())
    manifest = locate_or_fetch(entry, "official", [raw], tmp_path / "down", allow_subset=True)
    names = [file["name"] for file in manifest["files"]]
    assert len(names) == len(set(names)) == 18 + 12 + 2
    facts = {"class_names": entry.classes, "shape": entry.shape, "official": entry.counts.official}
    arguments = (entry.name, entry.adapter, entry.options, "official", manifest, tmp_path / "out")
    card = prepare(*arguments, 1, facts, allow_subset=True)
    assert card["source"] == "subset" and len(card["counts"]["found"]) == 5
    tests = [load_dataset(tmp_path / "out", fold).test_index for fold in range(5)]
    assert sorted(np.concatenate(tests)) == list(range(30))


def test_the_registry_agrees_with_the_adapter() -> None:
    registry = load_registry()
    for name in ("busi", "busis", "bus", "busi_unique", "busi_together", "bus_together"):
        entry = registry[name]
        options = breast_ultrasound.Options(**entry.options)
        release = np.sum([breast_ultrasound.RELEASE[r] for r in options.releases], axis=0)
        if entry.counts.official:
            assert list(entry.counts.official["all"].values()) == release.tolist()
        for source in entry.sources.values():
            assert sum(tree.count for tree in source.trees) == release.sum()
            assert {tree.folder for tree in source.trees} == set(options.releases)
            assert set(options.releases) <= set(source.folders or [entry.raw])
    assert registry["bus"].counts.paper["mirst"]["all"] == {"benign": 726, "malignant": 464}


def _copies(raw: Path) -> None:
    """Two incomplete copies of BUSI in one raw folder: the original, and a fuller, smaller one."""
    small = {name: encoded(picture(n, 64, 64, "colour"), "x.png") for n, name in enumerate(busi())}
    part = {n: v for n, v in busi().items() if "(1)" in n or n.startswith("benign/benign (2)")}
    write_files(raw / "busi" / "original", part)
    write_files(raw / "busi" / "small", {n: v for n, v in small.items() if "mask" not in n})


def test_of_two_copies_one_is_read_and_both_are_told(tmp_path: Path) -> None:
    """Never benign images from one and malignant ones from the other."""
    _copies(tmp_path / "raw")
    entry = get_dataset(load_registry(), "busi")
    arguments = [tmp_path / "raw"], tmp_path / "down"
    manifest = locate_or_fetch(entry, "kaggle", *arguments, allow_subset=True)
    assert len(manifest["files"]) == 18
    assert all("/busi/small/" in file["path"] for file in manifest["files"])
    (told,) = [text for text in manifest["warnings"] if "more than one copy" in text]
    # The manifest's words go into the card, and cards are committed: no path of the machine.
    assert "busi/small is read, not busi/original (3 files)" in told and str(tmp_path) not in told
    located = locate(entry, "kaggle", arguments[0])
    assert f"not {tmp_path}/raw/busi/original (3 files)" in describe_copies(located)
    # A copy in the raw folder itself that is the fuller one is read instead, whole.
    write_files(tmp_path / "raw" / "busi", busi(30, 30))
    manifest = locate_or_fetch(entry, "kaggle", *arguments, allow_subset=True)
    assert {Path(file["path"]).parents[1] for file in manifest["files"]} == {tmp_path / "raw/busi"}


def test_images_of_one_size_are_said_to_be_resized(tmp_path: Path) -> None:
    _copies(tmp_path / "raw")
    entry = get_dataset(load_registry(), "busi")

    def notes(folder: str) -> str:
        found = [*(tmp_path / folder).glob("benign/*"), *(tmp_path / folder).glob("malignant/*")]
        files = {f"busi/{path.parent.name}/{path.name}": path for path in found}
        options = entry.options | {"folds": 2}
        data = breast_ultrasound.adapt(options, "kaggle", files, seed=1, allow_subset=True)
        return "\n".join(data.notes)

    assert "All images of BUSI are 64 x 64 pixels" in notes("raw/busi/small")
    write_files(tmp_path / "whole", labelled(busi(), "busi"))
    assert "Somebody resized" not in notes("whole/busi")
