"""Exact neighbors, and the share of them that a search finds."""

import numpy as np

BLOCK = 65_536  # database rows scored at once


def k_recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean share of the true neighbors (n_query, k) that were found.

    >>> k_recall(np.array([[1, 2, 3]]), np.array([[3, 1, 5]]))
    0.6666666666666666
    """
    return float((found[:, :, None] == truth[:, None, :]).any(axis=1).mean())


def most_similar(queries: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Return the (n_query, k) ids of the largest inner products, in double precision."""
    best = np.empty((len(queries), 0))
    ids = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), BLOCK):
        scores = queries.astype(np.float64) @ rows[start : start + BLOCK].astype(np.float64).T
        best = np.concatenate([best, scores], axis=1)
        new = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        ids = np.concatenate([ids, new], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, ids = np.take_along_axis(best, order, 1), np.take_along_axis(ids, order, 1)
    return ids
