"""The searcher: a database of codes, searched in batches."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lopq import storage
from lopq.batch import BatchSearch
from lopq.codes import LOPQCode, stacked
from lopq.errors import LARGEST_ID, LOPQError, as_count, as_ids, as_vectors, check_axes, row_blocks
from lopq.kernels import TableScan
from lopq.lists import CellLists
from lopq.model import LOPQModel
from lopq.probes import multisequence as multisequence  # here too, as in the old package
from lopq.rerank import exact_order
from lopq.single import SingleSearch


class LOPQSearcher(SingleSearch):
    """A database of codes.

    Searching changes nothing, and several threads may search at once. `add_data`, `add_codes`
    and `remove` replace the database in one step: a search that is under way ends on the one
    it began with. Only one thread at a time may change it.

    Args:
        model: A fitted `LOPQModel`.
    """

    def __init__(self, model: LOPQModel) -> None:
        self.model = model
        self.lists = CellLists.empty(model.codebooks.code_bytes)
        self._scan: tuple[CellLists, TableScan] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be copied: the lock, and the index that is made again."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_scan", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _scan=None, _lock=threading.Lock())

    def __len__(self) -> int:
        return len(self.lists)

    def add_data(
        self, data: np.ndarray, ids: Iterable[int] | np.ndarray | None = None, num_procs: int = 1
    ) -> None:
        """Encode vectors and add them.

        Args:
            data: (n, dim_in) numbers, array or memory map.
            ids: (n,) distinct whole numbers from 0 up, not in the index yet; None numbers on
                from the largest there. (The old package began at 0 in each call.)
            num_procs: Without effect: threads are those of ``faiss.omp_set_num_threads``.
        """
        check_axes(data, "data")
        new_ids = self._new_ids(ids, len(data))
        cells = np.empty(len(data), np.int64)
        codes = np.empty((len(data), self.lists.codes.shape[1]), np.uint8)
        blocks = list(row_blocks(len(data)))
        for rows in tqdm(blocks, "encoding", disable=None if len(blocks) > 3 else True):
            coarse, codes[rows] = self.model.encode_packed(self.model.to_model_space(data[rows]))
            cells[rows] = self.model.cell_numbers(coarse)
        self.lists = self.lists.add(cells, codes, new_ids)

    def add_codes(
        self,
        codes: LOPQCode | Iterable[LOPQCode],
        ids: Iterable[int] | np.ndarray | None = None,
    ) -> None:
        """Add what `LOPQModel.encode` returned, or an iterable of what `predict` returned."""
        if not isinstance(codes, LOPQCode):
            codes = stacked(codes, self.model.num_coarse_splits, self.model.M)
        cells, packed = self.model.pack_codes(codes)
        self.lists = self.lists.add(cells, packed, self._new_ids(ids, len(cells)))

    def remove(self, ids: Iterable[int] | np.ndarray) -> None:
        """Remove codes by id; all must be there."""
        self.lists = self.lists.remove(as_ids(ids))

    def _new_ids(self, ids: Iterable[int] | np.ndarray | None, n: int) -> np.ndarray:
        if ids is not None:
            new_ids = as_ids(ids, n)
            self.lists.check_new(new_ids)
            return new_ids
        first = int(self.lists.ids.max()) + 1 if len(self.lists) else 0
        if first + n - 1 > LARGEST_ID:
            raise LOPQError(f"ids would go on from {first}, beyond 2**63 - 1; give ids=")
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
            queries: (n_query, dim_in) numbers.
            k: Neighbors wanted; where fewer are found, ids end in -1 and scores in -inf.
            quota: Candidates for each query: its nearest cells are scanned whole until they
                hold so many, and at least k and rerank; None scans all.
            rerank: Score the first ``rerank`` again, and at least k, from their ``vectors``;
                0 scores none again.
            vectors: (n, dim_in) array or memory map; row i is the vector of id i. Not read
                where ``rerank`` is 0.
            kernel: "decode" or "scan" (see `lopq.kernels`); "auto" takes what suits the batch.

        Returns:
            scores: (n_query, k) float32, descending: minus the squared L2 distance in model
                space, or with ``rerank`` in the input space. For unit vectors the inner
                product is 1 + score / 2.
            ids: (n_query, k) int64; equal scores by ascending id.
        """
        lists, k = self.lists, as_count(k, "k")
        first = max(k, as_count(rerank, "rerank", 0))
        if kernel not in ("auto", "decode", "scan"):
            raise LOPQError(f'kernel must be "auto", "decode" or "scan"; got {kernel!r}')
        if rerank and vectors is None:
            raise LOPQError("rerank needs vectors=, an array whose row i is the vector of id i")
        quota = len(lists) if quota is None else max(first, as_count(quota, "quota"))
        rows = as_vectors(queries, "queries", self.model.dim_in)
        scores = np.full((len(rows), k), -np.inf, np.float32)
        ids = np.full((len(rows), k), -1, np.int64)
        if len(lists) == 0 or len(rows) == 0:
            return scores, ids
        search = BatchSearch(
            self.model, lists, lambda: self._table_scan(lists), first, quota, kernel
        )
        reduced = self.model.to_model_space(rows)
        for block in row_blocks(len(rows), search.block_size):
            distances, found = search(reduced[block])
            if vectors is not None and rerank:
                distances, found = exact_order(rows[block], found, vectors)
            width = min(k, found.shape[1])
            scores[block, :width] = -distances[:, :width]
            ids[block, :width] = found[:, :width]
        return scores, ids

    def _table_scan(self, lists: CellLists) -> TableScan:
        """Return the index for table scans of ``lists``, made once for each state of them."""
        with self._lock:
            if self._scan is None or self._scan[0] is not lists:
                self._scan = (lists, TableScan(lists, self.model.codebooks))
            return self._scan[1]

    def save(self, path: str | Path) -> None:
        """Write the model and the database to one file (`lopq.storage`), whole or not at all."""
        arrays = {name: getattr(self.lists, name) for name in storage.LISTS}
        header, parameters = storage.describe_model(self.model)
        storage.write(path, "searcher", header, {**parameters, **arrays})

    @classmethod
    def load(cls, path: str | Path, verify: bool = True) -> "LOPQSearcher":
        """Read what `save` wrote; codes and ids stay in the file, as memory maps.

        Args:
            path: The file.
            verify: Compare the checksums of codes and ids as well, which reads them all.
        """
        header, arrays = storage.read(path, "searcher", verify)
        with storage.naming(path):
            searcher = cls(storage.restore_model(header, arrays))
            searcher.lists = CellLists(*(arrays[name] for name in storage.LISTS))
            n_cell = searcher.model.V**searcher.model.num_coarse_splits
            searcher.lists.check(n_cell, searcher.model.codebooks.code_bytes)
        return searcher
