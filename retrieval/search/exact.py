"""Exact search by maximum inner product, with masks, defined ties and bounded memory.

The order is (similarity descending, row ascending). A row that may not be retrieved is never
scored, so that no score can fall below it. Candidates come from float32 products (`tiles`); where
their rounding may decide the order, as between equal images, `ranked_exactly` sums in float64: a
BLAS rounds a float32 sum by its place in the product, so that copies of one image may differ in the
last bits, and differ otherwise on another device.

With ``is_shared``, torchrun's processes call with equal arguments. Each searches its part of the
gallery, and all return what one process would.
"""

from collections.abc import Sequence

import numpy as np

from retrieval.compute import distributed
from retrieval.data.formats import InputError
from retrieval.search import tiles
from retrieval.threads import in_threads, worker_threads

SPARE = 8  # more candidates than asked for, as the last one may tie with others
BLOCK_VALUES = 1 << 21  # values at once: 16 MB in float64


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
    rows = tiles.searched_rows(len(gallery), is_allowed, device, is_shared)

    def best_of(some: np.ndarray, n: int, is_exact: bool) -> tuple[np.ndarray, np.ndarray]:
        found = tiles.best_rows(some, gallery, rows, n, batch_size, device, is_exact)
        return _merge_processes(*found) if is_shared else found

    ids, similarities = ranked_exactly(queries, gallery, *best_of(queries, k + SPARE, False))
    is_open = may_tie(queries, ids, similarities, k)
    ids, similarities = ids[:, :k], similarities[:, :k]
    if is_open.any():
        ids[is_open], similarities[is_open] = best_of(queries[is_open], k, True)
    return ids, similarities


def ranked_exactly(
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: np.ndarray,
    similarities: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Sort each query's candidates by exact scores, equal ones by row.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        ids: (n_query, n) int64 rows of the gallery, -1 where there is none.
        similarities: (n_query, n) float32 products, descending: only those too near to the next
            for float32 are computed exactly. None: all are, and ids may be in any order.

    Returns:
        ids: (n_query, n) int64, those of -1 last.
        similarities: (n_query, n) float32, -inf with an id of -1.
    """
    is_unsure = ids >= 0
    if similarities is None:
        similarities = np.full(ids.shape, -np.inf, np.float32)
    else:
        slack = 2 * rounding(queries)
        is_near = (similarities[:, 1:] + slack >= similarities[:, :-1]) & is_unsure[:, 1:]
        is_unsure = np.zeros(ids.shape, bool)
        is_unsure[:, :-1] |= is_near
        is_unsure[:, 1:] |= is_near
    rows, columns = np.nonzero(is_unsure)
    similarities[rows, columns] = inner_products(queries, gallery, rows, ids[rows, columns])
    changed = np.unique(rows)
    order = np.lexsort((ids[changed], -similarities[changed]), axis=1)
    for array in (ids, similarities):
        array[changed] = np.take_along_axis(array[changed], order, axis=1)
    return ids, similarities


def may_tie(queries: np.ndarray, ids: np.ndarray, similarities: np.ndarray, k: int) -> np.ndarray:
    """Return whether a row that is no candidate may tie with the ``k``-th, (n_query,) bool.

    That is so where the last candidate may; the arrays are those of `ranked_exactly`.
    """
    slack = 2 * rounding(queries)[:, 0]
    return (similarities[:, -1] + slack >= similarities[:, k - 1]) & (ids[:, -1] >= 0)


def inner_products(
    queries: np.ndarray, gallery: np.ndarray, rows: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    """Return the inner products of pairs of rows, summed in float64 and rounded to float32.

    They depend on the two rows alone: they are the same for equal rows, everywhere.

    Args:
        queries: (n_query, dim) float32.
        gallery: (n_gallery, dim) float32, may be a memory map.
        rows: (n,) int64 rows of the queries.
        ids: (n,) int64 rows of the gallery.

    Returns:
        (n,) float32.

    >>> inner_products(np.ones((1, 3), "f4"), np.eye(3, dtype="f4"), np.array([0]), np.array([2]))
    array([1.], dtype=float32)
    """
    products = np.empty(len(rows), np.float32)
    step = max(1, BLOCK_VALUES // queries.shape[1])

    def fill(start: int) -> None:
        part = slice(start, start + step)
        terms = queries[rows[part]].astype(np.float64)
        terms *= gallery[ids[part]]
        products[part] = terms.sum(axis=1)  # pairwise, in an order that no place changes

    in_threads(fill, range(0, max(1, len(rows)), step), worker_threads())
    return products


def rounding(queries: np.ndarray) -> np.ndarray:
    """Return by how much a float32 inner product of each query may be off, (n_query, 1) float32.

    That is ``u (2 + sqrt(dim))`` times both norms, u = 2 ** -24: errors of single sums add up
    like random ones (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis,
    SIAM J. Sci. Comput. 2019). Rows of the gallery count as long as the longest query.
    """
    norms = np.linalg.norm(queries, axis=1, keepdims=True)
    return 2.0**-24 * (2 + queries.shape[1] ** 0.5) * norms * norms.max(initial=0)


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


def recall_of_exact(exact: np.ndarray, found: Sequence[np.ndarray]) -> float:
    """Return the share of the exact neighbors that an approximate search found.

    Args:
        exact: (n_query, k) int64 rows or ids, none twice in a row.
        found: What was found for each query, (n,) int64 of any length.

    >>> recall_of_exact(np.array([[1, 2], [3, 4]]), [np.array([2, 9, 1]), np.array([3])])
    0.75
    """
    counts = [np.isin(truth, some).sum() for truth, some in zip(exact, found, strict=True)]
    return float(np.mean(counts) / exact.shape[1])


def _merge_processes(ids: np.ndarray, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of all processes; their parts of the gallery are in the order of ids."""
    all_ids = np.concatenate(distributed.gather(ids), axis=1)
    all_similarities = np.concatenate(distributed.gather(similarities), axis=1)
    order = np.argsort(-all_similarities, axis=1, kind="stable")[:, : ids.shape[1]]
    ids, similarities = (np.take_along_axis(a, order, axis=1) for a in (all_ids, all_similarities))
    return ids, similarities
