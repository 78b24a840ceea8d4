"""What folders and csv files say of photos that are added."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from retrieval.ingest.new_photos import listed_photos
from retrieval.store.name_lookup import class_of_name
from retrieval.store.rows import Metadata

DATED = (
    Metadata("Audi", "Audi A4 2011", 0, "2011", ""),
    Metadata("Fiat", "Fiat 500 1957", 1, "1957", ""),
)
UNDATED = (Metadata("Audi", "Audi A4", 0, "2011", "front"), Metadata("Fiat", "Fiat 500", 1, "", ""))
FLAT = (Metadata("", "Audi A4", 0, "", ""), Metadata("", "Audi", 1, "", ""))


def known(root: Path, facets: tuple[Metadata, ...], *paths: str) -> set[tuple[Any, ...]]:
    """Return class, make, model and year of each photo, in a store with some facets."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / path)
    store: Any = SimpleNamespace(facets=lambda: facets)
    return {
        (p.metadata.label, p.metadata.make, p.metadata.model, p.metadata.year)
        for p in listed_photos([root], store)
    }


def new(name: str) -> int:
    return class_of_name(name)


@pytest.mark.parametrize(
    ("facets", "path", "expected"),
    [
        (DATED, "Audi/A4/2011/1.png", (0, "Audi", "Audi A4 2011", "2011")),
        (DATED, "VW/Golf/1990/1.png", (new("VW Golf 1990"), "VW", "VW Golf 1990", "1990")),
        (DATED, "Audi A4 2011/1.png", (0, "Audi", "Audi A4 2011", "")),
        (UNDATED, "Audi/A4/2012/1.png", (0, "Audi", "Audi A4", "2012")),
        (UNDATED, "Audi A4/2012/1.png", (0, "Audi", "Audi A4", "2012")),
        (UNDATED, "VW/Golf/1.png", (new("VW Golf"), "VW", "VW Golf", "")),
        (FLAT, "Audi/A4/1.png", (1, "", "Audi", "")),
        (FLAT, "VW Golf/1.png", (new("VW Golf"), "", "VW Golf", "")),
        (FLAT, "1.png", (-1, "", "", "")),
    ],
)
def test_folders_name_the_classes_that_the_store_has(
    tmp_path: Path, facets: tuple[Metadata, ...], path: str, expected: tuple[Any, ...]
) -> None:
    assert known(tmp_path, facets, path) == {expected}


def test_a_csv_of_levels_names_the_classes_that_the_store_has(tmp_path: Path) -> None:
    (tmp_path / "cars.csv").write_text("Path,Make,Model,Year\n1.png,Audi,A4,2011\n2.png,VW,Golf,\n")
    store: Any = SimpleNamespace(facets=lambda: UNDATED)
    a, b = (photo.metadata for photo in listed_photos([tmp_path / "cars.csv"], store))
    assert a == Metadata("Audi", "Audi A4", 0, "2011")
    assert b == Metadata("VW", "VW Golf", new("VW Golf"))
