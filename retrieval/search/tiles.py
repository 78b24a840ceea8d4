"""Inner products of queries and gallery, tile by tile, in constant memory, and the best of them.

A BLAS sums in an order that depends on the shape of a product. So the shapes depend only on the
numbers of queries and rows, not on the batch or the process, and scores agree to the last bit.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from retrieval.compute import distributed
from retrieval.data.formats import InputError
from retrieval.search.products import multiply
from retrieval.threads import parts_for, worker_threads

# Queries and gallery rows of a tile. On a CPU its scores stay in the cache until they are ranked.
SHAPES = {"cpu": (1024, 4096), "cuda": (1024, 65_536)}
MULTIPLE = 16  # tiles have equally many queries, filled up to a multiple of this


class Tile(NamedTuple):
    """The scores of some queries and some rows of the gallery.

    Attributes:
        queries: Rows of the queries.
        ids: (n,) int64 rows of the gallery, ascending.
        scores: (n_query, n) float32 inner products, an array on a CPU and a tensor on a GPU; the
            next tile may overwrite them.
    """

    queries: slice
    ids: np.ndarray
    scores: Any

    @property
    def is_on_gpu(self) -> bool:
        return not isinstance(self.scores, np.ndarray)


def searched_rows(
    n_gallery: int,
    is_allowed: np.ndarray | None,
    device: str = "cpu",
    is_shared: bool = False,
) -> np.ndarray:
    """Return the rows of the gallery that this process searches, (n,) int64, ascending.

    Parts of processes begin where tiles of one process do.
    """
    rows = np.arange(n_gallery) if is_allowed is None else np.flatnonzero(is_allowed)
    if not is_shared:
        return rows
    part = distributed.own_part(len(rows), _shape(device)[1])
    return rows[part.start : part.stop]


def score_tiles(
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    batch_size: int,
    device: str = "cpu",
    title: str = "search",
    is_exact: bool = False,
) -> Iterator[Tile]:
    """Yield all queries against the rows ``ids`` of the gallery; for each query, ids ascend.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        ids: (n,) int64 rows of the gallery, ascending.
        batch_size: Queries for which the gallery is read once, rounded up to whole tiles.
        device: Where to compute: ``cpu``, ``cuda`` or ``cuda:n``.
        title: Label of the progress bar.
        is_exact: Sum in float64 and round to float32, as `exact.inner_products`.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    most_queries, n_column = _shape(device)
    n_tile = max(1, -(-len(queries) // most_queries))
    n_row = min(most_queries, _round_up(max(1, -(-len(queries) // n_tile)), MULTIPLE))
    step = _round_up(batch_size, n_row)
    dtype = np.dtype(np.float64 if is_exact else np.float32)
    arrays = _arrays_of(device)
    products = arrays.empty(n_row * n_column, dtype.name, device)
    buffer = np.empty((n_column, gallery.shape[1]), dtype)
    starts = [(q, g) for q in range(0, len(queries), step) for g in range(0, len(ids), n_column)]
    quiet = None if distributed.is_main() else True
    for start, first in tqdm(starts, desc=title, unit="tile", disable=quiet, leave=False):
        if first == 0:
            left = arrays.copied(_padded(queries[start : start + step], n_row, dtype), device)
        some = ids[first : first + n_column]
        product = products[: n_row * len(some)].reshape(n_row, len(some))
        right = _rows(gallery, some, buffer[: len(some)], device == "cpu")
        right = arrays.copied(right, device)
        for row in range(start, min(start + step, len(queries)), n_row):
            chosen = slice(row, min(row + n_row, len(queries)))
            scores = arrays.scores(left[row - start : row - start + n_row], right, product)
            yield Tile(chosen, some, scores[: chosen.stop - chosen.start])


def best_rows(
    queries: np.ndarray,
    gallery: np.ndarray,
    rows: np.ndarray,
    k: int,
    batch_size: int = 1024,
    device: str = "cpu",
    is_exact: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` best of some rows of the gallery by the scores of `score_tiles`.

    Returns:
        ids: (n_query, k) int64 rows of the gallery, best first, equal scores by ascending id; -1
            where there are fewer.
        scores: (n_query, k) float32, -inf with an id of -1.
    """
    import faiss

    best = BestRows(len(queries), k)
    n_thread = worker_threads()
    # faiss's own threads would spin beside the next product, so each of ours runs it alone.
    with ThreadPoolExecutor(n_thread, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        for tile in score_tiles(queries, gallery, rows, batch_size, device, is_exact=is_exact):
            first = tile.queries.start
            if tile.is_on_gpu:
                from retrieval.search import gpu_tiles

                least = best.least(tile.queries)
                best.add(first, *gpu_tiles.candidates(tile.scores, tile.ids, least, k))
                continue
            parts = np.array_split(tile.scores, parts_for(n_thread))
            starts = first + np.cumsum([0, *map(len, parts[:-1])])
            list(pool.map(best.add, starts.tolist(), parts, [tile.ids] * len(parts)))
    return best.ranked()


class BestRows:
    """The best rows of the gallery for each query so far, in one heap of faiss per query.

    Between equal scores, a heap drops the smaller id first, where the larger one should go. So the
    heaps hold descending keys below -1, the id that faiss gives to empty places.
    """

    def __init__(self, n_query: int, k: int) -> None:
        import faiss

        self._scores = np.empty((n_query, k), np.float32)
        self._keys = np.empty((n_query, k), np.int64)
        self._heaps = faiss.float_minheap_array_t()
        self._heaps.nh, self._heaps.k = n_query, k
        self._heaps.val = faiss.swig_ptr(self._scores)
        self._heaps.ids = faiss.swig_ptr(self._keys)
        self._heaps.heapify()

    def add(self, first: int, scores: np.ndarray, ids: np.ndarray) -> None:
        """Add better scores; ids of equal scores must come in ascending order.

        Args:
            first: The first query's row.
            scores: (n_query, n) float32.
            ids: (n,) int64 for all queries, or (n_query, n) for each.
        """
        import faiss

        (n_query, n), keys = scores.shape, -2 - ids
        stride = n if keys.ndim == 2 else 0
        values, labels = faiss.swig_ptr(scores), faiss.swig_ptr(keys)
        # The type stub lists only four arguments.
        self._heaps.addn_with_ids(n, values, labels, stride, first, n_query)  # type: ignore[call-arg]

    def least(self, queries: slice) -> np.ndarray:
        """Return the score to exceed, (n_query, 1) float32."""
        return self._scores[queries, :1]

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and scores, best first, equal scores by ascending id; ends the search."""
        self._heaps.reorder()
        is_filled = self._keys != -1
        self._scores[~is_filled] = -np.inf
        return np.subtract(-2, self._keys, out=self._keys, where=is_filled), self._scores


def _shape(device: str) -> tuple[int, int]:
    """Return the most queries and gallery rows of a tile on a device."""
    return SHAPES[device.partition(":")[0]]


class _Cpu:
    """What `gpu_tiles` is for a GPU."""

    @staticmethod
    def empty(size: int, dtype: str, _: str) -> np.ndarray:
        return np.empty(size, dtype)

    @staticmethod
    def copied(rows: np.ndarray, _: str) -> np.ndarray:
        return rows

    @staticmethod
    def scores(queries: np.ndarray, gallery: np.ndarray, product: np.ndarray) -> np.ndarray:
        return multiply(queries, gallery.T, out=product).astype(np.float32, copy=False)


def _arrays_of(device: str) -> Any:
    """Return what makes and multiplies arrays on a device."""
    if device == "cpu":
        return _Cpu
    from retrieval.search import gpu_tiles

    return gpu_tiles


def _padded(queries: np.ndarray, multiple: int, dtype: np.dtype) -> np.ndarray:
    padded = np.zeros((_round_up(len(queries), multiple), queries.shape[1]), dtype)
    padded[: len(queries)] = queries
    return padded


def _rows(
    gallery: np.ndarray, ids: np.ndarray, buffer: np.ndarray, may_be_mapped: bool
) -> np.ndarray:
    """Return the rows ``ids`` of the gallery, without a copy if possible."""
    if ids[-1] - ids[0] == len(ids) - 1:  # no gap between them
        rows = gallery[ids[0] : ids[-1] + 1]
        if may_be_mapped and gallery.dtype == buffer.dtype and gallery.flags.c_contiguous:
            return np.asarray(rows)
        buffer[:] = rows
    elif gallery.dtype == buffer.dtype:
        np.take(gallery, ids, axis=0, out=buffer, mode="clip")  # "raise" would copy once more
    else:
        buffer[:] = gallery[ids]
    return buffer


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
