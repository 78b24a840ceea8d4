"""What embeddings must be for a search to mean anything: finite rows of unit length."""

import numpy as np

from retrieval.data import layout
from retrieval.data.formats import InputError

BLOCK_ROWS = 8192
TOLERANCE = 1e-2  # of a norm; embeddings of bfloat16 networks are normalized in float32


def check(rows: np.ndarray, name: str) -> None:
    """Refuse rows that are not finite or not of unit L2 norm, read block by block.

    Ranking by a score that is no number puts images at arbitrary places, and the squared
    distances of codes are similarities of unit vectors only. A row of zeros passes: an image
    that a network finds nothing in has one.

    Args:
        rows: (n, dim) float32, may be a memory map.
        name: Of the file, for the message.
    """
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        squares = np.einsum("nd,nd->n", block, block)  # not finite where a value is not
        _refuse(~np.isfinite(squares), start, name, "holds values that are not finite")
        norms = np.sqrt(squares)
        is_unit = (np.abs(norms - 1) <= TOLERANCE) | (norms == 0)
        _refuse(~is_unit, start, name, "has not unit length")


def _refuse(is_bad: np.ndarray, start: int, name: str, what: str) -> None:
    if is_bad.any():
        raise InputError(
            f"{name}: row {start + int(np.argmax(is_bad))} {what}; make the file again with: "
            f"{layout.DATABASE.made_by}"
        )
