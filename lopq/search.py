"""The searcher: a database of codes, searched in batches."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lopq import storage
from lopq.codes import LOPQCode
from lopq.database import ALL_ALLOWED, Database
from lopq.errors import LARGEST_ID, LOPQError, as_count, as_ids, as_vectors, check_axes, row_blocks
from lopq.kept import kept_bytes, pack, unpack
from lopq.lists import CellLists
from lopq.model import LOPQModel
from lopq.probes import multisequence as multisequence  # the old package has it here too
from lopq.ranking import exact_order, rows_of
from lopq.single import SingleSearch

QUERIES_AT_ONCE = 8  # queries per call on a thread


class LOPQSearcher(SingleSearch):
    """A database of codes.

    Searching is read-only, and several threads may search at once. `add_data`, `add_codes`,
    `remove` and `optimize` replace the state of the database in one step; a running search
    finishes on the state it started with. Only one thread at a time may change the database.

    Args:
        model: A fitted `LOPQModel`.
        keep: "float16" or "int8" keeps the vectors too, in 2 * dim_in or dim_in + 4 bytes each,
            to re-rank from.
    """

    def __len__(self) -> int:
        return len(self.database)

    @property
    def ids(self) -> np.ndarray:
        """(n,) int64 ids of all codes, ascending."""
        return np.sort(self.database.optimized().lists.ids)

    def add_data(
        self, data: np.ndarray, ids: Iterable[int] | np.ndarray | None = None, num_procs: int = 1
    ) -> None:
        """Encode vectors and add their codes.

        Args:
            data: (n, dim_in) real numbers, array or memory map.
            ids: (n,) distinct integers from 0 to 2**63 - 1 that are not in the index yet; None
                continues from the largest id, also of a removed code, until `optimize`. (The old
                package restarted at 0 in each call.)
            num_procs: Ignored; ``faiss.omp_set_num_threads`` sets the number of threads.
        """
        from tqdm import tqdm

        quantizer = self.model.quantizer
        check_axes(data, "data")
        new_ids = self._new_ids(ids, len(data))
        cells = np.empty(len(data), np.int64)
        codes = np.empty((len(data), quantizer.codebooks.code_bytes), np.uint8)
        kept = np.empty((len(data), kept_bytes(self.keep, quantizer.dim_in)), np.uint8)
        blocks = list(row_blocks(len(data)))
        for rows in tqdm(blocks, "encoding", disable=None if len(blocks) > 3 else True):
            vectors = as_vectors(data[rows], "data", quantizer.dim_in)
            coarse, codes[rows] = quantizer.encode(quantizer.reduced(vectors))
            cells[rows] = quantizer.format.cell_numbers(coarse)
            kept[rows] = pack(vectors, self.keep)
        self.database = self.database.add(cells, codes, new_ids, kept)

    def add_codes(
        self,
        codes: LOPQCode | Iterable[LOPQCode],
        ids: Iterable[int] | np.ndarray | None = None,
    ) -> None:
        """Add codes: what `LOPQModel.encode` returns, or an iterable of what `predict` returns."""
        if self.keep != "none":
            raise LOPQError(f"an index that keeps vectors (keep={self.keep!r}) takes add_data only")
        quantizer = self.model.quantizer
        if not isinstance(codes, LOPQCode):
            codes = quantizer.format.stack(codes)
        coarse, fine = quantizer.format.check(codes)
        cells, packed = quantizer.format.cell_numbers(coarse), quantizer.codebooks.pack(fine)
        nothing = np.empty((len(cells), 0), np.uint8)
        self.database = self.database.add(cells, packed, self._new_ids(ids, len(cells)), nothing)

    def remove(self, ids: Iterable[int] | np.ndarray) -> None:
        """Remove codes by id; raise `LOPQError` if any id is missing.

        The search skips removed codes; `optimize` returns their memory.
        """
        self.database = self.database.remove(as_ids(ids))

    def optimize(self) -> None:
        """Sort codes that were added to a larger database, and drop removed ones.

        Results stay the same. Searches on other threads go on with the old state meanwhile.
        Adding does the same when the added codes reach an eighth of the sorted ones, and removing
        when more codes are removed than left.
        """
        self.database = self.database.optimized()

    def _new_ids(self, ids: Iterable[int] | np.ndarray | None, n: int) -> np.ndarray:
        if ids is not None:
            new_ids = as_ids(ids, n)
            self.database.check_new(new_ids)
            return new_ids
        first = self.database.largest_id + 1
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
        allowed: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k nearest codes of each query, best first.

        Args:
            queries: (n_query, dim_in) real numbers.
            k: Neighbors per query; missing ones have id -1 and score -inf.
            quota: Candidates per query, at least k and rerank. The nearest cells are scanned
                whole until they hold this many; None scans all cells.
            rerank: Re-rank the first max(k, rerank) candidates by the distances of their vectors;
                0 does not re-rank.
            vectors: (n, dim_in) array or memory map; row i is the vector with id i. Read only
                for re-ranking. None takes what the index keeps.
            allowed: (n,) bool; only ids i with allowed[i] are candidates. None allows all. More
                cells are scanned until they hold enough.

        Returns:
            scores: (n_query, k) float32, descending: the negative squared L2 distance in model
                space, or in the input space after re-ranking. For unit vectors the inner product
                is 1 + score / 2.
            ids: (n_query, k) int64; equal scores by ascending id.

        Raises:
            LOPQError: Wrong shapes or values, an option out of range, or vectors that lack the
                row of a candidate.
        """
        quantizer, database, k = self.model.quantizer, self.database, as_count(k, "k")
        first = max(k, as_count(rerank, "rerank", 0))
        if rerank and vectors is None and self.keep == "none":
            raise LOPQError(
                "rerank needs vectors=, an array whose row i is the vector of id i, or an index "
                "with keep="
            )
        quota = len(database) if quota is None else max(first, as_count(quota, "quota"))
        quota = min(quota, len(database))
        rows = as_vectors(queries, "queries", quantizer.dim_in)
        distances, ids, positions = self._nearest(database, rows, first, quota, _as_mask(allowed))
        if rerank and vectors is not None:
            distances, ids = exact_order(rows, ids, ids, rows_of(vectors, ids, rows.shape[1]))
        elif rerank:
            distances, ids = exact_order(
                rows, ids, positions, lambda some: unpack(database.kept_at(some), self.keep)
            )
        return -distances[:, :k], ids[:, :k]

    def _nearest(
        self, database: Database, rows: np.ndarray, count: int, quota: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return squared distances, ids and positions of the nearest codes, (n, count) each."""
        from lopq.kernels import cell_scores, search_rows
        from lopq.threads import frozen, in_blocks

        model, codes = self.model.quantizer.model_arrays, database.arrays(allowed)
        reduced = frozen(self.model.quantizer.reduced(rows))
        distances = np.empty((len(rows), count), np.float32)
        ids, positions = (np.empty((len(rows), count), np.int64) for _ in range(2))
        n_split, n_panel, _, width = model.panels.shape

        def call(block: slice) -> None:
            some = reduced[block]
            scores = np.empty((len(some) + 1, n_split, n_panel * width), np.float32)
            cell_scores(frozen(some - model.origins.ravel()), model.panels, model.halves, scores)
            outputs = distances[block], ids[block], positions[block]
            search_rows(some, scores, codes, model, quota, *outputs)

        in_blocks(call, len(rows), QUERIES_AT_ONCE)
        return distances, ids, positions

    def save(self, path: str | Path) -> None:
        """Write model and database atomically to one file; `lopq.storage` describes the format."""
        lists = self.database.optimized().lists
        arrays = {**self.model.quantizer.arrays(), **lists.arrays(self.keep)}
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
            lists, keep = CellLists.from_arrays(arrays)
            searcher = cls(LOPQModel.restored(header, arrays), keep)
            quantizer = searcher.model.quantizer
            width = kept_bytes(keep, quantizer.dim_in)
            lists.check(quantizer.format.n_cell, quantizer.codebooks.code_bytes, width)
            searcher.database = Database.of(lists)
        return searcher


def _as_mask(allowed: np.ndarray | None) -> np.ndarray:
    """Return the checked mask of allowed ids; an empty one allows all."""
    if allowed is None:
        return ALL_ALLOWED
    mask = np.asarray(allowed)
    if mask.dtype != bool or mask.ndim != 1:
        raise LOPQError(f"allowed must be (n,) bool; got {mask.dtype} of shape {mask.shape}")
    return mask if len(mask) else np.zeros(1, bool)
