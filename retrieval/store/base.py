"""The interface of all stores. `backends.open_store` returns one."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from retrieval.data.formats import InputError
from retrieval.store.filters import Filter
from retrieval.store.rows import Collection, ImageRow, Metadata

EXACT_ROWS = 1_000_000  # up to here a search compares with every row
ALL = Filter()


@dataclass(frozen=True)
class RankedRows:
    """The neighbors of some queries.

    Attributes:
        ids: (n_query, k) int64, best first, equal similarities by ascending id; -1 where fewer
            than k rows fit the filter.
        similarities: (n_query, k) float32 cosines, computed in float64 and rounded; -inf with an
            id of -1.
        is_exact: Whether every row that fits the filter was compared.
        recall: Share of the exact neighbors that an approximate search was measured to find when
            its index was made; None if the search was exact or no index was measured.
    """

    ids: np.ndarray
    similarities: np.ndarray
    is_exact: bool
    recall: float | None = None


class NoStore(InputError):
    """There is no store of that name yet."""


class StoreFailure(InputError):
    """The store is gone, full, replaced, or does not answer; the message names it."""


class ImageStore(ABC):
    """A collection of images; rows can be added and removed during searches.

    All methods may be called from several threads. Searches see every row whose `add` has
    returned, in whatever process. What fails raises `StoreFailure`; the next call tries again.

    Attributes:
        name: Its folder or address, for messages.
        collection: What all rows have in common.
    """

    name: str
    collection: Collection

    @abstractmethod
    def add(self, rows: Sequence[ImageRow]) -> int:
        """Add rows in one transaction, and return how many were new.

        Milvus takes a thousand rows in a transaction, so more are several.

        A row whose id is there already is left out.
        """

    @abstractmethod
    def remove(self, ids: Iterable[int]) -> int:
        """Remove rows in one transaction, and return how many there were."""

    @abstractmethod
    def get(self, ids: Iterable[int]) -> list[ImageRow]:
        """Return rows in the order of ``ids``; those that are not there are left out."""

    @abstractmethod
    def metadata(self, ids: Iterable[int]) -> dict[int, Metadata]:
        """Return the metadata of some rows, by id; missing ids are left out.

        Much faster than `get`, which reads embeddings and thumbnails too.
        """

    @abstractmethod
    def embeddings(self, ids: Iterable[int]) -> dict[int, np.ndarray]:
        """Return the embeddings of some rows, (dim,) float32, by id, as `metadata` does."""

    @abstractmethod
    def ids(self, where: Filter = ALL) -> np.ndarray:
        """Return the ids of the rows that fit a filter, (n,) int64, ascending."""

    @abstractmethod
    def search(self, queries: np.ndarray, k: int, where: Filter = ALL) -> RankedRows:
        """Return the ``k`` most similar rows that fit a filter.

        Args:
            queries: (n_query, dim) float32, rows of unit L2 norm.
            k: Neighbors of each query, at least 1.
            where: Rows that may be found.
        """

    @abstractmethod
    def count(self, where: Filter = ALL) -> int:
        """Return the number of rows that fit a filter."""

    @abstractmethod
    def facets(self) -> Counter[Metadata]:
        """Return how many rows have each make, model, label, year and viewpoint: for menus."""

    @abstractmethod
    def optimize(self) -> None:
        """Compact changed rows into the files and the index; searches continue meanwhile."""

    @abstractmethod
    def published(self) -> dict[str, str] | None:
        """Return the mark of `mark_published`; None if not all rows of a database are in."""

    @abstractmethod
    def mark_published(self, states: dict[str, str]) -> None:
        """Mark that all rows of a database are in.

        Args:
            states: File -> state, of the files that they were made from (`retrieval.data.sources`).
        """

    @abstractmethod
    def renew(self, collection: Collection, batches: Iterable[Sequence[ImageRow]]) -> None:
        """Replace all rows by others, in one atomic step at the end.

        Until then, and if it fails, the old rows are there. Whoever else has opened the store gets
        an error afterwards, and must open it again.

        Args:
            collection: What the new rows have in common.
            batches: The new rows; no id occurs twice.
        """

    @abstractmethod
    def close(self) -> None:
        """Free memory and connections."""

    def __enter__(self) -> "ImageStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
