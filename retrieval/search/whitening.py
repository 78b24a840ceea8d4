"""Linear transforms of embeddings: centering, whitening, fewer dimensions.

A row x of a domain with the mean m becomes

    y = W^T (x - m), scaled to unit L2 norm,   W = U diag(v ^ (-power / 2)),   C = U diag(v) U^T

with the covariance C of the database's rows. power = 1 whitens, so that common directions do not
drown rare ones (Jegou and Chum, Negative evidences and co-occurrences in image retrieval, ECCV
2012); power = 0 only rotates; Gordo et al. (IJCV 2017) take power = 0.5. With labels, C is the
covariance within the classes. All sums are float64, over blocks of rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrieval.data.formats import InputError
from retrieval.search.products import multiply

Center = Literal["none", "joint", "per_domain"]

BLOCK_ROWS = 8192
SMALLEST = 1e-10  # share of the largest variance; smaller ones are rounding, and dropped
CONSTANT = 1e-12  # variance as a share of the mean square; equal rows stay below it
SHRINKAGE = 0.3  # of the covariance that is whitened: measured in docs/training.md
OWN_SHRINKAGE = 0.7  # the same without labels, on the photos to search: docs/experiments/ranking.md


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
    database: np.ndarray,
    queries: np.ndarray | None,
    *,
    dim: int,
    power: float,
    center: Center,
    shrinkage: float = 0.0,
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
        shrinkage: As in ``fit_whitening``, from 0 to 1.

    Raises:
        InputError: The rows are all alike, or ``dim`` is out of range.
    """
    mean = _mean(database)
    covariance = _covariance(database, lambda rows: mean)
    _check_varies(covariance, mean)
    means = np.zeros((2, len(mean)))
    if center != "none":
        means[0] = mean
        if queries is not None:
            means[1] = _mean(queries) if center == "per_domain" else mean
    return Transform(means, _whitening(covariance, dim, power, shrinkage))


def fit_whitening(
    embeddings: np.ndarray, labels: np.ndarray | None, dim: int = 0, shrinkage: float = SHRINKAGE
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a whitening ``(x - mean) @ matrix``, within classes where there are labels.

    Without labels it whitens the covariance of all rows (PCA-whitening). With labels it whitens
    the covariance within the classes, so that directions in which photos of one class differ count
    less (within-class covariance normalization: Hatch, Kajarekar, Stolcke, Interspeech 2006; for
    image descriptors Mikolajczyk and Matas, ICCV 2007), and then turns to the directions in which
    all rows vary most, so that the first dimensions are those to keep.

    The covariance is shrunk towards the multiple of the identity with the same trace, as in
    Friedman, Regularized discriminant analysis, JASA 1989: the photos are too few to know the
    directions of small variance, which whitening would enlarge most, and fewer photos than
    dimensions do. The share was measured: that of Ledoit and Wolf (2004), about .02, is too small.

    Args:
        embeddings: (n, width) float32 or float64, may be a memory map.
        labels: (n,) int64, the class of each row; None: there are no labels. As without them if
            no two are equal.
        dim: Dimensions to keep; 0 keeps all.
        shrinkage: Share of the identity, from 0 to 1.

    Returns:
        mean: (width,) float64.
        matrix: (width, dim) float64.

    Raises:
        InputError: The rows (of each class) are all alike, or ``dim`` is out of range.
    """
    mean = _mean(embeddings)
    total = _covariance(embeddings, lambda rows: mean)
    if labels is None or len(np.unique(labels)) == len(labels):
        _check_varies(total, mean)
        return mean, _whitening(total, dim, 1.0, shrinkage)
    class_means, numbers = _class_means(embeddings, labels)
    within = _covariance(embeddings, lambda rows: class_means[numbers[rows]])
    _check_varies(within, mean)
    whitened = _whitening(within, 0, 1.0, shrinkage)
    _, axes = _principal_axes(whitened.T @ total @ whitened)
    return mean, whitened @ axes[:, : _checked_dim(dim, axes.shape[1])]


def _class_means(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each class, (n_class, dim) float64, and the class number of each row."""
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), rows.shape[1]))
    for start, block in _blocks(rows):
        np.add.at(sums, numbers[start : start + len(block)], block)
    return sums / counts[:, None], numbers


def _check_varies(covariance: np.ndarray, mean: np.ndarray) -> None:
    """Refuse rows that are all alike."""
    square = np.trace(covariance) + mean @ mean
    if not np.trace(covariance) > CONSTANT * square:
        raise InputError(
            "the embeddings do not differ from each other, so there is nothing to whiten; take "
            "other photos, or another checkpoint"
        )


def _whitening(covariance: np.ndarray, dim: int, power: float, shrinkage: float) -> np.ndarray:
    """Return W, (dim, new_dim) float64, in the order of falling variance."""
    variances, axes = _principal_axes(covariance)
    variances = (1 - shrinkage) * variances + shrinkage * variances.mean()
    n_varying = int((variances > SMALLEST * variances[0]).sum())
    kept = _checked_dim(dim, n_varying)
    return axes[:, :kept] * variances[:kept] ** (-power / 2)


def _checked_dim(dim: int, n_varying: int) -> int:
    if not 0 <= dim <= n_varying:
        raise InputError(
            f"--dim must be from 1 to {n_varying}, the directions in which the embeddings vary, "
            f"or 0 for all of these; got {dim}"
        )
    return dim or n_varying


def _principal_axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances, falling, and their directions as columns."""
    variances, directions = np.linalg.eigh(covariance)  # ascending
    variances, directions = variances[::-1], directions[:, ::-1]
    # Eigenvectors have no sign of their own: make the largest entry positive.
    largest = np.abs(directions).argmax(axis=0)
    return variances, directions * np.sign(directions[largest, np.arange(len(variances))])


def _covariance(rows: np.ndarray, center_of: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Return the mean of ``(x - center)(x - center)^T``, (dim, dim) float64.

    Args:
        rows: (n, dim) float32 or float64.
        center_of: A slice of the rows -> the centers of these, (dim,) or (n, dim).
    """
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    for start, block in _blocks(rows):
        moved = block - center_of(slice(start, start + len(block)))
        scatter += multiply(moved.T, moved)
    return scatter / len(rows)


def _mean(rows: np.ndarray) -> np.ndarray:
    return sum(block.sum(axis=0) for _, block in _blocks(rows)) / len(rows)


def _blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield start, np.asarray(rows[start : start + BLOCK_ROWS], np.float64)
