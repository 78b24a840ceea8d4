"""The rows of a store in memory, to search all of them exactly.

Two segments, each in the order of ids: one with most rows, one with those that were
added since. Removed rows are masked. A state never changes; a new one shares the arrays of the one
before, so searches that run go on with what they began with.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.search import float64_scores
from retrieval.search.nearest import nearest_neighbors
from retrieval.store.filters import Filter

if TYPE_CHECKING:
    import pyarrow as pa

FACETS = ("make", "model", "label", "year", "viewpoint")
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
        columns: Codes of the values of each column of ``FACETS``, (n,) int32.
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
class Resident:
    """All rows of one version of a store.

    Attributes:
        version: What names the state of the store's files.
        segments: The rows, none in two segments.
        vocabularies: The values behind the codes of each column.
    """

    version: tuple[int, ...]
    segments: tuple[Segment, ...]
    vocabularies: dict[str, Vocabulary]

    def missing(self, ids: np.ndarray, added_ns: np.ndarray) -> np.ndarray:
        """Return which rows of a newer version are not here yet, (n,) bool."""
        is_missing = np.ones(len(ids), bool)
        for segment in self.segments:
            is_missing &= segment.places(ids, added_ns) < 0
        return is_missing

    def renewed(
        self, version: tuple[int, ...], ids: np.ndarray, added_ns: np.ndarray, new: Segment
    ) -> "Resident":
        """Return the state of a newer version.

        Args:
            version: Its name.
            ids: (n,) int64 ids of all its rows.
            added_ns: (n,) int64 of the same rows.
            new: Those that are missing here.
        """
        kept = [segment.keep(segment.places(ids, added_ns)) for segment in self.segments]
        first, *rest = kept or [new]
        tail = [*rest, new] if kept else []
        if sum(map(len, tail)) > max(LARGEST_TAIL, len(first) // 4):
            return replace(self, version=version, segments=(joined([first, *tail]),))
        segments = [first.ordered() if not kept else first]
        segments += [joined(tail)] if tail else []
        return replace(self, version=version, segments=tuple(segments))

    def search(self, queries: np.ndarray, k: int, where: Filter) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and similarities of the ``k`` best rows of each query, as `Answer` does."""
        codes = self._codes(where)
        found = [_nearest(queries, segment, k, codes) for segment in self.segments]
        found += [(np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf, np.float32))]
        ids, similarities = (np.concatenate(arrays, axis=1) for arrays in zip(*found, strict=True))
        order = np.lexsort((ids, -similarities), axis=1)[:, :k]
        # Missing rows come last: nothing is below -inf.
        return np.take_along_axis(ids, order, 1), np.take_along_axis(similarities, order, 1)

    def _codes(self, where: Filter) -> dict[str, np.ndarray]:
        conditions = where.conditions().items()
        return {column: self.vocabularies[column].codes(values) for column, values in conditions}


def _nearest(
    queries: np.ndarray, segment: Segment, k: int, codes: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and float64 similarities of the best rows of a segment."""
    is_allowed = segment.allowed(codes)
    places, similarities = nearest_neighbors(
        queries, segment.embeddings, k, is_allowed=None if is_allowed.all() else is_allowed
    )
    rows, columns = np.nonzero(places >= 0)
    chosen = places[rows, columns]
    similarities[rows, columns] = float64_scores.inner_products(
        queries, segment.embeddings, rows, chosen
    )
    ids = np.full(places.shape, -1)
    ids[rows, columns] = segment.ids[chosen]
    return ids, similarities
