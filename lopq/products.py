"""Matrix products on faiss's threads.

numpy and faiss each bring a BLAS with its own pool of threads. Where calls of the two take
turns every few microseconds, the idle pool spins against the busy one: on two cores a pair of
0.1 ms products then takes 9 ms. So the library multiplies with faiss alone.
"""

import faiss
import numpy as np


class Multiplier:
    """Products of many rows with one small matrix after another; not shared between threads.

    Args:
        dim_in: Columns of the rows.
        dim_out: Rows of the matrices.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        self._transform = faiss.LinearTransform(dim_in, dim_out, False)
        self._transform.is_trained = True

    def __call__(self, rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Return ``rows @ matrix.T``, (n, dim_out) float32.

        >>> Multiplier(2, 1)(np.float32([[1, 2]]), np.float32([[3, 4]])).tolist()
        [[11.0]]
        """
        faiss.copy_array_to_vector(matrix.ravel(), self._transform.A)
        return self._transform.apply(np.ascontiguousarray(rows))


def multiply(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``rows @ matrix.T`` as float32, on faiss's threads."""
    return Multiplier(matrix.shape[1], matrix.shape[0])(rows, matrix)
