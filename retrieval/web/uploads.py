"""Re-encoding of images for browsers: upright, without EXIF, GPS and comments.

Nothing of an upload is written to a file by us, and its file name is never read.
"""

import io
from pathlib import Path

from PIL import Image

from retrieval.data import decode
from retrieval.data.image_formats import upload_formats
from retrieval.data.jpeg import encode_jpeg
from retrieval.photo_search.preprocessing import opened

QUALITY = 88


def clean_jpeg(source: bytes | Path, side: int) -> tuple[bytes, tuple[int, int]]:
    """Return an image as a new JPEG, and the width and height that it had, as displayed.

    Args:
        source: An upload, or an image file of the database, which may have any format.
        side: Most pixels of the longer side.

    Raises:
        UnreadablePhoto: It cannot be read.
    """
    is_upload = isinstance(source, bytes)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with opened(file, formats=upload_formats() if is_upload else None) as image:
        size, shown = decode.displayed_size(image), decode.upright(image, side)
    shown.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    clean = Image.new("RGB", shown.size)  # no metadata comes along
    clean.paste(shown)
    return encode_jpeg(clean, QUALITY), size
