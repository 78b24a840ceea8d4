"""Search one query at a time, with the calls and results of the old package."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lopq.codes import LOPQCode
from lopq.errors import as_count
from lopq.lists import CellLists
from lopq.model import LOPQModel
from lopq.one_vector import as_row
from lopq.probes import multisequence


class Result(NamedTuple):
    """A code that `search` found. (The old package put (id, code) in ``code``.)"""

    id: int
    code: LOPQCode


class ResultWithDistance(NamedTuple):
    """A code that `search` found, with its squared distance."""

    id: int
    code: LOPQCode
    dist: float


class SingleSearch:
    """The old package's searcher, over the same database as the batches."""

    model: LOPQModel
    lists: CellLists

    @property
    def nb_indexed(self) -> int:
        """Codes in the database."""
        return len(self.lists)

    def get_cell(self, cell: tuple[int, ...]) -> list[Result]:
        """Return what a cell holds, in the order of adding. (Nothing is inserted by reading.)"""
        return self._cell(self.lists, cell)

    def _cell(self, lists: CellLists, cell: tuple[int, ...]) -> list[Result]:
        slot = int(lists.find(np.array([self.model.get_cell_id_for_coarse_codes(cell)]))[0])
        if slot < 0:
            return []
        rows = slice(int(lists.offsets[slot]), int(lists.offsets[slot + 1]))
        fine = self.model.codebooks.unpack(lists.codes[rows]).tolist()
        ids = lists.ids[rows].tolist()
        return [Result(i, LOPQCode(cell, tuple(f))) for i, f in zip(ids, fine, strict=True)]

    def get_result_quota(self, x: np.ndarray, quota: int = 10) -> tuple[list[Result], int]:
        """Return the contents of the nearest cells, taken whole until they reach the quota.

        Args:
            x: (dim_in,) query.
            quota: Candidates wanted.

        Returns:
            results: At least ``quota`` codes, or all there are.
            visited: How many cells were taken, empty ones too.
        """
        return self._collect(self._row(x), as_count(quota, "quota"))

    def _row(self, x: np.ndarray) -> np.ndarray:
        return self.model.to_model_space(as_row(x))[0]

    def _collect(self, row: np.ndarray, quota: int) -> tuple[list[Result], int]:
        lists, results, visited = self.lists, list[Result](), 0
        for _, cell in multisequence(row, self.model.Cs):
            if len(results) >= quota:
                break
            results += self._cell(lists, cell)
            visited += 1
        return results, visited

    def compute_distances(
        self, x: np.ndarray, items: Iterable[Result]
    ) -> list[tuple[float, Result]]:
        """Return (squared distance, item) for each item, from the tables of its cell."""
        tables, distances = dict[tuple[int, ...], list[np.ndarray]](), []
        for item in items:
            cell = tuple(item.code.coarse)
            if cell not in tables:
                tables[cell] = self.model.get_subquantizer_distances(x, cell)
            terms = zip(tables[cell], item.code.fine, strict=True)
            distances.append((float(sum(table[code] for table, code in terms)), item))
        return distances

    def search(
        self, x: np.ndarray, quota: int = 10, limit: int | None = None, with_dists: bool = False
    ) -> tuple[list[Result] | list[ResultWithDistance], int]:
        """Return the nearest codes among the candidates of the nearest cells.

        Args:
            x: (dim_in,) query.
            quota: Candidates to rank: cells are taken whole until they hold so many.
            limit: Results kept; None keeps ``quota``.
            with_dists: Add the distance to each result.

        Returns:
            results: By ascending distance; equal ones in the order of `get_result_quota`.
            visited: How many cells were taken, empty ones too.
        """
        items, visited = self.get_result_quota(x, quota)
        limit = quota if limit is None else as_count(limit, "limit", 0)
        ranked = sorted(self.compute_distances(x, items), key=lambda pair: pair[0])[:limit]
        if with_dists:
            return [ResultWithDistance(*item, dist) for dist, item in ranked], visited
        return [item for _, item in ranked], visited
