"""Options of a search (k, threshold, filters, box), from an address or a form."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.photo_search.boxes import parse_box
from retrieval.photo_search.filters import Filters

K, MAX_K = 20, 200


class SearchOptions(BaseModel):
    """Options of a search; an empty text leaves an option out."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    k: Annotated[int, Field(ge=1, le=MAX_K, description="number of answers")] = K
    at_least: Annotated[
        float | None, Field(ge=-1, le=1, description="hide answers of a lower similarity")
    ] = None
    make: Annotated[
        str, Field(max_length=200, description="only this make: its name, or a part of names")
    ] = ""
    model: Annotated[
        str,
        Field(
            max_length=200,
            description="only this model: its name, a part of names, or the number of its class",
        ),
    ] = ""
    year: Annotated[str, Field(max_length=200, description="only this year")] = ""
    viewpoint: Annotated[
        str, Field(max_length=200, description="only this viewpoint, such as front side")
    ] = ""
    box: Annotated[
        str, Field(max_length=200, description="x1,y1,x2,y2 in pixels of the photo as displayed")
    ] = ""

    @classmethod
    def of_form(cls, texts: Mapping[str, object]) -> "SearchOptions":
        """Return the options that the fields of a form mean.

        Raises:
            InputError: A value is of another type or out of range.
        """
        given = {name: str(texts.get(name, "")).strip() for name in OPTIONS}
        try:
            return cls.model_validate({name: text for name, text in given.items() if text})
        except ValidationError as error:
            raise InputError(first_error(error.errors())) from error

    @property
    def filters(self) -> Filters:
        """Which images may be answers."""
        return Filters(
            self.make or None, self.model or None, self.year or None, self.viewpoint or None
        )

    @property
    def part(self) -> Box | None:
        """The part of the photo to search with; None: the whole.

        Raises:
            InputError: The box is not of the form x1,y1,x2,y2.
        """
        return parse_box(self.box) if self.box else None

    def query_string(self, **more: object) -> str:
        """Return the options that are not defaults as the query of an address."""
        values = self.model_dump(exclude_defaults=True) | more
        if self.at_least is not None:
            values["at_least"] = f"{self.at_least:g}"
        return urlencode(values)


OPTIONS = tuple(SearchOptions.model_fields)


def first_error(errors: Sequence[Any]) -> str:
    """Return the message of the first validation error."""
    return f"{errors[0]['loc'][-1]}: {errors[0]['msg']}"
