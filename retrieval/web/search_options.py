"""Options of a search (k, threshold, filters, box), and the rows that match its filters."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlencode

from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.photo_search.photo_files import parse_box
from retrieval.store.filters import Filter
from retrieval.store.name_lookup import filter_of
from retrieval.store.rows import Facts

K, MAX_K = 20, 200
FARTHEST = 1e6  # pixels; no photo is wider
FILTERS = ("make", "model", "year", "viewpoint")

Facets = Counter[Facts]


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search.

    Attributes:
        k: Answers to look for.
        at_least: Hide answers of a lower cosine similarity.
        make: Name of a make, in any case; empty: any.
        model: Name of a model, in any case, or the number of its class; empty: any.
        year: Year; empty: any.
        viewpoint: Viewpoint, such as ``front side``; empty: any.
        box: The part of the photo to search with: x1, y1, x2, y2 in pixels; None: the whole.
    """

    k: int = K
    at_least: float | None = None
    make: str = ""
    model: str = ""
    year: str = ""
    viewpoint: str = ""
    box: Box | None = None

    def query_string(self, **changed: object) -> str:
        """Return the options that are not defaults as the query of an address."""
        values: dict[str, object] = {
            "k": self.k if self.k != K else "",
            "at_least": "" if self.at_least is None else f"{self.at_least:g}",
            **{name: getattr(self, name) for name in FILTERS},
            "box": "" if self.box is None else box_text(self.box),
        }
        values |= changed
        return urlencode({name: value for name, value in values.items() if value not in ("", None)})

    def where(self, facets: Facets) -> Filter:
        """Return the filter on the rows of a store that has these facets.

        Raises:
            InputError: No row has one of the values.
        """
        texts = {name: getattr(self, name) for name in FILTERS}
        asked = {name: [text] for name, text in texts.items() if text}
        return filter_of(facets, "the database", **asked)


def parsed_options(
    k: str = "",
    at_least: str = "",
    make: str = "",
    model: str = "",
    year: str = "",
    viewpoint: str = "",
    box: str = "",
) -> SearchOptions:
    """Return the options that the texts of a form mean; an empty text takes the default.

    Raises:
        InputError: A number is none, or out of range.
    """
    part = parse_box(box) if box.strip() else None
    if part is not None and not all(abs(corner) < FARTHEST for corner in part):
        raise InputError(f"box must be x1,y1,x2,y2 in pixels of the photo; got {box[:80]!r}")
    return SearchOptions(
        k=int(_number("k", k, 1, MAX_K, is_whole=True)) if k.strip() else K,
        at_least=_number("at_least", at_least, -1, 1) if at_least.strip() else None,
        make=make.strip(),
        model=model.strip(),
        year=year.strip(),
        viewpoint=viewpoint.strip(),
        box=part,
    )


def box_text(box: Box) -> str:
    """Return a box as a person types it.

    >>> box_text((1.0, 2.0, 30.5, 40.0))
    '1,2,30.5,40'
    """
    return ",".join(f"{x:.6g}" for x in box)


def without_dashes(text: str) -> str:
    """Return a message of a command line for a page, which has fields and no flags.

    >>> without_dashes("--box=1,2: give x1,y1,x2,y2")
    'box=1,2: give x1,y1,x2,y2'
    """
    return re.sub(r"(?<!\w)--(?=\w)", "", text)


def _number(name: str, text: str, minimum: float, maximum: float, is_whole: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not minimum <= value <= maximum or (is_whole and value != int(value)):
        what = "a whole number" if is_whole else "a number"
        raise InputError(
            f"{name} must be {what} from {minimum:g} to {maximum:g}; got {text[:40]!r}"
        )
    return value
