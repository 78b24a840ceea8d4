"""The search of a batch: cells to visit, nearest codes in each, and one ranking of them."""

from collections.abc import Callable

import numpy as np

from lopq.kernels import TableScan, rotate_queries, scan_decoded
from lopq.lists import CellLists
from lopq.model import LOPQModel
from lopq.probes import Probes, choose_probes
from lopq.ranking import first_by_id, unsettled

CANDIDATES_AT_ONCE = 4_000_000  # (query, cell, rank) slots of a block, 12 bytes each
QUERIES_AT_ONCE = 16_384
DECODE_FROM = 4  # queries that meet in a cell, on average, from which decoding it pays


class BatchSearch:
    """One search on one state of the database.

    Args:
        model: A fitted model.
        lists: The database.
        table_scan: Returns the index for table scans, made on the first call.
        k: Codes wanted for each query.
        quota: Candidates to visit for each query.
        kernel: "auto", "decode" or "scan".
    """

    def __init__(
        self,
        model: LOPQModel,
        lists: CellLists,
        table_scan: Callable[[], TableScan],
        k: int,
        quota: int,
        kernel: str = "auto",
    ) -> None:
        self.model, self.lists, self.table_scan = model, lists, table_scan
        self.k, self.quota, self.kernel = k, quota, kernel
        self.depth = min(k + 1, int(lists.sizes.max()))  # codes wanted of each cell

    @property
    def block_size(self) -> int:
        """Queries to search at once, so that the candidates fit in memory."""
        n_list = len(self.lists.cells)
        visited = min(n_list, 2 + 2 * self.quota * n_list // len(self.lists))
        scores = n_list if self.model.num_coarse_splits == 2 else 0
        return max(1, min(QUERIES_AT_ONCE, CANDIDATES_AT_ONCE // max(visited * self.depth, scores)))

    def __call__(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distances and ids (n_query, <= k), ascending, of queries in model space."""
        probes = choose_probes(queries, self.model.Cs, self.lists, self.quota)
        coarse = self.model.coarse_codes(self.lists.cells[probes.slots])
        rotated = rotate_queries(self.model.splits, queries, probes.queries, coarse)
        decode = self._decode_pays(probes)
        if decode:
            near = scan_decoded(self.lists, self.model.codebooks, rotated, probes.slots, self.depth)
        else:
            near = self.table_scan()(rotated, probes.slots, self.depth)
        distances, ids, positions, ranks = self._merged(len(queries), probes, *near)
        if not decode and self.model.bits == 4:
            pairs = probes.first_pairs(len(queries))[:, None] + ranks
            distances, ids, positions = self._unround(rotated, distances, ids, positions, pairs)
        distances, ids = self._settle(queries, probes, distances, ids, positions)
        return distances[:, : self.k], ids[:, : self.k]

    def _decode_pays(self, probes: Probes) -> bool:
        """Return whether to decode cells, rather than to look codes up in tables."""
        if self.kernel != "auto":
            return self.kernel == "decode"
        meetings = len(probes.slots) / max(1, len(np.unique(probes.slots)))
        return self.model.bits == 8 and meetings >= DECODE_FROM

    def _merged(
        self, n_query: int, probes: Probes, near: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Merge the cells of each query: distances, ids, positions and ranks of k + 1 codes."""
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
        """Order anew, by distances taken one by one, what rounding may have decided."""
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

    def _unround(
        self,
        rotated: np.ndarray,
        near: np.ndarray,
        ids: np.ndarray,
        positions: np.ndarray,
        pairs: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Replace the distances that 4-bit tables round by exact ones, in the order of those."""
        at = np.nonzero(positions >= 0)
        difference = self.model.codebooks.decode(self.lists.codes[positions[at]])
        difference -= rotated[pairs[at]]
        near[at] = np.einsum("ij,ij->i", difference, difference)
        near, ids, columns = first_by_id(near, ids, near.shape[1])
        return near, ids, np.take_along_axis(positions, columns, axis=1)

    def _visited(self, probes: Probes, row: int) -> np.ndarray:
        """Return the positions of all codes in the cells visited for one query."""
        offsets = self.lists.offsets
        slots = probes.slots[probes.queries == row]
        return np.concatenate([np.arange(offsets[s], offsets[s + 1]) for s in slots])

    def _settled(
        self, queries: np.ndarray, row: int, positions: np.ndarray, kept: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the first ``kept`` of some positions by (distance, id), for one query."""
        distances = self._distances(queries, np.array([row]), positions[None])[0]
        ids = self.lists.ids[positions]
        order = np.lexsort((ids, distances))[:kept]
        return distances[order], ids[order]

    def _distances(
        self, queries: np.ndarray, rows: np.ndarray, positions: np.ndarray
    ) -> np.ndarray:
        """Return the distances (n, m) of queries ``rows`` to codes at ``positions`` (n, m).

        Equal codes get equal distances, to the last bit: each is computed alone.
        """
        distances = np.full(positions.shape, np.inf, np.float32)
        at = np.nonzero(positions >= 0)
        found = positions[at]
        slots = np.searchsorted(self.lists.offsets, found, side="right") - 1
        n_list = len(self.lists.cells)
        pairs, pair_of = np.unique(rows[at[0]] * n_list + slots, return_inverse=True)
        coarse = self.model.coarse_codes(self.lists.cells[pairs % n_list])
        rotated = rotate_queries(self.model.splits, queries, pairs // n_list, coarse)
        difference = rotated[pair_of] - self.model.codebooks.decode(self.lists.codes[found])
        distances[at] = np.einsum("ij,ij->i", difference, difference)
        return distances
