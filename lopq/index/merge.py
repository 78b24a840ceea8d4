"""An index encoded in parts by several processes, and merged without holding it in memory.

A part is a file: codes of a range of rows, sorted by cell. Merging reads the parts cell by cell and
writes, byte for byte, the file that one `LOPQSearcher` with all rows would have saved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lopq import storage
from lopq.errors import LOPQError
from lopq.index.inverted_lists import InvertedLists
from lopq.index.refine import Keep, vector_bytes
from lopq.model import LOPQModel
from lopq.searcher import LOPQSearcher
from lopq.storage import Blocks

WINDOW = 1 << 20  # codes that are sorted at once;
WIDE = 32  # fewer kept vectors, if they have more bytes than this


def save_part(
    path: str | Path,
    model: LOPQModel,
    data: np.ndarray,
    first: int,
    origin: str,
    keep: Keep = "none",
) -> None:
    """Encode rows of a database, and write their codes atomically to one file.

    Args:
        path: The file.
        model: A fitted model.
        data: (n, dim_in) real numbers, array or memory map.
        first: Id of the first row; the others follow.
        origin: Any name of model and database, such as a hash of both; `read_part` compares it.
        keep: As in `LOPQSearcher`.
    """
    searcher = LOPQSearcher(model, keep)
    searcher.add_data(data, np.arange(first, first + len(data)))
    arrays = searcher.snapshot.base.arrays(keep)
    storage.write(path, "part", {"origin": origin, "first": first}, arrays)


def read_part(
    path: str | Path, model: LOPQModel, rows: range, origin: str, keep: Keep = "none"
) -> InvertedLists:
    """Return the codes of a part, memory-mapped and checked.

    Raises:
        LOPQError: The file is missing, damaged, of other rows or of another origin, or keeps
            vectors in another way.
    """
    header, arrays = storage.read(path, "part")
    with storage.naming(path):
        lists, kept = InvertedLists.from_arrays(arrays)
        is_other = header != {"origin": origin, "first": rows.start} or kept != keep
        if is_other or len(lists) != len(rows):
            raise LOPQError(f"{path} was made from another model or other rows; make it again")
        width = vector_bytes(keep, model.quantizer.dim_in)
        lists.check(model.format.n_cell, model.format.code_bytes, width)
    return lists


def merge_parts(
    path: str | Path, model: LOPQModel, parts: Sequence[InvertedLists], keep: Keep = "none"
) -> None:
    """Write the index of all parts atomically to one file.

    Memory stays at ``WINDOW`` codes and a few numbers per cell and part. The parts are read twice:
    the checksums come before the codes.

    Args:
        path: The file; `LOPQSearcher.load` reads it.
        model: The model that encoded the parts.
        parts: What `read_part` returned, in the order of their rows.
        keep: How the parts keep vectors.
    """
    merged = _Merged(parts, model.format.n_cell)
    arrays: dict[str, np.ndarray | Blocks] = {
        **model.quantizer.arrays(),
        "cells": merged.cells,
        "offsets": merged.offsets,
        "codes": merged.column("codes", "|u1", model.format.code_bytes),
        "ids": merged.column("ids", "<i8"),
    }
    if keep != "none":
        width = vector_bytes(keep, model.quantizer.dim_in)
        arrays[keep] = merged.column("vectors", "|u1", width)
    storage.write(path, "searcher", model.header(), arrays)


@dataclass(frozen=True)
class _Merged:
    """The lists of several parts as one; cells are counted, not moved.

    Attributes:
        parts: The parts.
        n_cell: Cells of the model.
    """

    parts: Sequence[InvertedLists]
    n_cell: int

    @property
    def sizes(self) -> np.ndarray:
        """(n_cell,) int64 codes of each cell, in all parts together."""
        sizes = np.zeros(self.n_cell, np.int64)
        for part in self.parts:
            sizes[part.cells] += part.sizes
        return sizes

    @property
    def cells(self) -> np.ndarray:
        """(n_list,) int64, as in `InvertedLists`."""
        return np.flatnonzero(self.sizes).astype(np.int64)

    @property
    def offsets(self) -> np.ndarray:
        """(n_list + 1,) int64, as in `InvertedLists`."""
        return np.concatenate([[0], np.cumsum(self.sizes[self.cells])]).astype(np.int64)

    def column(self, name: str, dtype: str, *width: int) -> Blocks:
        """Return codes, ids or kept vectors, (n, width), as they are written."""
        window = max(1, WINDOW * WIDE // max(WIDE, *width, 0))
        shape = (sum(map(len, self.parts)), *width)
        return Blocks(dtype, shape, lambda: self.blocks(name, window))

    def blocks(self, name: str, window: int) -> Iterator[np.ndarray]:
        """Yield the codes, ids or kept vectors of all parts, sorted by cell, then by part."""
        for first, last in self._windows(window):
            slices = [_of_cells(part, first, last) for part in self.parts]
            chosen = list(zip(self.parts, slices, strict=True))
            if last == first + 1:  # one cell, however large, needs no sorting
                for part, rows in chosen:
                    for start in range(rows.start, rows.stop, window):
                        yield getattr(part, name)[start : min(start + window, rows.stop)]
                continue
            cells = np.concatenate([_cell_of_each(part, rows) for part, rows in chosen])
            values = np.concatenate([getattr(part, name)[rows] for part, rows in chosen])
            yield values[np.argsort(cells, kind="stable")]

    def _windows(self, window: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of cells that hold up to ``window`` codes, or are of one cell."""
        ends = np.cumsum(self.sizes)
        first = 0
        while first < self.n_cell:
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + window, side="right")))
            yield first, last
            first = last


def _of_cells(part: InvertedLists, first: int, last: int) -> slice:
    """Return where a part has the codes of a range of cells."""
    low, high = np.searchsorted(part.cells, (first, last))
    return slice(int(part.offsets[low]), int(part.offsets[high]))


def _cell_of_each(part: InvertedLists, rows: slice) -> np.ndarray:
    """Return the cell of each of some rows, which hold whole lists, (n,) int64."""
    low, high = np.searchsorted(part.offsets, (rows.start, rows.stop))
    return np.repeat(part.cells[low:high], part.sizes[low:high])
