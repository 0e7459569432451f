"""Decathlon tasks: from the archive to nnU-Net's layout, the paper's split, and the audit."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.core.io import sha256_of_file
from medrobust.data.fetching.fetch import locate_or_fetch
from medrobust.data.fetching.transfer import TransferSettings
from medrobust.data.prepared.prepare_volumes import prepare_volumes
from medrobust.data.prepared.volume_previews import fullest_slice
from medrobust.data.prepared.volumes import load_volumes, standardised
from medrobust.data.registry import DatasetEntry, load_registry
from medrobust.data.sets import msd

from tests.unit.msd_files import AFFINE, packed, tar, task
from tests.unit.servers import Behaviour, file_server

NAMES = ("msd_heart", "msd_hippocampus", "msd_prostate")


def files_of(entry: DatasetEntry, cases: int | None = None) -> dict[str, bytes]:
    options = entry.options
    return task(
        options["task"],
        "case",
        options["channels"],
        options["labels"],
        cases or options["cases"],
    )


def laid_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, value in files.items():
        path = folder / "msd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value)
    return folder


def prepared(entry: DatasetEntry, raw: Path, out: Path, *, allow_subset: bool = False) -> dict:
    manifest = locate_or_fetch(entry, "official", [raw], out / "none", allow_subset=allow_subset)
    facts = {
        "class_names": entry.classes,
        "shape": entry.shape,
        "official": entry.counts.official,
        "paper": entry.counts.paper,
    }
    arguments = (entry.name, entry.adapter, entry.options, "official", manifest, out, 1, facts)
    return prepare_volumes(*arguments, allow_subset=allow_subset)


@pytest.mark.parametrize("name", ["msd_heart", "msd_prostate"])
def test_from_the_archive_on_a_server_to_nnunets_layout(tmp_path: Path, name: str) -> None:
    """The first address has another archive; the second has the right one."""
    entry = load_registry()[name]
    files = files_of(entry)
    archive = tar(files)
    source = entry.sources["official"]
    settings = TransferSettings(attempts=1, sleep=lambda _: None, jitter=lambda: 0.0)
    path = f"/second/{source.archive.name}"
    wrong = {f"/first/{source.archive.name}": tar({"a/b": b"c"}), path: archive}
    with file_server(Behaviour(wrong)) as url:
        content = source.archive.model_copy(update={"md5": hashlib.md5(archive).hexdigest()})
        changes = {"archive": content, "mirrors": [url + "second/"]}
        local = entry.model_copy(
            update={"sources": {"official": source.model_copy(update=changes)}}
        )
        locate_or_fetch(
            local, "official", [], tmp_path / "raw", settings=settings,
            base_urls={"official": url + "first/"},
        )  # fmt: skip
    card = prepared(entry, tmp_path / "raw", tmp_path / "out")
    task_name = entry.options["task"]
    assert not list((tmp_path / "raw").rglob("._*")) and not list(tmp_path.rglob("imagesTs"))
    paper = entry.counts.paper["ima"]
    found = card["counts"]["found"]["fold0"]
    assert {split: found[split]["all"] for split in paper} == {
        split: numbers["all"] for split, numbers in paper.items()
    }
    data = load_volumes(tmp_path / "out")
    stated = json.loads((data.raw / "dataset.json").read_text())
    channels = entry.options["channels"]
    assert stated == {
        "channel_names": {str(n): c for n, c in enumerate(channels)},
        "labels": {c: n for n, c in enumerate(entry.classes)},
        "numTraining": entry.options["cases"],
        "file_ending": ".nii.gz",
    }
    assert data.raw.name == {"msd_heart": "Dataset002_Heart"}.get(name, "Dataset005_Prostate")
    for row, case in enumerate(data.cases):
        raw = tmp_path / "raw/msd" / task_name
        image = nibabel.load(raw / f"imagesTr/{case}.nii.gz").get_fdata()
        image = image.reshape(*image.shape[:3], -1)
        for c in range(len(channels)):
            channel = nibabel.load(data.raw / f"imagesTr/{case}_{c:04d}.nii.gz")
            np.testing.assert_array_equal(channel.get_fdata(), image[..., c])
            np.testing.assert_allclose(channel.affine, AFFINE)
            expected = (image[..., c] - image[..., c].mean()) / image[..., c].std()
            np.testing.assert_allclose(data.image(row)[c], expected, atol=1e-5)
        label = nibabel.load(raw / f"labelsTr/{case}.nii.gz").get_fdata()
        np.testing.assert_array_equal(data.label(row), label)
    assert len(list((data.raw / "imagesTr").iterdir())) == len(data.cases) * len(channels)


def test_the_papers_split_and_the_files_that_tell_it(tmp_path: Path) -> None:
    sizes = {n: tuple(map(len, msd.paper_fold(n))) for n in (20, 260, 32)}
    assert sizes == {20: (16, 1, 3), 260: (208, 17, 35), 32: (25, 2, 5)}
    train, val, test = msd.paper_fold(260)
    # nnU-Net's recipe: shuffle by a seeded legacy generator, the first fifth is held out.
    shuffled = np.arange(260)
    np.random.RandomState(12345).shuffle(shuffled)
    np.testing.assert_array_equal(np.concatenate([val, test]), np.sort(shuffled[:52]))
    np.testing.assert_array_equal(train, np.sort(shuffled[52:]))
    assert val.max() < test.min()
    entry = load_registry()["msd_heart"]
    prepared(entry, laid_out(tmp_path / "raw", files_of(entry)), tmp_path / "out")
    data = load_volumes(tmp_path / "out")
    (told,) = json.loads((tmp_path / "out/splits_final.json").read_text())
    assert told == {
        "train": [data.cases[row] for row in data.train_index],
        "val": [data.cases[row] for row in data.val_index],
    }
    np.testing.assert_array_equal(data.test_index, msd.paper_fold(20)[2])


def test_a_subset_is_labelled_and_otherwise_refused(tmp_path: Path) -> None:
    entry = load_registry()["msd_prostate"]
    files = files_of(entry, 12)
    files["Task05_Prostate/dataset.json"] = files_of(entry)["Task05_Prostate/dataset.json"]
    raw = laid_out(tmp_path / "raw", files)
    card = prepared(entry, raw, tmp_path / "out", allow_subset=True)
    assert card["source"] == "subset" and card["cases"] == 12
    assert "SUBSET" in (tmp_path / "out/card.md").read_text()
    paths = {name: raw / "msd" / name for name in files}
    with pytest.raises(InputError, match="12 cases; the release has 32"):
        msd.adapt(entry.options, "official", paths, seed=1)


@pytest.fixture
def heart(tmp_path: Path) -> tuple[DatasetEntry, dict[str, bytes], Path]:
    entry = load_registry()["msd_heart"]
    return entry, files_of(entry), tmp_path / "raw"


IMAGE = "Task02_Heart/imagesTr/case_000.nii.gz"
LABEL = "Task02_Heart/labelsTr/case_000.nii.gz"
MASK = np.ones((8, 9, 6), np.uint8)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (LABEL, packed(MASK[:, :, :5]), "differ in shape"),
        (LABEL, packed(MASK * 2), "name no class"),
        (LABEL, packed(MASK * np.float32(0.5)), "name no class"),
        (IMAGE, packed(np.ones((8, 9, 6, 2), np.float32)), "number of channels"),
        (IMAGE, b"nonsense" * 100, "not a NIfTI volume"),
        ("Task02_Heart/dataset.json", b"{", "not JSON"),
        ("Task02_Heart/dataset.json", b"[1]", "not a list of cases"),
        ("Task02_Heart/dataset.json", b'{"training": []}', "modality"),
    ],
)
def test_what_does_not_fit_stops(heart, tmp_path: Path, name, value, says) -> None:
    entry, files, raw = heart
    laid_out(raw, files | {name: value})
    with pytest.raises(InputError, match=says):
        prepared(entry, raw, tmp_path / "out")
    assert not (tmp_path / "out/card.json").exists()


def test_an_image_without_a_mask_is_told_by_name(heart) -> None:
    entry, files, raw = heart
    laid_out(raw, files)
    paths = {name: raw / "msd" / name for name in files if name != LABEL}
    with pytest.raises(InputError, match="case_000"):
        msd.adapt(entry.options, "official", paths, seed=1)


def test_findings_of_the_audit(heart, tmp_path: Path) -> None:
    entry, files, raw = heart
    shifted = AFFINE.copy()
    shifted[0, 3] = 5
    train, _, test = msd.paper_fold(20)
    same = [f"Task02_Heart/imagesTr/case_{row:03d}.nii.gz" for row in (train[0], test[0])]
    label = f"Task02_Heart/labelsTr/case_{test[0]:03d}.nii.gz"
    shape = nibabel.Nifti1Image.from_bytes(gzip.decompress(files[same[0]])).shape
    files |= {
        same[1]: files[same[0]],
        label: packed(np.zeros(shape, np.uint8)),
    }
    other = f"Task02_Heart/labelsTr/case_{train[1]:03d}.nii.gz"
    turned = f"Task02_Heart/imagesTr/case_{train[2]:03d}.nii.gz"
    raw_of = {n: nibabel.Nifti1Image.from_bytes(gzip.decompress(files[n])) for n in (other, turned)}
    files[other] = packed(np.asarray(raw_of[other].dataobj), shifted)
    files[turned] = packed(np.asarray(raw_of[turned].dataobj), AFFINE * [-1, 1, 1, 1])
    card = prepared(entry, laid_out(raw, files), tmp_path / "out")
    findings = {finding["code"]: finding for finding in card["audit"]}
    assert findings["empty_masks"]["rows"] == [test[0]]
    assert findings["volume_grid"]["rows"] == [train[1], train[2]]
    assert findings["duplicates"]["rows"] == sorted([train[0], test[0]])
    assert findings["duplicates_across_splits"]["level"] == "warning"
    assert findings["orientations_differ"]["count"] == 2
    ids = (tmp_path / "out/ids.csv").read_text().splitlines()
    first = ids[1].split(",")
    image = load_volumes(tmp_path / "out").raw / "imagesTr/case_000_0000.nii.gz"
    assert first[3] == sha256_of_file(image)


def test_names_that_are_numbers_stay_names(tmp_path: Path) -> None:
    entry = load_registry()["msd_heart"]
    numbered = {name.replace("case_", ""): value for name, value in files_of(entry).items()}
    listing = numbered["Task02_Heart/dataset.json"].replace(b"case_", b"")
    raw = laid_out(tmp_path / "raw", numbered | {"Task02_Heart/dataset.json": listing})
    prepared(entry, raw, tmp_path / "out")
    data = load_volumes(tmp_path / "out")
    assert data.cases[:2] == ("000", "001")
    assert data.image(1).shape[1:] == data.label(1).shape


def with_header(file: bytes, place: int, form: str, *values: float) -> bytes:
    content = bytearray(gzip.decompress(file))
    struct.pack_into(form, content, place, *values)
    return gzip.compress(bytes(content))


def test_two_sizes_of_a_voxel_are_a_finding(heart, tmp_path: Path) -> None:
    """nibabel's affine says 1.25 x 1.25 x 2 mm; SimpleITK 2.5.7 reads 3 mm of the same file."""
    entry, files, raw = heart
    files |= {name: with_header(files[name], 80, "<3f", 3, 3, 3) for name in (IMAGE, LABEL)}
    card = prepared(entry, laid_out(raw, files), tmp_path / "out")
    (finding,) = [f for f in card["audit"] if f["code"] == "volume_voxel_size"]
    assert finding["level"] == "warning" and finding["rows"] == [0]
    assert "case_000" in finding["text"] and "pixdim" in finding["text"]


def test_two_positions_are_a_finding(heart, tmp_path: Path) -> None:
    """The qform of one mask is mirrored, its sform is not."""
    entry, files, raw = heart
    volume = nibabel.Nifti1Image.from_bytes(gzip.decompress(files[LABEL]))
    volume.set_sform(AFFINE, 1)
    volume.set_qform(AFFINE * [-1, 1, 1, 1], 1)
    files[LABEL] = gzip.compress(volume.to_bytes())
    card = prepared(entry, laid_out(raw, files), tmp_path / "out")
    (finding,) = [f for f in card["audit"] if f["code"] == "volume_position"]
    assert finding["level"] == "warning" and finding["rows"] == [0]
    assert finding["text"].startswith("In 1 case the header states two positions")


@pytest.mark.parametrize(("shear", "refused"), [(3e-4, True), (0.3, True), (5e-5, False)])
def test_axes_that_nnunets_reader_refuses_stop(heart, tmp_path: Path, shear, refused) -> None:
    """SimpleITK 2.5.7 opened a file with a cosine of 0.0001 between its axes, and not 0.0003."""
    entry, files, raw = heart
    sheared = AFFINE.copy()
    sheared[0, 1] = shear * AFFINE[1, 1]
    for name in (IMAGE, LABEL):
        volume = nibabel.Nifti1Image.from_bytes(gzip.decompress(files[name]))
        image = nibabel.Nifti1Image(np.asarray(volume.dataobj), sheared)
        image.set_sform(sheared, 1)
        files[name] = gzip.compress(image.to_bytes())
    laid_out(raw, files)
    if refused:
        with pytest.raises(InputError, match=r"axes are not at right angles.*case_000"):
            prepared(entry, raw, tmp_path / "out")
        assert not (tmp_path / "out/card.json").exists()
    else:
        prepared(entry, raw, tmp_path / "out")


@pytest.mark.parametrize("name", NAMES)
def test_stand_ins_are_small_marked_and_repeatable(tmp_path: Path, name: str) -> None:
    entry = load_registry()[name]

    def made(out: Path, seed: int) -> dict[str, bytes]:
        card = prepare_volumes(name, "msd", entry.options, "standin", None, out, seed, {})
        assert card["synthetic"] and card["source"] == "standin" and card["complete"]
        return {p.name: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    first = made(tmp_path / "a", 1)
    assert first == made(tmp_path / "b", 1) != made(tmp_path / "b", 2)
    assert sum(map(len, first.values())) < 3e6
    assert b"SYNTHETIC" in first["card.md"]
    data = load_volumes(tmp_path / "a")
    assert {tuple(np.unique(data.label(row))) for row in range(len(data.cases))} == {
        tuple(range(len(entry.classes)))
    }
    inside = [data.image(r)[0][data.label(r) > 0].mean() for r in range(len(data.cases))]
    assert min(inside) > 0.2


def test_small_pieces() -> None:
    assert standardised(np.full((2, 2, 2), 7.0)).tolist() == np.zeros((2, 2, 2)).tolist()
    mask = np.zeros((3, 3, 5), np.uint8)
    assert fullest_slice(mask) == 2
    mask[0, :2, 4] = 1
    mask[0, 0, 1] = 2
    assert fullest_slice(mask) == 4


def test_the_registry_agrees_with_the_adapter_and_the_paper() -> None:
    registry = load_registry()
    for name in NAMES:
        entry = registry[name]
        options = msd.Options(**entry.options)
        assert entry.form == "volumes" and options.labels == entry.classes
        assert entry.shape == [len(options.channels)]
        assert entry.counts.official == {"all": {"all": options.cases}}
        trees = {tree.pattern: tree.count for tree in entry.sources["official"].trees}
        assert trees == {
            f"{options.task}/{kind}/*.nii.gz": options.cases for kind in ("imagesTr", "labelsTr")
        }
        assert entry.sources["official"].archive.name == f"{options.task}.tar"


def hostile(name: str, kind: bytes) -> bytes:
    """An archive of the heart with one member that must not be there."""
    buffer = io.BytesIO(tar(files_of(load_registry()["msd_heart"])))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (hostile("../escaped.nii.gz", tarfile.REGTYPE), "written elsewhere"),
        (hostile("/escaped.nii.gz", tarfile.REGTYPE), "written elsewhere"),
        (hostile("Task02_Heart/imagesTr/link.nii.gz", tarfile.SYMTYPE), "link or a device"),
        (hostile("Task02_Heart/imagesTr/hard.nii.gz", tarfile.LNKTYPE), "link or a device"),
        (hostile("Task02_Heart/imagesTr/pipe.nii.gz", tarfile.FIFOTYPE), "link or a device"),
        (tar({"Task02_Heart/imagesTr/a.nii.gz": bytes(9000)})[:4000], "damaged or incomplete"),
        (b"<html>sign in</html>", "web page"),
    ],
)
def test_archives_dropped_by_hand_are_not_trusted(tmp_path: Path, value: bytes, says: str) -> None:
    entry = load_registry()["msd_heart"]
    folder = tmp_path / "raw/msd"
    folder.mkdir(parents=True)
    (folder / "Task02_Heart.tar").write_bytes(value)
    with pytest.raises(InputError, match=says):
        locate_or_fetch(entry, "official", [tmp_path / "raw"], tmp_path / "down")
    assert not list(tmp_path.rglob("*.nii.gz"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": ["Background", "a"]}, "must be 'background'"),
        ({"labels": ["background", "a", "a"]}, "'a' is there twice"),
        ({"labels": ["background", "a", "ignore"]}, "labelled 'ignore'"),
        ({"channels": ["T2", "CT"]}, "named 'CT'"),
        ({"channels": ["noNorm"]}, "named 'noNorm'"),
    ],
)
def test_labels_and_channels_that_nnunet_takes_otherwise_are_refused(changes, says):
    options = load_registry()["msd_prostate"].options | changes
    with pytest.raises(InputError, match=says):
        msd.adapt(options, "standin", {}, seed=0)
