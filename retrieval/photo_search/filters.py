"""Filters on make, model, year and viewpoint, as the command, the page and the API take them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from retrieval.data.formats import InputError
from retrieval.store.filters import Filter
from retrieval.store.name_lookup import filter_of
from retrieval.store.rows import Metadata


@dataclass(frozen=True)
class Filters:
    """Filters that a person types; None leaves a filter out.

    Attributes:
        make: Name of a make in any case, or else a part of names.
        model: Name of a model in any case, or the number of its Class, or else a part of names.
        year: The year.
        viewpoint: Name or number of the viewpoint, as in ``image_index.VIEWPOINTS``.
    """

    make: str | None = None
    model: str | None = None
    year: str | None = None
    viewpoint: str | None = None

    def where(self, facets: Iterable[Metadata], name: str) -> Filter:
        """Return the filter on rows.

        Args:
            facets: The metadata that the images have.
            name: What to call the images in messages.

        Raises:
            InputError: No image has one of the values.
        """
        texts = ([] if text is None else [text] for text in astuple(self))
        return filter_of(facets, name, *texts, parts=True)


@dataclass(frozen=True)
class Scope:
    """The images that a search covers.

    Attributes:
        where: The filter on rows.
        n_image: Images in the database.
        n_searched: Images that are searched.
    """

    where: Filter
    n_image: int
    n_searched: int


def scope_of(filters: Filters, facets: Counter[Metadata], name: str) -> Scope:
    """Return the scope of a search.

    Args:
        filters: The filters.
        facets: How many images have each metadata.
        name: What to call the images in messages.

    Raises:
        InputError: A value is unknown, or no image has all of the values.
    """
    n_image = facets.total()
    where = filters.where(facets, name)
    n_searched = sum(facets[facet] for facet in where.matching(facets)) if where else n_image
    if not n_searched:
        raise InputError(f"no image of {name} has all of these values; widen the filters")
    return Scope(where, n_image, n_searched)
