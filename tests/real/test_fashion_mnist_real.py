"""The real Fashion-MNIST files: found, downloaded from a server of the same bytes, prepared."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from medrobust.data.fetching.fetch import choose_source, locate_or_fetch
from medrobust.data.fetching.transfer import TransferSettings
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import load_dataset
from medrobust.data.registry import DatasetEntry, load_registry

from tests.unit.servers import Behaviour, file_server

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def raw(real_data: Path) -> Path:
    if not (real_data / "fashion_mnist/train-images-idx3-ubyte.gz").is_file():
        pytest.skip("MEDROBUST_REAL_DATA has no fashion_mnist")
    return real_data


@pytest.fixture(scope="module")
def entry() -> DatasetEntry:
    return load_registry()["fashion_mnist"]


def test_the_files_match_the_publishers_checksums(
    raw: Path, entry: DatasetEntry, tmp_path: Path
) -> None:
    assert choose_source(entry, [raw]) == ("official", "its files are in the raw folder")
    manifest = locate_or_fetch(entry, "official", [raw], tmp_path / "down")
    assert [record["check"] for record in manifest["files"]] == [
        "matches the publisher's checksum"
    ] * 4
    assert not (tmp_path / "down").exists()


def test_they_arrive_over_a_bad_line_and_from_a_mirror(
    raw: Path, entry: DatasetEntry, tmp_path: Path
) -> None:
    """The first server cuts connections, lacks one file and has a changed one."""
    contents = {f"/{path.name}": path.read_bytes() for path in (raw / "fashion_mnist").glob("*.gz")}
    assert len(contents) == 4
    first = Behaviour(dict(contents), cuts={"/train-images-idx3-ubyte.gz": [10**6, 5 * 10**6]})
    del first.files["/train-labels-idx1-ubyte.gz"]
    first.files["/t10k-labels-idx1-ubyte.gz"] = contents["/t10k-labels-idx1-ubyte.gz"][::-1]
    second = Behaviour(contents)
    settings = TransferSettings(sleep=lambda _: None)
    with file_server(first) as one, file_server(second) as two:
        source = entry.sources["official"].model_copy(update={"base_url": one, "mirrors": [two]})
        changed = entry.model_copy(update={"sources": {"official": source}})
        manifest = locate_or_fetch(changed, "official", [], tmp_path, settings=settings)
    assert {record["origin"] for record in manifest["files"]} == {"downloaded"}
    for record in manifest["files"]:
        assert Path(record["path"]).read_bytes() == contents["/" + record["name"]]
    assert first.count("/train-images-idx3-ubyte.gz") == 3
    asked = {path for _, path, _ in second.requests}
    assert asked == {"/train-labels-idx1-ubyte.gz", "/t10k-labels-idx1-ubyte.gz"}


def test_the_release_is_prepared_as_it_is(raw: Path, entry: DatasetEntry, tmp_path: Path) -> None:
    manifest = locate_or_fetch(entry, "official", [raw], tmp_path / "down")
    facts = {
        "class_names": entry.classes,
        "shape": entry.shape,
        "official": entry.counts.official,
    }
    card = prepare(
        "fashion_mnist",
        entry.adapter,
        entry.options,
        "official",
        manifest,
        tmp_path / "d",
        1,
        facts,
    )
    assert card["source"] == "official" and card["complete"]
    assert [finding["code"] for finding in card["audit"]] == ["no_duplicates"]
    data = load_dataset(tmp_path / "d")
    sizes = [len(part) for part in (data.train_index, data.val_index, data.test_index)]
    assert sizes == [54_000, 6_000, 10_000]
    folder = raw / "fashion_mnist"
    for index, stem, ending in ((data.test_index, "t10k", 10_000), (None, "train", 60_000)):
        rows = index if index is not None else np.arange(60_000)
        x = gzip.decompress((folder / f"{stem}-images-idx3-ubyte.gz").read_bytes())
        y = gzip.decompress((folder / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
        assert data.x[rows].tobytes() == x[16:] and len(x) == 16 + 784 * ending
        assert data.y[rows].astype(np.uint8).tobytes() == y[8:]
    # No two images are equal, found in another way than the audit finds it.
    assert len({image.tobytes() for image in np.asarray(data.x)}) == 70_000
    scaled = data.points(data.test_index[:100])
    assert scaled.dtype == np.float32 and (scaled.min(), scaled.max()) == (0, 1)
