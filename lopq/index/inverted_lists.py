"""Codes sorted by cell: inverted lists in five arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from lopq.errors import LOPQError
from lopq.index.refine import Keep

NAMES = ("cells", "offsets", "codes", "ids")  # of the arrays in a file, but for kept vectors


class Rows(NamedTuple):
    """Codes in any order.

    Attributes:
        cells: (n,) int64 cell numbers.
        codes: (n, code_bytes) uint8 packed codes.
        ids: (n,) int64.
        vectors: (n, vector_bytes) uint8, as `pack_vectors` returns.
    """

    cells: np.ndarray
    codes: np.ndarray
    ids: np.ndarray
    vectors: np.ndarray

    @classmethod
    def joined(cls, parts: "Sequence[Rows]") -> "Rows":
        """Join parts; a single filled one is not copied."""
        filled = [part for part in parts if len(part.ids)]
        if len(filled) == 1:
            return filled[0]
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class InvertedLists:
    """One inverted list per non-empty cell; a list keeps the order in which codes were added.

    Args:
        cells: (n_list,) int64, the numbers of the non-empty cells, ascending.
        offsets: (n_list + 1,) int64, the first code of each list.
        codes: (n, code_bytes) uint8 packed codes; may be a memory map.
        ids: (n,) int64; may be a memory map.
        vectors: (n, vector_bytes) uint8 packed vectors (`lopq.index.refine`); may be a memory map.
            No bytes if vectors are not kept.
    """

    cells: np.ndarray
    offsets: np.ndarray
    codes: np.ndarray
    ids: np.ndarray
    vectors: np.ndarray

    @classmethod
    def empty(cls, code_bytes: int, vector_bytes: int = 0) -> "InvertedLists":
        """Return lists without codes."""
        nothing, start = np.zeros(0, np.int64), np.zeros(1, np.int64)
        codes, vectors = (np.zeros((0, width), np.uint8) for width in (code_bytes, vector_bytes))
        return cls(nothing, start, codes, nothing, vectors)

    @classmethod
    def sort(cls, rows: Rows) -> "InvertedLists":
        """Sort codes by their cells, stably."""
        order = np.argsort(rows.cells, kind="stable")
        filled, starts = np.unique(rows.cells[order], return_index=True)
        offsets = np.append(starts, len(order)).astype(np.int64)
        columns = (rows.codes[order], rows.ids[order], rows.vectors[order])
        return cls(filled.astype(np.int64), offsets, *columns)

    def rows(self) -> Rows:
        """Return the codes with the cell of each; the inverse of `sort`."""
        return Rows(np.repeat(self.cells, self.sizes), self.codes, self.ids, self.vectors)

    def arrays(self, keep: Keep) -> dict[str, np.ndarray]:
        """Return the arrays under their names in a file, where vectors have that of `Keep`."""
        arrays = {name: getattr(self, name) for name in NAMES}
        return arrays if keep == "none" else arrays | {keep: self.vectors}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "tuple[InvertedLists, Keep]":
        """Return what `arrays` was made from; there may be other arrays too."""
        keep: Keep = "float16" if "float16" in arrays else "int8" if "int8" in arrays else "none"
        cells, offsets, codes, ids = (arrays[name] for name in NAMES)
        vectors = np.zeros((len(ids), 0), np.uint8) if keep == "none" else arrays[keep]
        return cls(cells, offsets, codes, ids, vectors), keep

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made again from the fields."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def check(self, n_cell: int, code_bytes: int, vector_bytes: int = 0) -> None:
        """Raise `LOPQError` if the arrays are inconsistent; the search does not check them."""
        cells, offsets = self.cells, self.offsets
        arrays = (cells, offsets, self.codes, self.ids, self.vectors)
        shapes, dtypes = [a.shape for a in arrays], [a.dtype.str for a in arrays]
        n = len(self.ids)
        if dtypes != ["<i8", "<i8", "|u1", "<i8", "|u1"]:
            raise LOPQError(f"cells, offsets, codes and ids have wrong types: {dtypes}")
        rows = [(n, code_bytes), (n,), (n, vector_bytes)]
        if shapes != [(len(cells),), (len(cells) + 1,), *rows]:
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

    def rows_of(self, cell: int) -> slice:
        """Return the rows of a cell; an empty slice if it has none."""
        slot = int(np.searchsorted(self.cells, cell))
        if slot == len(self.cells) or self.cells[slot] != cell:
            return slice(0, 0)
        return slice(int(self.offsets[slot]), int(self.offsets[slot + 1]))

    @cached_property
    def largest_id(self) -> int:
        """The largest id; -1 if there is none."""
        return int(self.ids.max(initial=-1))

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
