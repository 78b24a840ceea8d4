"""Train the coarse quantizer: k-means, in two levels if there are many cells.

Two levels are groups of cells, and the cells of each group. Training takes seconds where one
k-means over all cells takes minutes, and encoding compares a vector with a few groups' cells only.
"""

import numpy as np

from lopq.parallel import frozen, group_of_rows
from lopq.quantizer import CoarseQuantizer, TwoLevelQuantizer
from lopq.train.product_quantizer import kmeans

TWO_LEVELS_FROM = 512  # cells from which two levels are used
REFINEMENTS = 8  # iterations after which 1,024 cells fit better than 20 of one k-means


def train_coarse(
    rows: np.ndarray, V: int, n_iter: int, seed: int, n_init: int = 1
) -> CoarseQuantizer:
    """Return a quantizer of V centroids.

    Args:
        rows: (n, dim) float32, at least V.
        V: Centroids.
        n_iter: k-means iterations.
        seed: Random seed.
        n_init: Restarts of each k-means.
    """
    if V < TWO_LEVELS_FROM:
        return CoarseQuantizer(kmeans(rows, V, n_iter, seed, n_init))
    tops = kmeans(rows, int(V**0.5), n_iter, seed, n_init)
    group_of = CoarseQuantizer(tops).assign(rows)
    counts = apportion(V, np.bincount(group_of, minlength=len(tops)))
    filled = np.flatnonzero(counts)  # a group without cells would use up a probe
    parts = [
        kmeans(rows[group_of == group], int(counts[group]), n_iter, seed, n_init)
        for group in filled
    ]
    starts = np.append(0, np.cumsum(counts[filled]))
    coarse = TwoLevelQuantizer(np.concatenate(parts), tops[filled], starts)
    for _ in range(REFINEMENTS):  # Lloyd's iterations over all cells: cells cross groups
        C = mean_rows(rows, coarse.assign(rows), coarse.C)
        coarse = TwoLevelQuantizer(C, mean_rows(C, group_of_rows(starts), coarse.tops), starts)
    return coarse


def apportion(total: int, sizes: np.ndarray) -> np.ndarray:
    """Divide ``total`` in proportion to ``sizes``; no part exceeds its size.

    >>> apportion(6, np.array([10, 1, 5, 0])).tolist()
    [3, 1, 2, 0]
    """
    parts = np.minimum(sizes, np.maximum(1, sizes * total // max(1, sizes.sum())))
    parts[sizes == 0] = 0
    while parts.sum() != total:
        step = 1 if parts.sum() < total else -1
        missing = sizes * total / sizes.sum() - parts
        possible = parts < sizes if step > 0 else parts > 1
        parts[np.argmax(np.where(possible, step * missing, -np.inf))] += step
    return parts


def mean_rows(rows: np.ndarray, cells: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Return the mean row of each cell, (V, dim) float32.

    Args:
        rows: (n, dim) float32.
        cells: (n,) int64.
        empty: (V, dim) float32, the means of cells without rows.
    """
    from lopq.kernels import add_rows

    sums = np.zeros(empty.shape, np.float64)
    add_rows(frozen(rows), frozen(cells), sums)
    counts = np.bincount(cells, minlength=len(empty))[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), empty).astype(np.float32)
