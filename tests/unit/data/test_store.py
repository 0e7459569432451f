"""From options to a folder and back: contract of the files, card, damage."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from medrobust.core.errors import InputError
from medrobust.data.prepared import prepare as preparation
from medrobust.data.prepared.cards import card_markdown
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import Dataset, Prepared, load_dataset

from tests.unit.raw_manifest import manifest_of

FACTS = {
    "title": "Heartbeats",
    "class_names": ["N", "S", "V", "F", "Q"],
    "shape": [187],
    "official": {"train": {"N": 1}},
    "paper": {"signnet": {"test": {"all": 21892}}},
    "licence": "ODC-By 1.0",
    "citation": ["Somebody 2001"],
}
OPTIONS = {"classes": ["N", "S", "V", "F", "Q"], "n_train": 60, "n_test": 20}


def make(folder: Path, **changes: object) -> dict:
    arguments = {
        "dataset": "mitbih",
        "adapter": "mitbih",
        "options": OPTIONS,
        "source": "standin",
        "manifest": None,
        "out_dir": folder,
        "seed": 1,
        "facts": FACTS,
    }
    return prepare(**{**arguments, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "mitbih@standin"
    make(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name))


def test_the_folder_holds_what_was_made(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["x.npy", "y.npy", "ids.csv", "split_fold0.csv", "card.json", "card.md", "preview.png"]
    )
    data = load_dataset(folder)
    assert isinstance(data.x, np.memmap) and data.x.dtype == np.float32
    assert data.x_train.shape == (60, 187) and data.x_test.shape == (20, 187)
    assert data.x_val.shape == (0, 187) and len(data.y_val) == 0
    assert data.y_train.dtype == np.int64 and data.n_classes == 5
    assert data.class_names == ["N", "S", "V", "F", "Q"] and data.input_range == (0.0, 1.0)
    np.testing.assert_array_equal(data.x_test, data.x[data.test_index])
    np.testing.assert_array_equal(data.y_test, data.y[data.test_index])
    np.testing.assert_array_equal(data.points([5, 3]), data.x[[5, 3]])
    assert data.ids()["patient"].str.startswith("synthetic").all() and len(data.ids()) == 80


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "again")
    make(tmp_path / "other", seed=2)
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    assert (folder / "x.npy").read_bytes() != (tmp_path / "other" / "x.npy").read_bytes()
    again, other = (load_dataset(tmp_path / name).hashes() for name in ("again", "other"))
    assert load_dataset(folder).hashes() == again and again != other


def test_a_stand_in_says_so_everywhere(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    assert card["synthetic"] is True and card["source"] == "standin"
    assert card["citation"] == [] and "ODC" not in card["licence"]
    text = (folder / "card.md").read_text()
    assert text.startswith("# SYNTHETIC") and "evidence of nothing" in text
    assert "official release" not in text


def test_the_preview_of_a_stand_in_is_marked(tmp_path: Path, folder: Path) -> None:
    from matplotlib.image import imread
    from medrobust.data.prepared.previews import write_preview

    data = load_dataset(folder)
    for synthetic in (True, False):
        as_made = Prepared(
            np.array(data.x), np.array(data.y), data.ids(),
            [(data.train_index, data.val_index, data.test_index)],
            tuple(data.class_names), data.input_range, synthetic, True,
        )  # fmt: skip
        write_preview(tmp_path / f"{synthetic}.png", as_made, "title")
    marked, plain = (imread(tmp_path / f"{flag}.png")[..., :3] for flag in (True, False))
    # The mark is the only thing in colour.
    colour = [float((np.ptp(image, axis=2) > 0.05).mean()) for image in (marked, plain)]
    assert colour[0] > 0.02 and colour[1] == 0


def fake(**changes: object) -> Prepared:
    random = np.random.default_rng(0)
    arguments = {
        "x": random.random((12, 187)).astype(np.float32),
        "y": np.arange(12) % 5,
        "ids": pd.DataFrame({"row_id": np.arange(12)}),
        "folds": [(np.arange(8), np.arange(8, 9), np.arange(9, 12))],
        "class_names": ("N", "S", "V", "F", "Q"),
        "input_range": (0.0, 1.0),
        "synthetic": False,
        "complete": True,
    }
    return Prepared(**{**arguments, **changes})


def make_fake(
    folder: Path, monkeypatch: pytest.MonkeyPatch, data: Prepared, **changes: object
) -> dict:
    monkeypatch.setattr(
        preparation, "adapter_of", lambda name, form: SimpleNamespace(adapt=lambda *a, **k: data)
    )
    raw = folder.with_name(f"{folder.name}.csv")
    raw.write_bytes(b"1,2,3")
    manifest = {"version": "3", "warnings": ["a.csv differs"]} | manifest_of({"a.csv": raw})
    return make(folder, source="kaggle", manifest=manifest, **changes)


def test_counts_that_differ_from_the_release_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"train N: 2 found, 1 in the release"):
        make_fake(tmp_path / "d", monkeypatch, fake())
    assert not (tmp_path / "d").exists()
    official = {"train": {"N": 2, "all": 8}, "val": {"F": 1}, "test": {"all": 3}, "all": {"N": 3}}
    card = make_fake(tmp_path / "d", monkeypatch, fake(), facts=FACTS | {"official": official})
    assert card["source"] == "kaggle" and card["version"] == "3"
    assert card["counts"]["official"] == official
    assert card["counts"]["paper"] == FACTS["paper"] and card["licence"] == "ODC-By 1.0"
    assert card["counts"]["found"]["fold0"]["val"] == {"N": 0, "S": 0, "V": 0, "F": 1, "Q": 0}
    assert card["files"][0]["sha256"] == hashlib.sha256(b"1,2,3").hexdigest() and card[
        "warnings"
    ] == ["a.csv differs"]


def test_validation_rows_count_as_training_rows_of_a_release_without_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight training rows and one for validation; labels repeat 0 to 4."""
    for official in (
        {"train": {"N": 2, "F": 2, "all": 9}, "test": {"all": 3}},
        {"train": {"F": 1, "all": 8}, "val": {"F": 1}},
    ):
        make_fake(tmp_path / "d", monkeypatch, fake(), facts=FACTS | {"official": official})
    wrong = FACTS | {"official": {"train": {"all": 8}}}
    with pytest.raises(InputError, match="train all: 9 found, 8 in the release"):
        make_fake(tmp_path / "d", monkeypatch, fake(), facts=wrong)


def test_only_data_of_patients_are_examined_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = {}
    for of_patients in (True, False):
        data = fake(of_patients=of_patients)
        card = make_fake(tmp_path / "d", monkeypatch, data, facts=FACTS | {"official": {}})
        codes[of_patients] = {finding["code"] for finding in card["audit"]}
    assert codes[True] - codes[False] == {"patients_unknown"}


def test_a_subset_is_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = make_fake(tmp_path / "d", monkeypatch, fake(complete=False), allow_subset=True)
    assert card["source"] == "subset" and card["origin"] == "kaggle"
    text = (tmp_path / "d" / "card.md").read_text()
    assert "**SUBSET of the release" in text and "read from `kaggle`" in text


def test_data_that_cannot_be_used_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = fake()
    bad.x[7, 3] = np.inf
    with pytest.raises(InputError, match=r"not finite.*\(rows 7\)"):
        make_fake(tmp_path / "d", monkeypatch, bad, allow_subset=True)
    with pytest.raises(InputError, match=r"shape of mitbih are \[187\].*made \[100\]"):
        make_fake(tmp_path / "d", monkeypatch, fake(x=np.zeros((12, 100), np.float32)))
    with pytest.raises(InputError, match="class_names of mitbih are"):
        make_fake(tmp_path / "d", monkeypatch, fake(class_names=tuple("NSVQF")))
    assert not (tmp_path / "d").exists()


def test_an_interrupted_run_leaves_no_data_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "write_preview", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(folder, seed=2)
    with pytest.raises(InputError, match="no prepared data set"):
        load_dataset(folder)


def test_images_are_scaled_when_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
    pixels[0, 0, 0, :2] = 0, 255
    facts = {"title": "pictures", "class_names": ["N", "S", "V", "F", "Q"], "shape": [3, 8, 8]}
    make_fake(tmp_path / "d", monkeypatch, fake(x=pixels), facts=facts)
    data = load_dataset(tmp_path / "d")
    assert data.x.dtype == np.uint8 and data.x_train.dtype == np.float32
    np.testing.assert_allclose(data.x_train, pixels[:8] / 255, atol=1e-6)
    assert data.x_train[0, 0, 0, 0] == 0 and data.x_train[0, 0, 0, 1] == 1


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 1.0), (-0.3, 2.7)])
def test_every_value_of_a_pixel_is_scaled_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: tuple[float, float]
) -> None:
    from fractions import Fraction

    pixels = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (12, 1, 1, 1))
    facts = {"title": "ramp", "class_names": ["N", "S", "V", "F", "Q"], "shape": [1, 16, 16]}
    make_fake(tmp_path / "d", monkeypatch, fake(x=pixels, input_range=ends), facts=facts)
    scaled = load_dataset(tmp_path / "d").points([3]).ravel()
    low, high = map(Fraction, ends)
    exact = [float(low + (high - low) * k / 255) for k in range(256)]
    np.testing.assert_array_equal(scaled, np.array(exact).astype(np.float32))
    assert scaled.min() == np.float32(ends[0]) and scaled.max() == np.float32(ends[1])


def test_facts_are_not_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown facts: counts"):
        make(tmp_path / "d", facts=FACTS | {"counts": {}})


def test_unknown_adapter_and_missing_raw_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'mitbih'"):
        make(tmp_path / "d", adapter="mitbi")
    for manifest in (None, {"files": []}):
        with pytest.raises(InputError, match="no raw files for source 'kaggle'"):
            make(tmp_path / "d", source="kaggle", manifest=manifest)


def rewrite(path: Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)


def damage(kind: str, folder: Path, data: Dataset) -> None:
    name = kind.split()[-1]
    if kind.startswith("no "):
        (folder / name).unlink()
    elif kind.startswith("short "):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    elif kind == "fewer y.npy":
        rewrite(folder / name, np.array(data.y[:-1]))
    elif kind == "float y.npy":
        rewrite(folder / name, data.y.astype(float))
    elif kind == "large y.npy":
        rewrite(folder / name, data.y + 3)
    elif kind == "other x.npy":
        rewrite(folder / name, data.x.astype(np.float64))
    elif kind == "objects x.npy":
        np.save(folder / name, np.array([{}, 1], dtype=object), allow_pickle=True)
    else:
        card = json.loads((folder / name).read_text())
        del card["input_range"]
        (folder / name).write_text(json.dumps(card))


@pytest.mark.parametrize(
    "kind",
    [
        *(f"no {n}" for n in ("x.npy", "y.npy", "split_fold0.csv", "card.json")),
        *(f"short {n}" for n in ("x.npy", "y.npy", "split_fold0.csv", "card.json")),
        *(f"{k} y.npy" for k in ("fewer", "float", "large")),
        *(f"{k} x.npy" for k in ("other", "objects")),
        "keyless card.json",
    ],
)
def test_a_damaged_folder_is_refused_with_the_file_named(folder: Path, kind: str) -> None:
    data = load_dataset(folder)
    damage(kind, folder, data)
    with pytest.raises(InputError) as caught:
        load_dataset(folder)
    expected = "mitbih@standin" if kind == "no card.json" else kind.split()[-1]
    assert expected in caught.value.where
    assert caught.value.remedy or kind == "short card.json"


def test_points_outside(folder: Path) -> None:
    data = load_dataset(folder)
    for wrong in (80, -1):
        with pytest.raises(InputError, match=rf"no point {wrong};"):
            data.points([0, wrong])
    with pytest.raises(InputError, match=r"split_fold1|it is missing"):
        load_dataset(folder, fold=1)


def test_card_text_of_a_real_set() -> None:
    card = {
        "name": "mitbih", "title": "Heartbeats", "source": "kaggle", "origin": "kaggle",
        "synthetic": False, "complete": True, "shape": [100, 187], "dtype": "float32",
        "input_range": [0.0, 1.0], "class_names": ["N", "S"], "version": None, "seed": 1,
        "counts": {
            "found": {"fold0": {"train": {"N": 1200, "S": 3}, "all": {"N": 1200, "S": 3}}},
            "official": {"train": {"N": 1200, "S": 3}},
            "paper": {"signnet": {"train": {"all": 87554}}},
        },
        "files": [{"name": f"{i}.dat", "bytes": 10, "sha256": "ab"} for i in range(20)],
        "warnings": [], "licence": "ODC-By", "citation": ["Moody 2001"], "notes": ["note"],
        "audit": [{"level": "warning", "text": "Look here."}], "options": {},
    }  # fmt: skip
    text = card_markdown(card)
    assert "| found | training | 1,200 | 3 | 1,203 |" in text
    assert "| official release | training | 1,200 | 3 | 1,203 |" in text
    assert "| paper (signnet) | training |  |  | 87,554 |" in text
    assert "- **Warning.** Look here." in text and "20 files, 200 bytes" in text
    assert "SYNTHETIC" not in text and "SUBSET" not in text
