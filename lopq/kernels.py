"""The loops that run per vector, per cell or per code, compiled by numba.

Search: for a cell with its own rotation, the query becomes R_c (q - C_c - mu_c). With this vector
the distance to a code is the one of plain product quantization: one table of squared distances to
the codebook entries per byte of the code, and a sum over the bytes. Two 4-bit codes in a byte share
a table of 256 sums.

Sums have a fixed order, whichever row shares a loop with another, so results do not depend on the
number of threads or on the other rows of a batch. Nothing here checks the bounds of arrays.

All loops are in this file, because numba's cache on disk notices changes of the file of the
function that is called, not of the files of functions that it calls.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit

from lopq.arrays import CodeArrays, ModelArrays

F = TypeVar("F", bound=Callable[..., object])

LOOKS = 16  # cells that are looked for one by one; from there on a heap is faster
NO_ID = 2**63 - 1  # above every id at an equal distance; an infinite distance marks a missing one
# Sums may be split into SIMD lanes. NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz"}


def compiled(function: F) -> F:
    """Compile a function for arrays; it runs without Python's lock, and the cache is on disk."""
    return cast(F, njit(nogil=True, cache=True, error_model="numpy")(function))


def compiled_sums(function: F) -> F:
    """Compile as `compiled`, with sums in the order that is fastest, the same for all rows."""
    return cast(F, njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")(function))


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


@compiled_sums
def write_scores(
    x: np.ndarray,
    y: np.ndarray,
    columns: np.ndarray,
    halves: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
) -> None:
    """Write to p and q half the squared norm of each point minus its products with two rows.

    Scores order the points as their distances do. Two rows share what is read of the columns, and
    four columns at a time share what is read and written of the scores.

    Args:
        x: (dim,) float32 row.
        y: (dim,) float32 row.
        columns: (dim, n) float32 points.
        halves: (n,) float32, half the squared norms of the points.
        p: (n,) float32 scores of x, written.
        q: (n,) float32 scores of y, written.
    """
    dim, n = columns.shape
    for i in range(n):
        half = halves[i]
        p[i], q[i] = half, half
    j = 0
    while j + 4 <= dim:
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        y0, y1, y2, y3 = y[j], y[j + 1], y[j + 2], y[j + 3]
        for i in range(n):
            a, b = columns[j, i], columns[j + 1, i]
            c, d = columns[j + 2, i], columns[j + 3, i]
            p[i] -= (x0 * a + x1 * b) + (x2 * c + x3 * d)
            q[i] -= (y0 * a + y1 * b) + (y2 * c + y3 * d)
        j += 4
    while j + 2 <= dim:
        x0, x1, y0, y1 = x[j], x[j + 1], y[j], y[j + 1]
        for i in range(n):
            a, b = columns[j, i], columns[j + 1, i]
            p[i] -= x0 * a + x1 * b
            q[i] -= y0 * a + y1 * b
        j += 2
    if j < dim:
        x0, y0 = x[j], y[j]
        for i in range(n):
            p[i] -= x0 * columns[j, i]
            q[i] -= y0 * columns[j, i]


@compiled
def find_groups(
    rows: np.ndarray, columns: np.ndarray, halves: np.ndarray, near: np.ndarray
) -> None:
    """Write the numbers of each row's nearest groups, (n, n_probe) int64."""
    p, q = np.empty(len(halves), np.float32), np.empty(len(halves), np.float32)
    for row in range(0, len(rows), 2):
        other = min(row + 1, len(rows) - 1)
        write_scores(rows[row], rows[other], columns, halves, p, q)
        for rank in range(near.shape[1]):
            first, second = first_smallest(p), first_smallest(q)
            near[row, rank], near[other, rank] = first, second
            p[first], q[second] = np.float32(np.inf), np.float32(np.inf)


@compiled
def find_cells(
    rows: np.ndarray,
    members: np.ndarray,
    columns: np.ndarray,
    halves: np.ndarray,
    start: int,
    best: np.ndarray,
    cells: np.ndarray,
) -> None:
    """Compare some rows with the cells of a group, and keep what is nearest so far.

    Args:
        rows: (n, dim) float32.
        members: Numbers of the rows to compare, int64.
        columns: (dim, n_cell) float32 centroids of the group.
        halves: (n_cell,) float32, half the squared norm of each centroid.
        start: The first cell of the group.
        best: (n,) float32, the smallest score so far.
        cells: (n,) int64, the cell of that score.
    """
    p, q = np.empty(len(halves), np.float32), np.empty(len(halves), np.float32)
    for i in range(0, len(members), 2):
        row, other = members[i], members[min(i + 1, len(members) - 1)]
        write_scores(rows[row], rows[other], columns, halves, p, q)
        first, second = first_smallest(p), first_smallest(q)
        if p[first] < best[row]:
            best[row], cells[row] = p[first], start + first
        if q[second] < best[other]:
            best[other], cells[other] = q[second], start + second


@compiled_sums
def shift_and_rotate(
    rows: np.ndarray,
    order: np.ndarray,
    cells: np.ndarray,
    centers: np.ndarray,
    numbers: np.ndarray,
    R: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write to out[i] the rotation of rows[i] minus its cell's center, for i in ``order``."""
    shifted = np.empty(rows.shape[1], np.float32)
    for row in order:
        cell = cells[row]
        for j in range(len(shifted)):
            shifted[j] = rows[row, j] - centers[cell, j]
        rotate_row(shifted, R[numbers[cell]], out[row])


@compiled_sums
def multiply_rows(
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
def find_entries(
    rows: np.ndarray, columns: np.ndarray, halves: np.ndarray, fine: np.ndarray
) -> None:
    """Write the (n, M) uint8 nearest entries of rows, of codebooks given by columns."""
    M, dim_sub, n_entry = columns.shape
    p, q = np.empty(n_entry, np.float32), np.empty(n_entry, np.float32)
    for row in range(0, len(rows), 2):
        other = min(row + 1, len(rows) - 1)
        x, y = rows[row], rows[other]
        for m in range(M):
            first, end = m * dim_sub, (m + 1) * dim_sub
            write_scores(x[first:end], y[first:end], columns[m], halves[m], p, q)
            fine[row, m] = first_smallest(p)
            fine[other, m] = first_smallest(q)


@compiled
def order_of(bits: np.int32) -> np.int32:
    """Return a whole number that is in the order of the float32 with these bits."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@compiled
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


@compiled
def add_rows(rows: np.ndarray, cells: np.ndarray, sums: np.ndarray) -> None:
    for row in range(len(rows)):
        cell = cells[row]
        for j in range(rows.shape[1]):
            sums[cell, j] += rows[row, j]


@compiled
def search_rows(
    queries: np.ndarray,
    rows: CodeArrays,
    model: ModelArrays,
    quota: int,
    distances: np.ndarray,
    positions: np.ndarray,
) -> None:
    """Write the k nearest codes of each query, by (distance, id).

    Cells are visited whole, nearest first, until they hold ``quota`` codes that count.

    Args:
        queries: (n, S * dim) float32 in model space.
        rows: The database.
        model: The model.
        quota: Codes to compare per query.
        distances: (n, k) float32, written; infinite where there are fewer codes.
        positions: (n, k) int64, written: sorted codes first, then later ones; -1 where there are
            fewer codes.
    """
    n_split, V, _ = model.centers.shape
    away = cell_scores(queries, model)
    near = np.empty(len(rows.cells), np.float32)
    order = np.empty(len(rows.cells), np.int64)
    tables = np.empty((rows.codes.shape[1], 256), np.float32)
    cells = rows.cells
    for i in range(len(queries)):
        for slot in range(len(near)):
            cell = cells[slot]
            if n_split == 1:
                near[slot] = away[i, 0, cell]
            else:
                near[slot] = away[i, 0, cell // V] + away[i, 1, cell % V]
        distances[i] = np.inf
        positions[i] = -1
        found = distances[i], positions[i]
        seen, left = 0, len(near)
        while seen < quota and left and len(near) - left < LOOKS:
            slot = first_smallest(near)
            near[slot] = np.float32(np.inf)
            left -= 1
            seen += scan(rows, slot, queries[i], model, tables, *found)
        if seen < quota and left:
            left = unvisited(near, order)
            make_heap(near, order, left)
        while seen < quota and left:
            slot = pop_nearest(near, order, left)
            left -= 1
            seen += scan(rows, slot, queries[i], model, tables, *found)
        sort_heap(*found, rows.ids, rows.later_ids)
        for rank in range(positions.shape[1]):
            if distances[i, rank] == np.inf:
                positions[i, rank] = -1


@compiled
def cell_scores(queries: np.ndarray, model: ModelArrays) -> np.ndarray:
    """Return (n, S, >= V) scores, which order the cells of each split by distance to each query.

    A panel of cells is read once for all queries.
    """
    n, dim = len(queries), model.origins.shape[1]
    n_split, n_panel, _, width = model.panels.shape
    scores = np.empty((n + 1, n_split, n_panel * width), np.float32)  # one more: a partner's
    shifted = np.empty((n, dim), np.float32)
    for split in range(n_split):
        for i in range(n):
            for j in range(dim):
                shifted[i, j] = queries[i, split * dim + j] - model.origins[split, j]
        for number in range(n_panel):
            panel, halves = model.panels[split, number], model.halves[split, number]
            first, end = number * width, (number + 1) * width
            for i in range(0, n, 2):
                x, y = shifted[i], shifted[min(i + 1, n - 1)]
                p, q = scores[i, split, first:end], scores[i + 1, split, first:end]
                write_scores(x, y, panel, halves, p, q)
    return scores


@compiled
def unvisited(near: np.ndarray, order: np.ndarray) -> int:
    """Move cells of finite distance to the front, their numbers to ``order``; return how many."""
    left = 0
    for slot in range(len(near)):
        if near[slot] < np.inf:
            near[left], order[left] = near[slot], slot
            left += 1
    return left


@compiled
def is_counted(rows: CodeArrays, position: int, number: int) -> bool:
    """Return whether a code is neither removed nor forbidden."""
    if len(rows.gone) and rows.gone[position >> 3] >> (position & 7) & 1:
        return False
    if len(rows.allowed) == 0:
        return True
    return 0 <= number < len(rows.allowed) and rows.allowed[number]


@compiled
def write_tables(query: np.ndarray, cell: int, model: ModelArrays, tables: np.ndarray) -> None:
    """Write the (code_bytes, 256) distances of a query to all values of each byte in a cell."""
    n_split, V, dim = model.centers.shape
    M, dim_sub, n_entry = model.columns.shape
    shifted, rotated = np.empty(dim, np.float32), np.empty(n_split * dim, np.float32)
    centers, columns = model.centers, model.columns
    for split in range(n_split):
        half = cell
        if n_split == 2:
            half = cell // V if split == 0 else cell % V
        start = split * dim
        for j in range(dim):
            shifted[j] = query[start + j] - centers[split, half, j]
        rotation = model.R[model.rotation_of[split, half]]
        rotate_row(shifted, rotation, rotated[start : start + dim])
    entries = np.empty(n_entry, np.float32)
    for m in range(M):
        part = rotated[m * dim_sub : (m + 1) * dim_sub]
        if model.bits == 8:
            entry_distances(part, columns[m], tables[m, :n_entry])
            continue
        entry_distances(part, columns[m], entries)
        if m % 2 == 0:
            for value in range(256):
                low = value & 15
                tables[m // 2, value] = entries[low] if low < n_entry else np.float32(0)
        else:
            for value in range(256):
                high = value >> 4
                if high < n_entry:
                    tables[m // 2, value] += entries[high]


@compiled
def scan(
    rows: CodeArrays,
    slot: int,
    query: np.ndarray,
    model: ModelArrays,
    tables: np.ndarray,
    distances: np.ndarray,
    positions: np.ndarray,
) -> int:
    """Put the nearest codes of a cell into the heap; return how many counted."""
    filtered = len(rows.gone) > 0 or len(rows.allowed) > 0
    # Looked up once: each look counts references.
    codes, ids, later_codes, later_ids = rows.codes, rows.ids, rows.later_codes, rows.later_ids
    found, worst = 0, distances[0]
    for row in range(rows.offsets[slot], rows.offsets[slot + 1]):
        if filtered and not is_counted(rows, row, ids[row]):
            continue
        if found == 0:
            write_tables(query, rows.cells[slot], model, tables)
        found += 1
        distance = code_distance(codes, row, tables)
        if distance <= worst and (
            distance < worst or ids[row] < id_at(positions[0], ids, later_ids)
        ):
            replace_worst(distances, positions, len(positions), distance, row, ids, later_ids)
            worst = distances[0]
    if len(rows.heads) == 0:
        return found
    row = rows.heads[slot]
    while row >= 0:
        position = len(ids) + row
        if is_counted(rows, position, later_ids[row]):
            if found == 0:
                write_tables(query, rows.cells[slot], model, tables)
            found += 1
            distance = code_distance(later_codes, row, tables)
            if distance <= worst and (
                distance < worst or later_ids[row] < id_at(positions[0], ids, later_ids)
            ):
                n = len(positions)
                replace_worst(distances, positions, n, distance, position, ids, later_ids)
                worst = distances[0]
        row = rows.previous[row]
    return found


@compiled
def id_at(position: int, ids: np.ndarray, later_ids: np.ndarray) -> int:
    """Return the id at a position; `NO_ID` for -1."""
    if position < 0:
        return NO_ID
    return ids[position] if position < len(ids) else later_ids[position - len(ids)]


@compiled
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


@compiled
def replace_worst(
    distances: np.ndarray,
    positions: np.ndarray,
    n: int,
    distance: np.float32,
    position: int,
    ids: np.ndarray,
    later_ids: np.ndarray,
) -> None:
    """Replace the root of a heap of n entries, whose root is the largest by (distance, id)."""
    parent, child = 0, 1
    while child < n:
        if child + 1 < n and (
            distances[child + 1] > distances[child]
            or (
                distances[child + 1] == distances[child]
                and id_at(positions[child + 1], ids, later_ids)
                > id_at(positions[child], ids, later_ids)
            )
        ):
            child += 1
        if distances[child] < distance or (
            distances[child] == distance
            and id_at(positions[child], ids, later_ids) < id_at(position, ids, later_ids)
        ):
            break
        distances[parent], positions[parent] = distances[child], positions[child]
        parent, child = child, 2 * child + 1
    distances[parent], positions[parent] = distance, position


@compiled
def sort_heap(
    distances: np.ndarray, positions: np.ndarray, ids: np.ndarray, later_ids: np.ndarray
) -> None:
    """Sort the entries of a heap by (distance, id)."""
    for n in range(len(positions) - 1, 0, -1):
        distance, position = distances[n], positions[n]
        distances[n], positions[n] = distances[0], positions[0]
        replace_worst(distances, positions, n, distance, position, ids, later_ids)


@compiled
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


@compiled
def make_heap(near: np.ndarray, order: np.ndarray, n: int) -> None:
    """Order the first n cells as a heap with the nearest at the root."""
    for parent in range(n // 2 - 1, -1, -1):
        sink(near, order, n, parent)


@compiled
def pop_nearest(near: np.ndarray, order: np.ndarray, n: int) -> int:
    """Take the root of a heap of n entries."""
    nearest = order[0]
    near[0], order[0] = near[n - 1], order[n - 1]
    sink(near, order, n - 1, 0)
    return nearest
