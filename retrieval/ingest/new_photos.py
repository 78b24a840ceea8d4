"""Photos to add to a store, as named on the command line, and their metadata."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.data.csv_text import CsvText
from retrieval.data.decode import Box
from retrieval.data.decoded_photos import CORNERS
from retrieval.data.formats import InputError, whole_number
from retrieval.data.image_index import LEVELS, viewpoint_name
from retrieval.data.levels import ClassLevel, classes_of_levels, levels_of_folders
from retrieval.data.photo_list import check_number
from retrieval.data.spelling import composed
from retrieval.photo_search.photo_files import photo_files
from retrieval.store.base import ImageStore
from retrieval.store.name_lookup import class_and_make, classes_of_models
from retrieval.store.rows import UNKNOWN, Metadata

NOTHING_KNOWN = Metadata()


@dataclass(frozen=True)
class NewPhoto:
    """A photo to add, its metadata, and the box of its car if it is known."""

    file: Path
    metadata: Metadata = NOTHING_KNOWN
    box: Box | None = None


def listed_photos(names: Sequence[Path], store: ImageStore) -> list[NewPhoto]:
    """Return the photos that are named, in order.

    Args:
        names: Files; folders, whose sub-folders name the models, or make, model and year as in
            `levels`; and csv files with the column Path, relative to the csv, and any of Class,
            ClassName, Make, Model, Year, View Point and X1, Y1, X2, Y2.
        store: Where they go: models that it has keep their class and make.
    """
    facets = list(store.facets())
    of_model = classes_of_models(facets)
    of_label = {facet.label: (facet.model, facet.make) for facet in facets}
    class_level = _class_level(facets)
    found: list[NewPhoto] = []
    for name in names:
        if name.suffix.lower() == ".csv":
            found += _of_csv(name, of_model, of_label, class_level)
        elif name.is_dir():
            found += _of_folder(name, of_model, class_level)
        else:
            found += [NewPhoto(file) for file in photo_files([name])]
    return found


def _class_level(facets: Sequence[Metadata]) -> ClassLevel:
    """Return what the classes of a store are: makes, models, or models of a year."""
    dated = [facet for facet in facets if facet.year and facet.model]
    if dated and all(facet.year in facet.model.split() for facet in dated):
        return "year"
    made = [facet for facet in facets if facet.make and facet.model]
    return "make" if made and all(facet.make == facet.model for facet in made) else "model"


def _of_folder(
    root: Path, of_model: dict[str, tuple[int, str]], class_level: ClassLevel
) -> list[NewPhoto]:
    """Return the photos below a folder; those right in it are of an unknown model."""
    files = photo_files([root])
    folders = [
        tuple(composed(name) for name in file.relative_to(root).parts[:-1]) for file in files
    ]
    in_folders = [of_photo for of_photo in folders if of_photo]
    if not in_folders:
        return [NewPhoto(file) for file in files]
    table = levels_of_folders(in_folders)
    models = [of_photo[0] for of_photo in in_folders]
    makes = years = [""] * len(models)
    if len(table.columns):
        named = classes_of_levels(table, class_level, of_model)
        models = [
            first if first in of_model else name for first, name in zip(models, named, strict=True)
        ]
        makes, years = table["Make"].tolist(), table["Year"].tolist()
    of_photo = iter(zip(models, makes, years, strict=True))
    found = []
    for file, names in zip(files, folders, strict=True):
        model, make, year = next(of_photo) if names else ("", "", "")
        label, known_make = class_and_make(model, of_model)
        is_known = model in of_model
        metadata = Metadata(known_make if is_known else make, model, label, year)
        found.append(NewPhoto(file, metadata))
    return found


def _of_csv(
    path: Path,
    of_model: dict[str, tuple[int, str]],
    of_label: dict[int, tuple[str, str]],
    class_level: ClassLevel,
) -> list[NewPhoto]:
    import pandas as pd

    if not path.is_file():
        raise InputError(f"--image: {path} is missing; name a csv, a photo or a folder of photos")
    text = CsvText.of_file(path)
    has = set(text.columns())
    if "Path" not in has:
        raise InputError(f"{text} has no column Path; it names the photos, relative to the csv")
    rows = [
        (
            line,
            {name: composed(cell.strip()) for name, cell in cells.items()}
            | {"Path": cells["Path"]},
        )
        for line, cells in text.records()
    ]
    if "ClassName" not in has and has & set(LEVELS):
        names = [[row.get(level, "") for level in LEVELS] for _, row in rows]
        table = pd.DataFrame(names, columns=list(LEVELS), dtype="str")
        for (_, row), name in zip(
            rows, classes_of_levels(table, class_level, of_model), strict=True
        ):
            row["ClassName"] = name
    return [_of_line(row, path, text.at(line), of_model, of_label) for line, row in rows]


def _of_line(
    row: dict[str, str],
    path: Path,
    where: str,
    of_model: dict[str, tuple[int, str]],
    of_label: dict[int, tuple[str, str]],
) -> NewPhoto:
    label = whole_number(row.get("Class") or str(UNKNOWN), f"{where}, column Class")
    for column in CORNERS:
        check_number(row.get(column, ""), f"{where}, column {column}")
    corners = [float(row.get(name) or math.nan) for name in CORNERS]
    viewpoint = viewpoint_name(row.get("View Point", ""))
    viewpoint = "" if viewpoint.isdecimal() else viewpoint
    model, make = row.get("ClassName", ""), row.get("Make", "")
    if label == UNKNOWN and model:
        label, known_make = class_and_make(model, of_model)
    else:
        known_model, known_make = of_label.get(label, ("", ""))
        model = model or known_model
    x1, y1, x2, y2 = corners
    box = None if any(map(math.isnan, corners)) else (x1, y1, x2, y2)
    metadata = Metadata(make or known_make, model, label, row.get("Year", ""), viewpoint)
    return NewPhoto(path.parent / row["Path"], metadata, box)
