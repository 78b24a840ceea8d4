"""Batched search: photos of many requests are encoded and compared with the rows together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.photo_search.results import Answer
from retrieval.store.base import ALL
from retrieval.store.filters import Filter
from retrieval.store.rows import Facts
from retrieval.web.image_database import ImageDatabase, StoreFailure


@dataclass(frozen=True)
class PhotoTask:
    """A photo that waits.

    Attributes:
        photo: (3, side, side) uint8, to be encoded; or its embedding, (dim,) float32.
        k: Neighbors to find; 0: it is only encoded.
        where: Rows that may be found.
    """

    photo: np.ndarray
    k: int = 0
    where: Filter = ALL


@dataclass(frozen=True)
class FoundRow:
    """A neighbor.

    Attributes:
        id: Its id.
        similarity: Its cosine similarity to the query.
        facts: Its metadata.
        embedding: (dim,) float32 of unit L2 norm.
    """

    id: int
    similarity: float
    facts: Facts
    embedding: np.ndarray


@dataclass(frozen=True)
class FoundRows:
    """The result of a query.

    Attributes:
        rows: The neighbors, best first.
        is_exact: Whether all rows that fit the filter were compared.
        recall: Of an approximate search: the measured share of the exact neighbors it finds.
    """

    rows: list[FoundRow]
    is_exact: bool
    recall: float | None


def encoded(database: ImageDatabase, tasks: Sequence[PhotoTask]) -> list[np.ndarray]:
    """Return the embedding of each photo, (dim,) float32."""
    embeddings = [task.photo for task in tasks]
    places = [place for place, task in enumerate(tasks) if task.photo.ndim == 3]
    if places:
        squares = np.stack([tasks[place].photo for place in places])
        for place, embedding in zip(places, database.encoder.embed(squares), strict=True):
            embeddings[place] = embedding
    return embeddings


def find_rows(
    database: ImageDatabase, tasks: Sequence[PhotoTask], embeddings: Sequence[np.ndarray]
) -> list[FoundRows | StoreFailure | None]:
    """Compare photos that ask alike with one pass over the rows.

    Returns:
        For each task: what was found, why nothing could be, or None if nothing was asked for.
    """
    alike: dict[tuple[int, Filter], list[int]] = defaultdict(list)
    for place, task in enumerate(tasks):
        alike[task.k, task.where].append(place)
    found: list[FoundRows | StoreFailure | None] = [None] * len(tasks)
    for (k, where), places in alike.items():
        if not k:
            continue
        try:
            rows = _rows_of(database, np.stack([embeddings[place] for place in places]), k, where)
        except StoreFailure as error:  # for all at once: a store may take long to fail
            rows = [error] * len(places)
        for place, of_query in zip(places, rows, strict=True):
            found[place] = of_query
    return found


def _rows_of(
    database: ImageDatabase, queries: np.ndarray, k: int, where: Filter
) -> Sequence[FoundRows | StoreFailure]:
    neighbors = database.neighbors(queries, k, where)
    ids = np.unique(neighbors.ids[neighbors.ids >= 0]).tolist()
    facts, embeddings = database.facts(ids), database.embeddings(ids)
    pairs = zip(neighbors.ids.tolist(), neighbors.similarities.tolist(), strict=True)
    # A row that was removed a moment ago is left out.
    rows = [
        [
            FoundRow(n, score, facts[n], embeddings[n])
            for n, score in zip(ids_of_query, scores, strict=True)
            if n in facts and n in embeddings
        ]
        for ids_of_query, scores in pairs
    ]
    return [FoundRows(of_query, neighbors.is_exact, neighbors.recall) for of_query in rows]


def answers_of(rows: Sequence[FoundRow]) -> list[Answer]:
    """Return rows as answers."""
    return [
        Answer(
            rank=rank,
            index=row.id,
            similarity=row.similarity,
            label=row.facts.label,
            name=row.facts.model,
            make=row.facts.make or None,
            year=row.facts.year or None,
            viewpoint=row.facts.viewpoint or None,
            path="",  # of no concern to clients
        )
        for rank, row in enumerate(rows, 1)
    ]
