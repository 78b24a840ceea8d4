"""Rows sorted into groups (cells), and one matrix product per group.

All products run on faiss's threads. numpy and faiss each bring a BLAS with its own thread pool;
when calls to the two alternate every few microseconds, the idle pool spins against the busy one,
and on two cores a pair of 0.1 ms products takes 9 ms. The library therefore multiplies with faiss
only.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np


def group_rows(numbers: np.ndarray, n_group: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the stable sort order of ``numbers`` and the (n_group + 1,) group offsets.

    >>> order, offsets = group_rows(np.array([2, 0, 2]), 3)
    >>> order.tolist(), offsets.tolist()
    ([1, 0, 2], [0, 1, 1, 3])
    """
    order = np.argsort(numbers, kind="stable")
    offsets = np.zeros(n_group + 1, np.int64)
    np.cumsum(np.bincount(numbers, minlength=n_group), out=offsets[1:])
    return order, offsets


def filled_groups(offsets: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Yield (number, slice) for every non-empty group."""
    for group in np.flatnonzero(np.diff(offsets)):
        yield int(group), slice(int(offsets[group]), int(offsets[group + 1]))


class Multiplier:
    """Multiplies blocks of rows by a sequence of matrices of one shape. Not thread-safe.

    Args:
        dim_in: Columns of the rows.
        dim_out: Rows of the matrices.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        import faiss

        self._copy_into = faiss.copy_array_to_vector
        self._transform: Any = faiss.LinearTransform(dim_in, dim_out, False)
        self._transform.is_trained = True

    def __call__(self, rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Return ``rows @ matrix.T``, (n, dim_out) float32.

        >>> Multiplier(2, 1)(np.float32([[1, 2]]), np.float32([[3, 4]])).tolist()
        [[11.0]]
        """
        self._copy_into(matrix.ravel(), self._transform.A)
        return self._transform.apply(np.ascontiguousarray(rows))


def multiply(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``rows @ matrix.T`` as float32."""
    return Multiplier(matrix.shape[1], matrix.shape[0])(rows, matrix)


def rotate(residuals: np.ndarray, offsets: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Rotate each row by the rotation of its cell.

    Args:
        residuals: (n, dim) float32, sorted by cell.
        offsets: (V + 1,) int64, the first row of each cell.
        rotations: (V, dim, dim) float32.

    Returns:
        (n, dim) float32.
    """
    rotated = np.empty_like(residuals)
    product = Multiplier(*rotations.shape[1:])
    for cell, rows in filled_groups(offsets):
        rotated[rows] = product(residuals[rows], rotations[cell])
    return rotated
