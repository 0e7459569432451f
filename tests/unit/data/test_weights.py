"""Pretrained weights: where a file is looked for, downloads, wrong ones, names that are taken."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from medrobust.core.errors import InputError
from medrobust.data import weights
from medrobust.data.weights import Weights, at_hand, load_weights, locate_or_download

from tests.unit.servers import Behaviour, file_server

CONTENT = b"not really tensors"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def entry(**changes) -> Weights:
    return Weights(**{"title": "somewhere", "file": "some.safetensors", "sha256": SHA256} | changes)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw" / "weights"
    folder.mkdir(parents=True)
    (folder / "some.safetensors").write_bytes(CONTENT)
    return tmp_path / "raw"


def test_the_registry_names_files_with_checksums_or_says_how_to_get_them() -> None:
    known = load_weights()
    assert {"resnet50_imagenet", "resnet50_simclr"} <= set(known)
    for one in known.values():
        assert one.file.endswith(".safetensors") and one.citation and one.licence
        assert bool(one.url) != bool(one.instructions)


def test_a_file_is_found_in_the_first_raw_folder_that_has_it(raw: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert at_hand(entry(), [other]) is None
    assert at_hand(entry(), [other, raw]) == raw / "weights/some.safetensors"
    found = locate_or_download("w", entry(), [other, raw], tmp_path / "down")
    assert (found["origin"], found["bytes"], found["sha256"]) == ("found", len(CONTENT), SHA256)
    assert not (tmp_path / "down").exists()


def test_weights_of_ones_own_are_a_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(CONTENT)
    own = entry(file=str(file), sha256=None)
    assert locate_or_download("mine", own, [], tmp_path)["path"] == file.as_posix()
    with pytest.raises(InputError, match="not at hand"):
        locate_or_download("mine", entry(file=str(tmp_path / "no.safetensors")), [], tmp_path)


def test_another_file_of_that_name_is_refused_and_stays(raw: Path, tmp_path: Path) -> None:
    file = raw / "weights/some.safetensors"
    file.write_bytes(b"others")
    with pytest.raises(InputError, match="not the weights 'w': sha256 expected"):
        locate_or_download("w", entry(), [raw], tmp_path / "down")
    assert file.read_bytes() == b"others"


def test_a_download_is_held_against_its_checksum(tmp_path: Path) -> None:
    behaviour = Behaviour(files={"/good": CONTENT, "/bad": b"others"})
    with file_server(behaviour) as address:
        good, bad = (entry(url=f"{address}/{name}") for name in ("good", "bad"))
        found = locate_or_download("w", good, [tmp_path / "a"], tmp_path / "a")
        assert found["origin"] == f"{address}/good"
        assert Path(found["path"]).read_bytes() == CONTENT
        again = locate_or_download("w", good, [tmp_path / "a"], tmp_path / "a")
        assert again["origin"] == "found" and behaviour.count("/good") == 1
        with pytest.raises(InputError, match="not the expected file"):
            locate_or_download("w", bad, [tmp_path / "b"], tmp_path / "b")
    assert not list((tmp_path / "b/weights").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"resnet50_imagenet": {"title": "x", "file": "x"}}, "is taken"),
        ({weights.RANDOM: {"title": "x", "file": "x"}}, "is taken"),
        ({"mine": {"title": "x"}}, "own_weights.mine.file"),
        ({"mine": {"title": "x", "file": "x", "url": "https://a.b/c"}}, "url needs sha256"),
        ({"mine": {"title": "x", "file": "x", "sha256": "12"}}, "sha256"),
    ],
)
def test_wrong_entries_are_told(own, told) -> None:
    with pytest.raises(InputError, match=told):
        load_weights(entries=own)
