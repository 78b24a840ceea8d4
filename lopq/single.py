"""Search with one query at a time, with the calls and results of the old package."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lopq.coder import as_row
from lopq.codes import LOPQCode
from lopq.database import Database
from lopq.errors import as_count
from lopq.kept import Keep, check_keep, kept_bytes
from lopq.lists import CellLists
from lopq.model import LOPQModel
from lopq.probes import multisequence


class Result(NamedTuple):
    """A search result. (The old package put (id, code) into ``code``.)"""

    id: int
    code: LOPQCode


class ResultWithDistance(NamedTuple):
    """A search result with its squared distance."""

    id: int
    code: LOPQCode
    dist: float


class SingleSearch:
    """A model and a database; the base class of `LOPQSearcher`.

    Args:
        model: A fitted model.
        keep: "float16" or "int8" keeps the vectors too, in 2 * dim_in or dim_in + 4 bytes each,
            to re-rank from.
    """

    def __init__(self, model: LOPQModel, keep: Keep = "none") -> None:
        self.model, self.keep = model, check_keep(keep)
        code_bytes = model.quantizer.codebooks.code_bytes
        kept = kept_bytes(self.keep, model.quantizer.dim_in)
        self.database = Database.of(CellLists.empty(code_bytes, kept))

    @property
    def nb_indexed(self) -> int:
        """Number of codes in the database."""
        return len(self.database)

    def get_cell(self, cell: tuple[int, ...]) -> list[Result]:
        """Return a cell's codes in the order they were added. (Reading inserts nothing.)"""
        return self._cell(self.database, cell)

    def _cell(self, database: Database, cell: tuple[int, ...]) -> list[Result]:
        codes, ids = database.of_cell(self.model.get_cell_id_for_coarse_codes(cell))
        fine = self.model.quantizer.codebooks.unpack(codes).tolist()
        pairs = zip(ids.tolist(), fine, strict=True)
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
        database, results, visited = self.database, list[Result](), 0
        for _, cell in multisequence(row, self.model.Cs):
            if len(results) >= quota:
                break
            results += self._cell(database, cell)
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

    def search(
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
