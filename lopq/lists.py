"""The database: packed codes and ids, sorted by cell.

A `CellLists` is never changed. What adds or removes makes a new one, so that a search that
began on the old one ends on it, whatever another thread does.
"""

from dataclasses import dataclass

import numpy as np

from lopq.errors import LOPQError


@dataclass(frozen=True)
class CellLists:
    """Codes by cell; inside a cell they keep the order in which they were added.

    Args:
        cells: (n_filled,) int64, ascending: the cells that hold anything.
        offsets: (n_filled + 1,) int64: where each begins.
        codes: (n, code_bytes) uint8, may be a memory map.
        ids: (n,) int64, may be a memory map.
    """

    cells: np.ndarray
    offsets: np.ndarray
    codes: np.ndarray
    ids: np.ndarray

    @classmethod
    def empty(cls, code_bytes: int) -> "CellLists":
        """Return lists that hold nothing."""
        nothing = np.zeros(0, np.int64)
        return cls(nothing, np.zeros(1, np.int64), np.zeros((0, code_bytes), np.uint8), nothing)

    @classmethod
    def sort(cls, cells: np.ndarray, codes: np.ndarray, ids: np.ndarray) -> "CellLists":
        """Sort codes (n, code_bytes) and ids (n,) by their cell (n,), stably."""
        order = np.argsort(cells, kind="stable")
        filled, starts = np.unique(cells[order], return_index=True)
        offsets = np.append(starts, len(cells)).astype(np.int64)
        return cls(filled.astype(np.int64), offsets, codes[order], ids[order])

    def check(self, n_cell: int, code_bytes: int) -> None:
        """Refuse lists that do not fit together: what reads them does not look."""
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
        """Codes in each filled cell."""
        return np.diff(self.offsets)

    def cell_of_each(self) -> np.ndarray:
        """Return (n,) the cell of each code."""
        return np.repeat(self.cells, self.sizes)

    def check_new(self, ids: np.ndarray) -> None:
        """Refuse ids that are there already."""
        taken = np.isin(ids, self.ids)
        if taken.any():
            raise LOPQError(
                f"{taken.sum()} of the ids are in the index already, e.g. {ids[taken][0]}"
            )

    def add(self, cells: np.ndarray, codes: np.ndarray, ids: np.ndarray) -> "CellLists":
        """Return lists with more codes; their ids must be new (see `check_new`)."""
        return CellLists.sort(
            np.concatenate([self.cell_of_each(), cells]),
            np.concatenate([self.codes, codes]),
            np.concatenate([self.ids, ids]),
        )

    def remove(self, ids: np.ndarray) -> "CellLists":
        """Return lists without some ids, which must be there."""
        missing = ~np.isin(ids, self.ids)
        if missing.any():
            raise LOPQError(
                f"{missing.sum()} of the ids are not in the index, e.g. {ids[missing][0]}"
            )
        keep = ~np.isin(self.ids, ids)
        return CellLists.sort(self.cell_of_each()[keep], self.codes[keep], self.ids[keep])

    def find(self, cells: np.ndarray) -> np.ndarray:
        """Return the list number of each cell, -1 where it is empty."""
        if len(self.cells) == 0:
            return np.full(np.shape(cells), -1)
        slots = np.minimum(np.searchsorted(self.cells, cells), len(self.cells) - 1)
        return np.where(self.cells[slots] == cells, slots, -1)
