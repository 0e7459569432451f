"""Image files to arrays: colour modes, padding, reduced scale, order, and files that are broken."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from io import BytesIO
from pathlib import Path

import medrobust
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from medrobust.core.errors import InputError
from medrobust.data.formats import decoders, images
from medrobust.data.formats.images import ImageSpec, decode, read_images
from PIL import Image, ImageOps

GREY = ImageSpec(8, "grey")
RGB = ImageSpec(8, "rgb")
JPEG_QUALITY = {"JPEG": {"quality": 95}}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which every test must leave empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with structure of all sizes, grey."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 12), np.uint8))
    fine = random.normal(0, 6, (height, width))
    values = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) + fine
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def png(width: int, height: int, rows: bytes, *, bits=8, colour=2, interlaced=0, piece=0) -> bytes:
    """A PNG file whose data are ``rows``, each behind its filter, whatever the header says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced))
    if colour == 3:
        header += chunk(b"PLTE", bytes(range(256)) * 3 if bits == 8 else bytes(range(3 << bits)))
    packed = zlib.compress(rows)
    piece = piece or len(packed)
    data = [chunk(b"IDAT", packed[at : at + piece]) for at in range(0, len(packed), piece)]
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "colour", "grey", "rgb"),
    [
        ("1", 1, 255, (255, 255, 255)),
        ("L", 90, 90, (90, 90, 90)),
        ("LA", (90, 255), 90, (90, 90, 90)),
        ("LA", (100, 51), 20, (20, 20, 20)),
        ("RGB", (200, 100, 50), 124, (200, 100, 50)),
        ("RGBA", (200, 100, 50, 255), 124, (200, 100, 50)),
        ("RGBA", (200, 100, 50, 51), 25, (40, 20, 10)),
        ("RGBA", (200, 100, 50, 0), 0, (0, 0, 0)),
    ],
)
def test_every_mode_gives_the_same_colours(
    tmp_path: Path, mode: str, colour: object, grey: int, rgb: tuple[int, int, int]
) -> None:
    """Grey is 0.299 R + 0.587 G + 0.114 B (ITU-R 601); transparent parts lie over black."""
    path = tmp_path / "x.png"
    Image.new(mode, (20, 10), colour).save(path)
    for spec, expected in ((GREY, [grey]), (RGB, rgb), (ImageSpec(8, "grey_rgb"), [grey] * 3)):
        read = read_images([path], spec)
        assert read.x.shape == (1, len(expected), 8, 8) and read.x.dtype == np.uint8
        for channel, value in zip(read.x[0], expected, strict=True):
            assert np.abs(channel.astype(int) - value).max() <= 1
        assert (read.width[0], read.height[0], read.mode[0]) == (20, 10, mode)


def test_palettes_give_their_colours_with_and_without_a_transparent_one(tmp_path: Path) -> None:
    picture = Image.new("P", (6, 6), 1)
    picture.putpalette([0, 0, 0, 10, 250, 30])
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.png", transparency=1)
    x = read_images([tmp_path / "a.png", tmp_path / "b.png"], RGB).x
    assert (x[0].reshape(3, -1) == [[10], [250], [30]]).all() and (x[1] == 0).all()


def test_a_stretched_picture_fills_the_square(tmp_path: Path) -> None:
    Image.fromarray(np.full((10, 30), 77, np.uint8)).save(tmp_path / "x.png")
    assert (read_images([tmp_path / "x.png"], GREY).x == 77).all()


@pytest.mark.parametrize(("width", "height"), [(64, 32), (32, 64), (63, 30), (31, 64), (64, 64)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_padding_keeps_proportions(tmp_path: Path, width: int, height: int, mode: str) -> None:
    """Against NumPy's padding of the picture, then Pillow's resize."""
    picture = smooth(width, height).convert(mode)
    picture.save(tmp_path / "x.png")
    values = np.asarray(picture)
    side = max(width, height)
    top, left = (side - height) // 2, (side - width) // 2
    rest = [(0, 0)] * (values.ndim - 2)
    square = np.pad(values, [(top, side - height - top), (left, side - width - left), *rest])
    expected = np.asarray(Image.fromarray(square).resize((16, 16), Image.Resampling.BILINEAR))
    colour = "rgb" if mode == "RGB" else "grey"
    found = read_images([tmp_path / "x.png"], ImageSpec(16, colour, pad=True)).x[0]
    np.testing.assert_array_equal(
        found if mode == "RGB" else found[0],
        np.moveaxis(expected, -1, 0) if mode == "RGB" else expected,
    )


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1500, 1203), (901, 1500), (500, 400), (400, 300)])
def test_reduced_scale_changes_next_to_nothing(
    tmp_path: Path, width: int, height: int, pad: bool
) -> None:
    smooth(width, height).save(tmp_path / "x.jpg", quality=92)
    full, reduced = (
        read_images([tmp_path / "x.jpg"], ImageSpec(96, "grey", pad, reduced)).x.astype(int)
        for reduced in (False, True)
    )
    difference = np.abs(full - reduced)
    assert difference.mean() < 0.6 and difference.max() <= 12
    # A file is not decoded smaller than it has to be, and large ones are decoded smaller.
    assert (difference.max() > 0) == (not pad and min(width, height) >= 400)


def test_colour_jpegs_are_read_in_colour(tmp_path: Path) -> None:
    Image.new("RGB", (800, 800), (180, 90, 40)).save(tmp_path / "x.jpg", quality=95)
    x = read_images([tmp_path / "x.jpg"], RGB).x[0].reshape(3, -1).astype(int)
    assert np.abs(x - [[180], [90], [40]]).max() <= 3


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    """Seventy pictures whose grey value is their number, in several formats."""
    paths = []
    for number in range(70):
        suffix, mode = ("png", "tif", "bmp")[number % 3], ("L", "RGB")[number % 2]
        paths.append(tmp_path / f"{number}.{suffix}")
        Image.new("L", (9 + number % 5, 11), 3 * number).convert(mode).save(paths[-1])
    return paths


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_rows_are_in_the_order_of_the_files(many: list[Path], processes: int) -> None:
    read = read_images(many[::-1], GREY, processes=processes)
    assert (read.x.reshape(70, -1) == 3 * np.arange(70)[::-1, None]).all()
    assert read.width.tolist() == [9 + number % 5 for number in range(70)][::-1]
    assert read.mode.tolist() == [("L", "RGB")[number % 2] for number in range(70)][::-1]
    with pytest.raises(ValueError, match="read-only"):
        read.x[0] = 1


def spoilt(folder: Path) -> dict[str, str]:
    """Writes broken files; returns their names, each with what the error must say of it."""
    smooth(300, 300).save(folder / "good.jpg")
    smooth(300, 300).save(folder / "good.png")
    for name in ("good.jpg", "good.png"):
        whole = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.jpeg").write_text("<!doctype html><title>Sign in</title>")
    (folder / "giant.png").write_bytes(png(60_000, 60_000, b""))
    (folder / "large.png").write_bytes(png(10_000, 7_000, b""))
    (folder / "hollow.png").write_bytes(png(60, 60, b""))
    Image.new("I;16", (5, 5), 3000).save(folder / "deep.png")
    Image.new("CMYK", (5, 5)).save(folder / "ink.tif")
    pages = [Image.new("L", (5, 5), value) for value in (1, 2)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    Image.new("L", (5, 5)).save(folder / "renamed.png", format="GIF")
    return {
        "cut_good.jpg": "Premature end of JPEG file",
        "cut_good.png": "truncated",
        "empty.png": "the file is empty",
        "page.jpeg": "no image",
        "giant.png": "decompression bomb",
        "large.png": "10,000 x 7,000 pixels",
        "hollow.png": "",
        "deep.png": "mode I;16",
        "ink.tif": "mode CMYK",
        "pages.tif": "several pictures",
        "renamed.png": "no image",
        "absent.png": "missing",
    }


@pytest.mark.parametrize("processes", [1, 3])
def test_all_broken_files_are_named_in_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setattr(images, "_FILES_PER_TASK", 3)
    wrong = spoilt(tmp_path)
    names = sorted([*wrong, "good.jpg", "good.png"])
    with pytest.raises(InputError) as caught:
        read_images([tmp_path / n for n in names], GREY, processes=processes, what="X-rays")
    text = str(caught.value)
    assert text.startswith(f"{len(wrong)} of {len(names)} X-rays cannot be read:")
    lines = {Path(line.split(": ")[0]).name: line for line in text.splitlines() if ": " in line}
    for name, reason in wrong.items():
        assert reason in lines[name].split(": ", 1)[1]
    assert "good.jpg" not in lines and "good.png" not in lines


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_jpeg_with_an_end_mark_is_named(tmp_path: Path, share: float, progressive) -> None:
    """Pillow paints what is missing grey, without a word."""
    buffer = BytesIO()
    smooth(300, 300).save(buffer, format="JPEG", progressive=progressive)
    whole = buffer.getvalue()
    (tmp_path / "whole.jpg").write_bytes(whole)
    (tmp_path / "cut.jpg").write_bytes(whole[: int(share * len(whole))] + b"\xff\xd9")
    with pytest.raises(InputError, match=r"1 of 2 images[^:]*:\n.*cut.jpg: ") as caught:
        read_images([tmp_path / "whole.jpg", tmp_path / "cut.jpg"], RGB)
    assert "whole.jpg" not in str(caught.value)


def test_bytes_that_cameras_leave_in_a_jpeg_lose_nothing(tmp_path: Path) -> None:
    smooth(60, 60).save(tmp_path / "x.jpg")
    whole = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "y.jpg").write_bytes(whole[:-2] + b"\x01\x02\x03" + whole[-2:] + b"more")
    x = read_images([tmp_path / "x.jpg", tmp_path / "y.jpg"], GREY).x
    assert (x[0] == x[1]).all()


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of uint16 ``[height, width, channels]``, which Pillow cannot write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, rows, bits=16, colour={1: 0, 2: 4, 3: 2, 4: 6}[channels])


#: Colour type and bits of a channel, for every kind of PNG that is read; channels of the type.
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (6, 8)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: Pass of each pixel of a square of 8 (PNG, third edition, figure 8.1).
ADAM7 = (
    "16462646",
    "77777777",
    "56565656",
    "77777777",
    "36463646",
    "77777777",
    "56565656",
    "7" * 8,
)


def rows_of(width: int, height: int, colour: int, bits: int, interlaced: int) -> list[int]:
    """Returns the bytes of each row of a PNG, in the order of the file."""
    sizes = []
    for step in "1234567" if interlaced else "0":
        for y in range(height):
            n = sum(not interlaced or ADAM7[y % 8][x % 8] == step for x in range(width))
            sizes += [1 + (n * bits * CHANNELS[colour] + 7) // 8] if n else []
    return sizes


@pytest.mark.parametrize(("piece", "black"), [(0, False), (0, True), (7, True)])
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("colour", "bits"), KINDS)
def test_a_png_with_fewer_rows_than_its_header_says_is_named(
    tmp_path: Path, colour: int, bits: int, interlaced: int, black: bool, piece: int
) -> None:
    """Pillow leaves them black, without a word."""
    kind = {"bits": bits, "colour": colour, "interlaced": interlaced, "piece": piece}
    whole, cut = [], {}
    for width, height in ((13, 11), (16, 8), (1, 1), (3, 1), (1, 6)):
        sizes = rows_of(width, height, colour, bits, interlaced)
        rows = [b"\0" + (b"\0" if black else b"\xc9") * (size - 1) for size in sizes]
        for missing in sorted({0, 1, len(rows) // 2, len(rows)}):
            path = tmp_path / f"{width}x{height}-{missing}.png"
            held = b"".join(rows[: len(rows) - missing])
            path.write_bytes(png(width, height, held, **kind))
            if missing:
                cut[path] = f"its data end after {len(held)} of {sum(sizes)} bytes of pixels"
            else:
                whole.append(path)
    assert len(read_images(whole, RGB).x) == 5
    with pytest.raises(InputError, match=f"{len(cut)} of {len(cut)} images cannot") as caught:
        read_images(list(cut), RGB)
    for line, (path, ends) in zip(str(caught.value).splitlines()[1:], cut.items(), strict=False):
        assert str(path) in line
        # Of no row, and where the stream ends in a chunk of its own, Pillow tells itself.
        assert ends in line or ((piece or "after 0 of" in ends) and "file is truncated" in line)


def test_a_png_is_counted_where_its_last_row_is_black(tmp_path: Path, monkeypatch) -> None:
    """Counting costs half as much as decoding."""
    counted = []
    found = images._png_found
    monkeypatch.setattr(images, "_png_found", lambda *of: counted.append(1) or found(*of))
    bright = np.full((40, 30), 9, np.uint8)
    for last, times in ((9, 0), (0, 1)):
        bright[-1] = last
        Image.fromarray(bright).save(tmp_path / "x.png")
        read_images([tmp_path / "x.png"], RGB)
        assert len(counted) == times


@pytest.mark.parametrize("planes", [1, 2])
def test_an_uncompressed_tiff_with_fewer_rows_than_its_header_says_is_named(
    tmp_path: Path, planes: int
) -> None:
    whole = tiff(np.full((20, 30, 3), 90, np.uint8), rows=5, planes=planes)
    cut = tiff(np.full((20, 30, 3), 90, np.uint8), rows=5, planes=planes, strips_missing=1)
    (tmp_path / "whole.tif").write_bytes(whole)
    (tmp_path / "cut.tif").write_bytes(cut)
    assert (read_images([tmp_path / "whole.tif"], RGB).x == 90).all()
    with pytest.raises(InputError, match=r"cut.tif: the file is damaged: it holds \d+ of 600 pixe"):
        read_images([tmp_path / "cut.tif"], RGB)


def tiff(values: np.ndarray, rows: int = 0, planes: int = 1, strips_missing: int = 0) -> bytes:
    """An uncompressed TIFF of ``[height, width, 3]``, in strips of so many rows (0: in one).

    ``planes`` is 1 with the channels of a pixel side by side, 2 with each in strips of its own.
    """
    height, width, _ = values.shape
    rows = rows or height
    layers = [values] if planes == 1 else [values[..., channel] for channel in range(3)]
    strips = [layer[y : y + rows] for layer in layers for y in range(0, height, rows)]
    data = [strip.astype(values.dtype.newbyteorder("<")).tobytes() for strip in strips]
    data = data[: len(data) - strips_missing]
    short, long = 3, 4
    bits = 8 * values.dtype.itemsize
    # Values that are longer than four bytes lie behind the table, then the strips.
    after = 8 + 2 + 12 * 10 + 4
    places = after + 6 + 8 * len(data)
    starts = [places + sum(map(len, data[:n])) for n in range(len(data))]
    lengths = [len(strip) for strip in data]

    def longs(numbers: list[int], place: int) -> tuple[int, int, int]:
        return long, len(numbers), numbers[0] if len(numbers) == 1 else place

    entries = [(256, short, 1, width), (257, short, 1, height), (258, short, 3, after)]
    entries += [(259, short, 1, 1), (262, short, 1, 2), (273, *longs(starts, after + 6))]
    entries += [(277, short, 1, 3), (278, short, 1, rows)]
    entries += [(279, *longs(lengths, after + 6 + 4 * len(data))), (284, short, 1, planes)]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + table + bytes(4)
    extra = struct.pack("<3H", bits, bits, bits)
    extra += struct.pack(f"<{2 * len(data)}I", *starts, *lengths)
    return head + extra + b"".join(data)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_more_than_8_bits_are_no_picture(tmp_path: Path, channels: int) -> None:
    """12-bit values in 16 bits would be black: Pillow takes the upper byte."""
    values = np.full((9, 9, channels), 4000, np.uint16)
    (tmp_path / "x.png").write_bytes(png_of_16_bits(values))
    paths = [tmp_path / "x.png"]
    if channels == 3:
        (tmp_path / "x.tif").write_bytes(tiff(values))
        paths.append(tmp_path / "x.tif")
    with pytest.raises(InputError) as caught:
        read_images(paths, RGB)
    said = "mode I;16" if channels == 1 else "no rule for 16 bits per channel"
    assert str(caught.value).count(said) == len(paths)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_as_a_viewer_shows_them(
    tmp_path: Path, orientation: int, pad: bool, kind: str
) -> None:
    """Oracle: the picture that Pillow turns as the tag says, stored without a tag."""
    spec = ImageSpec(40, "grey", pad)
    exif = Image.Exif()
    exif[274] = orientation
    stored = smooth(300, 200)
    stored.save(tmp_path / "tagged", format=kind, exif=exif, **JPEG_QUALITY.get(kind, {}))
    with Image.open(BytesIO((tmp_path / "tagged").read_bytes())) as image:
        upright = ImageOps.exif_transpose(image)
    upright.save(tmp_path / "upright.png", exif=Image.Exif())
    x = read_images([tmp_path / "tagged", tmp_path / "upright.png"], spec)
    assert list(x.orientation) == [orientation, 1]
    sides = (300, 200) if orientation < 5 else (200, 300)
    assert (x.width[0], x.height[0]) == (x.width[1], x.height[1]) == sides
    difference = np.abs(x.x[0].astype(int) - x.x[1])
    # The padding of a picture may lie a pixel of the file to the other side; JPEG is reduced.
    assert difference.max() <= (12 if kind == "JPEG" or pad else 1) and difference.mean() < 1.5


def test_an_unknown_orientation_is_none(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 9
    smooth(30, 20).save(tmp_path / "x.jpg", exif=exif)
    assert list(read_images([tmp_path / "x.jpg"], GREY).orientation) == [1]


def test_a_renamed_picture_is_read_by_its_content(tmp_path: Path) -> None:
    Image.new("L", (5, 5), 9).save(tmp_path / "x.jpeg", format="PNG")
    assert (read_images([tmp_path / "x.jpeg"], GREY).x == 9).all()


def encoded(kind: str) -> bytes:
    buffer = BytesIO()
    smooth(60, 50, seed=3).convert("RGB").save(buffer, format=kind)
    return buffer.getvalue()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "TIFF", "BMP"]),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
def test_damaged_files_end_in_a_clear_error_or_a_picture(
    tmp_path: Path, kind: str, cut: float, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(encoded(kind))
    for place, value in changes:
        # Most of what can go wrong is in the first bytes.
        content[int(place**3 * (len(content) - 1))] = value
    path = tmp_path / "x"
    path.write_bytes(content[: max(0, int(cut * len(content) * 1.5))])
    try:
        read = read_images([path], RGB)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert read.x.shape == (1, 3, 8, 8)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kind=st.sampled_from(["JPEG", "PNG", "TIFF", "BMP"]), cut=st.floats(0, 0.9))
def test_a_file_that_was_cut_short_is_never_taken(tmp_path: Path, kind: str, cut: float) -> None:
    content = encoded(kind)
    (tmp_path / "x").write_bytes(content[: int(cut * len(content))])
    with pytest.raises(InputError):
        read_images([tmp_path / "x"], RGB)


def test_a_killed_process_is_told(
    many: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for a file that never comes, and is killed."""
    os.mkfifo(tmp_path / "waits.png")
    started = []

    def start(module: str) -> subprocess.Popen:
        process = _started(module)
        started.append(process)
        threading.Timer(1.0, process.kill).start()
        return process

    _started = decoders._started
    monkeypatch.setattr(decoders, "_started", start)
    with pytest.raises(InputError, match="was killed"):
        read_images([tmp_path / "waits.png", *many], GREY, processes=2)
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_decoders_need_no_guard_and_are_no_copies(tmp_path: Path, many: list[Path]) -> None:
    """In a script without a guard, read from standard input, beside a thread; no warning."""
    script = (
        "import sys, threading, pathlib\n"
        "from medrobust.data.formats.images import ImageSpec, read_images\n"
        "print('once', flush=True)\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "files = [pathlib.Path(name) for name in sys.argv[1:]]\n"
        "read = read_images(files, ImageSpec(8, 'grey'), processes=3)\n"
        "print(read.x.sum(), 'multiprocessing' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-", *map(str, many)],
        input=script,
        env={**os.environ, "PYTHONPATH": str(Path(medrobust.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    total = read_images(many, GREY).x.sum()
    assert done.stdout == f"once\n{total} False\n" and done.stderr == ""


def test_no_room_is_told_before_anything_is_decoded(
    many: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(images, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match="No space left"):
        read_images(many, GREY)


def test_the_room_is_taken_in_full(many: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    whole = decode

    def watched(path: str, spec: ImageSpec) -> object:
        (file,) = Path(tempfile.gettempdir()).iterdir()
        sizes.append(file.stat().st_blocks * 512)
        return whole(path, spec)

    monkeypatch.setattr(images, "decode", watched)
    read_images(many, ImageSpec(64, "rgb"))
    assert min(sizes) >= 70 * 3 * 64 * 64


def test_nothing_to_read_is_an_error() -> None:
    with pytest.raises(InputError, match="no tiles"):
        read_images([], GREY, what="tiles")
