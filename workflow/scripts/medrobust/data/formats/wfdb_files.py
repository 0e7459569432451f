"""Reading signals of WFDB records (PhysioNet's format); damaged files are told in words.

wfdb raises many kinds of exception on damaged files; all mean the same to a user.
"""

from __future__ import annotations

import math
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
        there = Path(where).stat().st_size
        if header.sig_len * header.n_sig > there:
            raise ValueError("fewer bytes than samples")
        stated = _stated_bytes(header, channel)
        if stated is not None and there > stated:
            raise ValueError(f"{there - stated:,} bytes more than the {stated:,} of its header")
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


_BYTES_PER_SAMPLE = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5}
"""Of the formats that databases use; others are not checked."""


def _stated_bytes(header: Any, channel: int) -> int | None:
    """Returns how many bytes the signal file of a channel has by the header, None if unknown."""
    name = header.file_name[channel]
    signals = [k for k, file in enumerate(header.file_name) if file == name]
    bytes_each = [_BYTES_PER_SAMPLE.get(header.fmt[k]) for k in signals]
    if None in bytes_each:
        return None
    frame = sum(
        size * (header.samps_per_frame[k] or 1)
        for k, size in zip(signals, bytes_each, strict=True)
        if size is not None
    )
    return (header.byte_offset[channel] or 0) + math.ceil(header.sig_len * frame)


def matches_check_sum(signal: np.ndarray, header: Any, channel: int) -> bool:
    """Returns whether a signal adds up to the 16 bit check sum that its header states."""
    stated = header.checksum[channel]
    return stated is not None and (int(signal.sum()) - int(stated)) % 65536 == 0
