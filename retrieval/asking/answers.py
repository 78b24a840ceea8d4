"""Answers to a photo, and the vote on its model."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from retrieval.data.decode import Box
from retrieval.evaluation.calibration import SHOWN_FROM, Calibration


@dataclass(frozen=True)
class Answer:
    """One image of the database.

    Attributes:
        rank: From 1; ranks of hidden answers are not given to others.
        index: Its Index, the row in the database.
        similarity: Cosine similarity to the photo, in [-1, 1].
        probability: That it shows the same model, in [0, 1]; None without a calibration.
        label: Its Class.
        name: The name of its model.
        make: The name of its make; None if there is none.
        year: Its year; None if there is none.
        viewpoint: Such as ``front side``; None if there is none.
        path: Of the image file, relative to the folder of the images.
    """

    rank: int
    index: int
    similarity: float
    probability: float | None
    label: int
    name: str
    make: str | None
    year: str | None
    viewpoint: str | None
    path: str


@dataclass(frozen=True)
class Vote:
    """The most likely model.

    Attributes:
        label: Its Class.
        name: Its name.
        share: Its share of all votes, in (0, 1].
    """

    label: int
    name: str
    share: float


@dataclass(frozen=True)
class Found:
    """What was found for a photo.

    Attributes:
        photo: What the photo is called.
        box: The part that was searched with, x1, y1, x2, y2 in pixels; None: the whole photo.
        answers: The answers that are shown, best first.
        vote: The most likely model; None if there are no answers: it is not in the database, or
            not among the images that the filters allow.
        n_hidden: Answers that are not shown, as they are below the threshold.
        n_image: Images in the database.
        n_searched: Images that were searched: all, or those that the filters allow.
        is_calibrated: Whether answers have a probability.
        square: (3, side, side) uint8, the photo as the model saw it.
        embedding: (dim,) float32 of unit L2 norm.
    """

    photo: str
    box: Box | None
    answers: tuple[Answer, ...]
    vote: Vote | None
    n_hidden: int
    n_image: int
    n_searched: int
    is_calibrated: bool
    square: np.ndarray = field(repr=False)
    embedding: np.ndarray = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, without the arrays."""
        return {
            "photo": self.photo,
            "box": None if self.box is None else list(self.box),
            "most_likely": None if self.vote is None else asdict(self.vote),
            "is_found": self.vote is not None,
            "n_image": self.n_image,
            "n_searched": self.n_searched,
            "n_hidden": self.n_hidden,
            "is_calibrated": self.is_calibrated,
            "answers": [asdict(answer) for answer in self.answers],
        }


def most_likely(answers: Iterable[Answer]) -> Vote | None:
    """Return the class with the most votes; between equal ones, the one that comes first.

    Each answer votes for its class with its probability, or, without a calibration, with its
    similarity, at least 0. The share is that of the sum of all votes.

    Args:
        answers: The answers that are shown, best first. Hidden ones do not vote.
    """
    votes: dict[int, float] = {}
    names: dict[int, str] = {}
    for answer in answers:
        weight = answer.similarity if answer.probability is None else answer.probability
        votes[answer.label] = votes.get(answer.label, 0.0) + max(weight, 0.0)
        names.setdefault(answer.label, answer.name)
    if not votes:
        return None
    label = max(votes, key=lambda of_label: votes[of_label])
    total = sum(votes.values())
    return Vote(label, names[label], votes[label] / total if total else 1 / len(votes))


def is_shown(answer: Answer, at_least: float | None, show_all: bool) -> bool:
    """Return whether an answer is above the thresholds.

    Args:
        answer: The answer.
        at_least: The least similarity; None: any.
        show_all: Whether answers that are more likely wrong than right are shown.
    """
    is_near = at_least is None or answer.similarity >= at_least
    is_likely = answer.probability is None or answer.probability >= SHOWN_FROM
    return is_near and (show_all or is_likely)


def probabilities(
    calibration: Calibration | None, similarities: np.ndarray
) -> list[float] | list[None]:
    """Return the probability of each similarity (n,); None for each without a calibration."""
    if calibration is None:
        return [None] * len(similarities)
    return calibration(similarities).tolist()


def percent(probability: float) -> str:
    """Return a probability as text; nothing measured is certain.

    >>> percent(0.934), percent(0.999), percent(0.001)
    ('93 %', 'over 99 %', 'under 1 %')
    """
    if probability >= 0.995:
        return "over 99 %"
    return "under 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def nothing_found(n_searched: int, n_image: int) -> str:
    """Return what it means that no answer is left; filters may have kept the model out.

    >>> nothing_found(720, 720), nothing_found(60, 720)
    ('not in the database', 'not among the images searched')
    """
    return "not among the images searched" if n_searched < n_image else "not in the database"


def best_line(vote: Vote, best: Answer) -> str | None:
    """Return how sure the best answer is, and its name if the vote is for another model."""
    if best.probability is None:
        return None
    other = "" if best.label == vote.label else f"{best.name}, "
    return f"best answer: {other}{percent(best.probability)} the same model"


def summary_line(found: Found) -> str:
    """Return what was found in one line: the most likely model, or that there is none."""
    if found.vote is None:
        return nothing_found(found.n_searched, found.n_image)
    text = f"most likely: {found.vote.name}, {100 * found.vote.share:.0f} % of the vote"
    best = best_line(found.vote, found.answers[0])
    return text if best is None else f"{text}; {best}"


def hidden_line(found: Found, option: str = "") -> str | None:
    """Return how many answers are hidden, None if there are none; ``option`` says how to show."""
    if not found.n_hidden:
        return None
    many = "answers are" if found.n_hidden > 1 else "answer is"
    return f"{found.n_hidden} {many} below the threshold{option and f'; {option} shows all'}"


def texts(answers: Sequence[Answer]) -> list[list[str]]:
    """Return the cells of a table of answers: a head, then one row for each.

    Columns without any value are left out.
    """
    head = ["rank", "similarity", "same model", "model", "make", "year", "view", "path"]
    rows = [
        [
            str(answer.rank),
            f"{answer.similarity:.4f}",
            "" if answer.probability is None else percent(answer.probability),
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
