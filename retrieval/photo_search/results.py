"""The result of a search with a photo, as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from retrieval.data.decode import Box
from retrieval.photo_search.answers import Answer
from retrieval.photo_search.prediction import LevelPrediction, Prediction


@dataclass(frozen=True)
class Query:
    """A photo to search with.

    Attributes:
        embedding: (dim,) float32 of unit L2 norm.
        square: (3, side, side) uint8, the photo as the model saw it; None if it was not prepared.
        name: What to call the photo.
        box: The part of it, x1, y1, x2, y2 in pixels; None: the whole photo.
    """

    embedding: np.ndarray = field(repr=False)
    square: np.ndarray | None = field(default=None, repr=False)
    name: str = "the photo"
    box: Box | None = None


@dataclass(frozen=True)
class SearchResult:
    """The result of a search with a photo.

    Attributes:
        query: The photo.
        answers: The answers that are shown, best first.
        prediction: The most likely make, model and year.
        n_hidden: Answers that are not shown, as they are less similar than was asked for.
        n_image: Images in the database.
        n_searched: Images that were searched: all, or those that the filters allow.
        is_exact: Whether all of these images were compared.
        recall: Of an approximate search: the measured share of the exact neighbors it finds.
    """

    query: Query
    answers: tuple[Answer, ...]
    prediction: Prediction
    n_hidden: int
    n_image: int
    n_searched: int
    is_exact: bool
    recall: float | None

    @property
    def is_filtered(self) -> bool:
        """Whether only some images of the database were searched."""
        return self.n_searched < self.n_image

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, without the arrays."""
        box = self.query.box
        return {
            "photo": self.query.name,
            "box": None if box is None else list(box),
            "in_database": self.prediction.in_database,
            "most_likely": _level(self.prediction.model),
            "make": _level(self.prediction.make),
            "year": _level(self.prediction.year),
            "n_image": self.n_image,
            "n_searched": self.n_searched,
            "n_hidden": self.n_hidden,
            "answers": [_answer(rank, answer) for rank, answer in enumerate(self.answers, 1)],
        }


def _level(level: LevelPrediction | None) -> dict[str, Any] | None:
    return None if level is None else asdict(level)


def _answer(rank: int, answer: Answer) -> dict[str, Any]:
    known = answer.metadata
    return {
        "rank": rank,
        "index": answer.id,
        "similarity": answer.similarity,
        "label": known.label,
        "name": known.model,
        "make": known.make or None,
        "year": known.year or None,
        "viewpoint": known.viewpoint or None,
        "path": answer.path,
    }


def table_of(answers: Sequence[Answer]) -> list[list[str]]:
    """Return the cells of a table of answers: a head, then one row for each.

    Columns without any value are left out.
    """
    head = ["rank", "similarity", "model", "make", "year", "view", "path"]
    rows = []
    for rank, answer in enumerate(answers, 1):
        make, model, _, year, viewpoint = answer.metadata
        known = [model, make, year, viewpoint]
        rows.append([str(rank), f"{answer.similarity:.4f}", *known, answer.path])
    kept = [column for column in range(len(head)) if any(row[column] for row in rows)]
    return [[row[column] for column in kept] for row in (head, *rows)]
