"""Request and response models of the HTTP API."""

from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, Field

from retrieval.photo_search.prediction import LevelPrediction
from retrieval.store.rows import ImageRow
from retrieval.web.search_options import MAX_K, K, SearchOptions, parsed_options
from retrieval.web.search_service import SearchResult

PLAIN = ("n_hidden", "n_searched", "is_exact", "recall", "seconds")


class ApiOptions(BaseModel):
    """Options of a search, as parameters of the address."""

    k: Annotated[int, Field(ge=1, le=MAX_K, description="number of answers")] = K
    at_least: Annotated[
        float | None, Field(ge=-1, le=1, description="hide answers of a lower similarity")
    ] = None
    make: Annotated[str, Field(max_length=200, description="only this make")] = ""
    model: Annotated[str, Field(max_length=200, description="only this model, or its class")] = ""
    year: Annotated[str, Field(max_length=200, description="only this year")] = ""
    viewpoint: Annotated[
        str, Field(max_length=200, description="only this viewpoint, such as front side")
    ] = ""
    box: Annotated[
        str, Field(max_length=200, description="x1,y1,x2,y2 in pixels of the photo as displayed")
    ] = ""

    def options(self) -> SearchOptions:
        """Return them as the search takes them.

        Raises:
            InputError: The box is not of the form x1,y1,x2,y2.
        """
        texts = {name: getattr(self, name) for name in ("make", "model", "year", "viewpoint")}
        return parsed_options(
            k=str(self.k),
            at_least="" if self.at_least is None else str(self.at_least),
            box=self.box,
            **texts,
        )


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
    def of_row(cls, row: ImageRow, root: str = "") -> "ApiImage":
        """Return a row of the store without what is not for clients, such as its path.

        Args:
            row: The row.
            root: What a proxy puts before all paths.
        """
        return cls(
            id=row.id,
            label=row.label,
            make=row.make,
            model=row.model,
            year=row.year,
            viewpoint=row.viewpoint,
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


class ApiLevel(BaseModel):
    """A prediction: a model, a make or a year."""

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
    def of_result(cls, result: SearchResult, root: str = "") -> "ApiResult":
        """Return the answers of a search as plain values; a proxy puts ``root`` before paths."""
        answers = [
            ApiAnswer(
                id=answer.index,
                model=answer.name,
                photo=f"{root}/images/{answer.index}",
                **{
                    name: getattr(answer, name)
                    for name in ApiAnswer.model_fields
                    if name not in ("id", "model", "photo")
                },
            )
            for answer in result.answers
        ]
        prediction = result.prediction
        return cls(
            in_database=prediction.in_database,
            most_likely=_named(prediction.model),
            make=_named(prediction.make),
            year=_named(prediction.year),
            answers=answers,
            **{name: getattr(result, name) for name in PLAIN},
        )


def _named(named: LevelPrediction | None) -> ApiLevel | None:
    return None if named is None else ApiLevel(**asdict(named))


class ApiAdded(BaseModel):
    """The image that a photo became, or that it was already."""

    id: int
    is_new: bool


class ApiError(BaseModel):
    """An error."""

    error: str
