"""Exact search: maximum inner product, with masks, ties and memory under control.

The order is (similarity descending, Index ascending). An image that may not be retrieved is never
scored, so that no score can fall below it. Products are taken in float32; what their rounding may
have decided, such as the order of equal images, is settled by exact ones (``exact``).

With ``is_shared``, the processes of torchrun call with equal arguments, each searches its part of
the gallery, and all return the same: what one process would.
"""

from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import torch

from retrieval.compute import distributed
from retrieval.data.formats import InputError
from retrieval.search import float64_scores
from retrieval.search.blocked_scores import SHAPES, tiles

SPARE = 8  # more neighbors than asked for: the last one asked for is level with few others


def nearest_neighbors(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    is_allowed: np.ndarray | None = None,
    batch_size: int = 1024,
    device: torch.device | None = None,
    is_shared: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` most similar gallery rows of each query, best first.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        k: Neighbors of each query.
        is_allowed: (n_gallery,) bool: rows that may be returned; all where it is None.
        batch_size: Queries for which the gallery is read once.
        device: Where to compute; the CPU where it is None.
        is_shared: Divide the gallery among the processes of torchrun.

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
    # Where the last kept may be level with the last wanted, others may be, too.
    is_open = similarities[:, -1] + slack[:, 0] >= similarities[:, k - 1]
    is_open &= ids[:, -1] >= 0
    ids, similarities = ids[:, :k], similarities[:, :k]
    if is_open.any():
        ids[is_open], similarities[is_open] = best_of(queries[is_open], k, True)
    return ids, similarities


def _scan(
    queries: np.ndarray,
    gallery: np.ndarray,
    rows: np.ndarray,
    k: int,
    batch_size: int,
    device: torch.device | None,
    is_exact: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores of the best of some rows of the gallery, as ``nearest``."""
    best = _Best(len(queries), k)
    n_thread = torch.get_num_threads()
    # Threads of faiss would be left spinning beside the next product: each of ours is one.
    with ThreadPoolExecutor(n_thread, initializer=faiss.omp_set_num_threads, initargs=(1,)) as pool:
        for tile in tiles(queries, gallery, rows, batch_size, device, is_exact=is_exact):
            scores, ids = tile.scores(), tile.ids
            if scores.is_cuda:
                best.add(tile.queries.start, *_candidates(scores, ids, best.least(tile.queries), k))
                continue
            parts = np.array_split(scores.numpy(), n_thread)
            starts = tile.queries.start + np.cumsum([0, *map(len, parts[:-1])])
            list(pool.map(best.add, starts.tolist(), parts, [ids] * n_thread))
    return best.ranked()


def _settle(
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    similarities: np.ndarray,
    is_near: np.ndarray,
) -> None:
    """Order those neighbors anew, in place, whose scores are too near for float32.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32.
        ids: (n_query, k) int64.
        similarities: (n_query, k) float32, descending.
        is_near: (n_query, k - 1) bool: whether each is near the next one.
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
    device: torch.device | None = None,
    is_shared: bool = False,
) -> np.ndarray:
    """Return the rows of the gallery that this process searches, (n,) int64, ascending.

    Parts of processes begin where tiles of one process do.
    """
    rows = np.arange(n_gallery) if is_allowed is None else np.flatnonzero(is_allowed)
    if not is_shared:
        return rows
    _, n_column = SHAPES[device.type if device else "cpu"]
    part = distributed.own_part(len(rows), n_column)
    return rows[part.start : part.stop]


class _Best:
    """The best rows of the gallery for each query so far: a heap of faiss for each.

    Of level scores, a heap gives up the smaller id first; here it is to be the larger one. So ids
    are kept as keys that descend, below -1, which faiss has for places that are empty.
    """

    def __init__(self, n_query: int, k: int) -> None:
        self._scores = np.empty((n_query, k), np.float32)
        self._keys = np.empty((n_query, k), np.int64)
        self._heaps = faiss.float_minheap_array_t()
        self._heaps.nh, self._heaps.k = n_query, k
        self._heaps.val = faiss.swig_ptr(self._scores)
        self._heaps.ids = faiss.swig_ptr(self._keys)
        self._heaps.heapify()

    def add(self, first: int, scores: np.ndarray, ids: np.ndarray) -> None:
        """Take in what is better; ids that are level must come in ascending order.

        Args:
            first: Of the queries.
            scores: (n_query, n) float32.
            ids: (n,) int64, or (n_query, n) for each query others.
        """
        (n_query, n), keys = scores.shape, -2 - ids
        stride = n if keys.ndim == 2 else 0
        values, labels = faiss.swig_ptr(scores), faiss.swig_ptr(keys)
        # Its stub knows of four arguments.
        self._heaps.addn_with_ids(n, values, labels, stride, first, n_query)  # type: ignore[call-arg]

    def least(self, queries: slice) -> np.ndarray:
        """Return the score that is to be exceeded, (n_query, 1) float32."""
        return self._scores[queries, :1]

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """End the search: return ids and scores, best first, level ones by ascending id."""
        self._heaps.reorder()
        is_filled = self._keys != -1
        self._scores[~is_filled] = -np.inf
        return np.subtract(-2, self._keys, out=self._keys, where=is_filled), self._scores


def _candidates(
    scores: torch.Tensor, ids: np.ndarray, least: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return, of each row, what may be among its ``k`` best, without copying all of it.

    Args:
        scores: (n_query, n) float32, on a GPU.
        ids: (n,) int64.
        least: (n_query, 1) float32: what is to be exceeded.
        k: Neighbors of each query.

    Returns:
        scores: (n_query, m) float32, filled up with -inf.
        ids: (n_query, m) int64, ascending.
    """
    kth = scores.topk(min(k, scores.shape[1])).values[:, -1:]
    # Of those that are level with the k-th, the first k are enough.
    is_level = scores == kth
    is_level &= is_level.cumsum(1, dtype=torch.int32) <= k
    is_candidate = is_level | (scores > kth)
    is_candidate &= scores > torch.from_numpy(least).to(scores.device)
    row, column = (places.cpu().numpy() for places in is_candidate.nonzero(as_tuple=True))
    counts = np.bincount(row, minlength=len(scores))
    place = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
    found = np.full((len(scores), counts.max(initial=1)), -np.inf, np.float32)
    found_ids = np.zeros(found.shape, np.int64)
    found[row, place], found_ids[row, place] = scores[is_candidate].cpu().numpy(), ids[column]
    return found, found_ids


def _merge_processes(ids: np.ndarray, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of all processes; their parts of the gallery are in the order of ids."""
    all_ids = np.concatenate(distributed.gather(ids), axis=1)
    all_similarities = np.concatenate(distributed.gather(similarities), axis=1)
    order = np.argsort(-all_similarities, axis=1, kind="stable")[:, : ids.shape[1]]
    ids, similarities = (np.take_along_axis(a, order, axis=1) for a in (all_ids, all_similarities))
    return ids, similarities
