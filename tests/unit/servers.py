"""Web servers on localhost that behave and misbehave on request, for tests of downloads."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What a server does.

    ``files``: path -> content. ``statuses``: path -> answers to give before the content,
    one per request. ``cuts``: path -> after how many bytes to close the connection, one per
    request. ``requests``: what was asked, as (method, path, headers).
    """

    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    honour_range: bool = True
    wrong_range: bool = False
    etag: str | None = '"v1"'
    delay: float = 0.0
    retry_after: str | None = None
    announced_extra: int = 0
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def count(self, path: str) -> int:
        """Returns how often ``path`` was asked for."""
        return sum(1 for _, asked, _ in self.requests if asked.split("?")[0] == path)

    def headers_of(self, path: str) -> list[dict[str, str]]:
        """Returns the request headers of every request for ``path``, in order."""
        return [headers for _, asked, headers in self.requests if asked.split("?")[0] == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Behaviour

    def log_message(self, *_: object) -> None:
        pass

    def _note(self) -> str:
        self.behaviour.requests.append((self.command, self.path, dict(self.headers.items())))
        return self.path.split("?")[0]

    def _empty(self, status: int) -> None:
        self.send_response(status)
        if status == 429 and self.behaviour.retry_after:
            self.send_header("Retry-After", self.behaviour.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        path = self._note()
        queue = self.behaviour.statuses.get(path)
        self._empty(queue.pop(0) if queue else 200)

    def do_GET(self) -> None:
        path = self._note()
        behaviour = self.behaviour
        time.sleep(behaviour.delay)
        queue = behaviour.statuses.get(path)
        if queue:
            return self._empty(queue.pop(0))
        if path not in behaviour.files:
            return self._empty(404)
        return self._content(path, behaviour.files[path])

    def _range(self) -> tuple[int, int | None] | None:
        """Returns the first byte to send and the last (None: all the rest); None: everything."""
        behaviour = self.behaviour
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not asked or not behaviour.honour_range:
            return None
        if condition is not None and condition != behaviour.etag:
            return None
        start, _, end = asked.removeprefix("bytes=").partition("-")
        return int(start), int(end) if end else None

    def _content(self, path: str, content: bytes) -> None:
        behaviour = self.behaviour
        asked = self._range()
        start, last = asked or (0, None)
        if asked and start >= len(content):
            return self._empty(416)
        body = content[start : None if last is None else last + 1]
        self.send_response(206 if asked else 200)
        if behaviour.etag:
            self.send_header("ETag", behaviour.etag)
        if asked:
            shown = start + 1 if behaviour.wrong_range else start
            end = start + len(body) - 1
            self.send_header("Content-Range", f"bytes {shown}-{end}/{len(content)}")
        self.send_header("Content-Length", str(len(body) + behaviour.announced_extra))
        self.end_headers()
        cuts = behaviour.cuts.get(path)
        if cuts:
            body = body[: cuts.pop(0)]
            self.close_connection = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)
        if behaviour.announced_extra:
            self.close_connection = True


@contextlib.contextmanager
def file_server(behaviour: Behaviour) -> Iterator[str]:
    """Yields the address (ending with a slash) of a server of plain files."""
    with _running(type("Handler", (_Handler,), {"behaviour": behaviour})) as port:
        yield f"http://127.0.0.1:{port}/"


@dataclass
class KaggleBehaviour(Behaviour):
    """A Kaggle of one data set: ``archive`` for whoever shows the right credential.

    ``answers``: (status, message) to give before anything else, one per request.
    """

    archive: bytes = b""
    owner: str = "shayanfazeli"
    name: str = "heartbeat"
    token: str = ""
    basic: str = ""
    answers: list[tuple[int, str]] = field(default_factory=list)


class _KaggleHandler(_Handler):
    behaviour: KaggleBehaviour

    def do_POST(self) -> None:
        path = self._note()
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        behaviour = self.behaviour
        if behaviour.answers:
            return self._json(*behaviour.answers.pop(0))
        if self.headers.get("Authorization") not in (
            f"Bearer {behaviour.token}",
            f"Basic {behaviour.basic}",
        ):
            return self._json(401, "Unauthenticated")
        if (request.get("ownerSlug"), request.get("datasetSlug")) != (
            behaviour.owner,
            behaviour.name,
        ):
            return self._json(404, "Not found")
        if path.endswith("/DownloadDataset"):
            return self._forward()
        return self._json(200, "", {"datasetFiles": []})

    def _json(self, status: int, message: str, body: dict | None = None) -> None:
        text = json.dumps(body if status == 200 else {"code": status, "message": message})
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _forward(self) -> None:
        """Sends the client to the storage, another host, with a signature in the address."""
        self.behaviour.files["/storage/heartbeat.zip"] = self.behaviour.archive
        port = self.server.server_address[1]
        self.send_response(302)
        self.send_header(
            "Location", f"http://127.0.0.1:{port}/storage/heartbeat.zip?X-Signature=sig-secret"
        )
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def kaggle_server(behaviour: KaggleBehaviour) -> Iterator[str]:
    """Yields the address that the Kaggle client must take for Kaggle's."""
    with _running(type("Handler", (_KaggleHandler,), {"behaviour": behaviour})) as port:
        yield f"http://localhost:{port}"


@contextlib.contextmanager
def _running(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
