"""Small archives in the layout of the Medical Segmentation Decathlon, for tests."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping

import nibabel
import numpy as np

AFFINE = np.diag([1.25, 1.25, 2.0, 1.0])


def packed(data: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    return gzip.compress(nibabel.Nifti1Image(data, affine).to_bytes(), mtime=0)


def task(
    name: str, case: str, channels: list[str], labels: list[str], cases: int
) -> dict[str, bytes]:
    """Returns the files of a task: path -> content, each volume with a shape of its own."""
    random = np.random.default_rng(5)
    files, listed = {}, []
    for number in range(cases):
        shape = (8 + number % 3, 9, 6)
        last = (len(channels),) if len(channels) > 1 else ()
        image = random.normal(0, 10.0 ** (1 + number % 4), (*shape, *last)).astype(np.float32)
        mask = random.integers(0, len(labels), shape).astype(np.uint8)
        file = f"{case}_{number:03d}.nii.gz"
        files[f"{name}/imagesTr/{file}"] = packed(image)
        files[f"{name}/labelsTr/{file}"] = packed(mask)
        listed.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    files[f"{name}/imagesTs/{case}_900.nii.gz"] = packed(np.zeros((3, 3, 3), np.float32))
    files[f"{name}/dataset.json"] = json.dumps(
        {
            "modality": {str(n): c for n, c in enumerate(channels)},
            "labels": {str(n): c for n, c in enumerate(labels)},
            "numTraining": cases,
            "training": listed,
        }
    ).encode()
    return files


def tar(files: Mapping[str, bytes]) -> bytes:
    """Returns a tar like the official ones, with the files that macOS adds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, value in files.items():
            folder, _, last = name.rpartition("/")
            for path, content in ((f"{folder}/._{last}", b"attributes"), (name, value)):
                info = tarfile.TarInfo("./" + path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
