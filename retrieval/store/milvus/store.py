"""A store on a Milvus server, or in a file of Milvus Lite."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data import schema
from retrieval.data.formats import InputError
from retrieval.search.exact import SPARE, recall_of_exact
from retrieval.store import filters, rescoring
from retrieval.store.base import ALL, ImageStore, NoStore, RankedRows, StoreFailure
from retrieval.store.filters import Filter
from retrieval.store.milvus.client import (
    TIMEOUT_S,
    connect,
    disconnect,
    is_file,
    milvus_errors,
    writing,
)
from retrieval.store.milvus.rows import (
    NAME,
    PUBLISHED,
    RECALL,
    RECORD,
    RENEWED,
    create_collection,
    index_params,
    packed,
    unpacked,
)
from retrieval.store.rows import Collection, ImageRow, Metadata, check_new_rows

if TYPE_CHECKING:
    from pymilvus import MilvusClient

FIELDS = Metadata._fields
ROWS_PER_CALL = 1_000  # a call may carry 64 MB
CALLS = 2  # to a server at once: one is packed while another is stored
MOST_FOUND = 16_384  # Milvus returns no more
PROBES = 64  # of the cells of an approximate index
FACTOR = 10  # candidates for each neighbor of an approximate search, scored again exactly
MEASURED, MEASURED_K = 100, 10  # rows that are searched again to measure the recall of an index


class MilvusStore(ImageStore):
    """A collection ``images`` of Milvus, changed in transactions of up to 1,000 rows.

    Up to ``exact_rows`` rows Milvus compares all rows; `optimize` makes an index beyond that.
    """

    def __init__(
        self, client: "MilvusClient", address: str, exact_rows: int, table: str = NAME
    ) -> None:
        self._client, self.name, self.exact_rows = client, address, exact_rows
        self._table, self._is_closed = table, False
        self._text = self._properties().get(RECORD, "")
        if not self._text:
            raise InputError(f"{address} has a collection {NAME} that is not a store of images")
        self.collection = Collection.from_json(self._text)

    @classmethod
    def open(
        cls, address: str, create: Collection | None, exact_rows: int, made_by: str
    ) -> "MilvusStore":
        """Open or create a store, as `backends.open_store` does.

        Args:
            address: Of a server, or a file of Milvus Lite.
            create: As `backends.open_store` takes it.
            exact_rows: As `backends.open_store` takes it.
            made_by: The command that makes the store, for messages.
        """
        if create is None and is_file(address) and not Path(address).exists():
            raise _no_store(address, made_by)
        client = connect(address)
        try:
            with milvus_errors(address):
                finish_renewal(client)
                if not client.has_collection(NAME, timeout=TIMEOUT_S):
                    if create is None:
                        raise _no_store(address, made_by)
                    create_collection(client, create)
                client.load_collection(NAME, timeout=6 * TIMEOUT_S)
            return cls(client, address, exact_rows)
        except InputError:
            disconnect(client, address)
            raise

    def add(self, rows: Sequence[ImageRow]) -> int:
        if not rows:
            return 0
        embeddings = check_new_rows(rows, self.collection.dim, self.name)
        now, starts = time.time_ns(), range(0, len(rows), ROWS_PER_CALL)

        def add_some(start: int) -> int:
            some = rows[start : start + ROWS_PER_CALL]
            return self._add(some, embeddings[start : start + ROWS_PER_CALL], now)

        calls = 1 if is_file(self.name) else CALLS
        with self._errors(), writing(self.name), ThreadPoolExecutor(calls) as pool:
            self._check_not_replaced()
            return sum(pool.map(add_some, starts))

    def _add(self, rows: Sequence[ImageRow], embeddings: np.ndarray, now: int) -> int:
        """Add rows in one call; return how many were new."""
        known = {row["id"] for row in self._query([row.id for row in rows], ["id"])}
        data = [
            packed(row, embedding, now)
            for row, embedding in zip(rows, embeddings, strict=True)
            if row.id not in known
        ]
        if data:
            # Not insert: of two writers that add one photo, Milvus keeps one row.
            self._client.upsert(self._table, data, timeout=TIMEOUT_S)
        return len(data)

    def remove(self, ids: Iterable[int]) -> int:
        wanted = sorted(set(map(int, ids)))
        n_removed = 0
        with self._errors(), writing(self.name):
            for start in range(0, len(wanted), ROWS_PER_CALL):
                rows = self._query(wanted[start : start + ROWS_PER_CALL], ["id"])
                if rows:
                    found = [row["id"] for row in rows]
                    self._client.delete(self._table, ids=found, timeout=TIMEOUT_S)
                n_removed += len(rows)
        return n_removed

    def get(self, ids: Iterable[int]) -> list[ImageRow]:
        wanted = list(dict.fromkeys(map(int, ids)))
        found: dict[int, ImageRow] = {}
        with self._errors():
            for start in range(0, len(wanted), ROWS_PER_CALL):
                rows = self._query(wanted[start : start + ROWS_PER_CALL], ["*"])
                found |= {row["id"]: unpacked(row) for row in rows}
        return [found[number] for number in wanted if number in found]

    def metadata(self, ids: Iterable[int]) -> dict[int, Metadata]:
        return {int(row["id"]): _metadata(row) for row in self._columns(ids, FIELDS)}

    def embeddings(self, ids: Iterable[int]) -> dict[int, np.ndarray]:
        rows = self._columns(ids, ("embedding",))
        return {int(row["id"]): np.array(row["embedding"], np.float32) for row in rows}

    def ids(self, where: Filter = ALL) -> np.ndarray:
        ids = [row["id"] for block in self._blocks(where, ["id"]) for row in block]
        return np.sort(np.array(ids, np.int64))

    def count(self, where: Filter = ALL) -> int:
        with self._errors():
            (row,) = self._client.query(
                self._table,
                filter=where.expression() or "id >= 0",
                output_fields=["count(*)"],
                timeout=TIMEOUT_S,
            )
        return int(row["count(*)"])

    def facets(self) -> "Counter[Metadata]":
        counts: Counter[Metadata] = Counter()
        for block in self._blocks(ALL, list(FIELDS)):
            counts.update(map(_metadata, block))
        return counts

    def search(self, queries: np.ndarray, k: int, where: Filter = ALL) -> RankedRows:
        queries = rescoring.check_queries(queries, k, self.collection.dim)
        if k > MOST_FOUND - SPARE:
            raise InputError(f"Milvus finds at most {MOST_FOUND} rows; got --k={k}")
        with self._errors():
            self._check_not_replaced()
            if not self._is_indexed():
                found = rescoring.exact_neighbors(
                    queries, lambda some, n: self._nearest(some, n, where), k, MOST_FOUND
                )
                return RankedRows(*found, is_exact=True)
            n = min(FACTOR * k, MOST_FOUND)
            candidates = self._nearest(queries, n, where, {"nprobe": PROBES})
            if min(len(of_query.ids) for of_query in candidates) < k:  # too few cells were read
                candidates = self._nearest(queries, n, where, {"nprobe": self._n_cell()})
            properties = self._properties()
            recall = float(properties[RECALL]) if RECALL in properties else None
            return RankedRows(*rescoring.ranked(queries, candidates, k), False, recall)

    def optimize(self) -> None:
        with self._errors(), writing(self.name):
            self._client.flush(self._table, timeout=6 * TIMEOUT_S)
            if not is_file(self.name):
                self._client.compact(self._table, timeout=TIMEOUT_S)
            n_row = self.count()
            if n_row > self.exact_rows and not is_file(self.name):
                self._make_index(n_row)

    def published(self) -> dict[str, str] | None:
        try:
            states = json.loads(self._properties().get(PUBLISHED, "null"))
        except (ValueError, RecursionError):
            return None
        return dict(states) if states and schema.fits(states, dict[str, str]) else None

    def mark_published(self, states: dict[str, str]) -> None:
        with self._errors():
            self._client.alter_collection_properties(
                self._table, properties={PUBLISHED: json.dumps(states)}, timeout=TIMEOUT_S
            )

    def renew(self, collection: Collection, batches: Iterable[Sequence[ImageRow]]) -> None:
        client = self._client
        with self._errors(), writing(self.name):
            client.drop_collection(RENEWED, timeout=6 * TIMEOUT_S)
            create_collection(client, collection, RENEWED)
            client.load_collection(RENEWED, timeout=6 * TIMEOUT_S)
            new = MilvusStore(client, self.name, self.exact_rows, RENEWED)
            for rows in batches:
                new.add(rows)
            new.mark_published({})  # from here on, whoever opens the store ends what a kill leaves
            finish_renewal(client)
            client.load_collection(NAME, timeout=6 * TIMEOUT_S)
        self._text, self.collection = collection.to_json(), collection

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            disconnect(self._client, self.name)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Name errors. A server that was started again must be told to load the rows."""
        try:
            with milvus_errors(self.name):
                yield
        except InputError as error:
            if "not loaded" in str(error):
                with milvus_errors(self.name):
                    self._client.load_collection(self._table, timeout=TIMEOUT_S)
            raise

    def _properties(self) -> dict[str, str]:
        with milvus_errors(self.name):
            found = self._client.describe_collection(self._table, timeout=TIMEOUT_S)
        return dict(found["properties"])

    def _check_not_replaced(self) -> None:
        if self._properties().get(RECORD) != self._text:
            raise StoreFailure(f"the store {self.name} was replaced by another one; start again")

    def _query(self, ids: list[int], columns: list[str]) -> list[dict[str, Any]]:
        return self._client.query(
            self._table,
            filter=filters.ids_expression(ids),
            output_fields=columns,
            timeout=TIMEOUT_S,
        )

    def _columns(self, ids: Iterable[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return some columns of the rows with these ids, in any order."""
        wanted, found = sorted({*map(int, ids)}), list[dict[str, Any]]()
        with self._errors():
            for start in range(0, len(wanted), ROWS_PER_CALL):
                found += self._query(wanted[start : start + ROWS_PER_CALL], ["id", *columns])
        return found

    def _blocks(self, where: Filter, columns: list[str]) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows that fit a filter, in blocks."""
        with self._errors():
            rows = self._client.query_iterator(
                self._table,
                batch_size=MOST_FOUND,
                filter=where.expression() or "id >= 0",
                output_fields=columns,
                timeout=TIMEOUT_S,
            )
            while block := rows.next():
                yield block
            rows.close()

    def _nearest(
        self, queries: np.ndarray, n: int, where: Filter, options: dict[str, int] | None = None
    ) -> list[rescoring.Candidates]:
        found = self._client.search(
            self._table,
            data=list(queries),
            limit=n,
            filter=where.expression(),
            output_fields=["embedding"],
            search_params={"metric_type": "IP", "params": options or {}},
            timeout=TIMEOUT_S,
        )
        dim = self.collection.dim
        return [
            rescoring.Candidates(
                np.array([hit["id"] for hit in hits], np.int64),
                np.array([hit["entity"]["embedding"] for hit in hits], "f4").reshape(-1, dim),
            )
            for hits in found
        ]

    def _is_indexed(self) -> bool:
        return self._index()["index_type"] != "FLAT"

    def _n_cell(self) -> int:
        return int(self._index()["nlist"])

    def _index(self) -> dict[str, Any]:
        (name,) = self._client.list_indexes(self._table, timeout=TIMEOUT_S)
        return self._client.describe_index(self._table, name, timeout=TIMEOUT_S)

    def _make_index(self, n_row: int) -> None:
        """Make an approximate index, and keep the recall that it has on some of the rows."""
        n_cell = int(4 * n_row**0.5)
        if not self._is_indexed():
            self._client.release_collection(self._table, timeout=6 * TIMEOUT_S)
            (name,) = self._client.list_indexes(self._table, timeout=TIMEOUT_S)
            self._client.drop_index(self._table, name, timeout=TIMEOUT_S)
            self._client.create_index(
                self._table, index_params(self._client, "IVF_FLAT", nlist=n_cell)
            )
            self._client.load_collection(self._table, timeout=60 * TIMEOUT_S)
        ids = self.ids()
        rows = self.get(ids[np.linspace(0, len(ids) - 1, MEASURED).astype(int)])
        queries = np.stack([row.embedding for row in rows])
        exact, found = (
            [some.ids for some in self._nearest(queries, MEASURED_K, ALL, {"nprobe": n_probe})]
            for n_probe in (self._n_cell(), PROBES)
        )
        recall = recall_of_exact(np.stack(exact), found)
        self._client.alter_collection_properties(
            self._table, properties={RECALL: f"{recall:.4f}"}, timeout=TIMEOUT_S
        )


def finish_renewal(client: "MilvusClient") -> None:
    """Replace the old collection by a complete renewed one; else do nothing."""
    if not client.has_collection(RENEWED, timeout=TIMEOUT_S):
        return
    if PUBLISHED not in client.describe_collection(RENEWED, timeout=TIMEOUT_S)["properties"]:
        return
    if client.has_collection(NAME, timeout=TIMEOUT_S):
        client.drop_collection(NAME, timeout=6 * TIMEOUT_S)
    client.rename_collection(RENEWED, NAME, timeout=TIMEOUT_S)


def _no_store(address: str, made_by: str) -> NoStore:
    return NoStore(f"{address} has no store yet; make it with: {made_by}")


def _metadata(row: dict[str, Any]) -> Metadata:
    return Metadata(*(row[name] for name in FIELDS))._replace(label=int(row["label"]))
