"""SARS-CoV-2 CT: rows, labels and split from files of the release's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching.fetch import locate_or_fetch
from medrobust.data.prepared.prepare import prepare
from medrobust.data.prepared.store import load_dataset
from medrobust.data.registry import get_dataset, load_registry
from medrobust.data.sets import covid_ct
from PIL import Image

from tests.unit.image_releases import covid_ct as release
from tests.unit.image_releases import encoded, picture, write_files, write_zip


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A release of 12 files without and 16 with COVID, taken for the whole one."""
    monkeypatch.setattr(covid_ct, "RELEASE", (12, 16))
    return write_files(tmp_path / "raw", release())


OPTIONS = {"n_val_per_class": 2, "n_test_per_class": 3}


def test_rows_and_labels_are_those_of_the_files(files: dict[str, Path]) -> None:
    data = covid_ct.adapt(OPTIONS, "kaggle", files, seed=1)
    assert data.x.shape == (28, 1, 224, 224) and data.x.dtype == np.uint8 and data.complete
    assert data.y.tolist() == [0] * 12 + [1] * 16
    assert data.ids["file"].iloc[[0, 1, 9, 12]].tolist() == [
        "non-COVID/Non-Covid (1).png",
        "non-COVID/Non-Covid (2).png",
        "non-COVID/Non-Covid (10).png",
        "COVID/Covid (1).png",
    ]
    for row in (0, 11, 12, 27):
        with Image.open(files[data.ids["file"][row]]) as image:
            expected = (
                image.convert("RGB").convert("L").resize((224, 224), Image.Resampling.BILINEAR)
            )
        np.testing.assert_array_equal(data.x[row, 0], np.asarray(expected))
    assert set(data.ids["mode"][:12]) == {"RGBA"} and set(data.ids["mode"][12:]) == {"RGB", "RGBA"}


def test_the_file_mode_does_not_reach_the_arrays(tmp_path: Path, files: dict[str, Path]) -> None:
    """The same pictures, saved in the other class's mode, give the same bytes."""
    other = {}
    for name, path in files.items():
        with Image.open(path) as image:
            mode = "RGB" if image.mode == "RGBA" else "RGBA"
            other[name] = encoded(image.convert(mode), name)
    first, second = (
        covid_ct.adapt(OPTIONS, "kaggle", found, seed=1)
        for found in (files, write_files(tmp_path / "other", other))
    )
    np.testing.assert_array_equal(first.x, second.x)


def test_the_split_has_the_paper_s_sizes_and_depends_on_the_seed(files: dict[str, Path]) -> None:
    folds = [covid_ct.adapt(OPTIONS, "kaggle", files, seed=s).folds[0] for s in (1, 1, 2)]
    y = np.repeat([0, 1], [12, 16])
    assert [np.bincount(y[part]).tolist() for part in folds[0]] == [[7, 11], [2, 2], [3, 3]]
    assert all(np.array_equal(a, b) for a, b in zip(folds[0], folds[1], strict=True))
    assert not np.array_equal(folds[0][2], folds[2][2])


def test_order_and_processes_change_nothing(files: dict[str, Path]) -> None:
    backwards = dict(reversed(files.items()))
    first = covid_ct.adapt(OPTIONS, "kaggle", files, seed=1)
    second = covid_ct.adapt(OPTIONS, "kaggle", backwards, seed=1, processes=2)
    np.testing.assert_array_equal(first.x, second.x)
    assert first.ids.equals(second.ids)


def test_repeated_slices_are_told_and_can_be_left_out(files: dict[str, Path]) -> None:
    twin = picture(1005, 60 + 5, 50)
    files["COVID/Covid (9).png"].write_bytes(encoded(twin.resize((200, 160)), "x.png"))
    files["non-COVID/Non-Covid (3).png"].write_bytes(encoded(picture(2, 62, 50), "x.png"))
    data = covid_ct.adapt(OPTIONS, "kaggle", files, seed=1)
    assert len(data.y) == 28 and data.complete
    data = covid_ct.adapt(OPTIONS | {"drop_duplicates": "near"}, "kaggle", files, seed=1)
    kept = set(data.ids["file"])
    assert set(files) - kept == {"COVID/Covid (9).png", "non-COVID/Non-Covid (3).png"}
    assert data.complete and "2 of 28 images" in " ".join(data.notes)
    exact = covid_ct.adapt(OPTIONS | {"drop_duplicates": "exact"}, "kaggle", files, seed=1)
    assert set(files) - set(exact.ids["file"]) == {"non-COVID/Non-Covid (3).png"}
    assert len(exact.x) == len(exact.y) == len(exact.ids) == 27


def test_missing_files_stop_unless_a_subset_is_allowed(files: dict[str, Path]) -> None:
    for number in range(1, 9):
        del files[f"COVID/Covid ({number}).png"]
    with pytest.raises(InputError, match="COVID: 8 found, 16 in the release"):
        covid_ct.adapt(OPTIONS, "kaggle", files, seed=1)
    data = covid_ct.adapt(OPTIONS, "kaggle", files, seed=1, allow_subset=True)
    assert not data.complete
    # Half of the class: half of its validation and test images.
    assert [np.bincount(data.y[p], minlength=2).tolist() for p in data.folds[0]] == [
        [7, 5],
        [2, 1],
        [3, 2],
    ]


@pytest.mark.parametrize("name", ["COVID/notes.txt", "Covid (1).png", "other/x.png"])
def test_files_that_the_release_does_not_have(files: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match="not one of the SARS-CoV-2 CT release"):
        covid_ct.adapt(OPTIONS, "kaggle", files | {name: Path(name)}, seed=1)


def test_wrong_options_are_named(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="Did you mean 'drop_duplicates'"):
        covid_ct.adapt({"drop_duplicate": "near"}, "kaggle", files, seed=1)


def test_from_the_archive_to_the_arrays(tmp_path: Path) -> None:
    """Dropped by hand as a browser names it, through unpacking, preparing and loading."""
    entry = get_dataset(load_registry(), "covid_ct")
    write_zip(tmp_path / "raw" / entry.raw / "archive.zip", release())
    manifest = locate_or_fetch(
        entry, "kaggle", [tmp_path / "raw"], tmp_path / "down", allow_subset=True
    )
    assert len(manifest["files"]) == 28 and not manifest["complete"]
    facts = {"class_names": entry.classes, "shape": entry.shape, "official": entry.counts.official}
    arguments = ("covid_ct", entry.adapter, entry.options, "kaggle", manifest)
    with pytest.raises(InputError, match="differs from the release"):
        prepare(*arguments, tmp_path / "out", 1, facts)
    card = prepare(*arguments, tmp_path / "out", 1, facts, allow_subset=True)
    assert card["source"] == "subset"
    assert "file_modes_tell_classes" in {finding["code"] for finding in card["audit"]}
    data = load_dataset(tmp_path / "out")
    assert data.points([0]).shape == (1, 1, 224, 224)
    assert data.points([0]).min() >= 0 and data.points([0]).max() <= 1


def test_the_registry_states_the_paper_s_split() -> None:
    entry = get_dataset(load_registry(), "covid_ct")
    sizes = covid_ct.split_sizes(
        np.array(covid_ct.RELEASE), covid_ct.Options(**entry.options), complete=True
    )
    official = entry.counts.official
    for label, name in enumerate(entry.classes):
        n_val, n_test = sizes[label]
        assert (official["val"][name], official["test"][name]) == (n_val, n_test) == (30, 200)
        assert official["train"][name] == covid_ct.RELEASE[label] - n_val - n_test
    assert {t.count for t in entry.sources["kaggle"].trees} == set(covid_ct.RELEASE)


def test_the_split_of_a_small_part_is_told_in_numbers(tmp_path: Path) -> None:
    """Of 12 images less than one would be for validation; the card said True."""
    files = write_files(tmp_path, release(12, 12))
    data = covid_ct.adapt({}, "kaggle", files, seed=1, allow_subset=True)
    note = data.notes[-1]
    assert "1 non-COVID for validation and 2 for testing" in note and "True" not in note
    assert [len(part) for part in data.folds[0]] == [18, 2, 4]
