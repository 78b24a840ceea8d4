"""Batch search: choose the cells, find the nearest codes in each, merge them into one ranking."""

from collections.abc import Callable

import numpy as np

from lopq.kernels import TableScan, scan_decoded
from lopq.lists import CellLists
from lopq.probes import Probes, choose_probes
from lopq.quantizer import Quantizer
from lopq.ranking import first_by_id, unsettled

CANDIDATES_AT_ONCE = 4_000_000  # (query, cell, rank) candidates per block, 12 bytes each
QUERIES_AT_ONCE = 16_384
DECODE_FROM = 4  # mean queries per visited cell from which decoding is faster


class BatchSearch:
    """One search over one state of the database.

    Args:
        quantizer: The fitted parameters.
        lists: The database; not empty.
        table_scan: Returns the index for table scans, built on the first call.
        k: Codes to return per query.
        quota: Candidates to visit per query.
        kernel: "auto", "decode" or "scan"; see `lopq.kernels`.
    """

    def __init__(
        self,
        quantizer: Quantizer,
        lists: CellLists,
        table_scan: Callable[[], TableScan],
        k: int,
        quota: int,
        kernel: str = "auto",
    ) -> None:
        self.quantizer, self.lists, self.table_scan = quantizer, lists, table_scan
        self.k, self.quota, self.kernel = k, quota, kernel
        self.depth = min(k + 1, int(lists.sizes.max()))  # codes to keep per cell

    @property
    def block_size(self) -> int:
        """Queries per block, so that the candidates fit in memory."""
        n_list = len(self.lists.cells)
        visited = min(n_list, 2 + 2 * self.quota * n_list // len(self.lists))
        scores = n_list if self.quantizer.format.n_split == 2 else 0
        return max(1, min(QUERIES_AT_ONCE, CANDIDATES_AT_ONCE // max(visited * self.depth, scores)))

    def __call__(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Search one block of queries.

        Args:
            queries: (n_query, dim) float32 in model space.

        Returns:
            Squared distances float32 and ids int64, both (n_query, <= k), by (distance, id).
        """
        quantizer = self.quantizer
        probes = choose_probes(queries, quantizer.Cs, self.lists, self.quota)
        coarse = quantizer.format.coarse_codes(self.lists.cells[probes.slots])
        rotated = quantizer.rotate_queries(queries, probes.queries, coarse)
        decode = self._decode_pays(probes)
        if decode:
            near = scan_decoded(self.lists, quantizer.codebooks, rotated, probes.slots, self.depth)
        else:
            near = self.table_scan()(rotated, probes.slots, self.depth)
        distances, ids, positions, ranks = self._merged(len(queries), probes, *near)
        if not decode and quantizer.bits == 4:
            pairs = probes.first_pairs(len(queries))[:, None] + ranks
            distances, ids, positions = self._exact_order(rotated, distances, ids, positions, pairs)
        distances, ids = self._settle(queries, probes, distances, ids, positions)
        return distances[:, : self.k], ids[:, : self.k]

    def _decode_pays(self, probes: Probes) -> bool:
        """Return whether to decode the cells rather than scan them with tables."""
        if self.kernel != "auto":
            return self.kernel == "decode"
        per_cell = len(probes.slots) / max(1, len(np.unique(probes.slots)))
        return self.quantizer.bits == 8 and per_cell >= DECODE_FROM

    def _merged(
        self, n_query: int, probes: Probes, near: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Merge the cells of each query and keep the first k + 1 codes.

        Returns:
            Distances, ids, positions in the lists, and the rank of each code's cell.
        """
        shape = (n_query, probes.depth, self.depth)
        distances = np.full(shape, np.inf, np.float32)
        positions = np.full(shape, -1, np.int64)
        distances[probes.queries, probes.ranks] = near
        positions[probes.queries, probes.ranks] = rows
        flat = positions.reshape(n_query, -1)
        ids = np.where(flat < 0, -1, self.lists.ids[flat])
        kept = min(self.k + 1, flat.shape[1])
        first, first_ids, columns = first_by_id(distances.reshape(flat.shape), ids, kept)
        at = np.take_along_axis(flat, columns, axis=1)
        return first, first_ids, at, columns // self.depth

    def _settle(
        self,
        queries: np.ndarray,
        probes: Probes,
        near: np.ndarray,
        ids: np.ndarray,
        positions: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Recompute distances one by one where rounding may have decided the order."""
        kept = near.shape[1]
        order, members = unsettled(near, probes.reach, self.k)
        for row in np.flatnonzero(members).tolist():
            visited = self._visited(probes, row)
            near[row], ids[row] = self._settled(queries, row, visited, kept)
        rows = np.flatnonzero(order & ~members)
        if len(rows):
            near[rows] = self._distances(queries, rows, positions[rows])
            near[rows], ids[rows], _ = first_by_id(near[rows], ids[rows], kept)
        return near, ids

    def _exact_order(
        self,
        rotated: np.ndarray,
        near: np.ndarray,
        ids: np.ndarray,
        positions: np.ndarray,
        pairs: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Replace the rounded distances of 4-bit tables by exact ones, and sort again."""
        at = np.nonzero(positions >= 0)
        difference = self.quantizer.codebooks.decode(self.lists.codes[positions[at]])
        difference -= rotated[pairs[at]]
        near[at] = np.einsum("ij,ij->i", difference, difference)
        near, ids, columns = first_by_id(near, ids, near.shape[1])
        return near, ids, np.take_along_axis(positions, columns, axis=1)

    def _visited(self, probes: Probes, row: int) -> np.ndarray:
        """Return the positions of all codes in the cells that one query visits."""
        offsets = self.lists.offsets
        slots = probes.slots[probes.queries == row]
        return np.concatenate([np.arange(offsets[s], offsets[s + 1]) for s in slots])

    def _settled(
        self, queries: np.ndarray, row: int, positions: np.ndarray, kept: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and ids of the first ``kept`` positions by (distance, id)."""
        distances = self._distances(queries, np.array([row]), positions[None])[0]
        ids = self.lists.ids[positions]
        order = np.lexsort((ids, distances))[:kept]
        return distances[order], ids[order]

    def _distances(
        self, queries: np.ndarray, rows: np.ndarray, positions: np.ndarray
    ) -> np.ndarray:
        """Return the (n, m) distances from queries ``rows`` (n,) to codes at ``positions`` (n, m).

        Each distance is computed on its own, so equal codes get bitwise equal distances.
        """
        distances = np.full(positions.shape, np.inf, np.float32)
        at = np.nonzero(positions >= 0)
        found = positions[at]
        slots = np.searchsorted(self.lists.offsets, found, side="right") - 1
        n_list = len(self.lists.cells)
        pairs, pair_of = np.unique(rows[at[0]] * n_list + slots, return_inverse=True)
        coarse = self.quantizer.format.coarse_codes(self.lists.cells[pairs % n_list])
        rotated = self.quantizer.rotate_queries(queries, pairs // n_list, coarse)
        difference = rotated[pair_of] - self.quantizer.codebooks.decode(self.lists.codes[found])
        distances[at] = np.einsum("ij,ij->i", difference, difference)
        return distances
