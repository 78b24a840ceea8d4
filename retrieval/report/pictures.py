"""Queries and their results as rows of pictures for a page."""

from dataclasses import dataclass

from retrieval.report.page import picture
from retrieval.report.ranking_view import Ranking


@dataclass(frozen=True)
class Tile:
    """One picture: its data URI, the name of its class, its similarity, right or wrong."""

    source: str
    name: str
    similarity: float | None = None
    is_right: bool | None = None


@dataclass(frozen=True)
class Row:
    """A query, what was retrieved for it, and its AP@k."""

    query: Tile
    results: list[Tile]
    value: float


def best_and_worst(ranking: Ranking, count: int, k: int) -> dict[str, list[Row]]:
    """Return the ``count`` best and worst queries by AP@k, with ``k`` results each."""
    values = ranking.average_precisions()["AP"].to_numpy()
    best, worst = ranking.best_and_worst(count)
    return {
        name: [_row(ranking, position, k, float(values[position])) for position in positions]
        for name, positions in (("best", best), ("worst", worst))
    }


def _row(ranking: Ranking, position: int, k: int, value: float) -> Row:
    row = ranking.row(position, k)
    results = [
        Tile(picture(pixels), name, float(similarity), bool(is_right))
        for pixels, name, similarity, is_right in zip(
            row.results, row.names, row.similarities, row.is_right, strict=False
        )
    ]
    return Row(Tile(picture(row.query), row.query_name), results, value)
