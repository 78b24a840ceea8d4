"""Answers to a photo: images of the database."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One image of the database.

    Attributes:
        rank: From 1.
        index: Its Index, the row in the database.
        similarity: Cosine similarity to the photo, in [-1, 1].
        label: Its Class.
        name: The name of its model; empty if unknown.
        make: The name of its make; None if there is none.
        year: Its year; None if there is none.
        viewpoint: Such as ``front side``; None if there is none.
        path: Of the image file, relative to the folder of the images.
    """

    rank: int
    index: int
    similarity: float
    label: int
    name: str
    make: str | None
    year: str | None
    viewpoint: str | None
    path: str


def percent(probability: float) -> str:
    """Return a probability as text; nothing measured is certain.

    >>> percent(0.934), percent(0.999), percent(0.001)
    ('93 %', 'over 99 %', 'under 1 %')
    """
    if probability >= 0.995:
        return "over 99 %"
    return "under 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def texts(answers: Sequence[Answer]) -> list[list[str]]:
    """Return the cells of a table of answers: a head, then one row for each.

    Columns without any value are left out.
    """
    head = ["rank", "similarity", "model", "make", "year", "view", "path"]
    rows = [
        [
            str(answer.rank),
            f"{answer.similarity:.4f}",
            answer.name,
            answer.make or "",
            answer.year or "",
            answer.viewpoint or "",
            answer.path,
        ]
        for answer in answers
    ]
    kept = [column for column in range(len(head)) if any(row[column] for row in rows)]
    return [[row[column] for column in kept] for row in (head, *rows)]
