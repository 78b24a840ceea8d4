"""One state of a database: sorted codes, codes added later, and which of both are removed.

A state never changes. Adding and removing return a new one, so a search that began on the old
state also ends on it, whatever another thread does.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from lopq.arrays import CodeArrays
from lopq.errors import LOPQError
from lopq.later import LaterCodes
from lopq.lists import CellLists

SORTED_PER_LATER = 8  # when later codes reach an eighth of the sorted ones, all are sorted

NO_BITS = np.zeros(0, np.uint8)
ALL_ALLOWED = np.zeros(0, bool)


@dataclass(frozen=True)
class Database:
    """Codes by position: the sorted ones first, then those added later.

    One thread at a time may add to and remove from all states that grew from one.

    Args:
        lists: The sorted codes.
        later: Codes added later; shared with newer states, which use more of them.
        n_later: How many of these this state has.
        gone: A bit per position, lowest first, set if the code was removed; may end early.
        n_gone: Removed codes.
    """

    lists: CellLists
    later: LaterCodes
    n_later: int = 0
    gone: np.ndarray = field(default_factory=lambda: NO_BITS)
    n_gone: int = 0

    @classmethod
    def of(cls, lists: CellLists) -> "Database":
        """Return a database of sorted codes."""
        return cls(lists, LaterCodes.empty(lists.codes.shape[1], lists.kept.shape[1]))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again from the rest."""
        return {k: v for k, v in self.__dict__.items() if k != "_arrays"}

    def __len__(self) -> int:
        return len(self.lists) + self.n_later - self.n_gone

    @cached_property
    def largest_id(self) -> int:
        """The largest id there ever was in these arrays; -1 if there is none."""
        largest = [
            ids.max() for ids in (self.lists.ids, self.later.ids[: self.n_later]) if len(ids)
        ]
        return int(max(largest, default=-1))

    def check_new(self, ids: np.ndarray) -> None:
        """Raise `LOPQError` if any of ``ids`` (m,) is there already."""
        taken = np.zeros(len(ids), bool)
        old = ids <= self.largest_id
        taken[old] = self.find(ids[old]) >= 0
        if taken.any():
            raise LOPQError(
                f"{taken.sum()} of the ids are in the index already, e.g. {ids[taken][0]}"
            )

    def add(
        self, cells: np.ndarray, codes: np.ndarray, ids: np.ndarray, kept: np.ndarray
    ) -> "Database":
        """Add codes and kept vectors; their ids must be new (see `check_new`)."""
        if (self.n_later + len(ids)) * SORTED_PER_LATER >= len(self.lists):
            return Database.of(CellLists.sort(*self._all(cells, codes, ids, kept)))
        later = self.later if self.later.n == self.n_later else self._own_later()
        later.add(cells, codes, ids, kept)
        state = replace(self, later=later, n_later=later.n)
        state.__dict__["largest_id"] = max(self.largest_id, int(ids.max(initial=-1)))
        return state

    def remove(self, ids: np.ndarray) -> "Database":
        """Remove codes; raise `LOPQError` if an id is missing."""
        positions = self.find(ids)
        missing = positions < 0
        if missing.any():
            raise LOPQError(
                f"{missing.sum()} of the ids are not in the index, e.g. {ids[missing][0]}"
            )
        gone = self._bits()
        np.bitwise_or.at(gone, positions >> 3, np.uint8(1) << (positions & 7).astype(np.uint8))
        state = replace(self, gone=gone, n_gone=self.n_gone + len(ids))
        return state.optimized() if state.n_gone > len(state) else state

    def optimized(self) -> "Database":
        """Return the same codes, all sorted, without the removed ones."""
        if self.n_later == self.n_gone == 0:
            return self
        return Database.of(CellLists.sort(*self._all()))

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return the (m,) int64 position of each id; -1 where it is missing."""
        positions = self.lists.find(ids)
        positions[self._is_gone(positions)] = -1
        if self.n_later:
            own = self.later if self.later.n == self.n_later else self._own_later()
            rows = own.find(ids)
            later = np.where(rows >= 0, rows + len(self.lists), -1)
            later[self._is_gone(later)] = -1
            positions = np.where(later >= 0, later, positions)
        return positions

    def of_cell(self, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes (m, code_bytes) and ids (m,) of a cell, in the order of adding."""
        first = self.lists.rows_of(cell)
        later = np.flatnonzero(self.later.cells[: self.n_later] == cell)
        positions = np.append(np.arange(first.start, first.stop), len(self.lists) + later)
        kept = ~self._is_gone(positions)
        codes = np.concatenate([self.lists.codes[first], self.later.codes[later]])
        return codes[kept], np.append(self.lists.ids[first], self.later.ids[later])[kept]

    def kept_at(self, positions: np.ndarray) -> np.ndarray:
        """Return the kept vectors at positions (m,) from 0: (m, kept_bytes) uint8."""
        n = len(self.lists)
        kept = np.empty((len(positions), self.lists.kept.shape[1]), np.uint8)
        is_later = positions >= n
        kept[~is_later] = self.lists.kept[positions[~is_later]]
        kept[is_later] = self.later.kept[positions[is_later] - n]
        return kept

    def arrays(self, allowed: np.ndarray = ALL_ALLOWED) -> CodeArrays:
        """Return the arrays that the compiled search reads."""
        from lopq.threads import frozen

        return self._arrays._replace(allowed=frozen(allowed)) if len(allowed) else self._arrays

    @cached_property
    def _arrays(self) -> CodeArrays:
        from lopq.threads import frozen

        lists, later, n = self.lists, self.later, self.n_later
        cells, offsets, heads = lists.cells, lists.offsets, np.zeros(0, np.int64)
        if n:
            cells = np.union1d(lists.cells, later.cells[:n])
            sizes = np.zeros(len(cells), np.int64)
            sizes[np.searchsorted(cells, lists.cells)] = lists.sizes
            offsets = np.append(0, np.cumsum(sizes))
            heads = np.full(len(cells), -1)
            heads[np.searchsorted(cells, later.cells[:n])] = np.arange(n)  # the last one stays
        gone = self._bits() if self.n_gone else NO_BITS
        arrays = (cells, offsets, lists.codes, lists.ids, heads)
        added = (later.previous[:n], later.codes[:n], later.ids[:n])
        return CodeArrays(*(frozen(array) for array in (*arrays, *added, gone, ALL_ALLOWED)))

    def _own_later(self) -> LaterCodes:
        """Return a copy of this state's later codes; a newer state added to the shared ones."""
        later, n = self.later, self.n_later
        own = LaterCodes.empty(later.codes.shape[1], later.kept.shape[1])
        own.add(later.cells[:n], later.codes[:n], later.ids[:n], later.kept[:n])
        return own

    def _all(self, *added: np.ndarray) -> list[np.ndarray]:
        """Return cells, codes, ids and kept vectors: all that are not removed, then ``added``."""
        lists, later, n = self.lists, self.later, self.n_later
        columns = [
            [lists.cell_of_each(), later.cells[:n]],
            [lists.codes, later.codes[:n]],
            [lists.ids, later.ids[:n]],
            [lists.kept, later.kept[:n]],
        ]
        if self.n_gone:
            kept = ~self._is_gone(np.arange(len(lists) + n))
            columns = [[_joined(column)[kept]] for column in columns]
        for column, new in zip(columns, added, strict=False):
            column.append(new)
        return [_joined(column) for column in columns]

    def _bits(self) -> np.ndarray:
        """Return `gone` with a bit for every position."""
        size = -(-(len(self.lists) + self.n_later) // 8)
        return np.pad(self.gone, (0, size - len(self.gone)))

    def _is_gone(self, positions: np.ndarray) -> np.ndarray:
        """Return whether each position (m,) is removed; False for -1."""
        gone = np.zeros(len(positions), bool)
        inside = (positions >= 0) & (positions < 8 * len(self.gone))
        known = positions[inside]
        gone[inside] = self.gone[known >> 3] >> (known & 7).astype(np.uint8) & 1
        return gone


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Join arrays; a single filled one is not copied."""
    filled = [part for part in parts if len(part)]
    return filled[0] if len(filled) == 1 else np.concatenate(parts)
