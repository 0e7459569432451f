"""Raw folders that once went wrong, through fetch, prepare and preflight, to what a user reads.

Each case has one test on this way:

- a JPEG that was cut and has an end mark, a PNG without its last rows, pictures on their side,
  12 bits in a PNG, a PTB record without heartbeats, a test file without one class, files under
  nearly their names: here;
- an archive that holds a part: ``test_parts.py``;
- cases whose names are numbers, two sizes of a voxel, axes not at right angles: ``test_msd.py``;
- a file that is replaced after fetch: ``test_raw_files.py``;
- credentials behind a byte order mark: ``test_unused.py``;
- a seed with a zero in front: ``tests/unit/core/test_yaml_files.py``;
- a gradient of 0: ``tests/unit/attacks/test_steps_without_gradient.py``;
- the precision of a class without test points: ``tests/unit/evaluation/test_balanced.py``;
- a training that diverges: ``tests/workflow/test_nsr.py``.
"""

from __future__ import annotations

import gzip
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from medrobust.core.errors import InputError
from medrobust.core.io import read_json
from medrobust.jobs import data as jobs
from PIL import Image

from tests.unit.data.test_images import png
from tests.unit.data.test_raw_files import csv_rows
from tests.unit.experiment.test_preflight_datasets import quick
from tests.unit.image_releases import busi, busis, chest_xray, covid_ct, picture, write_files
from tests.unit.ptb_files import REASONS, write_record

#: Data set -> its source, its folder below the raw folder, files of its release.
PICTURES = {
    "chest_xray": ("kaggle", "chest_xray", chest_xray(12, 24)),
    "busi": ("kaggle", "busi", busi(6, 6)),
    "busis": ("official", "busis", busis(6, 6)),
    "covid_ct": ("kaggle", "sarscov2_ct", covid_ct(12, 12)),
}


def card_of(tmp_path: Path, name: str, source: str) -> dict:
    """Fetches and prepares what lies in the raw folder; returns the card."""
    out = tmp_path / f"{name}@subset"
    work = {"dataset": name, "source": source, "allow_subset": True}
    manifest = str(out / "raw.json")
    jobs.fetch(**work, raw_dir=str(tmp_path / "raw"), manifest=manifest)
    jobs.prepare(
        **work, label="subset", out_dir=str(out), seed=1, standin=None, processes=1,
        manifest=manifest,
    )  # fmt: skip
    return read_json(out / "card.json")


def put_pictures(tmp_path: Path, name: str, changed: dict[str, bytes]) -> str:
    source, folder, files = PICTURES[name]
    assert set(changed) <= set(files), "these replace files of the release"
    write_files(tmp_path / "raw" / folder, files | changed)
    return source


def first(name: str, suffix: str) -> str:
    """Returns the first image of a release with this suffix."""
    return next(n for n in PICTURES[name][2] if n.endswith(suffix) and "mask" not in n)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def cut_jpeg() -> bytes:
    whole = saved(picture(7, 300, 300), "JPEG")
    return whole[: len(whole) * 6 // 10] + b"\xff\xd9"


def cut_png() -> bytes:
    """Nine rows of ten, in a stream that ends properly."""
    return png(30, 10, (b"\0" + bytes([90]) * 90) * 9)


def png_of_12_bits() -> bytes:
    rows = b"".join(b"\0" + struct.pack(">90H", *range(0, 4050, 45)) for _ in range(10))
    return png(30, 10, rows, bits=16)


@pytest.mark.parametrize(
    ("name", "suffix", "content", "says"),
    [
        ("chest_xray", ".jpeg", cut_jpeg(), "damaged: Corrupt JPEG data: premature end"),
        ("busis", ".jpeg", cut_jpeg(), "damaged: Corrupt JPEG data: premature end"),
        ("busi", ").png", cut_png(), "damaged: its data end after 819 of 910 bytes of pixels"),
        ("covid_ct", ").png", cut_png(), "damaged: its data end after 819 of 910 bytes of pixels"),
        ("busi", ").png", png_of_12_bits(), "no rule for 16 bits per channel"),
        ("chest_xray", ".jpeg", png_of_12_bits(), "no rule for 16 bits per channel"),
    ],
)
def test_a_picture_that_is_not_what_it_says_stops_and_is_named(
    tmp_path: Path, name: str, suffix: str, content: bytes, says: str
) -> None:
    file = first(name, suffix)
    source = put_pictures(tmp_path, name, {file: content})
    with pytest.raises(InputError) as caught:
        card_of(tmp_path, name, source)
    assert str(caught.value).startswith("1 of ")
    assert f"{PICTURES[name][1]}/{file}: " in str(caught.value) and says in str(caught.value)
    assert not (tmp_path / f"{name}@subset/card.json").exists()


@pytest.mark.parametrize(
    ("name", "suffix", "kind"), [("chest_xray", ".jpeg", "JPEG"), ("covid_ct", ").png", "PNG")]
)
def test_a_picture_on_its_side_is_turned_and_counted(
    tmp_path: Path, name: str, suffix: str, kind: str
) -> None:
    upright = picture(7, 300, 200)
    exif = Image.Exif()
    exif[274] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    options = {"quality": 95} if kind == "JPEG" else {}
    file = first(name, suffix)
    folder = file.rsplit("/", 1)[0].rsplit("/", 1)[-1]
    rows = []
    for content in (saved(upright, kind, **options), saved(turned, kind, exif=exif, **options)):
        card = card_of(tmp_path, name, put_pictures(tmp_path, name, {file: content}))
        out = tmp_path / f"{name}@subset"
        rows += [np.load(out / "x.npy").astype(int)]
    told = f"Turned upright by their orientation tag: 1 of {folder}."
    assert any(told in note for note in card["notes"])
    difference = np.abs(rows[0] - rows[1])
    assert rows[0].max() > 100 and difference.max() <= 12


def test_a_record_without_heartbeats_is_named_and_not_counted(tmp_path: Path) -> None:
    raw = tmp_path / "raw/ptbdb"
    write_record(raw, "patient001/s0001_re", REASONS["abnormal"])
    write_record(raw, "patient002/s0002_re", REASONS["abnormal"], period=300)
    write_record(raw, "patient105/s0105_re", REASONS["normal"])
    notes = card_of(tmp_path, "ptbdb", "physionet")["notes"]
    assert "heartbeats, 1 record, 1 patient), as" in notes[0] and "2 records" not in notes[0]
    assert "Records without rows, which are not counted: s0002_re (patient002)." in notes[1]


@pytest.mark.parametrize(("lacking", "split"), [("train", "training"), ("test", "test")])
def test_a_class_that_one_file_lacks_is_a_warning(tmp_path: Path, lacking: str, split: str) -> None:
    classes = {"train": range(5), "test": range(5)} | {lacking: [0, 1, 2, 4]}
    for seed, (part, kinds) in enumerate(classes.items()):
        csv_rows(tmp_path / f"raw/mitbih/mitbih_{part}.csv", 20, seed=seed, classes=kinds)
    audit = card_of(tmp_path, "mitbih_val", "kaggle")["audit"]
    told = [one["text"] for one in audit if one["level"] == "warning"]
    assert any(f"{split}: no row of class F" in text for text in told)


def test_files_under_nearly_their_names_are_used_or_told(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    rows = b"0.5,1\n"
    write_files(
        mine,
        {f"mitbih/mitbih_{part}.csv.gz": gzip.compress(rows) for part in ("train", "test")}
        | {"fashion_mnist/train-images-idx3-ubyte": struct.pack(">4I", 2051, 1, 28, 28)},
    )
    findings = quick(tmp_path, "mitbih", "fashion_mnist")
    (ready,) = [f for f in findings if f.subject == "mitbih@kaggle" and f.level == "ready"]
    assert "mitbih_train.csv.gz as mitbih_train.csv" in ready.text
    (told,) = [f for f in findings if f.study == "fashion_mnist" and f.level == "note"]
    assert "train-images-idx3-ubyte as train-images-idx3-ubyte.gz" in told.text
    assert "missing: train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz" in told.text
    assert told.remedy == "put the missing files beside it, or they are downloaded"
