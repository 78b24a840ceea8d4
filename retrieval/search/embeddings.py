"""Check that embeddings are finite and of unit length."""

from pathlib import Path

import numpy as np

from retrieval.data import layout
from retrieval.data.formats import InputError

BLOCK_ROWS = 8192
NORM_TOLERANCE = 1e-2  # embeddings of bfloat16 networks are normalized in float32


def check_unit_rows(rows: np.ndarray, name: str, data_dir: Path) -> None:
    """Refuse rows that are not finite or not of unit L2 norm, read block by block.

    Scores that are not finite rank images at arbitrary places, and the squared distances of codes
    equal similarities only for unit vectors. A row of zeros passes: some networks return one for
    an image without any feature.

    Args:
        rows: (n, dim) float32, may be a memory map.
        name: The file's name, for the message.
        data_dir: Its data directory, for the message.

    Raises:
        InputError: Names the file, the row and what is wrong.
    """
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        squares = np.einsum("nd,nd->n", block, block)  # not finite where a value is not
        norms = np.sqrt(squares)
        is_unit = (np.abs(norms - 1) <= NORM_TOLERANCE) | (norms == 0)
        for is_bad, what in (
            (~np.isfinite(squares), "holds values that are not finite"),
            (~is_unit, "is not of unit length"),
        ):
            if is_bad.any():
                raise InputError(
                    f"{name}: row {start + int(np.argmax(is_bad))} {what}; make the file again "
                    f"with: {layout.DATABASE.made_by(data_dir, name)}"
                )
