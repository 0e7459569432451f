"""Files that no source uses, and credentials that cannot be read, are told, not passed over."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest
from medrobust.core.errors import InputError
from medrobust.data.fetching.fetch import locate_or_fetch
from medrobust.data.fetching.kaggle_source import find_credential, unusable_credentials
from medrobust.data.fetching.unused import unused_files
from medrobust.data.registry import load_registry

from tests.unit.experiment.test_preflight import no_credentials
from tests.unit.experiment.test_preflight_datasets import quick
from tests.unit.image_releases import busi, chest_xray, write_files

__all__ = ["no_credentials"]

REGISTRY = load_registry()


def told(raw: Path, name: str) -> list[str]:
    return unused_files(REGISTRY[name], [raw], list(REGISTRY.values()))


#: Data set, file below the raw folder, what is said of it.
NEARLY = {
    ("mitbih", "mitbih/mitbih_train.csv.zip"): "packed; unpack it as mitbih_train.csv",
    ("mitbih", "mitbih/Mitbih_Train.csv"): "move it to mitbih_train.csv",
    ("mitbih", "mitbih/mitbih_train (1).csv"): "move it to mitbih_train.csv",
    ("mitbih", "mitbih/mitbih-train.csv"): "nearly mitbih_train.csv",
    ("mitbih", "mitbih/ecg.rar"): "call it heartbeat.zip or archive.zip",
    ("mitbih", "mitbih/mitbih_train.parquet"): "no such file; expected are",
    ("ptbdb", "ptbdb/patient001/s0010_re.dat.gz"): "call it",
    ("fashion_mnist", "fashion_mnist/train-images.idx3-ubyte"): "nearly train-images-idx3-ubyte",
    ("fashion_mnist", "fashion_mnist/fashion-mnist_train.csv"): "expected are train-images-idx3",
    ("svhn", "svhn/train_32x32.mat.gz"): "unpack it as train_32x32.mat",
    ("chest_xray", "chest_xray/healthy/IM-0001.jpeg"): "lies elsewhere than train/NORMAL/*.jpeg",
    ("chest_xray", "chest_xray/train/NORMAL/IM-0001.png"): "no such file",
    ("covid_ct", "sarscov2_ct/covid/a.jpg"): "expected are COVID/*.png",
    ("kather", "kather2016/01_TUMOR/a.png"): "no such file; expected are 01_TUMOR/*.tif",
    ("busi", "busi/benign/image1.png"): "no such file; expected are benign/benign (*).png",
    ("msd_heart", "msd/imagesTr/la_001.nii.gz"): "lies elsewhere than Task02_Heart/imagesTr",
}


@pytest.mark.parametrize(("name", "file"), NEARLY)
def test_a_file_under_nearly_its_name_is_told(tmp_path: Path, name: str, file: str) -> None:
    write_files(tmp_path / "mine", {file: b"x"})
    (text,) = told(tmp_path / "mine", name)
    assert f"{tmp_path}/mine/{file} is not used" in text and NEARLY[name, file] in text


def test_an_empty_file_is_told_whatever_the_source(tmp_path: Path) -> None:
    """PhysioNet would be chosen, because it needs no account."""
    files = {"mitbih/mitbih_train.csv": b"", "mitbih/mitbih_test.csv": b"1"}
    write_files(tmp_path / "mine", files)
    findings = quick(tmp_path, "mitbih")
    assert any("mitbih_train.csv is not used: it is empty (0 bytes)" in f.text for f in findings)
    assert [f.subject for f in findings if f.level == "download"] == ["mitbih@physionet"]


def test_many_files_of_one_kind_are_one_sentence(tmp_path: Path) -> None:
    write_files(tmp_path / "mine", {f"chest_xray/x/{n}.bmp": b"x" for n in range(500)})
    (text,) = told(tmp_path / "mine", "chest_xray")
    assert text.startswith(f"500 files like {tmp_path}/mine/chest_xray/x/0.bmp are not used")
    many = {f"chest_xray/x{n}/a.bmp": b"x" for n in range(20)}
    write_files(tmp_path / "mine", many)
    assert len(told(tmp_path / "mine", "chest_xray")) == 7


def test_nothing_is_said_of_files_that_belong_there(tmp_path: Path) -> None:
    """Masks, other data sets' files in a shared folder, records of the other source, a licence."""
    files = {f"busi/{name}": value for name, value in busi().items()}
    names = ["mitbih/ptbdb_normal.csv", "mitbih/100.hea", "mitbih/100.xws", "mitbih/LICENSE.txt"]
    names += ["mitbih/heartbeat.zip", "mitbih/x_mitdb/x_108.hea", "msd/Task04_Hippocampus.tar"]
    names += ["ptbdb/SHA256SUMS.txt", "ptbdb/patient001/s1.hea", "ptbdb/patient001/s1.xyz"]
    names += ["msd/Task05_Prostate/imagesTr/a.nii.gz", "mitbih/.DS_Store", "mitbih/__MACOSX/a.csv"]
    write_files(tmp_path / "mine", files | dict.fromkeys(names, b"x"))
    for name in ("busi", "bus", "mitbih", "ptbdb", "msd_heart"):
        assert told(tmp_path / "mine", name) == [], name


def test_preflight_tells_only_where_something_is_missing(tmp_path: Path) -> None:
    write_files(tmp_path / "mine", {"mitbih/mitbih_train.csv.bz2": b"x"})
    findings = quick(tmp_path, "mitbih")
    (note,) = [f for f in findings if "mitbih_train.csv.bz2" in f.text]
    assert note.level == "note" and "unpack it as mitbih_train.csv" in note.text
    write_files(tmp_path / "mine", {f"mitbih/mitbih_{n}.csv": b"x" for n in ("train", "test")})
    assert not [f for f in quick(tmp_path, "mitbih") if "bz2" in f.text]


def test_preflight_says_what_stands_for_what_and_what_a_part_lacks(tmp_path: Path) -> None:
    names = {f"mitbih/mitbih_{n}.csv.gz": b"x" * 20 for n in ("train", "test")}
    flat = {f"chest_xray/{n.split('/', 1)[1]}"[:-4] + "jpg": v for n, v in chest_xray().items()}
    write_files(tmp_path / "mine", names | flat)
    findings = quick(tmp_path, "mitbih", "chest_xray")
    (ready,) = [f.text for f in findings if f.subject == "mitbih@kaggle"]
    assert "mitbih_train.csv.gz as mitbih_train.csv" in ready
    (part,) = [f for f in findings if f.study == "chest_xray" and "missing:" in f.text]
    assert "15 like" in part.text and ".jpg as NORMAL/*.jpeg" in part.text
    assert "NORMAL/*.jpeg (15 of 1583)" in part.text and "allow_subset" in part.remedy


def test_fetch_tells_before_it_downloads(tmp_path: Path, caplog) -> None:
    write_files(tmp_path / "mine", {"sarscov2_ct/covid.zip": b"x"})
    with pytest.raises(InputError, match="no Kaggle credential"):
        locate_or_fetch(REGISTRY["covid_ct"], "kaggle", [tmp_path / "mine"], tmp_path / "down")
    assert "covid.zip is not used" in caplog.text


# ------------------------------------------------------------------------------ credentials

GOOD = json.dumps({"username": "somebody", "key": "0" * 32}).encode()
#: File in the home folder, its content, what is said of it.
FILES = {
    (".kaggle/kaggle.json", codecs.BOM_UTF8 + GOOD): "kaggle.json cannot be read: it begins with",
    (".kaggle/kaggle.json", GOOD.decode().encode("utf-16")): "byte order mark",
    (".kaggle/kaggle.json", GOOD[:-4]): "it is not JSON",
    (".kaggle/kaggle.json", b"\xff\xff"): "it is not UTF-8 text",
    (".kaggle/kaggle.json", b""): "is empty",
    (".kaggle/kaggle.json", b"[]"): "no JSON object with username and key",
    (".kaggle/kaggle.json", b'{"username": "a", "key": ""}'): "it has no key",
    (".config/kaggle/kaggle.json", codecs.BOM_UTF8 + GOOD): ".config/kaggle/kaggle.json cannot",
    (".kaggle/access_token", codecs.BOM_UTF8 + b"KGAT_1"): "access_token cannot be read",
    (".kaggle/access_token.txt", b" \n"): "access_token.txt is empty",
}


@pytest.mark.parametrize(("file", "content"), FILES)
def test_a_credential_file_that_cannot_be_used_is_told(
    tmp_path: Path, file: str, content: bytes
) -> None:
    home = tmp_path / "home"
    write_files(home, {file: content})
    assert find_credential() is None
    (text,) = unusable_credentials()
    assert str(home / file) in text and FILES[file, content] in text
    assert "somebody" not in text and "0000" not in text
    findings = quick(tmp_path, "ptbdb")
    assert [f.text for f in findings if f.subject == "Kaggle"] == [text]
    (action,) = [f for f in quick(tmp_path, "covid_ct") if f.level == "action"]
    assert text in action.text


def test_a_credential_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch) -> None:
    def refused(path: Path) -> bytes:
        if path.name == "kaggle.json":
            raise PermissionError(13, "Permission denied")
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert "kaggle.json cannot be read (Permission denied)" in unusable_credentials()[0]


def test_nothing_is_said_of_good_credentials_or_none(tmp_path: Path, monkeypatch) -> None:
    assert unusable_credentials() == []
    write_files(tmp_path / "home", {".kaggle/kaggle.json": GOOD, ".kaggle/access_token": b"KGAT"})
    assert unusable_credentials() == []
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    assert unusable_credentials() == [
        "KAGGLE_USERNAME is set without the other of KAGGLE_USERNAME and KAGGLE_KEY"
    ]
