"""Rows grouped by number: the sorted order and where each group starts."""

from collections.abc import Iterator

import numpy as np


def group_rows(numbers: np.ndarray, n_group: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the stable order that sorts ``numbers``, and the (n_group + 1,) group offsets.

    >>> order, offsets = group_rows(np.array([2, 0, 2]), 3)
    >>> order.tolist(), offsets.tolist()
    ([1, 0, 2], [0, 1, 1, 3])
    """
    order = np.argsort(numbers, kind="stable")
    offsets = np.zeros(n_group + 1, np.int64)
    np.cumsum(np.bincount(numbers, minlength=n_group), out=offsets[1:])
    return order, offsets


def filled_groups(offsets: np.ndarray) -> Iterator[tuple[int, slice]]:
    """Yield (number, slice) of every group that has rows."""
    for group in np.flatnonzero(np.diff(offsets)):
        yield int(group), slice(int(offsets[group]), int(offsets[group + 1]))
