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
from retrieval.store import code_index, filters, lance_files, rescoring
from retrieval.store.filters import Filter
from retrieval.store.interface import ALL, EXACT_ROWS, ImageStore, RankedRows
from retrieval.store.lance_files import lance_errors, retried
from retrieval.store.resident import FACETS, Resident, Vocabulary, read_segment
from retrieval.store.rows import Collection, Facts, ImageRow, check_new_rows

if TYPE_CHECKING:
    import lance

KEPT_VERSIONS = timedelta(hours=1)  # a reader of another process may still read the files
LARGEST_FILE = 1_000_000  # rows
PUBLISHED = "published.json"  # in the store's folder: what the published rows were made from
KEPT_FILTERS = 16  # whose rows are remembered, for one version

# What the index covers, by version of the store and filter.
_Kept = dict[tuple[tuple[int, ...], str | None], code_index.Covered]


class LanceStore(ImageStore):
    """A store in a folder.

    Up to ``exact_rows`` rows are held in memory and searched exactly. One process or thread at a
    time changes the rows (`lance_files.writer_lock`); any number search meanwhile.
    """

    def __init__(self, folder: Path, exact_rows: int = EXACT_ROWS) -> None:
        """Open a store that exists.

        Args:
            folder: Its folder.
            exact_rows: Most rows that a search compares with every query.
        """
        self.folder, self.name, self.exact_rows = folder, str(folder), exact_rows
        self._lock = threading.Lock()
        self._resident: Resident | None = None
        self._known: tuple[tuple[int, ...], np.ndarray] | None = None  # sorted ids of a version
        self._offsets: tuple[tuple[int, ...], np.ndarray, np.ndarray] | None = None
        self._codes: tuple[tuple[int, int], code_index.CodeIndex | None, _Kept] | None = None
        with lance_errors(folder):
            text = (self._newest().schema.metadata or {}).get(lance_files.METADATA)
        if text is None:
            raise InputError(f"{folder} is not a store of images; name another --store")
        self._text, self.collection = text, Collection.from_json(text.decode())

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Return whether there is a store in the folder."""
        return (folder / lance_files.TABLE).is_dir()

    @classmethod
    def create(cls, folder: Path, collection: Collection) -> None:
        """Create a store without rows; nothing is left if that fails."""
        import lance

        table = lance_files.schema(collection.dim, collection.to_json())
        with lance_errors(folder), files.whole_folder(folder) as part:
            lance.write_dataset(table.empty_table(), str(part / lance_files.TABLE), schema=table)

    def add(self, rows: Sequence[ImageRow]) -> int:
        if not rows:
            return 0
        embeddings = check_new_rows(rows, self.collection.dim, self.name)
        ids = np.array([row.id for row in rows])
        with lance_errors(self.folder), lance_files.writer_lock(self.folder):
            dataset = self._dataset()
            known = self._ids(dataset)
            new = np.flatnonzero(~np.isin(ids, known))
            if not len(new):
                return 0
            if len(new) < len(rows):
                rows, embeddings = [rows[row] for row in new.tolist()], embeddings[new]
            table = lance_files.as_table(rows, embeddings, time.time_ns())
            before = dataset.version
            retried(lambda: dataset.insert(table, mode="append"))
            if dataset.version == before + 1:  # no other change in between
                self._known = (
                    self._version(dataset),
                    np.sort(np.concatenate([known, ids[new]]), kind="stable"),
                )
        return len(new)

    def remove(self, ids: Iterable[int]) -> int:
        wanted = np.unique(np.fromiter(ids, np.int64))
        with lance_errors(self.folder), lance_files.writer_lock(self.folder):
            found = np.intersect1d(wanted, self._ids(self._dataset()))
            if len(found):
                retried(lambda: self._dataset().delete(filters.ids_sql(found)))
        return len(found)

    def get(self, ids: Iterable[int]) -> list[ImageRow]:
        with lance_errors(self.folder):
            dataset = self._dataset()
            offsets = self._offsets_of(dataset, ids)
            return lance_files.as_rows(dataset.take(offsets)) if offsets else []

    def facts(self, ids: Iterable[int]) -> dict[int, Facts]:
        with lance_errors(self.folder):
            dataset = self._dataset()
            if dataset.count_rows() <= self.exact_rows:
                wanted = np.unique(np.fromiter(ids, np.int64))
                return self._current(dataset).facts(wanted)
            offsets = self._offsets_of(dataset, ids)
            if not offsets:
                return {}
            table = dataset.take(offsets, columns=["id", *FACETS])
        columns = [table[name].to_pylist() for name in FACETS]
        return dict(zip(table["id"].to_pylist(), map(Facts, *columns), strict=True))

    def embeddings(self, ids: Iterable[int]) -> dict[int, np.ndarray]:
        with lance_errors(self.folder):
            dataset = self._dataset()
            if dataset.count_rows() <= self.exact_rows:
                wanted = np.unique(np.fromiter(ids, np.int64))
                return self._current(dataset).embeddings(wanted)
            offsets = self._offsets_of(dataset, ids)
            if not offsets:
                return {}
            table = dataset.take(offsets, columns=["id", "embedding"])
        return dict(zip(table["id"].to_pylist(), lance_files.embeddings_of(table), strict=True))

    def ids(self, where: Filter = ALL) -> np.ndarray:
        with lance_errors(self.folder):
            if not where:
                return self._ids(self._dataset()).copy()
            table = self._dataset().to_table(columns=["id"], filter=where.sql())
            return np.sort(table["id"].to_numpy())

    def count(self, where: Filter = ALL) -> int:
        with lance_errors(self.folder):
            return self._dataset().count_rows(where.sql())

    def facets(self) -> "Counter[Facts]":
        with lance_errors(self.folder):
            table = self._dataset().to_table(columns=list(FACETS))
        groups = table.group_by(list(FACETS)).aggregate([([], "count_all")])
        columns = (groups.column(name).to_pylist() for name in (*FACETS, "count_all"))
        return Counter({Facts(*key): n for *key, n in zip(*columns, strict=True)})

    def search(self, queries: np.ndarray, k: int, where: Filter = ALL) -> RankedRows:
        queries = rescoring.check_queries(queries, k, self.collection.dim)
        with lance_errors(self.folder):
            dataset = self._dataset()
            n_row = dataset.count_rows()
            if n_row > self.exact_rows or where.sha256s:
                found = self._indexed(dataset, queries, k, where)
                return found or self._scanned(dataset, queries, k, where)
            resident = self._current(dataset)
        return RankedRows(*resident.search(queries, k, where), is_exact=True)

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
        with lance_errors(self.folder), lance_files.writer_lock(self.folder):
            # A kill from here on leaves the old rows, or the new ones as if half were published.
            for name in (PUBLISHED, code_index.RECORD):
                (self.folder / name).unlink(missing_ok=True)
            lance_files.replace_rows(self.folder, collection, batches)
        self.close()
        self._text, self.collection = collection.to_json().encode(), collection

    def close(self) -> None:
        with self._lock:
            self._resident = self._known = self._offsets = self._codes = None

    def _newest(self) -> "lance.LanceDataset":
        """Return the newest version; opening it takes a millisecond."""
        import lance

        return lance.dataset(str(self.folder / lance_files.TABLE))

    def _dataset(self) -> "lance.LanceDataset":
        """Return the newest version, which must be of the same collection as before."""
        dataset = self._newest()
        if (dataset.schema.metadata or {}).get(lance_files.METADATA) != self._text:
            raise InputError(f"the store {self.name} was replaced by another one; start again")
        return dataset

    def _version(self, dataset: "lance.LanceDataset") -> tuple[int, ...]:
        # The folder's inode: a store that was made again may have the same number of versions.
        return (self.folder / lance_files.TABLE).stat().st_ino, dataset.version

    def _ids(self, dataset: "lance.LanceDataset") -> np.ndarray:
        """Return the ids of all rows, sorted."""
        version, known = self._version(dataset), self._known
        if known is None or known[0] != version:
            ids = np.sort(dataset.to_table(columns=["id"])["id"].to_numpy())
            known = self._known = version, ids
        return known[1]

    def _places(self, dataset: "lance.LanceDataset") -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all rows, sorted, and the place of each among the rows on disk."""
        version, kept = self._version(dataset), self._offsets
        if kept is None or kept[0] != version:
            ids = dataset.to_table(columns=["id"])["id"].to_numpy()
            offsets = np.argsort(ids)
            kept = self._offsets = version, ids[offsets], offsets
        return kept[1], kept[2]

    def _offsets_of(self, dataset: "lance.LanceDataset", ids: Iterable[int]) -> list[int]:
        """Return the places of the rows that are there, in the order of the ids."""
        wanted = np.array(list(dict.fromkeys(map(int, ids))), np.int64)
        sorted_ids, offsets = self._places(dataset)
        if not len(sorted_ids):
            return []
        places = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
        return offsets[places[sorted_ids[places] == wanted]].tolist()

    def _current(self, dataset: "lance.LanceDataset") -> Resident:
        """Return the rows of a version in memory; read only what was not there before."""
        version = self._version(dataset)
        with self._lock:
            resident = self._resident
            if resident is None or resident.version[0] != version[0]:
                names = {name: Vocabulary() for name in FACETS}
                resident = Resident((version[0], 0), (), names)
            if resident.version[1] < version[1]:
                resident = self._renewed(resident, dataset, version)
                self._resident = resident
            return resident

    def _renewed(
        self, resident: Resident, dataset: "lance.LanceDataset", version: tuple[int, ...]
    ) -> Resident:
        keys = dataset.to_table(columns=["id", "added_ns"], with_row_address=True)
        ids, added_ns = keys["id"].to_numpy(), keys["added_ns"].to_numpy()
        is_missing = resident.missing(ids, added_ns)
        files_of_rows = keys["_rowaddr"].to_numpy() >> 32
        fragments = [
            fragment
            for fragment in dataset.get_fragments()
            if fragment.fragment_id in np.unique(files_of_rows[is_missing])
        ]
        blocks = (
            dataset.scanner(
                columns=["id", "added_ns", "embedding", *FACETS], fragments=fragments
            ).to_batches()
            if fragments
            else ()
        )
        new = read_segment(blocks, resident, self.collection.dim, int(is_missing.sum()))
        return resident.renewed(version, ids, added_ns, new)

    def _indexed(
        self, dataset: "lance.LanceDataset", queries: np.ndarray, k: int, where: Filter
    ) -> RankedRows | None:
        """Search by the codes; None if there are none."""
        index, kept = self._code_index()
        if index is None:
            return None
        key = (self._version(dataset), where.sql())
        covered = kept.get(key)
        if covered is None:
            covered = code_index.Covered.of(index, dataset, where.sql())
            if len(kept) >= KEPT_FILTERS:  # another search may clear it, too
                kept.clear()
            kept[key] = covered
        found = [index.rows[of_query, 0] for of_query in index.find(queries, k, covered.allowed)]
        wanted = np.unique(np.concatenate([np.empty(0, np.int64), *found]))
        embeddings = code_index.embeddings_at(
            dataset, np.array(self._offsets_of(dataset, wanted), np.int64)
        )
        candidates = []
        for ids in found:
            own = rescoring.Candidates(ids, embeddings[np.searchsorted(wanted, ids)])
            candidates.append(rescoring.pooled([own, covered.newer], self.collection.dim))
        ranked = rescoring.ranked(queries, candidates, k)
        all_compared = int(covered.allowed.sum()) <= index.count(k)
        recall = None if all_compared else index.recall
        return RankedRows(*ranked, is_exact=all_compared, recall=recall)

    def _code_index(self) -> tuple[code_index.CodeIndex | None, _Kept]:
        """Return the index as it is on disk now, and what is remembered of it."""
        try:
            status = (self.folder / code_index.RECORD).stat()
        except FileNotFoundError:
            return None, {}
        stamp = (status.st_ino, status.st_mtime_ns)
        with self._lock:
            if self._codes is None or self._codes[0] != stamp:
                self._codes = stamp, code_index.open_index(self.folder), {}
            return self._codes[1:]

    def _scanned(
        self, dataset: "lance.LanceDataset", queries: np.ndarray, k: int, where: Filter
    ) -> RankedRows:
        """Compare with all rows on disk that fit the filter."""
        condition = where.sql()

        def find(some: np.ndarray, n: int) -> list[rescoring.Candidates]:
            return [lance_files.nearest(dataset, query, n, condition) for query in some]

        found = rescoring.ranked_exactly(queries, find, k, max(k, dataset.count_rows(condition)))
        return RankedRows(*found, is_exact=True)
