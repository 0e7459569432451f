"""Many image files as one array: decoded in processes side by side, each file in its own row.

A file becomes a square of ``[channels, size, size]`` uint8 in a stated colour mode, whatever its
own mode is: a data set in which classes differ by file mode would else leak the label. JPEG files
are decoded at a half, a quarter or an eighth where that still leaves ``REDUCING_GAP`` times the
size asked for. Rows depend on the files and their order alone, not on the number of processes.

Memory is bounded: a process holds one picture at a time, and the array is a memory-mapped file.
Files that cannot be read (damaged, cut short, empty, no image, too large, of a mode or a number of
bits without a stated rule) are all listed by name in one error. Decoders of JPEG repair in silence
(what is missing becomes grey), so each JPEG is first decoded by one that refuses. Rows that a PNG
or an uncompressed TIFF promises and does not hold would stay black; they are looked for.
Orientation tags (EXIF) are applied: a picture is read as a viewer shows it.
"""

from __future__ import annotations

import os
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.core.files import remove_left_files, temporary_file
from medrobust.core.logs import Progress
from medrobust.data.formats.decoders import answers

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
"""What Pillow may try; others (some start programs of their own) are no image here."""

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""File modes that can be brought to 8-bit grey or RGB without a choice of window or ink."""

BITS = 8
"""Most bits of a channel. Pillow takes the upper 8 of 16, which leaves a 12-bit picture black."""

MAX_PIXELS = 64_000_000
"""Largest width x height that is decoded; the largest official file has about 6 million."""

REDUCING_GAP = 2.0
"""A JPEG is decoded at least this many times larger than the final size, then averaged."""

_TIFF_BITS = 258
_TIFF_SAMPLES = 277
_TIFF_PLANES = 284
_EXIF_ORIENTATION = 274
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What makes a picture of this EXIF orientation upright (TIFF 6.0, tag 274)."""
_SIDEWAYS = ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of each colour type (PNG, third edition, 11.2.1)."""
_PNG_WHOLE = ((0, 0, 1, 1),)
_PNG_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row of each pass of an interlaced picture, and the steps to the next (8.1)."""
_INFLATED_AT_ONCE = 1 << 20

_FILES_PER_TASK = 32
_NAMES_SHOWN = 100


@dataclass(frozen=True)
class ImageSpec:
    """How image files become an array.

    Attributes:
        size: width and height of the result in pixels.
        colour: "grey" (1 channel), "rgb" (3 channels), or "grey_rgb" (grey, three times).
        pad: put the picture in the middle of a black square before it is resized, which keeps
            its proportions; else it is stretched to a square.
        reduced: decode JPEG files at reduced scale where that is enough; not with ``pad``, where
            a fraction of a pixel at the picture's edge would show against black.
    """

    size: int
    colour: Literal["grey", "rgb", "grey_rgb"]
    pad: bool = False
    reduced: bool = True

    @property
    def channels(self) -> int:
        """Number of channels of the result."""
        return 1 if self.colour == "grey" else 3

    @property
    def mode(self) -> str:
        """Pillow's mode in which a picture is resized."""
        return "RGB" if self.colour == "rgb" else "L"


@dataclass(frozen=True)
class Images:
    """Decoded files.

    Attributes:
        x: uint8 ``[n, channels, size, size]``, memory-mapped, read-only.
        width, height: of each picture upright, int64 ``[n]``, in pixels.
        mode: of each file, as Pillow names it ("L", "RGB", "RGBA", ...), ``[n]``.
        orientation: of each file, its EXIF orientation, int64 ``[n]``: 1 as stored, 2 to 8 turned
            or mirrored, which is applied.
    """

    x: np.ndarray
    width: np.ndarray
    height: np.ndarray
    mode: np.ndarray
    orientation: np.ndarray


class _UnreadableError(Exception):
    """This file is not read; the text says why."""


_Facts = tuple[int, int, str, int]
"""Width, height, mode and orientation of a file."""


def read_images(
    paths: Sequence[str | Path], spec: ImageSpec, *, processes: int = 1, what: str = "images"
) -> Images:
    """Decodes image files, in the order given.

    Args:
        paths: the files.
        spec: size and colour of the result.
        processes: at most so many processes decode side by side.
        what: what they are, for progress lines and errors.

    Raises:
        InputError: files cannot be read (all are named, with the reason), there are none, or
            there is no room for the array in the folder for temporary files.
    """
    if not paths:
        raise InputError(f"There are no {what} to read.")
    files = [os.fspath(path) for path in paths]
    shape = (len(files), spec.channels, spec.size, spec.size)
    facts: list[_Facts | None] = [None] * len(files)
    wrong: dict[int, str] = {}
    progress = Progress(f"decoding {what}", len(files), unit="files")
    done = 0
    with _mapped(shape) as (array_path, result):
        for start, outcomes in _decoded(files, array_path, spec, processes):
            for row, outcome in enumerate(outcomes, start=start):
                if isinstance(outcome, str):
                    wrong[row] = outcome
                else:
                    facts[row] = outcome
            done += len(outcomes)
            progress.update(done)
        if wrong:
            raise _unreadable(files, wrong, what)
    known = [fact for fact in facts if fact is not None]
    width, height, mode, orientation = zip(*known, strict=True)
    return Images(
        result,
        np.array(width, np.int64),
        np.array(height, np.int64),
        np.array(mode, object),
        np.array(orientation, np.int64),
    )


def decode(path: str | Path, spec: ImageSpec) -> tuple[np.ndarray, tuple[int, int, str, int]]:
    """Decodes one file.

    Returns:
        The picture, uint8 ``[channels, size, size]``; width, height, mode and orientation of the
        file.

    Raises:
        Exception: the file cannot be read, for any of the reasons that Pillow or this module
            has; :func:`read_images` turns them into one InputError.
    """
    from PIL import Image

    # From memory: by its path Pillow 13 maps an uncompressed TIFF, and scrambles one that it turns.
    content = Path(path).read_bytes()
    if not content:
        raise _UnreadableError("the file is empty")
    file = BytesIO(content)
    with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
        _check(image)
        if image.format == "JPEG":
            _check_jpeg(content)
        elif image.format == "PNG":
            _check_png(image, content)
        orientation = _orientation(image)
        # Pillow turns pictures of TIFF files itself.
        turn = _TURNS.get(orientation) if image.format != "TIFF" else None
        width, height = image.size if turn not in _SIDEWAYS else image.size[::-1]
        facts = (width, height, image.mode, orientation)
        box = None
        if spec.reduced and not spec.pad and image.format == "JPEG":
            least = int(REDUCING_GAP * spec.size)
            drafted = image.draft(spec.mode, (least, least))
            # The part of the reduced picture that the file's pixels cover: its last column and
            # row may stand for fewer pixels than the others.
            box = drafted[1] if drafted else None
        picture = _in_mode(image, spec.mode)
    if spec.pad:
        picture = _padded(picture)
    picture = picture.resize((spec.size, spec.size), Image.Resampling.BILINEAR, box=box)
    if turn is not None:
        # Of a square: turned before or after, a picture is stretched in the same way.
        picture = picture.transpose(Image.Transpose[turn])
    values = np.asarray(picture)
    values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return np.broadcast_to(values, (spec.channels, spec.size, spec.size)), facts


def _check(image: Image) -> None:
    """Raises unless the picture that a header promises can be decoded as it is meant."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _UnreadableError(f"{width:,} x {height:,} pixels are more than {MAX_PIXELS:,}")
    if getattr(image, "n_frames", 1) != 1:
        raise _UnreadableError("it holds several pictures")
    if image.mode not in MODES:
        raise _UnreadableError(f"no rule for pictures of mode {image.mode}")
    if (bits := _bits(image)) > BITS:
        raise _UnreadableError(f"no rule for {bits} bits per channel")
    _check_strips(image)


def _bits(image: Image) -> int:
    """Returns the bits of a channel in the file, whatever Pillow makes of them."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(_TIFF_BITS, (1,)))
    # The decoder's name of the raw bytes, such as "RGB;16B"; other formats have no more than 8.
    wide = image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile)
    return 16 if wide else BITS


def _check_strips(image: Image) -> None:
    """Raises where the strips of an uncompressed picture are fewer than its pixels (TIFF)."""
    raw = [extents for codec, extents, *_ in image.tile if codec == "raw"]
    if image.format != "TIFF" or not raw:
        return
    tags = image.tag_v2
    planes = tags.get(_TIFF_SAMPLES, 1) if tags.get(_TIFF_PLANES, 1) == 2 else 1
    covered = sum((right - left) * (lower - upper) for left, upper, right, lower in raw)
    width, height = image.size
    if covered < width * height * planes:
        raise _UnreadableError(
            f"the file is damaged: it holds {covered // planes:,} of {width * height:,} pixels"
        )


def _orientation(image: Image) -> int:
    """Returns the EXIF orientation, 1 where the file has none, or none that EXIF knows."""
    found = image.getexif().get(_EXIF_ORIENTATION, 1)
    return found if found in _TURNS else 1


def _check_jpeg(content: bytes) -> None:
    """Raises where the decoder would repair: pixels without data, data that is no code.

    Bytes between segments, which some cameras write, lose nothing and are accepted.
    """
    import simplejpeg

    try:
        # At an eighth: the data is read as a whole, and few pixels are computed.
        simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        if "extraneous bytes" not in str(error):
            raise _UnreadableError(f"the file is damaged: {error}") from None


def _check_png(image: Image, content: bytes) -> None:
    """Loads the picture; raises where the compressed stream ends before it, which stays black.

    Pillow checks the header and the checksum of the stream. It gives whole rows, in order, so a
    last row that is not all 0 says that none is missing; counting the bytes of the stream, which
    takes up to half as long as decoding, is for the others.
    """
    image.load()
    width, height = image.size
    last = image.crop((0, height - 1, width, height))
    if not image.info.get("interlace") and last.getbbox():
        return
    promised = _png_promised(content)
    found = _png_found(content, promised)
    if found < promised:
        raise _UnreadableError(
            f"the file is damaged: its data end after {found:,} of {promised:,} bytes of pixels"
        )


def _png_promised(content: bytes) -> int:
    """Returns the bytes of pixels, and of each row's filter, that a PNG's header promises."""
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(
        ">IIBBBBB", content, content.index(b"IHDR") + 4
    )
    total = 0
    for column, row, across, down in _PNG_ADAM7 if interlaced else _PNG_WHOLE:
        columns = max(0, -(-(width - column) // across))
        rows = max(0, -(-(height - row) // down))
        # A pass without pixels has no filters either.
        total += rows * (1 + -(-columns * bits * _PNG_CHANNELS[colour] // 8)) if columns else 0
    return total


def _png_found(content: bytes, enough: int) -> int:
    """Returns the bytes that the data chunks of a PNG unpack to, counted until there are enough."""
    stream, total, place = zlib.decompressobj(), 0, 8
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        packed = content[place + 8 : place + 8 + size] if kind == b"IDAT" else b""
        while total < enough:
            unpacked = stream.decompress(packed, _INFLATED_AT_ONCE)
            total, packed = total + len(unpacked), stream.unconsumed_tail
            if not unpacked and not packed:
                break
        place += 12 + size
    return total


def _in_mode(image: Image, mode: str) -> Image:
    """Returns the picture in "L" or "RGB"; what is transparent is laid over black."""
    from PIL import Image

    image.load()
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getextrema()[3] != (255, 255):
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _padded(picture: Image) -> Image:
    """Returns the picture in the middle of a black square."""
    from PIL import Image

    longest = max(picture.size)
    square = Image.new(picture.mode, (longest, longest))
    square.paste(picture, tuple((longest - side) // 2 for side in picture.size))
    return square


_Outcomes = tuple[int, list[_Facts | str]]
"""The first row of a task, and for each of its files the facts, or why it was not read."""


def _decoded(
    files: list[str], array_path: str, spec: ImageSpec, processes: int
) -> Iterator[_Outcomes]:
    """Yields the outcomes of all tasks as they finish."""
    starts = range(0, len(files), _FILES_PER_TASK)
    tasks = [(start, files[start : start + _FILES_PER_TASK], array_path, spec) for start in starts]
    workers = min(processes, len(tasks))
    if workers <= 1:
        yield from map(decode_files, tasks)
        return
    plain = [(*task[:3], asdict(spec)) for task in tasks]
    for start, outcomes in answers("medrobust.data.formats.decode_files", plain, workers):
        yield start, [one if isinstance(one, str) else tuple(one) for one in outcomes]


def decode_files(task: tuple[int, list[str], str, ImageSpec]) -> _Outcomes:
    """Decodes the files of one task into their rows."""
    start, files, array_path, spec = task
    array = np.load(array_path, mmap_mode="r+", allow_pickle=False)
    outcomes: list[_Facts | str] = []
    for row, path in enumerate(files, start=start):
        try:
            array[row], facts = decode(path, spec)
        # Pillow's readers raise whatever damaged bytes lead them to.
        except Exception as error:
            outcomes.append(_reason(error))
        else:
            outcomes.append(facts)
    return start, outcomes


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return f"this is no image in one of the formats {', '.join(FORMATS)}"
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    return str(error) or type(error).__name__


def _unreadable(files: list[str], wrong: dict[int, str], what: str) -> InputError:
    rows = sorted(wrong)
    lines = [f"    {files[row]}: {wrong[row]}" for row in rows[:_NAMES_SHOWN]]
    if len(rows) > _NAMES_SHOWN:
        lines.append(f"    and {len(rows) - _NAMES_SHOWN:,} more")
    return InputError(
        f"{len(rows):,} of {len(files):,} {what} cannot be read:\n" + "\n".join(lines),
        remedy="get these files again; a damaged archive is to be deleted and fetched again.",
    )


@contextmanager
def _mapped(shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the path of a new array file and the array, mapped read-only.

    The file is removed at the end of the block; what is mapped stays.
    """
    folder, prefix, suffix = tempfile.gettempdir(), "medrobust-images-", ".npy"
    remove_left_files(folder, f"{prefix}*{suffix}")
    with temporary_file(folder, prefix, suffix) as file:
        path = str(file)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        _reserve(path)
        yield path, np.load(path, mmap_mode="r", allow_pickle=False)


def _reserve(path: str) -> None:
    """Takes the room of the whole array now: a full disk would else kill whoever writes to it."""
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, Path(path).stat().st_size)
        except OSError:
            raise io.disk_full(path) from None
