"""A table and folders of images of the user's own: arrays, splits, scaling, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from medrobust.core.errors import InputError
from medrobust.data.contract import adapter_of
from medrobust.data.prepared.store import load_dataset
from medrobust.data.registry import OWN, load_registry
from medrobust.experiment.describe import describe
from medrobust.jobs import data as jobs
from PIL import Image

TABLE = {
    "adapter": "csv_table",
    "classes": ["ill", "well"],
    "shape": [3],
    "options": {"file": "t.csv", "label": "state"},
}


def frame(rows: int = 40) -> pd.DataFrame:
    random = np.random.default_rng(3)
    y = np.arange(rows) % 2
    table = pd.DataFrame(random.normal(y[:, None], 1, (rows, 3)).round(3), columns=list("abc"))
    table["state"] = np.where(y, "well", "ill")
    return table


def made(tmp_path: Path, table: pd.DataFrame, *, shape: int = 3, classes=None, **options):
    table.to_csv(tmp_path / "t.csv", index=False)
    values = TABLE | {"options": TABLE["options"] | options, "shape": [shape]}
    values |= {"classes": classes} if classes else {}
    entry = load_registry(entries={"mine": values})["mine"]
    adapt = adapter_of(entry.adapter, "arrays").adapt
    files = {"t.csv": tmp_path / "t.csv"}
    return adapt(entry.options, OWN, files, seed=7, allow_subset=False, processes=1)


def test_each_column_is_scaled_by_its_training_rows_alone(tmp_path):
    table = frame()
    data = made(tmp_path, table)
    train, val, test = data.folds[0]
    assert len(val) == 0 and len(train) == 32 and len(test) == 8
    assert np.bincount(data.y[test]).tolist() == [4, 4]
    x = table[["a", "b", "c"]].to_numpy()
    low, high = x[train].min(axis=0), x[train].max(axis=0)
    np.testing.assert_allclose(data.x, np.clip((x - low) / (high - low), 0, 1), atol=1e-6)
    assert data.x.dtype == np.float32 and data.input_range == (0.0, 1.0)
    assert data.x[train].min(axis=0).tolist() == [0, 0, 0]
    beyond = int(((x < low) | (x > high)).sum())
    assert f"{beyond:,} of the 24 other values lay outside" in " ".join(data.notes)
    # A test value far out changes no other row.
    row = int(test[0])
    table.loc[row, "a"] = 1e6
    again = made(tmp_path, table)
    assert again.x[row, 0] == 1.0
    np.testing.assert_array_equal(np.delete(again.x, row, 0), np.delete(data.x, row, 0))


def test_columns_together_keep_the_form_of_a_signal(tmp_path):
    table = frame()
    data = made(tmp_path, table, scaling="together")
    x = table[["a", "b", "c"]].to_numpy()
    low, high = x[data.folds[0][0]].min(), x[data.folds[0][0]].max()
    np.testing.assert_allclose(data.x, np.clip((x - low) / (high - low), 0, 1), atol=1e-6)


def test_a_declared_range_is_what_becomes_0_and_1(tmp_path):
    table = frame()
    data = made(tmp_path, table, value_range=[-8.0, 8.0])
    np.testing.assert_allclose(data.x, (table[["a", "b", "c"]] + 8) / 16, atol=1e-6)
    table.loc[4, "b"] = 8.5
    with pytest.raises(InputError, match=r"(?s)1 values? .*row 5, column b: 8.5"):
        made(tmp_path, table, value_range=[-8.0, 8.0])


def test_a_constant_column_is_zero_and_told(tmp_path):
    data = made(tmp_path, frame().assign(b=4.0))
    assert (data.x[:, 1] == 0).all() and "one value in all training rows: b" in " ".join(data.notes)


def test_patients_are_on_one_side_also_those_of_two_classes(tmp_path):
    table = frame(60)
    table["person"] = [f"p{row // 3}" for row in range(60)]  # each has both classes
    data = made(tmp_path, table, patient="person")
    train, _, test = data.folds[0]
    sides = [set(table["person"][rows]) for rows in (train, test)]
    assert not sides[0] & sides[1] and len(train) + len(test) == 60 and len(test) >= 6
    assert data.ids["patient"].tolist() == table["person"].tolist()
    assert data.x.shape == (60, 3)


def test_a_column_may_say_the_split(tmp_path):
    table = frame()
    table["part"] = ["train"] * 30 + ["val"] * 4 + ["test"] * 6
    data = made(tmp_path, table, split="part")
    assert [len(rows) for rows in data.folds[0]] == [30, 4, 6] and data.folds[0][2][0] == 34
    table.loc[0, "part"] = "training"
    with pytest.raises(InputError, match="'training' \\(1\\)"):
        made(tmp_path, table, split="part")


def test_labels_by_number_without_a_header_and_chosen_features(tmp_path):
    table = frame()
    table["state"] = np.where(table["state"] == "ill", 1, 0)
    entry = TABLE | {
        "shape": [2],
        "options": {
            "file": "t.csv",
            "label": -1,
            "header": False,
            "features": [2, 0],
            "labels": ["1", "0"],
        },
    }
    table.to_csv(tmp_path / "t.csv", index=False, header=False)
    known = load_registry(entries={"mine": entry})["mine"]
    files = {"t.csv": tmp_path / "t.csv"}
    adapt = adapter_of("csv_table", "arrays").adapt
    data = adapt(known.options, OWN, files, seed=7, allow_subset=False, processes=1)
    assert data.y.tolist() == [0, 1] * 20
    train = data.folds[0][0]
    for place, column in enumerate("ca"):
        values = table[column].to_numpy()[train]
        scaled = (values - values.min()) / (values.max() - values.min())
        np.testing.assert_allclose(data.x[train, place], scaled, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda t: t, {"label": "sate"}, "Did you mean 'state'"),
        (lambda t: t, {"patient": "person"}, "Unknown column 'person'"),
        (lambda t: t.assign(b="x"), {}, "column b: no number"),
        (lambda t: t.assign(state="ill"), {}, "only one class"),
        (lambda t: t.assign(state=["well"] * 38 + ["ill"] * 2), {}, "A class is too small"),
        (lambda t: t.assign(state=["odd", *t["state"][1:]]), {}, "'odd' (1)"),
        (lambda t: t.assign(person=t["state"]), {"patient": "person"}, "cannot be divided"),
        (lambda t: t, {"features": ["a", "state"]}, "'state' is given twice"),
        (lambda t: t, {"labels": ["0"]}, "labels must be as many as classes"),
        (lambda t: t, {"header": False}, "columns are given by number"),
    ],
)
def test_bad_input_is_refused_with_what_and_where(tmp_path, change, options, says):
    with pytest.raises(InputError) as caught:
        made(tmp_path, change(frame()), **options)
    assert says in str(caught.value)


def test_another_number_of_columns_than_stated_stops_preparing(tmp_path):
    with pytest.raises(InputError, match=r"shape of mine are \[5\].*adapter made \[3\]"):
        _prepared(tmp_path, TABLE | {"shape": [5]})


def _prepared(tmp_path: Path, values: dict, table: pd.DataFrame | None = None):
    raw = tmp_path / "raw/mine"
    raw.mkdir(parents=True, exist_ok=True)
    (frame() if table is None else table).to_csv(raw / "t.csv", index=False)
    own, out = {"mine": values}, tmp_path / "data/mine@own"
    manifest = str(out / "raw.json")
    given = {"dataset": "mine", "source": OWN, "allow_subset": False, "own_datasets": own}
    out.mkdir(parents=True, exist_ok=True)
    jobs.fetch(**given, raw_dir=str(tmp_path / "raw"), manifest=manifest)
    jobs.prepare(
        **given, label=OWN, out_dir=str(out), seed=7, standin=None, processes=1, manifest=manifest
    )
    return load_dataset(out)


def test_the_job_prepares_it_with_a_card_and_findings(tmp_path):
    table = frame()
    table.iloc[5] = table.iloc[3]
    dataset = _prepared(tmp_path, TABLE, table)
    assert dataset.x_train.shape == (32, 3) and dataset.input_range == (0.0, 1.0)
    findings = {finding["code"]: finding["text"] for finding in dataset.card["audit"]}
    assert findings["duplicates"] == "1 row repeats another row exactly (1 group)."
    assert "patients_unknown" in findings
    text = (tmp_path / "data/mine@own/card.md").read_text("utf-8")
    assert "Scaling: the smallest and largest training value of each column" in text


def test_rows_that_the_entry_does_not_tell_of_stop(tmp_path):
    stated = TABLE | {"counts": {"official": {"all": {"ill": 20, "well": 20}}}}
    _prepared(tmp_path, stated)
    with pytest.raises(InputError, match="all ill: 19 found, 20 stated"):
        _prepared(tmp_path, stated, frame(39).iloc[1:])
    assert not (tmp_path / "data/mine@own/card.json").exists()


def pictures(folder: Path, *, rgb: bool = False, patients: bool = False) -> Path:
    random = np.random.default_rng(5)
    for label, name in enumerate(("left", "right")):
        for number in range(10):
            place = folder / name / (f"p{number // 2}" if patients else "")
            place.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 100, (20, 30, 3)).astype(np.uint8)
            pixels[:, 15 * label : 15 * label + 15] += 100
            image = Image.fromarray(pixels if rgb else pixels[:, :, 0])
            image.save(place / f"p{number // 2}-{number}.png")
    return folder


def images(tmp_path: Path, shape=(1, 12, 12), **options):
    values = {
        "adapter": "image_folders",
        "classes": ["left", "right"],
        "shape": list(shape),
        "options": options,
    }
    own = {"scans": values}
    given = {"dataset": "scans", "source": OWN, "allow_subset": False, "own_datasets": own}
    out = tmp_path / "data/scans@own"
    out.mkdir(parents=True, exist_ok=True)
    manifest = str(out / "raw.json")
    jobs.fetch(**given, raw_dir=str(tmp_path), manifest=manifest)
    jobs.prepare(
        **given, label=OWN, out_dir=str(out), seed=7, standin=None, processes=1, manifest=manifest
    )
    return load_dataset(out)


@pytest.mark.parametrize("rgb", [False, True])
def test_folders_of_images_become_squares(tmp_path, rgb):
    pictures(tmp_path / "scans", rgb=rgb)
    dataset = images(tmp_path, (3, 12, 12) if rgb else (1, 12, 12))
    assert dataset.x.shape == (20, 3 if rgb else 1, 12, 12) and dataset.x.dtype == np.uint8
    assert np.bincount(dataset.y).tolist() == [10, 10] and len(dataset.y_test) == 4
    left, right = dataset.x[..., :6].mean((1, 2, 3)), dataset.x[..., 6:].mean((1, 2, 3))
    assert ((right > left) == (dataset.y == 1)).all()
    assert dataset.points([0]).max() <= 1.0


@pytest.mark.parametrize("how", ["folder", "^(p[0-9]+)-"])
def test_patients_come_from_folders_or_names(tmp_path, how):
    pictures(tmp_path / "scans", patients=how == "folder")
    dataset = images(tmp_path, patient=how)
    patient = dataset.ids()["patient"]
    assert set(patient) == {f"p{k}" for k in range(5)}
    sides = [set(patient[rows]) for rows in (dataset.train_index, dataset.test_index)]
    assert not sides[0] & sides[1] and len(sides[1]) == 1


def test_bad_images_are_named(tmp_path):
    folder = pictures(tmp_path / "scans")
    (folder / "left/p0-0.png").write_bytes(b"no image")
    whole = (folder / "right/p1-2.png").read_bytes()
    (folder / "right/p1-2.png").write_bytes(whole[:60])
    with pytest.raises(InputError) as caught:
        images(tmp_path)
    said = str(caught.value)
    assert "2 of 20 images cannot be read" in said and "p0-0.png" in said and "p1-2.png" in said
    assert not (tmp_path / "data/scans@own/card.json").exists()


def test_images_elsewhere_and_names_without_patients_are_refused(tmp_path):
    folder = pictures(tmp_path / "scans")
    Image.new("L", (9, 9)).save(folder / "left/odd.png")
    with pytest.raises(InputError, match=r"1 of 21 images .*left/odd.png"):
        images(tmp_path, patient="^(p[0-9]+)-")
    (folder / "left/more").mkdir()
    (folder / "left/odd.png").rename(folder / "left/more/odd.png")
    with pytest.raises(InputError, match=r"1 image lies elsewhere .*more/odd.png"):
        images(tmp_path)
    with pytest.raises(InputError, match="no regular expression"):
        images(tmp_path, patient="(")


def test_files_that_are_no_images_are_told(tmp_path):
    folder = pictures(tmp_path / "scans")
    (folder / "left/notes.txt").write_text("x")
    notes = " ".join(images(tmp_path).card["notes"])
    assert "Not read, by their suffix: 1 .txt (such as left/notes.txt)" in notes


def test_what_describe_writes_prepares_the_data(tmp_path):
    (tmp_path / "raw/mine").mkdir(parents=True)
    frame().to_csv(tmp_path / "raw/mine/t.csv", index=False)
    text = describe(tmp_path / "raw/mine/t.csv", {"label": "state"}, seed=7)
    values = yaml.safe_load(text)
    assert values["raw_dir"] == str(tmp_path / "raw")
    entry = values["own_datasets"]["mine"]
    assert entry["classes"] == ["ill", "well"] and entry["shape"] == [3]
    assert entry["counts"]["official"]["test"] == {"ill": 4, "well": 4}
    assert json.loads(json.dumps(entry)) == entry
    dataset = _prepared(tmp_path, entry)
    assert len(dataset.y_test) == 8
    # Numbers of rows are known, so a study can be held against them.
    assert load_registry(entries={"mine": entry})["mine"].official_rows("test") == 8


def test_describe_names_classes_of_numbers_plainly(tmp_path):
    (tmp_path / "raw/mine").mkdir(parents=True)
    table = frame()
    table["state"] = np.where(table["state"] == "ill", "1.0e+00", "0.0e+00")
    table.to_csv(tmp_path / "raw/mine/t.csv", index=False, header=False)
    entry = yaml.safe_load(
        describe(tmp_path / "raw/mine/t.csv", {"label": -1, "header": False}, seed=7)
    )["own_datasets"]["mine"]
    assert entry["classes"] == ["0", "1"]
    assert entry["options"]["labels"] == ["0.0e+00", "1.0e+00"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "give --label"),
        ({"label": "a"}, "different cells|only one class|too small"),
        ({"label": "stat"}, "Did you mean 'state'"),
    ],
)
def test_describe_says_what_it_needs(tmp_path, given, says):
    (tmp_path / "raw/mine").mkdir(parents=True)
    frame(200).to_csv(tmp_path / "raw/mine/t.csv", index=False)
    with pytest.raises(InputError, match=says):
        describe(tmp_path / "raw/mine/t.csv", given, seed=7)


def test_an_own_entry_cannot_replace_one_of_the_registry():
    with pytest.raises(InputError, match="'mitbih' is there already"):
        load_registry(entries={"mitbih": TABLE})
    with pytest.raises(InputError, match=r"mine\.classs: unknown key"):
        load_registry(entries={"mine": TABLE | {"classs": []}})
