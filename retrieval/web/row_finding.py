"""Many queries compared with the rows at once, and their rows as answers."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.asking.answers import Answer, probabilities
from retrieval.store.filters import Filter
from retrieval.store.rows import Facts
from retrieval.web.gallery import Gallery


@dataclass(frozen=True)
class QueryTask:
    """A query that waits.

    Attributes:
        embedding: (dim,) float32 of unit L2 norm.
        k: Neighbors to find.
        where: Rows that may be found.
    """

    embedding: np.ndarray
    k: int
    where: Filter


@dataclass(frozen=True)
class FoundRows:
    """What was found for a query.

    Attributes:
        rows: Id, cosine similarity and what is known of each row, best first.
        is_exact: Whether all rows that fit the filter were compared.
        recall: Of an approximate search: the measured share of the exact neighbors it finds.
    """

    rows: list[tuple[int, float, Facts]]
    is_exact: bool
    recall: float | None


def find_rows(gallery: Gallery, tasks: Sequence[QueryTask]) -> list[FoundRows]:
    """Compare queries that ask alike with one pass over the rows; return in the order of tasks."""
    alike: dict[tuple[int, Filter], list[int]] = defaultdict(list)
    for place, task in enumerate(tasks):
        alike[task.k, task.where].append(place)
    found: dict[int, FoundRows] = {}
    for (k, where), places in alike.items():
        queries = np.stack([tasks[place].embedding for place in places])
        neighbors = gallery.neighbors(queries, k, where)
        ids = np.unique(neighbors.ids[neighbors.ids >= 0]).tolist()
        facts = gallery.facts(ids)
        for place, of_query, scores in zip(
            places, neighbors.ids.tolist(), neighbors.similarities.tolist(), strict=True
        ):
            # A row that was removed a moment ago is left out.
            rows = [
                (number, score, facts[number])
                for number, score in zip(of_query, scores, strict=True)
                if number in facts
            ]
            found[place] = FoundRows(rows, neighbors.is_exact, neighbors.recall)
    return [found[place] for place in range(len(tasks))]


def answers_of(gallery: Gallery, found: FoundRows, but: int | None) -> list[Answer]:
    """Return rows as answers, with probabilities if there is a calibration.

    Args:
        gallery: The image database.
        found: What was found.
        but: Id of a row to leave out.
    """
    rows = [row for row in found.rows if row[0] != but]
    similarities = np.array([similarity for _, similarity, _ in rows])
    return [
        Answer(
            rank=rank,
            index=number,
            similarity=similarity,
            probability=probability,
            label=facts.label,
            name=facts.model,
            make=facts.make or None,
            year=facts.year or None,
            viewpoint=facts.viewpoint or None,
            path="",  # of no concern to clients
        )
        for rank, ((number, similarity, facts), probability) in enumerate(
            zip(rows, probabilities(gallery.calibration, similarities), strict=True), 1
        )
    ]
