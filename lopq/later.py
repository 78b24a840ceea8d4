"""The codes added after the inverted lists were sorted: chained by cell, newest first.

The arrays grow at their end only, with room to spare. A state of the database is the number of
codes that count, so a search goes on with its own state while others add.
"""

from dataclasses import dataclass, field

import numpy as np

FIRST_ROOM = 1024  # rows of the first arrays; each further one doubles them


@dataclass
class LaterCodes:
    """Codes in the order they were added. One thread at a time may add.

    Args:
        codes: (room, code_bytes) uint8.
        ids: (room,) int64.
        cells: (room,) int64 cell numbers.
        kept: (room, kept_bytes) uint8, what is kept of the vectors.
        previous: (room,) int64, the code of the same cell that came before; -1: none.
        newest: The newest code of each cell.
        row_of: The newest row of each id.
        n: Codes that count.
    """

    codes: np.ndarray
    ids: np.ndarray
    cells: np.ndarray
    kept: np.ndarray
    previous: np.ndarray
    newest: dict[int, int] = field(default_factory=dict)
    row_of: dict[int, int] = field(default_factory=dict)
    n: int = 0

    @classmethod
    def empty(cls, code_bytes: int, kept_bytes: int) -> "LaterCodes":
        """Return arrays without codes."""
        ids, cells, previous = (np.zeros(0, np.int64) for _ in range(3))
        codes, kept = (np.zeros((0, width), np.uint8) for width in (code_bytes, kept_bytes))
        return cls(codes, ids, cells, kept, previous)

    def add(self, cells: np.ndarray, codes: np.ndarray, ids: np.ndarray, kept: np.ndarray) -> None:
        """Append codes (m, code_bytes) with their cell numbers (m,), ids (m,) and kept vectors."""
        first, last = self.n, self.n + len(ids)
        self._make_room(last)
        self.codes[first:last], self.ids[first:last], self.cells[first:last] = codes, ids, cells
        self.kept[first:last] = kept
        self.n = last  # before the chains: if they are cut short, the next add makes its own arrays
        for row, (cell, number) in enumerate(zip(cells.tolist(), ids.tolist(), strict=True), first):
            self.previous[row] = self.newest.get(cell, -1)
            self.newest[cell] = self.row_of[number] = row

    def _make_room(self, n: int) -> None:
        """Move to larger arrays if needed; searches keep the old ones."""
        room = len(self.ids)
        if n <= room:
            return
        room = max(n, 2 * room, FIRST_ROOM)
        for name in ("codes", "ids", "cells", "kept", "previous"):
            old = getattr(self, name)
            grown = np.zeros((room, *old.shape[1:]), old.dtype)
            grown[: self.n] = old[: self.n]
            setattr(self, name, grown)

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return the (m,) int64 newest row of each id; -1 where it is missing."""
        return np.array([self.row_of.get(number, -1) for number in ids.tolist()], np.int64)
