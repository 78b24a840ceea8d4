"""What the HTTP API takes and returns."""

from dataclasses import asdict
from typing import Annotated

from pydantic import BaseModel, Field

from retrieval.store.rows import ImageRow
from retrieval.web.search_options import MOST_K, K, SearchOptions, parsed_options
from retrieval.web.search_service import SearchResult


class ApiOptions(BaseModel):
    """Options of a search, as parameters of the address."""

    k: Annotated[int, Field(ge=1, le=MOST_K, description="answers to look for")] = K
    at_least: Annotated[
        float | None, Field(ge=-1, le=1, description="hide answers of a lower similarity")
    ] = None
    make: Annotated[str, Field(max_length=200, description="only this make")] = ""
    model: Annotated[str, Field(max_length=200, description="only this model, or its class")] = ""
    year: Annotated[str, Field(max_length=200, description="only this year")] = ""
    viewpoint: Annotated[
        str, Field(max_length=200, description="only this viewpoint, such as front side")
    ] = ""
    show_all: Annotated[
        bool, Field(description="show answers that are more likely wrong than right, too")
    ] = False
    box: Annotated[
        str, Field(max_length=200, description="x1,y1,x2,y2 in pixels of the photo as displayed")
    ] = ""

    def options(self) -> SearchOptions:
        """Return them as the search takes them.

        Raises:
            InputError: The box is none.
        """
        texts = {name: getattr(self, name) for name in ("make", "model", "year", "viewpoint")}
        return parsed_options(
            k=str(self.k),
            at_least="" if self.at_least is None else str(self.at_least),
            show_all="1" if self.show_all else "",
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
    probability: Annotated[
        float | None, Field(description="that it shows the same model; null: not calibrated")
    ]
    label: int
    model: str
    make: str | None
    year: str | None
    viewpoint: str | None
    photo: str


class ApiVote(BaseModel):
    """The most likely model."""

    label: int
    name: str
    share: Annotated[float, Field(description="of the vote, above 0, at most 1")]


class ApiResult(BaseModel):
    """What was found."""

    in_database: Annotated[bool, Field(description="false: no answer is above the thresholds")]
    most_likely: ApiVote | None
    answers: list[ApiAnswer]
    n_hidden: int
    n_searched: int
    is_calibrated: bool
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
        return cls(
            in_database=bool(answers),
            most_likely=ApiVote(**asdict(result.vote)) if result.vote else None,
            answers=answers,
            **{
                name: getattr(result, name)
                for name in ApiResult.model_fields
                if name not in ("in_database", "most_likely", "answers")
            },
        )


class ApiAdded(BaseModel):
    """The image that a photo became, or that it was already."""

    id: int
    is_new: bool


class ApiError(BaseModel):
    """What was wrong."""

    error: str
