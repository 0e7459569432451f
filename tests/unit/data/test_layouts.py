"""Layouts that people have: the same release under other names gives the same arrays."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.core.io import read_json, read_text_table
from medrobust.data.fetching.fetch import locate, locate_or_fetch
from medrobust.data.fetching.layouts import matching_files, official_name
from medrobust.data.registry import DatasetEntry, load_registry
from medrobust.jobs import data as jobs

from tests.unit.data.test_raw_files import csv_rows
from tests.unit.data.test_small_images import pictures, write_idx
from tests.unit.image_releases import busi, chest_xray, covid_ct, kather, write_files, write_zip
from tests.unit.msd_files import task

Files = dict[str, bytes]


def written(write: Callable[[Path], None], folder: Path) -> Files:
    write(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fashion(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part, n in (("train", 40), ("t10k", 15)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", pictures(n, 28, 28))
        labels = np.arange(n, dtype=np.uint8) % 10
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)


def heartbeats(folder: Path) -> None:
    csv_rows(folder / "ptbdb_normal.csv", 9, classes=range(1))
    csv_rows(folder / "ptbdb_abnormal.csv", 12, seed=1, classes=range(1, 2))


def volumes() -> Files:
    labels = ["background", "Anterior", "Posterior"]
    files = task("Task04_Hippocampus", "case", ["MRI"], labels, 12)
    return {name: value for name, value in files.items() if name.endswith(".nii.gz")}


def unzipped(files: Files) -> Files:
    return {name.removesuffix(".gz"): gzip.decompress(value) for name, value in files.items()}


def zipped(files: Files) -> Files:
    return {f"{name}.gz": gzip.compress(value) for name, value in files.items()}


def below(folder: str) -> Callable[[Files], Files]:
    return lambda files: {f"{folder}/{name}": value for name, value in files.items()}


def suffix(old: str, new: str) -> Callable[[Files], Files]:
    return lambda files: {name.replace(old, new): value for name, value in files.items()}


def flat(files: Files) -> Files:
    """The classes without train, val and test."""
    return {name.split("/", 1)[-1]: value for name, value in files.items()}


#: Data set, source and folder; a change of names below the raw folder (beginning with ``folder/``).
CASES: dict[str, tuple[str, str, str, Callable[[Files], Files]]] = {
    "csv.gz": ("ptbdb", "kaggle", "ptbdb", zipped),
    "csv deep": ("ptbdb", "kaggle", "ptbdb", below("heartbeat/archive")),
    "idx unpacked": ("fashion_mnist", "official", "fashion_mnist", unzipped),
    "idx as torchvision has it": (
        "fashion_mnist", "official", "fashion_mnist", below("FashionMNIST/raw"),
    ),
    "idx shallow": ("fashion_mnist", "official", ".", lambda files: files),
    "jpg": ("chest_xray", "kaggle", "chest_xray", suffix(".jpeg", ".jpg")),
    "JPG": ("chest_xray", "kaggle", "chest_xray", suffix(".jpeg", ".JPG")),
    "without train, val, test": ("chest_xray", "kaggle", "chest_xray", flat),
    "flat, jpg, deep": (
        "chest_xray",
        "kaggle",
        "chest_xray",
        lambda files: below("a/b")(suffix(".jpeg", ".jpg")(flat(files))),
    ),
    "x-rays deep": ("chest_xray", "kaggle", "chest_xray", below("chest_xray/chest_xray")),
    "x-rays in the raw folder itself": ("chest_xray", "kaggle", ".", lambda files: files),
    "small letters": ("covid_ct", "kaggle", "sarscov2_ct", suffix("COVID", "covid")),
    "PNG": ("covid_ct", "kaggle", "sarscov2_ct", suffix(".png", ".PNG")),
    "tiff": ("kather", "official", "kather2016", suffix("Col_1.tif", "Col_1.TIFF")),
    "busi deep": ("busi", "kaggle", "busi", below("a/Dataset_BUSI_with_GT")),
    "nii": ("msd_hippocampus", "official", "msd", unzipped),
    "task in the raw folder itself": ("msd_hippocampus", "official", ".", lambda files: files),
}  # fmt: skip


def release(name: str, tmp_path: Path) -> Files:
    return {
        "ptbdb": lambda: written(heartbeats, tmp_path / "made"),
        "fashion_mnist": lambda: written(fashion, tmp_path / "made"),
        "chest_xray": chest_xray,
        "covid_ct": lambda: covid_ct(12, 12),
        "kather": lambda: kather(12),
        "busi": lambda: busi(6, 6),
        "msd_hippocampus": volumes,
    }[name]()


def without_checksums(entries: Mapping[str, Any] | None = None) -> dict[str, DatasetEntry]:
    """The registry, with Fashion-MNIST of any size."""
    registry = load_registry(entries=entries)
    entry = registry["fashion_mnist"]
    source = entry.sources["official"]
    files = [file.model_copy(update={"bytes": None, "md5": None}) for file in source.files]
    changed = source.model_copy(update={"files": files})
    return registry | {"fashion_mnist": entry.model_copy(update={"sources": {"official": changed}})}


def prepared(raw: Path, out: Path, name: str, source: str) -> Path:
    work = {"dataset": name, "source": source, "allow_subset": True}
    jobs.fetch(**work, raw_dir=str(raw), manifest=str(out / "raw.json"))
    jobs.prepare(
        **work, label="subset", out_dir=str(out), seed=1, standin=None, processes=1,
        manifest=str(out / "raw.json"),
    )  # fmt: skip
    return out


@pytest.mark.parametrize("case", CASES)
def test_another_layout_gives_the_same_arrays(tmp_path: Path, monkeypatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "load_registry", without_checksums)
    name, source, folder, change = CASES[case]
    usual = load_registry()[name].raw
    files = release(name, tmp_path)
    write_files(tmp_path / "usual" / usual, files)
    write_files(tmp_path / "other" / folder, change(files))
    one = prepared(tmp_path / "usual", tmp_path / "one", name, source)
    two = prepared(tmp_path / "other", tmp_path / "two", name, source)
    manifests = [read_json(place / "raw.json") for place in (one, two)]
    for record in manifests[1]["files"]:
        assert Path(record["path"]).is_relative_to(tmp_path / "other")
    if change is flat or case.startswith("flat"):
        # Without the folders the order of rows is another one: the same X-rays, in all.
        whole = [{f["sha256"] for f in manifest["files"]} for manifest in manifests]
        assert whole[0] == whole[1] and len(whole[0]) == len(files)
        normal = [rows_of(place, 0) for place in (one, two)]
        assert normal[0] == normal[1] and len(normal[0]) == 15
        return
    names = ["x.npy", "y.npy"] if (one / "x.npy").exists() else ["splits_final.json"]
    for file in [*names, "split_fold0.csv"]:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file
    if name == "msd_hippocampus":  # packed anew, so the content is compared
        kept = [sorted((place / "nnUNet_raw").rglob("*.nii.gz")) for place in (one, two)]
        assert len(kept[0]) == len(kept[1]) == 24
        for first, second in zip(*kept, strict=True):
            assert gzip.decompress(first.read_bytes()) == gzip.decompress(second.read_bytes())
    named = [[f["name"] for f in manifest["files"]] for manifest in manifests]
    assert named[0] == named[1]


def rows_of(folder: Path, label: int) -> list[bytes]:
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    return sorted(row.tobytes() for row in x[y == label])


def test_the_releases_own_folders_are_needed_where_they_are_the_split(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "raw/chest_xray", flat(chest_xray()))
    with pytest.raises(InputError, match="none of the folders train, val and test"):
        prepared(tmp_path / "raw", tmp_path / "out", "chest_xray_official", "kaggle")
    out = prepared(tmp_path / "raw", tmp_path / "out", "chest_xray", "kaggle")
    assert set(read_text_table(out / "ids.csv")["official_split"]) == {""}


def test_an_archive_in_another_layout_is_unpacked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_zip(tmp_path / "raw/chest_xray/archive.zip", suffix(".jpeg", ".jpg")(flat(chest_xray())))
    out = prepared(tmp_path / "raw", tmp_path / "out", "chest_xray", "kaggle")
    names = [file["name"] for file in read_json(out / "raw.json")["files"]]
    assert len(names) == 55 and {n.split("/")[0] for n in names} == {"NORMAL", "PNEUMONIA"}


def test_the_usual_layout_is_preferred(tmp_path: Path) -> None:
    """Nothing is read twice, and never from two layouts."""
    entry = load_registry()["chest_xray"]
    files = chest_xray()
    write_files(tmp_path / "raw/chest_xray", files)
    write_files(tmp_path / "raw/chest_xray", suffix(".jpeg", ".jpg")(files))
    write_files(tmp_path / "raw/chest_xray", flat(files))
    located = locate(entry, "kaggle", [tmp_path / "raw"])
    paths = [path for tree in located.trees.values() for path in tree]
    assert len(paths) == len(files) and {path.suffix for path in paths} == {".jpeg"}
    assert {path.parent.parent.name for path in paths} == {"train", "val", "test"}


def test_what_a_packed_file_holds_is_compared_with_the_known_checksum(tmp_path: Path) -> None:
    import hashlib

    entry = load_registry()["ptbdb"]
    files = written(heartbeats, tmp_path / "made")
    source = entry.sources["kaggle"]
    known = [
        file.model_copy(
            update={
                "bytes": len(files[file.name]),
                "sha256": hashlib.sha256(files[file.name]).hexdigest(),
            }
        )
        for file in source.files
    ]
    exact = source.model_copy(update={"files": known, "checksums_from": "publisher"})
    entry = entry.model_copy(update={"sources": {"kaggle": exact}})
    write_files(tmp_path / "raw/ptbdb", zipped(files))
    manifest = locate_or_fetch(entry, "kaggle", [tmp_path / "raw"], tmp_path / "down")
    assert {f["check"] for f in manifest["files"]} == {
        "unpacked it matches the publisher's checksum"
    }
    path = tmp_path / "raw/ptbdb/ptbdb_normal.csv.gz"
    for content, reason in (
        (gzip.compress(files["ptbdb_normal.csv"] + b"1\n"), "bytes: expected"),
        (gzip.compress(files["ptbdb_normal.csv"])[:-20], "no complete gzip file"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=reason):
            locate_or_fetch(entry, "kaggle", [tmp_path / "raw"], tmp_path / "down")


NAMES: Mapping[tuple[str, str], str | None] = {
    ("a/train/NORMAL/x.JPG", "train/NORMAL/*.jpeg"): "train/NORMAL/x.jpeg",
    ("Train/normal/x.jpeg", "train/NORMAL/*.jpeg"): "train/NORMAL/x.jpeg",
    ("NORMAL/x.jpeg", "train/NORMAL/*.jpeg"): None,
    ("train/NORMAL/x.png", "train/NORMAL/*.jpeg"): None,
    ("benign/benign (1)_mask.png", "benign/benign (*).png"): None,
    ("benign/Benign (1).png", "benign/benign (*).png"): None,
    ("T/imagesTr/a.nii", "T/imagesTr/*.nii.gz"): "T/imagesTr/a.nii.gz",
    ("T/imagesTr/a.gz", "T/imagesTr/*.nii.gz"): None,
    ("benign/a.B.bmp", "benign/*.*"): "benign/a.B.bmp",
    ("benign/a", "benign/*.*"): None,
    ("x.png", "benign/*.png"): None,
}


@pytest.mark.parametrize(("path", "pattern"), NAMES)
def test_which_file_of_a_release_a_name_stands_for(path: str, pattern: str) -> None:
    assert official_name(PurePosixPath(path), pattern) == NAMES[path, pattern]


def test_hidden_files_are_none(tmp_path: Path) -> None:
    write_files(tmp_path, {"COVID/._a.png": b"", "COVID/a.png": b"1", "COVID/b/a.png": b"1"})
    assert matching_files(tmp_path, "COVID/*.png") == {"COVID/a.png": tmp_path / "COVID/a.png"}
