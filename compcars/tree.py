"""The folders of the unpacked CompCars archives, and a reader of their label files.

The archives hold ``data/`` and ``sv_data/``. People unpack them a level deeper or shallower, so
both folders are recognized by their content.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retrieval.data import image_index
from retrieval.data.command_lines import command
from retrieval.data.formats import InputError

IMAGE_DATA = "Image_data"
LONGEST_LABEL = 1000  # bytes; a label has about 30
# A pipe instead of a file must not wait for a writer.
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
VIEWPOINTS = {-1: "uncertain", **image_index.VIEWPOINTS}

WEB_ROOTS = (f"{IMAGE_DATA}/data", f"{IMAGE_DATA}/data/data", IMAGE_DATA, "data", ".")
SURVEILLANCE_ROOTS = (f"{IMAGE_DATA}/sv_data", f"{IMAGE_DATA}/sv_data/sv_data", "sv_data")


@dataclass(frozen=True)
class Label:
    """One label file.

    Attributes:
        viewpoint: A key of ``VIEWPOINTS``.
        box: x1, y1, x2, y2 of the car in pixels, 0-based and end exclusive; None if the file's
            box is empty or starts outside the image.
    """

    viewpoint: int
    box: tuple[int, int, int, int] | None


def web_root(data_dir: Path) -> Path:
    """Return the folder of the web-nature images, with ``image/`` and ``label/``."""
    return _find(data_dir, WEB_ROOTS, ("image", "label"), "data")


def surveillance_root(data_dir: Path) -> Path:
    """Return the folder of the surveillance images, with ``sv_make_model_name.mat``."""
    return _find(data_dir, SURVEILLANCE_ROOTS, ("image", "sv_make_model_name.mat"), "sv_data")


def _find(data_dir: Path, roots: tuple[str, ...], parts: tuple[str, ...], archive: str) -> Path:
    for root in roots:
        if all((data_dir / root / part).exists() for part in parts):
            return data_dir / root
    raise InputError(
        f"{data_dir / roots[0]} has no {' and '.join(parts)}; unpack CompCars' {archive} there, "
        f"or draw a sample with: {command('python -m compcars.sample', {}, data_dir)}"
    )


def read_label(path: str) -> Label:
    """Read a label file: viewpoint, number of boxes, ``x1 y1 x2 y2`` (1-based, inclusive).

    There are 136,726 of them, and Python's file objects would take most of the time.

    Raises:
        ValueError, IndexError, OSError: The file has another format, or cannot be read.
    """
    file = os.open(path, READ)
    try:
        lines = os.read(file, LONGEST_LABEL).decode("ascii").splitlines()
    finally:
        os.close(file)
    viewpoint = int(lines[0])
    x1, y1, x2, y2 = map(int, lines[2].split())
    if viewpoint not in VIEWPOINTS:
        raise ValueError(f"viewpoint {viewpoint}")
    is_box = 1 <= x1 < x2 and 1 <= y1 < y2
    return Label(viewpoint, (x1 - 1, y1 - 1, x2, y2) if is_box else None)


def numbered_folders(folder: Path) -> list[Path]:
    """Return the sub-folders named by a number, in numeric order."""
    return sorted((f for f in folder.iterdir() if f.name.isdecimal() and f.is_dir()), key=_number)


def jpegs(folder: Path) -> list[str]:
    """Return the sorted names of the JPEG files of a folder."""
    with os.scandir(folder) as files:
        return sorted(f.name for f in files if f.name.lower().endswith((".jpg", ".jpeg")))


def year_folders(model: Path) -> Iterator[Path]:
    """Yield the year folders of a model: numbers in order, then others such as ``unknown``."""
    years = [f for f in model.iterdir() if f.is_dir()]
    yield from sorted(years, key=lambda f: (not f.name.isdecimal(), _number(f), f.name))


def _number(folder: Path) -> int:
    return int(folder.name) if folder.name.isdecimal() else 0
