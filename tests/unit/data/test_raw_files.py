"""What is decoded is what was hashed: raw files that are replaced between fetch and prepare."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.prepared import prepare as preparation
from medrobust.data.prepared.raw_files import held_files
from medrobust.data.registry import load_registry
from medrobust.experiment.preflight import preflight, runnable
from medrobust.jobs import data as jobs

from tests.unit.msd_files import task
from tests.unit.raw_manifest import manifest_of


def csv_rows(path: Path, rows_per_class: int, seed: int = 0, classes: range = range(5)) -> None:
    """Writes heartbeats that differ, in the format of the Kaggle files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    labels = np.repeat(list(classes), rows_per_class)
    lines = [[*random.random(187).round(3), float(label)] for label in labels]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines))


def mitbih(raw: Path) -> dict[str, str]:
    csv_rows(raw / "mitbih/mitbih_train.csv", 6)
    csv_rows(raw / "mitbih/mitbih_test.csv", 4, seed=1)
    return {"dataset": "mitbih", "source": "kaggle"}


def hippocampus(raw: Path) -> dict[str, str]:
    for name, value in task(
        "Task04_Hippocampus", "case", ["MRI"], ["background", "Anterior", "Posterior"], 12
    ).items():
        if name.endswith(".nii.gz"):
            path = raw / "msd" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)
    return {"dataset": "msd_hippocampus", "source": "official"}


def fetched(raw: Path, out: Path, work: dict[str, str]) -> Path:
    manifest = out / "raw.json"
    jobs.fetch(**work, raw_dir=str(raw), allow_subset=True, manifest=str(manifest))
    return manifest


def prepared(out: Path, work: dict[str, str]) -> dict:
    jobs.prepare(
        **work, label="subset", out_dir=str(out), seed=1, standin=None, allow_subset=True,
        processes=2, manifest=str(out / "raw.json"),
    )  # fmt: skip
    return json.loads((out / "card.json").read_text())


def one_raw_file(manifest: Path) -> Path:
    return Path(json.loads(manifest.read_text())["files"][-1]["path"])


def other_content(path: Path) -> None:
    """Another file of the same size under the same name."""
    content = bytearray(path.read_bytes())
    if path.suffix == ".csv":
        content = b"".join(reversed(path.read_bytes().splitlines(keepends=True)))
    else:
        content[len(content) // 2] ^= 1
    other = path.with_name(".other")
    other.write_bytes(content)
    os.replace(other, path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "equal size": other_content,
    "longer": lambda path: path.write_bytes(path.read_bytes() * 2),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("made", [mitbih, hippocampus])
def test_a_file_replaced_after_fetch_stops(
    tmp_path: Path, made: Callable, change: str, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    work = made(tmp_path / "raw")
    manifest = fetched(tmp_path / "raw", tmp_path / "out", work)
    path = one_raw_file(manifest)
    CHANGES[change](path)
    with pytest.raises(InputError, match=r"no longer those(?s:.*)--forcerun fetch") as caught:
        prepared(tmp_path / "out", work)
    assert path.name in str(caught.value) and not (tmp_path / "out/card.json").exists()
    if change == "equal size" and made is hippocampus:
        return  # the changed byte is within a packed volume: it is damaged now
    fetched(tmp_path / "raw", tmp_path / "out", work) if change != "gone" else made(
        tmp_path / "raw"
    )
    card = prepared(tmp_path / "out", work)
    raw = {Path(f["name"]).name: f["sha256"] for f in card["files"]}
    assert raw[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("made", [mitbih, hippocampus])
def test_a_file_replaced_while_it_is_read_stops(
    tmp_path: Path, made: Callable, monkeypatch
) -> None:
    """It was hashed, then replaced, then read, and its size and modification time put back."""
    monkeypatch.chdir(tmp_path)
    work = made(tmp_path / "raw")
    path = one_raw_file(fetched(tmp_path / "raw", tmp_path / "out", work))
    from medrobust.data.prepared import prepare_volumes as volumes

    for module in (preparation, volumes):
        wrapped = module.adapter_of

        def adapter_of(name: str, form: str, wrapped: Callable = wrapped) -> object:
            adapter = wrapped(name, form)

            def adapt(*arguments: object, **options: object) -> object:
                times = path.stat().st_atime_ns, path.stat().st_mtime_ns
                path.write_bytes(path.read_bytes())
                os.utime(path, ns=times)
                return adapter.adapt(*arguments, **options)

            return dataclasses.replace(adapter, adapt=adapt)

        monkeypatch.setattr(module, "adapter_of", adapter_of)
    with pytest.raises(InputError, match="while it was read"):
        prepared(tmp_path / "out", work)
    assert not (tmp_path / "out/card.json").exists()


def test_nothing_is_said_of_files_that_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1")
    with held_files(manifest_of({"a.csv": path}), "kaggle") as files:
        assert files == {"a.csv": path} and path.read_text() == "1"
    with held_files(None, "standin") as files:
        assert files == {}


@pytest.mark.parametrize("thorough", [False, True])
def test_preflight_holds_files_against_what_was_recorded(
    tmp_path: Path, monkeypatch, thorough: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    work = mitbih(tmp_path / "raw")
    manifest = fetched(tmp_path / "raw", tmp_path / "out", work)

    def said() -> list:
        return preflight(
            {"mitbih": [("mitbih", "kaggle")]}, registry=load_registry(), download_dir="resources",
            raw_dirs=[tmp_path / "raw"], results_dir="results", allow_subset=True,
            check_files=thorough, manifests={"mitbih": manifest},
        )  # fmt: skip

    assert runnable(said(), ["mitbih"]) == ["mitbih"]
    CHANGES["equal size" if thorough else "longer"](tmp_path / "raw/mitbih/mitbih_test.csv")
    (action,) = [item for item in said() if item.level == "action"]
    assert "mitbih_test.csv" in action.text and "--forcerun fetch" in action.remedy
    assert runnable(said(), ["mitbih"]) == []
    fetched(tmp_path / "raw", tmp_path / "out", work)
    assert runnable(said(), ["mitbih"]) == ["mitbih"]
    prepared(tmp_path / "out", work)
    CHANGES["equal size" if thorough else "longer"](tmp_path / "raw/mitbih/mitbih_train.csv")
    assert runnable(said(), ["mitbih"]) == ["mitbih"]  # the arrays are there
    (note,) = [i for i in said() if i.level == "note" and "stay as they are" in i.text]
    assert "mitbih_train.csv" in note.text
