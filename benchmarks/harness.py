"""Helpers of the benchmarks: machine, timing, exact neighbors, recall.

``processes`` runs processes and samples their memory, ``results`` stores the results.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from retrieval.data.provenance import processor

LIBRARIES = (
    *("numpy", "torch", "torchvision", "faiss-cpu", "pillow"),
    *("opencv-python-headless", "pyvips-binary", "openvino", "onnxruntime", "timm"),
    *("pylance", "pymilvus", "ray"),
)


def versions() -> str:
    """Return the versions of Python and of the libraries that affect the measurements."""
    found = [f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def machine() -> str:
    """Return one line on the machine and the libraries, for bench_lopq."""
    import faiss

    threads = f"{os.cpu_count()} cores, {faiss.omp_get_max_threads()} threads"
    return f"{processor()}, {threads}, faiss {faiss.__version__}, numpy {np.__version__}"


def neighbors(queries: np.ndarray, database: np.ndarray, k: int) -> np.ndarray:
    """Return the (n_query, k) exact nearest rows of the database by L2 distance."""
    import faiss

    return faiss.knn(np.float32(queries), np.float32(database), k)[1]


def k_recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean share of the true neighbors (n_query, k) that were found.

    >>> k_recall(np.array([[1, 2, 3]]), np.array([[3, 1, 5]]))
    0.6666666666666666
    """
    return float((found[:, :, None] == truth[:, None, :]).any(axis=1).mean())


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def seconds(call: Callable[[], object], clock: str, repeats: int = 5) -> float:
    """Return the median seconds of a call, after a warm-up call.

    Args:
        call: Function to time.
        clock: "wall"; or "cpu", the process time, for single-threaded code on a busy machine.
        repeats: Number of timed calls.
    """
    call()
    return median([once(call, clock) for _ in range(repeats)])


def once(call: Callable[[], object], clock: str = "wall") -> float:
    """Return the seconds of one call."""
    start = CLOCKS[clock]()
    call()
    return CLOCKS[clock]() - start


def by_turns(
    calls: Mapping[str, Callable[[], float]], repeats: int, warm_up: int | None = None
) -> dict[str, list[float]]:
    """Repeat several measurements in turns, so that the load of the machine affects all alike.

    Args:
        calls: Name -> function that takes one measurement.
        repeats: Measurements to return for each name.
        warm_up: Measurements to discard before; None: one, if ``repeats`` is above 1.
    """
    warm_up = min(1, repeats - 1) if warm_up is None else warm_up
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + repeats):
        # Back and forth, so that no measurement always follows the same other one.
        for name in list(calls)[:: 1 if turn % 2 else -1]:
            value = calls[name]()
            if turn >= warm_up:
                found[name].append(value)
    return found


def median(values: Sequence[float]) -> float:
    return float(np.median(values))


def spread(values: Sequence[float]) -> float:
    """Return the range of repeated measurements relative to their median, in percent.

    >>> spread([1.0, 2.0, 3.0])
    100.0
    """
    return 100 * (max(values) - min(values)) / median(values)


@dataclass(frozen=True)
class Measurement:
    """One row of the results of bench_lopq; -1 if a column does not apply."""

    part: str
    setting: str
    method: str
    V: int
    bytes: float  # per code, including all values stored per vector except its id
    model_bytes: float  # size of the parameters, per database vector
    parameter: str
    seed: int
    recall: float = -1
    first: float = -1
    qps: float = -1
    seconds: float = -1


def summary(rows: Iterable[Measurement]) -> str:
    """Return a Markdown table: median and spread over seeds, by setting and method."""
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for row in rows:
        key = (row.setting, row.bytes, row.V, row.method, row.parameter)
        groups.setdefault(key, []).append(row)
    lines = [
        "| setting | bytes | V | method | | 10-recall@10 | 1-recall@1 | QPS | s | model B/vector |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (setting, size, V, method, parameter), group in groups.items():
        recall = _spread([g.recall for g in group])
        first = _spread([g.first for g in group])
        qps = _median([g.qps for g in group], ".0f")
        elapsed = _median([g.seconds for g in group], ".3g")
        model = f"{np.median([g.model_bytes for g in group]):.0f}"
        cells = (setting, f"{size:g}", V, method, parameter, recall, first, qps, elapsed, model)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _median(values: list[float], form: str) -> str:
    return "" if min(values) < 0 else format(float(np.median(values)), form)


def _spread(values: list[float]) -> str:
    if min(values) < 0:
        return ""
    half = (max(values) - min(values)) / 2
    return f"{np.median(values):.3f}" + (f" ± {half:.3f}" if len(values) > 1 else "")
