"""Products of matrices in tiles, which threads take as they become free.

A BLAS divides a product equally among its threads, so that all wait for the one whose processor
another program keeps busy. The tiles depend on the shapes alone, not on the number of threads.
"""

import numpy as np

from retrieval.threads import in_threads, product_threads

TILE = 256  # rows or columns of a product that one thread computes at once


def multiply(left: np.ndarray, right: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return ``left @ right``.

    Args:
        left: (n, dim).
        right: (dim, m), of the same dtype.
        out: (n, m), gets the product; None: a new array.

    >>> multiply(np.eye(2), np.ones((2, 3))).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    n, m = len(left), right.shape[1]
    product = np.empty((n, m), left.dtype) if out is None else out

    def fill(start: int) -> None:
        part = slice(start, start + TILE)
        if n > m:
            np.matmul(left[part], right, out=product[part])
        else:
            np.matmul(left, right[:, part], out=product[:, part])

    in_threads(fill, range(0, max(n, m), TILE), product_threads())
    return product
