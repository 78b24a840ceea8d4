"""Facets of the search: makes, models, years and viewpoints, with their counts."""

from collections import Counter
from dataclasses import dataclass

from retrieval.store.rows import Metadata


@dataclass(frozen=True)
class Menus:
    """Values of the filters, each with how many images have it, sorted.

    Attributes:
        makes: Makes.
        models: Make -> its models; the make is empty if there are none. Empty: no image has a
            model, so that there are no names and no vote.
        years: Years.
        viewpoints: Viewpoints.
    """

    makes: dict[str, int]
    models: dict[str, dict[str, int]]
    years: dict[str, int]
    viewpoints: dict[str, int]


def menus_of(facets: Counter[Metadata]) -> Menus:
    """Return the menus of a database.

    >>> menus_of(Counter({Metadata("Ravo", "Ravo A", 1, "2010", "front"): 3})).models
    {'Ravo': {'Ravo A': 3}}
    """
    counts: list[Counter[str]] = [Counter() for _ in range(3)]
    models: dict[str, Counter[str]] = {}
    for (make, model, _, year, viewpoint), n in facets.items():
        for counter, value in zip(counts, (make, year, viewpoint), strict=True):
            if value:
                counter[value] += n
        if model:
            models.setdefault(make, Counter())[model] += n
    makes, years, viewpoints = (_sorted(counter) for counter in counts)
    of_make = {make: _sorted(models[make]) for make in sorted(models, key=str.casefold)}
    return Menus(makes, of_make, years, viewpoints)


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return {value: counter[value] for value in sorted(counter, key=str.casefold)}
