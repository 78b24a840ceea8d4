"""The coarse quantizer: train its centroids, and find the nearest one of each vector.

With many cells both use two levels: groups of cells, and the cells of each group. Training takes
seconds where one k-means over all cells takes minutes, and a vector is compared with the cells of
a few groups only.
"""

import numpy as np

from lopq.codebooks import kmeans
from lopq.grouped import cell_numbers
from lopq.groups import Groups

TWO_LEVELS_FROM = 512  # cells from which two levels are used
N_PROBE = 8  # groups whose cells are compared with a vector
REFINEMENTS = 8  # iterations after which 1,024 cells fit better than 20 of one k-means


def fit_centroids(
    rows: np.ndarray, V: int, n_iter: int, seed: int, n_init: int = 1
) -> tuple[np.ndarray, Groups | None]:
    """Return (V, dim) float32 centroids, and their groups if there are many.

    Args:
        rows: (n, dim) float32, at least V.
        V: Centroids.
        n_iter: k-means iterations.
        seed: Random seed.
        n_init: Restarts of each k-means.
    """
    from lopq.encoding import mean_rows

    if V < TWO_LEVELS_FROM:
        return kmeans(rows, V, n_iter, seed, n_init), None
    tops = kmeans(rows, int(V**0.5), n_iter, seed, n_init)
    group_of = nearest(rows, tops)
    counts = shares(np.bincount(group_of, minlength=len(tops)), V)
    filled = np.flatnonzero(counts)  # a group without cells would use up a probe
    parts = [
        kmeans(rows[group_of == group], int(counts[group]), n_iter, seed, n_init)
        for group in filled
    ]
    starts = np.append(0, np.cumsum(counts[filled]))
    groups = Groups(np.concatenate(parts), tops[filled], starts)
    for _ in range(REFINEMENTS):  # Lloyd's iterations over all cells: cells cross groups
        C = mean_rows(rows, nearest(rows, groups.C, groups), groups.C)
        groups = Groups(C, mean_rows(C, cell_numbers(starts), groups.tops), starts)
    return groups.C, groups


def shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """Share ``total`` out in proportion to ``sizes``; none exceeds its size.

    >>> shares(np.array([10, 1, 5, 0]), 6).tolist()
    [3, 1, 2, 0]
    """
    shared = np.minimum(sizes, np.maximum(1, sizes * total // max(1, sizes.sum())))
    shared[sizes == 0] = 0
    while shared.sum() != total:
        step = 1 if shared.sum() < total else -1
        missing = sizes * total / sizes.sum() - shared
        possible = shared < sizes if step > 0 else shared > 1
        shared[np.argmax(np.where(possible, step * missing, -np.inf))] += step
    return shared


def nearest(rows: np.ndarray, C: np.ndarray, groups: Groups | None = None) -> np.ndarray:
    """Return the (n,) int64 nearest centroid of each row.

    With groups, it is the nearest one in the nearest `N_PROBE` groups: another than the nearest of
    all for less than one row in a hundred.
    """
    if groups is not None:
        from lopq.encoding import nearest_cells

        return nearest_cells(rows, groups, min(N_PROBE, len(groups.tops)))
    import faiss

    return faiss.knn(np.ascontiguousarray(rows), np.ascontiguousarray(C), 1)[1][:, 0]
