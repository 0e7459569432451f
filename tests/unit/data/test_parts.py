"""A part of a release is told before it is read, also within an archive: no dead end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.core.io import read_json
from medrobust.data.fetching.at_hand import is_part
from medrobust.data.fetching.fetch import locate, locate_or_fetch
from medrobust.data.registry import DatasetEntry, load_registry
from medrobust.data.sets.breast_ultrasound import _MASK
from medrobust.experiment import sources
from medrobust.jobs import data as jobs

from tests.unit.image_releases import (
    busi,
    busis,
    chest_xray,
    covid_ct,
    kather,
    write_files,
    write_zip,
)
from tests.unit.msd_files import tar, task

LABELS = ["background", "Anterior", "Posterior"]
HIPPOCAMPUS = task("Task04_Hippocampus", "case", ["MRI"], LABELS, 12)
#: Data set -> its source, an archive that people have, its content, the folder around it.
ARCHIVES: dict[str, tuple[str, str, dict[str, bytes], str]] = {
    "busi": ("kaggle", "busi/archive.zip", busi(6, 6), "Dataset_BUSI_with_GT/"),
    "chest_xray": ("kaggle", "chest_xray/archive.zip", chest_xray(), "chest_xray/"),
    "covid_ct": ("kaggle", "sarscov2_ct/archive.zip", covid_ct(12, 12), ""),
    "kather": (
        "official",
        "kather2016/Kather_texture_2016_image_tiles_5000.zip",
        kather(12),
        "Kather_texture_2016_image_tiles_5000/",
    ),
    "msd_hippocampus": (
        "official",
        "msd/Task04_Hippocampus.tar",
        {name: value for name, value in HIPPOCAMPUS.items() if name.endswith(".nii.gz")},
        "",
    ),
}


def put(raw: Path, name: str) -> Path:
    _, path, content, top = ARCHIVES[name]
    content = {top + member: value for member, value in content.items()}
    if not path.endswith(".tar"):
        return write_zip(raw / path, content)
    (raw / path).parent.mkdir(parents=True, exist_ok=True)
    (raw / path).write_bytes(tar(content))
    return raw / path


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_with_a_part_gives_a_subset(
    tmp_path: Path, monkeypatch, root: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    archive = put(tmp_path / "raw", name)
    archive.chmod(0o444)
    values = {"studies": ["ima"], "raw_dir": "raw", "allow_subset": True}
    for _ in range(2):  # the second time the files lie beside the archive too
        graph = sources.with_dataset(sources.build_graph(values, root), name)
        assert (graph.sources[name], graph.origins[name]) == ("subset", ARCHIVES[name][0])
        out = f"results/data/{name}@subset"
        work = {"dataset": name, "source": graph.origins[name], "allow_subset": True}
        jobs.fetch(**work, raw_dir="raw", manifest=f"{out}/raw.json")
        jobs.prepare(
            **work, label="subset", out_dir=out, seed=1, standin=None, processes=1,
            manifest=f"{out}/raw.json",
        )  # fmt: skip
        card = read_json(f"{out}/card.json")
        assert card["source"] == "subset" and not card["complete"]
        assert sum(card["counts"]["found"]["fold0"]["all"].values()) >= 12


def small(entry: DatasetEntry, source: str, content: Mapping[str, bytes]) -> DatasetEntry:
    """An entry whose release has as many files as ``content``."""
    stated = entry.sources[source]
    trees = []
    for tree in stated.trees:
        n = tree.number(name for name in content if PurePosixPath(name).match(tree.pattern))
        trees += [tree.model_copy(update={"count": n})] if n else []
    archive = stated.archive and stated.archive.model_copy(update={"sha256": None, "md5": None})
    changed = stated.model_copy(update={"trees": trees, "archive": archive})
    return entry.model_copy(update={"sources": {source: changed}})


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_with_the_whole_is_none(tmp_path: Path, name: str) -> None:
    source, path, content, top = ARCHIVES[name]
    entry = small(load_registry()[name], source, content)
    put(tmp_path / "whole", name)
    assert not is_part(locate(entry, source, [tmp_path / "whole"]))
    first = next(name for name in content if "mask" not in name)
    for change in ("less", "more"):
        changed = {top + member: value for member, value in content.items()}
        if change == "less":
            del changed[top + first]
        else:
            folder, _, stem = first.rpartition("/")
            number = stem.replace("(1)", "(99)") if "(1)" in stem else f"9{stem}"
            changed[f"{top}{folder}/{number}"] = content[first]
        write_files(tmp_path / change / path.split("/")[0], changed)
        assert is_part(locate(entry, source, [tmp_path / change])), change


def test_an_archive_with_nothing_of_it_is_no_part(tmp_path: Path) -> None:
    """The whole is then downloaded, and must not be labelled a subset."""
    entry = load_registry()["covid_ct"]
    for content in ({"readme.txt": b"x"}, None):
        path = tmp_path / "raw/sarscov2_ct/archive.zip"
        if content is None:
            path.write_bytes(b"no archive")
        else:
            write_zip(path, content)
        located = locate(entry, "kaggle", [tmp_path / "raw"])
        assert located.archive == path and not is_part(located)


def test_a_file_of_another_size_within_an_archive_is_a_part(tmp_path: Path) -> None:
    entry = load_registry()["ptbdb"]
    content = {"ptbdb_normal.csv": b"0,1\n", "ptbdb_abnormal.csv": b"0,1\n"}
    write_zip(tmp_path / "raw/mitbih/archive.zip", content)
    located = locate(entry, "kaggle", [tmp_path / "raw"])
    assert located.complete and is_part(located)


def test_masks_beside_images_do_not_count(tmp_path: Path) -> None:
    """Half of the images with a mask each are no whole release."""
    entry = load_registry()["busis"]
    for tree in entry.sources["official"].trees:
        assert np.array_equal(
            [tree.number([name]) == 0 for name in NAMES], [bool(_MASK.search(n)) for n in NAMES]
        )
    content = busis(5, 7)
    whole = small(entry, "official", content)
    assert [tree.count for tree in whole.sources["official"].trees] == [5, 7]
    write_files(tmp_path / "raw/busis", content)
    assert not is_part(locate(whole, "official", [tmp_path / "raw"]))
    (tmp_path / "raw/busis/benign/case1.jpeg").unlink()
    located = locate(whole, "official", [tmp_path / "raw"])
    assert located.missing == ["benign/*.* (4 of 5)"] and is_part(located)
    with pytest.raises(InputError, match="4 of 5"):
        locate_or_fetch(whole, "official", [tmp_path / "raw"], tmp_path / "down")


NAMES = ("case1.png", "case1_mask.png", "case1-GT.bmp", "case1_seg_2.tif", "mask.png", "gt_1.png")
