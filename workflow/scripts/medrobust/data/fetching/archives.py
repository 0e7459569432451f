"""Taking files out of zip and tar archives that nobody vouches for.

An archive is refused as a whole if any member has an absolute path or one that climbs out of
its folder, is a link or a device, or if there are more members or bytes than expected. Only
wanted members are written, each whole or not at all, and nothing is overwritten by a second
member of the same name. ``extractall`` is never used.
"""

from __future__ import annotations

import errno
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from medrobust.core.errors import InputError
from medrobust.data.fetching.layouts import is_clutter, official_name

MAX_MEMBERS = 500_000
MAX_BYTES = 200 * 10**9
_BLOCK = 1 << 20
_MOST_PADDING = 1 << 26


@dataclass(frozen=True)
class ArchiveMember:
    """One regular file in an archive: its cleaned name, stated size in bytes, and handle."""

    name: str
    size: int
    handle: Any


class ArchiveError(InputError):
    """The archive itself is to blame: empty, damaged, hostile, or too large."""


class _DamagedError(Exception):
    """The archive cannot be read as far as it claims to go."""


def wanted_files(names: Iterable[str], patterns: Iterable[str] = ()) -> Callable[[str], str | None]:
    """Returns a selector for :func:`extract`.

    Args:
        names: files wanted by name; a member matches if its path ends with the name, so a
            folder around everything does not matter. It is written under the name.
        patterns: glob patterns of paths; a member matches if it stands for one of their files
            (:func:`medrobust.data.fetching.layouts.official_name`), and is written under that
            name. What other systems put beside files (``__MACOSX``, ``._name``) never matches.
    """
    by_last_part: dict[str, list[str]] = {}
    for name in names:
        by_last_part.setdefault(PurePosixPath(name).name, []).append(name)
    patterns = list(patterns)

    def select(member: str) -> str | None:
        path = PurePosixPath(member)
        for name in by_last_part.get(path.name, ()):
            if member == name or member.endswith("/" + name):
                return name
        if any(is_clutter(part) for part in path.parts):
            return None
        named = (official_name(path, pattern) for pattern in patterns)
        return next((name for name in named if name is not None), None)

    return select


def extract(
    archive: str | Path,
    destination: str | Path,
    select: Callable[[str], str | None],
    *,
    max_members: int = MAX_MEMBERS,
    max_bytes: int = MAX_BYTES,
    before_writing: Callable[[int], None] | None = None,
) -> dict[str, Path]:
    """Writes the selected members of ``archive`` under ``destination``.

    Args:
        archive: a zip or tar file (plain, gzip, bzip2 or xz).
        destination: the folder to write into; made if missing.
        select: member path -> relative path to write it to, or None to leave it out. Of
            several members for one path, the one nearest to the top is taken.
        max_members: bound on the members of the whole archive.
        max_bytes: bound on the bytes that are written in total.
        before_writing: called with the bytes to be written, for a look at the disk.

    Returns:
        The relative paths written, with where they lie.

    Raises:
        ArchiveError: the archive is empty, damaged, hostile, or larger than the bounds.
        InputError: it cannot be read here (encrypted, unknown packing), holds two files for
            one name, or the disk is full. Nothing half-written stays in any case.
    """
    archive, destination = Path(archive), Path(destination)
    with _reported(archive), _opened(archive) as (members, open_member):
        chosen = _chosen(members(max_members), select, archive)
        total = sum(member.size for member in chosen.values())
        if total > max_bytes:
            raise ArchiveError(
                f"This archive would unpack to {total:,} bytes, more than the {max_bytes:,} "
                "that were expected; nothing was unpacked.",
                where=str(archive),
                remedy="check that it is the official file; an archive made to fill a disk "
                "looks like this.",
            )
        if before_writing is not None:
            before_writing(total)
        return {
            name: _write(open_member, member, _inside(destination, name))
            for name, member in chosen.items()
        }


def contents(archive: str | Path, select: Callable[[str], str | None]) -> dict[str, int]:
    """Returns what :func:`extract` would write: relative path -> bytes; writes nothing.

    Raises:
        InputError: as :func:`extract`.
    """
    archive = Path(archive)
    with _reported(archive), _opened(archive) as (members, _):
        chosen = _chosen(members(MAX_MEMBERS), select, archive)
    return {name: member.size for name, member in chosen.items()}


@contextmanager
def _reported(archive: Path) -> Iterator[None]:
    """Turns what zipfile, tarfile and the decompressors raise into an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        if Path(str(error.filename)) != archive:
            raise
        raise InputError("This archive does not exist.", where=str(archive)) from None
    except (
        _DamagedError,
        EOFError,
        lzma.LZMAError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise _damaged(archive, str(error)) from None
    except NotImplementedError as error:
        raise InputError(
            f"This archive is packed in a way that cannot be read here ({error}).",
            where=str(archive),
            remedy="unpack it yourself and put the files into the same folder.",
        ) from None
    except OSError as error:
        # zipfile, tarfile and the decompressors use OSError for bad data as well: without an
        # errno, or with EINVAL after a seek that bad data asked for.
        if error.errno in (None, errno.EINVAL):
            raise _damaged(archive, str(error)) from None
        raise


def _damaged(archive: Path, reason: str) -> InputError:
    return ArchiveError(
        f"This archive is damaged or incomplete ({reason}).",
        where=str(archive),
        remedy="delete it and fetch it again.",
    )


Opened = tuple[Callable[[int], Iterator[ArchiveMember]], Callable[[ArchiveMember], IO[bytes]]]


@contextmanager
def _opened(archive: Path) -> Iterator[Opened]:
    size = archive.stat().st_size
    if size == 0:
        raise ArchiveError(
            "This archive is empty (0 bytes).",
            where=str(archive),
            remedy="delete it and fetch it again.",
        )
    with open(archive, "rb") as file:
        head = file.read(4)
    if head[:2] == b"PK":
        with zipfile.ZipFile(archive) as opened:
            yield _zip_members(opened, archive), _zip_opener(opened, archive)
        return
    try:
        tar = tarfile.open(archive)  # noqa: SIM115 (closed by the next line)
    except tarfile.ReadError:
        raise ArchiveError(
            f"This file is neither a zip nor a tar archive{_looks_like(archive)}.",
            where=str(archive),
            remedy="delete it and fetch it again; if it is a web page, a login or a proxy "
            "stood in the way.",
        ) from None
    with tar:
        yield _tar_members(tar, archive), _tar_opener(tar)


def _looks_like(archive: Path) -> str:
    with open(archive, "rb") as file:
        head = file.read(200).lstrip().lower()
    return " but a web page" if head.startswith((b"<!doctype", b"<html")) else ""


def _zip_members(
    opened: zipfile.ZipFile, archive: Path
) -> Callable[[int], Iterator[ArchiveMember]]:
    def members(limit: int) -> Iterator[ArchiveMember]:
        infos = opened.infolist()
        if len(infos) > limit:
            raise _too_many(archive, limit)
        for info in infos:
            name = _clean(info.filename, archive)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _special(archive, name)
            if not info.is_dir():
                yield ArchiveMember(name, info.file_size, info)

    return members


def _zip_opener(opened: zipfile.ZipFile, archive: Path) -> Callable[[ArchiveMember], IO[bytes]]:
    def open_member(member: ArchiveMember) -> IO[bytes]:
        if member.handle.flag_bits & 0x1:
            raise InputError(
                f"The file {member.name} in this archive is encrypted.",
                where=str(archive),
                remedy="unpack it yourself and put the files into the same folder.",
            )
        return opened.open(member.handle)

    return open_member


def _tar_members(
    opened: tarfile.TarFile, archive: Path
) -> Callable[[int], Iterator[ArchiveMember]]:
    def members(limit: int) -> Iterator[ArchiveMember]:
        stated = 0
        for count, info in enumerate(opened, start=1):
            stated += info.size
            # Skipping a member means decompressing it, so unwanted ones count as well.
            if count > limit or stated > MAX_BYTES:
                raise _too_many(archive, limit)
            name = _clean(info.name, archive)
            if not (info.isfile() or info.isdir()):
                raise _special(archive, name)
            if info.isfile():
                yield ArchiveMember(name, info.size, info)
        _check_end(opened)

    return members


def _check_end(opened: tarfile.TarFile) -> None:
    """Sees that nothing of a tar was cut off, and that its compression's check sum is right.

    tarfile stops at the first header that is not there, and reads no further than the mark of the
    end: what a gzip file states of its content stands behind it.
    """
    file = opened.fileobj
    assert file is not None
    file.seek(opened.offset)
    if len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise _DamagedError("its end is missing")
    padding = 0
    while block := file.read(_BLOCK):
        padding += len(block)
        if padding > _MOST_PADDING:
            raise _DamagedError("its end is followed by something else")


def _tar_opener(opened: tarfile.TarFile) -> Callable[[ArchiveMember], IO[bytes]]:
    def open_member(member: ArchiveMember) -> IO[bytes]:
        file = opened.extractfile(member.handle)
        if file is None:
            raise _DamagedError(f"{member.name} has no content")
        return file

    return open_member


def _clean(name: str, archive: Path) -> str:
    """Returns a member's path with forward slashes, refusing one that leaves its folder."""
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    climbs = ".." in parts or path.startswith("/") or re.match(r"^[A-Za-z]:", path)
    if climbs or any(ord(character) < 32 for character in path):
        raise ArchiveError(
            f"This archive holds a file that would be written elsewhere: {name!r}. "
            "Nothing was unpacked.",
            where=str(archive),
            remedy="do not use this archive; fetch the official one.",
        )
    return "/".join(parts)


def _special(archive: Path, name: str) -> InputError:
    return ArchiveError(
        f"This archive holds a link or a device: {name!r}. Nothing was unpacked.",
        where=str(archive),
        remedy="do not use this archive; fetch the official one, or unpack it yourself after "
        "looking at it.",
    )


def _too_many(archive: Path, limit: int) -> InputError:
    return ArchiveError(
        f"This archive holds more than {limit:,} members or {MAX_BYTES:,} bytes; "
        "nothing was unpacked.",
        where=str(archive),
        remedy="check that it is the official file.",
    )


def _chosen(
    members: Iterator[ArchiveMember], select: Callable[[str], str | None], archive: Path
) -> dict[str, ArchiveMember]:
    """Returns the member to write for each path; all members are looked at before any write."""
    chosen: dict[str, ArchiveMember] = {}
    rivals: dict[str, str] = {}
    empty = True
    for member in members:
        empty = False
        target = select(member.name) if member.name else None
        if target is None:
            continue
        depth = member.name.count("/")
        present = chosen.get(target)
        if present is None or depth < present.name.count("/"):
            chosen[target] = member
            rivals.pop(target, None)
        elif depth == present.name.count("/"):
            rivals[target] = member.name
    if empty:
        raise ArchiveError(
            "This archive holds no files.",
            where=str(archive),
            remedy="delete it and fetch it again.",
        )
    if rivals:
        target, other = next(iter(rivals.items()))
        raise InputError(
            f"This archive holds two files for {target}: {chosen[target].name} and {other}.",
            where=str(archive),
            remedy="unpack it yourself and put the right one into the same folder.",
        )
    folders = {parent.as_posix() for name in chosen for parent in PurePosixPath(name).parents}
    both = sorted(folders & set(chosen))
    if both:
        raise ArchiveError(
            f"This archive holds {both[0]!r} both as a file and as a folder.",
            where=str(archive),
            remedy="do not use this archive; fetch the official one.",
        )
    return chosen


def _inside(destination: Path, name: str) -> Path:
    """Returns destination/name, refusing to follow a link out of ``destination``."""
    target = destination / name
    if not target.parent.resolve().is_relative_to(destination.resolve()):
        raise InputError(
            f"The folder of {name} is a link that leads elsewhere; nothing is written there.",
            where=str(target.parent),
            remedy="remove the link.",
        )
    return target


def _write(
    open_member: Callable[[ArchiveMember], IO[bytes]], member: ArchiveMember, target: Path
) -> Path:
    from medrobust.core.io import atomic_path

    with atomic_path(target) as temporary:
        written = 0
        with open_member(member) as source, open(temporary, "wb") as out:
            while block := source.read(_BLOCK):
                written += len(block)
                out.write(block)
        if written != member.size:
            raise _DamagedError(f"{member.name} has {written} of {member.size} bytes")
    return target
