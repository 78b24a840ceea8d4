"""The coarse quantizer: train its centroids, and find the nearest one of each vector.

With many cells both use two levels: groups of cells, and the cells of each group. Training takes
seconds where one k-means over all cells takes minutes, and a vector is compared with the cells of
a few groups only.
"""

from dataclasses import dataclass

import numpy as np

from lopq.codebooks import kmeans
from lopq.errors import LOPQError
from lopq.grouped import cell_numbers

TWO_LEVELS_FROM = 512  # cells from which two levels are used
N_PROBE = 8  # groups whose cells are compared with a vector
REFINEMENTS = 8  # iterations after which 1,024 cells fit better than 20 of one k-means


@dataclass(frozen=True)
class Groups:
    """Groups of cells with consecutive numbers.

    Args:
        tops: (n_group, dim) float32 centers.
        starts: (n_group + 1,) int64, the first cell of each group.
    """

    tops: np.ndarray
    starts: np.ndarray

    def check(self, V: int, dim: int) -> None:
        """Raise `LOPQError` unless the groups are those of V cells over dim dimensions."""
        starts = self.starts
        fits = self.tops.ndim == 2 and self.tops.shape == (len(starts) - 1, dim)
        if (
            not fits
            or starts.dtype.kind != "i"
            or starts[0] != 0
            or starts[-1] != V
            or (np.diff(starts) < 0).any()
        ):
            raise LOPQError(f"the groups of cells do not cover {V} cells")


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
    C, groups = np.concatenate(parts), Groups(tops[filled], starts)
    for _ in range(REFINEMENTS):  # Lloyd's iterations over all cells: cells cross groups
        C = mean_rows(rows, nearest(rows, C, groups), C)
        groups = Groups(mean_rows(C, cell_numbers(groups.starts), groups.tops), groups.starts)
    return C, groups


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

        n_probe = min(N_PROBE, len(groups.tops))
        return nearest_cells(rows, C, groups.tops, groups.starts, n_probe)
    import faiss

    return faiss.knn(np.ascontiguousarray(rows), np.ascontiguousarray(C), 1)[1][:, 0]
