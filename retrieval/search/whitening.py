"""Linear transforms of embeddings: centering, PCA-whitening, fewer dimensions.

A row x of a domain with the mean m becomes

    y = W^T (x - m), scaled to unit L2 norm,   W = U diag(v ^ (-power / 2)),   C = U diag(v) U^T

with the covariance C of the database's rows. power = 1 whitens, so that common directions do not
drown rare ones (Jegou and Chum, Negative evidences and co-occurrences in image retrieval, ECCV
2012); power = 0 only rotates; Gordo et al. (IJCV 2017) take power = 0.5. All sums are float64, over
blocks of rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrieval.data.formats import InputError
from retrieval.search.products import multiply

Center = Literal["none", "joint", "per_domain"]

BLOCK_ROWS = 8192
SMALLEST = 1e-10  # share of the largest variance; smaller ones are rounding, and dropped
SHRINKAGE = 0.3  # of the covariance that is whitened: measured in docs/training.md
CONSTANT = 1e-12  # variance of unit vectors; equal ones stay below it


@dataclass(frozen=True)
class Transform:
    """A fitted transform of two domains.

    Attributes:
        means: (2, dim) float64, the means subtracted from the database and from the queries.
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
            moved = multiply(block - self.means[domain], self.matrix)
            norms = np.linalg.norm(moved, axis=1, keepdims=True)
            yield start, (moved / np.maximum(norms, 1e-12)).astype(np.float32)


def fit_transform(
    database: np.ndarray, queries: np.ndarray | None, *, dim: int, power: float, center: Center
) -> Transform:
    """Fit a transform to the database, without labels.

    Args:
        database: (n_image, dim) float32, may be a memory map.
        queries: (n_query, dim) float32; only their mean is used, with ``center="per_domain"``.
            None: there are none.
        dim: Dimensions to keep, those of the largest variance; 0 keeps all.
        power: Strength of the whitening, from 0 (rotation only) to 1 (equal variances).
        center: What is subtracted: nothing; the database's mean from both; or from database and
            queries the mean of each.

    Raises:
        InputError: The rows are all alike, or ``dim`` is out of range.
    """
    mean = _mean(database)
    scatter = np.zeros((len(mean), len(mean)))
    for _, block in _blocks(database):
        centered = block - mean
        scatter += multiply(centered.T, centered)
    means = np.zeros((2, len(mean)))
    if center != "none":
        means[0] = mean
        if queries is not None:
            means[1] = _mean(queries) if center == "per_domain" else mean
    return Transform(means, _whitening(scatter / len(database), dim, power))


def fit_whitening(
    features: np.ndarray,
    labels: np.ndarray | None,
    dim: int = 0,
    shrinkage: float = SHRINKAGE,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a whitening ``(x - mean) @ matrix`` of features.

    With labels, the covariance within the classes becomes the identity, and the ``dim`` directions
    of the largest total variance stay, as in linear discriminant analysis (Mikolajczyk and Matas,
    Improving Descriptors for Fast Tree Matching by Optimal Linear Projection, ICCV 2007). Without
    labels, the covariance of all rows becomes the identity (PCA-whitening; Jegou and Chum, ECCV
    2012). The covariance is shrunk towards a multiple of the identity (Ledoit and Wolf, A
    well-conditioned estimator for large-dimensional covariance matrices, 2004), so that fewer rows
    than dimensions do no harm.

    Args:
        features: (n, width) float32, n at least 2; not normalized.
        labels: (n,) int64 classes; None: there are none. As without them if no two are equal.
        dim: Dimensions to keep; 0 keeps all.
        shrinkage: Share of the identity, in (0, 1].

    Returns:
        mean: (width,) float64.
        matrix: (width, dim) float64.

    Raises:
        InputError: The rows are all alike, or ``dim`` is out of range.
    """
    width = features.shape[1]
    if not 0 <= dim <= width:
        raise InputError(
            f"a whitening of {width} features keeps 1 to {width} of them, not {dim}; use "
            f"--dim={width} or leave --whitening out"
        )
    rows = np.asarray(features, np.float64)
    mean = rows.mean(axis=0)
    centered = rows - mean
    inner = centered
    if labels is not None and len(np.unique(labels)) < len(labels):
        inner = centered - _class_means(centered, labels)
    covariance = inner.T @ inner / len(rows)
    variance = np.trace(covariance) / width
    if variance <= CONSTANT * max(1.0, float((rows**2).mean())):
        raise InputError("all images have the same features within each class: nothing to whiten")
    covariance = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(width)
    values, vectors = np.linalg.eigh(covariance)
    matrix = vectors * values**-0.5  # (width, width), columns
    total = matrix.T @ (centered.T @ centered / len(rows)) @ matrix
    _, directions = np.linalg.eigh(total)
    return mean, matrix @ directions[:, ::-1][:, : dim or width]


def _class_means(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the mean of its class for each row, (n, width) float64."""
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), rows.shape[1]))
    np.add.at(sums, numbers, rows)
    return (sums / counts[:, None])[numbers]


def _whitening(covariance: np.ndarray, dim: int, power: float) -> np.ndarray:
    """Return W, (dim, new_dim) float64."""
    if np.trace(covariance) < CONSTANT:
        raise InputError(
            "the embeddings do not differ from each other, so there is nothing to whiten; encode "
            "with another checkpoint: build_image_db.py --save_path=..."
        )
    variances, directions = np.linalg.eigh(covariance)  # ascending
    variances, directions = variances[::-1], directions[:, ::-1]
    n_varying = int((variances > SMALLEST * variances[0]).sum())
    if not 0 <= dim <= n_varying:
        raise InputError(
            f"--dim must be from 1 to {n_varying}, the directions in which the embeddings vary, "
            f"or 0 for all of these; got {dim}"
        )
    kept = dim or n_varying
    directions = directions[:, :kept]
    # Eigenvectors have no sign of their own: make the largest entry positive.
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(kept)])
    return directions * variances[:kept] ** (-power / 2)


def _mean(rows: np.ndarray) -> np.ndarray:
    return sum(block.sum(axis=0) for _, block in _blocks(rows)) / len(rows)


def _blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield start, np.asarray(rows[start : start + BLOCK_ROWS], np.float64)
