"""Contact sheets: a query and its results in a row, framed green (right) or red (wrong).

Results of a photo whose class nobody knows have a gray frame.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retrieval.data import jpeg

log = logging.getLogger(__name__)

SIDE = 128  # px, of an image
FRAME = 4  # px, around an image
CAPTION = 32  # px, two lines under an image
GAP = 8  # px, between images

RIGHT = (30, 150, 60)
WRONG = (205, 40, 40)
QUERY = (60, 90, 200)
UNKNOWN = (110, 110, 110)
PAPER = (255, 255, 255)
INK = (30, 30, 30)

# Files with Chinese letters on Linux, macOS and Windows; the first one installed is used.
CJK = ("NotoSansCJK-Regular", "SourceHanSans", "wqy-", "DroidSansFallback", "PingFang", "msyh")
FONT_FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "C:/Windows/Fonts",
)
FONT_SUFFIXES = (".ttf", ".ttc", ".otf")
FIRST_GREEK, FIRST_CJK = "\u0370", "\u2e80"  # Pillow's own font has Latin letters alone


@dataclass(frozen=True)
class SheetRow:
    """One query and its results.

    Attributes:
        query: (3, side, side) uint8.
        query_name: Name of its class.
        results: (k, 3, side, side) uint8, best first.
        names: (k,) names of their classes.
        similarities: (k,) float32.
        is_right: (k,) bool: the result is of the query's class; None if that is not known.
        title: What is written under the query.
    """

    query: np.ndarray
    query_name: str
    results: np.ndarray
    names: Sequence[str]
    similarities: np.ndarray
    is_right: np.ndarray | None
    title: str = "query"


def contact_sheet(rows: Sequence[SheetRow], title: str = "") -> Image.Image:
    """Draw rows of pictures: green frame = right class, red = wrong, the similarity under each."""
    width = GAP + max(1 + len(row.names) for row in rows) * (_cell_width() + GAP) + GAP
    head = 34 if title else GAP
    sheet = Image.new("RGB", (width, head + len(rows) * (_cell_height() + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 8), title, INK, font=ImageFont.load_default(16))
    for number, row in enumerate(rows):
        top = head + number * (_cell_height() + GAP)
        _draw_cell(sheet, GAP, top, row.query, QUERY, row.title, row.query_name)
        for rank, image in enumerate(row.results):
            left = GAP + (rank + 1) * (_cell_width() + GAP) + GAP
            is_right = None if row.is_right is None else row.is_right[rank]
            color = UNKNOWN if is_right is None else RIGHT if is_right else WRONG
            value = f"{row.similarities[rank]:.3f}"
            _draw_cell(sheet, left, top, image, color, value, row.names[rank])
    return sheet


def _cell_width() -> int:
    return SIDE + 2 * FRAME


def _cell_height() -> int:
    return SIDE + 2 * FRAME + CAPTION


def _draw_cell(
    sheet: Image.Image,
    left: int,
    top: int,
    pixels: np.ndarray,
    color: tuple[int, int, int],
    value: str,
    name: str,
) -> None:
    draw = ImageDraw.Draw(sheet)
    bottom = top + _cell_width()
    draw.rectangle((left, top, left + _cell_width() - 1, bottom - 1), fill=color)
    image = jpeg.picture(pixels)
    sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left + FRAME, top + FRAME))
    value = legible(value)
    draw.text((left, bottom + 2), value, color, font=_name_font(value, 13))
    name = legible(name)
    font = _name_font(name)
    while len(name) > 1 and draw.textlength(name, font) > _cell_width():
        name = name[:-2] + "…"
    draw.text((left, bottom + 17), name, INK, font=font)


def legible(name: str) -> str:
    """Return a name without Chinese letters if no installed font has them.

    Boxes in their place would say less than the rest of the name, or ``?`` if there is no rest.
    """
    if max(name, default="") < FIRST_CJK or _cjk_font():
        return name
    _warn_of_missing_font()
    return " ".join("".join(c if c < FIRST_CJK else " " for c in name).split()) or "?"


@cache
def _warn_of_missing_font() -> None:
    """Log it once."""
    log.warning(
        "no installed font has Chinese letters: names are drawn without them; install one, such "
        "as the Debian package fonts-noto-cjk"
    )


def _name_font(name: str, size: int = 11) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font that has the letters of a name, if one is installed."""
    last = max(name, default="")
    if last < FIRST_GREEK:
        return ImageFont.load_default(size)
    return ImageFont.truetype((last >= FIRST_CJK and _cjk_font()) or _dejavu(), size)


def _dejavu() -> str:
    """Return the file of the font that comes with matplotlib, without importing it."""
    spec = find_spec("matplotlib")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")


@cache
def _cjk_font() -> str | None:
    """Return the file of a font with Chinese letters; None if none is installed."""
    folders = [Path(folder).expanduser() for folder in FONT_FOLDERS]
    installed = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix in FONT_SUFFIXES
    )
    found = (str(path) for start in CJK for path in installed if path.name.startswith(start))
    return next(found, None)
