"""The database: inverted lists of packed codes and ids, sorted by cell.

A `CellLists` is immutable. Adding and removing return a new one, so a search that began on the old
state also ends on it, whatever other threads do.
"""

from dataclasses import dataclass

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

    def check(self, n_cell: int, code_bytes: int) -> None:
        """Raise `LOPQError` if the arrays are inconsistent; the search does not check them."""
        cells, offsets = self.cells, self.offsets
        shapes = [a.shape for a in (cells, offsets, self.codes, self.ids)]
        n = len(self.ids)
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

    def check_new(self, ids: np.ndarray) -> None:
        """Raise `LOPQError` if any of ``ids`` (n,) is already present."""
        taken = np.isin(ids, self.ids)
        if taken.any():
            raise LOPQError(
                f"{taken.sum()} of the ids are in the index already, e.g. {ids[taken][0]}"
            )

    def add(self, cells: np.ndarray, codes: np.ndarray, ids: np.ndarray) -> "CellLists":
        """Return a database with more codes; their ids must be new (see `check_new`)."""
        return CellLists.sort(
            np.concatenate([self.cell_of_each(), cells]),
            np.concatenate([self.codes, codes]),
            np.concatenate([self.ids, ids]),
        )

    def remove(self, ids: np.ndarray) -> "CellLists":
        """Return a database without ``ids`` (n,); raise `LOPQError` if any is missing."""
        missing = ~np.isin(ids, self.ids)
        if missing.any():
            raise LOPQError(
                f"{missing.sum()} of the ids are not in the index, e.g. {ids[missing][0]}"
            )
        keep = ~np.isin(self.ids, ids)
        return CellLists.sort(self.cell_of_each()[keep], self.codes[keep], self.ids[keep])

    def find(self, cells: np.ndarray) -> np.ndarray:
        """Return the index of each cell's list; -1 for an empty cell."""
        if len(self.cells) == 0:
            return np.full(np.shape(cells), -1)
        slots = np.minimum(np.searchsorted(self.cells, cells), len(self.cells) - 1)
        return np.where(self.cells[slots] == cells, slots, -1)
