"""Encoding on threads: the nearest cell, the cell's rotation, the nearest entries."""

import numpy as np

from lopq.kernels import add_rows, find_cells, find_entries, multiply_rows
from lopq.threads import frozen, in_blocks

ROWS_AT_ONCE = 4096  # rows per call on a thread


def nearest_cells(
    rows: np.ndarray, C: np.ndarray, tops: np.ndarray, starts: np.ndarray, n_probe: int
) -> np.ndarray:
    """Return each row's nearest centroid among those of its ``n_probe`` nearest groups.

    Args:
        rows: (n, dim) float32.
        C: (V, dim) float32 centroids, sorted by group.
        tops: (n_group, dim) float32, the center of each group.
        starts: (n_group + 1,) int64, the first centroid of each group.
        n_probe: Groups to look into, at most n_group.

    Returns:
        (n,) int64.
    """
    cells = np.empty(len(rows), np.int64)
    rows, C, tops, starts = frozen(rows), frozen(C), frozen(tops), frozen(starts)

    def call(block: slice) -> None:
        find_cells(rows[block], C, tops, starts, n_probe, cells[block])

    in_blocks(call, len(rows), ROWS_AT_ONCE)
    return cells


def rotate_rows(
    rows: np.ndarray, numbers: np.ndarray, R: np.ndarray, inverse: bool = False
) -> np.ndarray:
    """Multiply each row by a rotation, or by its inverse.

    Args:
        rows: (n, dim) float32; fastest if sorted by rotation.
        numbers: (n,) int64, the rotation of each row.
        R: (n_rotation, dim, dim) float32 rotations.
        inverse: Multiply by the transposed rotation.

    Returns:
        (n, dim) float32.
    """
    rotated = np.empty(rows.shape, np.float32)
    rows, numbers, R = frozen(rows), frozen(numbers), frozen(R)

    def call(block: slice) -> None:
        multiply_rows(rows[block], numbers[block], R, inverse, rotated[block])

    in_blocks(call, len(rows), ROWS_AT_ONCE)
    return rotated


def nearest_entries(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the nearest codebook entry of each row in each subspace; ties go to the first.

    Args:
        rows: (n, M * dim_sub) float32.
        centroids: (M, n_entry, dim_sub) float32; at most 256 entries.

    Returns:
        (n, M) uint8.
    """
    fine = np.empty((len(rows), len(centroids)), np.uint8)
    rows, columns = frozen(rows), frozen(centroids.transpose(0, 2, 1))

    def call(block: slice) -> None:
        find_entries(rows[block], columns, fine[block])

    in_blocks(call, len(rows), ROWS_AT_ONCE)
    return fine


def mean_rows(rows: np.ndarray, cells: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Return the mean row of each cell, (V, dim) float32.

    Args:
        rows: (n, dim) float32.
        cells: (n,) int64.
        empty: (V, dim) float32, what cells without rows get.
    """
    sums = np.zeros(empty.shape, np.float64)
    add_rows(frozen(rows), frozen(cells), sums)
    counts = np.bincount(cells, minlength=len(empty))[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), empty).astype(np.float32)
