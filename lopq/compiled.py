"""Loops that run per vector, per cell or per code: compiled by numba, run on threads.

Every row is computed on its own and in a fixed order, so results do not depend on the number of
threads or on the other rows of a batch.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit

F = TypeVar("F", bound=Callable[..., object])

# Sums may be split into SIMD lanes. NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz"}


def compiled(function: F) -> F:
    """Compile a function for arrays; it runs without Python's lock, and the cache is on disk."""
    return cast(F, njit(nogil=True, cache=True, error_model="numpy")(function))


def compiled_sums(function: F) -> F:
    """Compile as `compiled`, with sums in the order that is fastest, the same for all rows."""
    return cast(F, njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")(function))


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a contiguous read-only view: one type for numba, whether in memory or mapped."""
    view = np.ascontiguousarray(array).view(np.ndarray)[:]
    view.flags.writeable = False
    return view


def in_blocks(call: Callable[[slice], None], n: int, size: int) -> None:
    """Call ``call`` with slices of up to ``size`` rows of n, on as many threads as faiss uses."""
    blocks = [slice(start, min(n, start + size)) for start in range(0, n, size)]
    if len(blocks) < 2:
        for block in blocks:
            call(block)
        return
    from concurrent.futures import ThreadPoolExecutor

    import faiss

    with ThreadPoolExecutor(faiss.omp_get_max_threads()) as pool:
        for _ in pool.map(call, blocks):
            pass
