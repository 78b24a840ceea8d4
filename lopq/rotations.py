"""Local rotations: how the residuals of each cell are turned before they are quantized.

Kalantidis, Avrithis: Locally optimized product quantization for approximate nearest neighbor
search, CVPR 2014. `pca_rotations` is their method: the principal axes of each cell's residuals,
allotted to subspaces of equal eigenvalue products. `alternate` learns rotations instead: codes,
codebooks and rotations are refitted in turn, each step the least-squares optimum given the
others (for one rotation of all cells, the non-parametric OPQ of Ge et al., CVPR 2013).
"""

import faiss
import numpy as np
from tqdm import tqdm

from lopq.codebooks import Codebooks, mean_centroids
from lopq.grouping import filled_groups
from lopq.pca import covariance, eigenvalue_allocation
from lopq.products import Multiplier, multiply

N_NEIGHBOR_CELLS = 3  # cells that steady the rotation of a small cell


def balanced_axes(moments: np.ndarray, M: int) -> np.ndarray:
    """Return the eigenvectors (dim, dim) of second moments, as rows, balanced over M subspaces."""
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
        residuals: (n, dim) float32 sorted by cell, of mean zero in each.
        offsets: (V + 1,) where each cell starts.
        M: Subspaces.
        near: (V, n) neighbors of each cell, whose residuals count in its covariance by
            `neighbor_weights`; None leaves each cell to its own.
    """
    dim = residuals.shape[1]
    moments = np.zeros((len(offsets) - 1, dim, dim), np.float32)
    for cell, rows in filled_groups(offsets):
        moments[cell] = multiply(residuals[rows].T, residuals[rows].T)
    if near is not None:
        moments = steadied(moments, near, neighbor_weights(np.diff(offsets), dim))
    return np.stack([balanced_axes(moment, M) for moment in moments])


def neighbor_weights(sizes: np.ndarray, dim: int) -> np.ndarray:
    """Return how much the nearest cells count in a cell's rotation, by its number of vectors.

    A rotation has dim * (dim - 1) / 2 parameters and a cell of n vectors n * dim numbers to
    fit them to, so the weight is a power of dim / n: 1 for cells of dim vectors or fewer, and
    next to nothing from ten times that on. The power was chosen by held-out recall.

    >>> neighbor_weights(np.array([0, 64, 640]), 64).round(4).tolist()
    [1.0, 1.0, 0.01]
    """
    return np.minimum(1.0, dim / np.maximum(sizes, 1)) ** 2


def nearest_cells(centroids: np.ndarray) -> np.ndarray:
    """Return (V, n) the cells nearest to each cell, itself left out; n is 3 or V - 1."""
    count = min(N_NEIGHBOR_CELLS, len(centroids) - 1)
    if count == 0:
        return np.zeros((len(centroids), 0), np.int64)
    _, near = faiss.knn(centroids, centroids, count + 1)
    others = near != np.arange(len(centroids))[:, None]
    others[others.all(axis=1), -1] = False  # a duplicate centroid can push the cell itself out
    return near[others].reshape(len(centroids), count)


def nearest_rotations(correlations: np.ndarray) -> np.ndarray:
    """Return the rotation R_c that maximizes trace(R_c A_c') for each A_c (V, dim, dim).

    With A_c = Y'X it minimizes ||X R_c' - Y||: the orthogonal Procrustes problem
    (Schönemann 1966).
    """
    u, _, vt = np.linalg.svd(correlations)
    return (u @ vt).astype(np.float32)


def rotate(residuals: np.ndarray, offsets: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Turn each row of ``residuals``, sorted by cell, by the rotation of its cell."""
    rotated = np.empty_like(residuals)
    product = Multiplier(*rotations.shape[1:])
    for cell, rows in filled_groups(offsets):
        rotated[rows] = product(residuals[rows], rotations[cell])
    return rotated


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
        residuals: (n, dim) float32 sorted by cell.
        offsets: (V + 1,) where each cell starts.
        rotations: (V, dim, dim) to start from.
        codebooks: The codebooks to start from, shared by all cells.
        n_iter: Rounds.
        near: (V, n) neighbors of each cell, whose vectors steady its rotation by
            `neighbor_weights`; None fits each cell to its own vectors alone, and then the
            error never rises.
        learn_codebooks: False keeps the codebooks.
        progress: False hides the progress bar; None shows it on a terminal.

    Returns:
        rotations, codebooks, and the mean squared error before each round.
    """
    sizes = np.diff(offsets)
    errors = []
    hidden = None if progress is None else not progress
    for _ in tqdm(range(n_iter), "rotations", disable=hidden, leave=False):
        rotated = rotate(residuals, offsets, rotations)
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
            correlations = steadied(correlations, near, neighbor_weights(sizes, len(rotations[0])))
        rotations = nearest_rotations(correlations)
    return rotations, codebooks, errors


def steadied(correlations: np.ndarray, near: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add to each cell's correlations the weighted ones of its nearest cells."""
    result = correlations.copy()
    for cell, weight in enumerate(weights):
        result[cell] += np.float32(weight) * correlations[near[cell]].sum(axis=0)
    return result


def squared_error(rows: np.ndarray, decoded: np.ndarray) -> float:
    """Return the mean squared distance between the rows of two arrays."""
    difference = rows - decoded
    return float(np.einsum("ij,ij->", difference, difference, dtype=np.float64) / max(1, len(rows)))
