"""Weights of networks that others trained, which a model may begin with: where they lie.

``config/weights.yaml`` names them. A file is looked for in ``weights/`` of the user's raw folder
and of ``resources/raw``, and else downloaded there, where there is an address; it is held against
its checksum. What is in it is read by the architecture
(:mod:`medrobust.models.engine.pretrained`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.schema import Settings, checked
from medrobust.data.registry import Content, Sha256, Url, default_registry_path, read_yaml

#: Folder of the files, below the folders of raw files.
FOLDER = "weights"

#: What tells more of them, to people.
GUIDE = "docs/weights.md"

#: What a model of which the weights are not at hand begins with, in place of their name.
RANDOM = "random"


class Weights(Settings):
    """One file of weights."""

    title: str = Field(min_length=1, description="what they were trained on, for captions")
    file: str = Field(
        min_length=1,
        description="name of a safetensors file in `weights/` of `raw_dir` or `resources/raw`; of "
        "weights of your own also a path",
    )
    url: Url | None = Field(default=None, description="where it is downloaded from; null: nowhere")
    sha256: Sha256 | None = Field(default=None, description="checksum; null: not known")
    about_bytes: int = Field(default=0, ge=0, description="size of the download, about")
    instructions: str = Field(default="", description="how to get it where there is no address")
    licence: str = Field(default="", description="licence, as stated where it is had from")
    citation: str = Field(default="", description="what to cite")

    @model_validator(mode="after")
    def _a_download_has_a_checksum(self) -> Self:
        if self.url is not None and self.sha256 is None:
            raise ValueError("url needs sha256: what a server gives is held against it")
        return self


class _File(Settings):
    weights: dict[str, Weights]


def load_weights(
    path: str | Path | None = None, entries: Mapping[str, Any] | None = None
) -> dict[str, Weights]:
    """Reads which weights there are.

    Args:
        path: a file of the form of config/weights.yaml; by default that of this checkout.
        entries: others beside those, of the same form (``own_weights``).

    Raises:
        InputError: an entry is wrong, is named "random", or repeats a name.
    """
    path = Path(path) if path is not None else default_registry_path().with_name("weights.yaml")
    known = checked(_File, read_yaml(path), file=str(path)).weights
    own = {
        name: checked(Weights, values, file="config/config.yaml", prefix=f"own_weights.{name}")
        for name, values in (entries or {}).items()
    }
    for name in own:
        if name in known or name == RANDOM:
            raise InputError(
                f"The name {name!r} is taken.",
                where=f"config/config.yaml, key own_weights.{name}",
                remedy="give your weights another name.",
            )
    return known | own


def places(entry: Weights, raw_dirs: Sequence[str | Path]) -> list[Path]:
    """Returns where the file is looked for, in order of preference; arguments as below."""
    own = Path(entry.file)
    return [own] if own.parent != Path() else [Path(raw) / FOLDER / own for raw in raw_dirs]


def at_hand(entry: Weights, raw_dirs: Sequence[str | Path]) -> Path | None:
    """Returns where the file lies, None if it has to be downloaded or is not to be had.

    Args:
        entry: the weights.
        raw_dirs: folders of raw files, in order of preference.
    """
    return next((place for place in places(entry, raw_dirs) if place.is_file()), None)


def download_target(entry: Weights, download_dir: str | Path) -> Path:
    """Returns the file that a download writes, below the folder of raw files for downloads."""
    return Path(download_dir) / FOLDER / Path(entry.file).name


def check_sha256(name: str, entry: Weights, path: Path) -> str:
    """Returns the SHA-256 of the file of weights, in hexadecimal.

    Raises:
        InputError: another one is stated.
    """
    sha256 = io.sha256_of_file(path)
    if entry.sha256 is not None and sha256 != entry.sha256:
        raise InputError(
            f"These are not the weights {name!r}: sha256 expected {entry.sha256}, found {sha256}.",
            where=str(path),
            remedy="remove the file, or name it under `own_weights`.",
        )
    return sha256


def locate_or_download(
    name: str, entry: Weights, raw_dirs: Sequence[str | Path], download_dir: str | Path
) -> dict[str, Any]:
    """Finds the file, or downloads it, and says which it is.

    Args:
        name: of the weights, for messages.
        entry: the weights.
        raw_dirs: folders of raw files, searched first and never changed.
        download_dir: folder of raw files that a download goes to, below ``weights/``.

    Returns:
        ``name``, ``title``, ``path``, ``bytes``, ``sha256``, ``origin`` ("found" or the address).

    Raises:
        InputError: the file is not there and there is no address, it cannot be downloaded, or it is
            not the one whose checksum is stated.
    """
    path, origin = at_hand(entry, raw_dirs), "found"
    if path is None:
        path, origin = _downloaded(name, entry, download_target(entry, download_dir)), entry.url
    sha256 = check_sha256(name, entry, path)
    return {
        "name": name,
        "title": entry.title,
        "path": path.as_posix(),
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "origin": origin,
    }


def _downloaded(name: str, entry: Weights, target: Path) -> Path:
    from medrobust.data.fetching.transfer import (
        Sessions,
        TransferSettings,
        download,
        http_opener,
        require_space,
    )

    if entry.url is None:
        raise InputError(
            f"The weights {name!r} ({entry.title}) are not at hand.",
            where=str(target.parent / entry.file),
            remedy=f"{entry.instructions or 'put the file there, or correct its path'}: {GUIDE}.",
        )
    settings = TransferSettings()
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent, entry.about_bytes, settings.free_bytes)
    opener = http_opener(entry.url, settings, Sessions())
    download(opener, entry.url, target, Content(sha256=entry.sha256), settings)
    return target
