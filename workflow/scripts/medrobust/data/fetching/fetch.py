"""Raw files of a data set: found where they lie, or fetched, and held against the registry.

Files that lie in a raw folder come first and are only read. What is missing is downloaded
into the download folder. The result is a manifest: every file with its path, size, SHA-256
and what it was compared with. Choosing a source looks at file names and sizes only and
imports nothing heavy, because it runs whenever the Snakefile is parsed.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from medrobust.core.errors import InputError
from medrobust.core.files import file_state, remove_left_files
from medrobust.core.logs import logger
from medrobust.core.words import counted
from medrobust.data.fetching.archives import (
    MAX_BYTES,
    ArchiveError,
    contents,
    extract,
    wanted_files,
)
from medrobust.data.fetching.kaggle_source import (
    explain_kaggle,
    find_credential,
    kaggle_credentials_present,
    kaggle_opener,
    no_credential,
    other_ways,
    unusable_credentials,
)
from medrobust.data.fetching.layouts import has_official_name, is_packed, official_name
from medrobust.data.fetching.locate import Located, locate, releases
from medrobust.data.fetching.transfer import (
    Sessions,
    SharedProgress,
    TransferSettings,
    UnavailableError,
    digest,
    download,
    http_opener,
    megabytes,
    not_writable,
    require_space,
    unpacked_digest,
)
from medrobust.data.fetching.unused import unused_files
from medrobust.data.registry import (
    STANDIN,
    Archive,
    Content,
    DatasetEntry,
    RawFile,
    Source,
)

__all__ = [
    "Located",
    "choose_source",
    "kaggle_credentials_present",
    "locate",
    "locate_or_fetch",
    "manifest_paths",
    "write_manifest",
]


def choose_source(
    dataset: DatasetEntry, raw_dirs: Sequence[str | Path], *, allow_subset: bool = False
) -> tuple[str, str]:
    """Chooses the source of a data set for which the configuration names none.

    In the registry's order: a source whose files are all in a raw folder; with
    ``allow_subset`` one that has some of them; one that can be downloaded now (no account
    needed, or a Kaggle credential is there); else the first, whose error tells what to do.
    Looks at file names and sizes only.

    Returns:
        The name of the source, and the reason in words.
    """
    located = {name: locate(dataset, name, raw_dirs) for name in dataset.sources}
    for name, files in located.items():
        if files.complete and files.anything:
            return name, "its files are in the raw folder"
    if allow_subset:
        for name, files in located.items():
            if files.anything:
                return name, "some of its files are in the raw folder (allow_subset)"
    for name, source in dataset.sources.items():
        if source.kind == "generated":
            return name, "it is generated"
        if source.account == "kaggle" and kaggle_credentials_present():
            return name, "a Kaggle credential is there"
        if source.account == "none" and source.kind != "manual":
            return name, "it needs no account"
    name = next(iter(dataset.sources))
    return name, "no other source is available; it needs a step by you"


def locate_or_fetch(
    dataset: DatasetEntry,
    source_name: str,
    raw_dirs: Sequence[str | Path],
    download_dir: str | Path,
    *,
    settings: TransferSettings | None = None,
    base_urls: Mapping[str, str] | None = None,
    allow_subset: bool = False,
    others: Sequence[DatasetEntry] = (),
) -> dict[str, Any]:
    """Returns the manifest of a data set's raw files, downloading what is missing.

    Args:
        dataset: the registry entry.
        source_name: one of its sources, or "standin" (which has no raw files).
        raw_dirs: folders with files put there by hand; they are read, never written.
        download_dir: where downloads go (``<download_dir>/<dataset.raw>/``, or the first of the
            source's ``folders``); files that are there already count as found.
        settings: attempts, waits, timeouts.
        base_urls: source name -> address to use instead of the registry's ``base_url``.
        allow_subset: use what is there if anything is, without downloading the rest.
        others: entries whose files may lie in the same folders: before anything is downloaded,
            files there that nobody uses are told.

    Returns:
        ``{"dataset", "title", "source", "kind", "version", "licence", "citation", "terms",
        "complete", "missing", "warnings", "archives", "files"}``; each of ``files`` has ``name,
        path, bytes, sha256, origin`` ("found", "downloaded" or "unpacked from <archive>") and
        ``check`` ("matches the publisher's checksum", "recorded only", ...); each of
        ``archives``, which were unpacked by this call, the same without ``origin``.

    Raises:
        InputError: a file cannot be had (no credential, refused, not found, no network, no
            space), or differs from what its publisher states.
    """
    if source_name == STANDIN:
        return _manifest(dataset, STANDIN, None, [], None)
    source = dataset.source(source_name)
    folders = [*dict.fromkeys([*map(Path, raw_dirs), Path(download_dir)])]
    located = locate(dataset, source_name, folders)
    origins: dict[str, str] = {}
    archives: list[dict[str, Any]] = []
    if located.missing and not (allow_subset and located.anything and not located.archive):
        job = _Fetch(
            dataset,
            source_name,
            folders,
            Path(download_dir) / dataset.folders(source_name)[0],
            settings or TransferSettings(),
            (base_urls or {}).get(source_name) or source.base_url or "",
            allow_subset,
            others,
        )
        origins, archives = job.run(), job.archives
        located = locate(dataset, source_name, folders)
        if located.missing and not allow_subset:
            raise _still_missing(dataset, source_name, located, job.folder)
    records = _records(located, origins)
    return _manifest(dataset, source_name, source, records, located, archives)


def manifest_paths(manifest: Mapping[str, Any]) -> dict[str, Path]:
    """Returns the path of every file of a manifest, by its name."""
    return {record["name"]: Path(record["path"]) for record in manifest["files"]}


def write_manifest(path: str | Path, manifest: Mapping[str, Any]) -> None:
    """Writes a manifest as JSON, whole or not at all."""
    from medrobust.core.io import write_json

    write_json(path, dict(manifest))


@dataclass(frozen=True)
class _Fetch:
    """One data set's download into ``folder``."""

    dataset: DatasetEntry
    source_name: str
    raw_dirs: list[Path]
    folder: Path
    settings: TransferSettings
    base_url: str
    allow_subset: bool = False
    others: Sequence[DatasetEntry] = ()
    archives: list[dict[str, Any]] = field(default_factory=list)
    """What was unpacked: name, path, bytes, SHA-256, check."""

    @property
    def source(self) -> Source:
        return self.dataset.source(self.source_name)

    def run(self) -> dict[str, str]:
        """Fetches what is missing; returns file name or pattern -> origin."""
        located = self._look()
        self._tell_unused(located)
        if located.archive is None and self.source.kind == "manual":
            raise self._by_hand(located)
        if located.archive is None and self.source.kind == "kaggle" and not find_credential():
            raise no_credential(self._other_ways())
        with _folder_lock(self.folder):
            # Another process may have brought the files while this one waited for the lock.
            located = self._look()
            origins = self._fetch_list(located)
            if origins:
                located = self._look()
            if not located.missing:
                return origins
            if located.archive is not None:
                origins |= self._unpack(located.archive, located)
                located = self._look()
                part = self.allow_subset and bool(located.files or any(located.trees.values()))
                if not located.missing or part or self.source.kind == "manual":
                    return origins
            if self.source.archive is not None and self.source.archive.delivered:
                return self._fetch_archive(self.source.archive, located)
            missing = set(located.missing)
            files = [file for file in located.source.files if file.name in missing]
            return origins | self._fetch_files(files, len(located.source.files))

    def _tell_unused(self, located: Located) -> None:
        """Tells of files and credentials that lie there and are passed over, before a download."""
        if located.archive is not None:
            return
        told = unused_files(self.dataset, self.raw_dirs, self.others)
        if any(source.account == "kaggle" for source in self.dataset.sources.values()):
            told += unusable_credentials()
        for text in told:
            logger.warning("%s: %s", self.dataset.name, text)

    def _fetch_list(self, located: Located) -> dict[str, str]:
        """Gets the publisher's list of files if it is missing, from the archive at hand if any."""
        listing = self.source.listing
        if listing is None or listing.name not in located.missing:
            return {}
        if located.archive is not None:
            origins = self._unpack(located.archive, located)
            if listing.name not in self._look().missing:
                return origins
        return self._fetch_files([RawFile(name=listing.name)], 1)

    def _look(self) -> Located:
        return locate(self.dataset, self.source_name, self.raw_dirs)

    def _by_hand(self, located: Located) -> InputError:
        return InputError(
            f"{self.dataset.title}: these files must be put in place by you: "
            f"{_shortened(located.missing)}.",
            where=str(self.folder),
            remedy=self.source.instructions or "",
        )

    def _fetch_files(self, files: list[RawFile], of: int) -> dict[str, str]:
        """Downloads ``files``, which are some of the source's ``of`` files."""
        known = sum(file.bytes or 0 for file in files)
        known = max(known, (self.source.total_bytes or 0) * len(files) // of)
        require_space(self.folder, known, self.settings.free_bytes)
        logger.info(
            "%s: downloading %s (%s) from %s",
            self.dataset.name,
            counted(len(files), "file", "files"),
            megabytes(known),
            self.base_url or self.source_name,
        )
        progress = SharedProgress(f"{self.dataset.name} downloads", len(files))
        sessions = Sessions()
        with ThreadPoolExecutor(self.settings.parallel) as pool:
            tasks = [pool.submit(self._fetch_file, file, sessions) for file in files]
            try:
                for task in as_completed(tasks):
                    task.result()
                    progress.one_more()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return {file.name: "downloaded" for file in files}

    def _fetch_file(self, file: RawFile, sessions: Sessions) -> None:
        target = self.folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        self._from_any_address(file, target, sessions)

    def _from_any_address(
        self, content: RawFile | Archive, target: Path, sessions: Sessions
    ) -> None:
        """Downloads one file from the first address that gives it."""
        refusals: list[UnavailableError] = []
        expected = enforced(content, self.source)
        for url in addresses(content, [self.base_url, *self.source.mirrors]):
            if refusals:
                logger.warning("%s: %s trying %s", target.name, refusals[-1].what, url)
            try:
                opener = http_opener(url, self.settings, sessions)
                return download(opener, url, target, expected, self.settings)
            except UnavailableError as refusal:
                refusals.append(refusal)
        raise _given_by_none(refusals, target)

    def _fetch_archive(self, archive: Archive, located: Located) -> dict[str, str]:
        target = self.folder / archive.name
        # The archive and what comes out of it lie side by side for a while.
        needed = (archive.bytes or archive.about_bytes or 0) + unpacked_bytes(self.source)
        require_space(self.folder, needed, self.settings.free_bytes)
        if self.source.kind == "kaggle":
            self._kaggle_archive(target, enforced(archive, self.source))
        else:
            logger.info("%s: downloading %s", self.dataset.name, archive.name)
            self._from_any_address(archive, target, Sessions())
        try:
            origins = self._unpack(target, located)
        except ArchiveError:
            target.unlink()  # else it would be taken for one dropped by hand
            raise
        if not archive.kept:
            target.unlink()
        return origins

    def _other_ways(self) -> str:
        return other_ways(self.dataset, self.source, self.folder)

    def _kaggle_archive(self, target: Path, expected: Content) -> None:
        credential = find_credential()
        if credential is None:
            raise no_credential(self._other_ways())
        slug, version = self.source.slug or "", self.source.version
        page = f"https://www.kaggle.com/datasets/{slug}"
        explain = explain_kaggle(page, credential, self._other_ways())
        logger.info("%s: downloading %s from Kaggle", self.dataset.name, slug)
        opener = kaggle_opener(slug, version, credential, explain, self.settings)
        download(opener, page, target, expected, self.settings, explain)

    def _unpack(self, archive: Path, located: Located) -> dict[str, str]:
        missing = [f for f in located.source.files if f.name not in located.files]
        # The other folders hold other releases.
        here = (None, self.dataset.folders(self.source_name)[0])
        patterns = [
            tree.pattern
            for release, group in releases(self.source.trees).items()
            if release in here and any(located.number(tree) < tree.count for tree in group)
            for tree in group
        ]
        names = [f.name for f in missing]
        select = wanted_files(names, patterns)
        if self.source.other_trees and not contents(archive, select):
            patterns = [tree.pattern for tree in self.source.other_trees]
            select = wanted_files(names, patterns)
        logger.info("%s: unpacking %s", self.dataset.name, archive.name)

        def look(total: int) -> None:
            self._note_archive(archive)
            require_space(self.folder, total, self.settings.free_bytes, f"unpacking {archive.name}")

        for path in (self.folder, *self.folder.rglob("*/")):  # what a killed process unpacked
            remove_left_files(path, ".*.part*")
        before = file_state(archive)
        extract(
            archive,
            self.folder,
            select,
            max_bytes=_unpacked_bound(self.source),
            before_writing=look,
        )
        if file_state(archive) != before:
            raise InputError(
                "This archive was replaced or written to while it was unpacked.",
                where=str(archive),
                remedy="remove what came out of it, and fetch again.",
            )
        return dict.fromkeys(names + patterns, f"unpacked from {archive.name}")

    def _note_archive(self, archive: Path) -> None:
        """Records the bytes that are unpacked, after comparing them with the registry."""
        if any(record["path"] == archive.as_posix() for record in self.archives):
            return
        known = self.source.archive or Content()
        expected = RawFile(name=archive.name, bytes=known.bytes, sha256=known.sha256, md5=known.md5)
        record, problem = compared(expected, archive, self.source)
        if problem and not self.allow_subset:
            raise InputError(
                f"This archive is not the one that its publisher states ({problem}).",
                where=str(archive),
                remedy="delete it and fetch it again; to use it all the same, unpack it yourself "
                "and put the files into the same folder.",
            )
        self.archives.append(record)


def _given_by_none(refusals: list[UnavailableError], target: Path) -> InputError:
    """Returns the error for a file that no address gave."""
    if len(refusals) == 1:
        return refusals[0]
    reasons = "\n    ".join(f"{refusal.where}: {refusal.what}" for refusal in refusals)
    return InputError(
        f"None of {len(refusals)} addresses gave {target.name}:\n    {reasons}",
        where=str(target.parent),
        remedy=refusals[-1].remedy,
    )


def addresses(content: RawFile | Archive, base_urls: Sequence[str]) -> list[str]:
    """Returns where a file or an archive can be had, in order of preference."""
    if content.url is not None:
        return [content.url]
    return [url + quote(content.name) for url in base_urls]


def unpacked_bytes(source: Source) -> int:
    """Returns the room that an archive's files take beside it (0 if unknown, or no archive)."""
    delivered = source.archive is not None and source.archive.delivered
    return (source.download_bytes or 0) if delivered else 0


def enforced(content: Content, source: Source) -> Content:
    """Returns the size and checksum that a file must have; none where only a copy is known."""
    if source.checksums_from == "copy":
        return Content()
    return Content(bytes=content.bytes, sha256=content.sha256, md5=content.md5)


def _unpacked_bound(source: Source) -> int:
    """Returns how much an archive may unpack to: four times the known size, a guard on bombs."""
    known = source.download_bytes
    return MAX_BYTES if known is None else 4 * known + 100 * 10**6


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Lets one process at a time write into ``folder``; the system frees it if one dies."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "a")  # noqa: SIM115 (closed below)
    except OSError:
        raise not_writable(folder) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another process is downloading into %s; waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some network file systems have no locks
            logger.warning("%s cannot be locked; do not run two downloads at once", folder)
        yield


def _still_missing(
    dataset: DatasetEntry, source_name: str, located: Located, folder: Path
) -> InputError:
    return InputError(
        f"{dataset.title}: the source {source_name} did not bring {_shortened(located.missing)}.",
        where=str(folder),
        remedy=dataset.source(source_name).instructions
        or "put the files there yourself, or choose another source under `sources` in "
        "config/config.yaml.",
    )


def describe_copies(located: Located, *, whole_paths: bool = True) -> str:
    """Returns in words which of several copies of a release is read.

    Args:
        located: what is there.
        whole_paths: name folders as they were found; else from the folder on that holds all copies:
            what goes into a card, and with it into a repository, tells nothing of the machine.
    """
    read = sorted({_top(p, name) for name, paths in located.trees.items() for p in paths})
    shown = {folder: folder.as_posix() for folder in (*read, *located.passed_over)}
    if not whole_paths:
        above = Path(os.path.commonpath([folder.absolute() for folder in shown])).parent
        shown = {folder: folder.absolute().relative_to(above).as_posix() for folder in shown}
    others = [
        f"{shown[folder]} ({counted(n, 'file', 'files')})"
        for folder, n in located.passed_over.items()
    ]
    return (
        f"more than one copy is there: {' and '.join(shown[folder] for folder in read)} is read, "
        f"not {' and '.join(others)}; leave the one that you want in the raw folder"
    )


def _top(path: Path, pattern: str) -> Path:
    """Returns the folder that holds a file of a tree, without the parts that the pattern names."""
    return path.parents[pattern.count("/")]


def _shortened(names: Sequence[str]) -> str:
    first = ", ".join(names[:5])
    return f"{first} and {len(names) - 5} more" if len(names) > 5 else first


def _records(located: Located, origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns the manifest's entry for every file, after comparing all with the registry."""
    records, wrong = [], []
    for file in located.source.files:
        if file.name in located.files:
            record, problem = compared(file, located.files[file.name], located.source)
            records.append({**record, "origin": origins.get(file.name, "found")})
            if problem:
                wrong.append(f"{record['path']}: {problem}")
    for tree in located.source.trees:
        for path in located.trees[tree.pattern]:
            name = official_name(path, tree.pattern)
            record = _record(f"{tree.folder}/{name}" if tree.folder else name, path)
            record |= {"check": "recorded only", "origin": origins.get(tree.pattern, "found")}
            records.append(record)
    if wrong:
        raise InputError(
            "These files differ from what their publisher states:\n    " + "\n    ".join(wrong[:5]),
            remedy="move them away (or replace them); what is missing is then downloaded.",
        )
    return records


def _record(name: str, path: Path) -> dict[str, Any]:
    try:
        size, sha256 = path.stat().st_size, digest(path, "sha256")
    except PermissionError:
        raise InputError(
            "This file cannot be read.", where=str(path), remedy="change its permissions."
        ) from None
    return {"name": name, "path": path.as_posix(), "bytes": size, "sha256": sha256}


def compared(file: RawFile, path: Path, source: Source) -> tuple[dict[str, Any], str | None]:
    """Returns the record of a file and, if it is not acceptable, why."""
    record = _record(file.name, path)
    if not has_official_name(path, file.name):
        return _otherwise_packed(file, path, source, record)
    md5 = digest(path, "md5") if file.md5 and not file.sha256 else None
    difference = _difference(file, record, md5)
    whose = "the publisher's" if source.checksums_from == "publisher" else "a public copy's"
    if difference is None:
        known = "checksum" if file.sha256 or file.md5 else "size" if file.bytes else None
        return record | {"check": f"matches {whose} {known}" if known else "recorded only"}, None
    for alternative in file.alternatives:
        if _difference(alternative, record, md5) is None:
            return record | {"check": f"accepted: {alternative.note}"}, None
    if source.checksums_from == "publisher":
        return record | {"check": "differs"}, difference
    return record | {"check": f"differs from {whose}: {difference}"}, None


def _otherwise_packed(
    file: RawFile, path: Path, source: Source, record: dict[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Returns the record of a file that is packed, or unpacked, unlike the publisher's."""
    if not is_packed(path, file.name):
        return record | {"check": "recorded only: the publisher's is packed"}, None
    most = 4 * file.bytes + 10**8 if file.bytes else MAX_BYTES
    try:
        size, sha256 = unpacked_digest(path, most)
    except (OSError, EOFError, zlib.error) as error:
        reason = f"it is no complete gzip file ({error})"
        return record | {"check": f"differs: {reason}"}, reason
    content = {"bytes": size, "sha256": sha256}
    differences = [_difference(known, content, None) for known in (file, *file.alternatives)]
    whose = "the publisher's" if source.checksums_from == "publisher" else "a public copy's"
    if None in differences:
        return record | {"check": f"unpacked it matches {whose} checksum"}, None
    problem = differences[0] if source.checksums_from == "publisher" else None
    return record | {"check": f"differs from {whose}, unpacked: {differences[0]}"}, problem


def _difference(content: Content, record: Mapping[str, Any], md5: str | None) -> str | None:
    actual = {"bytes": record["bytes"], "sha256": record["sha256"], "md5": md5}
    for kind, value in actual.items():
        expected = getattr(content, kind)
        if expected is not None and value is not None and value != expected:
            return f"{kind}: expected {expected}, found {value}"
    return None


def _manifest(
    dataset: DatasetEntry,
    source_name: str,
    source: Source | None,
    records: list[dict[str, Any]],
    located: Located | None,
    archives: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    missing = located.missing if located else []
    warnings = [
        f"{record['name']} {record['check']}"
        for record in [*archives, *records]
        if str(record["check"]).startswith("differs")
    ]
    if missing:
        warnings.append(f"incomplete (allow_subset): without {_shortened(missing)}")
    if located and located.passed_over:
        warnings.append(describe_copies(located, whole_paths=False))
    for warning in warnings:
        logger.warning("%s: %s", dataset.name, warning)
    return {
        "dataset": dataset.name,
        "title": dataset.title,
        "source": source_name,
        "kind": source.kind if source else STANDIN,
        "version": source.version if source else None,
        "terms": source.terms if source else None,
        "licence": dataset.licence,
        "citation": list(dataset.citation),
        "complete": not missing,
        "missing": missing,
        "warnings": warnings,
        "archives": list(archives),
        "files": records,
    }
