"""Arrays and threads for the compiled loops."""

from collections.abc import Callable

import numpy as np


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a contiguous read-only view: one type for numba, whether in memory or mapped."""
    view = np.ascontiguousarray(array).view(np.ndarray)[:]
    view.flags.writeable = False
    return view


def in_blocks(call: Callable[[slice], None], n: int, size: int) -> None:
    """Call ``call`` with slices of up to ``size`` rows of n, on as many threads as faiss uses."""
    if n <= size:
        if n:
            call(slice(0, n))
        return
    from concurrent.futures import ThreadPoolExecutor

    import faiss

    with ThreadPoolExecutor(faiss.omp_get_max_threads()) as pool:
        blocks = (slice(start, min(n, start + size)) for start in range(0, n, size))
        for _ in pool.map(call, blocks):
            pass
