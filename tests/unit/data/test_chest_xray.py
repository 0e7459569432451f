"""Chest X-rays: rows, balance, the three splits, patients, and the archive with its copies."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching.fetch import locate_or_fetch
from medrobust.data.prepared.audit import audit
from medrobust.data.prepared.prepare import prepare
from medrobust.data.registry import get_dataset, load_registry
from medrobust.data.sets import chest_xray
from PIL import Image

from tests.unit.image_releases import chest_xray as release
from tests.unit.image_releases import encoded, picture, write_files, write_zip
from tests.unit.servers import KaggleBehaviour, kaggle_server

FOLDERS = {"train": (9, 24), "val": (3, 8), "test": (3, 8)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A release of 15 normal and 40 pneumonia files, taken for the whole one."""
    monkeypatch.setattr(chest_xray, "RELEASE", FOLDERS)
    return write_files(tmp_path / "raw", release())


def test_the_small_release_is_what_it_is_taken_for() -> None:
    names = [name.split("/") for name in release()]
    for folder, counts in FOLDERS.items():
        of_folder = [parts[1] for parts in names if parts[0] == folder]
        assert tuple(of_folder.count(kind) for kind in chest_xray.CLASSES) == counts


def test_balanced_rows_in_three_equal_channels(files: dict[str, Path]) -> None:
    data = chest_xray.adapt({}, "kaggle", files, seed=1)
    assert data.x.shape == (30, 3, 96, 96) and data.complete
    assert (data.x[:, :1] == data.x).all()
    assert np.bincount(data.y).tolist() == [15, 15]
    train, val, test = data.folds[0]
    assert [np.bincount(data.y[p], minlength=2).tolist() for p in (train, val, test)] == [
        [12, 12],
        [0, 0],
        [3, 3],
    ]
    for row in (0, 14, 15, 29):
        with Image.open(files[data.ids["file"][row]]) as image:
            expected = np.asarray(image.convert("L").resize((96, 96), Image.Resampling.BILINEAR))
        assert np.abs(data.x[row, 0].astype(int) - expected).mean() < 0.6
        assert data.y[row] == ("PNEUMONIA" in data.ids["file"][row])
    # Grey and RGB files are both there, and the card says so.
    assert set(data.ids["mode"]) == {"L", "RGB"}
    assert "RGB" in data.notes[0]


def test_which_pneumonia_images_stay_depends_on_the_seed_alone(files: dict[str, Path]) -> None:
    chosen = [
        set(chest_xray.adapt(options, "kaggle", files, seed=seed).ids["file"])
        for seed, options in ((1, {}), (1, {"split": "patient"}), (2, {}))
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    everything = chest_xray.adapt({"balanced": False}, "kaggle", files, seed=1)
    assert set(everything.ids["file"]) == set(files)


def test_no_patient_is_divided_by_the_patient_split(files: dict[str, Path]) -> None:
    options = {"split": "patient", "balanced": False}
    data = chest_xray.adapt(options, "kaggle", files, seed=1)
    train, _, test = data.folds[0]
    patient = data.ids["patient"].to_numpy()
    assert not set(patient[train]) & set(patient[test])
    assert np.bincount(data.y[test]).tolist() == [3, 8]
    codes = {finding.code for finding in audit(data)}
    assert "patients_disjoint" in codes
    # At random, people with two images are on both sides: told as a warning.
    data = chest_xray.adapt({"balanced": False}, "kaggle", files, seed=1)
    assert "patients_shared" in {f.code for f in audit(data) if f.level == "warning"}


def test_the_official_split_is_the_release_s(files: dict[str, Path]) -> None:
    options = {"split": "official", "balanced": False}
    data = chest_xray.adapt(options, "kaggle", files, seed=1)
    for part, folder in zip(data.folds[0], ("train", "val", "test"), strict=True):
        assert all(name.startswith(folder + "/") for name in data.ids["file"][part])
        assert np.bincount(data.y[part]).tolist() == list(FOLDERS[folder])


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("train/PNEUMONIA/person23_bacteria_86.jpeg", "person23"),
        ("test/PNEUMONIA/person23_virus_99.jpeg", "person23"),
        ("train/PNEUMONIA/person230_virus_99.jpeg", "person230"),
        ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115"),
        ("train/NORMAL/IM-0011-0001-0002.jpeg", "IM-0011"),
        ("val/NORMAL/NORMAL2-IM-1430-0001.jpeg", "NORMAL2-IM-1430"),
        ("val/NORMAL/person23_virus_99.jpeg", ""),
        ("val/PNEUMONIA/scan.jpeg", ""),
    ],
)
def test_patients_are_told_by_names(name: str, patient: str) -> None:
    assert chest_xray.patient_of(name) == patient


def test_the_patient_split_needs_patients(files: dict[str, Path]) -> None:
    name = next(name for name in files if "PNEUMONIA" in name)
    path = files.pop(name)
    files["train/PNEUMONIA/scan.jpeg"] = path
    chest_xray.adapt({"balanced": False}, "kaggle", files, seed=1)
    with pytest.raises(InputError, match="1 file names do not tell a patient"):
        chest_xray.adapt({"split": "patient", "balanced": False}, "kaggle", files, seed=1)


def test_images_that_look_alike_can_be_left_out_before_balancing(files: dict[str, Path]) -> None:
    normal = [name for name in files if "/NORMAL/" in name]
    for name in normal[1:3]:
        files[name].write_bytes(encoded(picture(0, 300, 280), name))
    data = chest_xray.adapt({"drop_duplicates": "near"}, "kaggle", files, seed=1)
    assert np.bincount(data.y).tolist() == [13, 13]
    assert set(normal[1:3]).isdisjoint(data.ids["file"]) and normal[0] in set(data.ids["file"])


def test_a_broken_file_is_named(files: dict[str, Path]) -> None:
    path = next(iter(files.values()))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match="1 of 55 X-rays cannot be read") as caught:
        chest_xray.adapt({}, "kaggle", files, seed=1)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["train/NORMAL/a.png", "a.jpeg", "train/OTHER/a.jpeg"])
def test_files_that_the_release_does_not_have(files: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match="not one of the chest X-ray release"):
        chest_xray.adapt({}, "kaggle", files | {name: Path(name)}, seed=1)


def archive(folder: Path) -> bytes:
    """The archive as Kaggle sends it: everything twice, and what macOS left beside it."""
    content = {}
    for name, value in release().items():
        path, last = name.rsplit("/", 1)
        content[f"chest_xray/chest_xray/{name}"] = value
        content[f"chest_xray/__MACOSX/chest_xray/{path}/._{last}"] = b"attributes"
        content[f"chest_xray/{name}"] = value
    content["chest_xray/chest_xray/train/.DS_Store"] = b"attributes"
    return write_zip(folder / "made.zip", content).read_bytes()


def test_from_kaggle_to_the_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real client: each file once, nothing of macOS, all six folders."""
    environments = pytest.importorskip("kagglesdk.kaggle_env")
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_of-a-test")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    entry = get_dataset(load_registry(), "chest_xray_official")
    behaviour = KaggleBehaviour(
        archive=archive(tmp_path),
        token="KGAT_of-a-test",
        owner="paultimothymooney",
        name="chest-xray-pneumonia",
    )
    with kaggle_server(behaviour) as url:
        monkeypatch.setitem(environments._env_to_endpoint, environments.KaggleEnv.TEST, url)
        manifest = locate_or_fetch(entry, "kaggle", [], tmp_path / "down", allow_subset=True)
    assert sorted(file["name"] for file in manifest["files"]) == sorted(release())
    assert not (tmp_path / "down" / "chest_xray" / "chest-xray-pneumonia.zip").exists()
    facts = {"class_names": entry.classes, "shape": entry.shape, "official": entry.counts.official}
    card = prepare(
        entry.name,
        entry.adapter,
        entry.options,
        "kaggle",
        manifest,
        tmp_path / "out",
        1,
        facts,
        allow_subset=True,
    )
    assert card["source"] == "subset" and card["counts"]["found"]["fold0"]["val"] == {
        "NORMAL": 3,
        "PNEUMONIA": 8,
    }


def test_the_registry_agrees_with_the_adapter() -> None:
    registry = load_registry()
    release = chest_xray.RELEASE
    normal, pneumonia = np.sum(list(release.values()), axis=0).tolist()
    assert (normal, pneumonia) == (1583, 4273)
    for name in ("chest_xray", "chest_xray_patient"):
        assert registry[name].counts.official["all"] == {"NORMAL": 1583, "PNEUMONIA": 1583}
    test = chest_xray.shares(np.repeat([0, 1], 1583), 0.2)[0][1]
    official = registry["chest_xray"].counts.official
    assert official["test"]["NORMAL"] == test and official["train"]["PNEUMONIA"] == 1583 - test
    for entry in (registry[name] for name in registry if name.startswith("chest_xray")):
        counts = {tree.pattern: tree.count for tree in entry.sources["kaggle"].trees}
        assert counts == {
            f"{folder}/{kind}/*.jpeg": release[folder][label]
            for folder in release
            for label, kind in enumerate(chest_xray.CLASSES)
        }
        checked = chest_xray.Options(**entry.options)
        assert (checked.split == "official") == (not checked.balanced)


def test_equal_classes_are_not_said_to_be_reduced(tmp_path: Path) -> None:
    data = chest_xray.adapt(
        {}, "kaggle", write_files(tmp_path, release(20, 20)), seed=1, allow_subset=True
    )
    (note,) = [note for note in data.notes if note.startswith("Balanced")]
    assert note == "Balanced: 20 of each class; none had to be left out."
