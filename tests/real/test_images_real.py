"""The samples of real images: read as they are meant, in the layout of the official releases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from medrobust.core.registry import ADAPTERS
from medrobust.data.fetching.fetch import locate_or_fetch
from medrobust.data.formats.images import ImageSpec, read_images
from medrobust.data.prepared.audit import audit
from medrobust.data.prepared.drawn_splits import patient_fold
from medrobust.data.prepared.near_duplicates import near_pairs
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import load_dataset
from medrobust.data.registry import DatasetEntry, get_dataset, load_registry
from medrobust.data.sets import breast_ultrasound, kather

pytestmark = pytest.mark.real


def folder_of(real_data: Path, name: str) -> Path:
    if not (real_data / name).is_dir():
        pytest.skip(f"MEDROBUST_REAL_DATA has no {name}")
    return real_data / name


def prepared(entry: DatasetEntry, source: str, raw: Path, out: Path) -> dict:
    """Fetches nothing, prepares what is there as a subset, and returns the card."""
    manifest = locate_or_fetch(entry, source, [raw], out / "none", allow_subset=True)
    facts = {"class_names": entry.classes, "shape": entry.shape, "official": entry.counts.official}
    arguments = (entry.name, entry.adapter, entry.options, source, manifest, out, 1, facts)
    return prepare(*arguments, allow_subset=True)


def test_ct_slices(real_data: Path, tmp_path: Path) -> None:
    folder_of(real_data, "sarscov2_ct")
    card = prepared(get_dataset(load_registry(), "covid_ct"), "kaggle", real_data, tmp_path)
    assert card["shape"] == [160, 1, 224, 224] and card["source"] == "subset"
    findings = {finding["code"]: finding for finding in card["audit"]}
    assert "100.0%" in findings["file_modes_tell_classes"]["text"]
    ids = load_dataset(tmp_path).ids()
    alike = [ids["file"][row] for row in findings["near_duplicates"]["rows"]]
    # Neighbouring slices of one scan.
    assert alike == ["COVID/Covid (41).png", "COVID/Covid (42).png"]


def x_rays(real_data: Path, raw: Path, sample: str) -> Path:
    """Lays a sample out as the release: the first image of each class for testing."""
    for kind in ("NORMAL", "PNEUMONIA"):
        for number, path in enumerate(sorted((real_data / sample / kind).iterdir())):
            target = raw / "chest_xray" / ("train" if number else "test") / kind / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    return raw


def test_x_rays_of_full_size(real_data: Path, tmp_path: Path) -> None:
    folder_of(real_data, "chest_xray")
    raw = x_rays(real_data, tmp_path / "raw", "chest_xray/original")
    for name, counts in (("chest_xray", [5, 5]), ("chest_xray_official", [5, 20])):
        out = tmp_path / name
        card = prepared(get_dataset(load_registry(), name), "kaggle", raw, out)
        data = load_dataset(out)
        assert np.bincount(data.y).tolist() == counts and card["shape"][1:] == [3, 96, 96]
        assert (data.ids()["patient"] != "").all()


def test_reduced_scale_on_x_rays(real_data: Path) -> None:
    """Decoding at reduced scale changes real X-rays by a fraction of a grey level."""
    paths = sorted(folder_of(real_data, "chest_xray").glob("original/*/*.jpeg"))
    full, reduced = (
        read_images(paths, ImageSpec(96, "grey", reduced=value), processes=2).x.astype(int)
        for value in (False, True)
    )
    difference = np.abs(full - reduced)
    assert 0 < difference.mean() < 0.3 and difference.max() <= 12


def test_different_people_do_not_look_alike(real_data: Path) -> None:
    """500 chest X-rays: a correlation of 0.95 is far above that of any two of them."""
    paths = sorted(folder_of(real_data, "chest_xray").glob("resized224/*/*.jpeg"))
    x = read_images(paths, ImageSpec(96, "grey"), processes=2).x
    assert len(near_pairs(x)) == 0 and 0 < len(near_pairs(x, 0.75)) < 60


def test_patients_of_the_patient_split(real_data: Path, tmp_path: Path) -> None:
    import importlib

    folder_of(real_data, "chest_xray")
    raw = x_rays(real_data, tmp_path / "raw", "chest_xray/resized224") / "chest_xray"
    files = {path.relative_to(raw).as_posix(): path for path in raw.rglob("*.jpeg")}
    adapt = importlib.import_module(ADAPTERS["chest_xray"]).adapt
    codes = {}
    for split in ("random", "patient"):
        data = adapt({"split": split}, "kaggle", files, seed=1, allow_subset=True, processes=2)
        codes[split] = {finding.code for finding in audit(data)}
        assert len(data.folds[0][2]) == 100
    assert "patients_disjoint" in codes["patient"] and "patients_shared" in codes["random"]


def test_ultrasound_masks_are_not_read(real_data: Path, tmp_path: Path) -> None:
    sample = folder_of(real_data, "busi") / "original_with_gt"
    raw = tmp_path / "raw" / "busi"
    raw.mkdir(parents=True)
    for path in sample.iterdir():
        (raw / path.name).symlink_to(path)
    card = prepared(get_dataset(load_registry(), "busi"), "kaggle", raw.parent, tmp_path / "out")
    assert card["shape"] == [24, 3, 224, 224] and len(card["counts"]["found"]) == 5
    # With everything in the two folders, masks included, the rows are the same.
    files = {
        f"busi/{path.relative_to(sample).as_posix()}": path
        for kind in ("benign", "malignant")
        for path in (sample / kind).iterdir()
    }
    options = {"releases": ["busi"]}
    data = breast_ultrasound.adapt(options, "official", files, seed=1, allow_subset=True)
    assert len(files) == 49 and np.array_equal(data.x, load_dataset(tmp_path / "out").x)


def test_ultrasound_images_in_both_classes(real_data: Path) -> None:
    """Two benign images of the sample are malignant ones as well; neither stays."""
    sample = folder_of(real_data, "busi") / "resized256_nomask"
    files = {
        f"busi/{path.relative_to(sample).as_posix()}": path
        for kind in ("benign", "malignant")
        for path in (sample / kind).iterdir()
    }
    options = {"releases": ["busi"], "drop_duplicates": "near"}
    data = breast_ultrasound.adapt(options, "official", files, seed=1, allow_subset=True)
    gone = set(files) - set(data.ids["file"])
    both = {
        *("busi/benign/benign (131).png", "busi/malignant/malignant (51).png"),
        *("busi/benign/benign (85).png", "busi/malignant/malignant (52).png"),
    }
    assert both <= gone and len(gone) < 20


def test_ultrasound_images_that_look_alike_are_tested_together(real_data: Path) -> None:
    """Plain folds train on copies of images that they test; in those of `busi_together` none is."""
    sample = folder_of(real_data, "busi") / "resized256_nomask"
    files = {
        f"busi/{path.relative_to(sample).as_posix()}": path
        for kind in ("benign", "malignant")
        for path in (sample / kind).iterdir()
    }
    crossing = {}
    for keep in ("none", "near"):
        options = {"releases": ["busi"], "keep_together": keep}
        data = breast_ultrasound.adapt(options, "official", files, seed=1, allow_subset=True)
        fold = np.empty(len(data.y), int)
        for number, (_, _, test) in enumerate(data.folds):
            fold[test] = number
        pairs = near_pairs(data.x)
        crossing[keep] = int((fold[pairs[:, 0]] != fold[pairs[:, 1]]).sum())
        malignant = [data.y[test].sum() for _, _, test in data.folds]
        assert min(malignant) >= 13 and len(pairs) == 11  # 80 malignant images in five folds
    assert crossing["none"] >= 5 and crossing["near"] == 0


def test_names_of_all_tiles_tell_class_and_slide(real_data: Path) -> None:
    """The 5,000 official names: 625 of each class, ten slides; whole slides can be for testing."""
    folder = folder_of(real_data, "kather2016") / "official_filename_manifest_LO2LN"
    lines = [
        line.split(",")[0]
        for name in ("train.csv", "test.csv")
        for line in (folder / name).read_text().splitlines()[1:]
    ]
    assert len(set(lines)) == 5000
    slides = np.array([kather.slide_of(name) for name in lines])
    assert sorted(set(slides)) == [f"CRC-Prim-HE-{number:02d}" for number in range(1, 11)]
    classes = np.array([name.split("/")[0] for name in lines])
    assert {name: int((classes == name).sum()) for name in set(classes)} == dict.fromkeys(
        kather.FOLDERS.values(), kather.PER_CLASS
    )
    two = np.isin(classes, ["06_MUCOSA", "07_ADIPOSE"])
    y = (classes[two] == "07_ADIPOSE").astype(np.int64)
    train, _, test = patient_fold(y, slides[two], 0.2, seed=1, name="kather")
    assert not set(slides[two][train]) & set(slides[two][test])
    assert min(np.bincount(y[test])) >= 30
