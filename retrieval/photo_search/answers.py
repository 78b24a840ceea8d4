"""The most similar images to a photo, in a store or in the files of a database."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from retrieval.store.base import RankedRows
from retrieval.store.filters import Filter
from retrieval.store.rows import Metadata


class Rows(Protocol):
    """The images to search: a subset of `store.base.ImageStore`, which documents it."""

    @property
    def name(self) -> str: ...
    def search(self, queries: np.ndarray, k: int, where: Filter = ...) -> RankedRows: ...
    def metadata(self, ids: Iterable[int]) -> dict[int, Metadata]: ...
    def embeddings(self, ids: Iterable[int]) -> dict[int, np.ndarray]: ...
    def facets(self) -> Counter[Metadata]: ...


@dataclass(frozen=True)
class Answer:
    """One image of the database.

    Attributes:
        id: Its id; in the files of a database its Index, the row.
        similarity: Cosine similarity to the photo, in [-1, 1].
        metadata: Its metadata.
        embedding: (dim,) float32 of unit L2 norm.
        path: Of the image file, relative to the folder of the images; empty for a store.
    """

    id: int
    similarity: float
    metadata: Metadata
    embedding: np.ndarray = field(repr=False, compare=False)
    path: str = ""


@dataclass(frozen=True)
class Answers:
    """The most similar images to a photo.

    Attributes:
        nearest: The images, best first.
        is_exact: Whether all images that fit the filter were compared.
        recall: Of an approximate search: the measured share of the exact neighbors it finds.
    """

    nearest: list[Answer]
    is_exact: bool
    recall: float | None


def find_answers(rows: Rows, queries: np.ndarray, k: int, where: Filter) -> list[Answers]:
    """Compare photos with all rows that a filter allows, in one pass.

    Args:
        rows: The images to search.
        queries: (n, dim) float32 embeddings of unit L2 norm.
        k: Answers for each.
        where: Rows that may be found.
    """
    ranked = rows.search(queries, k, where)
    ids = np.unique(ranked.ids[ranked.ids >= 0]).tolist()
    metadata, embeddings = rows.metadata(ids), rows.embeddings(ids)
    pairs = zip(ranked.ids.tolist(), ranked.similarities.tolist(), strict=True)
    # A row that was removed a moment ago is left out.
    nearest = [
        [
            Answer(number, similarity, metadata[number], embeddings[number])
            for number, similarity in zip(of_query, similarities, strict=True)
            if number in metadata and number in embeddings
        ]
        for of_query, similarities in pairs
    ]
    return [Answers(of_query, ranked.is_exact, ranked.recall) for of_query in nearest]
