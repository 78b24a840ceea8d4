"""The multi-sequence algorithm: the cells of a query, nearest first."""

import heapq
from collections.abc import Iterator, Sequence

import numpy as np


def multisequence(
    x: np.ndarray, centroids: Sequence[np.ndarray]
) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Yield (squared distance, cell) for all cells, nearest first; ties by cell.

    The multi-sequence algorithm of Babenko, Lempitsky: The inverted multi-index, CVPR 2012.

    Args:
        x: (dim,) query in the space of the centroids.
        centroids: One or two arrays (V, dim / n_split), one per split.

    >>> C = np.array([[0.0], [1.0]])
    >>> [cell for _, cell in multisequence(np.array([0.0, 0.4]), (C, C))]
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    parts = np.split(np.asarray(x, np.float32), len(centroids))
    distances = [((C - part) ** 2).sum(axis=1) for C, part in zip(centroids, parts, strict=True)]
    orders = [np.argsort(d, kind="stable") for d in distances]
    heap = [_entry(distances, orders, (0,) * len(parts))]
    seen = {(0,) * len(parts)}
    while heap:
        distance, cell, ranks = heapq.heappop(heap)
        yield distance, cell
        for axis, rank in enumerate(ranks):
            following = (*ranks[:axis], rank + 1, *ranks[axis + 1 :])
            if rank + 1 < len(orders[axis]) and following not in seen:
                seen.add(following)
                heapq.heappush(heap, _entry(distances, orders, following))


def _entry(
    distances: list[np.ndarray], orders: list[np.ndarray], ranks: tuple[int, ...]
) -> tuple[float, tuple[int, ...], tuple[int, ...]]:
    cell = tuple(int(order[rank]) for order, rank in zip(orders, ranks, strict=True))
    return sum(float(d[c]) for d, c in zip(distances, cell, strict=True)), cell, ranks
