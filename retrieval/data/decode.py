"""Image files to square uint8 RGB arrays.

Decoding takes most of the time. JPEGs are decoded at the smallest scale that the result needs
(libjpeg's scaled DCT, through Pillow's draft mode). Pillow releases the GIL while it decodes and
resizes, so threads use all cores.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageFilter, UnidentifiedImageError

from retrieval.data.image_formats import check_decoder, not_read, photo_formats
from retrieval.data.pixel_budget import PixelBudget

Fill = Literal["Gaussian", "Black", "White"]
Box = tuple[float, float, float, float]

FILLS: tuple[Fill, ...] = ("Gaussian", "Black", "White")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what shows the picture upright
SHARED_BUDGET = PixelBudget()


class UnreadableImage(ValueError):
    """A file is missing, is not an image, is corrupt, or is too large."""


def load_square(
    source: Path | BinaryIO,
    side: int,
    fill: Fill = "Gaussian",
    box: Box | None = None,
    budget: PixelBudget = SHARED_BUDGET,
) -> np.ndarray:
    """Read an image and fit it into a square, keeping its aspect ratio.

    Args:
        source: Image file, in one of `image_formats.photo_formats`.
        side: Side of the square in pixels; the longer side of the image is resized to it.
        fill: Fill of the borders: ``Gaussian`` (the blurred image edges), ``Black`` or ``White``.
        box: Crop to x1, y1, x2, y2: pixels of the image as displayed, end exclusive.
        budget: Bounds the pixels that all threads decode at once.

    Returns:
        (side, side, 3) uint8, RGB.

    Raises:
        UnreadableImage: With the reason.
    """
    with opened(source) as image:
        return to_square(image, side, fill, box, budget)


@contextmanager
def opened(
    source: Path | BinaryIO, formats: tuple[str, ...] | None = None
) -> Iterator[Image.Image]:
    """Open an image file; pixels are decoded when they are used, within the block.

    Args:
        source: Image file.
        formats: Formats to allow, as Pillow names them; None: `image_formats.photo_formats`.

    Raises:
        UnreadableImage: The file is missing, or is no image.
    """
    formats = formats or photo_formats()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes are bounded here; odd files are none of ours
        with _reasons():
            if isinstance(source, Path) and not source.is_file():  # a pipe would wait for ever
                raise ValueError("it is not a file" if source.exists() else "there is no such file")
            try:
                image = Image.open(source, formats=formats)
            except UnidentifiedImageError:
                raise ValueError(not_read(source, formats)) from None
        with image:
            with _reasons():
                check_decoder(image)
            yield image


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn what a damaged file leads to into `UnreadableImage`.

    Pillow's readers raise anything.
    """
    try:
        yield
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise UnreadableImage(f"it has more than {most} megapixels: scale it down") from error
    except Exception as error:
        raise UnreadableImage(str(error) or type(error).__name__) from error


def to_square(
    image: Image.Image,
    side: int,
    fill: Fill = "Gaussian",
    box: Box | None = None,
    budget: PixelBudget = SHARED_BUDGET,
) -> np.ndarray:
    """Fit an open image into a square, as `load_square` does.

    A JPEG whose pixels were not used yet is decoded at the smallest scale that suffices.
    """
    with _reasons():
        scale = _draft(image, side, box)
        with budget.hold(_decoded_pixels(image, scale)):
            return fit_square(_upright_part(image, scale, box), side, fill)


def upright(
    image: Image.Image, side: int | None = None, budget: PixelBudget = SHARED_BUDGET
) -> Image.Image:
    """Return a copy as it is displayed: turned by its EXIF orientation, RGB.

    Args:
        image: An open image.
        side: Pixels that the longer side needs at least: a JPEG may come smaller than it is;
            None: the full size.
        budget: Bounds the pixels that all threads decode at once.

    Raises:
        UnreadableImage: It cannot be decoded.
    """
    with _reasons():
        scale = (1.0, 1.0) if side is None else _draft(image, side, None)
    with _reasons(), budget.hold(_decoded_pixels(image, scale)):
        return _upright_part(image, (1.0, 1.0), None).copy()


def _decoded_pixels(image: Image.Image, scale: tuple[float, float]) -> int:
    """Return how many pixels are in memory while an image is decoded at a scale.

    A progressive JPEG is in memory as a whole, whatever the scale.
    """
    across, down = scale if image.info.get("progressive") else (1.0, 1.0)
    return round(image.width / across) * round(image.height / down)


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height in pixels as the image is displayed, without decoding it."""
    return image.size[::-1] if _orientation(image) >= 5 else image.size


def _draft(image: Image.Image, side: int, box: Box | None) -> tuple[float, float]:
    """Choose the smallest scale that suffices to decode at; return it, across and down."""
    full = image.size
    shrink = side / (max(box[2] - box[0], box[3] - box[1]) if box else max(full))
    if 0 < shrink < 1 and image.format == "JPEG":
        # Draft mode never goes below the requested size.
        image.draft("RGB", (int(full[0] * shrink) + 1, int(full[1] * shrink) + 1))
    return image.width / full[0], image.height / full[1]


def _upright_part(image: Image.Image, scale: tuple[float, float], box: Box | None) -> Image.Image:
    """Decode, rotate upright, crop to the box, convert to RGB."""
    image.load()
    turn = _orientation(image)
    if turn in TURNS:
        image = image.transpose(TURNS[turn])
    if box is not None:
        image = image.crop(_within(box, scale[::-1] if turn >= 5 else scale, image.size))
    return to_rgb(image)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) if there is none or the EXIF data is broken."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the picture is fine without it
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _within(
    box: Box, scale: tuple[float, float], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the box in decoded pixels, clipped to the image; the whole image if empty."""
    x1, x2 = (min(max(round(x * scale[0]), 0), size[0]) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y * scale[1]), 0), size[1]) for y in (box[1], box[3]))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else (0, 0, *size)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB: transparency over white, other gray scaled to 8 bits."""
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        overlay = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, overlay).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(gray: np.ndarray) -> np.ndarray:
    """Scale gray of 16 or 32 bits to uint8, from the range that its values lie in.

    Ranges are 0 to 1 (of floats), 0 to 255, 0 to 65535; others are stretched. NaN is black.
    """
    is_float = gray.dtype.kind == "f"
    values = np.where(np.isfinite(gray), gray, 0).astype(np.float32)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low >= 0 and high <= 65535:
        low, high = 0.0, 1.0 if is_float and high <= 1 else 255.0 if high <= 255 else 65535.0
    values = (values - low) * 255 / ((high - low) or 1)
    return (values + (0.5 if is_float else 0)).clip(0, 255).astype(np.uint8)


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
