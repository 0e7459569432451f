"""The data registry: what config/datasets.yaml may say, and reading it.

An entry states what a data set is (classes, shape, range, counts, licence, citation), which
adapter turns its raw files into arrays, and from which sources the raw files come. A data
set is added by adding an entry (and, for a new format, an adapter); nothing here changes.

Reading the registry imports pydantic and YAML only: the Snakefile does it at every parse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, checked, unknown_name
from medrobust.core.yaml_files import read_yaml

RESERVED_SOURCES = ("auto", "standin", "subset")
"""Names with a meaning of their own: the automatic choice, generated stand-ins, a part."""

STANDIN = "standin"

Bytes = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
Splits = dict[Literal["train", "val", "test", "all"], dict[str, Count]]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]


def _relative(name: str) -> str:
    """Returns ``name`` if it stays inside its folder, else raises ValueError."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError("a file name must be relative, without '..' and without backslashes")
    return name


def _is_relative(name: str) -> bool:
    try:
        return _relative(name) == name
    except ValueError:
        return False


class Content(Settings):
    """A size and a checksum that a file may have."""

    bytes: Bytes | None = None
    sha256: Sha256 | None = None
    md5: Md5 | None = None


class Alternative(Content):
    """Other accepted bytes of a file (such as another line ending), with the reason."""

    note: str


class RawFile(Content):
    """One file that an adapter reads, by its official name.

    ``url`` is given only where it is not the source's ``base_url`` followed by ``name``.
    ``other_names``: under which the adapter also reads it, packed with gzip or unpacked.
    """

    name: str
    optional: bool = False
    url: Url | None = None
    other_names: list[str] = Field(default_factory=list)
    alternatives: list[Alternative] = Field(default_factory=list)

    _name_is_relative = field_validator("name")(_relative)


class RawTree(Settings):
    """Many files of one kind: a glob pattern within the raw folder and how many match it.

    ``folder``: the one of the source's ``folders`` that holds them, where others hold files of the
    same names; it is then the first part of their names. ``beside``: a regular expression for names
    that match the pattern too and are not counted (masks beside images).
    """

    pattern: str
    count: Annotated[int, Field(gt=0)]
    folder: Name | None = None
    beside: str | None = None

    _pattern_is_relative = field_validator("pattern")(_relative)

    def number(self, names: Iterable[str]) -> int:
        """Returns how many files count, by their names: all but those that lie beside them."""
        beside = re.compile(self.beside, re.IGNORECASE) if self.beside else None
        return sum(beside is None or not beside.search(name) for name in names)


class Archive(Content):
    """A zip or tar that holds the files.

    ``delivered``: the source sends this archive (else it is only recognised when dropped by
    hand). ``kept``: a downloaded archive stays after unpacking, because other data sets come
    out of it too. ``other_names``: names under which people may have it (a browser's, for
    instance). ``about_bytes``: its size where the exact one is not known.
    """

    name: str
    other_names: list[str] = Field(default_factory=list)
    url: Url | None = None
    delivered: bool = True
    kept: bool = False
    about_bytes: Bytes | None = None

    _name_is_relative = field_validator("name")(_relative)


class Listing(Settings):
    """The publisher's own list of checksums, which tells what files there are.

    ``name``: the list, a file beside the others in the format of ``sha256sum``. Until it is
    there it is the one file known to be missing. ``patterns`` choose among the names in it
    (``*`` also stands for slashes); ``count`` of them must match.
    """

    name: str
    patterns: Annotated[list[str], Field(min_length=1)]
    count: Annotated[int, Field(gt=0)]

    _name_is_relative = field_validator("name")(_relative)


class Source(Settings):
    """One place where the raw files come from.

    ``checksums_from`` tells how far a checksum may be trusted: ``publisher`` (a mismatch is
    an error) or ``copy`` (it was read off one public copy: a mismatch is a warning in the
    manifest, and the counts decide). ``folders`` are the raw folders of this source where it
    shares files with other data sets (all are searched, downloads go into the first); else it
    is the data set's ``raw``. ``same_rows: false``: the rows made from these files are not
    those of the release, so its counts are not asked for. ``other_trees``: the files of ``trees``
    in another layout, looked for where that one has none. ``not_read``: patterns of files that the
    release has beside them and nobody need be told of. ``mirrors`` are further addresses in
    place of ``base_url``, tried in turn for each file that one before does not give.
    """

    kind: Literal["kaggle", "physionet", "http", "manual", "generated"]
    slug: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    version: str | None = None
    base_url: Url | None = None
    mirrors: list[Url] = Field(default_factory=list)
    account: Literal["none", "kaggle"] = "none"
    terms: Url | None = None
    instructions: str | None = None
    checksums_from: Literal["publisher", "copy"] = "publisher"
    files: list[RawFile] = Field(default_factory=list)
    files_from: str | None = None
    listing: Listing | None = None
    trees: list[RawTree] = Field(default_factory=list)
    other_trees: list[RawTree] = Field(default_factory=list)
    not_read: list[str] = Field(default_factory=list)
    archive: Archive | None = None
    total_bytes: Bytes | None = None
    folders: list[Name] = Field(default_factory=list)
    same_rows: bool = True

    @model_validator(mode="after")
    def _complete_for_its_kind(self) -> Source:
        wants_files = bool(self.files or self.files_from or self.trees or self.listing)
        if self.kind == "generated":
            if wants_files:
                raise ValueError("a generated source has no files")
            return self
        if not wants_files:
            raise ValueError("a source needs files, files_from, listing or trees")
        if self.kind == "kaggle":
            _require(self, "slug", "archive", "terms")
            if self.account != "kaggle":
                raise ValueError("a Kaggle source needs `account: kaggle`")
            if self.version is not None and not self.version.isdigit():
                raise ValueError("a Kaggle version is a whole number in quotes")
        if self.kind == "manual":
            _require(self, "instructions")
        if self.kind in ("physionet", "http"):
            self._check_addresses()
        return self

    def _check_addresses(self) -> None:
        if any(not url.endswith("/") for url in self.base_urls):
            raise ValueError("base_url and mirrors must end with a slash")
        if self.mirrors and self.base_url is None:
            raise ValueError("mirrors stand beside base_url: give it too")
        delivered = self.archive is not None and self.archive.delivered
        sent = [self.archive] if delivered else self.files
        if self.base_url is None and (not sent or any(f.url is None for f in sent if f)):
            raise ValueError("needs base_url, or a url for everything that is downloaded")
        if self.listing is not None and (delivered or self.base_url is None):
            raise ValueError("a listing needs base_url: its files are fetched one by one")
        if self.trees and not delivered:
            raise ValueError("trees can only come out of a delivered archive")

    @property
    def base_urls(self) -> list[str]:
        """``base_url`` and the mirrors, in order of preference; empty without ``base_url``."""
        return [url for url in (self.base_url, *self.mirrors) if url is not None]

    @property
    def download_bytes(self) -> int | None:
        """How many bytes the raw files take, or None if the registry does not know."""
        if self.total_bytes is not None:
            return self.total_bytes
        sizes = [f.bytes for f in self.files if not f.optional]
        return sum(sizes) if sizes and not self.trees and None not in sizes else None


def _require(source: Source, *fields: str) -> None:
    missing = [name for name in fields if getattr(source, name) is None]
    if missing:
        raise ValueError(f"a {source.kind} source needs {' and '.join(missing)}")


class Counts(Settings):
    """How many examples there are: split -> class -> number.

    ``official`` is the release's own (a mismatch stops); ``paper`` maps a study to what its
    paper states (reported only). The split ``all`` is the whole set, the class ``all`` all
    classes together. What is found goes to the data card.
    """

    official: Splits = Field(default_factory=dict)
    paper: dict[str, Splits] = Field(default_factory=dict)


class DatasetEntry(Settings):
    """One data set. ``shape`` is that of one example; ``input_range`` its (low, high).

    ``form: volumes``: cases of different shapes, kept as files; ``shape`` is then the number of
    channels alone, and there is no ``input_range``, because each volume has a scale of its own.
    ``folds``: in how many ways the rows are divided; in cross-validation each is in the test set
    once.
    """

    name: Name
    title: str
    adapter: Name
    form: Literal["arrays", "volumes"] = "arrays"
    options: dict[str, Any] = Field(default_factory=dict)
    raw: Name
    classes: Annotated[list[str], Field(min_length=2)]
    shape: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)]
    input_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    counts: Counts
    folds: Annotated[int, Field(ge=1)] = 1
    licence: str
    citation: Annotated[list[str], Field(min_length=1)]
    sources: Annotated[dict[Name, Source], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> DatasetEntry:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        if (self.input_range is None) != (self.form == "volumes"):
            raise ValueError("arrays need input_range; volumes have none")
        if self.input_range and not self.input_range[0] < self.input_range[1]:
            raise ValueError("input_range must be [low, high] with low < high")
        reserved = [name for name in self.sources if name in RESERVED_SOURCES]
        if reserved:
            raise ValueError(f"a source cannot be called {reserved[0]!r}")
        known = {*self.classes, "all"}
        for splits in [self.counts.official, *self.counts.paper.values()]:
            for split, numbers in splits.items():
                unknown = sorted(set(numbers) - known)
                if unknown:
                    raise ValueError(f"counts of {split!r} name an unknown class {unknown[0]!r}")
        return self

    def source(self, name: str) -> Source:
        """Returns the source called ``name``.

        Raises:
            InputError: there is no such source.
        """
        if name not in self.sources:
            raise unknown_name(
                "source", name, [*self.sources, STANDIN], where=f"data set {self.name}"
            )
        return self.sources[name]

    def folders(self, source: str) -> list[str]:
        """Returns the folders of a source below a raw folder; downloads go into the first."""
        return self.source(source).folders or [self.raw]

    def official_rows(self, split: str) -> int:
        """Returns the official number of rows of a split ("train", "val", "test"), 0 if unknown.

        Of several folds, that of the largest such split.
        """
        stated = sum(self.counts.official.get(split, {}).values())
        if stated or self.folds == 1:
            return stated
        everything = sum(self.counts.official.get("all", {}).values())
        return fold_rows(everything, self.folds, split)

    def account_free(self) -> list[str]:
        """Returns the names of the sources that need no account and no manual step."""
        return [
            name for name, s in self.sources.items() if s.account == "none" and s.kind != "manual"
        ]


def fold_rows(rows: int, folds: int, split: str) -> int:
    """Returns how many of ``rows`` the largest training or test set of folds has; val has none."""
    test = -(-rows // folds)
    return {"test": test, "train": rows - rows // folds}.get(split, 0)


class _File(Settings):
    datasets: dict[Name, dict[str, Any]]


def default_registry_path() -> Path:
    """Returns config/datasets.yaml of the checkout that this module lies in."""
    return Path(__file__).resolve().parents[4] / "config" / "datasets.yaml"


#: The user's registry, in the folder that he works in, where that is not the workflow's.
OWN_REGISTRY = Path("config/datasets.yaml")


def load_registry(
    path: str | Path | None = None,
    checksums_dir: str | Path | None = None,
    own: str | Path = OWN_REGISTRY,
) -> dict[str, DatasetEntry]:
    """Reads the data registry.

    Args:
        path: a registry file; by default config/datasets.yaml of this checkout.
        checksums_dir: where ``files_from`` lists lie; by default resources/checksums beside
            the folder of ``path``.
        own: a file whose entries count before those of ``path``; it need not exist.

    Returns:
        The entries by name, with ``files_from`` lists expanded into ``files``.

    Raises:
        InputError: the file is missing, is not YAML, repeats a key, or an entry is wrong.
    """
    path = Path(path) if path is not None else default_registry_path()
    folder = Path(checksums_dir) if checksums_dir else path.parent.parent / "resources/checksums"
    entries = _entries(path, folder)
    own = Path(own)
    if own.is_file() and not own.samefile(path):
        lists = own.parent.parent / "resources/checksums"
        entries |= _entries(own, lists if lists.is_dir() else folder)
    return entries


def _entries(path: Path, checksums_dir: Path) -> dict[str, DatasetEntry]:
    entries = checked(_File, read_yaml(path), file=str(path)).datasets
    return {name: _entry(name, entry, path, checksums_dir) for name, entry in entries.items()}


def get_dataset(registry: Mapping[str, DatasetEntry], name: str) -> DatasetEntry:
    """Returns the entry ``name``.

    Raises:
        InputError: the registry has no such data set.
    """
    if name not in registry:
        raise unknown_name("data set", name, sorted(registry), where="config/datasets.yaml")
    return registry[name]


def _entry(name: str, values: dict[str, Any], path: Path, checksums_dir: Path) -> DatasetEntry:
    prefix = f"datasets.{name}"
    if "name" in values:
        raise InputError(
            "The name of a data set is the key of its entry; remove `name`.",
            where=f"{path}, key {prefix}.name",
        )
    entry = checked(DatasetEntry, {"name": name, **values}, file=str(path), prefix=prefix)
    sources = {key: _expanded(source, checksums_dir) for key, source in entry.sources.items()}
    return entry.model_copy(update={"sources": sources})


def _expanded(source: Source, checksums_dir: Path) -> Source:
    if source.files_from is None:
        return source
    listed = read_checksums(checksums_dir / source.files_from)
    files = [RawFile(name=name, sha256=digest) for name, digest in listed.items()]
    return source.model_copy(update={"files": [*source.files, *files]})


# PhysioNet's lists have one blank where sha256sum writes two characters.
_CHECKSUM_LINE = re.compile(r"^([0-9a-f]{64}) [ *]?(\S.*)$")


def read_checksums(path: str | Path) -> dict[str, str]:
    """Reads a list in the format of ``sha256sum``: file name -> SHA-256.

    Raises:
        InputError: the list is missing, empty, repeats a name, or a line has another form.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError("This list of checksums does not exist.", where=str(path)) from None
    result: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _CHECKSUM_LINE.match(line)
        if match is None or match[2] in result or not _is_relative(match[2]):
            raise InputError(
                "This line is not '<sha256>  <relative file name>', or repeats a name.",
                where=f"{path}, line {number}",
            )
        result[match[2]] = match[1]
    if not result:
        raise InputError("This list of checksums is empty.", where=str(path))
    return result
