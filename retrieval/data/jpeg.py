"""Squares of an image matrix as pictures and as JPEG files."""

import io

import numpy as np
from PIL import Image

QUALITY = 80
THUMBNAIL_SIDE = 128  # of the longer side, in pixels


def picture(square: np.ndarray) -> Image.Image:
    """Return an image of the matrix, (3, side, side) uint8, RGB, as a picture."""
    return Image.fromarray(np.ascontiguousarray(square.transpose(1, 2, 0)))


def encode_jpeg(image: Image.Image, quality: int = QUALITY, optimize: bool = False) -> bytes:
    """Return a picture as the content of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, optimize=optimize)
    return file.getvalue()


def thumbnail(square: np.ndarray) -> bytes:
    """Return a small JPEG of an image of the matrix, to show without its file."""
    image = picture(square)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return encode_jpeg(image)
