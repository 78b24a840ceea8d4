"""Damages of photos."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.damage import damages

FORMATS = [
    "PNG",
    "WEBP",
    "GIF",
    "TIFF",
    "BMP",
    "DDS",
    "AVIF",
    "JPEG2000",
    "TGA",
    "PPM",
    "ICO",
    "JPEG",
    "SGI",
    "PCX",
]


def _choice(random: np.random.Generator, values: list) -> object:  # type: ignore[type-arg]
    return values[random.integers(0, len(values))]


def _encoded(path: Path, random: np.random.Generator) -> bytes:
    """Return the photo in some format of its own."""
    buffer = io.BytesIO()
    with Image.open(path) as image:
        for _ in range(20):
            try:
                image.save(buffer, str(_choice(random, FORMATS)))
            except (OSError, KeyError, ValueError):  # a format that this Pillow does not write
                buffer = io.BytesIO()
                continue
            return buffer.getvalue()
    return path.read_bytes()


@damages("image", expect="any")
def _bits(path: Path, random: np.random.Generator) -> None:
    data = bytearray(_encoded(path, random) if random.random() < 0.8 else path.read_bytes())
    end = len(data) if random.random() < 0.5 else min(200, len(data))
    for _ in range(random.integers(1, 12)):
        data[random.integers(0, end)] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(data)


@damages("image", expect="any")
def _cut(path: Path, random: np.random.Generator) -> None:
    data = _encoded(path, random)
    path.write_bytes(data[: random.integers(1, len(data))])


@damages("image", expect="any")
def _shuffled(path: Path, random: np.random.Generator) -> None:
    data = _encoded(path, random)
    first, second = sorted(random.integers(0, len(data), 2).tolist())
    path.write_bytes(data[:first] + data[second:] + data[first:second])


def _png(width: int, height: int, depth: int = 8, color: int = 2, pixels: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@damages("image", expect="any")
def _bomb(path: Path, random: np.random.Generator) -> None:
    """Claim many pixels in few bytes."""
    sides = [
        (13_000, 13_000),
        (60_000, 60_000),
        (2**31 - 1, 2**31 - 1),
        (170_000_000, 1),
        (1, 170_000_000),
    ]
    width, height = sides[random.integers(0, len(sides))]
    kind = random.integers(0, 4)
    if kind == 0:
        path.write_bytes(_png(width, height))
    elif kind == 1:
        path.write_bytes(_png(16_000, 11_000, 8, 6, bytes(16_000 * 4 + 1) * 300))
    elif kind == 2:
        path.write_bytes(b"P6 %d %d 255\n" % (width, height) + bytes(1000))
    else:
        path.write_bytes(
            b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, width, height, 1, 24, *[0] * 6)
        )


@damages("image", expect="any")
def _large(path: Path, random: np.random.Generator) -> None:
    """A whole image with as many pixels as Pillow lets pass, in any mode."""
    mode = str(_choice(random, ["1", "L", "P"]))
    Image.new(mode, (13_000, 13_000)).save(path, "PNG", compress_level=1)


@damages("image", expect="any")
def _thin(path: Path, random: np.random.Generator) -> None:
    size = [(1, 1), (1, 65_000), (65_000, 1), (2, 20_000), (20_000, 3), (1, 2)][
        random.integers(0, 6)
    ]
    Image.new("RGB", size, "red").save(path, str(_choice(random, ["PNG", "TIFF", "BMP"])))


@damages("image", expect="any")
def _modes(path: Path, random: np.random.Generator) -> None:
    mode = str(
        _choice(
            random, ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16", "HSV"]
        )
    )
    with Image.open(path) as image:
        gray = image.convert("L")
        other = gray.convert(mode) if mode in ("I", "F", "I;16") else image.convert("RGB")
        if mode not in ("I", "F", "I;16", "LAB", "HSV"):
            other = other.convert(mode)
    other.save(path, "TIFF")


def _exif(random: np.random.Generator) -> bytes:
    """Return EXIF data with a broken orientation, or that is no EXIF at all."""
    tag, kind = 0x0112, int(random.integers(0, 14))
    value = int(random.integers(0, 2**32))
    entry = struct.pack("<HHII", tag, kind, int(random.integers(0, 4)), value)
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 1) + entry + bytes(4)
    text = struct.pack("<HHII", tag, 2, 9, 26) + bytes(4) + b"sideways\x00"
    endless = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 65535) + entry
    return [
        tiff,
        b"II*\x00\x08\x00\x00\x00\x01\x00" + text,
        endless,
        b"",
        b"II*\x00",
        random.bytes(50),
    ][random.integers(0, 6)]


@damages("image", expect="accept")
def _broken_exif(path: Path, random: np.random.Generator) -> None:
    """A picture that is fine, whose EXIF is not."""
    form = str(_choice(random, ["PNG", "WEBP", "JPEG"]))
    with Image.open(path) as image:
        image.load()
        image.save(path, form, exif=b"Exif\x00\x00" + _exif(random))


@damages("image", expect="any")
def _name(path: Path, random: np.random.Generator) -> None:
    """A photo more beside this one, whose name is not UTF-8, or is odd."""
    names = [
        b"\xff\xfe.jpg",
        b"\xe9t\xe9.jpg",
        b"a\nb.jpg",
        b" .jpg",
        b'",.jpg',
        b"-h.jpg",
        b"x" * 250 + b".jpg",
        b".jpg",
    ]
    name = os.fsdecode(names[random.integers(0, len(names))])
    path.with_name(name).write_bytes(path.read_bytes())


@damages("image", expect="any")
def _text(path: Path, random: np.random.Generator) -> None:
    """Formats that are programs or lists of other files."""
    texts = [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\nsystemdict /quit get exec\n",
        b"<svg/>", b"#define x_width 99999\n#define x_height 99999\nstatic char x_bits[] = {0};",
        b"P3 3 3 255\n" + b"9 " * 99999, b"P1 99999 99999\n1", b"GIF89a" + b"\xff" * 700,
        b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(40), b"\xff\xd8\xff" * 999,
        b"/* XPM */\nstatic char * x[] = {\n", b"SIMPLE  =                    T" + bytes(2880),
        b"8BPS" + bytes(400),
    ]  # fmt: skip
    path.write_bytes(texts[random.integers(0, len(texts))])
