"""A conda channel of what is installed here, to make the workflow's environments from.

Interpreter and distributions of the environment that tests run in are packed as ``.conda`` files:
one version of each, under the names of ``envs/packages.csv``, never under those of the environment
files. An environment file that gives a wrong name, leaves a package out or asks for more than was
tested then fails as it would at a real channel. What else the packages need is packed under its
name on PyPI; pip has found the versions to fit, so that requirements are passed on by name alone.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement

#: Folders that no job needs.
LEFT_OUT = {"include", "test", "tests"}
#: The same of the standard library alone.
LEFT_OUT_OF_PYTHON = {"ensurepip", "idlelib", "turtledemo", "site-packages", "dist-packages"}
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"lib/python{VERSION}/site-packages"

#: Put into each environment: notes which packages a job took from elsewhere. Snakemake appends the
#: packages of the environment that it runs in to a job's path, where they stand in, unseen, for
#: what an environment file lacks.
NOTES_STRANGERS = '''"""Notes what was imported from outside this environment."""

import atexit
import os
import sys


def note():
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if "site-packages" in file and not file.startswith(sys.prefix + os.sep):
            found.add(name.split(".")[0])
    with open(os.environ["MEDROBUST_STRANGERS"], "a", encoding="utf-8") as notes:
        notes.writelines(f"{sys.prefix} {name}\\n" for name in sorted(found))


if "MEDROBUST_STRANGERS" in os.environ:
    atexit.register(note)
'''


def canonical(name: str) -> str:
    """Returns a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def seen_packages(root: Path) -> list[dict[str, str]]:
    """Returns the rows of ``envs/packages.csv``."""
    with open(root / "envs/packages.csv", encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def closure(roots: Iterable[Requirement]) -> dict[str, tuple[Distribution, list[str]]]:
    """Returns the installed distributions that ``roots`` need, each with the names of its needs."""
    installed = {canonical(d.metadata["Name"]): d for d in reversed(list(distributions()))}
    extras: dict[str, set[str]] = {}
    waiting = list(roots)
    while waiting:
        need = waiting.pop()
        name = canonical(need.name)
        if name in extras and need.extras <= extras[name]:
            continue
        extras[name] = extras.get(name, set()) | need.extras
        waiting += _needs(installed[name], extras[name])
    return {
        name: (found := installed[name], sorted({canonical(n.name) for n in _needs(found, asked)}))
        for name, asked in extras.items()
    }


def _needs(distribution: Distribution, extras: set[str]) -> list[Requirement]:
    needs = [Requirement(line) for line in distribution.requires or []]
    cases = [{"extra": extra} for extra in {"", *extras}]
    return [n for n in needs if n.marker is None or any(map(n.marker.evaluate, cases))]


def make_channels(root: Path, folder: Path) -> None:
    """Makes the channels that ``envs/packages.csv`` names, each a folder of ``folder``.

    Args:
        root: the project's folder.
        folder: a folder to make, on the same disk as the environments.
    """
    from rattler import Subdir
    from rattler.index import index_fs

    rows = {row["pypi"]: row for row in seen_packages(root)}
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    roots = [Requirement(line) for line in lines if not line.startswith("#")]
    roots = [need for need in roots if canonical(need.name) in rows]
    platform = str(Subdir.current())
    for channel in {row["channel"] for row in rows.values()}:
        (folder / channel / "noarch").mkdir(parents=True)
        (folder / channel / platform).mkdir()

    def place(name: str, conda: str, version: str, needs: list[str], files: Files) -> None:
        channel = rows[name]["channel"] if name in rows else "conda-forge"
        _pack(folder / channel / platform, conda, version, needs, files)

    def called(name: str) -> str:
        return rows[name]["conda"] if name in rows else name

    place("", called(""), sys.version.split()[0], [], _interpreter())
    for name, (found, needs) in closure(roots).items():
        needed = [called(""), *map(called, needs)]
        place(name, called(name), found.version, needed, _files_of(found))
    for channel in folder.iterdir():
        asyncio.run(index_fs(channel, write_zst=False, write_shards=False))


#: Path inside a package, and the file or the content that belongs there.
Files = Iterator[tuple[str, Path | bytes]]


def _files_of(distribution: Distribution) -> Files:
    site = Path(str(distribution.locate_file("")))
    for entry in distribution.files or ():
        # Commands lie elsewhere, and name the interpreter that they were installed for.
        left_out = entry.parts[0] == ".." or LEFT_OUT & set(entry.parts[:-1])
        if not left_out and entry.suffix != ".pyc" and (site / entry).is_file():
            yield from _with_compiled(site / entry, f"{SITE}/{entry}")


def _interpreter() -> Files:
    # It finds its library, if it has one, where it was installed: on this machine.
    yield f"bin/python{VERSION}", Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    for file in library.rglob("*"):
        parts = file.relative_to(library).parts
        left_out = (LEFT_OUT | LEFT_OUT_OF_PYTHON) & set(parts[:-1])
        if not left_out and file.suffix != ".pyc" and file.is_file():
            yield from _with_compiled(file, f"lib/python{VERSION}/{file.relative_to(library)}")
    yield f"{SITE}/sitecustomize.py", NOTES_STRANGERS.encode()


def _with_compiled(file: Path, name: str) -> Files:
    yield name, file
    if file.suffix == ".py":
        # Else each environment would compile all that it imports, for a minute.
        compiled = Path(cache_from_source(str(file)))
        if compiled.is_file():
            yield cache_from_source(name), compiled


def _pack(folder: Path, name: str, version: str, needs: list[str], files: Files) -> None:
    from conda_package_streaming.create import anonymize, conda_builder

    def whole(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        # Of compiled files too; parts of a second would give each file a second header.
        entry.mtime = int(entry.mtime)
        return entry

    index = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": needs,
        "subdir": folder.name,
    }
    paths = []
    links = ("python3", "python") if name == "python" else ()
    with conda_builder(
        f"{name}-{version}-0", folder, compression_level=1, compression_threads=2
    ) as package:
        for path, content in files:
            if isinstance(content, bytes):
                _add(package, path, content)
            else:
                package.add(content, path, recursive=False, filter=lambda e: anonymize(whole(e)))
            paths.append({"_path": path, "path_type": "hardlink"})
        for link in links:
            entry = tarfile.TarInfo(f"bin/{link}")
            entry.type, entry.linkname = tarfile.SYMTYPE, f"python{VERSION}"
            package.addfile(entry)
            paths.append({"_path": entry.name, "path_type": "softlink"})
        _add(package, "info/index.json", json.dumps(index).encode())
        content = json.dumps({"paths": paths, "paths_version": 1}).encode()
        _add(package, "info/paths.json", content)


def _add(package: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    package.addfile(entry, io.BytesIO(content))
