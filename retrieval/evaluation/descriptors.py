"""Descriptors that need no training: the baselines of a model."""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

THUMBNAIL = 16  # px, side of the small copy
LEVELS = 8  # bins of each channel in the color histogram
IMAGE_BLOCK = 512  # images at once

Descriptor = Callable[[np.ndarray], np.ndarray]


def raw_pixels(images: np.ndarray) -> np.ndarray:
    """Describe images by small copies of themselves, less their mean.

    Args:
        images: (n, 3, side, side) uint8.

    Returns:
        (n, 3 * 16 * 16) float32, rows of unit L2 norm; their inner product is the correlation.
    """
    n, side = len(images), images.shape[-1]
    edges = np.linspace(0, side, min(THUMBNAIL, side) + 1).astype(int)
    sums = np.add.reduceat(images.astype(np.float32), edges[:-1], axis=2)
    sums = np.add.reduceat(sums, edges[:-1], axis=3)
    areas = np.diff(edges)[:, None] * np.diff(edges)
    pixels = (sums / areas).reshape(n, -1)
    return _unit_rows(pixels - pixels.mean(axis=1, keepdims=True))


def color_histogram(images: np.ndarray) -> np.ndarray:
    """Describe images by the square roots of their joint RGB histograms (Hellinger kernel).

    Args:
        images: (n, 3, side, side) uint8.

    Returns:
        (n, 512) float32, rows of unit L2 norm.
    """
    n = len(images)
    red, green, blue = (images * np.uint16(LEVELS) // 256).reshape(n, 3, -1).transpose(1, 0, 2)
    bins = (red * LEVELS + green) * LEVELS + blue  # (n, side * side)
    offsets = np.arange(n)[:, None] * LEVELS**3
    counts = np.bincount((bins + offsets).ravel(), minlength=n * LEVELS**3)
    return _unit_rows(np.sqrt(counts.reshape(n, -1)))


def describe_images(descriptor: Descriptor, matrix: np.ndarray, title: str) -> np.ndarray:
    """Return the descriptors of a whole image matrix, block by block: (n_image, dim) float32."""
    starts = range(0, len(matrix), IMAGE_BLOCK)
    blocks = [
        descriptor(matrix[start : start + IMAGE_BLOCK])
        for start in tqdm(starts, desc=title, unit="block", disable=None, leave=False)
    ]
    return np.concatenate(blocks)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.maximum(norms, 1e-12)).astype(np.float32)
