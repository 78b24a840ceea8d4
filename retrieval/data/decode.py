"""Image files to square uint8 RGB arrays.

Decoding takes most of the time. JPEGs are decoded at the smallest scale that the result needs
(libjpeg's scaled DCT, through Pillow's draft mode). Pillow releases the GIL while it decodes and
resizes, so threads use all cores.
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
    """Read an image and fit it into a square, keeping its aspect ratio.

    Args:
        path: Image file in any format that Pillow reads.
        side: Side of the square in pixels; the longer side of the image is resized to it.
        fill: Fill of the borders: ``Gaussian`` (the blurred image edges), ``Black`` or ``White``.
        box: Crop to x1, y1, x2, y2: pixels of the image as displayed, end exclusive.

    Returns:
        (side, side, 3) uint8, RGB.

    Raises:
        One of ``UNREADABLE``: the file is missing, not an image, or corrupt.
    """
    with warnings.catch_warnings():
        # Decode sizes that Pillow only warns about; decompression bombs still raise.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", "Palette images with Transparency")
        with Image.open(path) as image:
            return fit_square(_part(image, side, box), side, fill)


def _part(image: Image.Image, side: int, box: Box | None) -> Image.Image:
    """Decode at the smallest sufficient scale, rotate upright, crop to the box, convert to RGB."""
    full = image.size
    shrink = side / (max(box[2] - box[0], box[3] - box[1]) if box else max(full))
    if shrink < 1 and image.format == "JPEG":
        # Draft mode never goes below the requested size.
        image.draft("RGB", (int(full[0] * shrink) + 1, int(full[1] * shrink) + 1))
    scale = image.width / full[0], image.height / full[1]
    is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # by 90 or 270 degrees
    ImageOps.exif_transpose(image, in_place=True)
    if box is not None:
        image = image.crop(_within(box, scale[::-1] if is_turned else scale, image.size))
    return to_rgb(image)


def _within(
    box: Box, scale: tuple[float, float], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the box in decoded pixels, clipped to the image; the whole image if empty."""
    x1, x2 = (min(max(round(x * scale[0]), 0), size[0]) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y * scale[1]), 0), size[1]) for y in (box[1], box[3]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else (0, 0, *size)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparency over white, 16-bit gray scaled to 8 bits."""
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
    """Resize the longer side of an RGB image to ``side``, center it and fill the borders.

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
    """Return a square canvas with the borders around ``scaled`` filled."""
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
    """Return the image padded to a square with its edge pixels and blurred, at about 32 px.

    A blur has no detail, so the small size looks the same and costs a tenth.
    """
    factor = max(1, side // 32)
    small = scaled.reduce(factor)
    length = max(small.size)
    before = (length - small.height) // 2, (length - small.width) // 2
    after = length - small.height - before[0], length - small.width - before[1]
    rims = [*zip(before, after, strict=True), (0, 0)]
    pixels = np.pad(np.asarray(small), rims, mode="edge")
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(length / 16))
