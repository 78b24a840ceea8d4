"""The searcher: a database of codes, searched in batches."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lopq import storage
from lopq.batch import BatchSearch
from lopq.codes import LOPQCode
from lopq.errors import LARGEST_ID, LOPQError, as_count, as_ids, as_vectors, check_axes, row_blocks
from lopq.kernels import TableScan
from lopq.lists import CellLists
from lopq.model import LOPQModel
from lopq.probes import multisequence as multisequence  # the old package has it here too
from lopq.ranking import exact_order
from lopq.single import SingleSearch

LISTS = ("cells", "offsets", "codes", "ids")  # the arrays of `CellLists` in a file


class LOPQSearcher(SingleSearch):
    """A database of codes.

    Searching is read-only, and several threads may search at once. `add_data`, `add_codes` and
    `remove` replace the database in one step; a running search finishes on the state it started
    with. Only one thread at a time may change the database.

    Args:
        model: A fitted `LOPQModel`.
    """

    def __init__(self, model: LOPQModel) -> None:
        super().__init__(model)
        self._scan: tuple[CellLists, TableScan] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock and the table-scan index, which cannot be copied."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_scan", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _scan=None, _lock=threading.Lock())

    def __len__(self) -> int:
        return len(self.lists)

    def add_data(
        self, data: np.ndarray, ids: Iterable[int] | np.ndarray | None = None, num_procs: int = 1
    ) -> None:
        """Encode vectors and add their codes.

        Args:
            data: (n, dim_in) real numbers, array or memory map.
            ids: (n,) distinct integers from 0 to 2**63 - 1 that are not in the index yet; None
                continues from the largest id. (The old package restarted at 0 in each call.)
            num_procs: Ignored; ``faiss.omp_set_num_threads`` sets the number of threads.
        """
        from tqdm import tqdm

        quantizer = self.model.quantizer
        check_axes(data, "data")
        new_ids = self._new_ids(ids, len(data))
        cells = np.empty(len(data), np.int64)
        codes = np.empty((len(data), self.lists.codes.shape[1]), np.uint8)
        blocks = list(row_blocks(len(data)))
        for rows in tqdm(blocks, "encoding", disable=None if len(blocks) > 3 else True):
            coarse, codes[rows] = quantizer.encode(quantizer.to_model_space(data[rows]))
            cells[rows] = quantizer.format.cell_numbers(coarse)
        self.lists = self.lists.add(cells, codes, new_ids)

    def add_codes(
        self,
        codes: LOPQCode | Iterable[LOPQCode],
        ids: Iterable[int] | np.ndarray | None = None,
    ) -> None:
        """Add codes: what `LOPQModel.encode` returns, or an iterable of what `predict` returns."""
        quantizer = self.model.quantizer
        if not isinstance(codes, LOPQCode):
            codes = quantizer.format.stack(codes)
        coarse, fine = quantizer.format.check(codes)
        cells, packed = quantizer.format.cell_numbers(coarse), quantizer.codebooks.pack(fine)
        self.lists = self.lists.add(cells, packed, self._new_ids(ids, len(cells)))

    def remove(self, ids: Iterable[int] | np.ndarray) -> None:
        """Remove codes by id; raise `LOPQError` if any id is missing."""
        self.lists = self.lists.remove(as_ids(ids))

    def _new_ids(self, ids: Iterable[int] | np.ndarray | None, n: int) -> np.ndarray:
        if ids is not None:
            new_ids = as_ids(ids, n)
            self.lists.check_new(new_ids)
            return new_ids
        first = int(self.lists.ids.max()) + 1 if len(self.lists) else 0
        if first + n - 1 > LARGEST_ID:
            raise LOPQError(f"ids would continue from {first}, beyond 2**63 - 1; pass ids=")
        return np.arange(first, first + n, dtype=np.int64) if n else np.zeros(0, np.int64)

    def search_batch(
        self,
        queries: np.ndarray,
        k: int,
        quota: int | None = None,
        rerank: int = 0,
        vectors: np.ndarray | None = None,
        kernel: str = "auto",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest codes of each query, best first.

        Args:
            queries: (n_query, dim_in) real numbers.
            k: Neighbors per query; missing ones have id -1 and score -inf.
            quota: Candidates per query, at least k and rerank. The nearest cells are scanned
                whole until they hold this many; None scans all cells.
            rerank: Re-rank the first max(k, rerank) candidates by their exact distances; 0 does
                not re-rank.
            vectors: (n, dim_in) array or memory map; row i is the vector with id i. Read only
                for re-ranking.
            kernel: "decode" or "scan" (see `lopq.kernels`); "auto" picks one for each block of
                queries.

        Returns:
            scores: (n_query, k) float32, descending: the negative squared L2 distance in model
                space, or in the input space after re-ranking. For unit vectors the inner product
                is 1 + score / 2.
            ids: (n_query, k) int64; equal scores by ascending id.

        Raises:
            LOPQError: Wrong shapes or values, an option out of range, or vectors that lack the
                row of a candidate.
        """
        quantizer, lists, k = self.model.quantizer, self.lists, as_count(k, "k")
        first = max(k, as_count(rerank, "rerank", 0))
        if kernel not in ("auto", "decode", "scan"):
            raise LOPQError(f'kernel must be "auto", "decode" or "scan"; got {kernel!r}')
        if rerank and vectors is None:
            raise LOPQError("rerank needs vectors=, an array whose row i is the vector of id i")
        quota = len(lists) if quota is None else max(first, as_count(quota, "quota"))
        rows = as_vectors(queries, "queries", quantizer.dim_in)
        scores = np.full((len(rows), k), -np.inf, np.float32)
        ids = np.full((len(rows), k), -1, np.int64)
        if len(lists) == 0 or len(rows) == 0:
            return scores, ids
        search = BatchSearch(
            quantizer, lists, lambda: self._table_scan(lists), first, quota, kernel
        )
        reduced = quantizer.to_model_space(rows)
        for block in row_blocks(len(rows), search.block_size):
            distances, found = search(reduced[block])
            if vectors is not None and rerank:
                distances, found = exact_order(rows[block], found, vectors)
            width = min(k, found.shape[1])
            scores[block, :width] = -distances[:, :width]
            ids[block, :width] = found[:, :width]
        return scores, ids

    def _table_scan(self, lists: CellLists) -> TableScan:
        """Return the table-scan index of ``lists``; it is built once per state of the database."""
        with self._lock:
            if self._scan is None or self._scan[0] is not lists:
                self._scan = (lists, TableScan(lists, self.model.quantizer.codebooks))
            return self._scan[1]

    def save(self, path: str | Path) -> None:
        """Write model and database atomically to one file; `lopq.storage` describes the format."""
        lists = {name: getattr(self.lists, name) for name in LISTS}
        arrays = {**self.model.quantizer.arrays(), **lists}
        storage.write(path, "searcher", self.model.header(), arrays)

    @classmethod
    def load(cls, path: str | Path, verify: bool = True) -> "LOPQSearcher":
        """Read a file that `save` wrote; codes and ids are memory maps of the file.

        Args:
            path: The file.
            verify: Compare the checksums of codes and ids too, which reads them completely.

        Raises:
            LOPQError: The file cannot be read or is damaged.
        """
        header, arrays = storage.read(path, "searcher", verify)
        with storage.naming(path):
            searcher = cls(LOPQModel.restored(header, arrays))
            searcher.lists = CellLists(*(arrays[name] for name in LISTS))
            quantizer = searcher.model.quantizer
            searcher.lists.check(quantizer.format.n_cell, quantizer.codebooks.code_bytes)
        return searcher
