"""Ranking of candidates by (distance, id), and exact re-ranking from the vectors."""

import numpy as np

from lopq.errors import LOPQError, as_array

ROUNDING = 4e-6  # relative error of float32 distances computed as matrix products
RERANK_AT_ONCE = 4_000_000  # numbers read from the database at a time


def first_by_id(
    distances: np.ndarray, ids: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distances, ids and columns of each row's k smallest entries, by (distance, id).

    Among candidates tied with the kth, an arbitrary subset is returned; see `unsettled`.

    Args:
        distances: (n, m) with m >= k; inf marks a missing candidate.
        ids: (n, m) int64; -1 marks a missing candidate.
        k: Columns to keep.

    >>> first_by_id(np.float32([[2, 1, 1]]), np.array([[5, 9, 7]]), 2)[1].tolist()
    [[7, 9]]
    """
    columns = np.broadcast_to(np.arange(distances.shape[1]), distances.shape)
    if k < distances.shape[1]:
        columns = np.argpartition(distances, k - 1, axis=1)[:, :k]
    near = np.take_along_axis(distances, columns, axis=1)
    near_ids = np.take_along_axis(ids, columns, axis=1)
    order = np.lexsort((near_ids, near), axis=1)
    return (
        np.take_along_axis(near, order, axis=1),
        np.take_along_axis(near_ids, order, axis=1),
        np.take_along_axis(columns, order, axis=1),
    )


def unsettled(distances: np.ndarray, reach: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows where rounding may have decided the order, or the set, of the first k.

    Args:
        distances: (n, m) ascending, inf at the end; m > k if there are more than k candidates.
        reach: (n,) squared distance to the farthest visited cell, the scale of the rounding error.
        k: Columns that count.

    Returns:
        order: (n,) bool, True if two neighbors among the first k + 1 are equal up to rounding.
        members: (n,) bool, True if the kth and the next are equal up to rounding.
    """
    head = distances[:, : k + 1]
    finite = np.isfinite(head)
    values = np.where(finite, head, 0)
    scale = reach + values.max(axis=1, initial=0)
    close = finite[:, 1:] & (np.diff(values, axis=1) <= (ROUNDING * scale)[:, None])
    members = close[:, k - 1] if close.shape[1] == k else np.zeros(len(close), bool)
    return close.any(axis=1), members


def exact_order(
    queries: np.ndarray, ids: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Re-rank candidates by exact distances; return distances and ids (n_query, m).

    Args:
        queries: (n_query, dim_in) float32.
        ids: (n_query, m) int64 candidates; -1 marks a missing one.
        vectors: (n, dim_in) array or memory map; row i is the vector with id i.

    Raises:
        LOPQError: ``vectors`` has a wrong shape, lacks the row of an id, or holds NaN, infinite or
            too large values in a row it reads.
    """
    if not hasattr(vectors, "shape"):  # a file-backed array must not be read as a whole
        vectors = as_array(vectors, "vectors")
    if len(vectors.shape) != 2 or vectors.shape[1] != queries.shape[1]:
        raise LOPQError(f"vectors must be (n, {queries.shape[1]}); got shape {vectors.shape}")
    if ids.size and ids.max() >= len(vectors):
        raise LOPQError(
            f"rerank reads row i of vectors for id i, but id {ids.max()} is beyond its "
            f"{len(vectors)} rows; number the vectors by row, or search with rerank=0"
        )
    distances = np.full(ids.shape, np.inf, np.float32)
    step = max(1, RERANK_AT_ONCE // max(1, ids.shape[1] * queries.shape[1]))
    for start in range(0, len(ids), step):
        block = slice(start, start + step)
        wanted, place = np.unique(ids[block], return_inverse=True)  # ascending: fewer seeks
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            rows = np.asarray(vectors[np.maximum(wanted, 0)], np.float32)
            rows = rows[place.reshape(ids[block].shape)]
            rows -= queries[block, None, :]
            distances[block] = np.einsum("ijk,ijk->ij", rows, rows)
    bad = ids[~np.isfinite(distances) & (ids >= 0)]
    if len(bad):
        raise LOPQError(f"vectors: row {bad[0]} holds NaN, infinite or too large values")
    distances[ids < 0] = np.inf
    near, near_ids, _ = first_by_id(distances, ids, ids.shape[1])
    return near, near_ids
