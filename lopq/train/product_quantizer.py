"""Train the codebooks of product quantization: one small k-means per subspace.

Jégou, Douze, Schmid: Product quantization for nearest neighbor search, TPAMI 2011.
"""

from typing import Any

import numpy as np

FAST_DIM = 8  # faiss compares vectors of 4 dimensions several times slower than vectors of 8


def train_codebooks(
    rows: np.ndarray, M: int, n_entry: int, n_iter: int, seed: int, n_init: int = 1
) -> np.ndarray:
    """Run k-means in each of ``M`` subspaces of ``rows`` (n, dim); M must divide dim.

    Returns:
        (M, n_entry, dim / M) float32. With fewer rows than entries, the last row is repeated.
    """
    subspaces = rows.reshape(len(rows), M, -1)  # (n, M, dim_sub)
    return np.stack(
        [
            kmeans(np.ascontiguousarray(subspaces[:, m]), n_entry, n_iter, seed + m, n_init)
            for m in range(M)
        ]
    )


def kmeans(
    rows: np.ndarray, n_centroid: int, n_iter: int, seed: int, n_init: int = 1
) -> np.ndarray:
    """Run faiss's k-means on ``rows`` (n, dim) and return (n_centroid, dim) float32 centroids.

    faiss trains on at most 256 rows per centroid and samples them when there are more.
    """
    import faiss

    if len(rows) <= n_centroid:
        return rows[np.minimum(np.arange(n_centroid), len(rows) - 1)]
    dim = rows.shape[1]
    if dim < FAST_DIM:
        rows = np.pad(rows, ((0, 0), (0, FAST_DIM - dim)))
    trainer: Any = faiss.Kmeans(
        rows.shape[1],
        n_centroid,
        niter=n_iter,
        nredo=n_init,
        seed=seed % 2**31,
        min_points_per_centroid=1,
    )
    trainer.train(rows)
    return np.ascontiguousarray(trainer.centroids[:, :dim])
