"""Queries and their results as rows of pictures for a page."""

from dataclasses import dataclass

from retrieval.report.page import picture
from retrieval.report.retrieval_results import RetrievalResults


@dataclass(frozen=True)
class CaptionedPicture:
    """One picture: its data URI, the name of its class, its similarity, right or wrong."""

    source: str
    name: str
    similarity: float | None = None
    is_right: bool | None = None


@dataclass(frozen=True)
class PictureRow:
    """A query, its results, and its AP@k."""

    query: CaptionedPicture
    results: list[CaptionedPicture]
    value: float


def best_and_worst_rows(
    results: RetrievalResults, count: int, k: int
) -> dict[str, list[PictureRow]]:
    """Return the ``count`` best and worst queries by AP@k, with ``k`` results each."""
    values = results.precisions
    best, worst = results.best_and_worst(count)
    return {
        name: [_row(results, position, k, float(values[position])) for position in positions]
        for name, positions in (("best", best), ("worst", worst))
    }


def _row(results: RetrievalResults, position: int, k: int, value: float) -> PictureRow:
    row = results.row(position, k)
    assert row.is_right is not None
    shown = [
        CaptionedPicture(picture(pixels), name, float(similarity), bool(is_right))
        for pixels, name, similarity, is_right in zip(
            row.results, row.names, row.similarities, row.is_right, strict=False
        )
    ]
    return PictureRow(CaptionedPicture(picture(row.query), row.query_name), shown, value)
