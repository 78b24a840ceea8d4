"""Two ways to find the nearest codes of (query, cell) pairs, both in faiss's code.

To a cell with its own rotation, a query is another vector: R_c (q - C_c - mu_c). With that
"virtual query" in place of the query, the distance to a code is that of plain product
quantization, and what faiss has for that can be used:

- `scan_decoded` decodes each visited cell once and takes the distances of all its virtual
  queries as a matrix product: the fastest where many queries meet in a cell.
- `TableScan` holds the codes in a faiss index whose coarse centroids are all zero, and scans
  one list for each virtual query with its lookup table (4-bit codes: with SIMD registers as
  tables): the fastest for one or a few queries.
"""

from typing import Any

import faiss
import numpy as np

from lopq.codebooks import Codebooks
from lopq.errors import row_blocks
from lopq.grouping import filled_groups, group_rows
from lopq.lists import CellLists
from lopq.products import Multiplier
from lopq.split import Split


def rotate_queries(
    splits: tuple[Split, ...], queries: np.ndarray, rows: np.ndarray, coarse: np.ndarray
) -> np.ndarray:
    """Return R_c (q - C_c - mu_c) of each pair of a query and a cell, (n_pair, dim) float32.

    Args:
        splits: The model's splits.
        queries: (n_query, dim) in model space.
        rows: (n_pair,) int64 the query of each pair.
        coarse: (n_pair, n_split) int64 its cell.
    """
    rotated = np.empty((len(rows), queries.shape[1]), np.float32)
    start = 0
    for split, cells in zip(splits, coarse.T, strict=True):
        columns = slice(start, start + split.dim)
        part = np.ascontiguousarray(queries[:, columns])
        multiply = Multiplier(split.dim, split.dim)
        order, offsets = group_rows(cells, len(split.C))
        for cell, group in filled_groups(offsets):
            pairs = order[group]
            difference = part[rows[pairs]] - (split.C[cell] + split.mu[cell])
            rotated[pairs, columns] = multiply(difference, split.R[cell])
        start += split.dim
    return rotated


def scan_decoded(
    lists: CellLists, codebooks: Codebooks, rotated: np.ndarray, slots: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``depth`` nearest codes of each pair.

    Args:
        lists: The database.
        codebooks: Of all splits.
        rotated: (n_pair, dim) virtual queries.
        slots: (n_pair,) the list of each.
        depth: Codes wanted for each pair.

    Returns:
        distances: (n_pair, depth) float32 squared distances; inf where the list is shorter.
        positions: (n_pair, depth) int64 rows of ``lists.codes``; -1 there.
    """
    distances = np.full((len(slots), depth), np.inf, np.float32)
    positions = np.full((len(slots), depth), -1, np.int64)
    order, offsets = group_rows(slots, len(lists.cells))
    for slot, group in filled_groups(offsets):
        pairs = order[group]
        first, last = lists.offsets[slot : slot + 2]
        decoded = codebooks.decode(lists.codes[first:last])
        found = min(depth, len(decoded))
        near, rows = faiss.knn(rotated[pairs], decoded, found)
        distances[pairs, :found] = near
        positions[pairs, :found] = rows + first
    return distances, positions


TABLES_AT_ONCE = 32_768  # lookup tables in memory: 64 M bytes each with 4-bit codes


class TableScan:
    """The database in faiss's inverted lists, for scans with lookup tables."""

    def __init__(self, lists: CellLists, codebooks: Codebooks) -> None:
        dim, n_list = codebooks.M * codebooks.dim_sub, len(lists.cells)
        self._quantizer = faiss.IndexFlatL2(dim)
        self._quantizer.add(np.zeros((n_list, dim), np.float32))
        index: Any = faiss.IndexIVFPQ(self._quantizer, dim, n_list, codebooks.M, codebooks.bits)
        index.by_residual = False
        faiss.copy_array_to_vector(
            faiss.vector_to_array(codebooks.pq.centroids), index.pq.centroids
        )
        index.is_trained = True
        for slot in range(n_list):
            rows = np.arange(lists.offsets[slot], lists.offsets[slot + 1], dtype=np.int64)
            codes = np.ascontiguousarray(lists.codes[rows[0] : rows[-1] + 1])
            index.invlists.add_entries(slot, len(rows), faiss.swig_ptr(rows), faiss.swig_ptr(codes))
        index.ntotal = len(lists)
        self._index: Any = index if codebooks.bits == 8 else faiss.IndexIVFPQFastScan(index)
        self._index.nprobe = 1

    def __call__(
        self, rotated: np.ndarray, slots: np.ndarray, depth: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what `scan_decoded` does; 4-bit distances are rounded to 8-bit tables."""
        distances = np.empty((len(slots), depth), np.float32)
        positions = np.empty((len(slots), depth), np.int64)
        for pairs in row_blocks(len(slots), TABLES_AT_ONCE):
            lists = slots[pairs, None].astype(np.int64)
            zeros = np.zeros(lists.shape, np.float32)
            near = self._index.search_preassigned(rotated[pairs], depth, lists, zeros)
            distances[pairs], positions[pairs] = near
        distances[positions < 0] = np.inf
        return distances, positions
