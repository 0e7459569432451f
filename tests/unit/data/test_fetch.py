"""Fetching raw files over real sockets: resumed, checked, and honest about what went wrong."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import logging
import multiprocessing
import os
import random
import subprocess
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching import fetch, transfer
from medrobust.data.fetching.fetch import (
    choose_source,
    kaggle_credentials_present,
    locate,
    locate_or_fetch,
    manifest_paths,
    write_manifest,
)
from medrobust.data.fetching.kaggle_source import find_credential
from medrobust.data.fetching.transfer import TransferSettings, bare_url, retry_after
from medrobust.data.registry import DatasetEntry

from tests.unit.servers import Behaviour, KaggleBehaviour, file_server, kaggle_server

BLOCK = 1 << 15  # the bytes that are taken off a connection at once
CONTENT = random.Random(1).randbytes(700_000)
TRAIN, TEST = b"1.0,0.0\n" * 5000, b"0.5,1.0\n" * 1000
TOKEN = "KGAT_0123456789abcdef-very-secret"
KEY = "deadbeefdeadbeef-secret-key"


def _quick(**changes) -> TransferSettings:
    """Settings that wait for nothing; waits are noted in ``waits``."""
    waits: list[float] = []
    settings = TransferSettings(
        attempts=3, read_timeout=5.0, sleep=waits.append, jitter=lambda: 0.0, **changes
    )
    object.__setattr__(settings, "waits", waits)
    return settings


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _dataset(sources: dict) -> DatasetEntry:
    return DatasetEntry.model_validate(
        {
            "name": "two",
            "title": "Two classes",
            "adapter": "mitbih",
            "raw": "two",
            "classes": ["a", "b"],
            "shape": [4],
            "input_range": [0.0, 1.0],
            "counts": {},
            "licence": "CC0",
            "citation": ["Nobody, 2000."],
            "sources": sources,
        }
    )


def _web(
    content: bytes = CONTENT, base: str = "https://example.invalid/", **changes
) -> DatasetEntry:
    file = {"name": "x.bin", "bytes": len(content), "sha256": _sha(content), **changes}
    return _dataset({"web": {"kind": "http", "base_url": base, "files": [file]}})


def _fetch(dataset: DatasetEntry, folder: Path, url: str, source: str = "web", **options):
    options.setdefault("settings", _quick())
    raw_dirs = options.pop("raw_dirs", [])
    return locate_or_fetch(
        dataset, source, raw_dirs, folder, base_urls={source: url} if url else {}, **options
    )


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*") if p.is_file()} - {".lock"}


# ------------------------------------------------------------------ plain downloads


def test_a_file_is_downloaded_and_recorded(tmp_path: Path) -> None:
    with file_server(Behaviour({"/x.bin": CONTENT})) as url:
        manifest = _fetch(_web(), tmp_path, url)
    (record,) = manifest["files"]
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT
    assert record == {
        "name": "x.bin",
        "path": (tmp_path / "two" / "x.bin").as_posix(),
        "bytes": len(CONTENT),
        "sha256": _sha(CONTENT),
        "check": "matches the publisher's checksum",
        "origin": "downloaded",
    }
    assert manifest["complete"] and not manifest["warnings"]
    assert _names(tmp_path) == {"x.bin"}
    assert manifest_paths(manifest) == {"x.bin": tmp_path / "two" / "x.bin"}


def test_md5_and_special_characters_in_names(tmp_path: Path) -> None:
    file = {"name": "a b/ü%.bin", "md5": hashlib.md5(CONTENT).hexdigest()}
    dataset = _dataset({"web": {"kind": "http", "base_url": "https://e.org/", "files": [file]}})
    behaviour = Behaviour({"/a%20b/%C3%BC%25.bin": CONTENT})
    with file_server(behaviour) as url:
        manifest = _fetch(dataset, tmp_path, url)
    assert Path(manifest["files"][0]["path"]).read_bytes() == CONTENT
    wrong = _dataset(
        {
            "web": {
                "kind": "http",
                "base_url": "https://e.org/",
                "files": [{"name": "x.bin", "md5": "0" * 32}],
            }
        }
    )
    with file_server(Behaviour({"/x.bin": CONTENT})) as url, pytest.raises(InputError, match="md5"):
        _fetch(wrong, tmp_path / "other", url)


def test_resume_after_cut_connections(tmp_path: Path) -> None:
    """More cuts than attempts, but each brings something: only missing bytes are asked for."""
    cuts = [5, 4, 3, 2, 1]
    behaviour = Behaviour({"/x.bin": CONTENT}, cuts={"/x.bin": [n * BLOCK for n in cuts]})
    settings = _quick()
    with file_server(behaviour) as url:
        _fetch(_web(), tmp_path, url, settings=settings)
    assert len(cuts) > settings.attempts
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT
    starts = [h.get("Range") for h in behaviour.headers_of("/x.bin")]
    assert starts == [None, *(f"bytes={n * BLOCK}-" for n in (5, 9, 12, 14, 15))]
    assert behaviour.headers_of("/x.bin")[1]["If-Range"] == '"v1"'


@pytest.mark.parametrize("honour_range", [True, False])
def test_a_connection_that_is_always_cut_at_the_same_place_ends(
    tmp_path: Path, honour_range: bool
) -> None:
    cuts = [5 * BLOCK] + [0 if honour_range else 5 * BLOCK] * 99
    behaviour = Behaviour({"/x.bin": CONTENT}, cuts={"/x.bin": cuts}, honour_range=honour_range)
    with file_server(behaviour) as url, pytest.raises(InputError, match="failed 3 times"):
        _fetch(_web(), tmp_path, url)
    assert behaviour.count("/x.bin") == 4


def test_a_download_that_failed_is_resumed_by_the_next_run(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT}, cuts={"/x.bin": [12 * BLOCK, 0, 0, 0, 0]})
    with file_server(behaviour) as url:
        with pytest.raises(InputError, match=r"0\.4 MB are kept") as caught:
            _fetch(_web(), tmp_path, url)
        assert url + "x.bin" in str(caught.value)
        assert "x.bin" not in _names(tmp_path)
        behaviour.cuts.clear()
        behaviour.requests.clear()
        _fetch(_web(), tmp_path, url)
    assert [h.get("Range") for h in behaviour.headers_of("/x.bin")] == [f"bytes={12 * BLOCK}-"]
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT
    assert _names(tmp_path) == {"x.bin"}


def test_a_server_that_ignores_ranges(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT}, cuts={"/x.bin": [300_000]}, honour_range=False)
    with file_server(behaviour) as url:
        _fetch(_web(), tmp_path, url)
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT


def test_a_server_that_sends_another_range(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT}, cuts={"/x.bin": [300_000]}, wrong_range=True)
    with file_server(behaviour) as url:
        _fetch(_web(), tmp_path, url)
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_is_not_patched_together(tmp_path: Path) -> None:
    new = bytes(reversed(CONTENT))
    part = tmp_path / "two" / "x.bin.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:1000])
    part.with_name("x.bin.part.validator").write_text('"v0"')
    file = {"name": "x.bin"}
    dataset = _dataset({"web": {"kind": "http", "base_url": "https://e.org/", "files": [file]}})
    with file_server(Behaviour({"/x.bin": new})) as url:
        _fetch(dataset, tmp_path, url)
    assert (tmp_path / "two" / "x.bin").read_bytes() == new


def test_resumed_pieces_that_do_not_fit_are_fetched_anew(tmp_path: Path) -> None:
    part = tmp_path / "two" / "x.bin.part"
    part.parent.mkdir()
    part.write_bytes(b"?" * 1000)
    behaviour = Behaviour({"/x.bin": CONTENT}, etag=None)
    with file_server(behaviour) as url:
        _fetch(_web(), tmp_path, url)
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT
    assert [h.get("Range") for h in behaviour.headers_of("/x.bin")] == ["bytes=1000-", None]


def test_a_partial_file_that_nothing_vouches_for_is_not_resumed(tmp_path: Path) -> None:
    """No ETag, no checksum: the old bytes cannot be trusted, so they are not used."""
    part = tmp_path / "two" / "x.bin.part"
    part.parent.mkdir()
    part.write_bytes(b"?" * 1000)
    dataset = _dataset(
        {"web": {"kind": "http", "base_url": "https://e.org/", "files": [{"name": "x.bin"}]}}
    )
    with file_server(Behaviour({"/x.bin": CONTENT}, etag=None)) as url:
        _fetch(dataset, tmp_path, url)
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT


def test_wrong_content_is_deleted_and_both_checksums_are_named(tmp_path: Path) -> None:
    wrong = CONTENT[:-1] + b"?"
    with (
        file_server(Behaviour({"/x.bin": wrong})) as url,
        pytest.raises(InputError) as caught,
    ):
        _fetch(_web(), tmp_path, url)
    assert _sha(CONTENT) in str(caught.value) and _sha(wrong) in str(caught.value)
    assert _names(tmp_path) == set()


def test_wrong_size_and_empty_files(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT + b"more"})
    with file_server(behaviour) as url:
        with pytest.raises(InputError, match="expected 700,000 bytes, found 700,004"):
            _fetch(_web(), tmp_path, url)
        behaviour.files["/x.bin"] = b""
        bare = _dataset(
            {"web": {"kind": "http", "base_url": "https://e.org/", "files": [{"name": "x.bin"}]}}
        )
        with pytest.raises(InputError, match="it is empty"):
            _fetch(bare, tmp_path, url)
    assert _names(tmp_path) == set()


def test_a_file_that_is_shorter_on_the_server_is_reported_at_once(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT[:1000]})
    with (
        file_server(behaviour) as url,
        pytest.raises(InputError, match="expected 700,000 bytes, found 1,000"),
    ):
        _fetch(_web(), tmp_path, url)
    assert behaviour.count("/x.bin") == 1 and _names(tmp_path) == set()


def test_a_checksum_of_a_copy_does_not_stop_a_download(tmp_path: Path) -> None:
    other = CONTENT[::-1]
    dataset = _web()
    source = dataset.sources["web"].model_copy(update={"checksums_from": "copy"})
    dataset = dataset.model_copy(update={"sources": {"web": source}})
    with file_server(Behaviour({"/x.bin": other})) as url:
        manifest = _fetch(dataset, tmp_path, url)
    assert manifest["files"][0]["sha256"] == _sha(other)
    assert "differs from a public copy's" in manifest["warnings"][0]


def test_a_body_shorter_than_announced_is_never_published(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT[:1000]}, announced_extra=500, honour_range=False)
    file = {"name": "x.bin"}
    dataset = _dataset({"web": {"kind": "http", "base_url": "https://e.org/", "files": [file]}})
    with file_server(behaviour) as url, pytest.raises(InputError, match="failed 3 times"):
        _fetch(dataset, tmp_path, url)
    assert "x.bin" not in _names(tmp_path)


@pytest.mark.parametrize(
    ("status", "says"),
    [(404, "does not have this file"), (403, "refuses access"), (401, "login"), (410, "removed")],
)
def test_final_refusals_are_told_apart_and_not_repeated(
    tmp_path: Path, status: int, says: str
) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT}, statuses={"/x.bin": [status] * 9})
    with file_server(behaviour) as url, pytest.raises(InputError, match=says) as caught:
        _fetch(_web(), tmp_path, url)
    assert url + "x.bin" in str(caught.value) and "what to do" in str(caught.value)
    assert behaviour.count("/x.bin") == 1


def test_rate_limits_and_server_errors_are_waited_out(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT}, statuses={"/x.bin": [429, 503]}, retry_after="7")
    settings = _quick()
    with file_server(behaviour) as url:
        _fetch(_web(), tmp_path, url, settings=settings)
    assert settings.waits == [7.0, 2.0]
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT


def test_an_endless_rate_limit_ends(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT}, statuses={"/x.bin": [429] * 99}, retry_after="9999")
    settings = _quick()
    with file_server(behaviour) as url, pytest.raises(InputError, match="answered 429"):
        _fetch(_web(), tmp_path, url, settings=settings)
    assert behaviour.count("/x.bin") == 3
    assert max(settings.waits) == settings.longest_wait


def test_no_network(tmp_path: Path) -> None:
    with file_server(Behaviour()) as url:
        pass
    with pytest.raises(InputError, match="refused the connection") as caught:
        _fetch(_web(), tmp_path, url)
    assert "check the network" in str(caught.value)


def test_a_server_that_never_answers(tmp_path: Path) -> None:
    settings = replace(_quick(), read_timeout=0.1, attempts=2, sleep=lambda _: None)
    behaviour = Behaviour({"/x.bin": CONTENT}, delay=0.5)
    with (
        file_server(behaviour) as url,
        pytest.raises(InputError, match="did not answer in time"),
    ):
        _fetch(_web(), tmp_path, url, settings=settings)


def test_retry_after_as_date_and_nonsense() -> None:
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({"Retry-After": "-3"}) == 0.0
    assert retry_after({}) is None


def test_addresses_are_shown_without_secrets() -> None:
    assert bare_url("https://me:pw@h.org:8443/a/b?sig=1#x") == "https://h.org:8443/a/b"


# ------------------------------------------------------------------ many files, many processes


def _many(count: int = 30) -> tuple[DatasetEntry, dict[str, bytes]]:
    files = {f"r{i:03d}.dat": random.Random(i).randbytes(2000) for i in range(count)}
    listed = [{"name": n, "sha256": _sha(c)} for n, c in files.items()]
    source = {
        "kind": "physionet",
        "base_url": "https://e.org/",
        "files": listed,
        "total_bytes": 2000 * count,
    }
    return _dataset({"physionet": source}), files


def test_many_small_files_are_fetched_side_by_side(tmp_path: Path) -> None:
    dataset, files = _many()
    behaviour = Behaviour({f"/{n}": c for n, c in files.items()}, delay=0.02)
    behaviour.statuses["/r003.dat"] = [503]
    with file_server(behaviour) as url:
        manifest = _fetch(dataset, tmp_path, url, "physionet", settings=_quick(parallel=8))
    assert {n: p.read_bytes() for n, p in manifest_paths(manifest).items()} == files
    assert [r["name"] for r in manifest["files"]] == list(files)


def test_one_failure_among_many_keeps_what_arrived(tmp_path: Path) -> None:
    dataset, files = _many()
    behaviour = Behaviour({f"/{n}": c for n, c in files.items() if n != "r020.dat"})
    with file_server(behaviour) as url:
        with pytest.raises(InputError, match="404"):
            _fetch(dataset, tmp_path, url, "physionet")
        arrived = _names(tmp_path)
        assert arrived and "r020.dat" not in arrived
        behaviour.files["/r020.dat"] = files["r020.dat"]
        behaviour.requests.clear()
        _fetch(dataset, tmp_path, url, "physionet")
    asked = {path.strip("/") for _, path, _ in behaviour.requests}
    assert asked == set(files) - arrived


def _fetch_in_process(dataset_json: str, folder: str, url: str, queue) -> None:
    dataset = DatasetEntry.model_validate_json(dataset_json)
    manifest = locate_or_fetch(dataset, "physionet", [], folder, base_urls={"physionet": url})
    queue.put([(r["name"], r["sha256"]) for r in manifest["files"]])


def test_two_processes_fetch_every_file_once(tmp_path: Path) -> None:
    dataset, files = _many()
    behaviour = Behaviour({f"/{n}": c for n, c in files.items()}, delay=0.03)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with file_server(behaviour) as url:
        arguments = (dataset.model_dump_json(), str(tmp_path), url, queue)
        processes = [context.Process(target=_fetch_in_process, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
        results = [queue.get(timeout=60) for _ in processes]
        for process in processes:
            process.join(timeout=60)
    assert [p.exitcode for p in processes] == [0, 0]
    assert results[0] == results[1] == [(n, _sha(c)) for n, c in files.items()]
    assert {behaviour.count(f"/{n}") for n in files} == {1}
    assert _names(tmp_path) == set(files)


# ------------------------------------------------------------------ files put there by hand


def test_files_at_hand_are_used_and_not_touched(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "two" / "x.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(CONTENT)
    os.utime(mine, (1_000_000, 1_000_000))
    manifest = _fetch(_web(), tmp_path / "down", "", raw_dirs=[tmp_path / "mine"])
    (record,) = manifest["files"]
    assert (record["path"], record["origin"]) == (mine.as_posix(), "found")
    assert mine.stat().st_mtime == 1_000_000
    assert _names(tmp_path / "mine") == {"x.bin"} and not (tmp_path / "down").exists()


def test_the_first_raw_folder_wins_and_one_folder_below_counts(tmp_path: Path) -> None:
    for place in ("one/two/unzipped", "other/two"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "x.bin").write_bytes(CONTENT)
    raw_dirs = [tmp_path / "one", tmp_path / "other"]
    found = locate(_web(), "web", raw_dirs)
    assert found.files["x.bin"] == tmp_path / "one/two/unzipped/x.bin"
    assert locate(_web(), "web", raw_dirs[::-1]).files["x.bin"] == tmp_path / "other/two/x.bin"


def test_a_file_at_hand_comes_before_a_downloaded_one(tmp_path: Path) -> None:
    for folder in ("mine", "down"):
        (tmp_path / folder / "two").mkdir(parents=True)
        (tmp_path / folder / "two" / "x.bin").write_bytes(CONTENT)
    manifest = _fetch(_web(), tmp_path / "down", "", raw_dirs=[tmp_path / "mine"])
    assert manifest_paths(manifest)["x.bin"] == tmp_path / "mine" / "two" / "x.bin"


def test_only_what_is_missing_is_downloaded(tmp_path: Path) -> None:
    dataset, files = _many(6)
    mine = tmp_path / "mine" / "two"
    mine.mkdir(parents=True)
    for name in ("r000.dat", "r004.dat"):
        (mine / name).write_bytes(files[name])
    (mine / "r005.dat").write_bytes(b"")
    behaviour = Behaviour({f"/{n}": c for n, c in files.items()})
    with file_server(behaviour) as url:
        manifest = _fetch(
            dataset, tmp_path / "down", url, "physionet", raw_dirs=[tmp_path / "mine"]
        )
    assert behaviour.count("/r000.dat") == 0 and behaviour.count("/r005.dat") == 1
    origins = {r["name"]: r["origin"] for r in manifest["files"]}
    assert [n for n, o in origins.items() if o == "found"] == ["r000.dat", "r004.dat"]
    assert (mine / "r005.dat").read_bytes() == b""


def test_a_wrong_file_at_hand_stops_the_run(tmp_path: Path) -> None:
    mine = tmp_path / "two" / "x.bin"
    mine.parent.mkdir()
    mine.write_bytes(b"?" + CONTENT[1:])
    with pytest.raises(InputError, match="differ from what their publisher states") as caught:
        _fetch(_web(), tmp_path / "down", "", raw_dirs=[tmp_path])
    assert str(mine) in str(caught.value) and _sha(CONTENT) in str(caught.value)
    assert mine.read_bytes() == b"?" + CONTENT[1:]


def test_a_subset_is_used_as_it_is_only_if_allowed(tmp_path: Path) -> None:
    dataset, files = _many(6)
    mine = tmp_path / "two"
    mine.mkdir()
    (mine / "r001.dat").write_bytes(files["r001.dat"])
    manifest = _fetch(
        dataset, tmp_path / "down", "", "physionet", raw_dirs=[tmp_path], allow_subset=True
    )
    assert [r["name"] for r in manifest["files"]] == ["r001.dat"]
    assert not manifest["complete"] and len(manifest["missing"]) == 5
    assert "incomplete" in manifest["warnings"][0]


def test_trees_of_many_files_are_counted(tmp_path: Path) -> None:
    trees = [{"pattern": "tiles/*.png", "count": 3}]
    dataset = _dataset({"form": {"kind": "manual", "instructions": "ask them", "trees": trees}})
    tiles = tmp_path / "two" / "tiles"
    tiles.mkdir(parents=True)
    for i in range(2):
        (tiles / f"{i}.png").write_bytes(b"png")
    with pytest.raises(InputError, match=r"tiles/\*\.png \(2 of 3\)") as caught:
        _fetch(dataset, tmp_path / "down", "", "form", raw_dirs=[tmp_path])
    assert "ask them" in str(caught.value)
    (tiles / "2.png").write_bytes(b"png")
    manifest = _fetch(dataset, tmp_path / "down", "", "form", raw_dirs=[tmp_path])
    assert [r["name"] for r in manifest["files"]] == [f"tiles/{i}.png" for i in range(3)]


def test_trees_of_two_folders_keep_apart_files_of_one_name(tmp_path: Path) -> None:
    trees = [
        {"pattern": "benign/b*.png", "count": 1, "folder": "one"},
        {"pattern": "benign/*", "count": 1, "folder": "two"},
    ]
    source = {"kind": "manual", "instructions": "ask", "folders": ["one", "two"], "trees": trees}
    dataset = _dataset({"form": source})
    for folder in ("two", "__MACOSX", "one"):
        (tmp_path / folder / "benign").mkdir(parents=True)
        (tmp_path / folder / "benign" / "b.png").write_bytes(folder.encode())
        (tmp_path / folder / "benign" / "._b.png").write_bytes(b"attributes")
    manifest = _fetch(dataset, tmp_path / "down", "", "form", raw_dirs=[tmp_path])
    content = {r["name"]: Path(r["path"]).read_bytes() for r in manifest["files"]}
    assert content == {"one/benign/b.png": b"one", "two/benign/b.png": b"two"}


def test_a_release_of_which_a_part_is_missing_comes_whole_out_of_its_archive(
    tmp_path: Path,
) -> None:
    """Not a part from here and a part from there; a release that is whole is not unpacked."""
    trees = [{"pattern": "a/*.png", "count": 1}, {"pattern": "b/*.png", "count": 1}]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("a/0.png", "b/0.png"):
            file.writestr(name, b"archive")
    source = {"kind": "manual", "instructions": "ask", "archive": {"name": "t.zip"}}
    (tmp_path / "two/a").mkdir(parents=True)
    (tmp_path / "two/a/0.png").write_bytes(b"mine")
    (tmp_path / "two/t.zip").write_bytes(buffer.getvalue())
    one = _dataset({"form": {**source, "trees": trees}})
    manifest = _fetch(one, tmp_path / "down", "", "form", raw_dirs=[tmp_path])
    assert {Path(r["path"]).read_bytes() for r in manifest["files"]} == {b"archive"}

    trees = [trees[0] | {"folder": "two"}, trees[1] | {"folder": "other"}]
    both = _dataset({"form": {**source, "trees": trees, "folders": ["two", "other"]}})
    assert not locate(both, "form", [tmp_path]).complete
    with pytest.raises(InputError, match=r"b/\*\.png \(0 of 1\)"):
        _fetch(both, tmp_path / "none", "", "form", raw_dirs=[tmp_path])
    assert not list((tmp_path / "none").rglob("*.png"))


def test_copies_that_macos_leaves_beside_files_are_no_files(tmp_path: Path) -> None:
    trees = [{"pattern": "tiles/*.png", "count": 2}]
    dataset = _dataset({"form": {"kind": "manual", "instructions": "ask them", "trees": trees}})
    for folder, name in (
        ("__MACOSX", "._0"),
        ("__MACOSX", "._1"),
        ("release", "0"),
        ("release", "1"),
    ):
        tiles = tmp_path / "two" / folder / "tiles"
        tiles.mkdir(parents=True, exist_ok=True)
        (tiles / f"{name}.png").write_bytes(folder.encode())
    manifest = _fetch(dataset, tmp_path / "down", "", "form", raw_dirs=[tmp_path])
    assert {Path(r["path"]).read_bytes() for r in manifest["files"]} == {b"release"}


def test_an_archive_from_the_web_is_unpacked_and_removed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for i in range(3):
            file.writestr(f"tiles/{i}.png", b"png%d" % i)
        file.writestr("tiles/readme.txt", b"no")
    source = {
        "kind": "http",
        "base_url": "https://e.org/",
        "archive": {"name": "t.zip", "sha256": _sha(buffer.getvalue())},
        "trees": [{"pattern": "tiles/*.png", "count": 3}],
    }
    dataset = _dataset({"web": source})
    with file_server(Behaviour({"/t.zip": buffer.getvalue()})) as url:
        manifest = _fetch(dataset, tmp_path, url)
    assert _names(tmp_path) == {"0.png", "1.png", "2.png"}
    assert {r["origin"] for r in manifest["files"]} == {"unpacked from t.zip"}


@pytest.mark.parametrize("trusted", ["publisher", "copy"])
def test_an_archive_dropped_by_hand_is_held_against_the_registry(
    tmp_path: Path, trusted: str
) -> None:
    """A publisher's checksum is enforced; one read off a copy is noted. Both hashes are kept."""
    good, other = _zipped(a=b"right"), _zipped(a=b"other")
    archive = {"name": "t.zip", "bytes": len(good), "sha256": _sha(good)}
    source = {
        "kind": "http",
        "base_url": "https://e.org/",
        "checksums_from": trusted,
        "archive": archive,
        "trees": [{"pattern": "*.csv", "count": 1}],
    }
    dataset = _dataset({"web": source})

    def from_dropped(content: bytes, folder: str, **options) -> dict:
        (tmp_path / folder / "two").mkdir(parents=True)
        (tmp_path / folder / "two" / "t.zip").write_bytes(content)
        raw_dirs = [tmp_path / folder]
        return _fetch(dataset, tmp_path / folder / "down", "", raw_dirs=raw_dirs, **options)

    manifest = from_dropped(good, "good")
    (record,) = manifest["archives"]
    assert (record["sha256"], record["bytes"]) == (_sha(good), len(good))
    assert record["check"].startswith("matches") and manifest["warnings"] == []
    if trusted == "publisher":
        with pytest.raises(InputError, match="not the one that its publisher states"):
            from_dropped(other, "bad")
        assert _names(tmp_path / "bad" / "down") == set()
    noted = from_dropped(other, "noted", allow_subset=True)
    assert noted["archives"][0]["sha256"] == _sha(other)
    assert "t.zip differs" in noted["warnings"][0]


# ------------------------------------------------------------------ the disk


def test_too_little_space_is_said_before_downloading(tmp_path: Path) -> None:
    behaviour = Behaviour({"/x.bin": CONTENT})
    with (
        file_server(behaviour) as url,
        pytest.raises(InputError, match=r"needs 0\.7 MB, 0\.6 MB are free"),
    ):
        _fetch(_web(), tmp_path, url, settings=_quick(free_bytes=lambda _: 600_000))
    assert behaviour.requests == []


def test_a_disk_that_fills_up_keeps_the_partial_file(tmp_path: Path, monkeypatch) -> None:
    real_copy = transfer._copy

    def fills_up(response, file, *rest):
        class Full:
            def write(self, block):
                file.write(block[:1000])
                raise OSError(errno.ENOSPC, "No space left on device")

        real_copy(response, Full(), *rest)

    monkeypatch.setattr(transfer, "_copy", fills_up)
    with file_server(Behaviour({"/x.bin": CONTENT})) as url:
        with pytest.raises(InputError, match="No space left on the disk"):
            _fetch(_web(), tmp_path, url)
        assert "x.bin" not in _names(tmp_path)
        monkeypatch.undo()
        _fetch(_web(), tmp_path, url)
    assert (tmp_path / "two" / "x.bin").read_bytes() == CONTENT


@pytest.fixture
def tiny_disk(tmp_path: Path):
    """A real file system of 256 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_full_disk(tiny_disk: Path) -> None:
    settings = _quick(free_bytes=lambda _: 10**12)
    with (
        file_server(Behaviour({"/x.bin": CONTENT})) as url,
        pytest.raises(InputError, match="No space left on the disk"),
    ):
        _fetch(_web(), tiny_disk, url, settings=settings)
    assert "x.bin" not in _names(tiny_disk)


def test_a_download_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written to"):
        _fetch(_web(), tmp_path / "file", "http://127.0.0.1:9/")


# ------------------------------------------------------------------ Kaggle


def _heartbeat(**changes) -> DatasetEntry:
    kaggle = {
        "kind": "kaggle",
        "slug": "shayanfazeli/heartbeat",
        "account": "kaggle",
        "terms": "https://www.kaggle.com/datasets/shayanfazeli/heartbeat",
        "checksums_from": "copy",
        "archive": {"name": "heartbeat.zip", "other_names": ["archive.zip"]},
        "files": [
            {"name": "train.csv", "bytes": len(TRAIN), "sha256": _sha(TRAIN)},
            {"name": "test.csv", "bytes": len(TEST), "sha256": _sha(TEST)},
        ],
        **changes,
    }
    records = {
        "kind": "physionet",
        "base_url": "https://e.org/",
        "files": [{"name": "100.dat", "sha256": "0" * 64}],
    }
    return _dataset({"kaggle": kaggle, "physionet": records})


def _zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.csv", content)
    return buffer.getvalue()


ARCHIVE = _zipped(train=TRAIN, test=TEST, ptbdb=random.Random(2).randbytes(200_000))


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch) -> Path:
    """A home folder without credentials, so that nobody's own are ever used."""
    home = tmp_path / "home"
    (home / ".kaggle").mkdir(parents=True)
    for name in list(os.environ):
        if name.startswith("KAGGLE_") or name in ("XDG_CONFIG_HOME", "NETRC"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def at_kaggle(monkeypatch):
    """Points the real Kaggle client to a local server."""
    environments = pytest.importorskip("kagglesdk.kaggle_env")

    def point_to(url: str) -> None:
        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
        monkeypatch.setitem(environments._env_to_endpoint, environments.KaggleEnv.TEST, url)

    return point_to


def _secretless(*texts: str) -> None:
    for text in texts:
        for secret in (TOKEN, KEY, "sig-secret", base64.b64encode(f"me:{KEY}".encode()).decode()):
            assert secret not in text


@pytest.mark.parametrize("there", [None, types.ModuleType("kagglesdk")], ids=["none", "of 1.7"])
def test_kaggle_says_what_to_install(tmp_path, monkeypatch, there) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    if there is not None:
        there.KaggleClient = object
    monkeypatch.setitem(sys.modules, "kagglesdk", there)
    with pytest.raises(InputError, match="not installed, or too old") as raised:
        _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")
    assert "pip install 'kaggle>=2.0'" in str(raised.value)


def test_kaggle_end_to_end_with_a_token(tmp_path, monkeypatch, at_kaggle, caplog) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setattr(logging.getLogger("medrobust"), "propagate", True)
    caplog.set_level(logging.DEBUG)
    behaviour = KaggleBehaviour(archive=ARCHIVE, token=TOKEN)
    with kaggle_server(behaviour) as url:
        at_kaggle(url)
        manifest = _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")
    assert {n: p.read_bytes() for n, p in manifest_paths(manifest).items()} == {
        "train.csv": TRAIN,
        "test.csv": TEST,
    }
    assert {r["check"] for r in manifest["files"]} == {"matches a public copy's checksum"}
    assert _names(tmp_path / "down") == {"train.csv", "test.csv"}
    (storage,) = behaviour.headers_of("/storage/heartbeat.zip")
    assert "Authorization" not in storage
    medrobust_log = "\n".join(r.getMessage() for r in caplog.records if r.name == "medrobust")
    assert "from Kaggle" in medrobust_log
    write_manifest(tmp_path / "raw.json", manifest)
    text = (tmp_path / "raw.json").read_text()
    _secretless(text, medrobust_log)
    assert json.loads(text) == manifest


@pytest.mark.parametrize("where", ["variables", "file"])
def test_kaggle_with_a_key(tmp_path, monkeypatch, at_kaggle, no_credentials, where) -> None:
    if where == "variables":
        monkeypatch.setenv("KAGGLE_USERNAME", "me")
        monkeypatch.setenv("KAGGLE_KEY", KEY)
    else:
        path = no_credentials / ".kaggle" / "kaggle.json"
        path.write_text(json.dumps({"username": "me", "key": KEY}))
    basic = base64.b64encode(f"me:{KEY}".encode()).decode()
    with kaggle_server(KaggleBehaviour(archive=ARCHIVE, basic=basic)) as url:
        at_kaggle(url)
        manifest = _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")
    assert manifest["complete"]


def test_kaggle_download_is_resumed(tmp_path, monkeypatch, at_kaggle) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    cut = 3 * BLOCK
    behaviour = KaggleBehaviour(
        archive=ARCHIVE, token=TOKEN, cuts={"/storage/heartbeat.zip": [cut]}
    )
    with kaggle_server(behaviour) as url:
        at_kaggle(url)
        manifest = _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")
    assert manifest_paths(manifest)["train.csv"].read_bytes() == TRAIN
    headers = behaviour.headers_of("/storage/heartbeat.zip")
    assert headers[-1]["Range"] == f"bytes={cut}-"
    assert all("Authorization" not in h for h in headers)


@pytest.mark.parametrize(
    ("answer", "says", "remedy"),
    [
        ((401, "bad " + TOKEN), "does not accept the credential", "settings/api"),
        ((403, "You must accept the terms"), "its terms are not accepted", "accept the terms"),
        ((404, "nothing here"), "no such data set", "still exists"),
    ],
)
def test_kaggle_refusals(tmp_path, monkeypatch, at_kaggle, answer, says, remedy) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    behaviour = KaggleBehaviour(archive=ARCHIVE, token=TOKEN, answers=[answer] * 9)
    with kaggle_server(behaviour) as url:
        at_kaggle(url)
        with pytest.raises(InputError, match=says) as caught:
            _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")
    text = str(caught.value)
    assert remedy in text and "`physionet` needs no account" in text
    assert len(behaviour.requests) == 1
    assert caught.value.__cause__ is None
    _secretless(text)


def test_kaggle_wrong_token_is_refused_by_the_server(tmp_path, monkeypatch, at_kaggle) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "another")
    with kaggle_server(KaggleBehaviour(archive=ARCHIVE, token=TOKEN)) as url:
        at_kaggle(url)
        with pytest.raises(InputError, match="401"):
            _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")


def test_kaggle_rate_limit_is_waited_out(tmp_path, monkeypatch, at_kaggle) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    behaviour = KaggleBehaviour(
        archive=ARCHIVE, token=TOKEN, answers=[(429, "slow down"), (503, "busy")]
    )
    settings = _quick()
    with kaggle_server(behaviour) as url:
        at_kaggle(url)
        manifest = _fetch(_heartbeat(), tmp_path / "down", "", "kaggle", settings=settings)
    assert manifest["complete"] and len(settings.waits) == 2


def test_kaggle_out_of_reach(tmp_path, monkeypatch, at_kaggle) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    with kaggle_server(KaggleBehaviour()) as url:
        pass
    at_kaggle(url)
    with pytest.raises(InputError, match="refused the connection") as caught:
        _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")
    _secretless(str(caught.value))


def test_kaggle_without_a_credential_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Kaggle credential was found") as caught:
        _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")
    for text in ("KAGGLE_API_TOKEN", "~/.kaggle/access_token", "`physionet` needs no account"):
        assert text in str(caught.value)
    assert not (tmp_path / "down").exists()


@pytest.mark.parametrize("archive", [ARCHIVE[:-200], b"<html>please sign in</html>"])
def test_kaggle_broken_archive_is_not_kept(tmp_path, monkeypatch, at_kaggle, archive) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    with kaggle_server(KaggleBehaviour(archive=archive, token=TOKEN)) as url:
        at_kaggle(url)
        with pytest.raises(InputError, match=r"damaged|web page"):
            _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")
    assert _names(tmp_path / "down") == set()


def test_kaggle_archive_without_a_file(tmp_path, monkeypatch, at_kaggle) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    behaviour = KaggleBehaviour(archive=_zipped(train=TRAIN), token=TOKEN)
    with kaggle_server(behaviour) as url:
        at_kaggle(url)
        with pytest.raises(InputError, match=r"did not bring test\.csv"):
            _fetch(_heartbeat(), tmp_path / "down", "", "kaggle")


@pytest.mark.parametrize("name", ["heartbeat.zip", "archive.zip"])
def test_an_archive_dropped_by_hand_is_unpacked_without_an_account(
    tmp_path: Path, name: str
) -> None:
    mine = tmp_path / "mine" / "two" / name
    mine.parent.mkdir(parents=True)
    mine.write_bytes(ARCHIVE)
    raw_dirs = [tmp_path / "mine"]
    assert choose_source(_heartbeat(), raw_dirs)[0] == "kaggle"
    manifest = _fetch(_heartbeat(), tmp_path / "down", "", "kaggle", raw_dirs=raw_dirs)
    assert manifest_paths(manifest)["test.csv"].read_bytes() == TEST
    assert {r["origin"] for r in manifest["files"]} == {f"unpacked from {name}"}
    assert _names(tmp_path / "mine") == {name}


def _two_of_one_archive() -> tuple[DatasetEntry, DatasetEntry]:
    """Two data sets whose files come out of one archive."""
    archive = {"name": "heartbeat.zip", "other_names": ["archive.zip"], "kept": True}
    shared = {"archive": archive, "folders": ["two", "ptb"]}
    first = _heartbeat(**shared)
    other = _heartbeat(**shared, files=[{"name": "ptbdb.csv"}])
    return first, other.model_copy(update={"name": "ptb", "raw": "ptb"})


def test_an_archive_of_two_data_sets_is_downloaded_once(tmp_path, monkeypatch, at_kaggle) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    first, other = _two_of_one_archive()
    behaviour = KaggleBehaviour(archive=ARCHIVE, token=TOKEN)
    with kaggle_server(behaviour) as url:
        at_kaggle(url)
        _fetch(first, tmp_path / "down", "", "kaggle")
        assert _names(tmp_path / "down") == {"train.csv", "test.csv", "heartbeat.zip"}
        assert choose_source(other, [tmp_path / "down"])[0] == "kaggle"
        manifest = _fetch(other, tmp_path / "down", "", "kaggle")
    assert len(behaviour.headers_of("/storage/heartbeat.zip")) == 1
    (record,) = manifest["files"]
    assert record["origin"] == "unpacked from heartbeat.zip" and record["bytes"] == 200_000
    # One folder and its lock serve both, also where they are fetched at the same time.
    assert Path(record["path"]).parent == tmp_path / "down" / "two"
    assert not (tmp_path / "down" / "ptb").exists()


@pytest.mark.parametrize("folder", ["two", "ptb"])
@pytest.mark.parametrize("name", ["heartbeat.zip", "archive.zip"])
def test_an_archive_of_two_data_sets_is_found_in_either_folder(
    tmp_path: Path, folder: str, name: str
) -> None:
    mine = tmp_path / "mine" / folder / name
    mine.parent.mkdir(parents=True)
    mine.write_bytes(ARCHIVE)
    for dataset, wanted in zip(_two_of_one_archive(), ("train.csv", "ptbdb.csv"), strict=True):
        manifest = _fetch(dataset, tmp_path / "down", "", "kaggle", raw_dirs=[tmp_path / "mine"])
        assert wanted in {record["name"] for record in manifest["files"]}
    assert _names(tmp_path / "mine") == {name}


def test_another_copy_is_a_warning_and_a_known_one_is_accepted(tmp_path: Path) -> None:
    crlf = TRAIN.replace(b"\n", b"\r\n")
    mine = tmp_path / "two"
    mine.mkdir()
    (mine / "train.csv").write_bytes(crlf)
    (mine / "test.csv").write_bytes(b"other")
    files = [
        {
            "name": "train.csv",
            "bytes": len(TRAIN),
            "sha256": _sha(TRAIN),
            "alternatives": [{"bytes": len(crlf), "note": "with CRLF"}],
        },
        {"name": "test.csv", "bytes": len(TEST), "sha256": _sha(TEST)},
    ]
    dataset = _heartbeat(files=files)
    manifest = _fetch(dataset, tmp_path / "down", "", "kaggle", raw_dirs=[tmp_path])
    checks = {r["name"]: r["check"] for r in manifest["files"]}
    assert checks["train.csv"] == "accepted: with CRLF"
    assert checks["test.csv"].startswith("differs from a public copy's")
    assert len(manifest["warnings"]) == 1 and "test.csv" in manifest["warnings"][0]


@pytest.mark.parametrize(
    ("variables", "files", "place"),
    [
        ({}, {}, None),
        ({"KAGGLE_API_TOKEN": TOKEN}, {}, "KAGGLE_API_TOKEN"),
        ({"KAGGLE_API_TOKEN": " "}, {}, None),
        ({}, {"access_token": TOKEN + "\n"}, "access_token"),
        ({}, {"access_token": ""}, None),
        ({"KAGGLE_USERNAME": "me"}, {}, None),
        ({"KAGGLE_USERNAME": "me", "KAGGLE_KEY": KEY}, {}, "KAGGLE_KEY"),
        ({}, {"kaggle.json": '{"username": "me", "key": "k"}'}, "kaggle.json"),
        ({}, {"kaggle.json": '{"username": "me"}'}, None),
        ({}, {"kaggle.json": "{broken"}, None),
        ({"KAGGLE_API_TOKEN": TOKEN}, {"access_token": "t"}, "KAGGLE_API_TOKEN"),
        ({}, {"credentials.json": '{"refresh_token": "r"}'}, "credentials.json"),
    ],
)
def test_where_credentials_are_looked_for(
    monkeypatch, no_credentials, variables, files, place
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name, text in files.items():
        (no_credentials / ".kaggle" / name).write_text(text)
    found = find_credential()
    assert kaggle_credentials_present() == (place is not None)
    assert (found is None) == (place is None)
    if found is not None:
        assert place in found.place
        _secretless(repr(found), str(found))


def test_a_token_variable_may_name_a_file(monkeypatch, tmp_path: Path) -> None:
    path = tmp_path / "token.txt"
    path.write_text(TOKEN + "\n")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(path))
    credential = find_credential()
    assert credential is not None and credential.token == TOKEN


# ------------------------------------------------------------------ choosing a source


def test_the_choice_of_a_source(tmp_path: Path, monkeypatch) -> None:
    dataset, folder = _heartbeat(), tmp_path / "two"
    folder.mkdir()
    assert choose_source(dataset, [tmp_path]) == ("physionet", "it needs no account")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert choose_source(dataset, [tmp_path])[0] == "kaggle"
    (folder / "100.dat").write_bytes(b"x")
    assert choose_source(dataset, [tmp_path])[0] == "physionet"
    (folder / "train.csv").write_bytes(TRAIN)
    assert choose_source(dataset, [tmp_path])[0] == "physionet"
    (folder / "test.csv").write_bytes(b"")
    assert choose_source(dataset, [tmp_path])[0] == "physionet"
    (folder / "test.csv").write_bytes(TEST)
    assert choose_source(dataset, [tmp_path])[0] == "kaggle"


def test_the_choice_with_a_subset_and_without_any_way(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train.csv").write_bytes(TRAIN)
    dataset = _heartbeat()
    assert choose_source(dataset, [tmp_path])[0] == "physionet"
    assert choose_source(dataset, [tmp_path], allow_subset=True)[0] == "kaggle"
    only = dataset.model_copy(update={"sources": {"kaggle": dataset.sources["kaggle"]}})
    name, reason = choose_source(only, [])
    assert name == "kaggle" and "step by you" in reason
    made = _dataset({"made": {"kind": "generated"}})
    assert choose_source(made, []) == ("made", "it is generated")


def test_stand_ins_and_generated_data_have_no_raw_files(tmp_path: Path) -> None:
    made = _dataset({"made": {"kind": "generated"}})
    for source in ("standin", "made"):
        manifest = _fetch(made, tmp_path / "down", "", source)
        assert manifest["files"] == [] and manifest["source"] == source
    assert not (tmp_path / "down").exists()


def test_waiting_for_the_lock_looks_again(tmp_path: Path, monkeypatch) -> None:
    """Files that another process brought while this one waited are not downloaded again."""
    real = fetch._folder_lock
    (tmp_path / "two").mkdir()

    def brought_meanwhile(folder: Path):
        (folder / "x.bin").write_bytes(CONTENT)
        return real(folder)

    monkeypatch.setattr(fetch, "_folder_lock", brought_meanwhile)
    dataset = _dataset(
        {
            "web": {
                "kind": "http",
                "base_url": "https://e.org/",
                "archive": {"name": "t.zip"},
                "files": [{"name": "x.bin"}],
            }
        }
    )
    behaviour = Behaviour()
    with file_server(behaviour) as url:
        manifest = _fetch(dataset, tmp_path, url)
    assert behaviour.requests == [] and manifest["files"][0]["origin"] == "found"
