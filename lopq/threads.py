"""Arrays and threads for the compiled loops."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a contiguous read-only view: one type for numba, whether in memory or mapped."""
    view = np.ascontiguousarray(array).view(np.ndarray)[:]
    view.flags.writeable = False
    return view


def in_blocks(call: Callable[[slice], None], n: int, size: int) -> None:
    """Call ``call`` with slices of up to ``size`` rows of n, on as many threads as faiss uses.

    ``call`` must not come here itself: it would wait for its own threads.
    """
    if n <= size:
        if n:
            call(slice(0, n))
        return
    import faiss

    blocks = (slice(start, min(n, start + size)) for start in range(0, n, size))
    for _ in _pool(os.getpid(), faiss.omp_get_max_threads()).map(call, blocks):
        pass


@lru_cache
def _pool(process: int, n_thread: int) -> ThreadPoolExecutor:
    """Return the threads of a process; a forked one needs its own."""
    return ThreadPoolExecutor(n_thread, "lopq")
