"""Fashion-MNIST and SVHN on small files in the official formats."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import load_dataset
from medrobust.data.registry import load_registry
from medrobust.data.sets import fashion_mnist, svhn
from medrobust.data.sets.engine import small_images
from scipy.io import savemat

from tests.unit.raw_manifest import manifest_of

SIZES = (40, 15)


def pictures(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def write_fashion(folder: Path) -> dict[str, Path]:
    names = (fashion_mnist.TRAIN_FILES, fashion_mnist.TEST_FILES)
    for (images, labels), n in zip(names, SIZES, strict=True):
        write_idx(folder / images, pictures(n, 28, 28))
        write_idx(folder / labels, (np.arange(n) % 10).astype(np.uint8))
    return {name: folder / name for pair in names for name in pair}


def write_svhn(folder: Path) -> dict[str, Path]:
    """Labels are 1 to 10, axes (row, column, colour, image), as in the release."""
    for name, n in zip(svhn.FILES, SIZES, strict=True):
        x = pictures(n, 3, 32, 32).transpose(2, 3, 1, 0)
        y = ((np.arange(n) - 1) % 10 + 1).astype(np.uint8)[:, None]
        savemat(folder / name, {"X": x, "y": y}, do_compression=True)
    return {name: folder / name for name in svhn.FILES}


SETS: dict[str, tuple[ModuleType, Callable[[Path], dict[str, Path]]]] = {
    "fashion_mnist": (fashion_mnist, write_fashion),
    "svhn": (svhn, write_svhn),
}
both = pytest.mark.parametrize("name", SETS)


def adapted(name: str, folder: Path, **options: object):
    module, write = SETS[name]
    return module.adapt(options, "official", write(folder), seed=1, allow_subset=True)


@both
def test_images_labels_and_order_are_those_of_the_files(tmp_path: Path, name: str) -> None:
    data = adapted(name, tmp_path)
    shape = SETS[name][0].SHAPE
    assert data.x.dtype == np.uint8 and data.x.shape == (55, *shape) and data.x.flags.c_contiguous
    np.testing.assert_array_equal(data.x[:40], pictures(40, *shape))
    np.testing.assert_array_equal(data.x[40:], pictures(15, *shape))
    # SVHN's label 10, the first one here, is the digit 0.
    assert data.y.tolist() == [*(i % 10 for i in range(40)), *(i % 10 for i in range(15))]
    assert data.y.dtype == np.int64 and not data.complete and not data.synthetic
    row = data.ids.iloc[42]
    assert (row["row_id"], row["position"]) == (42, 2)
    assert row["file"] in ("t10k-images-idx3-ubyte.gz", "test_32x32.mat")


@both
def test_validation_rows_are_taken_from_the_training_rows(tmp_path: Path, name: str) -> None:
    train, val, test = adapted(name, tmp_path).folds[0]
    assert [len(train), len(val), len(test)] == [36, 4, 15]
    assert sorted([*train, *val]) == list(range(40)) and test.tolist() == list(range(40, 55))
    other = adapted(name, tmp_path, random_state=1).folds[0]
    assert other[1].tolist() != val.tolist()
    assert [len(part) for part in adapted(name, tmp_path, train_share=1.0).folds[0]] == [40, 0, 15]


def test_the_division_is_that_of_the_authors_code() -> None:
    """As SVHN_Dataset.py of SarielMa/Adaptive-Margin-Evolution divides the 73,257 rows."""
    rows = np.arange(73_257)
    np.random.RandomState(0).shuffle(rows)
    train, val = small_images.first_part(73_257, 0.9, 0)
    assert train.tolist() == sorted(rows[:65_931]) and val.tolist() == sorted(rows[65_931:])
    assert [len(part) for part in small_images.first_part(60_000, 0.9, 0)] == [54_000, 6_000]


@both
def test_from_files_to_the_folder_and_back(tmp_path: Path, name: str) -> None:
    files = SETS[name][1](tmp_path)
    entry = load_registry()[name]
    manifest = manifest_of(files)
    facts = {
        "class_names": entry.classes,
        "shape": entry.shape,
        "official": entry.counts.official,
    }
    arguments = (name, entry.adapter, entry.options, "official", manifest, tmp_path / "d", 1, facts)
    with pytest.raises(InputError, match=r"differ from the official release"):
        prepare(*arguments)
    card = prepare(*arguments, allow_subset=True)
    assert card["source"] == "subset" and card["dtype"] == "uint8"
    codes = {finding["code"] for finding in card["audit"]}
    assert codes <= {"no_duplicates", "class_not_in_split"}
    data = load_dataset(tmp_path / "d")
    assert data.x_train.dtype == np.float32 and data.x_train.shape == (36, *entry.shape)
    np.testing.assert_allclose(data.x_test, pictures(15, *entry.shape) / 255, atol=1e-7)


@both
def test_stand_ins_have_the_shape_classes_and_splits(name: str) -> None:
    module = SETS[name][0]
    data = module.adapt({"n_train": 200, "n_test": 50}, "standin", {}, seed=1)
    assert data.synthetic and data.class_names == module.CLASSES
    assert data.x.shape == (250, *module.SHAPE)
    assert [len(part) for part in data.folds[0]] == [180, 20, 50]


@both
def test_the_registry_agrees_with_the_adapter(name: str) -> None:
    module, entry = SETS[name][0], load_registry()[name]
    assert list(module.CLASSES) == entry.classes and list(module.SHAPE) == entry.shape
    rows = [entry.official_rows(split) for split in ("train", "test")]
    assert rows == list(module.OFFICIAL_ROWS)
    wanted = {
        "fashion_mnist": {*fashion_mnist.TRAIN_FILES, *fashion_mnist.TEST_FILES},
        "svhn": set(svhn.FILES),
    }[name]
    files = entry.sources["official"].files
    assert {file.name for file in files} == wanted
    assert all(file.bytes and file.md5 for file in files)
    assert entry.account_free() == ["official"]


@both
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    module, write = SETS[name]
    files = write(tmp_path)
    lost = sorted(files)[-1]
    del files[lost]
    with pytest.raises(InputError, match=f"The file {lost} is missing"):
        module.adapt({}, "official", files, seed=1, allow_subset=True)


@both
@pytest.mark.parametrize("damage", ["empty", "cut off", "renamed"])
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: str) -> None:
    module, write = SETS[name]
    files = write(tmp_path)
    hurt, *_, other = files.values()
    content = hurt.read_bytes()
    hurt.write_bytes(
        {"empty": b"", "cut off": content[: len(content) // 2], "renamed": b"PK\x03\x04" * 99}[
            damage
        ]
    )
    with pytest.raises(InputError) as caught:
        module.adapt({}, "official", files, seed=1, allow_subset=True)
    assert caught.value.where == str(hurt) != str(other)


def test_labels_and_images_must_fit(tmp_path: Path) -> None:
    files = write_fashion(tmp_path)
    labels = files["train-labels-idx1-ubyte.gz"]
    write_idx(labels, np.arange(39, dtype=np.uint8) % 10)
    with pytest.raises(InputError, match="40 images and 39 labels"):
        fashion_mnist.adapt({}, "official", files, seed=1)
    write_idx(labels, np.arange(40, dtype=np.uint8) // 3)
    with pytest.raises(InputError, match=r"label of image 30 \(from 0\) is 10; there are 10"):
        fashion_mnist.adapt({}, "official", files, seed=1)


@pytest.mark.parametrize("wrong", [0, 11, 1.5])
def test_svhn_labels_are_1_to_10(tmp_path: Path, wrong: float) -> None:
    files = write_svhn(tmp_path)
    y = np.full((40, 1), 3.0)
    y[7] = wrong
    x = pictures(40, 32, 32, 3).transpose(1, 2, 3, 0)
    savemat(files["train_32x32.mat"], {"X": x, "y": y if wrong % 1 else y.astype(np.uint8)})
    with pytest.raises(InputError, match="labels 1 to 10"):
        svhn.adapt({}, "official", files, seed=1)
    savemat(files["train_32x32.mat"], {"X": x.astype(float), "y": np.full((40, 1), 3, np.uint8)})
    with pytest.raises(InputError, match="X of type uint8"):
        svhn.adapt({}, "official", files, seed=1)
