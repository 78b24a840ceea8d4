"""Photos to add to a store, as a command line names them, and what is known of each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.asking.photos import photo_files
from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.data.image_index import VIEWPOINTS
from retrieval.data.photo_array import CORNERS
from retrieval.store.interface import ImageStore
from retrieval.store.naming import class_and_make, classes_of_models
from retrieval.store.rows import UNKNOWN


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
        names: Files; folders, whose sub-folders name the models; and csv files with the column
            Path, relative to the csv, and any of Class, ClassName, Make, Year, View Point and X1,
            Y1, X2, Y2.
        store: Where they go: models that it has keep their class and make.
    """
    facets = list(store.facets())
    of_model = classes_of_models(facets)
    of_label = {facet.label: (facet.model, facet.make) for facet in facets}
    found: list[NewPhoto] = []
    for name in names:
        if name.suffix.lower() == ".csv":
            found += _of_csv(name, of_model, of_label)
            continue
        for file in photo_files([name]):
            # A photo right in the folder, or named itself, is of an unknown model.
            is_sorted = name.is_dir() and file.parent != name
            model = file.relative_to(name).parts[0] if is_sorted else ""
            label, make = class_and_make(model, of_model)
            found.append(NewPhoto(file, label, make, model))
    return found


def _of_csv(
    path: Path, of_model: dict[str, tuple[int, str]], of_label: dict[int, tuple[str, str]]
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
