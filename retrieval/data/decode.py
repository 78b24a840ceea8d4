"""One image file -> one square uint8 RGB picture.

Decoding is where the time goes: JPEGs are decoded at the smallest scale that the result needs
(the scaled DCT of libjpeg, through Pillow's draft mode), and Pillow releases the interpreter's
lock while it decodes and scales, so that threads use all cores.
"""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageFilter, ImageOps

Fill = Literal["Gaussian", "Black", "White"]
Box = tuple[float, float, float, float]

FILLS: tuple[Fill, ...] = ("Gaussian", "Black", "White")
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def load_square(
    path: Path, side: int, fill: Fill = "Gaussian", box: Box | None = None
) -> np.ndarray:
    """Read an image and fit it into a square, whole and with its aspect kept.

    Args:
        path: An image file of any kind that Pillow reads.
        side: Side of the square in pixels; the longer side of the image is scaled to it.
        fill: What the empty borders get: the image's own edge, blurred; or black; or white.
        box: x1, y1, x2, y2 in pixels of the image as displayed, end exclusive: the part to take.

    Returns:
        (side, side, 3) uint8, RGB.

    Raises:
        One of ``UNREADABLE``: the file is missing, no image, or broken.
    """
    with warnings.catch_warnings():
        # Sizes that Pillow only warns of are decoded; real bombs raise.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", "Palette images with Transparency")
        with Image.open(path) as image:
            return fit_square(_part(image, side, box), side, fill)


def _part(image: Image.Image, side: int, box: Box | None) -> Image.Image:
    """Decode as small as ``side`` allows, turn upright, cut out the box, convert to RGB."""
    full = image.size
    shrink = side / (max(box[2] - box[0], box[3] - box[1]) if box else max(full))
    if shrink < 1 and image.format == "JPEG":
        # Draft mode never goes below the size asked for.
        image.draft("RGB", (int(full[0] * shrink) + 1, int(full[1] * shrink) + 1))
    scale = image.width / full[0], image.height / full[1]
    is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by 90 degrees
    ImageOps.exif_transpose(image, in_place=True)
    if box is not None:
        image = image.crop(_within(box, scale[::-1] if is_turned else scale, image.size))
    return to_rgb(image)


def _within(
    box: Box, scale: tuple[float, float], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the box in decoded pixels, cut to the image; the whole image where nothing is left."""
    x1, x2 = (min(max(round(x * scale[0]), 0), size[0]) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y * scale[1]), 0), size[1]) for y in (box[1], box[3]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else (0, 0, *size)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparency over white, 16-bit grey scaled to 8 bits."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        if values.max(initial=0) > 255:
            values /= 257  # 65535 -> 255
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        overlay = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, overlay).convert("RGB")
    return image.convert("RGB")


def fit_square(image: Image.Image, side: int, fill: Fill) -> np.ndarray:
    """Scale the longer side of an RGB image to ``side``, centre it and fill the borders.

    Returns:
        (side, side, 3) uint8.
    """
    shrink = side / max(image.size)
    size = max(1, round(image.width * shrink)), max(1, round(image.height * shrink))
    scaled = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    canvas = _borders(scaled, side, left, top, fill)
    canvas.paste(scaled, (left, top))
    return np.asarray(canvas)


def _borders(scaled: Image.Image, side: int, left: int, top: int, fill: Fill) -> Image.Image:
    """Return a square with what is to be seen around ``scaled``."""
    if fill != "Gaussian":
        return Image.new("RGB", (side, side), fill.lower())
    canvas = Image.new("RGB", (side, side))
    if scaled.size == canvas.size:
        return canvas
    blurred = _blurred(scaled, side)
    scale = blurred.width / side
    right, bottom = left + scaled.width, top + scaled.height
    rims = (0, 0, left, side), (right, 0, side, side), (0, 0, side, top), (0, bottom, side, side)
    for x1, y1, x2, y2 in rims:
        if x1 < x2 and y1 < y2:
            box = (x1 * scale, y1 * scale, x2 * scale, y2 * scale)
            rim = blurred.resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR, box)
            canvas.paste(rim, (x1, y1))
    return canvas


def _blurred(scaled: Image.Image, side: int) -> Image.Image:
    """Return the picture, continued beyond its edges to a square and blurred, of about 32 px.

    A blur has no detail, so that fewer pixels look the same and cost a tenth.
    """
    factor = max(1, side // 32)
    small = scaled.reduce(factor)
    length = max(small.size)
    before = (length - small.height) // 2, (length - small.width) // 2
    after = length - small.height - before[0], length - small.width - before[1]
    rims = [*zip(before, after, strict=True), (0, 0)]
    pixels = np.pad(np.asarray(small), rims, mode="edge")
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(length / 16))
