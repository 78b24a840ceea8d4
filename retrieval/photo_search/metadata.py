"""Metadata of the images of a database (path, model, make, year, viewpoint), and filters."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data import image_index, layout, provenance, sources
from retrieval.data.formats import InputError
from retrieval.data.spelling import folded
from retrieval.report.retrieval_results import load_class_names

UNKNOWN_YEAR = "unknown"  # as CompCars spells it


@dataclass(frozen=True)
class Filters:
    """Which images may be answers; None leaves a filter out.

    Attributes:
        make: Name of a make, or a part of it, in any case.
        model: Name of a model, or a part of it, in any case; or the number of its Class.
        year: The year, as in the csv.
        viewpoint: Name or number of the viewpoint, as in ``image_index.VIEWPOINTS``.
    """

    make: str | None = None
    model: str | None = None
    year: str | None = None
    viewpoint: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """The images of a database; row i is the image with Index i.

    Attributes:
        source: Name of the csv.
        paths: Paths relative to the folder of the images.
        labels: (n_image,) int64, the Class of each.
        names: Class -> name; classes without a name are left out.
        makes: Class -> name of its make; empty if the csv has no makes.
        years: The year of each image, empty if unknown; None if the csv has no years.
        viewpoints: The name of each image's viewpoint, empty if unknown; None if the csv has none.
    """

    source: str
    paths: list[str]
    labels: np.ndarray
    names: dict[int, str]
    makes: dict[int, str]
    years: np.ndarray | None = None
    viewpoints: np.ndarray | None = None

    def name(self, label: int) -> str:
        """Return the name of a class; empty for -1, unknown, unless it has one."""
        return self.names.get(label, f"class {label}" if label >= 0 else "")

    def classes_of_models(self) -> dict[str, tuple[int, str]]:
        """Return class and make of each model of the images."""
        labels = [int(label) for label in np.unique(self.labels) if label >= 0]
        return {self.name(label): (label, self.makes.get(label, "")) for label in labels}

    def mask(self, filters: Filters) -> np.ndarray | None:
        """Return which images the filters allow, (n_image,) bool; None if there are no filters.

        A text that is a whole name stands for that name alone, else for all names it is part of.

        Raises:
            InputError: A value is unknown, or no image has all of the values.
        """
        masks = []
        if filters.make is not None:
            masks.append(self._is_of(filters.make, self.makes, "make"))
        if filters.model is not None:
            names = {int(label): self.name(int(label)) for label in np.unique(self.labels)}
            ids = {str(label): label for label in names}
            is_id = filters.model in ids and filters.model not in names.values()
            chosen = {ids[filters.model]: filters.model} if is_id else names
            masks.append(self._is_of(filters.model, chosen, "model"))
        if filters.year is not None:
            masks.append(_is_value(filters.year, self.years, "year", self.source))
        if filters.viewpoint is not None:
            text = image_index.viewpoint_name(filters.viewpoint)
            masks.append(_is_value(text, self.viewpoints, "viewpoint", self.source))
        if not masks:
            return None
        is_allowed = np.logical_and.reduce(masks)
        if not is_allowed.any():
            raise InputError(
                f"no image of {self.source} has all of these values; leave a filter out"
            )
        return is_allowed

    def _is_of(self, text: str, names: dict[int, str], filter_name: str) -> np.ndarray:
        wanted = folded(text)
        whole = [label for label, name in names.items() if folded(name) == wanted]
        part = [label for label, name in names.items() if wanted and wanted in folded(name)]
        if not (whole or part):
            raise _unknown(filter_name, text, names.values(), self.source)
        return np.isin(self.labels, whole or part)


def load_catalogue(data_dir: Path, record: dict[str, Any], database: str) -> Catalogue:
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
    has = set(table.columns)
    years = viewpoints = None
    if "Year" in has:
        years = table["Year"].astype(str).replace(UNKNOWN_YEAR, "").to_numpy(object)
    if "View Point" in has:
        viewpoints = table["View Point"].map(image_index.VIEWPOINTS).fillna("").to_numpy(object)
    return Catalogue(
        source,
        table["Path"].tolist(),
        table["Class"].to_numpy(np.int64),
        names,
        image_index.makes_of_classes(table, names),
        years,
        viewpoints,
    )


def _is_value(text: str, values: np.ndarray | None, filter_name: str, source: str) -> np.ndarray:
    is_it = values == text if values is not None else np.zeros(0, bool)
    if values is None or not is_it.any():
        raise _unknown(filter_name, text, values if values is not None else (), source)
    return is_it


def _unknown(filter_name: str, text: str, known: Iterable[str], source: str) -> InputError:
    names = sorted({name for name in known if name})
    if not names:
        return InputError(f"--{filter_name}: {source} has no column for it; leave the filter out")
    near = difflib.get_close_matches(text, names, n=3, cutoff=0.4) or names[:5]
    return InputError(
        f"--{filter_name}={text} is not in {source}, which has {len(names)}, such as: "
        f"{', '.join(near)}"
    )
