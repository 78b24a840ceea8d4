"""Random unit vectors around the centers of classes."""

from pathlib import Path

import numpy as np

BLOCK = 65_536  # rows drawn at once


def fill_clusters(out: np.ndarray, labels: np.ndarray, seed: int, noise: float = 1.0) -> None:
    """Fill ``out`` with unit vectors around the centers of their classes, block by block.

    Args:
        out: (n, dim) float32 array or memory map.
        labels: (n,) int64, at least 0. A class has the same center whatever the other arguments.
        seed: Seed of the noise.
        noise: Standard deviation of the noise per dimension; that of the centers is 1.
    """
    dim = out.shape[1]
    shape = (int(labels.max()) + 1, dim)
    centers = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    rng = np.random.default_rng(seed)
    for start in range(0, len(labels), BLOCK):
        block = centers[labels[start : start + BLOCK]]
        block += np.float32(noise) * rng.standard_normal(block.shape, dtype=np.float32)
        out[start : start + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)


def write_clusters(path: Path, labels: np.ndarray, dim: int, seed: int, noise: float = 1.0) -> Path:
    """Write (n, dim) float32 unit vectors around the centers of their classes."""
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (len(labels), dim))
    fill_clusters(rows, labels, seed, noise)
    rows.flush()
    return path
