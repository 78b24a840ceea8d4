"""Timing of calls: repeated in turns, median and spread."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np


def once(call: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


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
