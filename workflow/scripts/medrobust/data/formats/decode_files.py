"""A process that decodes image files: see :func:`medrobust.data.formats.images.read_images`."""

from __future__ import annotations

from typing import Any

from medrobust.data.formats.decoders import serve
from medrobust.data.formats.images import ImageSpec, decode_files


def _decoded(task: Any) -> Any:
    start, files, array_path, spec = task
    return decode_files((start, files, array_path, ImageSpec(**spec)))


if __name__ == "__main__":
    serve(_decoded)
