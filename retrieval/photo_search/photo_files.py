"""The photos named on the command line, and their boxes."""

import math
from collections.abc import Sequence
from pathlib import Path

from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.data.photo_folder import find_photos

AUTO = "auto"


def photo_files(names: Sequence[Path]) -> list[Path]:
    """Return the files that ``--image`` names, in order; a folder stands for all images below it.

    What is left out of a folder is said in a line. Relative names are relative to the working
    directory.

    Raises:
        InputError: A file or folder is missing, or a folder has no image.
    """
    found: list[Path] = []
    for name in names:
        if name.is_dir():
            found += _images_below(name)
        elif name.is_file():
            found.append(name)
        else:
            raise InputError(f"--image: {name} is missing; name a photo or a folder of photos")
    if not found:
        raise InputError("--image names no photo")
    return found


def _images_below(folder: Path) -> list[Path]:
    found = find_photos(folder)
    if not found.paths:
        raise InputError(f"--image: {folder} {found.why_empty()}; name a folder of photos")
    found.say_left_out()
    return [folder / path for path in found.paths]


def parse_box(text: str | None) -> Box | None:
    """Return the box of ``--box``: four numbers, or None for the whole photo.

    >>> parse_box("10,20,110,70")
    (10.0, 20.0, 110.0, 70.0)
    """
    if text is None:
        return None
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        x1 = y1 = x2 = y2 = math.nan
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise InputError(f"--box={text}: give x1,y1,x2,y2 in pixels, as in 10,20,310,220")
    return x1, y1, x2, y2
