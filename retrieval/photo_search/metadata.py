"""Metadata of the images of a database, from its index csv."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data import image_index, layout, provenance, sources
from retrieval.data.formats import InputError
from retrieval.report.retrieval_results import load_class_names
from retrieval.store.filters import Filter
from retrieval.store.rows import Metadata

UNKNOWN_YEAR = "unknown"  # as CompCars spells it


@dataclass(frozen=True)
class ImageTable:
    """Paths and metadata of the images of a database; row i is the image with Index i.

    Attributes:
        source: Name of the csv.
        paths: Paths relative to the folder of the images.
        columns: Field of `Metadata` -> its values, in the order of the fields.
    """

    source: str
    paths: list[str]
    columns: dict[str, list[Any]]

    def metadata(self, index: int) -> Metadata:
        """Return the metadata of an image."""
        return Metadata(*(column[index] for column in self.columns.values()))

    @cached_property
    def facets(self) -> Counter[Metadata]:
        """How many images have each metadata."""
        counts = Counter(zip(*self.columns.values(), strict=True))
        return Counter({Metadata(*values): n for values, n in counts.items()})

    def mask(self, where: Filter) -> np.ndarray | None:
        """Return which images a filter allows, (n_image,) bool; None: all."""
        if not where:
            return None
        matching = where.matching(self.facets)
        is_allowed = map(matching.__contains__, zip(*self.columns.values(), strict=True))
        return np.fromiter(is_allowed, bool, len(self.paths))


def load_image_table(data_dir: Path, record: dict[str, Any], database: str) -> ImageTable:
    """Read the csv that the images of a database were listed in.

    Args:
        data_dir: The data directory.
        record: The record of the database's embeddings, with its preparation.
        database: Their file name, for the message.

    Raises:
        InputError: The csv is missing, or lists other images.
    """
    source = record["preparation"]["index"]
    table = image_index.by_index(layout.IMAGE_INDEX.load(data_dir, source), source)
    if provenance.index_hash(table) != record.get("index_sha256"):
        raise InputError(
            f"{database} was made from another list of images than {source} is now; make image "
            f"matrix and database again: {sources.commands_to_renew(data_dir, database)}"
        )
    names = load_class_names(data_dir)
    makes = image_index.makes_of_classes(table, names)
    labels = table["Class"].tolist()
    years = viewpoints = [""] * len(table)
    if "Year" in table.columns:
        years = table["Year"].astype(str).replace(UNKNOWN_YEAR, "").tolist()
    if "View Point" in table.columns:
        viewpoints = table["View Point"].map(image_index.VIEWPOINTS).fillna("").tolist()
    columns = {
        "make": [makes.get(label, "") for label in labels],
        "model": [class_name(label, names) for label in labels],
        "label": labels,
        "year": years,
        "viewpoint": viewpoints,
    }
    return ImageTable(source, table["Path"].tolist(), columns)


def class_name(label: int, names: dict[int, str]) -> str:
    """Return the name of a class; empty for -1, unknown, unless it has one.

    >>> class_name(3, {3: "Ravo A4"}), class_name(5, {}), class_name(-1, {})
    ('Ravo A4', 'class 5', '')
    """
    return names.get(label, f"class {label}" if label >= 0 else "")
