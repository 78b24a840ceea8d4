"""The number of threads, and how idle threads wait.

A command sets both for its whole process: `prepare_command` before numpy is loaded, and
`computing_with` around its work. Libraries only ask (`worker_threads`, `product_threads`), so a
notebook keeps its own settings. Nothing heavy is imported here.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

Part = TypeVar("Part")

VARIABLE = "OMP_NUM_THREADS"  # read by torch, faiss, numpy and scipy when they are loaded
MOST_THREADS = 512

# Threads of OpenMP and OpenBLAS look out for work for milliseconds after each loop and product.
# Where another program has a core, that is the time that it takes from a thread with work. These
# wait for about a tenth of a millisecond, longer than the gaps within a network, and then sleep.
WAITING = {
    "OMP_WAIT_POLICY": "passive",  # whatever the OpenMP
    "GOMP_SPINCOUNT": "2000",  # GNU OpenMP: looks of 30 to 70 ns
    "OPENBLAS_THREAD_TIMEOUT": "18",  # 2 ** 18 cycles
}

MEASURED_S = 0.1  # over which processors count as free or busy
FREE_SHARE = 0.5  # of that time idle, from which on a processor counts as free
PARTS_PER_THREAD = 4
MARGIN = 1.1  # by which fewer threads must be faster to be taken: a small gain is not repeatable

_divides_products = False  # whether numpy computes each product in the thread that asks for it


def prepare_command() -> None:
    """Set what the user has not set. For commands, before numpy, torch and faiss are loaded."""
    if "OMP_WAIT_POLICY" not in os.environ:
        for name, value in WAITING.items():
            os.environ.setdefault(name, value)
    if usable_processors() < len(_affinity()):  # OpenMP does not know of quotas
        os.environ.setdefault(VARIABLE, str(usable_processors()))


def named_threads() -> int | None:
    """Return the number of threads that ``OMP_NUM_THREADS`` names; None if it names none."""
    limit = os.environ.get(VARIABLE, "")
    return int(limit) if limit.isdecimal() and int(limit) > 0 else None


def worker_threads() -> int:
    """Return the number of worker threads: ``OMP_NUM_THREADS``, else the usable processors.

    >>> worker_threads() >= 1
    True
    """
    return named_threads() or usable_processors()


def product_threads() -> int:
    """Return the number of threads that should compute parts of a product: 1 if numpy has own."""
    return worker_threads() if _divides_products else 1


def in_threads(call: Callable[[Part], object], parts: Sequence[Part], count: int) -> None:
    """Call ``call`` with each part, on ``count`` threads that take them as they become free.

    ``call`` must not come here itself: it would wait for its own thread.
    """
    if count == 1 or len(parts) < 2:
        for part in parts:
            call(part)
        return
    for _ in _pool(os.getpid(), count).map(call, parts):
        pass


def parts_for(count: int) -> int:
    """Return how many parts to divide work into for some threads: more, as one may be slower."""
    return 1 if count == 1 else PARTS_PER_THREAD * count


@lru_cache
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    """Return the threads of a process, which use no processor while they wait; not of its fork."""
    return ThreadPoolExecutor(count, "compute")


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """Compute with a number of threads in the whole process until the block ends. For commands.

    Products of numpy are then computed by the threads that ask for them (`product_threads`): its
    own share them out in advance, so that all wait for the one whose core is busy.

    Args:
        threads: What torch, faiss and `worker_threads` take; None: what they take anyway.
    """
    from threadpoolctl import threadpool_limits

    global _divides_products
    did_divide, _divides_products = _divides_products, True
    named, loaded = os.environ.get(VARIABLE), _threads_of_libraries()
    try:
        with threadpool_limits(1, user_api="blas"):
            if threads is not None:
                os.environ[VARIABLE] = str(threads)
                _set_threads(dict.fromkeys(loaded, threads))
            yield
    finally:
        _divides_products = did_divide
        if threads is not None:
            os.environ.pop(VARIABLE)
            if named is not None:
                os.environ[VARIABLE] = named
            _set_threads(dict.fromkeys(_threads_of_libraries(), worker_threads()) | loaded)


def _threads_of_libraries() -> dict[str, int]:
    """Return the threads of the libraries that are loaded."""
    torch, faiss = sys.modules.get("torch"), sys.modules.get("faiss")
    found = {"torch": torch.get_num_threads()} if torch else {}
    return found | ({"faiss": faiss.omp_get_max_threads()} if faiss else {})


def _set_threads(counts: dict[str, int]) -> None:
    # torch last: loaded first, it lends faiss its OpenMP.
    if "faiss" in counts:
        sys.modules["faiss"].omp_set_num_threads(counts["faiss"])
    if "torch" in counts:
        sys.modules["torch"].set_num_threads(counts["torch"])


def usable_processors() -> int:
    """Return how many processors this process may keep busy: by its affinity and its quota."""
    return max(1, int(min(len(_affinity()), cpu_quota())))


def _affinity() -> set[int]:
    """Return the numbers of the processors that the system may run this process on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


@lru_cache
def cpu_quota(root: Path = Path("/")) -> float:
    """Return how many processors' time the control groups grant; infinity without a limit.

    Args:
        root: The root of the file system, as a container sees it.
    """
    groups = root / "sys/fs/cgroup"
    quotas = [math.inf]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    for line in lines:
        version, controllers, path = line.split(":", 2)
        is_v2 = version == "0" and not controllers
        if not is_v2 and "cpu" not in controllers.split(","):
            continue
        top = groups if is_v2 else groups / "cpu"
        own = top / path.strip("/")
        # A container may see its own group as the top, and the host's path of it.
        for folder in {top, own, *(parent for parent in own.parents if top in parent.parents)}:
            quotas.append(_quota_v2(folder) if is_v2 else _quota_v1(folder))
    return min(quotas)


def _quota_v2(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf


def _quota_v1(folder: Path) -> float:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return quota / int((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def free_processors() -> int:
    """Return how many of the usable processors no program keeps busy now; takes 0.1 s."""
    before = _idle_and_total()
    time.sleep(MEASURED_S)
    after = _idle_and_total()
    n_busy = 0
    for number in _affinity() & before.keys() & after.keys():
        idle, total = (new - old for old, new in zip(before[number], after[number], strict=True))
        n_busy += idle < FREE_SHARE * total
    return max(0, usable_processors() - n_busy)


def _idle_and_total() -> dict[int, tuple[int, int]]:
    """Return the idle time and all time of each processor since the start, in ticks."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines if line[:3] == "cpu" and line[3:4].isdigit())
    found = {int(row[0][3:]): [int(text) for text in row[1:9]] for row in rows}
    return {number: (sum(ticks[3:5]), sum(ticks)) for number, ticks in found.items()}


def fastest_threads(seconds: Callable[[int], float]) -> int:
    """Return the number of threads that computes fastest now, if the user names none.

    All, if no other program keeps a processor busy. Otherwise all threads of a loop wait for the
    one that shares its processor, and fewer may be faster.

    Args:
        seconds: Computes with a number of threads, and returns how long it took.
    """
    most = worker_threads()
    if named_threads() or most == 1 or (free := free_processors()) >= most:
        return most
    taken = {count: seconds(count) for count in sorted({most, max(1, free), 1}, reverse=True)}
    best = min(taken, key=lambda count: taken[count])
    return best if taken[best] * MARGIN < taken[most] else most
