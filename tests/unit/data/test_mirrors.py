"""A source with several addresses, each a server on localhost that behaves or misbehaves."""

from __future__ import annotations

import errno
import hashlib
import random
from pathlib import Path

import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching import transfer
from medrobust.data.fetching.fetch import locate_or_fetch
from medrobust.data.fetching.transfer import TransferSettings
from medrobust.data.registry import DatasetEntry

from tests.unit.servers import Behaviour, file_server

BLOCK = 1 << 15
CONTENT = random.Random(3).randbytes(400_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def dataset(*urls: str, **changes: object) -> DatasetEntry:
    source = {
        "kind": "http",
        "base_url": urls[0],
        "mirrors": list(urls[1:]),
        "files": [{"name": "x.bin", "bytes": len(CONTENT), "md5": MD5}],
    }
    return DatasetEntry.model_validate(
        {
            "name": "two", "title": "Two classes", "adapter": "mitbih", "raw": "two",
            "classes": ["a", "b"], "shape": [4], "input_range": [0.0, 1.0], "counts": {},
            "licence": "CC0", "citation": ["Nobody, 2000."],
            "sources": {"official": {**source, **changes}},
        }
    )  # fmt: skip


def get(data: DatasetEntry, folder: Path, **changes: object) -> bytes:
    options = {"attempts": 2, "read_timeout": 5.0, "sleep": lambda _: None, "jitter": lambda: 0.0}
    settings = TransferSettings(**{**options, **changes})
    manifest = locate_or_fetch(data, "official", [], folder, settings=settings)
    (record,) = manifest["files"]
    assert record["check"] == "matches the publisher's checksum"
    return Path(record["path"]).read_bytes()


def dead_address() -> str:
    with file_server(Behaviour()) as url:
        return url


BAD = {
    "not found": Behaviour({}),
    "forbidden": Behaviour({"/x.bin": CONTENT}, statuses={"/x.bin": [403]}),
    "login": Behaviour({"/x.bin": CONTENT}, statuses={"/x.bin": [401]}),
    "always busy": Behaviour({"/x.bin": CONTENT}, statuses={"/x.bin": [503] * 50}),
    "rate limit": Behaviour({"/x.bin": CONTENT}, statuses={"/x.bin": [429] * 50}),
    "a web page instead": Behaviour({"/x.bin": b"<html>please sign in</html>"}),
    "another file of the size": Behaviour({"/x.bin": CONTENT[::-1]}),
    "empty": Behaviour({"/x.bin": b""}),
    "cut at the same place": Behaviour(
        {"/x.bin": CONTENT}, cuts={"/x.bin": [3 * BLOCK, *[0] * 50]}, etag=None
    ),
}


@pytest.mark.parametrize("behaviour", BAD.values(), ids=BAD)
def test_the_mirror_gives_what_the_first_address_does_not(
    tmp_path: Path, behaviour: Behaviour
) -> None:
    good = Behaviour({"/x.bin": CONTENT}, etag='"of the mirror"')
    with file_server(behaviour) as first, file_server(good) as second:
        assert get(dataset(first, second), tmp_path) == CONTENT
    assert behaviour.count("/x.bin") >= 1 and good.count("/x.bin") >= 1
    names = {path.name for path in (tmp_path / "two").iterdir()}
    assert names == {"x.bin", ".lock"}


def test_a_server_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    good = Behaviour({"/x.bin": CONTENT})
    with file_server(good) as second:
        assert get(dataset(dead_address(), second), tmp_path) == CONTENT
    assert good.count("/x.bin") == 1


def test_the_mirror_is_not_asked_without_need(tmp_path: Path) -> None:
    first, second = (Behaviour({"/x.bin": CONTENT}) for _ in range(2))
    with file_server(first) as one, file_server(second) as two:
        assert get(dataset(one, two), tmp_path) == CONTENT
    assert first.count("/x.bin") == 1 and second.requests == []


def test_pieces_of_two_servers_are_joined_only_if_they_fit(tmp_path: Path) -> None:
    """The mirror continues the same bytes; of other bytes under one ETag it starts anew."""
    others = {"equal": CONTENT, "other": CONTENT[:100] + b"?" + CONTENT[101:]}
    for name, content in others.items():
        cut = Behaviour({"/x.bin": content}, cuts={"/x.bin": [3 * BLOCK, 0, 0, 0]})
        good = Behaviour({"/x.bin": CONTENT})
        with file_server(cut) as first, file_server(good) as second:
            assert get(dataset(first, second), tmp_path / name) == CONTENT
        asked = [headers.get("Range") for headers in good.headers_of("/x.bin")]
        assert asked == [f"bytes={3 * BLOCK}-", *([] if name == "equal" else [None])]


def test_if_no_address_gives_it_all_reasons_are_told(tmp_path: Path) -> None:
    gone = dead_address()
    with (
        file_server(Behaviour({})) as first,
        file_server(Behaviour({"/x.bin": b"no"})) as second,
        pytest.raises(InputError, match="None of 3 addresses gave x") as caught,
    ):
        get(dataset(first, second, gone), tmp_path)
    for text in (first, "404", second, "expected 400,000 bytes, found 2", gone, "refused"):
        assert text in caught.value.what
    assert caught.value.remedy and not (tmp_path / "two/x.bin").exists()


def test_a_full_disk_is_no_reason_to_try_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer, "_copy", full)
    second = Behaviour({"/x.bin": CONTENT})
    with (
        file_server(Behaviour({"/x.bin": CONTENT})) as one,
        file_server(second) as two,
        pytest.raises(InputError, match="No space left"),
    ):
        get(dataset(one, two), tmp_path)
    assert second.requests == []


def test_archives_come_from_mirrors_too(tmp_path: Path) -> None:
    import io
    import zipfile

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.bin", CONTENT)
    content = packed.getvalue()
    entry = {"name": "all.zip", "md5": hashlib.md5(content).hexdigest()}
    with file_server(Behaviour({})) as one, file_server(Behaviour({"/all.zip": content})) as two:
        assert get(dataset(one, two, archive=entry), tmp_path) == CONTENT


def test_an_address_of_its_own_has_no_mirrors(tmp_path: Path) -> None:
    second = Behaviour({"/x.bin": CONTENT})
    with file_server(Behaviour({})) as one, file_server(second) as two:
        files = [{"name": "x.bin", "url": f"{one}elsewhere", "md5": MD5}]
        with pytest.raises(InputError, match="404"):
            get(dataset(one, two, files=files), tmp_path)
    assert second.requests == []
