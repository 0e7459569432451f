"""Reading and writing files: whole or not at all, and never with pickle.

A file is written beside its destination under a temporary name, flushed, and renamed; a
killed process or a full disk leaves the destination as it was. Arrays travel as ``.npy``
(``allow_pickle=False``), named tensors as safetensors, tables as parquet or CSV.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrobust.core.errors import InputError
from medrobust.core.files import remove_left_files, temporary_file

if TYPE_CHECKING:
    import pandas as pd


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it to ``path`` if the block succeeds.

    Raises:
        InputError: the disk is full (nothing is left behind).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept last: writers such as matplotlib choose a format by it.
    prefix, suffix = f".{path.stem}.", f".part{path.suffix}"
    try:
        with temporary_file(path.parent, prefix, suffix) as temporary:
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or _silently_full(error, path):
            raise disk_full(path) from error
        raise


def remove_left_parts(folder: str | os.PathLike[str]) -> None:
    """Removes what writers that were killed left in a folder (see :func:`atomic_path`)."""
    remove_left_files(folder, ".*.part*")


def disk_full(path: str | os.PathLike[str]) -> InputError:
    """Returns the error that says that the file system of ``path`` is full."""
    return InputError(
        f"No space left on the disk while writing {Path(path).name}; nothing was written.",
        where=str(path),
        remedy="free some space (`snakemake plan` states the disk a study needs), then run "
        "the same command again: finished work is kept.",
    )


def refuse_unwritable(folder: str | os.PathLike[str]) -> None:
    """Tells before hours of work that nothing can be written into a folder.

    A file is made there and removed: rights alone say nothing of a disk mounted read-only, nor of
    what an administrator may do. A missing folder is looked for upwards.

    Raises:
        InputError: no file can be made there.
    """
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(place) from error
        raise InputError(
            f"Nothing can be written here ({error.strerror}).",
            where=str(place.absolute()),
            remedy="make the folder yours and writable (`ls -ld` shows whose it is), or make a "
            "copy of the project where you may write and run it there.",
        ) from error


def _silently_full(error: OSError, path: Path) -> bool:
    """Tells whether an error without a code (NumPy's short write) comes from a full disk."""
    return error.errno is None and shutil.disk_usage(path.parent).free < 2**20


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes ``text`` to ``path`` (UTF-8) atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes ``value`` as indented JSON with a final newline; NaN is refused (JSON has none)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads a JSON file.

    Raises:
        InputError: the file is not valid JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"This file is not valid JSON ({error}).", where=str(path)) from error


def write_array(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes ``array`` as ``.npy`` atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def read_array(path: str | os.PathLike[str], *, mmap: bool = False) -> np.ndarray:
    """Reads a ``.npy`` file, memory-mapped read-only if ``mmap``.

    Raises:
        InputError: the file is truncated or not a ``.npy`` file of plain numbers.
    """
    try:
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(
            f"This is not a complete array file ({error}).",
            where=str(path),
            remedy="delete it and run the same command again.",
        ) from error


def write_tensors(
    path: str | os.PathLike[str],
    tensors: dict[str, np.ndarray],
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes named arrays as a safetensors file, atomically."""
    import safetensors.numpy

    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(contiguous, metadata=metadata))


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a safetensors file into named arrays.

    Raises:
        InputError: the file is truncated or not a safetensors file.
    """
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise _not_tensors(path, error) from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Returns the texts by name that a safetensors file holds beside its arrays.

    Raises:
        InputError: the file is truncated or not a safetensors file.
    """
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise _not_tensors(path, error) from error


def _not_tensors(path: str | os.PathLike[str], error: Exception) -> InputError:
    return InputError(
        f"This is not a complete safetensors file ({error}).",
        where=str(path),
        remedy="delete it and run the same command again.",
    )


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Writes a data frame atomically, as CSV or parquet by the suffix of ``path``.

    The bytes depend on the table alone (no time stamp), so equal results are equal files.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False, compression="zstd")
        else:
            table.to_csv(temporary, index=False, lineterminator="\n")


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads a CSV or parquet file (chosen by suffix) into a data frame.

    Of a CSV the columns that look like numbers become numbers: names are read by
    :func:`read_text_table`.
    """
    import pandas as pd

    path = Path(path)
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def read_text_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Reads a CSV file whose cells are all text: the name "001" stays one, and so does "none"."""
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False)


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Returns the SHA-256 of ``value`` as canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
