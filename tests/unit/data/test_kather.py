"""Colorectal tiles: two classes or eight, slides, and the archive from a server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching.fetch import locate_or_fetch
from medrobust.data.prepared.audit import audit
from medrobust.data.prepared.prepare import prepare
from medrobust.data.registry import get_dataset, load_registry
from medrobust.data.sets import kather
from PIL import Image

from tests.unit.image_releases import encoded, picture, write_files, write_zip
from tests.unit.image_releases import kather as release
from tests.unit.servers import Behaviour, file_server

TWO = {"classes": ["mucosa", "adipose"]}
EVERY = tuple(kather.FOLDERS.values())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Ten tiles of every class, taken for the whole release."""
    monkeypatch.setattr(kather, "PER_CLASS", 10)
    return write_files(tmp_path / "raw", release(10, EVERY))


def test_two_classes_as_in_the_paper(files: dict[str, Path]) -> None:
    data = kather.adapt(TWO, "official", files, seed=1)
    assert data.x.shape == (20, 3, 96, 96) and data.complete
    assert data.class_names == ("mucosa", "adipose") and data.y.tolist() == [0] * 10 + [1] * 10
    assert all(name.startswith("06_MUCOSA/") for name in data.ids["file"][:10])
    assert all(name.startswith("07_ADIPOSE/") for name in data.ids["file"][10:])
    for row in (0, 19):
        with Image.open(files[data.ids["file"][row]]) as image:
            expected = np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(data.x[row], np.moveaxis(expected, -1, 0))
    train, val, test = data.folds[0]
    assert [np.bincount(data.y[part], minlength=2).tolist() for part in (train, val, test)] == [
        [8, 8],
        [0, 0],
        [2, 2],
    ]


def test_eight_classes_and_labels_by_position(files: dict[str, Path]) -> None:
    data = kather.adapt({"classes": list(kather.FOLDERS)}, "official", files, seed=1)
    assert np.bincount(data.y).tolist() == [10] * 8
    turned = kather.adapt({"classes": ["adipose", "mucosa"]}, "official", files, seed=1)
    assert turned.ids["file"][0].startswith("07_ADIPOSE/") and turned.y[0] == 0


def test_slides_are_told_and_can_be_kept_whole(files: dict[str, Path]) -> None:
    shared = kather.adapt(TWO | {"test_share": 0.4}, "official", files, seed=1)
    assert set(shared.ids["patient"]) == {f"CRC-Prim-HE-{n:02d}" for n in range(1, 6)}
    assert "patients_shared" in {finding.code for finding in audit(shared)}
    whole = kather.adapt(TWO | {"test_share": 0.4, "split": "slide"}, "official", files, seed=1)
    assert "patients_disjoint" in {finding.code for finding in audit(whole)}
    assert all(1 <= n <= 4 for n in np.bincount(whole.y[whole.folds[0][2]]))


def test_a_split_by_slide_needs_slides(files: dict[str, Path]) -> None:
    files["06_MUCOSA/tile.tif"] = files.pop(next(n for n in files if "MUCOSA" in n))
    with pytest.raises(InputError, match="1 file names do not tell a slide"):
        kather.adapt(TWO | {"split": "slide"}, "official", files, seed=1)


def test_tiles_that_someone_enlarged_are_refused(files: dict[str, Path]) -> None:
    name = next(name for name in files if "ADIPOSE" in name)
    files[name].write_bytes(encoded(picture(9, 224, 224, "colour"), "x.tif"))
    with pytest.raises(InputError, match="1 tiles are not 150 x 150 pixels"):
        kather.adapt(TWO, "official", files, seed=1, allow_subset=True)


@pytest.mark.parametrize("name", ["06_MUCOSA/a.png", "06_mucosa/a.tif", "a.tif"])
def test_files_that_the_release_does_not_have(files: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match="not one of the release of colorectal tiles"):
        kather.adapt(TWO, "official", files | {name: Path(name)}, seed=1)


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (["mucosa", "adipos"], "adipose"),
        (["mucosa", "mucosa"], "twice"),
        (["mucosa"], "at least 2"),
    ],
)
def test_wrong_classes_are_refused(classes: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        kather.adapt({"classes": classes}, "official", {}, seed=1)


def test_from_the_archive_to_the_arrays(tmp_path: Path) -> None:
    """From a server, at the second address; the archive of another checksum is refused."""
    top = "Kather_texture_2016_image_tiles_5000"
    content = {f"{top}/{name}": value for name, value in release(6, EVERY).items()}
    made = write_zip(tmp_path / "made.zip", content).read_bytes()
    entry = get_dataset(load_registry(), "kather")
    source = entry.sources["official"]
    name = f"/second/{source.archive.name}"
    facts = {"class_names": entry.classes, "shape": entry.shape, "official": entry.counts.official}
    with file_server(Behaviour({name: made})) as url:

        def at(sha256: str) -> dict:
            archive = source.archive.model_copy(update={"bytes": len(made), "sha256": sha256})
            changes = {"archive": archive, "mirrors": [url + "second/"]}
            local = entry.model_copy(
                update={"sources": {"official": source.model_copy(update=changes)}}
            )
            addresses = {"official": url + "first/"}
            return locate_or_fetch(
                local, "official", [], tmp_path / "down", base_urls=addresses, allow_subset=True
            )

        with pytest.raises(InputError, match="sha256"):
            at("0" * 64)
        manifest = at(hashlib.sha256(made).hexdigest())
    assert len(manifest["files"]) == 48
    arguments = (entry.name, entry.adapter, entry.options, "official", manifest, tmp_path / "out")
    card = prepare(*arguments, 1, facts, allow_subset=True)
    assert card["shape"] == [12, 3, 96, 96] and card["source"] == "subset"


def test_the_registry_agrees_with_the_adapter() -> None:
    registry = load_registry()
    for name in ("kather", "kather_8"):
        entry = registry[name]
        options = kather.Options(**entry.options)
        assert options.classes == entry.classes
        y = np.repeat(np.arange(len(entry.classes)), kather.PER_CLASS)
        test = {entry.classes[c]: n for c, (_, n) in kather.shares(y, options.test_share).items()}
        assert entry.counts.official["test"] == test == dict.fromkeys(entry.classes, 125)
    trees = {tree.pattern: tree.count for tree in registry["kather"].sources["official"].trees}
    assert trees == {f"{folder}/*.tif": kather.PER_CLASS for folder in EVERY}
    assert registry["kather_slide"].options["split"] == "slide"
