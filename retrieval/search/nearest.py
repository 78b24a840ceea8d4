"""Exact search by maximum inner product, with masks, defined ties and bounded memory.

The order is (similarity descending, Index ascending). An image that may not be retrieved is never
scored, so that no score can fall below it. Products are in float32; where their rounding may decide
the order, as between equal images, `float64_scores` decides.

With ``is_shared``, torchrun's processes call with equal arguments. Each searches its part of the
gallery, and all return what one process would.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from retrieval.compute import distributed
from retrieval.data.formats import InputError
from retrieval.search import float64_scores
from retrieval.search.blocked_scores import score_blocks, shape_of_blocks
from retrieval.threads import parts_for, worker_threads

SPARE = 8  # extra neighbors, as the last one asked for may tie with others


def nearest_neighbors(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    is_allowed: np.ndarray | None = None,
    batch_size: int = 1024,
    device: str = "cpu",
    is_shared: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` most similar gallery rows of each query, best first.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        k: Neighbors of each query.
        is_allowed: (n_gallery,) bool: rows that may be returned; None allows all.
        batch_size: Queries for which the gallery is read once.
        device: Where to compute: ``cpu``, ``cuda`` or ``cuda:n``.
        is_shared: Divide the gallery among torchrun's processes.

    Returns:
        ids: (n_query, k) int64 rows of the gallery, -1 where fewer than ``k`` are allowed.
        similarities: (n_query, k) float32 inner products, descending, -inf with an id of -1.

    >>> ids, _ = nearest_neighbors(np.eye(2, dtype="f4"), np.eye(2, dtype="f4")[::-1], k=1)
    >>> ids.ravel().tolist()
    [1, 0]
    """
    if k < 1:
        raise InputError(f"k must be at least 1; got {k}")
    rows = searched_rows(len(gallery), is_allowed, device, is_shared)

    def best_of(some: np.ndarray, n: int, is_exact: bool) -> tuple[np.ndarray, np.ndarray]:
        found = _scan(some, gallery, rows, n, batch_size, device, is_exact)
        return _merge_processes(*found) if is_shared else found

    ids, similarities = best_of(queries, k + SPARE, False)
    slack = 2 * float64_scores.rounding(queries)
    is_near = similarities[:, 1:] + slack >= similarities[:, :-1]
    is_near &= ids[:, 1:] >= 0
    _settle(queries, gallery, ids, similarities, is_near)
    # If the last kept may tie with the last wanted, neighbors that were not kept may, too.
    is_open = similarities[:, -1] + slack[:, 0] >= similarities[:, k - 1]
    is_open &= ids[:, -1] >= 0
    ids, similarities = ids[:, :k], similarities[:, :k]
    if is_open.any():
        ids[is_open], similarities[is_open] = best_of(queries[is_open], k, True)
    return ids, similarities


def without_own(
    ids: np.ndarray, similarities: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Remove each query's own row from its neighbors, or the last neighbor if it is not there.

    Args:
        ids: (n_query, k + 1) int64.
        similarities: (n_query, k + 1) float32.
        own: (n_query,) int64, the row of the gallery that each query is.

    Returns:
        ids, similarities: (n_query, k), in the same order.

    >>> without_own(np.array([[4, 7, 2], [5, 4, 1]]), np.zeros((2, 3)), np.array([7, 9]))[0]
    array([[4, 2],
           [5, 4]])
    """
    is_own = ids == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True
    shape = len(ids), ids.shape[1] - 1
    return ids[~is_own].reshape(shape), similarities[~is_own].reshape(shape)


def _scan(
    queries: np.ndarray,
    gallery: np.ndarray,
    rows: np.ndarray,
    k: int,
    batch_size: int,
    device: str,
    is_exact: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores of the best of some rows of the gallery, as `nearest_neighbors`."""
    import faiss

    best = _Best(len(queries), k)
    n_thread = worker_threads()
    # faiss's own threads would spin beside the next product, so each of ours runs it alone.
    with ThreadPoolExecutor(n_thread, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        for block in score_blocks(queries, gallery, rows, batch_size, device, is_exact=is_exact):
            scores, ids, first = block.scores(), block.ids, block.queries.start
            if block.is_on_gpu:
                from retrieval.search import gpu_scores

                least = best.least(block.queries)
                best.add(first, *gpu_scores.candidates(scores, ids, least, k))
                continue
            parts = np.array_split(scores, parts_for(n_thread))
            starts = first + np.cumsum([0, *map(len, parts[:-1])])
            list(pool.map(best.add, starts.tolist(), parts, [ids] * len(parts)))
    return best.ranked()


def _settle(
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    similarities: np.ndarray,
    is_near: np.ndarray,
) -> None:
    """Sort neighbors whose scores are too near for float32 by exact scores, in place.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32.
        ids: (n_query, k) int64.
        similarities: (n_query, k) float32, descending.
        is_near: (n_query, k - 1) bool: whether a neighbor is near the next one.
    """
    is_unsure = np.zeros(ids.shape, bool)
    is_unsure[:, :-1] |= is_near
    is_unsure[:, 1:] |= is_near
    rows, columns = np.nonzero(is_unsure)
    similarities[rows, columns] = float64_scores.inner_products(
        queries, gallery, rows, ids[rows, columns]
    )
    changed = np.unique(rows)
    order = np.lexsort((ids[changed], -similarities[changed]), axis=1)
    for array in (ids, similarities):
        array[changed] = np.take_along_axis(array[changed], order, axis=1)


def searched_rows(
    n_gallery: int,
    is_allowed: np.ndarray | None,
    device: str = "cpu",
    is_shared: bool = False,
) -> np.ndarray:
    """Return the rows of the gallery that this process searches, (n,) int64, ascending.

    Parts of processes begin where blocks of one process do.
    """
    rows = np.arange(n_gallery) if is_allowed is None else np.flatnonzero(is_allowed)
    if not is_shared:
        return rows
    _, n_column = shape_of_blocks(device)
    part = distributed.own_part(len(rows), n_column)
    return rows[part.start : part.stop]


class _Best:
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


def _merge_processes(ids: np.ndarray, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of all processes; their parts of the gallery are in the order of ids."""
    all_ids = np.concatenate(distributed.gather(ids), axis=1)
    all_similarities = np.concatenate(distributed.gather(similarities), axis=1)
    order = np.argsort(-all_similarities, axis=1, kind="stable")[:, : ids.shape[1]]
    ids, similarities = (np.take_along_axis(a, order, axis=1) for a in (all_ids, all_similarities))
    return ids, similarities
