"""Reading signals of WFDB records (PhysioNet's format); damaged files are told in words.

wfdb raises many kinds of exception on damaged files; all mean the same to a user.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medrobust.core.errors import InputError


@contextmanager
def one_folder(files: Mapping[str, Path]) -> Iterator[Path]:
    """Gives a temporary folder in which files of several folders seem to lie together.

    Args:
        files: path by the name that the file has there, with at most one folder.
    """
    with tempfile.TemporaryDirectory(prefix="medrobust-") as name:
        folder = Path(name)
        for target, path in files.items():
            link = folder / target
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(Path(path).resolve())
        yield folder


def read_header(stem: Path, *, where: Path, again: str) -> Any:
    """Returns the header of a record as ``wfdb.Record``.

    Args:
        stem: path of the record without suffix.
        where: the header file that messages name.
        again: what to do if it is damaged.

    Raises:
        InputError: it cannot be read.
    """
    import wfdb

    try:
        return wfdb.rdheader(str(stem))
    except Exception as error:
        raise InputError(
            f"Record {stem.name}: the header cannot be read ({error}).",
            where=str(where),
            remedy=again,
        ) from error


def read_signal(stem: Path, channel: int, header: Any, *, where: Path, again: str) -> np.ndarray:
    """Returns one signal of a record, int64 ``[n_samples]``, in units of the converter.

    Args:
        stem: path of the record without suffix.
        channel: number of the signal, from 0.
        header: of the record.
        where: the signal file that messages name.
        again: what to do if it is damaged.

    Raises:
        InputError: it cannot be read, or is shorter or longer than the header says.
    """
    import wfdb

    try:
        # wfdb makes an array of the stated length first. No format here packs a sample into less
        # than a byte.
        if header.sig_len * header.n_sig > Path(where).stat().st_size:
            raise ValueError("fewer bytes than samples")
        read = wfdb.rdrecord(str(stem), physical=False, channels=[channel])
        signal = read.d_signal[:, 0].astype(np.int64)
        if len(signal) != header.sig_len:
            raise ValueError(f"{len(signal):,} samples")
    except Exception as error:
        raise InputError(
            f"Record {stem.name}: the signal file cannot be read; it has "
            f"{Path(where).stat().st_size:,} bytes for {header.sig_len:,} samples of "
            f"{header.n_sig} signals ({error}).",
            where=str(where),
            remedy=again,
        ) from error
    return signal


def matches_check_sum(signal: np.ndarray, header: Any, channel: int) -> bool:
    """Returns whether a signal adds up to the 16 bit check sum that its header states."""
    stated = header.checksum[channel]
    return stated is not None and (int(signal.sum()) - int(stated)) % 65536 == 0
