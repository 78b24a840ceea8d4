"""Two kernels that find the nearest codes for (query, cell) pairs, both built on faiss.

For a cell with its own rotation, the query becomes R_c (q - C_c - mu_c). With this "virtual query"
the distance to a code is the one of plain product quantization, so faiss's kernels apply:

- `scan_decoded` decodes each visited cell once and computes the distances to all its virtual
  queries as a matrix product. Fastest when many queries visit the same cell.
- `TableScan` keeps the codes in a faiss index whose coarse centroids are all zero, and scans one
  inverted list per virtual query with its lookup tables (for 4-bit codes, in SIMD registers).
  Fastest for one or a few queries.
"""

from typing import Any

import numpy as np

from lopq.codebooks import Codebooks
from lopq.errors import row_blocks
from lopq.grouped import filled_groups, group_rows
from lopq.lists import CellLists

TABLES_AT_ONCE = 32_768  # virtual queries per call; 64 * M bytes of tables each with 4-bit codes


def scan_decoded(
    lists: CellLists, codebooks: Codebooks, rotated: np.ndarray, slots: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``depth`` nearest codes for each (query, cell) pair.

    Args:
        lists: The database.
        codebooks: The codebooks of all splits.
        rotated: (n_pair, dim) float32 virtual queries.
        slots: (n_pair,) int64, the inverted list of each pair.
        depth: Codes per pair.

    Returns:
        distances: (n_pair, depth) float32 squared distances; inf past the end of the list.
        positions: (n_pair, depth) int64 rows of ``lists.codes``; -1 past the end of the list.
    """
    import faiss

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


class TableScan:
    """The database in faiss's inverted lists, scanned with lookup tables.

    Args:
        lists: The database.
        codebooks: The codebooks of all splits.
    """

    def __init__(self, lists: CellLists, codebooks: Codebooks) -> None:
        import faiss

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
        """Return the same as `scan_decoded`; with 4-bit codes, tables are rounded to 8 bits."""
        distances = np.empty((len(slots), depth), np.float32)
        positions = np.empty((len(slots), depth), np.int64)
        for pairs in row_blocks(len(slots), TABLES_AT_ONCE):
            lists = slots[pairs, None].astype(np.int64)
            zeros = np.zeros(lists.shape, np.float32)
            near = self._index.search_preassigned(rotated[pairs], depth, lists, zeros)
            distances[pairs], positions[pairs] = near
        distances[positions < 0] = np.inf
        return distances, positions
