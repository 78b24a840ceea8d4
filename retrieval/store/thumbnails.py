"""Small pictures of the rows, to show answers without the image files."""

import io

import numpy as np
from PIL import Image

SIDE = 128  # of the longer side, in pixels
QUALITY = 80


def thumbnail(square: np.ndarray) -> bytes:
    """Return a JPEG of an image of the matrix.

    Args:
        square: (3, side, side) uint8, RGB.
    """
    image = Image.fromarray(np.ascontiguousarray(square.transpose(1, 2, 0)))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
