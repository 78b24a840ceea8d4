"""The searcher: an index of codes to add to, remove from and search in batches."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lopq import storage
from lopq.codes import LOPQCode
from lopq.errors import LOPQError
from lopq.index.inverted_lists import InvertedLists, Rows
from lopq.index.refine import (
    Keep,
    check_keep,
    pack_vectors,
    rerank,
    row_reader,
    unpack_vectors,
    vector_bytes,
)
from lopq.index.snapshot import ALL_ALLOWED, Snapshot
from lopq.model import LOPQModel
from lopq.parallel import frozen, in_blocks, row_blocks
from lopq.validation import LARGEST_ID, as_count, as_ids, as_vectors, check_axes

QUERIES_PER_CALL = 8  # queries per call on a thread


class LOPQSearcher:
    """An index of codes.

    Searching is read-only, and several threads may search at once. `add_data`, `add_codes`,
    `remove` and `optimize` replace `snapshot` in one step; a running search finishes on the one it
    started with. Only one thread at a time may change the index.

    Args:
        model: A fitted `LOPQModel`.
        keep: "float16" or "int8" keeps the vectors too, in 2 * dim_in or dim_in + 4 bytes each,
            to re-rank from.
    """

    model_class: type[LOPQModel] = LOPQModel  # of the models that `load` returns

    def __init__(self, model: LOPQModel, keep: Keep = "none") -> None:
        self.model, self.keep = model, check_keep(keep)
        size = vector_bytes(self.keep, model.quantizer.dim_in)
        self.snapshot = Snapshot.of(InvertedLists.empty(model.format.code_bytes, size))

    def __len__(self) -> int:
        return len(self.snapshot)

    @property
    def ids(self) -> np.ndarray:
        """(n,) int64 ids of all codes, ascending."""
        return np.sort(self.snapshot.rows().ids)

    def add_data(self, data: np.ndarray, ids: Iterable[int] | np.ndarray | None = None) -> None:
        """Encode vectors and add their codes.

        Args:
            data: (n, dim_in) real numbers, array or memory map.
            ids: (n,) distinct integers from 0 to 2**63 - 1 that are not in the index yet; None
                continues from the largest id, also of a removed code, until `optimize`.
        """
        from tqdm import tqdm

        quantizer, format = self.model.quantizer, self.model.format
        check_axes(data, "data")
        n = len(data)
        new_ids = self._new_ids(ids, n)
        cells, codes = np.empty(n, np.int64), np.empty((n, format.code_bytes), np.uint8)
        vectors = np.empty((n, vector_bytes(self.keep, quantizer.dim_in)), np.uint8)
        blocks = list(row_blocks(n))
        for rows in tqdm(blocks, "encoding", disable=None if len(blocks) > 3 else True):
            block = as_vectors(data[rows], "data", quantizer.dim_in)
            coarse, codes[rows] = quantizer.encode(quantizer.reduced(block))
            cells[rows] = format.cell_numbers(coarse)
            vectors[rows] = pack_vectors(block, self.keep)
        self.snapshot = self.snapshot.add(Rows(cells, codes, new_ids, vectors))

    def add_codes(
        self,
        codes: LOPQCode | Iterable[LOPQCode],
        ids: Iterable[int] | np.ndarray | None = None,
    ) -> None:
        """Add codes: what `LOPQModel.encode` returns, or an iterable of codes of one vector."""
        if self.keep != "none":
            raise LOPQError(f"an index that keeps vectors (keep={self.keep!r}) takes add_data only")
        format = self.model.format
        coarse, fine = format.check(codes if isinstance(codes, LOPQCode) else format.stack(codes))
        cells, vectors = format.cell_numbers(coarse), np.empty((len(coarse), 0), np.uint8)
        new_ids = self._new_ids(ids, len(cells))
        self.snapshot = self.snapshot.add(Rows(cells, format.pack(fine), new_ids, vectors))

    def remove(self, ids: Iterable[int] | np.ndarray) -> None:
        """Remove codes by id; raise `LOPQError` if any id is missing.

        The search skips removed codes; `optimize` returns their memory.
        """
        self.snapshot = self.snapshot.remove(as_ids(ids))

    def optimize(self) -> None:
        """Sort added codes into the base of the index, and drop removed ones.

        Results stay the same. Searches on other threads go on with the old state meanwhile.
        Adding does the same when the added codes reach an eighth of the base, and removing when
        more codes are removed than left.
        """
        self.snapshot = self.snapshot.optimized()

    def _new_ids(self, ids: Iterable[int] | np.ndarray | None, n: int) -> np.ndarray:
        if ids is not None:
            new_ids = as_ids(ids, n)
            self.snapshot.check_new(new_ids)
            return new_ids
        first = self.snapshot.largest_id + 1
        if first + n - 1 > LARGEST_ID:
            raise LOPQError(f"ids would continue from {first}, beyond 2**63 - 1; pass ids=")
        return np.arange(first, first + n, dtype=np.int64) if n else np.zeros(0, np.int64)

    def search(
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
            queries: (n_query, dim_in) real numbers. One query q is q[None]: q alone is refused,
                because the old package's ``search(q, quota)`` returned other things.
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
        snapshot, k = self.snapshot, as_count(k, "k")
        count = max(k, as_count(rerank, "rerank", 0))
        if rerank and vectors is None and self.keep == "none":
            raise LOPQError(
                "rerank needs vectors=, an array whose row i is the vector of id i, or an index "
                "with keep="
            )
        quota = len(snapshot) if quota is None else max(count, as_count(quota, "quota"))
        quota = min(quota, len(snapshot))
        rows = as_vectors(queries, "queries", self.model.quantizer.dim_in)
        distances, ids, positions = self._nearest(snapshot, rows, count, quota, _as_mask(allowed))
        if rerank:
            distances, ids = self._reranked(snapshot, rows, ids, positions, vectors)
        return -distances[:, :k], ids[:, :k]

    def _nearest(
        self, snapshot: Snapshot, rows: np.ndarray, count: int, quota: int, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return squared distances, ids and positions of the nearest codes, (n, count) each."""
        from lopq.kernels import score_cells, search_snapshot

        model, codes = self.model.quantizer.model_arrays, snapshot.arrays(allowed)
        reduced = frozen(self.model.quantizer.reduced(rows))  # (n, dim)
        distances = np.empty((len(rows), count), np.float32)
        ids, positions = (np.empty((len(rows), count), np.int64) for _ in range(2))
        n_split, n_panel, _, width = model.panels.shape

        def call(block: slice) -> None:
            some = reduced[block]
            scores = np.empty((len(some) + 1, n_split, n_panel * width), np.float32)
            score_cells(
                frozen(some - model.origins.ravel()), model.panels, model.half_norms, scores
            )
            outputs = distances[block], ids[block], positions[block]
            search_snapshot(some, scores, codes, model, quota, *outputs)

        in_blocks(call, len(rows), QUERIES_PER_CALL)
        return distances, ids, positions

    def _reranked(
        self,
        snapshot: Snapshot,
        rows: np.ndarray,
        ids: np.ndarray,
        positions: np.ndarray,
        vectors: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return exact distances and ids, from given vectors or those of the index."""
        if vectors is not None:
            return rerank(rows, ids, ids, row_reader(vectors, ids, rows.shape[1]))

        def kept(some: np.ndarray) -> np.ndarray:
            return unpack_vectors(snapshot.vectors_at(some), self.keep)

        return rerank(rows, ids, positions, kept)

    def save(self, path: str | Path) -> None:
        """Write model and index atomically to one file; `lopq.storage` describes the format."""
        arrays = {
            **self.model.quantizer.arrays(),
            **self.snapshot.optimized().base.arrays(self.keep),
        }
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
            lists, keep = InvertedLists.from_arrays(arrays)
            searcher = cls(cls.model_class.restored(header, arrays), keep)
            format, dim_in = searcher.model.format, searcher.model.quantizer.dim_in
            lists.check(format.n_cell, format.code_bytes, vector_bytes(keep, dim_in))
            searcher.snapshot = Snapshot.of(lists)
        return searcher


def _as_mask(allowed: np.ndarray | None) -> np.ndarray:
    """Return the checked mask of allowed ids; an empty one allows all."""
    if allowed is None:
        return ALL_ALLOWED
    mask = np.asarray(allowed)
    if mask.dtype != bool or mask.ndim != 1:
        raise LOPQError(f"allowed must be (n,) bool; got {mask.dtype} of shape {mask.shape}")
    return mask if len(mask) else np.zeros(1, bool)
