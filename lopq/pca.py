"""PCA, and the allocation of principal components to subspaces of balanced variance."""

from dataclasses import dataclass

import numpy as np

from lopq.parallel import multiply


@dataclass(frozen=True)
class PCA:
    """An affine map to the leading principal components.

    Args:
        mean: (dim_in,) float32.
        components: (dim, dim_in) float32, orthonormal rows.
        renorm: Normalize each projected vector to unit L2 norm (zero vectors stay zero).
    """

    mean: np.ndarray
    components: np.ndarray
    renorm: bool = False

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Project (n, dim_in) rows to (n, dim) float32."""
        projected = multiply(rows - self.mean, self.components)
        if self.renorm:
            norms = np.linalg.norm(projected, axis=1, keepdims=True)
            projected /= np.where(norms > 0, norms, 1)
        return projected

    def invert(self, projected: np.ndarray) -> np.ndarray:
        """Map (n, dim) rows back to (n, dim_in): the least-squares inverse of `apply`."""
        return projected @ self.components + self.mean


def fit_pca(rows: np.ndarray, dim: int, n_bucket: int = 1, renorm: bool = False) -> PCA:
    """Fit the ``dim`` leading components of ``rows`` (n, dim_in) float32.

    With more than one bucket, the components are ordered by `eigenvalue_allocation`.
    """
    mean = rows.mean(axis=0, dtype=np.float64)
    centered = rows - mean.astype(np.float32)
    covariance = multiply(centered.T, centered.T).astype(np.float64) / max(1, len(centered))
    eigenvalues, vectors = np.linalg.eigh(covariance)
    leading = np.argsort(-eigenvalues, kind="stable")[:dim]
    if n_bucket > 1:
        leading = leading[eigenvalue_allocation(n_bucket, eigenvalues[leading])]
    return PCA(mean.astype(np.float32), vectors[:, leading].T.astype(np.float32, order="C"), renorm)


def eigenvalue_allocation(num_buckets: int, eigenvalues: np.ndarray) -> np.ndarray:
    """Distribute dimensions over equal buckets so that their eigenvalue products balance.

    Greedy, from the largest eigenvalue down: each goes to the bucket with the smallest product
    among those with room left (Ge et al., Optimized product quantization, CVPR 2013, section
    3.2.3). Only ratios matter; eigenvalues below 1e-10 of the largest are raised to that value.

    Why the scale must cancel: logarithms of eigenvalues below 1 are negative, so the fullest
    bucket would have the smallest sum and keep filling up, and the codes would lose most of their
    accuracy. The old package divides by the smallest non-zero eigenvalue and returns the same
    permutation. It fails when all eigenvalues are zero or when ``num_buckets`` does not divide
    the dimensions; here the first buckets then hold one dimension more.

    Args:
        num_buckets: Number of buckets (subspaces).
        eigenvalues: (dim,) numbers; negative ones count as zero.

    Returns:
        (dim,) int64 permutation: the dimensions of bucket 0, then those of bucket 1, ...

    >>> eigenvalue_allocation(2, np.array([8.0, 4.0, 2.0, 1.0])).tolist()
    [0, 3, 1, 2]
    """
    values = np.maximum(np.asarray(eigenvalues, np.float64), 0)
    floor = 1e-10 * values.max() if values.max() > 0 else 1.0
    logs = np.log2(np.maximum(values, floor) / floor)  # all >= 0: products only grow
    room = len(values) // num_buckets + (np.arange(num_buckets) < len(values) % num_buckets)
    buckets: list[list[int]] = [[] for _ in range(num_buckets)]
    products = np.zeros(num_buckets)
    for i in np.argsort(-values, kind="stable"):
        has_room = [len(b) < size for b, size in zip(buckets, room, strict=True)]
        chosen = int(np.argmin(np.where(has_room, products, np.inf)))
        buckets[chosen].append(int(i))
        products[chosen] += logs[i]
    return np.array([i for bucket in buckets for i in bucket], np.int64)
