"""What survives a killed job: journals of finished units, checkpoints of long loops.

Both live outside a rule's declared outputs (``results/.progress/``) and carry a key: a hash of
the settings, the input files and the code (:func:`progress_key`). What was written under
another key is set aside, never used. Both are held by a file lock: a job whose predecessor is
still running (a workflow was killed, its job was not) waits for it, then continues from what
it has finished.

A file is a row of frames: 8 bytes length (little endian), 32 bytes SHA-256 of the payload, the
payload. The first frame holds the key, the others safetensors. A frame that was not written
whole, or was damaged, ends what is read; what stands before it counts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import struct
import time
from collections.abc import Callable, Mapping
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.logs import logger

Arrays = dict[str, np.ndarray]

_LENGTH = struct.Struct("<Q")
_DIGEST_BYTES = 32
_LOCK_SUFFIX = ".lock"
_ASIDE_SUFFIX = ".set-aside"
_DONE_SUFFIX = ".done"

# Files that this process holds: POSIX locks do not keep a process from itself.
_held: set[Path] = set()


def progress_key(spec: Mapping[str, Any], input_hashes: Mapping[str, str], code_hash: str) -> str:
    """Returns the key (SHA-256, hexadecimal) under which finished work may be taken up again.

    Args:
        spec: the settings of the work, as plain JSON values.
        input_hashes: hash of each input file, by a name of the input.
        code_hash: hash of the code (``medrobust.experiment.codehash.code_hash``).
    """
    return io.sha256_of_json({"spec": dict(spec), "inputs": dict(input_hashes), "code": code_hash})


def mark_done(path: str | os.PathLike[str]) -> None:
    """Notes that the outputs of the job which kept its journal or checkpoint in ``path``
    are written."""
    path = Path(path)
    if path.exists():
        path.with_name(path.name + _DONE_SUFFIX).touch()


def clear(folder: str | os.PathLike[str]) -> int:
    """Removes the journals and checkpoints below ``folder`` whose jobs are done.

    Those of a job that was killed stay, whichever other run succeeds. Only files made here
    are removed (each has a lock file beside it), then folders that became empty. What a running
    job holds stays, with a message in the log.

    Returns:
        The number of journals and checkpoints removed.
    """
    root = Path(folder)
    removed = 0
    for lock_path in sorted(root.rglob(f"*{_LOCK_SUFFIX}")):
        path = lock_path.with_name(lock_path.name.removesuffix(_LOCK_SUFFIX))
        done = path.with_name(path.name + _DONE_SUFFIX)
        if path.exists() and not done.exists():
            continue
        try:
            lock = _Lock(path, wait=False)
        except _HeldError as holder:
            logger.info("%s is kept: it is in use by %s", path, holder)
            continue
        removed += path.exists()
        for leftover in (path, done, _aside(path), *_unfinished(path), lock_path):
            leftover.unlink(missing_ok=True)
        lock.release()
    for inner in sorted((p for p in root.rglob("*") if p.is_dir()), reverse=True):
        with contextlib.suppress(OSError):
            inner.rmdir()
    return removed


class _Locked:
    """A file held by this process until :meth:`close`; usable in a ``with`` statement."""

    def __init__(self, path: str | os.PathLike[str], key: str) -> None:
        self.path, self.key = Path(path), key
        self._lock = _Lock(self.path)

    def close(self) -> None:
        """Lets the next job have the file; calling it twice does no harm."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Journal(_Locked):
    """An append-only file of finished units of work.

    A unit that :meth:`append` has returned from is on the disk: a kill at any moment loses at
    most the unit that was being written. Use it in a ``with`` statement, or call :meth:`close`.

    Args:
        path: the journal's file; it and its folder are made if missing.
        key: see :func:`progress_key`.

    Raises:
        InputError: the file system cannot lock files, or the disk is full.
        RuntimeError: this process has the same journal open already.
    """

    def __init__(self, path: str | os.PathLike[str], key: str) -> None:
        super().__init__(path, key)
        try:
            self._finished, size = self._read()
            # Unbuffered: whatever a failed write leaves is in the file and can be cut off.
            mode = "r+b" if size else "w+b"
            self._file: RawIOBase = open(self.path, mode, buffering=0)  # noqa: SIM115
            self._file.truncate(size)
            self._file.seek(size)
            if not size:
                self._write(_header(key))
        except BaseException:
            super().close()
            raise

    def append(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds a finished unit and waits until it is on the disk.

        Args:
            name: the unit's name; a later unit of the same name replaces an earlier one.
            arrays: its result, of any shapes and any plain number or bool types.

        Raises:
            InputError: the disk is full; the journal stays as it was.
        """
        payload = _pack(arrays, {"name": name})
        self._write(payload)
        self._finished[name] = _unpack(payload)[0]

    def finished(self) -> dict[str, Arrays]:
        """Returns the arrays of every finished unit by name."""
        return {name: dict(arrays) for name, arrays in self._finished.items()}

    def close(self) -> None:
        """Lets the next job have the journal; calling it twice does no harm."""
        self._file.close()
        super().close()

    def _read(self) -> tuple[dict[str, Arrays], int]:
        """Returns the finished units and the size of the part of the file that is whole."""
        frames, size = _read_frames(self.path)
        if not frames or frames[0] != _header(self.key):
            _set_aside(self.path)
            return {}, 0
        if size < self.path.stat().st_size:
            logger.warning("%s: its last unit was not written whole and is dropped", self.path)
        finished = {}
        for payload in frames[1:]:
            arrays, metadata = _unpack(payload)
            finished[metadata["name"]] = arrays
        logger.info("%s: continuing after %d finished units", self.path, len(finished))
        return finished, size

    def _write(self, payload: bytes) -> None:
        end = self._file.tell()
        try:
            rest = memoryview(_frame(payload))
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            self._file.seek(end)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise io.disk_full(self.path) from error
            raise


class Checkpoint(_Locked):
    """The latest state of a long loop, such as training after an epoch.

    Each save replaces the one before, whole or not at all. Use it in a ``with`` statement, or
    call :meth:`close`.

    Args:
        path: the checkpoint's file; its folder is made if missing.
        key: see :func:`progress_key`.

    Raises:
        InputError: the file system cannot lock files.
        RuntimeError: this process has the same checkpoint open already.
    """

    def __init__(self, path: str | os.PathLike[str], key: str) -> None:
        super().__init__(path, key)
        for leftover in _unfinished(self.path):
            leftover.unlink(missing_ok=True)

    def save(self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint.

        Args:
            arrays: named arrays, of any shapes and any plain number or bool types.
            state: plain JSON values; integers of any size, infinity and NaN are kept.

        Raises:
            InputError: the disk is full; the previous checkpoint stays.
        """
        payload = _pack(arrays, {"state": json.dumps(dict(state))})
        with io.atomic_path(self.path) as temporary:
            temporary.write_bytes(_frame(_header(self.key)) + _frame(payload))

    def load(self) -> tuple[Arrays, dict[str, Any]] | None:
        """Returns the arrays and state of the last save under this key, or None.

        A damaged file, or one of another key, is set aside.
        """
        frames, _ = _read_frames(self.path)
        if len(frames) != 2 or frames[0] != _header(self.key):
            _set_aside(self.path)
            return None
        arrays, metadata = _unpack(frames[1])
        return arrays, json.loads(metadata["state"])


#: A save that takes longer than this is made less often: the state of a large network, hundreds of
#: megabytes, would else fill a third of its training's time.
QUICK_SAVE_SECONDS = 0.15


class Pace:
    """Tells when a checkpoint is due, so that saving costs little.

    Args:
        seconds: from one save to the next, where saves are quick; longer ones are as much rarer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._due = seconds, time.monotonic() + seconds

    def save_if_due(self, save: Callable[[], None]) -> None:
        """Calls ``save``, if it is time to."""
        begun = time.monotonic()
        if begun < self._due:
            return
        save()
        ended = time.monotonic()
        slow = max(1.0, (ended - begun) / QUICK_SAVE_SECONDS)
        self._due = ended + self._seconds * slow


def _header(key: str) -> bytes:
    return json.dumps({"format": "medrobust progress 1", "key": key}).encode()


def _frame(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + hashlib.sha256(payload).digest() + payload


def _read_frames(path: Path) -> tuple[list[bytes], int]:
    """Returns the payloads of the whole frames from the start, and the bytes they take."""
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return [], 0
    frames, position = [], 0
    while len(content) - position >= _LENGTH.size + _DIGEST_BYTES:
        (length,) = _LENGTH.unpack_from(content, position)
        start = position + _LENGTH.size + _DIGEST_BYTES
        payload = content[start : start + length]
        digest = content[position + _LENGTH.size : start]
        if len(payload) != length or hashlib.sha256(payload).digest() != digest:
            break
        frames.append(bytes(payload))
        position = start + length
    return frames, position


def _pack(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    import safetensors.numpy

    # asarray, not ascontiguousarray, which would turn a scalar array into a vector.
    tensors = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors.numpy.save(tensors, metadata=metadata)


def _unpack(payload: bytes) -> tuple[Arrays, dict[str, str]]:
    import safetensors.numpy

    (length,) = _LENGTH.unpack_from(payload)
    header = json.loads(payload[_LENGTH.size : _LENGTH.size + length])
    return safetensors.numpy.load(payload), header["__metadata__"]


def _aside(path: Path) -> Path:
    return path.with_name(path.name + _ASIDE_SUFFIX)


def _set_aside(path: Path) -> None:
    if path.exists():
        os.replace(path, _aside(path))
        logger.info("%s belongs to other settings, data or code (or is damaged); set aside", path)


def _unfinished(path: Path) -> list[Path]:
    """Returns the temporary files that killed saves of ``path`` left (see ``io.atomic_path``)."""
    return [
        other
        for other in path.parent.iterdir()
        if other.name.startswith(f".{path.stem}.") and other.name.endswith(f".part{path.suffix}")
    ]


class _HeldError(Exception):
    """Another process holds the lock; the text says which."""


class _Lock:
    """An exclusive lock on ``path``, by a lock file beside it; ends with the process.

    ``lockf`` rather than ``flock``: children that a job forks do not inherit it, so a worker
    that outlives its killed parent keeps nobody waiting.
    """

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._name = path.resolve()
        self._path = path.with_name(path.name + _LOCK_SUFFIX)
        self._handle: int | None = None
        if self._name in _held:
            if not wait:
                raise _HeldError("this process")
            raise RuntimeError(f"{path} is open already in this process; close it first")
        # Whoever held the lock may have removed its file: then what we hold is no longer it.
        while self._handle is None:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._take(handle, wait)
                if self._is_current(handle):
                    self._handle = handle
            finally:
                if self._handle is None:
                    os.close(handle)
        _held.add(self._name)
        os.truncate(self._handle, 0)
        os.pwrite(self._handle, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)

    def release(self) -> None:
        """Gives the lock back; calling it twice does no harm."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            _held.discard(self._name)

    def _take(self, handle: int, wait: bool) -> None:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise InputError(
                    f"This file system cannot lock files ({error.strerror}), so two jobs could "
                    "write the same journal at once.",
                    where=str(self._path),
                    remedy="put the results on a file system with locks (a local disk, or NFS "
                    "mounted without `nolock`).",
                ) from error
        holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
        if not wait:
            raise _HeldError(holder)
        logger.info(
            "%s is held by %s; waiting until it ends, then continuing from what it finished",
            self._name,
            holder,
        )
        fcntl.lockf(handle, fcntl.LOCK_EX)

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), self._path.stat())
        except FileNotFoundError:
            return False
