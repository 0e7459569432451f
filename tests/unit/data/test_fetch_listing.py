"""Files that the publisher's own list of checksums tells: fetched, found, compared."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching.fetch import choose_source, locate, locate_or_fetch
from medrobust.data.fetching.transfer import TransferSettings
from medrobust.data.registry import DatasetEntry, read_checksums
from medrobust.experiment.preflight import still_to_download

from tests.unit.servers import Behaviour, file_server

RECORDS = {
    f"patient{p:03d}/s{p:04d}{suffix}": f"{p}{suffix}".encode() * 50
    for p in range(1, 4)
    for suffix in ("lre.hea", "lre.dat")
}
OTHERS = {"patient001/s0001lre.xyz": b"not wanted", "RECORDS": b"names"}
# PhysioNet writes one blank between checksum and name.
LIST = "".join(
    f"{hashlib.sha256(content).hexdigest()} {name}\n"
    for name, content in sorted({**RECORDS, **OTHERS}.items())
).encode()
SOURCE = {
    "kind": "physionet",
    "base_url": "https://e.org/",
    "listing": {
        "name": "SHA256SUMS.txt",
        "patterns": ["patient*/*.hea", "patient*/*.dat"],
        "count": 6,
    },
    "total_bytes": 7000,
    "archive": {"name": "all.zip", "delivered": False},
}
QUICK = TransferSettings(attempts=2, read_timeout=5.0, sleep=lambda _: None, jitter=lambda: 0.0)


def dataset(**changes) -> DatasetEntry:
    return DatasetEntry.model_validate(
        {
            "name": "ptb",
            "title": "Two classes",
            "adapter": "ptbdb",
            "raw": "ptb",
            "classes": ["a", "b"],
            "shape": [4],
            "input_range": [0.0, 1.0],
            "counts": {},
            "licence": "CC0",
            "citation": ["Nobody, 2000."],
            "sources": {"physionet": SOURCE | changes},
        }
    )


def fetch(folder: Path, url: str = "", entry: DatasetEntry | None = None, **options):
    base_urls = {"physionet": url} if url else {}
    return locate_or_fetch(
        entry or dataset(),
        "physionet",
        options.pop("raw_dirs", []),
        folder,
        settings=QUICK,
        base_urls=base_urls,
        **options,
    )


def served(changes: dict[str, bytes] | None = None) -> Behaviour:
    files = {"SHA256SUMS.txt": LIST, **RECORDS, **OTHERS, **(changes or {})}
    return Behaviour({f"/{name}": content for name, content in files.items()})


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_the_list_comes_first_and_tells_the_rest(tmp_path: Path) -> None:
    behaviour = served()
    with file_server(behaviour) as url:
        manifest = fetch(tmp_path, url)
    asked = [path for _, path, _ in behaviour.requests]
    assert asked[0] == "/SHA256SUMS.txt" and sorted(asked[1:]) == sorted(f"/{n}" for n in RECORDS)
    checks = {record["name"]: record["check"] for record in manifest["files"]}
    assert checks.pop("SHA256SUMS.txt") == "recorded only"
    assert checks == dict.fromkeys(sorted(RECORDS), "matches the publisher's checksum")
    assert {record["origin"] for record in manifest["files"]} == {"downloaded"}
    assert manifest["complete"]
    assert (tmp_path / "ptb/patient002/s0002lre.dat").read_bytes() == b"2lre.dat" * 50


def test_a_second_call_and_a_choice_need_no_network(tmp_path: Path) -> None:
    with file_server(served()) as url:
        fetch(tmp_path, url)
    assert choose_source(dataset(), [tmp_path])[1] == "its files are in the raw folder"
    assert {record["origin"] for record in fetch(tmp_path)["files"]} == {"found"}


def test_what_is_missing_is_counted_and_fetched_alone(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine/ptb/release-1.0.0", {**RECORDS, "SHA256SUMS.txt": LIST}).parents[1]
    (mine / "ptb/release-1.0.0/patient003/s0003lre.dat").unlink()
    found = locate(dataset(), "physionet", [mine])
    assert found.missing == ["patient003/s0003lre.dat"] and not found.complete
    assert still_to_download(found) == 7000 // 7
    behaviour = served()
    with file_server(behaviour) as url:
        manifest = fetch(tmp_path / "down", url, raw_dirs=[mine])
    assert [path for _, path, _ in behaviour.requests] == ["/patient003/s0003lre.dat"]
    assert manifest["complete"]


def test_nothing_there_means_the_list_and_all_bytes_are_missing(tmp_path: Path) -> None:
    found = locate(dataset(), "physionet", [tmp_path])
    assert found.missing == ["SHA256SUMS.txt"] and not found.anything
    assert still_to_download(found) == 7000


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    with (
        file_server(served({"patient001/s0001lre.dat": b"changed"})) as url,
        pytest.raises(InputError, match=r"s0001lre\.dat is not the expected file"),
    ):
        fetch(tmp_path, url)
    put(tmp_path / "mine/ptb", {**RECORDS, "SHA256SUMS.txt": LIST, "patient002/s0002lre.hea": b"x"})
    with pytest.raises(InputError, match=r"differ from what their publisher(?s:.*)s0002lre\.hea"):
        fetch(tmp_path / "down", raw_dirs=[tmp_path / "mine"])


def test_a_list_of_another_release_is_refused(tmp_path: Path) -> None:
    shorter = b"".join(LIST.splitlines(keepends=True)[:-1])
    with (
        file_server(served({"SHA256SUMS.txt": shorter})) as url,
        pytest.raises(InputError, match=r"names 5 files like .*; the release has 6") as caught,
    ):
        fetch(tmp_path, url)
    assert caught.value.where.endswith("ptb/SHA256SUMS.txt") and "delete it" in caught.value.remedy


def test_files_without_the_list_are_compared_once_it_is_there(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine/ptb", RECORDS).parent
    assert locate(dataset(), "physionet", [mine]).missing == ["SHA256SUMS.txt"]
    behaviour = served()
    with file_server(behaviour) as url:
        manifest = fetch(tmp_path / "down", url, raw_dirs=[mine])
    assert [path for _, path, _ in behaviour.requests] == ["/SHA256SUMS.txt"]
    assert "matches the publisher's checksum" in {r["check"] for r in manifest["files"]}


def test_a_part_without_the_list_is_a_subset_if_allowed(tmp_path: Path) -> None:
    some = {name: content for name, content in RECORDS.items() if "patient001" in name}
    mine = put(tmp_path / "mine/ptb", some).parent
    assert choose_source(dataset(), [mine], allow_subset=True)[1].startswith("some of its files")
    manifest = fetch(tmp_path / "down", raw_dirs=[mine], allow_subset=True)
    assert {r["name"] for r in manifest["files"]} == set(some) and not manifest["complete"]
    assert {r["check"] for r in manifest["files"]} == {"recorded only"}


@pytest.mark.parametrize("with_list", [True, False])
def test_an_archive_dropped_by_hand(tmp_path: Path, with_list: bool) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        content = {**RECORDS, **OTHERS} | ({"SHA256SUMS.txt": LIST} if with_list else {})
        for name, data in content.items():
            file.writestr(f"release-1.0.0/{name}", data)
    put(tmp_path / "mine/ptb", {"all.zip": buffer.getvalue()})
    behaviour = served()
    with file_server(behaviour) as url:
        manifest = fetch(tmp_path / "down", url, raw_dirs=[tmp_path / "mine"])
    asked = [path for _, path, _ in behaviour.requests]
    assert asked == ([] if with_list else ["/SHA256SUMS.txt"])
    origins = {r["name"]: r["origin"] for r in manifest["files"]}
    assert origins["patient001/s0001lre.hea"] == "unpacked from all.zip"
    assert origins["SHA256SUMS.txt"] == ("unpacked from all.zip" if with_list else "downloaded")
    assert not (tmp_path / "down/ptb/patient001/s0001lre.xyz").exists()


def test_checksum_lists_with_one_blank_two_or_a_star(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text(
        "".join(f"{i}" * 64 + f"{gap}file{i}\n" for i, gap in enumerate((" ", "  ", " *")))
    )
    assert read_checksums(path) == {f"file{i}": f"{i}" * 64 for i in range(3)}


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": None, "files": [{"name": "a", "url": "https://e.org/a"}]},
        {"archive": {"name": "all.zip", "url": "https://e.org/all.zip"}},
        {"listing": SOURCE["listing"] | {"patterns": []}},
        {"listing": SOURCE["listing"] | {"name": "../x"}},
        {"listing": SOURCE["listing"] | {"count": 0}},
    ],
)
def test_listings_that_cannot_work_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="listing"):
        dataset(**changes)
