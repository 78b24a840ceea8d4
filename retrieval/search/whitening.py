"""Linear transforms of embeddings: centering, PCA-whitening with shrinkage, fewer dimensions.

Of rows x of a domain with the mean m, what is searched is

    y = W^T (x - strength * m), scaled to unit L2 norm,
    W = U diag(v ^ (-power / 2)),  (1 - s) C + s (tr C / dim) I = U diag(v) U^T

with the covariance C of the fitted rows and the shrinkage s (the form of Ledoit and Wolf, A
well-conditioned estimator for large-dimensional covariance matrices, 2004). power = 1 whitens, so
that common directions do not drown rare ones (Jegou and Chum, Negative evidences and
co-occurrences in image retrieval, ECCV 2012); power = 0 turns only, and power = 0.5 is what Gordo
et al. (IJCV 2017) take. All sums are float64, over blocks of rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrieval.data.formats import InputError

Center = Literal["none", "joint", "per_domain"]

BLOCK_ROWS = 8192
SMALLEST = 1e-10  # of the largest variance: what lies below is rounding, and is left out
CONSTANT = 1e-12  # variance of unit vectors; what lies below is the rounding of equal ones


@dataclass(frozen=True)
class Transform:
    """A fitted transform of two domains.

    Attributes:
        means: (2, dim) float64, what is subtracted from the database's rows and the queries'.
        matrix: (dim, new_dim) float64, W.
    """

    means: np.ndarray
    matrix: np.ndarray

    def blocks(self, rows: np.ndarray, domain: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, (n, new_dim) float32 of unit L2 norm), block by block.

        Args:
            rows: (n, dim) float32, may be a memory map.
            domain: 0: the database's, 1: the queries'.
        """
        for start, block in _blocks(rows):
            moved = (block - self.means[domain]) @ self.matrix
            norms = np.linalg.norm(moved, axis=1, keepdims=True)
            yield start, (moved / np.maximum(norms, 1e-12)).astype(np.float32)


def fit(
    domains: list[np.ndarray],
    fitted: list[int],
    *,
    dim: int,
    power: float,
    shrinkage: float,
    center: Center,
    strength: float,
) -> Transform:
    """Fit a transform, without labels.

    Args:
        domains: The database and, where there are any, the queries: (n, dim) float32 each.
        fitted: Which of them the covariance is of.
        dim: Dimensions to keep, those of the largest variance; 0 keeps all.
        power: From 0 to 1, of the whitening.
        shrinkage: From 0 to 1, how far the covariance is drawn to a multiple of the identity.
        center: What is subtracted: nothing; the mean of the fitted rows; or of each domain its
            own mean, and then variance between domains is no part of the covariance either.
        strength: The mean is multiplied by it before.
    """
    means = [_mean(rows) for rows in domains]
    counts = np.array([len(domains[i]) for i in fitted], np.float64)
    joint = np.average([means[i] for i in fitted], axis=0, weights=counts)
    about = means if center == "per_domain" else [joint] * len(domains)
    total = sum(_scatter(domains[i], about[i]) for i in fitted)
    matrix = _whitening(total / counts.sum(), dim, power, shrinkage)
    subtracted = np.zeros((2, len(joint)))
    if center != "none":
        subtracted[: len(domains)] = strength * np.array(about)
    return Transform(subtracted, matrix)


def _whitening(covariance: np.ndarray, dim: int, power: float, shrinkage: float) -> np.ndarray:
    """Return W, (dim, new_dim) float64."""
    size = len(covariance)
    if np.trace(covariance) < CONSTANT:
        raise InputError(
            "the embeddings do not differ from each other, so there is nothing to whiten; encode "
            "with another checkpoint: build_image_db.py --save_path=..."
        )
    level = np.trace(covariance) / size
    shrunk = (1 - shrinkage) * covariance + shrinkage * level * np.eye(size)
    variances, directions = np.linalg.eigh(shrunk)  # ascending
    variances, directions = variances[::-1], directions[:, ::-1]
    n_varying = int((variances > SMALLEST * variances[0]).sum())
    if not 0 <= dim <= n_varying:
        raise InputError(
            f"--dim must be from 1 to {n_varying}, the directions in which the embeddings vary, "
            f"or 0 for all of these; got {dim}"
        )
    kept = dim or n_varying
    directions = directions[:, :kept]
    # An eigenvector and its opposite are alike: take the one whose largest entry is positive.
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(kept)])
    return directions * variances[:kept] ** (-power / 2)


def _mean(rows: np.ndarray) -> np.ndarray:
    return sum(block.sum(axis=0) for _, block in _blocks(rows)) / len(rows)


def _scatter(rows: np.ndarray, about: np.ndarray) -> np.ndarray:
    return sum((block - about).T @ (block - about) for _, block in _blocks(rows))


def _blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield start, np.asarray(rows[start : start + BLOCK_ROWS], np.float64)
