"""The loops that run per vector, per cell or per code, compiled by numba.

Search: in each cell the query becomes its rotated residual R_c (q - C_c - mu_c). From there on the
distance to a code is that of plain product quantization: one table of squared distances to the
codebook entries per byte of the code, and a sum over the bytes. Two 4-bit codes in a byte share a
table of 256 sums.

Sums have a fixed order, whichever row shares a loop with another, so results do not depend on the
number of threads or on the other rows of a batch. Nothing here checks the bounds of arrays.

All loops are in this file, because numba's cache on disk notices changes of the file of the
function that is called, not of the files of functions that it calls.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import TypeVar, cast

import numpy as np
from numba import njit

from lopq.arrays import ModelArrays, SnapshotArrays

F = TypeVar("F", bound=Callable[..., object])

SCANNED_CELLS = 16  # cells that are found by a scan of all distances; then a heap is faster
NO_ID = 2**63 - 1  # above every id at an equal distance; an infinite distance marks a missing one
# Sums may be split into SIMD lanes. NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz"}


def inner(function: F, fastmath: set[str] | bool = False) -> F:
    """Compile a function that kernels call: the machine code is part of theirs."""
    return cast(F, njit(error_model="numpy", fastmath=fastmath)(function))


def inner_sums(function: F) -> F:
    """Compile as `inner`, with sums in the order that is fastest, the same for all rows."""
    return inner(function, FAST)


def kernel(function: F, fastmath: set[str] | bool = False) -> F:
    """Compile a function that Python calls. It runs without Python's lock.

    The machine code is kept on disk, if numba finds a folder that it may write.
    """
    options = partial(njit, nogil=True, error_model="numpy", fastmath=fastmath)
    try:
        compiled = options(cache=True)(function)
    except RuntimeError:  # no such folder
        compiled = options()(function)

    @wraps(function)
    def call(*arguments: object) -> object:
        try:
            return compiled(*arguments)
        except OSError:  # the folder's disk is full; the machine code is in memory
            return compiled(*arguments)

    return cast(F, call)


def kernel_sums(function: F) -> F:
    """Compile as `kernel`, with sums in the order that is fastest, the same for all rows."""
    return kernel(function, FAST)


# ENCODE: the nearest cell of each row, its rotated residual, the nearest codebook entries


@kernel
def find_nearest_groups(
    rows: np.ndarray, columns: np.ndarray, half_norms: np.ndarray, near: np.ndarray
) -> None:
    """Write the numbers of each row's nearest groups, (n, n_probe) int64."""
    scores_x, scores_y = (
        np.empty(len(half_norms), np.float32),
        np.empty(len(half_norms), np.float32),
    )
    for row in range(0, len(rows), 2):
        other = row + 1 if row + 1 < len(rows) else row
        write_scores(rows[row], rows[other], columns, half_norms, scores_x, scores_y)
        for rank in range(near.shape[1]):
            first, second = first_smallest(scores_x), first_smallest(scores_y)
            near[row, rank], near[other, rank] = first, second
            scores_x[first], scores_y[second] = np.float32(np.inf), np.float32(np.inf)


@kernel
def find_nearest_cells(
    rows: np.ndarray,
    members: np.ndarray,
    columns: np.ndarray,
    half_norms: np.ndarray,
    start: int,
    best: np.ndarray,
    cells: np.ndarray,
) -> None:
    """Compare some rows with the cells of a group, and keep what is nearest so far.

    Args:
        rows: (n, dim) float32.
        members: Numbers of the rows to compare, int64.
        columns: (dim, n_cell) float32 centroids of the group.
        half_norms: (n_cell,) float32, half the squared norm of each centroid.
        start: The first cell of the group.
        best: (n,) float32, the smallest score so far.
        cells: (n,) int64, the cell of that score.
    """
    scores_x, scores_y = (
        np.empty(len(half_norms), np.float32),
        np.empty(len(half_norms), np.float32),
    )
    for i in range(0, len(members), 2):
        row, other = members[i], members[i + 1 if i + 1 < len(members) else i]
        write_scores(rows[row], rows[other], columns, half_norms, scores_x, scores_y)
        first, second = first_smallest(scores_x), first_smallest(scores_y)
        if scores_x[first] < best[row]:
            best[row], cells[row] = scores_x[first], start + first
        if scores_y[second] < best[other]:
            best[other], cells[other] = scores_y[second], start + second


@kernel_sums
def rotate_residuals(
    rows: np.ndarray,
    order: np.ndarray,
    cells: np.ndarray,
    centers: np.ndarray,
    rotation_of: np.ndarray,
    R: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the rotated residual R_c (x - center_c) of the rows in ``order`` to the same rows."""
    residual = np.empty(rows.shape[1], np.float32)
    for row in order:
        cell = cells[row]
        for j in range(len(residual)):
            residual[j] = rows[row, j] - centers[cell, j]  # (dim,)
        rotate_row(residual, R[rotation_of[cell]], out[row])


@kernel_sums
def rotate_rows(
    rows: np.ndarray, numbers: np.ndarray, R: np.ndarray, inverse: bool, out: np.ndarray
) -> None:
    """Write R x, or R' x, of each row x with the rotation that ``numbers`` gives it."""
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


@kernel
def find_nearest_entries(
    rows: np.ndarray, columns: np.ndarray, half_norms: np.ndarray, fine: np.ndarray
) -> None:
    """Write the (n, M) uint8 nearest entries of rows; columns (M, dim_sub, n_entry)."""
    M, dim_sub, n_entry = columns.shape
    scores_x, scores_y = np.empty(n_entry, np.float32), np.empty(n_entry, np.float32)
    for row in range(0, len(rows), 2):
        other = row + 1 if row + 1 < len(rows) else row
        x, y = rows[row], rows[other]
        for m in range(M):
            first, end = m * dim_sub, (m + 1) * dim_sub
            write_scores(
                x[first:end], y[first:end], columns[m], half_norms[m], scores_x, scores_y
            )  # (n_entry,)
            fine[row, m] = first_smallest(scores_x)
            fine[other, m] = first_smallest(scores_y)


@kernel
def add_rows(rows: np.ndarray, cells: np.ndarray, sums: np.ndarray) -> None:
    """Add rows (n, dim) to the sums (V, dim) of their cells."""
    for row in range(len(rows)):
        cell = cells[row]
        for j in range(rows.shape[1]):
            sums[cell, j] += rows[row, j]


@inner_sums
def rotate_row(x: np.ndarray, rotation: np.ndarray, out: np.ndarray) -> None:
    """Write ``rotation @ x`` to ``out``."""
    for i in range(len(x)):
        total = np.float32(0)
        for j in range(len(x)):
            total += rotation[i, j] * x[j]
        out[i] = total


@inner_sums
def write_scores(
    x: np.ndarray,
    y: np.ndarray,
    columns: np.ndarray,
    half_norms: np.ndarray,
    scores_x: np.ndarray,
    scores_y: np.ndarray,
) -> None:
    """Write the scores of two rows: half the squared norm of a point minus its product with a row.

    Scores order the points as their distances do. Two rows share what is read of the columns, and
    four columns at a time share what is read and written of the scores.

    Args:
        x: (dim,) float32 row.
        y: (dim,) float32 row.
        columns: (dim, n) float32 points.
        half_norms: (n,) float32, half the squared norms of the points.
        scores_x: (n,) float32 scores of x, written.
        scores_y: (n,) float32 scores of y, written.
    """
    dim, n = columns.shape
    for i in range(n):
        scores_x[i], scores_y[i] = half_norms[i], half_norms[i]
    j = 0
    while j + 4 <= dim:
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        y0, y1, y2, y3 = y[j], y[j + 1], y[j + 2], y[j + 3]
        for i in range(n):
            a, b = columns[j, i], columns[j + 1, i]
            c, d = columns[j + 2, i], columns[j + 3, i]
            scores_x[i] -= (x0 * a + x1 * b) + (x2 * c + x3 * d)
            scores_y[i] -= (y0 * a + y1 * b) + (y2 * c + y3 * d)
        j += 4
    while j + 2 <= dim:
        x0, x1, y0, y1 = x[j], x[j + 1], y[j], y[j + 1]
        for i in range(n):
            a, b = columns[j, i], columns[j + 1, i]
            scores_x[i] -= x0 * a + x1 * b
            scores_y[i] -= y0 * a + y1 * b
        j += 2
    if j < dim:
        x0, y0 = x[j], y[j]
        for i in range(n):
            scores_x[i] -= x0 * columns[j, i]
            scores_y[i] -= y0 * columns[j, i]


@inner
def first_smallest(values: np.ndarray) -> int:
    """Return the first index of the smallest of (n,) float32 values, none of which is NaN."""
    bits = values.view(np.int32)  # whole numbers compare in SIMD lanes
    smallest = order_of(bits[0])
    for i in range(len(bits)):
        value = order_of(bits[i])
        smallest = value if value < smallest else smallest
    end = np.int32(len(bits))
    first = end
    for i in range(end):
        place = np.int32(i) if order_of(bits[i]) == smallest else end
        first = place if place < first else first
    return int(first)


@inner
def order_of(bits: np.int32) -> np.int32:
    """Return a whole number that is in the order of the float32 with these bits."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


# SEARCH: visit the nearest cells of each query, and compare their codes


@kernel
def score_cells(
    queries: np.ndarray, panels: np.ndarray, half_norms: np.ndarray, scores: np.ndarray
) -> None:
    """Write scores that order the cells of each split by distance to each query.

    A panel of cells is read once for all queries.

    Args:
        queries: (n, S * dim) float32 queries minus the origins of the panels.
        panels: (S, n_panel, dim, PANEL) float32 centroids.
        half_norms: (S, n_panel, PANEL) float32, half their squared norms.
        scores: (n + 1, S, n_panel * PANEL) float32, written; the last row is for a partner.
    """
    n = len(queries)
    n_split, n_panel, dim, width = panels.shape
    for split in range(n_split):
        start = split * dim
        for number in range(n_panel):
            columns, norms = panels[split, number], half_norms[split, number]  # (dim, PANEL)
            first, end = number * width, (number + 1) * width
            for i in range(0, n, 2):
                other = i + 1 if i + 1 < n else i
                x, y = queries[i, start : start + dim], queries[other, start : start + dim]
                scores_x, scores_y = scores[i, split, first:end], scores[i + 1, split, first:end]
                write_scores(x, y, columns, norms, scores_x, scores_y)


@kernel
def search_snapshot(
    queries: np.ndarray,
    scores: np.ndarray,
    snapshot: SnapshotArrays,
    model: ModelArrays,
    quota: int,
    distances: np.ndarray,
    ids: np.ndarray,
    positions: np.ndarray,
) -> None:
    """Write the k nearest codes of each query, by (distance, id).

    Cells are visited whole, nearest first, until they hold ``quota`` candidates.

    Args:
        queries: (n, S * dim) float32 in model space.
        scores: What `score_cells` wrote.
        snapshot: The codes.
        model: The model.
        quota: Candidates per query: codes that are allowed and not removed.
        distances: (n, k) float32, written; infinite where there are fewer codes.
        ids: (n, k) int64, written; -1 where there are fewer codes.
        positions: (n, k) int64 positions of the codes, written; -1 where there are fewer.
    """
    cells, V, n_split = snapshot.cells, model.centers.shape[1], len(model.centers)
    near, order = np.empty(len(cells), np.float32), np.empty(len(cells), np.int64)
    tables = np.empty((snapshot.runs[0].codes.shape[1], 256), np.float32)
    for i in range(len(queries)):
        for slot in range(len(near)):  # (n_list,) distances to the cells that have codes
            cell = cells[slot]
            if n_split == 1:
                near[slot] = scores[i, 0, cell]
            else:
                near[slot] = scores[i, 0, cell // V] + scores[i, 1, cell % V]
        distances[i], ids[i], positions[i] = np.inf, NO_ID, -1
        nearest = distances[i], ids[i], positions[i]  # a heap of k
        n_candidate, left, scans = 0, len(near), 0
        while n_candidate < quota and left > 0:
            if scans < SCANNED_CELLS:
                slot = first_smallest(near)
                near[slot] = np.float32(np.inf)
                scans += 1
                left = left - 1 if scans < SCANNED_CELLS else make_heap(near, order)
            else:
                slot = order[0]
                left -= 1
                near[0], order[0] = near[left], order[left]
                sink(near, order, left, np.int64(0))
            if has_candidates(snapshot, slot):
                write_tables(queries[i], cells[slot], model, tables)  # (code_bytes, 256)
                n_candidate += scan_cell(snapshot, slot, tables, *nearest)
        sort_heap(*nearest)
        for rank in range(positions.shape[1]):
            if distances[i, rank] == np.inf:
                ids[i, rank], positions[i, rank] = -1, -1


@inner
def has_candidates(snapshot: SnapshotArrays, slot: int) -> bool:
    """Return whether a cell has a code that is allowed and not removed."""
    for run in snapshot.runs:
        for row in range(run.offsets[slot], run.offsets[slot + 1]):
            if is_candidate(run.removed, snapshot.allowed, row, run.ids[row]):
                return True
    return False


@inner
def is_candidate(removed: np.ndarray, allowed: np.ndarray, row: int, number: int) -> bool:
    """Return whether the code in a row of a run, of id ``number``, is allowed and not removed."""
    if len(removed) and removed[row >> 3] >> (row & 7) & 1:
        return False
    if len(allowed) == 0:
        return True
    return 0 <= number < len(allowed) and allowed[number]


@inner
def scan_cell(
    snapshot: SnapshotArrays,
    slot: int,
    tables: np.ndarray,
    distances: np.ndarray,
    ids: np.ndarray,
    positions: np.ndarray,
) -> int:
    """Put the nearest codes of a cell into the heap; return the number of candidates."""
    allowed, found, first = snapshot.allowed, 0, 0
    for run in snapshot.runs:
        # Looked up once: each look counts references.
        codes, numbers, removed = run.codes, run.ids, run.removed
        is_filtered = len(removed) > 0 or len(allowed) > 0
        for row in range(run.offsets[slot], run.offsets[slot + 1]):
            number = numbers[row]
            if is_filtered and not is_candidate(removed, allowed, row, number):
                continue
            found += 1
            distance = code_distance(codes, row, tables)
            if distance < distances[0] or (distance == distances[0] and number < ids[0]):
                position = first + row
                replace_worst(distances, ids, positions, len(ids), distance, number, position)
        first += len(numbers)
    return found


@inner
def write_tables(query: np.ndarray, cell: int, model: ModelArrays, tables: np.ndarray) -> None:
    """Write the (code_bytes, 256) distances of a query to all values of each byte in a cell."""
    n_split, V, dim = model.centers.shape
    M, dim_sub, n_entry = model.columns.shape
    residual, rotated = np.empty(dim, np.float32), np.empty(n_split * dim, np.float32)
    centers, columns = model.centers, model.columns
    for split in range(n_split):
        part = cell
        if n_split == 2:
            part = cell // V if split == 0 else cell % V
        start = split * dim
        for j in range(dim):
            residual[j] = query[start + j] - centers[split, part, j]  # (dim,)
        rotation = model.R[model.rotation_of[split, part]]
        rotate_row(residual, rotation, rotated[start : start + dim])  # (S * dim,)
    entries = np.empty(n_entry, np.float32)
    for m in range(M):
        subspace = rotated[m * dim_sub : (m + 1) * dim_sub]  # (dim_sub,)
        if model.bits == 8:
            squared_distances(subspace, columns[m], tables[m, :n_entry])
            continue
        squared_distances(subspace, columns[m], entries)  # (n_entry,)
        if m % 2 == 0:
            for value in range(256):
                low = value & 15
                tables[m // 2, value] = entries[low] if low < n_entry else np.float32(0)
        else:
            for value in range(256):
                high = value >> 4
                if high < n_entry:
                    tables[m // 2, value] += entries[high]


@inner_sums
def squared_distances(x: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """Write the squared distances of x (dim_sub,) to entries given by columns (dim_sub, n)."""
    for e in range(len(out)):
        out[e] = np.float32(0)
    for j in range(len(x)):
        value = x[j]
        for e in range(len(out)):
            difference = value - columns[j, e]
            out[e] += difference * difference


@inner
def code_distance(codes: np.ndarray, row: int, tables: np.ndarray) -> np.float32:
    """Return the sum of the tables' values; four sums shorten the chain of additions."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    width = len(tables)
    whole = width // 4 * 4
    for m in range(0, whole, 4):
        a += tables[m, codes[row, m]]
        b += tables[m + 1, codes[row, m + 1]]
        c += tables[m + 2, codes[row, m + 2]]
        d += tables[m + 3, codes[row, m + 3]]
    for m in range(whole, width):
        a += tables[m, codes[row, m]]
    return (a + b) + (c + d)


# RESULT HEAP: the k nearest codes so far, the worst at the root


@inner
def replace_worst(
    distances: np.ndarray,
    ids: np.ndarray,
    positions: np.ndarray,
    n: int,
    distance: np.float32,
    number: int,
    position: int,
) -> None:
    """Replace the root of a heap of n entries, whose root is the largest by (distance, id)."""
    parent, child = 0, 1
    while child < n:
        if child + 1 < n and (
            distances[child + 1] > distances[child]
            or (distances[child + 1] == distances[child] and ids[child + 1] > ids[child])
        ):
            child += 1
        if distances[child] < distance or (distances[child] == distance and ids[child] < number):
            break
        distances[parent], ids[parent] = distances[child], ids[child]
        positions[parent] = positions[child]
        parent, child = child, 2 * child + 1
    distances[parent], ids[parent], positions[parent] = distance, number, position


@inner
def sort_heap(distances: np.ndarray, ids: np.ndarray, positions: np.ndarray) -> None:
    """Sort the entries of a heap by (distance, id)."""
    for n in range(len(ids) - 1, 0, -1):
        distance, number, position = distances[n], ids[n], positions[n]
        distances[n], ids[n], positions[n] = distances[0], ids[0], positions[0]
        replace_worst(distances, ids, positions, n, distance, number, position)


# CELL HEAP: the cells of a query that were not visited yet, the nearest at the root


@inner
def make_heap(near: np.ndarray, order: np.ndarray) -> int:
    """Order the cells of finite distance as a heap, the nearest at its root; return how many."""
    left = np.int64(0)  # typed: sink is compiled once
    for slot in range(len(near)):
        if near[slot] < np.inf:
            near[left], order[left] = near[slot], slot
            left += 1
    for parent in range(left // 2 - 1, -1, -1):
        sink(near, order, left, parent)
    return left


@inner
def sink(near: np.ndarray, order: np.ndarray, n: int, parent: int) -> None:
    """Move an entry of a heap down to its place; the root is the smallest by (near, order)."""
    distance, slot = near[parent], order[parent]
    child = 2 * parent + 1
    while child < n:
        if child + 1 < n and (
            near[child + 1] < near[child]
            or (near[child + 1] == near[child] and order[child + 1] < order[child])
        ):
            child += 1
        if near[child] > distance or (near[child] == distance and order[child] > slot):
            break
        near[parent], order[parent] = near[child], order[child]
        parent, child = child, 2 * child + 1
    near[parent], order[parent] = distance, slot
