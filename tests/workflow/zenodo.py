"""The tiles of Kather 2016 as Zenodo publishes them, for a server on localhost."""

from __future__ import annotations

import hashlib
import io
from zipfile import ZIP_STORED, ZipFile

from tests.unit import image_releases
from tests.workflow.conftest import Project

KATHER = "Kather_texture_2016_image_tiles_5000"
ZENODO = "https://zenodo.org/records/53169/files/"


def change(project: Project, *pairs: tuple[str, str]) -> None:
    """Replaces text in the copy's registry, wherever it stands."""
    path = project.folder / "config/datasets.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def zipped(content: dict[str, bytes], top: str) -> bytes:
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_STORED) as archive:
        for name, value in content.items():
            archive.writestr(f"{top}/{name}", value)
    return buffer.getvalue()


def all_tiles() -> bytes:
    """Returns the archive: all 5,000 tiles, of one colour each: 625 of every kind."""
    folders = ("TUMOR", "STROMA", "COMPLEX", "LYMPHO", "DEBRIS", "MUCOSA", "ADIPOSE", "EMPTY")
    content = {}
    for kind, folder in enumerate(folders, start=1):
        for number in range(625):
            slide = f"{number % 10 + 1:02d}"
            name = f"{number:X}_CRC-Prim-HE-{slide}_{number:03d}.tif_Row_1_Col_{kind}.tif"
            colour = (number % 250, number // 250, 20 * kind)
            image = image_releases.Image.new("RGB", (150, 150), colour)
            buffer = io.BytesIO()
            image.save(buffer, "TIFF", compression="tiff_lzw")
            content[f"0{kind}_{folder}/{name}"] = buffer.getvalue()
    return zipped(content, KATHER)


def at_zenodo(project: Project, url: str, archive: bytes, sha256: str | None = None) -> None:
    """Lets the copy's registry name a server for the archive, with its size and checksum."""
    change(
        project,
        (ZENODO, url),
        ("https://zenodo.org/record/53169/files/", url + "mirror/"),
        ("bytes: 258098431", f"bytes: {len(archive)}"),
        (
            "936d0b95ae0f04f1f7b18a2b7e8c55776c3e887d102f645bcee752d1a6626a32",
            sha256 or hashlib.sha256(archive).hexdigest(),
        ),
    )
