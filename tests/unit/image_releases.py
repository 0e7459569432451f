"""Small image releases in the layout of the official ones, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image


def picture(seed: int, width: int, height: int, mode: str = "L") -> Image.Image:
    """A picture of its own: smooth patches that no other seed has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    grey = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return (grey if mode == "colour" else grey.convert("L")).convert(
        "RGB" if mode == "colour" else mode
    )


def encoded(image: Image.Image, name: str) -> bytes:
    """Returns the file of a picture, in the format that its name tells."""
    buffer = BytesIO()
    kind = {"jpeg": "JPEG", "tif": "TIFF"}.get(name.rsplit(".", 1)[1], "PNG")
    image.save(buffer, kind)
    return buffer.getvalue()


def write_files(folder: Path, content: Mapping[str, bytes]) -> dict[str, Path]:
    """Writes files below ``folder``; returns their paths by name."""
    for name, value in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(value)
    return {name: folder / name for name in content}


def write_zip(path: Path, content: Mapping[str, bytes]) -> Path:
    """Writes a zip archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path


def covid_ct(n_healthy: int = 12, n_infected: int = 16) -> dict[str, bytes]:
    """Files of the SARS-CoV-2 CT release: RGBA without COVID; with it RGB or RGBA."""
    content = {}
    for label, (folder, stem, n) in enumerate(
        (("non-COVID", "Non-Covid", n_healthy), ("COVID", "Covid", n_infected))
    ):
        for number in range(1, n + 1):
            mode = "RGB" if label and number % 3 else "RGBA"
            image = picture(1000 * label + number, 60 + number, 50, mode)
            content[f"{folder}/{stem} ({number}).png"] = encoded(image, "x.png")
    return content


def chest_xray(n_normal: int = 15, n_pneumonia: int = 40) -> dict[str, bytes]:
    """Files of the chest X-ray release: two images of each person with pneumonia."""
    content = {}
    for number in range(n_normal):
        folder = ("train", "train", "train", "val", "test")[number % 5]
        name = f"{folder}/NORMAL/{'NORMAL2-' * (number % 2)}IM-{number // 2:04d}-000{number}.jpeg"
        content[name] = encoded(picture(number, 220, 200), name)
    for number in range(n_pneumonia):
        person, kind = number // 2, ("bacteria", "virus")[number % 2]
        folder = ("train", "train", "train", "val", "test")[number % 5]
        name = f"{folder}/PNEUMONIA/person{person}_{kind}_{number}.jpeg"
        mode = "colour" if number % 7 == 0 else "L"
        content[name] = encoded(picture(500 + number, 200, 150, mode), name)
    return content


def kather(per_class: int = 6, folders: tuple[str, ...] = ("06_MUCOSA", "07_ADIPOSE")) -> dict:
    """Tiles of the release: a slide has two tiles of a class, or three."""
    content = {}
    for label, folder in enumerate(folders):
        for number in range(per_class):
            slide = f"{number // (2 + label % 2) + 1:02d}"
            name = f"{folder}/{number:X}F{label}_CRC-Prim-HE-{slide}_00{number}.tif_Row_1_Col_1.tif"
            content[name] = encoded(picture(100 * label + number, 150, 150, "colour"), name)
    return content


def busi(n_benign: int = 10, n_malignant: int = 8) -> dict[str, bytes]:
    """Files of BUSI: images with masks beside them, and the folder of normal ones."""
    content = {}
    for label, (kind, n) in enumerate(
        (("benign", n_benign), ("malignant", n_malignant), ("normal", 2))
    ):
        for number in range(1, n + 1):
            image = picture(1000 * label + number, 100 + number, 80, "colour")
            content[f"{kind}/{kind} ({number}).png"] = encoded(image, "x.png")
            for mask in ("mask", "mask_1")[: 1 + (number == 2)]:
                white = Image.new("1", image.size, 1)
                content[f"{kind}/{kind} ({number})_{mask}.png"] = encoded(white, "x.png")
    return content


def busis(n_benign: int = 5, n_malignant: int = 7) -> dict[str, bytes]:
    """Images of BUSIS in two folders, some with masks beside them."""
    content = {}
    for label, (kind, n) in enumerate((("benign", n_benign), ("malignant", n_malignant))):
        for number in range(1, n + 1):
            image = picture(5000 + 1000 * label + number, 90, 100 + number)
            suffix = ("png", "jpeg")[number % 2]
            content[f"{kind}/case{number}.{suffix}"] = encoded(image, f"x.{suffix}")
        content[f"{kind}/case1_mask.png"] = encoded(Image.new("1", (90, 101), 1), "x.png")
    return content
