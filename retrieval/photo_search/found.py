"""The result of a search with a photo."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from retrieval.data.decode import Box
from retrieval.photo_search.prediction import LevelPrediction, Prediction
from retrieval.photo_search.results import Answer


@dataclass(frozen=True)
class Found:
    """The result of a search with a photo.

    Attributes:
        photo: What the photo is called.
        box: The part that was searched with, x1, y1, x2, y2 in pixels; None: the whole photo.
        answers: The answers that are shown, best first.
        prediction: The most likely make, model and year.
        n_hidden: Answers that are not shown, as they are less similar than was asked for.
        n_image: Images in the database.
        n_searched: Images that were searched: all, or those that the filters allow.
        square: (3, side, side) uint8, the photo as the model saw it.
        embedding: (dim,) float32 of unit L2 norm.
    """

    photo: str
    box: Box | None
    answers: tuple[Answer, ...]
    prediction: Prediction
    n_hidden: int
    n_image: int
    n_searched: int
    square: np.ndarray = field(repr=False)
    embedding: np.ndarray = field(repr=False)

    @property
    def is_filtered(self) -> bool:
        """Whether only some images of the database were searched."""
        return self.n_searched < self.n_image

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, without the arrays."""
        return {
            "photo": self.photo,
            "box": None if self.box is None else list(self.box),
            "in_database": self.prediction.in_database,
            "most_likely": _json(self.prediction.model),
            "make": _json(self.prediction.make),
            "year": _json(self.prediction.year),
            "n_image": self.n_image,
            "n_searched": self.n_searched,
            "n_hidden": self.n_hidden,
            "answers": [asdict(answer) for answer in self.answers],
        }


def _json(named: LevelPrediction | None) -> dict[str, Any] | None:
    return None if named is None else asdict(named)
