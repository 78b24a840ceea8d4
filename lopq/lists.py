"""The codes of a database, sorted by cell: inverted lists in four arrays."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lopq.errors import LOPQError


@dataclass(frozen=True)
class CellLists:
    """One inverted list per non-empty cell; a list keeps the order in which codes were added.

    Args:
        cells: (n_list,) int64, the numbers of the non-empty cells, ascending.
        offsets: (n_list + 1,) int64, the first code of each list.
        codes: (n, code_bytes) uint8 packed codes; may be a memory map.
        ids: (n,) int64; may be a memory map.
    """

    cells: np.ndarray
    offsets: np.ndarray
    codes: np.ndarray
    ids: np.ndarray

    @classmethod
    def empty(cls, code_bytes: int) -> "CellLists":
        """Return a database without codes."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, np.zeros(1, np.int64), np.zeros((0, code_bytes), np.uint8), nothing)

    @classmethod
    def sort(cls, cells: np.ndarray, codes: np.ndarray, ids: np.ndarray) -> "CellLists":
        """Sort codes (n, code_bytes) and ids (n,) by their cell numbers (n,), stably."""
        order = np.argsort(cells, kind="stable")
        filled, starts = np.unique(cells[order], return_index=True)
        offsets = np.append(starts, len(cells)).astype(np.int64)
        return cls(filled.astype(np.int64), offsets, codes[order], ids[order])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again from the rest."""
        return {k: v for k, v in self.__dict__.items() if k != "_by_id"}

    def check(self, n_cell: int, code_bytes: int) -> None:
        """Raise `LOPQError` if the arrays are inconsistent; the search does not check them."""
        cells, offsets = self.cells, self.offsets
        shapes = [a.shape for a in (cells, offsets, self.codes, self.ids)]
        n = len(self.ids)
        dtypes = [a.dtype.str for a in (cells, offsets, self.codes, self.ids)]
        if dtypes != ["<i8", "<i8", "|u1", "<i8"]:
            raise LOPQError(f"cells, offsets, codes and ids have wrong types: {dtypes}")
        if shapes != [(len(cells),), (len(cells) + 1,), (n, code_bytes), (n,)]:
            raise LOPQError(f"cells, offsets, codes and ids do not fit together: {shapes}")
        if offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) <= 0).any():
            raise LOPQError(f"offsets do not rise from 0 to {n}")
        within = n == 0 or (cells[0] >= 0 and cells[-1] < n_cell)
        if not within or (np.diff(cells) <= 0).any():
            raise LOPQError(f"cells do not rise from 0 to {n_cell - 1}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sizes(self) -> np.ndarray:
        """(n_list,) int64 codes per list."""
        return np.diff(self.offsets)

    def cell_of_each(self) -> np.ndarray:
        """Return the (n,) int64 cell number of each code."""
        return np.repeat(self.cells, self.sizes)

    def rows_of(self, cell: int) -> slice:
        """Return the rows of a cell; an empty slice if it has none."""
        slot = int(np.searchsorted(self.cells, cell))
        if slot == len(self.cells) or self.cells[slot] != cell:
            return slice(0, 0)
        return slice(int(self.offsets[slot]), int(self.offsets[slot + 1]))

    @cached_property
    def _by_id(self) -> np.ndarray:
        """(n,) int64 rows in the order of their ids: a second for ten million, then kept."""
        return np.argsort(self.ids, kind="stable")

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return the (m,) int64 row of each id; -1 where it is missing."""
        if len(self) == 0 or len(ids) == 0:
            return np.full(len(ids), -1)
        places = np.searchsorted(self.ids, ids, sorter=self._by_id)
        rows = self._by_id[np.minimum(places, len(self) - 1)]
        return np.where(self.ids[rows] == ids, rows, -1)
