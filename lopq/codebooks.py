"""Product codebooks: train, encode, decode. Each subspace has one small codebook.

Jégou, Douze, Schmid: Product quantization for nearest neighbor search, TPAMI 2011.
"""

from typing import Any

import numpy as np

FAST_DIM = 8  # faiss compares vectors of 4 dimensions several times slower than vectors of 8


class Codebooks:
    """The model's codebooks.

    Args:
        centroids: (M, n_entry, dim_sub) float32; at most 256 entries, 16 with ``bits=4``.
        bits: Bits per subquantizer, 8 or 4. Two 4-bit codes share a byte, the first in the low
            half.
    """

    def __init__(self, centroids: np.ndarray, bits: int = 8) -> None:
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        self.M, self.n_entry, self.dim_sub = self.centroids.shape
        self.bits = bits

    @property
    def code_bytes(self) -> int:
        """Bytes per packed code."""
        return (self.M * self.bits + 7) // 8

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Encode (n, M * dim_sub) float32 rows as packed codes (n, code_bytes) uint8."""
        from lopq.encoding import nearest_entries

        return self.pack(nearest_entries(rows, self.centroids))

    def decode(self, packed: np.ndarray) -> np.ndarray:
        """Decode packed codes (n, code_bytes) to (n, M * dim_sub) float32 rows."""
        parts = self.centroids[np.arange(self.M), self.unpack(packed)]
        return parts.reshape(len(packed), self.M * self.dim_sub)

    def unpack(self, packed: np.ndarray) -> np.ndarray:
        """Return packed codes as (n, M) uint8, one codebook entry per subspace."""
        if self.bits == 8:
            return np.array(packed, np.uint8)
        halves = np.stack([packed & 15, packed >> 4], axis=2)  # (n, code_bytes, 2)
        return np.ascontiguousarray(halves.reshape(len(packed), 2 * self.code_bytes)[:, : self.M])

    def pack(self, fine: np.ndarray) -> np.ndarray:
        """Pack (n, M) codebook entries into (n, code_bytes) uint8; the inverse of `unpack`."""
        fine = np.asarray(fine, np.uint8)
        if self.bits == 8:
            return np.ascontiguousarray(fine)
        full = np.zeros((len(fine), 2 * self.code_bytes), np.uint8)
        full[:, : self.M] = fine
        return full[:, 0::2] | full[:, 1::2] << 4


def train_centroids(
    rows: np.ndarray, M: int, n_entry: int, n_iter: int, seed: int, n_init: int = 1
) -> np.ndarray:
    """Run k-means in each of ``M`` subspaces of ``rows`` (n, dim); M must divide dim.

    Returns:
        (M, n_entry, dim / M) float32. With fewer rows than entries, the last row is repeated.
    """
    subspaces = rows.reshape(len(rows), M, -1)
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


def mean_centroids(rows: np.ndarray, fine: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return codebooks whose entries are the means of the rows assigned to them.

    Args:
        rows: (n, M * dim_sub) float32.
        fine: (n, M) uint8, the entry of each row in each subspace.
        centroids: (M, n_entry, dim_sub) float32; unused entries keep these values.

    Returns:
        (M, n_entry, dim_sub) float32.
    """
    M, n_entry, dim_sub = centroids.shape
    means = centroids.copy()
    for m in range(M):
        code = fine[:, m]
        count = np.bincount(code, minlength=n_entry)
        used = count > 0
        for j in range(dim_sub):
            total = np.bincount(code, rows[:, m * dim_sub + j], n_entry)
            means[m, used, j] = total[used] / count[used]
    return means
