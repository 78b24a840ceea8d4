"""The searcher with the calls of the old package: one query at a time."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lopq import searcher
from lopq.codes import LOPQCode
from lopq.compat.model import LOPQModel, as_row
from lopq.index.snapshot import Snapshot
from lopq.validation import as_count


class Result(NamedTuple):
    """A search result. (The old package put (id, code) into ``code``.)"""

    id: int
    code: LOPQCode


class ResultWithDistance(NamedTuple):
    """A search result with its squared distance."""

    id: int
    code: LOPQCode
    dist: float


class LOPQSearcher(searcher.LOPQSearcher):
    """An index of codes; `search_batch` is the search of `lopq.LOPQSearcher`.

    Args:
        model: A fitted `lopq.compat.LOPQModel`.
        keep: As in `lopq.LOPQSearcher`.
    """

    model: LOPQModel
    model_class = LOPQModel
    search_batch = searcher.LOPQSearcher.search

    @property
    def nb_indexed(self) -> int:
        """Number of codes in the index."""
        return len(self)

    def add_data(
        self, data: np.ndarray, ids: Iterable[int] | np.ndarray | None = None, num_procs: int = 1
    ) -> None:
        """Encode and add vectors; ``num_procs`` is unused, threads are those of faiss."""
        super().add_data(data, ids)

    def get_cell(self, cell: tuple[int, ...]) -> list[Result]:
        """Return a cell's codes in the order they were added. (Reading inserts nothing.)"""
        return self._cell(self.snapshot, cell)

    def _cell(self, snapshot: Snapshot, cell: tuple[int, ...]) -> list[Result]:
        rows = snapshot.rows_of(self.model.get_cell_id_for_coarse_codes(cell))
        fine = self.model.format.unpack(rows.codes).tolist()
        pairs = zip(rows.ids.tolist(), fine, strict=True)
        return [Result(i, LOPQCode(cell, tuple(f))) for i, f in pairs]

    def get_result_quota(self, x: np.ndarray, quota: int = 10) -> tuple[list[Result], int]:
        """Return the codes of the nearest cells, visited whole until the quota is reached.

        Args:
            x: (dim_in,) query.
            quota: Candidates to return.

        Returns:
            results: At least ``quota`` codes, or all codes.
            visited: Number of visited cells, including empty ones.
        """
        quota = as_count(quota, "quota")
        row = self.model.to_model_space(as_row(x))[0]
        snapshot, results, visited = self.snapshot, list[Result](), 0
        for _, cell in multisequence(row, self.model.Cs):
            if len(results) >= quota:
                break
            results += self._cell(snapshot, cell)
            visited += 1
        return results, visited

    def compute_distances(
        self, x: np.ndarray, items: Iterable[Result]
    ) -> list[tuple[float, Result]]:
        """Return (squared distance, item) for each item, from the lookup tables of its cell."""
        tables, distances = dict[tuple[int, ...], list[np.ndarray]](), []
        for item in items:
            cell = tuple(item.code.coarse)
            if cell not in tables:
                tables[cell] = self.model.get_subquantizer_distances(x, cell)
            terms = zip(tables[cell], item.code.fine, strict=True)
            distances.append((float(sum(table[code] for table, code in terms)), item))
        return distances

    def search(  # type: ignore[override]
        self, x: np.ndarray, quota: int = 10, limit: int | None = None, with_dists: bool = False
    ) -> tuple[list[Result] | list[ResultWithDistance], int]:
        """Rank the candidates in the nearest cells.

        Args:
            x: (dim_in,) query.
            quota: Candidates to rank; cells are visited whole until they hold this many.
            limit: Results to return; None returns ``quota``.
            with_dists: Add the squared distance to each result.

        Returns:
            results: By ascending distance; ties keep the order of `get_result_quota`.
            visited: Number of visited cells, including empty ones.
        """
        items, visited = self.get_result_quota(x, quota)
        limit = quota if limit is None else as_count(limit, "limit", 0)
        ranked = sorted(self.compute_distances(x, items), key=lambda pair: pair[0])[:limit]
        if with_dists:
            return [ResultWithDistance(*item, dist) for dist, item in ranked], visited
        return [item for _, item in ranked], visited


def multisequence(
    x: np.ndarray, centroids: Sequence[np.ndarray]
) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Yield (squared distance, cell) for all cells of a query, nearest first; ties by cell.

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
