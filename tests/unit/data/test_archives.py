"""Archives: only wanted members come out, and hostile or broken ones are refused whole."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.fetching.archives import ArchiveError, extract, wanted_files


def _zip(path: Path, members: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def _tar(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def _everything(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize("make", [_zip, _tar])
def test_only_wanted_members_are_written(tmp_path: Path, make) -> None:
    archive = make(
        tmp_path / "a", {"top/a.csv": b"A", "top/b.csv": b"B", "t/1.png": b"1", "u/1.png": b"2"}
    )
    out = tmp_path / "out"
    written = extract(archive, out, wanted_files(["a.csv"], ["t/*.png"]))
    assert _everything(out) == {"a.csv": b"A", "t/1.png": b"1"}
    assert written == {"a.csv": out / "a.csv", "t/1.png": out / "t/1.png"}


@pytest.mark.parametrize("make", [_zip, _tar])
def test_of_copies_within_an_archive_the_topmost_is_taken(tmp_path: Path, make) -> None:
    """The Kaggle archive of chest X-rays holds everything twice, and attributes of macOS."""
    files = {
        "x/x/train/A/1.jpeg": b"copy",
        "x/x/train/A/.DS_Store": b"no",
        "x/__MACOSX/x/train/A/._1.jpeg": b"attributes",
        "__MACOSX/train/A/1.jpeg": b"attributes",
        "x/train/A/1.jpeg": b"1",
        "x/train/A/2.jpeg": b"2",
        "x/train/A/deep/3.jpeg": b"not of this pattern",
        "x/test/A/1.jpeg": b"not of this pattern",
    }
    extract(make(tmp_path / "a", files), tmp_path / "out", wanted_files([], ["train/A/*.jpeg"]))
    assert _everything(tmp_path / "out") == {"train/A/1.jpeg": b"1", "train/A/2.jpeg": b"2"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_tar_compression(tmp_path: Path, mode: str) -> None:
    archive = _tar(tmp_path / "a.tar", {"x": b"content"}, mode)
    extract(archive, tmp_path / "out", wanted_files(["x"]))
    assert _everything(tmp_path / "out") == {"x": b"content"}


@pytest.mark.parametrize("make", [_zip, _tar])
@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:\\evil", "a/..", "c:evil", "a\nb"],
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, make, name: str) -> None:
    archive = make(tmp_path / "a", {"good": b"G", name: b"E"})
    out = tmp_path / "deep" / "out"
    with pytest.raises(ArchiveError, match="written elsewhere"):
        extract(archive, out, lambda member: member)
    assert _everything(tmp_path) == {"a": archive.read_bytes()}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_tars_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
        good = tarfile.TarInfo("good")
        good.size = 1
        file.addfile(good, io.BytesIO(b"G"))
    with pytest.raises(ArchiveError, match="link or a device"):
        extract(path, tmp_path / "out", wanted_files(["good"]))
    assert not (tmp_path / "out").exists()


def test_symlinks_in_zips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("x")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="link or a device"):
        extract(path, tmp_path / "out", wanted_files(["x"]))


def test_a_planted_link_in_the_destination_is_not_followed(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"sub/x": b"X"})
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir(), elsewhere.mkdir()
    (out / "sub").symlink_to(elsewhere)
    with pytest.raises(InputError, match="leads elsewhere"):
        extract(archive, out, lambda member: member)
    assert _everything(elsewhere) == {}


@pytest.mark.parametrize("make", [_zip, _tar])
def test_bombs_stop_before_anything_is_written(tmp_path: Path, make) -> None:
    archive = make(tmp_path / "a", {"x": b"\0" * 3_000_000})
    assert archive.stat().st_size < 20_000
    with pytest.raises(ArchiveError, match="3,000,000 bytes, more than the 1,000,000"):
        extract(archive, tmp_path / "out", wanted_files(["x"]), max_bytes=1_000_000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stated", [10, 200_000])
def test_a_zip_that_lies_about_a_size_is_damaged(tmp_path: Path, stated: int) -> None:
    """It holds 100,000 bytes: neither more nor fewer than what was stated is accepted."""
    archive = _zip(tmp_path / "a.zip", {"x": b"\0" * 100_000})
    content = archive.read_bytes()
    true_size = (100_000).to_bytes(4, "little")
    assert content.count(true_size) == 2  # before the data, and in the directory at the end
    archive.write_bytes(content.replace(true_size, stated.to_bytes(4, "little")))
    with pytest.raises(ArchiveError, match="damaged"):
        extract(archive, tmp_path / "out", wanted_files(["x"]))
    assert _everything(tmp_path / "out") == {}


@pytest.mark.parametrize("make", [_zip, _tar])
def test_too_many_members(tmp_path: Path, make) -> None:
    archive = make(tmp_path / "a", {f"m{i}": b"" for i in range(11)})
    with pytest.raises(ArchiveError, match="more than 10 members"):
        extract(archive, tmp_path / "out", wanted_files([]), max_members=10)


@pytest.mark.parametrize("make", [_zip, _tar])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_truncated_and_empty_archives(tmp_path: Path, make, keep: float) -> None:
    archive = make(tmp_path / "a", {"x": os.urandom(200_000), "y": os.urandom(1000)})
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ArchiveError, match=r"damaged|empty|neither"):
        extract(archive, tmp_path / "out", wanted_files(["x", "y"]))
    found = _everything(tmp_path / "out") if (tmp_path / "out").exists() else {}
    assert all(len(value) in (200_000, 1000) for value in found.values())


def test_truncated_plain_tar(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a", {"x": b"A" * 100_000}, "w")
    archive.write_bytes(archive.read_bytes()[:50_000])
    with pytest.raises(ArchiveError, match="damaged"):
        extract(archive, tmp_path / "out", wanted_files(["x"]))
    assert _everything(tmp_path / "out") == {}


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"x": os.urandom(10_000)})
    content = bytearray(archive.read_bytes())
    content[5000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged"):
        extract(archive, tmp_path / "out", wanted_files(["x"]))
    assert _everything(tmp_path / "out") == {}


def test_a_web_page_is_recognised(tmp_path: Path) -> None:
    page = tmp_path / "a.zip"
    page.write_text("<!DOCTYPE html><html>please sign in</html>")
    with pytest.raises(ArchiveError, match="but a web page"):
        extract(page, tmp_path / "out", wanted_files(["x"]))


def test_encrypted_and_unknown_packing(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"x": b"content"})
    original = archive.read_bytes()
    central = original.index(b"PK\x01\x02")
    flagged = bytearray(original)
    flagged[6] |= 1
    flagged[central + 8] |= 1
    archive.write_bytes(flagged)
    with pytest.raises(InputError, match="encrypted"):
        extract(archive, tmp_path / "out", wanted_files(["x"]))
    odd = bytearray(original)
    odd[8] = odd[central + 10] = 97
    archive.write_bytes(odd)
    with pytest.raises(InputError, match="cannot be read here"):
        extract(archive, tmp_path / "out", wanted_files(["x"]))


def test_two_members_for_one_file(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", {"deep/er/x": b"2", "top/x": b"1"})
    extract(archive, tmp_path / "out", wanted_files(["x"]))
    assert _everything(tmp_path / "out") == {"x": b"1"}
    archive = _zip(tmp_path / "b.zip", {"one/x": b"1", "two/x": b"2"})
    with pytest.raises(InputError, match="two files for x"):
        extract(archive, tmp_path / "out2", wanted_files(["x"]))


def test_missing_archive_and_full_disk(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        extract(tmp_path / "none.zip", tmp_path / "out", wanted_files(["x"]))

    def full(total: int) -> None:
        raise InputError(f"no room for {total}")

    archive = _zip(tmp_path / "a.zip", {"x": b"12345"})
    with pytest.raises(InputError, match="no room for 5"):
        extract(archive, tmp_path / "out", wanted_files(["x"]), before_writing=full)
    assert not (tmp_path / "out").exists()


_part = st.sampled_from(["a", "b", "..", ".", "", "C:", "x y"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(_part, min_size=1, max_size=4), min_size=1, max_size=4), st.booleans())
def test_nothing_is_ever_written_outside(tmp_path_factory, paths, as_zip: bool) -> None:
    folder = tmp_path_factory.mktemp("archive")
    members = {"/".join(parts): b"content" for parts in paths}
    members = {name: c for name, c in members.items() if name and not name.endswith("/")}
    archive = folder / "a"
    (_zip if as_zip else _tar)(archive, members)
    before = archive.read_bytes()
    try:
        written = extract(archive, folder / "in" / "out", lambda member: member)
    except InputError:
        written = None
    outside = {k: v for k, v in _everything(folder).items() if not k.startswith("in/out/")}
    assert outside == {"a": before}
    climbing = any(".." in name.split("/") or name.startswith("/") for name in members)
    assert not climbing or written is None
