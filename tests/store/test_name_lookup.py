"""What names mean, the same for the page, the API and process_data.remove."""

import pytest

from retrieval.data.formats import InputError
from retrieval.photo_search.filters import Filters
from retrieval.store.filters import Filter
from retrieval.store.name_lookup import filter_of
from retrieval.store.rows import Metadata

FACETS = [
    Metadata("BMW", "3", 7, "2010", "front side"),
    Metadata("VW", "Golf", 3, "2011", "front"),
    Metadata("", "", -1, "", ""),
]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({"model": "3"}, Filter(models=frozenset({"3"}))),  # a name before a number
        ({"model": "7"}, Filter(labels=frozenset({7}))),
        ({"model": "golf"}, Filter(models=frozenset({"Golf"}))),
        (
            {"make": "vw", "year": "2011"},
            Filter(makes=frozenset({"VW"}), years=frozenset({"2011"})),
        ),
        ({"viewpoint": "4"}, Filter(viewpoints=frozenset({"front side"}))),
        ({"viewpoint": "Front-Side"}, Filter(viewpoints=frozenset({"front side"}))),
        ({}, Filter()),
    ],
)
def test_names_mean_the_same_everywhere(asked: dict[str, str], meant: Filter) -> None:
    assert filter_of(FACETS, "x", **{name: [text] for name, text in asked.items()}) == meant
    assert Filters(**asked).where(FACETS, "x") == meant


def test_a_search_takes_parts_of_names_and_a_removal_does_not() -> None:
    facets = [Metadata("VW", name) for name in ("Golf", "Golf GTI", "Polo GTI")]
    for typed, meant in (("golf", {"Golf"}), ("gti", {"Golf GTI", "Polo GTI"})):
        assert Filters(model=typed).where(facets, "x").models == meant
    assert Filters(make="v").where(facets, "x").makes == {"VW"}
    for asked in ({"model": ["gti"]}, {"make": ["v"]}):
        with pytest.raises(InputError, match="no image of x has it"):
            filter_of(facets, "x", **asked)


def test_unknown_values_are_refused() -> None:
    with pytest.raises(InputError, match="--model=Golfo: no image of x has it; there are: Golf"):
        filter_of(FACETS, "x", model=["Golfo"])
    with pytest.raises(InputError, match="names or numbers of classes, not both"):
        filter_of(FACETS, "x", model=["7", "Golf"])
