"""Fit local rotations: the principal axes of the residuals of each cell, before quantization.

The axes are allocated to the subspaces so that the products of their eigenvalues balance:
Kalantidis, Avrithis: Locally optimized product quantization for approximate nearest neighbor
search, CVPR 2014. "Cells" below are all cells that share a rotation; usually each has its own.
"""

import numpy as np

from lopq.parallel import filled_groups, in_blocks, multiply
from lopq.pca import eigenvalue_allocation
from lopq.train.product_quantizer import kmeans

CELLS_PER_CALL = 64  # rotations per call on a thread
SHARING_ITERATIONS = 20  # of the k-means that finds cells to share a rotation
N_NEIGHBOR_CELLS = 3  # cells that regularize the rotation of a small cell


def share_rotations(C: np.ndarray, n_rotation: int, seed: int) -> np.ndarray:
    """Return the (V,) int64 rotation of each cell: cells near each other share one.

    Args:
        C: (V, dim) float32 centroids.
        n_rotation: Rotations, at most V.
        seed: Random seed.
    """
    import faiss

    if n_rotation == len(C):
        return np.arange(len(C))
    if n_rotation == 1:
        return np.zeros(len(C), np.int64)
    centers = kmeans(C, n_rotation, SHARING_ITERATIONS, seed)
    nearest = faiss.knn(C, centers, 1)[1][:, 0]
    return np.unique(nearest, return_inverse=True)[1].astype(np.int64)  # none without cells


def fit_rotations(
    residuals: np.ndarray, offsets: np.ndarray, M: int, near: np.ndarray
) -> np.ndarray:
    """Return the balanced principal axes of each cell, (V, dim, dim) float32.

    Args:
        residuals: (n, dim) float32, sorted by cell, with zero mean in each cell.
        offsets: (V + 1,) int64, the first row of each cell.
        M: Subspaces.
        near: (V, n) int64 neighbors of each cell (`nearest_cells`). Their moments are added to the
            cell's own with its weight of `neighbor_weights`.
    """
    from threadpoolctl import threadpool_limits

    dim = residuals.shape[1]
    moments = np.zeros((len(offsets) - 1, dim, dim), np.float32)
    for cell, rows in filled_groups(offsets):
        moments[cell] = multiply(residuals[rows].T, residuals[rows].T)
    moments = add_neighbors(moments, near, neighbor_weights(np.diff(offsets), dim))
    # Threads within a product of this size cost more than they gain: one matrix per thread.
    with threadpool_limits(1, user_api="blas"):
        rotations = np.empty_like(moments)

        def call(block: slice) -> None:
            for cell in range(block.start, block.stop):
                rotations[cell] = balanced_axes(moments[cell], M)

        in_blocks(call, len(moments), CELLS_PER_CALL)
    return rotations


def balanced_axes(moments: np.ndarray, M: int) -> np.ndarray:
    """Return the eigenvectors of a (dim, dim) moment matrix as rows, balanced over M subspaces."""
    eigenvalues, vectors = np.linalg.eigh(moments.astype(np.float64))
    return vectors[:, eigenvalue_allocation(M, eigenvalues)].T.astype(np.float32, order="C")


def nearest_cells(centroids: np.ndarray) -> np.ndarray:
    """Return the (V, n) int64 cells nearest to each cell, excluding itself; n = min(3, V - 1)."""
    import faiss

    count = min(N_NEIGHBOR_CELLS, len(centroids) - 1)
    if count == 0:
        return np.zeros((len(centroids), 0), np.int64)
    _, near = faiss.knn(centroids, centroids, count + 1)
    others = near != np.arange(len(centroids))[:, None]
    others[others.all(axis=1), -1] = False  # a duplicate centroid can push the cell itself out
    return near[others].reshape(len(centroids), count)


def neighbor_weights(sizes: np.ndarray, dim: int) -> np.ndarray:
    """Return the weight of the nearest cells in each cell's rotation, (V,) from 0 to 1.

    A rotation has dim * (dim - 1) / 2 parameters, and a cell of n vectors gives n * dim numbers
    to fit them to. The weight is therefore a power of dim / n: 1 for cells of up to dim vectors,
    negligible from ten times that size. The power was chosen by held-out recall.

    >>> neighbor_weights(np.array([0, 64, 640]), 64).round(4).tolist()
    [1.0, 1.0, 0.01]
    """
    return np.minimum(1.0, dim / np.maximum(sizes, 1)) ** 2


def add_neighbors(matrices: np.ndarray, near: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add to each cell's matrix those of its nearest cells, times the cell's weight.

    Args:
        matrices: (V, dim, dim) float32.
        near: (V, n) int64 neighbors of each cell.
        weights: (V,) weight of each cell's neighbors.
    """
    result = matrices.copy()
    for cell, weight in enumerate(weights):
        result[cell] += np.float32(weight) * matrices[near[cell]].sum(axis=0)
    return result
