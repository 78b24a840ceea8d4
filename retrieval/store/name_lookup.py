"""Match names that a person types to the values of the rows."""

import difflib
import hashlib
from collections.abc import Collection as Values
from collections.abc import Iterable, Sequence

from retrieval.data.formats import InputError
from retrieval.data.image_index import viewpoint_name
from retrieval.data.spelling import composed, folded
from retrieval.store.filters import Filter
from retrieval.store.rows import UNKNOWN, Metadata

FIRST_NEW_CLASS = 1 << 31


def filter_of(
    facets: Iterable[Metadata],
    name: str,
    make: Sequence[str] = (),
    model: Sequence[str] = (),
    year: Sequence[str] = (),
    viewpoint: Sequence[str] = (),
    *,
    parts: bool = False,
) -> Filter:
    """Return the filter that some names mean.

    Args:
        facets: The values that the rows have.
        name: What to call the rows in messages.
        make: Names of makes, in any case.
        model: Names of models, in any case, or numbers of classes that are no model's name.
        year: Years.
        viewpoint: Names of viewpoints, or their numbers.
        parts: Let a text that is no whole name of a make or model stand for all that it is part of.

    Raises:
        InputError: No row has a value.
    """
    if not (make or model or year or viewpoint):
        return Filter()
    known = list(facets)
    named = {folded(facet.model) for facet in known}
    labels = {str(facet.label): facet.label for facet in known}
    classes = {text for text in model if text in labels and folded(text) not in named}
    if classes and len(classes) < len(set(model)):
        raise InputError("--model takes either names or numbers of classes, not both")
    names = () if classes else model
    viewpoint = [viewpoint_name(text) for text in viewpoint]
    return Filter(
        labels=frozenset(labels[text] for text in classes),
        makes=_meant(make, {facet.make for facet in known}, "make", name, parts),
        models=_meant(names, {facet.model for facet in known}, "model", name, parts),
        years=_meant(year, {facet.year for facet in known}, "year", name),
        viewpoints=_meant(viewpoint, {facet.viewpoint for facet in known}, "viewpoint", name),
    )


def classes_of_models(facets: Iterable[Metadata]) -> dict[str, tuple[int, str]]:
    """Return class and make of each model that has a name, by its composed name."""
    return {composed(facet.model): (facet.label, facet.make) for facet in facets if facet.model}


def class_and_make(model: str, known: dict[str, tuple[int, str]]) -> tuple[int, str]:
    """Return class and make of a model: those it has, or else a class of its own and no make.

    Args:
        model: Its name; empty: unknown.
        known: What `classes_of_models` returned.
    """
    name = composed(model)
    return known.get(name, (class_of_name(name), "")) if name else (UNKNOWN, "")


def class_of_name(name: str) -> int:
    """Return the class of a model that was not in the database that was published.

    It depends on the name alone, so that every writer gives a new model the same class.

    >>> class_of_name("Audi Q5") == class_of_name("Audi Q5") >= FIRST_NEW_CLASS
    True
    """
    return FIRST_NEW_CLASS + int(hashlib.sha256(name.encode()).hexdigest()[:7], 16)


def _meant(
    texts: Sequence[str], known: Values[str], column: str, rows: str, parts: bool = False
) -> frozenset[str]:
    values: set[str] = set()
    of_folded = [(folded(value), value) for value in known if value]
    for text in texts:
        wanted = folded(text)
        matching = {value for name, value in of_folded if name == wanted}
        if parts and wanted and not matching:
            matching = {value for name, value in of_folded if wanted in name}
        if not matching:
            names = sorted(filter(None, known))
            near = difflib.get_close_matches(text, names, n=3, cutoff=0.4) or names[:5]
            such = f"there are: {', '.join(near)}" if near else "leave the filter out"
            raise InputError(f"--{column}={text[:80]}: no image of {rows} has it; {such}")
        values |= matching
    return frozenset(values)
