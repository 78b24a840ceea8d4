"""Choose the cells to visit for a query: nearest first, until they hold enough candidates."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lopq.lists import CellLists


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


@dataclass(frozen=True)
class Probes:
    """The (query, cell) pairs to scan, sorted by query and then by distance.

    Args:
        queries: (n_pair,) int64, the row of each pair's query.
        slots: (n_pair,) int64, the inverted list of each pair.
        ranks: (n_pair,) int64, 0, 1, ... within each query, nearest cell first.
        reach: (n_query,) float32, squared distance to the farthest visited cell.
    """

    queries: np.ndarray
    slots: np.ndarray
    ranks: np.ndarray
    reach: np.ndarray

    @property
    def depth(self) -> int:
        """The largest number of cells that a query visits."""
        return int(self.ranks.max()) + 1 if len(self.ranks) else 0

    def first_pairs(self, n_query: int) -> np.ndarray:
        """Return the (n_query,) int64 index of each query's first pair."""
        return np.searchsorted(self.queries, np.arange(n_query))


def choose_probes(
    queries: np.ndarray, Cs: Sequence[np.ndarray], lists: CellLists, quota: int
) -> Probes:
    """Choose each query's cells, nearest first, up to the cell that fills the quota.

    Args:
        queries: (n_query, dim) float32 in model space.
        Cs: Coarse centroids (V, dim / n_split) of one or two splits.
        lists: The database.
        quota: Candidates per query; cells are visited whole, so there may be more.
    """
    chosen = _nearest_of_one if len(Cs) == 1 else _nearest_of_two
    slots, distances = chosen(queries, Cs, lists, quota)  # (n_query, depth)
    sizes = np.where(slots >= 0, np.append(lists.sizes, 0)[slots], 0)
    before = np.cumsum(sizes, axis=1) - sizes
    visited = (slots >= 0) & (before < quota)
    rows, columns = np.nonzero(visited)
    reach = np.max(distances, axis=1, where=visited, initial=0)
    ranks = np.cumsum(visited, axis=1)[rows, columns] - 1
    return Probes(rows, slots[rows, columns], ranks, reach)


def _nearest_of_one(
    queries: np.ndarray, Cs: Sequence[np.ndarray], lists: CellLists, quota: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return lists and distances (n_query, depth) of enough cells to fill every quota."""
    import faiss

    V = len(Cs[0])
    depth = min(V, 2 + 2 * quota * V // max(1, len(lists)))
    while True:
        distances, cells = faiss.knn(queries, Cs[0], depth)
        slots = lists.find(cells)
        sizes = np.where(slots >= 0, np.append(lists.sizes, 0)[slots], 0)
        if depth == V or (sizes.sum(axis=1) >= quota).all():
            return slots, distances
        depth = min(V, 2 * depth)


def _nearest_of_two(
    queries: np.ndarray, Cs: Sequence[np.ndarray], lists: CellLists, quota: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return lists and distances (n_query, depth) of enough multi-index cells, nearest first."""
    V = len(Cs[0])
    halves = np.split(queries, 2, axis=1)
    first, second = (squared_distances(h, C) for h, C in zip(halves, Cs, strict=True))
    distances = first[:, lists.cells // V] + second[:, lists.cells % V]  # (n_query, n_filled)
    enough = (
        min(len(lists.cells), len(lists)) if quota >= len(lists) else _deep_enough(lists, quota)
    )
    if enough < distances.shape[1]:
        slots = np.argpartition(distances, enough - 1, axis=1)[:, :enough]
    else:
        slots = np.broadcast_to(np.arange(distances.shape[1]), distances.shape)
    near = np.take_along_axis(distances, slots, axis=1)
    order = np.lexsort((slots, near), axis=1)
    return np.take_along_axis(slots, order, axis=1), np.take_along_axis(near, order, axis=1)


def _deep_enough(lists: CellLists, quota: int) -> int:
    """Return how many non-empty cells hold the quota even if they are the smallest ones."""
    return int(np.searchsorted(np.cumsum(np.sort(lists.sizes)), quota)) + 1


def squared_distances(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the (n, V) float32 squared distances from rows to centroids."""
    import faiss

    return faiss.pairwise_distances(np.ascontiguousarray(rows), np.ascontiguousarray(centroids))
