"""Work on blocks of rows, on rows grouped by cell, and on threads.

Matrix products run on faiss's threads. numpy and faiss each bring a BLAS with its own thread pool;
when calls to the two alternate every few microseconds, the idle pool spins against the busy one,
and on two cores a pair of 0.1 ms products takes 9 ms.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np

BLOCK_ROWS = 65_536  # rows read from a large array at a time
ROWS_PER_CALL = 4096  # rows per call on a thread


def row_blocks(n: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """Yield slices of ``size`` rows that cover ``range(n)``."""
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def in_blocks(call: Callable[[slice], None], n: int, size: int = ROWS_PER_CALL) -> None:
    """Call ``call`` with slices of up to ``size`` rows of n, on as many threads as faiss uses.

    ``call`` must not call `in_blocks` itself: it would wait for its own threads.
    """
    if n <= size:
        if n:
            call(slice(0, n))
        return
    import faiss

    for _ in _pool(os.getpid(), faiss.omp_get_max_threads()).map(call, row_blocks(n, size)):
        pass


@lru_cache
def _pool(process: int, n_thread: int) -> ThreadPoolExecutor:
    """Return the threads of a process; a forked one needs its own."""
    return ThreadPoolExecutor(n_thread, "lopq")


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a contiguous read-only view: one type for numba, whether in memory or mapped."""
    view = np.ascontiguousarray(array).view(np.ndarray)[:]
    view.flags.writeable = False
    return view


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


def group_of_rows(offsets: np.ndarray) -> np.ndarray:
    """Return the (n,) int64 group of each row, from the (n_group + 1,) group offsets.

    >>> group_of_rows(np.array([0, 1, 1, 3])).tolist()
    [0, 2, 2]
    """
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
