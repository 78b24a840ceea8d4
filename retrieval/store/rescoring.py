"""Final ranking of candidates from any index: by float64 similarity, then by id."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.data.formats import InputError
from retrieval.search import exact


@dataclass(frozen=True)
class Candidates:
    """Rows that may be neighbors of one query.

    Attributes:
        ids: (n,) int64.
        embeddings: (n, dim) float32.
    """

    ids: np.ndarray
    embeddings: np.ndarray


def pooled(parts: Sequence[Candidates], dim: int) -> Candidates:
    """Return the candidates of several parts of a gallery as one."""
    return Candidates(
        np.concatenate([np.empty(0, np.int64), *(part.ids for part in parts)]),
        np.concatenate([np.empty((0, dim), np.float32), *(part.embeddings for part in parts)]),
    )


def check_queries(queries: np.ndarray, k: int, dim: int) -> np.ndarray:
    """Return the queries as (n_query, dim) float32; raise an error for invalid ones."""
    if k < 1:
        raise InputError(f"k must be at least 1; got {k}")
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise InputError(f"queries must be of {dim} dimensions; got the shape {queries.shape}")
    if not np.isfinite(queries).all():
        raise InputError("queries must be finite")
    return np.ascontiguousarray(queries, np.float32)


def ranked(queries: np.ndarray, found: list[Candidates], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the best candidates of each query.

    Args:
        queries: (n_query, dim) float32.
        found: Candidates of each query; an id counts once.
        k: Neighbors of each query.

    Returns:
        ids: (n_query, k) int64, -1 where there are fewer.
        similarities: (n_query, k) float32, -inf with an id of -1.
    """
    pool = pooled(found, queries.shape[1])
    ids, first = np.unique(pool.ids, return_index=True)
    rows = np.full((len(queries), max([k, *(len(of_query.ids) for of_query in found)])), -1)
    for row, of_query in zip(rows, found, strict=True):
        own = np.searchsorted(ids, np.unique(of_query.ids))
        row[: len(own)] = own
    best, similarities = exact.ranked_exactly(queries, pool.embeddings[first], rows)
    return np.append(ids, -1)[best[:, :k]], similarities[:, :k]


def exact_neighbors(
    queries: np.ndarray,
    find: Callable[[np.ndarray, int], list[Candidates]],
    k: int,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the result of `ranked` over all rows, from the best rows by float32 products.

    Where a row that was not returned may tie with the last neighbor, more are asked for.

    Args:
        queries: (n_query, dim) float32.
        find: Returns the n best rows of each query by float32 products, or all there are.
        k: Neighbors of each query.
        most: Largest n that ``find`` takes.
    """
    ids = np.full((len(queries), k), -1, np.int64)
    similarities = np.full((len(queries), k), -np.inf, np.float32)
    n, rows = min(k + exact.SPARE, most), np.arange(len(queries))
    while len(rows):
        some = queries[rows]
        found_ids, found = ranked(some, find(some, n), n)
        ids[rows], similarities[rows] = found_ids[:, :k], found[:, :k]
        rows = rows[exact.may_tie(some, found_ids, found, k)] if n < most else rows[:0]
        n = min(4 * n, most)
    return ids, similarities
