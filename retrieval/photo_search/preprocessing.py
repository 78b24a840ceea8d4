"""Preprocess photos as the images of a database were."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
from PIL import Image

from retrieval.data import decode, layout, provenance
from retrieval.data.decode import Box, Fill
from retrieval.data.formats import InputError

Photo = Path | BinaryIO | Image.Image  # a file, an open file, or a decoded image


class UnusablePhoto(InputError):
    """One photo cannot be searched with; others can."""


class UnreadablePhoto(UnusablePhoto):
    """A photo is no image, of another format, broken or too large."""


@dataclass(frozen=True)
class Preprocessing:
    """How the images of a database were turned into squares.

    Attributes:
        side: Side of the squares in pixels.
        fill: Fill of the borders of images that are not square.
        crop: ``box`` if they were cropped to the car, else ``none``.
    """

    side: int
    fill: Fill
    crop: str

    @classmethod
    def of_record(
        cls, record: dict[str, Any], database: str, data_dir: Path | None = None
    ) -> "Preprocessing":
        """Return the preprocessing that the record of embeddings names.

        Args:
            record: The record of the database's embeddings.
            database: Their file name, for the message.
            data_dir: The data directory, for the commands in the message; None: unknown.

        Raises:
            InputError: The record has none.
        """
        names = record.get("preparation")
        if not isinstance(names, dict) or not _is_possible(names):
            again = "make the image matrix and the embeddings again"
            if data_dir is not None:
                matrix, encoded = layout.IMAGE_MATRIX, layout.DATABASE
                again += f": {matrix.made_by(data_dir)}, then {encoded.made_by(data_dir)}"
            raise InputError(
                f"{provenance.record_name(database)} does not say how the images of {database} "
                f"were prepared; {again}"
            )
        return cls(names["image_resolution"], names["filter_type"], names["crop"])

    def square(
        self,
        photo: Photo,
        box: Box | None = None,
        name: str = "the photo",
        formats: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """Return a photo as a row of the image matrix: (3, side, side) uint8, RGB.

        A file gives the bytes that ``process_data.image_matrix`` writes for it. A decoded image is
        scaled from its full size, which differs a little from a JPEG that is decoded smaller.

        Args:
            photo: The photo; a decoded image is left as it is.
            box: Crop to x1, y1, x2, y2: pixels of the photo as displayed, end exclusive.
            name: What to call it in messages.
            formats: Formats of a file that may be read, as Pillow names them; None: those of
                `image_formats.photo_formats`.

        Raises:
            UnreadablePhoto: It cannot be read.
            UnusablePhoto: The box lies outside of it.
        """
        with opened(photo, name, formats) as image:
            if box is not None:
                check_box(box, decode.displayed_size(image), name)
            square = decode.to_square(image, self.side, self.fill, box)
        return np.ascontiguousarray(square.transpose(2, 0, 1))


@contextmanager
def opened(
    photo: Photo, name: str = "the photo", formats: tuple[str, ...] | None = None
) -> Iterator[Image.Image]:
    """Open a photo, as `decode.opened` does a file; a decoded image is copied.

    Raises:
        UnreadablePhoto: It cannot be read.
    """
    try:
        if isinstance(photo, Image.Image):
            yield photo.copy()
        else:
            with decode.opened(photo, formats) as image:
                yield image
    except decode.UnreadableImage as error:
        reason = str(error) or type(error).__name__
        raise UnreadablePhoto(f"{name} cannot be read as an image: {reason}") from error


def whole_photo(photo: Photo, name: str = "the photo") -> Image.Image:
    """Return a photo as it is displayed: turned upright, RGB, in its full size.

    Raises:
        UnreadablePhoto: It cannot be read.
    """
    with opened(photo, name) as image:
        return decode.upright(image)


def check_box(box: Box, size: tuple[int, int], name: str = "the photo") -> None:
    """Refuse a box without area, or one that does not overlap the photo.

    Args:
        box: x1, y1, x2, y2 in pixels, end exclusive.
        size: Width and height of the photo as displayed, in pixels.
        name: What to call the photo in the message.
    """
    x1, y1, x2, y2 = box
    if not (x1 < x2 and y1 < y2 and x1 < size[0] and y1 < size[1] and x2 > 0 and y2 > 0):
        raise UnusablePhoto(
            f"--box={x1:g},{y1:g},{x2:g},{y2:g} is not within {name}, which has {size[0]} x "
            f"{size[1]} pixels; give x1,y1,x2,y2 with x1 < x2 and y1 < y2"
        )


def _is_possible(names: dict[str, Any]) -> bool:
    if not set(provenance.PREPARATION) <= set(names):
        return False
    side = names["image_resolution"]
    is_side = isinstance(side, int) and side >= 1
    return is_side and names["filter_type"] in get_args(Fill) and names["crop"] in ("none", "box")
