"""Names that a person types, and the values of the rows that they mean."""

import difflib
import hashlib
from collections.abc import Collection as Values
from collections.abc import Sequence

from retrieval.data.formats import InputError
from retrieval.store.filters import Filter
from retrieval.store.interface import ImageStore

FIRST_NEW_CLASS = 1 << 31


def filter_of(
    store: ImageStore,
    make: Sequence[str] = (),
    model: Sequence[str] = (),
    year: Sequence[str] = (),
    viewpoint: Sequence[str] = (),
) -> Filter:
    """Return the filter that some names mean.

    Args:
        store: The store, whose values are meant.
        make: Names of makes, in any case.
        model: Names of models, in any case, or numbers of classes.
        year: Years.
        viewpoint: Names of viewpoints.

    Raises:
        InputError: No row has a value.
    """
    if not (make or model or year or viewpoint):
        return Filter()
    facets = list(store.facets())
    labels = {str(label) for _, _, label, _, _ in facets}
    classes = {text for text in model if text in labels}
    if classes and len(classes) < len(set(model)):
        raise InputError("--model takes either names or numbers of classes, not both")
    names = () if classes else model
    return Filter(
        labels=frozenset(map(int, classes)),
        makes=_meant(make, {facet[0] for facet in facets}, "make", store.name),
        models=_meant(names, {facet[1] for facet in facets}, "model", store.name),
        years=_meant(year, {facet[3] for facet in facets}, "year", store.name),
        viewpoints=_meant(viewpoint, {facet[4] for facet in facets}, "viewpoint", store.name),
    )


def class_of_name(name: str) -> int:
    """Return the class of a model that was not in the database that was published.

    It depends on the name alone, so that every writer gives a new model the same class.

    >>> class_of_name("Audi Q5") == class_of_name("Audi Q5") >= FIRST_NEW_CLASS
    True
    """
    return FIRST_NEW_CLASS + int(hashlib.sha256(name.encode()).hexdigest()[:7], 16)


def _meant(texts: Sequence[str], known: Values[str], option: str, store: str) -> frozenset[str]:
    values: set[str] = set()
    for text in texts:
        found = {value for value in known if value and value.casefold() == text.casefold()}
        if not found:
            names = sorted(filter(None, known))
            near = difflib.get_close_matches(text, names, n=3, cutoff=0.4) or names[:5]
            such = f"; there are: {', '.join(near)}" if near else ""
            raise InputError(f"--{option}={text}: no image of {store} has it{such}")
        values |= found
    return frozenset(values)
