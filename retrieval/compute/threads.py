"""How many threads to work with."""

import os

_HAS_OWN_THREADS = False  # whether callers divide products among threads themselves


def worker_threads() -> int:
    """Return the number of worker threads: ``OMP_NUM_THREADS``, else the usable processors.

    >>> worker_threads() >= 1
    True
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit) > 0:
        return int(limit)
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_one_blas_thread() -> None:
    """Let numpy compute each product in the thread that asks for it, from now on.

    The threads of a BLAS spin after each product, up to 40 ms of processor time. A server, which
    has other work for its cores, divides its products among `product_threads` instead.
    """
    from threadpoolctl import threadpool_limits

    global _HAS_OWN_THREADS
    threadpool_limits(1, user_api="blas")
    _HAS_OWN_THREADS = True


def product_threads() -> int:
    """Return the number of threads that should compute parts of a product: 1 if numpy has own."""
    return worker_threads() if _HAS_OWN_THREADS else 1
