"""One version of a store, and what was read of it."""

import os
import threading
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrieval.store import rescoring
from retrieval.store.base import RankedRows
from retrieval.store.filters import Filter
from retrieval.store.lance import code_index
from retrieval.store.lance.files import TABLE
from retrieval.store.lance.in_memory import InMemoryRows
from retrieval.store.lance.rows import embeddings_of
from retrieval.store.rescoring import Candidates

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

KEPT_FILTERS = 16  # whose rows are remembered


class Version(NamedTuple):
    """What tells the states of a store from each other.

    Attributes:
        table: Inode and time of the table's folder: a store that was made again may have as many
            versions, and its folder the inode of the old one.
        number: Of the version.
        index_stamp: Inode and time of the record of the approximate index; None if there is none.
    """

    table: tuple[int, int]
    number: int
    index_stamp: tuple[int, int] | None

    @classmethod
    def of(cls, folder: Path, dataset: "lance.LanceDataset") -> "Version":
        """Return the version of a dataset, with the index as it is on disk now."""
        table, record = (folder / TABLE).stat(), folder / code_index.RECORD
        stamp = None
        with suppress(FileNotFoundError):
            stamp = _stamp(record.stat())
        return cls(_stamp(table), dataset.version, stamp)

    def is_like_or_after(self, other: "Version") -> bool:
        """Return whether this is the other, or a newer version of the same store."""
        return self == other or (self.table == other.table and self.number > other.number)


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_mtime_ns


class Snapshot:
    """One version of a store. It never changes; what is asked for is read once and kept.

    Attributes:
        dataset: Its rows on disk; changes need a dataset of their own.
        version: What tells it from others.
    """

    def __init__(
        self,
        folder: Path,
        dataset: "lance.LanceDataset",
        version: Version,
        lock: threading.Lock,
        before: "Snapshot | None" = None,
    ) -> None:
        """Take a version; nothing is read yet.

        Args:
            folder: The folder of the store.
            dataset: The version.
            version: Its name.
            lock: Held while rows or index are read; whoever makes a snapshot holds it.
            before: The last snapshot; what it has read need not be read again.
        """
        self.dataset, self.version = dataset, version
        self._folder, self._lock = folder, lock
        self._dim = dataset.schema.field("embedding").type.list_size
        self._rows: InMemoryRows | None = None
        self._older_rows = InMemoryRows()
        self._index: tuple[code_index.CodeIndex | None] | None = None
        self._covered: dict[str | None, code_index.Covered] = {}
        if before is not None and before.version.table == version.table:
            self._older_rows = before._rows or before._older_rows
            if before.version.index_stamp == version.index_stamp:
                self._index = before._index

    @cached_property
    def ids(self) -> np.ndarray:
        """(n,) int64 ids of all rows, sorted."""
        return np.sort(self._ids_on_disk)

    def take(self, ids: np.ndarray, columns: list[str] | None = None) -> "pa.Table":
        """Return the rows on disk that are there, in the order of the ids; None: all columns."""
        places = np.searchsorted(self.ids, ids)
        is_there = places < len(self.ids)
        is_there[is_there] = self.ids[places[is_there]] == ids[is_there]
        return self.dataset.take(self._offsets[places[is_there]].tolist(), columns=columns)

    def rows(self) -> InMemoryRows:
        """Return all rows in memory."""
        with self._lock:
            if self._rows is None:
                self._rows = self._older_rows.renewed(self.dataset, self._dim)
                self._older_rows = self._rows
            return self._rows

    def search_by_codes(self, queries: np.ndarray, k: int, where: Filter) -> RankedRows | None:
        """Search by the approximate index; return None if there is none."""
        with self._lock:
            if self._index is None:
                stamp = self.version.index_stamp
                self._index = (None if stamp is None else code_index.open_index(self._folder),)
            (index,) = self._index
        if index is None:
            return None
        covered = self._covered_by(index, where.sql())
        found = [index.rows[of_query, 0] for of_query in index.find(queries, k, covered.allowed)]
        wanted = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
        embeddings = embeddings_of(self.take(wanted, ["embedding"]))
        candidates = []
        for ids in found:
            own = Candidates(ids, embeddings[np.searchsorted(wanted, ids)])
            candidates.append(rescoring.pooled([own, covered.newer], self._dim))
        all_compared = int(covered.allowed.sum()) <= index.count(k)
        recall = None if all_compared else index.recall
        return RankedRows(*rescoring.ranked(queries, candidates, k), all_compared, recall)

    def search_on_disk(self, queries: np.ndarray, k: int, where: Filter) -> RankedRows:
        """Compare with all rows on disk that fit the filter."""
        condition = where.sql()

        def find(some: np.ndarray, n: int) -> list[Candidates]:
            return [self._nearest(query, n, condition) for query in some]

        n_row = self.dataset.count_rows(condition)
        return RankedRows(*rescoring.exact_neighbors(queries, find, k, max(k, n_row)), True)

    @cached_property
    def _ids_on_disk(self) -> np.ndarray:
        """(n,) int64 ids in the order of the rows on disk."""
        return self.dataset.to_table(columns=["id"])["id"].to_numpy()

    @cached_property
    def _offsets(self) -> np.ndarray:
        """(n,) int64 places on disk of the sorted ids."""
        return np.argsort(self._ids_on_disk)

    def _covered_by(self, index: code_index.CodeIndex, where: str | None) -> code_index.Covered:
        """Return what the index covers of the rows that fit."""
        covered = self._covered.get(where)
        if covered is None:
            covered = code_index.Covered.of(index, self.dataset, where)
            if len(self._covered) >= KEPT_FILTERS:  # another search may clear it, too
                self._covered.clear()
            self._covered[where] = covered
        return covered

    def _nearest(self, query: np.ndarray, n: int, where: str | None) -> Candidates:
        """Return the n best rows of a query by float32 products with all rows that fit."""
        near = {"column": "embedding", "q": query, "k": n, "metric": "dot", "use_index": False}
        table = self.dataset.to_table(
            columns=["id", "embedding", "_distance"],  # without it, Lance warns of its future
            filter=where,
            prefilter=True,
            nearest=near,
        )
        return Candidates(table["id"].to_numpy(), embeddings_of(table))
