"""Response models of the HTTP API."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from retrieval.photo_search.answers import Answer
from retrieval.photo_search.results import SearchResult
from retrieval.store.rows import ImageRow


class ApiImage(BaseModel):
    """An image of the database."""

    id: int
    label: Annotated[int, Field(description="class (model id); -1: unknown")]
    make: str
    model: str
    year: str
    viewpoint: str
    box: Annotated[
        list[float] | None,
        Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in the image file"),
    ]
    sha256: Annotated[str, Field(description="of the image file")]
    photo: Annotated[str, Field(description="address of the picture")]

    @classmethod
    def of(cls, row: ImageRow, root: str) -> "ApiImage":
        """Return a row of the store without what is not for clients, such as its path.

        Args:
            row: The row.
            root: What a proxy puts before all paths.
        """
        return cls(
            id=row.id,
            **row.metadata._asdict(),
            box=None if row.box is None else list(row.box),
            sha256=row.sha256,
            photo=f"{root}/images/{row.id}",
        )


class ApiAnswer(BaseModel):
    """One answer."""

    rank: int
    id: int
    similarity: Annotated[float, Field(description="cosine similarity, from -1 to 1")]
    label: int
    model: str
    make: str | None
    year: str | None
    viewpoint: str | None
    photo: str

    @classmethod
    def of(cls, rank: int, answer: Answer, root: str) -> "ApiAnswer":
        """Return an answer; a proxy puts ``root`` before paths."""
        known = answer.metadata
        return cls(
            rank=rank,
            id=answer.id,
            similarity=answer.similarity,
            label=known.label,
            model=known.model,
            make=known.make or None,
            year=known.year or None,
            viewpoint=known.viewpoint or None,
            photo=f"{root}/images/{answer.id}",
        )


class ApiLevel(BaseModel):
    """A prediction: a model, a make or a year."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    label: Annotated[int, Field(description="class of the model, or of the best answer of a make")]
    share: Annotated[float, Field(description="of the vote, above 0, at most 1")]
    probability: Annotated[
        float | None,
        Field(description="that it is right; null: not calibrated, or the images were filtered"),
    ]
    known: Annotated[
        float | None, Field(description="probability that the right one is in the database")
    ]
    is_rejected: Annotated[bool, Field(description="the right one is probably not in the database")]


class ApiResult(BaseModel):
    """The result of a search."""

    in_database: Annotated[
        bool | None,
        Field(
            description="false: the model is probably not in the database; null: cannot be told, "
            "for lack of a calibration or of names, or as the images were filtered"
        ),
    ]
    most_likely: Annotated[ApiLevel | None, Field(description="model; null: there are no names")]
    make: ApiLevel | None
    year: ApiLevel | None
    answers: list[ApiAnswer]
    n_hidden: int
    n_searched: int
    is_exact: bool
    recall: Annotated[
        float | None, Field(description="of an approximate search: measured share of neighbors")
    ]
    seconds: float

    @classmethod
    def of(cls, result: SearchResult, seconds: float, root: str) -> "ApiResult":
        """Return what was found as plain values; a proxy puts ``root`` before paths."""
        answers = [
            ApiAnswer.of(rank, answer, root) for rank, answer in enumerate(result.answers, 1)
        ]
        prediction = result.prediction
        names = ("n_hidden", "n_searched", "is_exact", "recall")
        values = {
            "in_database": prediction.in_database,
            "most_likely": prediction.model,
            "make": prediction.make,
            "year": prediction.year,
            "answers": answers,
            "seconds": seconds,
            **{name: getattr(result, name) for name in names},
        }
        return cls.model_validate(values)


class ApiAdded(BaseModel):
    """The image that a photo became, or that it was already."""

    id: int
    is_new: bool


class ApiError(BaseModel):
    """An error."""

    error: str
