"""Compiled loops that encode: the nearest cell, the cell's rotation, the nearest entries."""

import numpy as np

from lopq.compiled import compiled, compiled_sums, frozen, in_blocks

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
        _nearest_cells(rows[block], C, tops, starts, n_probe, cells[block])

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
        _rotate_rows(rows[block], numbers[block], R, inverse, rotated[block])

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
        _nearest_entries(rows[block], columns, fine[block])

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
    _add_rows(frozen(rows), frozen(cells), sums)
    counts = np.bincount(cells, minlength=len(empty))[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), empty).astype(np.float32)


@compiled_sums
def squared_distance(x: np.ndarray, y: np.ndarray) -> np.float32:
    """Return the squared L2 distance of two (dim,) float32 vectors."""
    total = np.float32(0)
    for j in range(len(x)):
        difference = x[j] - y[j]
        total += difference * difference
    return total


@compiled_sums
def rotate_row(x: np.ndarray, rotation: np.ndarray, out: np.ndarray) -> None:
    """Write ``rotation @ x`` to ``out``."""
    for i in range(len(x)):
        total = np.float32(0)
        for j in range(len(x)):
            total += rotation[i, j] * x[j]
        out[i] = total


@compiled_sums
def entry_distances(x: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Write the squared distances of x (dim_sub,) to entries given by columns (dim_sub, n)."""
    for e in range(len(out)):
        out[e] = np.float32(0)
    for j in range(len(x)):
        value = x[j]
        for e in range(len(out)):
            difference = value - columns[j, e]
            out[e] += difference * difference


@compiled
def _nearest_cells(
    rows: np.ndarray,
    C: np.ndarray,
    tops: np.ndarray,
    starts: np.ndarray,
    n_probe: int,
    cells: np.ndarray,
) -> None:
    distances = np.empty(len(tops), np.float32)
    for i in range(len(rows)):
        for group in range(len(tops)):
            distances[group] = squared_distance(rows[i], tops[group])
        best, nearest = np.float32(np.inf), 0
        for _ in range(n_probe):
            group = int(np.argmin(distances))
            distances[group] = np.inf
            for cell in range(starts[group], starts[group + 1]):
                distance = squared_distance(rows[i], C[cell])
                if distance < best:
                    best, nearest = distance, cell
        cells[i] = nearest


@compiled_sums
def _rotate_rows(
    rows: np.ndarray, numbers: np.ndarray, R: np.ndarray, inverse: bool, out: np.ndarray
) -> None:
    n, dim = rows.shape
    for row in range(n):
        rotation = R[numbers[row]]
        if not inverse:
            rotate_row(rows[row], rotation, out[row])
            continue
        for j in range(dim):
            out[row, j] = np.float32(0)
        for i in range(dim):
            value = rows[row, i]
            for j in range(dim):
                out[row, j] += value * rotation[i, j]


@compiled
def _nearest_entries(rows: np.ndarray, columns: np.ndarray, fine: np.ndarray) -> None:
    M, dim_sub, n_entry = columns.shape
    distances = np.empty(n_entry, np.float32)
    # Floats from 0 up are in the order of their bits, and whole numbers compare in SIMD lanes.
    bits = distances.view(np.int32)
    for row in range(len(rows)):
        for m in range(M):
            part = rows[row, m * dim_sub : (m + 1) * dim_sub]
            entry_distances(part, columns[m], distances)
            fine[row, m] = first_smallest(bits)


@compiled
def first_smallest(values: np.ndarray) -> int:
    """Return the first index of the smallest of (n,) int32 values."""
    smallest = values[0]
    for i in range(len(values)):
        value = values[i]
        smallest = value if value < smallest else smallest
    end = np.int32(len(values))
    first = end
    for i in range(end):
        place = np.int32(i) if values[i] == smallest else end
        first = place if place < first else first
    return int(first)


@compiled
def _add_rows(rows: np.ndarray, cells: np.ndarray, sums: np.ndarray) -> None:
    for row in range(len(rows)):
        cell = cells[row]
        for j in range(rows.shape[1]):
            sums[cell, j] += rows[row, j]
