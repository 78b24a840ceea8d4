"""A store in a folder, without a server: LanceDB."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data import files, schema
from retrieval.data.formats import InputError
from retrieval.store import filters, rescoring
from retrieval.store.base import ALL, EXACT_ROWS, ImageStore, RankedRows, StoreFailure
from retrieval.store.filters import Filter
from retrieval.store.lance import code_index
from retrieval.store.lance.files import TABLE, lance_errors, replace_rows, retried, writer_lock
from retrieval.store.lance.in_memory import FIELDS
from retrieval.store.lance.rows import METADATA, arrow_schema, as_rows, as_table, embeddings_of
from retrieval.store.lance.snapshot import Snapshot, Version
from retrieval.store.rows import Collection, ImageRow, Metadata, check_new_rows

if TYPE_CHECKING:
    import lance

KEPT_VERSIONS = timedelta(hours=1)  # a reader of another process may still read the files
LARGEST_FILE = 1_000_000  # rows
PUBLISHED = "published.json"  # in the store's folder: what the published rows were made from


class LanceStore(ImageStore):
    """A store in a folder.

    Up to ``exact_rows`` rows are held in memory and searched exactly. One process or thread at a
    time changes the rows (`files.writer_lock`); any number search meanwhile.
    """

    def __init__(self, folder: Path, exact_rows: int = EXACT_ROWS) -> None:
        """Open a store that exists.

        Args:
            folder: Its folder.
            exact_rows: Most rows that a search compares with every query.
        """
        self.folder, self.name, self.exact_rows = folder, str(folder), exact_rows
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        with lance_errors(folder):
            text = (self._newest().schema.metadata or {}).get(METADATA)
        if text is None:
            raise InputError(f"{folder} is not a store of images; name another --store")
        self._text, self.collection = text, Collection.from_json(text.decode())

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Return whether there is a store in the folder."""
        return (folder / TABLE).is_dir()

    @classmethod
    def create(cls, folder: Path, collection: Collection) -> None:
        """Create a store without rows; nothing is left if that fails."""
        import lance

        table = arrow_schema(collection.dim, collection.to_json())
        with lance_errors(folder), files.whole_folder(folder) as part:
            lance.write_dataset(table.empty_table(), str(part / TABLE), schema=table)

    def add(self, rows: Sequence[ImageRow]) -> int:
        if not rows:
            return 0
        embeddings = check_new_rows(rows, self.collection.dim, self.name)
        ids = np.array([row.id for row in rows])
        with lance_errors(self.folder), writer_lock(self.folder):
            known = self._current().ids
            new = np.flatnonzero(~np.isin(ids, known))
            if not len(new):
                return 0
            if len(new) < len(rows):
                rows, embeddings = [rows[row] for row in new.tolist()], embeddings[new]
            dataset, table = self._dataset(), as_table(rows, embeddings, time.time_ns())
            before = dataset.version
            retried(lambda: dataset.insert(table, mode="append"))
            after = self._current()
            if after.version.number == before + 1:  # no other change in between
                after.ids = np.sort(np.concatenate([known, ids[new]]), kind="stable")
        return len(new)

    def remove(self, ids: Iterable[int]) -> int:
        wanted = np.unique(np.fromiter(ids, np.int64))
        with lance_errors(self.folder), writer_lock(self.folder):
            found = np.intersect1d(wanted, self._current().ids)
            if len(found):
                retried(lambda: self._dataset().delete(filters.ids_sql(found)))
        return len(found)

    def get(self, ids: Iterable[int]) -> list[ImageRow]:
        wanted = np.array(list(dict.fromkeys(map(int, ids))), np.int64)
        with lance_errors(self.folder):
            return as_rows(self._current().take(wanted))

    def metadata(self, ids: Iterable[int]) -> dict[int, Metadata]:
        wanted = np.unique(np.fromiter(ids, np.int64))
        with lance_errors(self.folder):
            snapshot = self._current()
            if self._is_small(snapshot):
                return snapshot.rows().metadata(wanted)
            table = snapshot.take(wanted, ["id", *FIELDS])
        columns = [table[name].to_pylist() for name in FIELDS]
        return dict(zip(table["id"].to_pylist(), map(Metadata, *columns), strict=True))

    def embeddings(self, ids: Iterable[int]) -> dict[int, np.ndarray]:
        wanted = np.unique(np.fromiter(ids, np.int64))
        with lance_errors(self.folder):
            snapshot = self._current()
            if self._is_small(snapshot):
                return snapshot.rows().embeddings(wanted)
            table = snapshot.take(wanted, ["id", "embedding"])
        return dict(zip(table["id"].to_pylist(), embeddings_of(table), strict=True))

    def ids(self, where: Filter = ALL) -> np.ndarray:
        with lance_errors(self.folder):
            if not where:
                return self._current().ids.copy()
            table = self._dataset().to_table(columns=["id"], filter=where.sql())
            return np.sort(table["id"].to_numpy())

    def count(self, where: Filter = ALL) -> int:
        with lance_errors(self.folder):
            return self._dataset().count_rows(where.sql())

    def facets(self) -> "Counter[Metadata]":
        with lance_errors(self.folder):
            table = self._dataset().to_table(columns=list(FIELDS))
        groups = table.group_by(list(FIELDS)).aggregate([([], "count_all")])
        columns = (groups.column(name).to_pylist() for name in (*FIELDS, "count_all"))
        return Counter({Metadata(*key): n for *key, n in zip(*columns, strict=True)})

    def search(self, queries: np.ndarray, k: int, where: Filter = ALL) -> RankedRows:
        queries = rescoring.check_queries(queries, k, self.collection.dim)
        with lance_errors(self.folder):
            snapshot = self._current()
            if self._is_small(snapshot) and not where.sha256s:
                return RankedRows(*snapshot.rows().search(queries, k, where), is_exact=True)
            found = snapshot.search_by_codes(queries, k, where)
            return found or snapshot.search_on_disk(queries, k, where)

    def optimize(self) -> None:
        with lance_errors(self.folder):
            retried(
                lambda: self._dataset().optimize.compact_files(
                    target_rows_per_fragment=LARGEST_FILE
                )
            )
            if self._dataset().count_rows() > self.exact_rows:
                retried(lambda: code_index.make_or_renew(self._dataset(), self.folder))
            self._dataset().cleanup_old_versions(older_than=KEPT_VERSIONS)

    def published(self) -> dict[str, str] | None:
        try:
            states = json.loads((self.folder / PUBLISHED).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return dict(states) if schema.fits(states, dict[str, str]) else None

    def mark_published(self, states: dict[str, str]) -> None:
        files.write_text(self.folder / PUBLISHED, json.dumps(states, indent=1) + "\n")

    def renew(self, collection: Collection, batches: Iterable[Sequence[ImageRow]]) -> None:
        with lance_errors(self.folder), writer_lock(self.folder):
            # A kill from here on leaves the old rows, or the new ones as if half were published.
            for name in (PUBLISHED, code_index.RECORD):
                (self.folder / name).unlink(missing_ok=True)
            replace_rows(self.folder, collection, batches)
        self.close()
        self._text, self.collection = collection.to_json().encode(), collection

    def close(self) -> None:
        with self._lock:
            self._snapshot = None

    def _newest(self) -> "lance.LanceDataset":
        """Return the newest version; opening it takes a millisecond."""
        import lance

        return lance.dataset(str(self.folder / TABLE))

    def _dataset(self) -> "lance.LanceDataset":
        """Return the newest version, which must be of the same collection as before."""
        dataset = self._newest()
        if (dataset.schema.metadata or {}).get(METADATA) != self._text:
            raise StoreFailure(f"the store {self.name} was replaced by another one; start again")
        return dataset

    def _current(self) -> Snapshot:
        """Return the newest version with what was read of it."""
        dataset = self._dataset()
        version = Version.of(self.folder, dataset)
        with self._lock:
            kept = self._snapshot
            if kept is None or not kept.version.is_like_or_after(version):
                kept = Snapshot(self.folder, dataset, version, self._lock, kept)
                self._snapshot = kept
            return kept

    def _is_small(self, snapshot: Snapshot) -> bool:
        """Return whether all rows are held in memory."""
        return snapshot.dataset.count_rows() <= self.exact_rows
