"""The image formats that are accepted, wherever an image is opened.

Pillow knows some fifty. Here are those of photographs, whose decoders run nothing and whose time is
bounded by the pixels: EPS starts Ghostscript, and some old formats are decoded in Python, minutes
for a small file. A file is what its content says, whatever its suffix.
"""

import importlib.util
import re
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO

from PIL import Image, ImageFile

# As Pillow names them; MPO, JPEGs of several pictures as phones write them, opens as JPEG.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # untrusted: the fewest decoders
MOST_SCANS = 200  # of a JPEG; progressive ones have about ten
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIF_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})


@cache
def photo_formats() -> tuple[str, ...]:
    """Return the formats that images of a collection are read in; HEIF needs ``pillow-heif``."""
    return (*PHOTO_FORMATS, "HEIF") if has_heif() else PHOTO_FORMATS


@cache
def upload_formats() -> tuple[str, ...]:
    """Return the formats that uploads are read in."""
    return (*UPLOAD_FORMATS, "HEIF") if has_heif() else UPLOAD_FORMATS


@cache
def has_heif() -> bool:
    """Return whether the photos of many phones, HEIC, can be read; make Pillow read them."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of files that are read as images, such as ``.jpg``."""
    formats = {*photo_formats(), "MPO"}
    suffixes = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in suffixes if kind in formats)


def not_read(source: Path | BinaryIO, formats: tuple[str, ...]) -> str:
    """Return why an image file of none of the formats is not read, from its first bytes."""
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        file.seek(0)
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS and "HEIF" not in formats:
        return "it is a HEIC photo; to read these: pip install pillow-heif"
    return f"it is not one of {', '.join(formats)}" if head else "the file is empty"


def check_decoder(image: ImageFile.ImageFile) -> None:
    """Refuse an image that is open, but whose decoder takes minutes for a small file.

    Raises:
        ValueError: With the reason.
    """
    if image.format == "PPM" and image.tile[0][0] != "raw":  # decoded in Python, value by value
        raise ValueError("it is a PPM of an unusual kind; save it as PNG")
    if image.format in ("JPEG", "MPO") and image.fp is not None:
        place = image.fp.tell()
        image.fp.seek(0)
        n_scan = _count_scans(image.fp)
        image.fp.seek(place)
        if n_scan > MOST_SCANS:
            raise ValueError(f"it is a JPEG of {n_scan} scans; at most {MOST_SCANS} are read")


_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # not a stuffed 0, a restart, a fill byte


def _count_scans(file: IO[bytes]) -> int:
    """Return how often a JPEG goes over its pixels: each pass takes time, and few bytes."""
    content, n_scan, place = file.read(), 0, 2
    while (marker := _MARKER.search(content, place)) and marker[1] != b"\xd9":
        place = marker.end()
        if marker[1] > b"\x01" and marker[1] != b"\xd8":  # has a length, which counts itself
            place += int.from_bytes(content[place : place + 2], "big")
        n_scan += marker[1] == b"\xda"
    return n_scan
