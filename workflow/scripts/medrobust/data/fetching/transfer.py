"""Downloading one file: resumed, retried, checked, and published whole.

Bytes go to ``<name>.part`` beside the destination, which is renamed only after size and
checksum are right. A cut connection, a server error or a rate limit is waited out and
resumed where the server can (HTTP Range with If-Range, so that a file that changed on the
server is started anew). Addresses are shown without their query and the text of network
errors is never shown, because either may carry a signature or a key.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from medrobust import __version__
from medrobust.core.errors import InputError
from medrobust.core.logs import Progress, logger
from medrobust.data.registry import Content

if TYPE_CHECKING:
    import requests

# What a cut connection loses at most: urllib3 drops an unfinished block.
_BLOCK = 1 << 15
_MOST_ATTEMPTS = 1000
_MEGABYTE = 10**6
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)


def free_bytes(folder: Path) -> int:
    """Returns the free space, in bytes, of the file system that ``folder`` is or will be on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class TransferSettings:
    """How to download. Times are in seconds.

    ``attempts`` counts those that brought no new byte: a download that advances is never
    given up. ``free_bytes`` and ``sleep`` are arguments so that tests need no full disk and
    no waiting.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0
    connect_timeout: float = 20.0
    read_timeout: float = 60.0
    parallel: int = 4
    free_bytes: Callable[[Path], int] = free_bytes
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = field(default=random.random)


class TransientError(Exception):
    """A failure worth waiting for. ``wait``: seconds the server asks for, if it does."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        self.what, self.wait = what, wait
        super().__init__(what)


class UnavailableError(InputError):
    """An address does not give the file; another address may."""


Opener = Callable[[dict[str, str]], "requests.Response"]
"""Opens the download with the given extra request headers; the body is streamed."""

Explain = Callable[[int, str], InputError]
"""(HTTP status, address without query) -> the error to show for a final refusal."""


def bare_url(url: str) -> str:
    """Returns ``url`` without user, password, query and fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.port:
        host += f":{parts.port}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class Sessions(threading.local):
    """One HTTP session per thread, so that many small files share a connection."""

    def __init__(self) -> None:
        import requests

        self.session = requests.Session()


def http_opener(url: str, settings: TransferSettings, sessions: Sessions) -> Opener:
    """Returns the opener for a plain address."""

    def open_url(headers: dict[str, str]) -> requests.Response:
        return sessions.session.get(
            url,
            headers={
                "User-Agent": f"medrobust/{__version__}",
                # Compressed in transit, a partial file could not be resumed byte by byte.
                "Accept-Encoding": "identity",
                **headers,
            },
            stream=True,
            timeout=(settings.connect_timeout, settings.read_timeout),
        )

    return open_url


def explain_http(status: int, url: str) -> UnavailableError:
    """Returns the error for a final refusal of an ordinary web server."""
    by_hand = "or download the file yourself and put it into the data set's folder."
    reasons = {
        401: ("The server asks for a login (401).", "check the source in config/datasets.yaml, "),
        403: ("The server refuses access (403).", "check whether its terms must be accepted, "),
        404: ("The server does not have this file (404).", "it may have moved: check the source, "),
        410: ("The server has removed this file (410).", "check the source for a newer version, "),
        429: ("The server limits how often one may ask (429).", "wait a while and try again, "),
    }
    what, remedy = reasons.get(
        status, (f"The server answered with an error ({status}).", "try again later, ")
    )
    return UnavailableError(what, where=url, remedy=remedy + by_hand)


def ask_http(url: str, expected: Content, settings: TransferSettings) -> None:
    """Asks a server for the first byte of a file, as a download would.

    A file is asked for and not its folder, which many servers do not show; with GET, which is all
    that some servers answer.

    Raises:
        TransientError: no answer, or a server error that may pass.
        UnavailableError: the server refuses, or its file has another size than is expected.
    """
    import requests

    try:
        with http_opener(url, settings, Sessions())({"Range": "bytes=0-0"}) as answer:
            status, headers = answer.status_code, answer.headers
    except requests.exceptions.Timeout:
        raise TransientError("the server did not answer in time") from None
    except requests.RequestException as error:
        raise TransientError(_network_reason(error)) from None
    if status in _RETRIED_STATUS:
        raise TransientError(f"it answered {status}")
    if status >= 400 and status != 416:  # 416: the file is empty, or ranges are not liked
        raise explain_http(status, bare_url(url))
    size = _size_of_file(status, headers)
    if expected.bytes is not None and size not in (None, expected.bytes):
        raise UnavailableError(
            f"The server's file has {size:,} bytes, not {expected.bytes:,}.",
            where=bare_url(url),
            remedy="the file there has changed, or it is a page in place of it: open the address "
            "in a browser.",
        )


def _size_of_file(status: int, headers: Any) -> int | None:
    """Returns the size of the whole file that an answer states, if it does."""
    ranged = str(headers.get("Content-Range", "")).rpartition("/")[2]
    text = ranged if status == 206 else str(headers.get("Content-Length", ""))
    encoded = headers.get("Content-Encoding") not in (None, "identity")
    return int(text) if text.isdigit() and status in (200, 206) and not encoded else None


def require_space(
    folder: Path, needed: int, free: Callable[[Path], int], what: str = "the download"
) -> None:
    """Checks that ``needed`` bytes fit on the file system of ``folder``, with 1 % to spare.

    Raises:
        InputError: they do not.
    """
    available = free(folder)
    if needed + needed // 100 > available:
        raise InputError(
            f"Not enough space for {what}: it needs {megabytes(needed)}, "
            f"{megabytes(available)} are free.",
            where=str(folder),
            remedy="free some space, or point `raw_dir` in config/config.yaml to a folder on "
            "another disk that has the files.",
        )


def megabytes(count: int) -> str:
    """Returns a number of bytes for people: "93.9 MB" (10^6 bytes), from 10 GB on in GB."""
    if count >= 10**10:
        return f"{count / 10**9:,.1f} GB"
    return f"{count / _MEGABYTE:,.1f} MB"


def digest(path: str | Path, kind: str) -> str:
    """Returns the ``kind`` ("sha256" or "md5") of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        # MD5 only where a publisher gives nothing else; it guards against damage, not malice.
        return hashlib.file_digest(
            file, lambda: hashlib.new(kind, usedforsecurity=False)
        ).hexdigest()


def unpacked_digest(path: Path, most: int) -> tuple[int, str]:
    """Returns the size and the SHA-256 of what a gzip file holds.

    Raises:
        OSError, EOFError, zlib.error: it is damaged, or holds more than ``most`` bytes.
    """
    size, sha256 = 0, hashlib.sha256()
    with gzip.open(path) as file:
        while block := file.read(_MEGABYTE):
            size += len(block)
            sha256.update(block)
            if size > most:
                raise OSError(f"more than {most:,} bytes unpacked")
    return size, sha256.hexdigest()


def mismatch(path: Path, content: Content) -> str | None:
    """Returns how a file differs from what is stated ("size: expected .., found .."), or None."""
    size = path.stat().st_size
    if content.bytes is not None and size != content.bytes:
        return f"size: expected {content.bytes:,} bytes, found {size:,}"
    for kind in ("sha256", "md5"):
        expected = getattr(content, kind)
        if expected is not None:
            actual = digest(path, kind)
            return None if actual == expected else f"{kind}: expected {expected}, found {actual}"
    return None


def download(
    open_stream: Opener,
    url: str,
    target: Path,
    expected: Content,
    settings: TransferSettings,
    explain: Explain = explain_http,
) -> None:
    """Downloads one file to ``target``.

    Args:
        open_stream: opens the transfer; called again for every attempt.
        url: the address shown in messages.
        target: where the file is published; its folder exists.
        expected: size and checksum to hold it against (a mismatch is an error).
        settings: attempts, waits, timeouts.
        explain: the error for a final refusal.

    Raises:
        UnavailableError: refused, not found, no network, or the content is wrong. A partial
            download stays as ``.part`` to be resumed; wrong content is deleted.
        InputError: no space, or no permission to write.
    """
    part = target.with_name(target.name + ".part")
    address = bare_url(url)
    for last_try in (False, True):
        resumed = _complete_part(open_stream, address, part, expected, settings, explain)
        problem = mismatch(part, expected)
        if problem is None and part.stat().st_size > 0:
            break
        _discard(part)
        # Pieces of two downloads may not belong together: one more try from the first byte.
        if last_try or not resumed:
            raise UnavailableError(
                f"The downloaded {target.name} is not the expected file "
                f"({problem or 'it is empty'}); it was deleted.",
                where=address,
                remedy="try again; if it happens again, the file on the server has changed: "
                "download it yourself, look at it, and put it into the data set's folder.",
            )
        logger.warning("%s: resumed pieces do not fit together, starting anew", target.name)
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    _validator_file(part).unlink(missing_ok=True)


def _complete_part(
    open_stream: Opener,
    address: str,
    part: Path,
    expected: Content,
    settings: TransferSettings,
    explain: Explain,
) -> bool:
    """Brings ``part`` to its full length; returns whether it began with older bytes."""
    resumed = _resumable_size(part, expected) > 0
    fruitless, furthest = 0, _size(part)
    for _ in range(_MOST_ATTEMPTS):
        try:
            _attempt(open_stream, address, part, expected, explain)
            return resumed
        except TransientError as trouble:
            fruitless = 0 if _size(part) > furthest else fruitless + 1
            furthest = max(furthest, _size(part))
            if fruitless >= settings.attempts:
                raise _gave_up(trouble, address, part, settings.attempts) from None
            resumed = resumed or _size(part) > 0
            wait = _wait(trouble, fruitless, settings)
            logger.warning("%s: %s; trying again in %.1f s", part.stem, trouble.what, wait)
            settings.sleep(wait)
    raise _gave_up(
        TransientError("the connection was cut too often"), address, part, _MOST_ATTEMPTS
    )


def _wait(trouble: TransientError, fruitless: int, settings: TransferSettings) -> float:
    if trouble.wait is not None:
        return min(trouble.wait, settings.longest_wait)
    growing = settings.first_wait * 2.0 ** max(fruitless - 1, 0)
    return min(growing * (1 + settings.jitter() / 4), settings.longest_wait)


def _gave_up(trouble: TransientError, address: str, part: Path, attempts: int) -> UnavailableError:
    kept = _size(part)
    return UnavailableError(
        f"The download of {part.stem} failed {attempts} times; the last time: {trouble.what}.",
        where=address,
        remedy="check the network (a proxy is read from https_proxy) and try again later"
        + (f"; {megabytes(kept)} are kept and will be resumed." if kept else "."),
    )


def _attempt(
    open_stream: Opener, address: str, part: Path, expected: Content, explain: Explain
) -> None:
    import requests
    import urllib3

    offset = _resumable_size(part, expected)
    if expected.bytes is not None and offset == expected.bytes:
        return
    try:
        with open_stream(_range_headers(part, offset)) as response:
            _receive(response, address, part, offset, explain)
    except requests.exceptions.Timeout:
        raise TransientError("the server did not answer in time") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransientError(_network_reason(error)) from None


def _network_reason(error: Exception) -> str:
    """Returns a reason free of the error's own text, which holds the full address."""
    text = str(error)
    if "NameResolution" in text or "Name or service not known" in text:
        return "the server's name could not be resolved (no network?)"
    if "Connection refused" in text:
        return "the server refused the connection"
    if "SSL" in type(error).__name__ or "CERTIFICATE" in text:
        return "the secure connection could not be set up (certificate or proxy)"
    return "the connection was cut"


def _receive(
    response: requests.Response, address: str, part: Path, offset: int, explain: Explain
) -> None:
    status = response.status_code
    if status == 416:
        _discard(part)
        raise TransientError("the server has no more bytes than are here already", wait=0.0)
    if status in _RETRIED_STATUS:
        wait = retry_after(response.headers)
        raise TransientError(f"the server answered {status}", wait=wait)
    if status not in (200, 206):
        raise explain(status, address)
    continued = status == 206 and _range_start(response.headers) == offset
    if status == 206 and not continued:
        _discard(part)
        raise TransientError("the server sent another range than was asked for", wait=0.0)
    if not continued:
        offset = 0
        _write_validator(part, response.headers)
    length = response.headers.get("Content-Length")
    total = offset + int(length) if length and length.isdigit() else 0
    with _disk_errors(part), open(part, "ab" if continued else "wb") as file:
        _copy(response, file, part.stem, offset, total)


def _copy(response: requests.Response, file: Any, name: str, offset: int, total: int) -> None:
    progress = Progress(name, max(total // _MEGABYTE, 1), unit="MB")
    done = offset
    for block in response.iter_content(_BLOCK):
        file.write(block)
        done += len(block)
        if total:
            progress.update(done // _MEGABYTE)
    if total and done < total and not response.headers.get("Content-Encoding"):
        raise TransientError(f"the connection was cut after {done:,} of {total:,} bytes")


@contextmanager
def _disk_errors(part: Path) -> Iterator[None]:
    import requests

    try:
        yield
    except requests.RequestException:  # an OSError too, but not the disk's
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"No space left on the disk while downloading {part.stem}.",
                where=str(part.parent),
                remedy=f"free some space and run the same command again; "
                f"{megabytes(_size(part))} are kept and will be resumed.",
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise not_writable(part.parent) from None
        raise


def not_writable(folder: Path) -> InputError:
    """Returns the error for a download folder that cannot be written to."""
    return InputError(
        "The download folder cannot be written to.",
        where=str(folder),
        remedy="change its permissions, or run from a checkout that you own.",
    )


def retry_after(headers: Any) -> float | None:
    """Returns the seconds of a Retry-After header (number or date), or None."""
    value = headers.get("Retry-After")
    if not value:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _range_headers(part: Path, offset: int) -> dict[str, str]:
    if offset == 0:
        return {}
    headers = {"Range": f"bytes={offset}-"}
    validator = _read_validator(part)
    return {**headers, "If-Range": validator} if validator else headers


def _range_start(headers: Any) -> int | None:
    value = str(headers.get("Content-Range", ""))
    start = value.removeprefix("bytes ").split("-")[0]
    return int(start) if start.isdigit() else None


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _write_validator(part: Path, headers: Any) -> None:
    """Keeps what identifies the file on the server; a weak ETag does not (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    with _disk_errors(part):
        _validator_file(part).write_text(validator, encoding="latin-1", errors="replace")


def _read_validator(part: Path) -> str:
    try:
        return _validator_file(part).read_text(encoding="latin-1").strip()
    except FileNotFoundError:
        return ""


def _resumable_size(part: Path, expected: Content) -> int:
    """Returns how many bytes of ``part`` may be kept.

    They are kept if the server's file can be recognised again, or if a checksum would tell.
    """
    trusted = bool(_read_validator(part) or expected.sha256 or expected.md5)
    size = _size(part) if trusted else 0
    too_long = expected.bytes is not None and size > expected.bytes
    return 0 if too_long else size


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


class SharedProgress:
    """Counts finished files of a parallel download; safe to call from several threads."""

    def __init__(self, what: str, total: int) -> None:
        self._progress = Progress(what, total, unit="files")
        self._lock, self._done = threading.Lock(), 0

    def one_more(self) -> None:
        """Notes that one more file is there."""
        with self._lock:
            self._done += 1
            self._progress.update(self._done)
