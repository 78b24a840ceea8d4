"""Encoding on threads: the nearest cell, the cell's rotation, the nearest entries."""

import numpy as np

from lopq.grouped import filled_groups, group_rows
from lopq.groups import Groups
from lopq.kernels import (
    add_rows,
    find_cells,
    find_entries,
    find_groups,
    multiply_rows,
    shift_and_rotate,
)
from lopq.threads import frozen, in_blocks

ROWS_AT_ONCE = 4096  # rows per call on a thread


def nearest_cells(rows: np.ndarray, groups: Groups, n_probe: int) -> np.ndarray:
    """Return each row's nearest centroid among those of its ``n_probe`` nearest groups.

    Args:
        rows: (n, dim) float32.
        groups: The groups of the cells.
        n_probe: Groups to look into, at most all.

    Returns:
        (n,) int64. At equal distances it is the first cell.
    """
    cells = np.empty(len(rows), np.int64)

    def call(block: slice) -> None:
        # Distances do not change with the origin, but far from it they drown in rounding errors.
        some = frozen(rows[block] - groups.origin)
        near = np.empty((len(some), n_probe), np.int64)
        find_groups(some, *groups.top_panel, near)
        best = np.full(len(some), np.inf, np.float32)
        order, offsets = group_rows(near.ravel(), len(groups.tops))
        members = order // n_probe
        for group, part in filled_groups(offsets):
            start = int(groups.starts[group])
            find_cells(some, members[part], *groups.panels[group], start, best, cells[block])

    in_blocks(call, len(rows), ROWS_AT_ONCE)
    return cells


def project_rows(
    rows: np.ndarray, cells: np.ndarray, centers: np.ndarray, numbers: np.ndarray, R: np.ndarray
) -> np.ndarray:
    """Rotate the difference between each row and the center of its cell.

    Args:
        rows: (n, dim) float32.
        cells: (n,) int64, the cell of each row.
        centers: (V, dim) float32.
        numbers: (V,) int64, the rotation of each cell.
        R: (n_rotation, dim, dim) float32 rotations.

    Returns:
        (n, dim) float32.
    """
    projected = np.empty(rows.shape, np.float32)
    order, _ = group_rows(cells, len(centers))  # rows of a cell share what is read of it
    rows, cells, centers = frozen(rows), frozen(cells), frozen(centers)
    numbers, R = frozen(numbers), frozen(R)

    def call(block: slice) -> None:
        shift_and_rotate(rows, order[block], cells, centers, numbers, R, projected)

    in_blocks(call, len(rows), ROWS_AT_ONCE)
    return projected


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
    halves = frozen((centroids * centroids).sum(axis=2) / 2)

    def call(block: slice) -> None:
        find_entries(rows[block], columns, halves, fine[block])

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
