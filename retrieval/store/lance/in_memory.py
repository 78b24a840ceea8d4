"""The rows of a store in memory, to search all of them exactly.

Two segments, each in the order of ids: one with most rows, one with those that were
added since. Removed rows are masked. A state never changes; a new one shares the arrays of the one
before, so searches that run go on with what they began with.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.store import rescoring
from retrieval.store.filters import Filter
from retrieval.store.lance.rows import embeddings_of
from retrieval.store.rows import Metadata
from retrieval.threads import in_threads, product_threads

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

FIELDS = Metadata._fields
QUERIES_AT_ONCE = 32  # their products with a million rows take 128 MB
ROWS_AT_ONCE = 4096  # of a product that one thread computes
COPIED = 0.05  # share of allowed rows up to which they are copied rather than masked
LARGEST_TAIL = 20_000  # newer rows; more are sorted in among the others


class Vocabulary:
    """Numbers for the values of a column, which are many fewer than the rows. It only grows."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._codes: dict[Any, int] = {}

    def encode(self, column: "pa.ChunkedArray") -> np.ndarray:
        """Return the codes of a column's values, (n,) int32; new values get new codes."""
        encoded = column.combine_chunks().dictionary_encode()
        for value in encoded.dictionary.to_pylist():
            if value not in self._codes:
                self._codes[value] = len(self.values)
                self.values.append(value)
        own = [self._codes[value] for value in encoded.dictionary.to_pylist()]
        return np.array(own, np.int32)[encoded.indices.to_numpy()]

    def codes(self, values: Iterable[Any]) -> np.ndarray:
        """Return the codes of the values that occur, (n,) int32."""
        return np.array([self._codes[v] for v in values if v in self._codes], np.int32)


@dataclass(frozen=True)
class Segment:
    """Rows in the order of ids.

    Attributes:
        ids: (n,) int64, ascending.
        added_ns: (n,) int64; with the id it names the content of a row.
        embeddings: (n, dim) float32.
        columns: Codes of the values of each column of ``FIELDS``, (n,) int32.
        is_alive: (n,) bool: false if the row was removed.
    """

    ids: np.ndarray
    added_ns: np.ndarray
    embeddings: np.ndarray
    columns: dict[str, np.ndarray]
    is_alive: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def ordered(self) -> "Segment":
        """Return the rows that are alive, sorted by id."""
        rows = np.flatnonzero(self.is_alive)
        rows = rows[np.argsort(self.ids[rows], kind="stable")]
        if len(rows) == len(self) and (rows[1:] > rows[:-1]).all():
            return self
        columns = {name: values[rows] for name, values in self.columns.items()}
        is_alive = np.ones(len(rows), bool)
        return Segment(
            self.ids[rows], self.added_ns[rows], self.embeddings[rows], columns, is_alive
        )

    def places(self, ids: np.ndarray, added_ns: np.ndarray) -> np.ndarray:
        """Return the row of each pair, (n,) int64, -1 where it is not here."""
        places = np.minimum(np.searchsorted(self.ids, ids), max(len(self) - 1, 0))
        if not len(self):
            return np.full(len(ids), -1)
        is_here = (self.ids[places] == ids) & (self.added_ns[places] == added_ns)
        return np.where(is_here, places, -1)

    def rows_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which ids are alive here, (n,) bool, and the rows of these."""
        if not len(self):
            return np.zeros(len(ids), bool), np.empty(0, np.int64)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        is_here = (self.ids[places] == ids) & self.is_alive[places]
        return is_here, places[is_here]

    def keep(self, places: np.ndarray) -> "Segment":
        """Return the segment with only these rows alive."""
        is_alive = np.zeros(len(self), bool)
        is_alive[places[places >= 0]] = True
        return replace(self, is_alive=is_alive)

    def allowed(self, codes: dict[str, np.ndarray]) -> np.ndarray:
        """Return which rows are alive and have one of the codes of each column, (n,) bool."""
        is_allowed = self.is_alive.copy()
        for column, allowed in codes.items():
            is_allowed &= np.isin(self.columns[column], allowed)
        return is_allowed


def joined(segments: list[Segment]) -> Segment:
    """Return the rows of several segments as one, sorted by id, without removed rows."""
    columns = {
        name: np.concatenate([segment.columns[name] for segment in segments])
        for name in segments[0].columns
    }
    return Segment(
        np.concatenate([segment.ids for segment in segments]),
        np.concatenate([segment.added_ns for segment in segments]),
        np.concatenate([segment.embeddings for segment in segments]),
        columns,
        np.concatenate([segment.is_alive for segment in segments]),
    ).ordered()


@dataclass(frozen=True)
class InMemoryRows:
    """All rows of one version of a store.

    Attributes:
        segments: The rows, none in two segments.
        vocabularies: The values behind the codes of each column; newer versions share them.
    """

    segments: tuple[Segment, ...] = ()
    vocabularies: dict[str, Vocabulary] = field(
        default_factory=lambda: {name: Vocabulary() for name in FIELDS}
    )

    def missing(self, ids: np.ndarray, added_ns: np.ndarray) -> np.ndarray:
        """Return which rows of a newer version are not here yet, (n,) bool."""
        is_missing = np.ones(len(ids), bool)
        for segment in self.segments:
            is_missing &= segment.places(ids, added_ns) < 0
        return is_missing

    def renewed(self, dataset: "lance.LanceDataset", dim: int) -> "InMemoryRows":
        """Return the rows of a newer version; only what is not here is read."""
        keys = dataset.to_table(columns=["id", "added_ns"], with_row_address=True)
        ids, added_ns = keys["id"].to_numpy(), keys["added_ns"].to_numpy()
        is_missing = self.missing(ids, added_ns)
        fragments = np.unique((keys["_rowaddr"].to_numpy() >> 32)[is_missing])
        chosen = [part for part in dataset.get_fragments() if part.fragment_id in fragments]
        columns = ["id", "added_ns", "embedding", *FIELDS]
        blocks = dataset.scanner(columns=columns, fragments=chosen).to_batches() if chosen else ()
        new = self._read(blocks, dim, int(is_missing.sum()))
        kept = [segment.keep(segment.places(ids, added_ns)) for segment in self.segments]
        first, *rest = kept or [new]
        tail = [*rest, new] if kept else []
        is_sparse = 2 * np.count_nonzero(first.is_alive) < len(first)
        if is_sparse or sum(map(len, tail)) > max(LARGEST_TAIL, len(first) // 4):
            return replace(self, segments=(joined([first, *tail]),))
        segments = [first.ordered() if not kept else first]
        segments += [joined(tail)] if tail else []
        return replace(self, segments=tuple(segments))

    def _read(self, blocks: Iterable["pa.RecordBatch"], dim: int, n: int) -> Segment:
        """Return the rows of some blocks that are missing here, n of them."""
        import pyarrow as pa

        new = Segment(
            np.empty(n, np.int64),
            np.empty(n, np.int64),
            np.empty((n, dim), np.float32),
            {name: np.empty(n, np.int32) for name in FIELDS},
            np.ones(n, bool),
        )
        start = 0
        for block in blocks:
            table = pa.Table.from_batches([block])
            ids, added_ns = table["id"].to_numpy(), table["added_ns"].to_numpy()
            chosen = self.missing(ids, added_ns)
            rows = slice(start, start + int(chosen.sum()))
            new.ids[rows], new.added_ns[rows] = ids[chosen], added_ns[chosen]
            new.embeddings[rows] = embeddings_of(table)[chosen]
            for name, codes in new.columns.items():
                codes[rows] = self.vocabularies[name].encode(table[name])[chosen]
            start = rows.stop
        return new.ordered()

    def metadata(self, ids: np.ndarray) -> dict[int, Metadata]:
        """Return the metadata of some rows, by id."""
        found: dict[int, Metadata] = {}
        for segment in self.segments:
            is_here, rows = segment.rows_of(ids)
            columns = [
                [self.vocabularies[name].values[code] for code in segment.columns[name][rows]]
                for name in FIELDS
            ]
            found |= dict(zip(ids[is_here].tolist(), map(Metadata, *columns), strict=True))
        return found

    def embeddings(self, ids: np.ndarray) -> dict[int, np.ndarray]:
        """Return the embeddings of some rows, by id."""
        found: dict[int, np.ndarray] = {}
        for segment in self.segments:
            is_here, rows = segment.rows_of(ids)
            found |= dict(zip(ids[is_here].tolist(), segment.embeddings[rows], strict=True))
        return found

    def search(self, queries: np.ndarray, k: int, where: Filter) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and similarities of the ``k`` best rows of each query, as in `RankedRows`."""
        codes = self._codes(where)
        allowed = [segment.allowed(codes) for segment in self.segments]

        def find(some: np.ndarray, n: int) -> list[rescoring.Candidates]:
            found: list[list[rescoring.Candidates]] = [[] for _ in some]
            for segment, is_allowed in zip(self.segments, allowed, strict=True):
                best = _best_rows(some, segment, is_allowed, n)
                for of_query, rows in zip(found, best, strict=True):
                    of_query.append(
                        rescoring.Candidates(segment.ids[rows], segment.embeddings[rows])
                    )
            return [rescoring.pooled(of_query, queries.shape[1]) for of_query in found]

        most = max(k, sum(int(np.count_nonzero(of_segment)) for of_segment in allowed))
        return rescoring.exact_neighbors(queries, find, k, most)

    def _codes(self, where: Filter) -> dict[str, np.ndarray]:
        conditions = where.conditions().items()
        return {column: self.vocabularies[column].codes(values) for column, values in conditions}


def _best_rows(
    queries: np.ndarray, segment: Segment, is_allowed: np.ndarray, n: int
) -> Iterator[np.ndarray]:
    """Yield, for each query, the n allowed rows of the largest float32 products, in any order.

    For a few queries, the product with all rows is as fast as the memory. `nearest_neighbors` is
    made for many, and takes ten times longer for one.
    """
    n_allowed = int(np.count_nonzero(is_allowed))
    if not n_allowed:
        yield from (np.empty(0, np.int64) for _ in queries)
        return
    rows: np.ndarray | None = None
    gallery = segment.embeddings
    if n_allowed < COPIED * len(segment):
        rows = np.flatnonzero(is_allowed)
        gallery = gallery[rows]
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        scores = _products(queries[start : start + QUERIES_AT_ONCE], gallery)
        if rows is None and n_allowed < len(segment):
            scores[:, ~is_allowed] = -np.inf
        for of_query in scores:
            first = len(of_query) - min(n, n_allowed)
            best = np.argpartition(of_query, first)[first:]
            yield best if rows is None else rows[best]


def _products(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return the inner products of all pairs, (n_query, n_gallery) float32.

    A BLAS is slow on so few queries; in blocks of rows it takes two thirds of the time.
    """
    scores = np.empty((len(queries), len(gallery)), np.float32)

    def fill(start: int) -> None:
        block = slice(start, start + ROWS_AT_ONCE)
        scores[:, block] = (gallery[block] @ queries.T).T

    in_threads(fill, range(0, len(gallery), ROWS_AT_ONCE), product_threads())
    return scores
