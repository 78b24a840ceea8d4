"""How many threads to work with."""

import os


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
