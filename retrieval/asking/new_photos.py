"""Photos to add to a store, as a command line names them, and what is known of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.asking.photos import photo_files
from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.data.image_index import LEVELS, VIEWPOINTS
from retrieval.data.levels import ClassLevel, classes_of_levels, levels_of_folders
from retrieval.data.photo_array import CORNERS
from retrieval.store.interface import ImageStore
from retrieval.store.naming import class_and_make, classes_of_models
from retrieval.store.rows import UNKNOWN, Facts


@dataclass(frozen=True)
class NewPhoto:
    """A photo to add; what is not known is empty, -1 or None."""

    file: Path
    label: int = UNKNOWN
    make: str = ""
    model: str = ""
    year: str = ""
    viewpoint: str = ""
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


def _class_level(facets: Sequence[Facts]) -> ClassLevel:
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
    folders = [file.relative_to(root).parts[:-1] for file in files]
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
        found.append(NewPhoto(file, label, known_make if is_known else make, model, year))
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
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is not a csv file: {error}") from error
    if "Path" not in table.columns:
        raise InputError(f"{path} has no column Path; it names the photos, relative to the csv")
    if "ClassName" not in table.columns and set(LEVELS) & set(table.columns):
        table = table.assign(**{name: "" for name in LEVELS if name not in table.columns})
        table["ClassName"] = classes_of_levels(table, class_level, of_model)
    return [
        _of_line(
            {str(name): str(text) for name, text in row.items()}, path, line, of_model, of_label
        )
        for line, row in enumerate(table.to_dict("records"), 2)
    ]


def _of_line(
    row: dict[str, str],
    path: Path,
    line: int,
    of_model: dict[str, tuple[int, str]],
    of_label: dict[int, tuple[str, str]],
) -> NewPhoto:
    try:
        label = int(row.get("Class") or UNKNOWN)
        corners = [float(row.get(name) or math.nan) for name in CORNERS]
        number = row.get("View Point", "")
        viewpoint = VIEWPOINTS.get(int(number), "") if number.isdecimal() else number
    except ValueError as error:
        raise InputError(f"{path}, line {line}: {error}") from error
    model, make = row.get("ClassName", ""), row.get("Make", "")
    if label == UNKNOWN and model:
        label, known_make = class_and_make(model, of_model)
    else:
        known_model, known_make = of_label.get(label, ("", ""))
        model = model or known_model
    box = None if any(map(math.isnan, corners)) else tuple(corners)
    return NewPhoto(
        path.parent / row["Path"],
        label,
        make or known_make,
        model,
        row.get("Year", ""),
        viewpoint,
        (box[0], box[1], box[2], box[3]) if box else None,
    )
