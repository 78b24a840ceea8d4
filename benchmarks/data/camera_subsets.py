"""Parts of the camera images of a data directory: the first few of each class."""

from pathlib import Path

import numpy as np

from retrieval.data import layout

COUNTS = (2, 5, 10, 20)


def names(count: int) -> tuple[str, str]:
    """Return the names of the index and of the matrix with ``count`` images of each class."""
    return f"camera_{count}.csv", f"camera_{count}.npy"


def write(data_dir: Path) -> None:
    """Write the parts of ``camera_index.csv`` and ``camera_image.npy``."""
    table, images = layout.CAMERA_INDEX.load(data_dir), layout.CAMERA_MATRIX.load(data_dir)
    number = table.groupby("Class").cumcount()
    for count in COUNTS:
        part = table[number < count]
        index, matrix = names(count)
        layout.CAMERA_MATRIX.save(data_dir, images[part["Index"].to_numpy()], matrix)
        layout.CAMERA_INDEX.save(data_dir, part.assign(Index=np.arange(len(part))), index)
