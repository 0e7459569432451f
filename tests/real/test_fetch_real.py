"""The real MIT-BIH records against the checksums that the project keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from medrobust.data.fetching.fetch import choose_source, locate_or_fetch
from medrobust.data.registry import load_registry

pytestmark = pytest.mark.real


@pytest.fixture
def real_data() -> Path:
    folder = os.environ.get("MEDROBUST_REAL_DATA")
    if not folder:
        pytest.skip("MEDROBUST_REAL_DATA is not set")
    if not (Path(folder) / "mitbih" / "100.dat").is_file():
        pytest.skip("MEDROBUST_REAL_DATA has no mitbih records")
    return Path(folder)


@pytest.mark.parametrize("name", ["mitbih", "mitbih_ns", "mitbih_patient"])
def test_the_records_are_found_and_match_the_publishers_checksums(
    real_data: Path, tmp_path: Path, name: str
) -> None:
    dataset = load_registry()[name]
    assert choose_source(dataset, [real_data]) == (
        "physionet",
        "its files are in the raw folder",
    )
    manifest = locate_or_fetch(dataset, "physionet", [real_data], tmp_path / "down")
    assert len(manifest["files"]) == 144 and manifest["complete"]
    assert {r["check"] for r in manifest["files"]} == {"matches the publisher's checksum"}
    assert sum(r["bytes"] for r in manifest["files"]) == dataset.sources["physionet"].total_bytes
    assert not (tmp_path / "down").exists()


def test_the_kept_checksums_are_those_of_the_publishers_list(real_data: Path) -> None:
    listing = real_data / "mitbih" / "SHA256SUMS.txt"
    if not listing.is_file():
        pytest.skip("the publisher's SHA256SUMS.txt is not beside the records")
    published = dict(
        reversed(line.split(maxsplit=1)) for line in listing.read_text().splitlines() if line
    )
    files = load_registry()["mitbih"].sources["physionet"].files
    assert {f.name: f.sha256 for f in files} == {f.name: published[f.name] for f in files}
