"""Boxes: x1, y1, x2, y2 in pixels of a photo as displayed, end exclusive."""

import math

from retrieval.data.decode import Box
from retrieval.data.formats import InputError

MAX_CORNER = 1e6  # pixels; no photo is wider


def parse_box(text: str) -> Box:
    """Return the box that a person typed.

    >>> parse_box("10,20,110,70")
    (10.0, 20.0, 110.0, 70.0)

    Raises:
        InputError: It is not four numbers.
    """
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        x1 = y1 = x2 = y2 = math.nan
    if not all(abs(corner) < MAX_CORNER for corner in (x1, y1, x2, y2)):
        raise InputError(f"--box={text[:80]}: give x1,y1,x2,y2 in pixels, as in 10,20,310,220")
    return x1, y1, x2, y2


def box_text(box: Box) -> str:
    """Return a box as a person types it.

    >>> box_text((1.0, 2.0, 30.5, 40.0))
    '1,2,30.5,40'
    """
    return ",".join(f"{corner:.6g}" for corner in box)
