"""One state of the index: two runs of inverted lists, and which of their codes are removed.

A snapshot never changes. Adding and removing return a new one, so a search that began on the old
snapshot also ends on it, whatever another thread does.
"""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from lopq.arrays import RunArrays, SnapshotArrays
from lopq.errors import LOPQError
from lopq.index.inverted_lists import InvertedLists, Rows
from lopq.parallel import frozen

BASE_PER_ADDED = 8  # when the added codes reach an eighth of the base, both are sorted together

NO_BITS = np.zeros(0, np.uint8)
ALL_ALLOWED = np.zeros(0, bool)


@dataclass(frozen=True)
class Run:
    """Inverted lists, some of whose codes are removed.

    Args:
        lists: The codes, removed ones too.
        removed: A bit per row, lowest first, set if the code is removed; empty: none is.
        n_removed: Number of removed codes.
    """

    lists: InvertedLists
    removed: np.ndarray = field(default_factory=lambda: NO_BITS)
    n_removed: int = 0

    def __len__(self) -> int:
        return len(self.lists) - self.n_removed

    def is_removed(self, rows: np.ndarray) -> np.ndarray:
        """Return whether the code in each row (m,) is removed; False for row -1."""
        if not self.n_removed:
            return np.zeros(len(rows), bool)
        bits = self.removed[rows >> 3] >> (rows & 7).astype(np.uint8) & 1
        return (bits == 1) & (rows >= 0)

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return the (m,) int64 row of each id; -1 where it is missing or removed."""
        rows = self.lists.find(ids)
        return np.where(self.is_removed(rows), -1, rows)

    def remove(self, rows: np.ndarray) -> "Run":
        """Return the run without the codes in some rows (m,), none of which is removed."""
        if len(rows) == 0:
            return self
        removed = np.zeros((len(self.lists) + 7) // 8, np.uint8)
        removed[: len(self.removed)] = self.removed
        np.bitwise_or.at(removed, rows >> 3, np.uint8(1) << (rows & 7).astype(np.uint8))
        return Run(self.lists, removed, self.n_removed + len(rows))

    def rows(self) -> Rows:
        """Return the codes that are not removed, sorted by cell."""
        rows = self.lists.rows()
        if not self.n_removed:
            return rows
        left = ~self.is_removed(np.arange(len(self.lists)))
        return Rows(*(column[left] for column in rows))

    def rows_of(self, cell: int) -> Rows:
        """Return the codes of a cell that are not removed, in the order of adding."""
        lists, part = self.lists, self.lists.rows_of(cell)
        rows = np.arange(part.start, part.stop)
        rows = rows[~self.is_removed(rows)]
        columns = (lists.codes[rows], lists.ids[rows], lists.vectors[rows])
        return Rows(np.full(len(rows), cell), *columns)


@dataclass(frozen=True)
class Snapshot:
    """Two runs: the base, and the codes added to it since.

    A code's position is its row in the base, or the size of the base plus its row in the second
    run. Adding sorts the second run anew; when it reaches an eighth of the base, both are sorted
    into one.

    Args:
        runs: The base, and the added codes.
        largest_before: The largest id of earlier snapshots; -1: none.
    """

    runs: tuple[Run, Run]
    largest_before: int = -1

    @classmethod
    def of(cls, base: InvertedLists, largest_before: int = -1) -> "Snapshot":
        """Return a snapshot of sorted codes."""
        added = InvertedLists.empty(base.codes.shape[1], base.vectors.shape[1])
        return cls((Run(base), Run(added)), largest_before)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again from the fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __len__(self) -> int:
        return sum(map(len, self.runs))

    @property
    def largest_id(self) -> int:
        """The largest id there ever was, also of a removed code; -1: none."""
        return max(self.largest_before, *(run.lists.largest_id for run in self.runs))

    def check_new(self, ids: np.ndarray) -> None:
        """Raise `LOPQError` if any of ``ids`` (m,) is there already."""
        old = ids[ids <= self.largest_id]
        taken = old[np.any([run.find(old) >= 0 for run in self.runs], axis=0)]
        if len(taken):
            raise LOPQError(f"{len(taken)} of the ids are in the index already, e.g. {taken[0]}")

    def add(self, rows: Rows) -> "Snapshot":
        """Add codes, whose ids must be new (see `check_new`)."""
        base, added = self.runs
        if (len(added) + len(rows.ids)) * BASE_PER_ADDED >= len(base.lists):
            everything = Rows.joined([base.rows(), added.rows(), rows])
            return Snapshot.of(InvertedLists.sort(everything), self.largest_id)
        added = Run(InvertedLists.sort(Rows.joined([added.rows(), rows])))
        return Snapshot((base, added), self.largest_id)

    def remove(self, ids: np.ndarray) -> "Snapshot":
        """Remove codes; raise `LOPQError` if an id is missing."""
        found = [run.find(ids) for run in self.runs]
        missing = ids[np.all([rows < 0 for rows in found], axis=0)]
        if len(missing):
            raise LOPQError(f"{len(missing)} of the ids are not in the index, e.g. {missing[0]}")
        base, added = (
            run.remove(rows[rows >= 0]) for run, rows in zip(self.runs, found, strict=True)
        )
        left = replace(self, runs=(base, added))
        return left.optimized() if base.n_removed + added.n_removed > len(left) else left

    def optimized(self) -> "Snapshot":
        """Return the same codes in one run, without the removed ones."""
        base, added = self.runs
        if base.n_removed == len(added.lists) == 0:
            return self
        return Snapshot.of(InvertedLists.sort(self.rows()))

    @property
    def base(self) -> InvertedLists:
        """The lists of the first run: all codes after `optimized`."""
        return self.runs[0].lists

    def rows(self) -> Rows:
        """Return all codes."""
        return Rows.joined([run.rows() for run in self.runs])

    def rows_of(self, cell: int) -> Rows:
        """Return the codes of a cell, in the order of adding."""
        return Rows.joined([run.rows_of(cell) for run in self.runs])

    def vectors_at(self, positions: np.ndarray) -> np.ndarray:
        """Return the kept vectors at positions (m,) from 0: (m, vector_bytes) uint8."""
        base, added = (run.lists for run in self.runs)
        vectors = np.empty((len(positions), base.vectors.shape[1]), np.uint8)
        in_base = positions < len(base)
        vectors[in_base] = base.vectors[positions[in_base]]
        vectors[~in_base] = added.vectors[positions[~in_base] - len(base)]
        return vectors

    def arrays(self, allowed: np.ndarray = ALL_ALLOWED) -> SnapshotArrays:
        """Return the arrays that the compiled search reads; ``allowed`` (n,) bool by id."""
        return self._arrays._replace(allowed=frozen(allowed)) if len(allowed) else self._arrays

    @cached_property
    def _arrays(self) -> SnapshotArrays:
        cells = self.base.cells
        if len(self.runs[1].lists):
            cells = np.union1d(cells, self.runs[1].lists.cells)
        base, added = (
            RunArrays(
                frozen(_offsets_of(cells, run.lists)),
                frozen(run.lists.codes),
                frozen(run.lists.ids),
                frozen(run.removed),
            )
            for run in self.runs
        )
        return SnapshotArrays(frozen(cells), (base, added), frozen(ALL_ALLOWED))


def _offsets_of(cells: np.ndarray, lists: InvertedLists) -> np.ndarray:
    """Return the first code of each of some cells, which include those of the lists."""
    if len(cells) == len(lists.cells):
        return lists.offsets
    sizes = np.zeros(len(cells), np.int64)
    sizes[np.searchsorted(cells, lists.cells)] = lists.sizes
    return np.append(0, np.cumsum(sizes))
