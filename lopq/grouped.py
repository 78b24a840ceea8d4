"""Rows sorted into groups (cells), and one matrix product per group.

Products run on faiss's threads. numpy and faiss each bring a BLAS with its own thread pool;
when calls to the two alternate every few microseconds, the idle pool spins against the busy one,
and on two cores a pair of 0.1 ms products takes 9 ms. Large products of the
training therefore run in faiss.
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


def multiply(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``rows @ matrix.T`` as float32.

    >>> multiply(np.float32([[1, 2]]), np.float32([[3, 4]])).tolist()
    [[11.0]]
    """
    import faiss

    transform: Any = faiss.LinearTransform(matrix.shape[1], matrix.shape[0], False)
    faiss.copy_array_to_vector(matrix.ravel(), transform.A)
    transform.is_trained = True
    return transform.apply(np.ascontiguousarray(rows))


def cell_numbers(offsets: np.ndarray) -> np.ndarray:
    """Return the (n,) int64 group of each row, from the (n_group + 1,) group offsets.

    >>> cell_numbers(np.array([0, 1, 1, 3])).tolist()
    [0, 2, 2]
    """
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
