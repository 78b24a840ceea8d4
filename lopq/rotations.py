"""Local rotations: orthogonal matrices, applied to residuals before quantization. "Cells" below are
all cells that share a rotation; usually each has its own.

Kalantidis, Avrithis: Locally optimized product quantization for approximate nearest neighbor
search, CVPR 2014. `pca_rotations` is their method: the principal axes of each cell's residuals,
allocated to subspaces with balanced eigenvalue products. `alternate` learns the rotations instead:
it refits codes, codebooks and rotations in turn, and each step is the least-squares optimum given
the others (with one rotation for all cells, the non-parametric OPQ of Ge et al., CVPR 2013).
"""

import numpy as np

from lopq.codebooks import Codebooks, kmeans, mean_centroids
from lopq.grouped import cell_numbers, filled_groups, multiply
from lopq.pca import covariance, eigenvalue_allocation

CELLS_AT_ONCE = 64  # rotations per call on a thread
SHARING_ITERATIONS = 20  # of the k-means that finds cells to share a rotation
N_NEIGHBOR_CELLS = 3  # cells that regularize the rotation of a small cell


def balanced_axes(moments: np.ndarray, M: int) -> np.ndarray:
    """Return the eigenvectors of a (dim, dim) moment matrix as rows, balanced over M subspaces."""
    eigenvalues, vectors = np.linalg.eigh(moments.astype(np.float64))
    return vectors[:, eigenvalue_allocation(M, eigenvalues)].T.astype(np.float32, order="C")


def balanced_rotation(residuals: np.ndarray, M: int) -> np.ndarray:
    """Return the (dim, dim) principal axes of ``residuals``, balanced over M subspaces."""
    return balanced_axes(covariance(residuals), M)


def pca_rotations(
    residuals: np.ndarray, offsets: np.ndarray, M: int, near: np.ndarray | None = None
) -> np.ndarray:
    """Return the balanced principal axes of each cell, (V, dim, dim) float32.

    Args:
        residuals: (n, dim) float32, sorted by cell, with zero mean in each cell.
        offsets: (V + 1,) int64, the first row of each cell.
        M: Subspaces.
        near: (V, n) neighbors of each cell. Their moments are added to the cell's own, weighted
            by `neighbor_weights`; None uses each cell's residuals only.
    """
    from threadpoolctl import threadpool_limits

    from lopq.threads import in_blocks

    dim = residuals.shape[1]
    moments = np.zeros((len(offsets) - 1, dim, dim), np.float32)
    for cell, rows in filled_groups(offsets):
        moments[cell] = multiply(residuals[rows].T, residuals[rows].T)
    if near is not None:
        moments = add_neighbors(moments, near, neighbor_weights(np.diff(offsets), dim))
    # Threads within a product of this size cost more than they gain: one matrix per thread.
    with threadpool_limits(1, user_api="blas"):
        rotations = np.empty_like(moments)

        def call(block: slice) -> None:
            for cell in range(block.start, block.stop):
                rotations[cell] = balanced_axes(moments[cell], M)

        in_blocks(call, len(moments), CELLS_AT_ONCE)
    return rotations


def neighbor_weights(sizes: np.ndarray, dim: int) -> np.ndarray:
    """Return the weight of the nearest cells in each cell's rotation, (V,) from 0 to 1.

    A rotation has dim * (dim - 1) / 2 parameters, and a cell of n vectors gives n * dim numbers
    to fit them to. The weight is therefore a power of dim / n: 1 for cells of up to dim vectors,
    negligible from ten times that size. The power was chosen by held-out recall.

    >>> neighbor_weights(np.array([0, 64, 640]), 64).round(4).tolist()
    [1.0, 1.0, 0.01]
    """
    return np.minimum(1.0, dim / np.maximum(sizes, 1)) ** 2


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


def shared_by(C: np.ndarray, n_rotation: int, seed: int) -> np.ndarray:
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


def nearest_rotations(correlations: np.ndarray) -> np.ndarray:
    """Return the rotation R_c that maximizes trace(R_c A_c') for each A_c (V, dim, dim).

    With A_c = Y'X it minimizes ||X R_c' - Y||: the orthogonal Procrustes problem
    (Schönemann 1966).
    """
    u, _, vt = np.linalg.svd(correlations)
    return (u @ vt).astype(np.float32)


def alternate(
    residuals: np.ndarray,
    offsets: np.ndarray,
    rotations: np.ndarray,
    codebooks: Codebooks,
    n_iter: int,
    near: np.ndarray | None = None,
    learn_codebooks: bool = True,
    progress: bool | None = None,
) -> tuple[np.ndarray, Codebooks, list[float]]:
    """Refit codes, codebooks and rotations in turn.

    Args:
        residuals: (n, dim) float32, sorted by cell.
        offsets: (V + 1,) int64, the first row of each cell.
        rotations: (V, dim, dim) float32 to start from.
        codebooks: The codebooks to start from, shared by all cells.
        n_iter: Iterations.
        near: (V, n) neighbors of each cell, which regularize its rotation with
            `neighbor_weights`. None fits each cell to its own vectors only; the error then never
            rises.
        learn_codebooks: False keeps the codebooks fixed.
        progress: True or False shows or hides the progress bar; None shows it on a terminal.

    Returns:
        Rotations, codebooks, and the mean squared error before each iteration.
    """
    from tqdm import tqdm

    from lopq.encoding import rotate_rows

    sizes, cells = np.diff(offsets), cell_numbers(offsets)
    errors = []
    hidden = None if progress is None else not progress
    for _ in tqdm(range(n_iter), "rotations", disable=hidden, leave=False):
        rotated = rotate_rows(residuals, cells, rotations)
        packed = codebooks.encode(rotated)
        errors.append(squared_error(rotated, codebooks.decode(packed)))
        if learn_codebooks:
            means = mean_centroids(rotated, codebooks.unpack(packed), codebooks.centroids)
            codebooks = Codebooks(means, codebooks.bits)
        decoded = codebooks.decode(packed)
        correlations = np.zeros_like(rotations)
        for cell, rows in filled_groups(offsets):
            correlations[cell] = multiply(decoded[rows].T, residuals[rows].T)
        if near is not None:
            weights = neighbor_weights(sizes, len(rotations[0]))
            correlations = add_neighbors(correlations, near, weights)
        rotations = nearest_rotations(correlations)
    return rotations, codebooks, errors


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


def squared_error(rows: np.ndarray, decoded: np.ndarray) -> float:
    """Return the mean squared L2 distance between corresponding rows."""
    difference = rows - decoded
    return float(np.einsum("ij,ij->", difference, difference, dtype=np.float64) / max(1, len(rows)))
