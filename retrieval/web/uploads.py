"""Validation of untrusted uploads: checked before they are decoded, kept without metadata.

Nothing of an upload is written to a file by us, and its file name is never read. What is shown
again is a JPEG made anew: upright, without EXIF, GPS and comments.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.data import decode
from retrieval.data.decode import Box, UnreadableImage
from retrieval.data.formats import InputError
from retrieval.data.image_formats import upload_formats
from retrieval.data.jpeg import encode_jpeg, picture
from retrieval.photo_search.preprocessing import Preprocessing, check_box

QUALITY = 88


class UnsupportedPhoto(InputError):
    """An upload is not an image of an allowed format."""


@dataclass(frozen=True)
class PreparedPhoto:
    """An upload as the model sees it.

    Attributes:
        square: (3, side, side) uint8, RGB.
        size: Width and height of the whole photo as displayed, in pixels.
    """

    square: np.ndarray
    size: tuple[int, int]


def prepare_upload(content: bytes, preprocessing: Preprocessing, box: Box | None) -> PreparedPhoto:
    """Prepare an upload as the images of the database were.

    Args:
        content: The file.
        preprocessing: How the database's images were prepared.
        box: Crop to x1, y1, x2, y2: pixels of the photo as displayed, end exclusive.

    Raises:
        UnsupportedPhoto: It is no image, of another format, broken or too large.
        InputError: The box lies outside of it.
    """
    try:
        with decode.opened(io.BytesIO(content), upload_formats()) as image:
            size = decode.displayed_size(image)
            if box is not None:
                check_box(box, size)
            square = decode.to_square(image, preprocessing.side, preprocessing.fill, box)
    except UnreadableImage as error:
        raise _unsupported(error) from error
    return PreparedPhoto(np.ascontiguousarray(square.transpose(2, 0, 1)), size)


def clean_jpeg(source: bytes | Path, side: int) -> bytes:
    """Return an image as a new JPEG, upright, with its longer side at most ``side`` pixels.

    Args:
        source: An upload, or an image file of the database, which may have any format.
        side: Pixels.

    Raises:
        UnsupportedPhoto: It cannot be read.
    """
    is_upload = isinstance(source, bytes)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with decode.opened(file, upload_formats() if is_upload else None) as image:
            shown = decode.upright(image, side)
    except UnreadableImage as error:
        raise _unsupported(error) from error
    shown.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    clean = Image.new("RGB", shown.size)  # no metadata comes along
    clean.paste(shown)
    return encode_jpeg(clean, QUALITY)


def jpeg_of_square(square: np.ndarray) -> bytes:
    """Return a prepared image (3, side, side) uint8 as a JPEG."""
    return encode_jpeg(picture(square), QUALITY)


def _unsupported(error: Exception) -> UnsupportedPhoto:
    return UnsupportedPhoto(f"the photo cannot be read: {error}")
