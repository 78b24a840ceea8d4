"""Make, model and year of your own photos, from nested folders, and the classes made of them.

Folders are read by the depth of the photos:

    class/photo.jpg            the folder is the class
    make/model/photo.jpg       Make and Model
    make/model/year/photo.jpg  Make, Model and Year
    model/year/photo.jpg       Model and Year

A level counts if every photo has it: where one photo lies directly in a first folder, first
folders are classes, and what lies deeper belongs to them. Folders are years if most of their names
are, such as 2011 or 2009-2012; ``unknown`` is a year that is not known. Other folders below the
model mean nothing.
"""

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from retrieval.data.formats import InputError
from retrieval.data.image_index import LEVELS, model_name

if TYPE_CHECKING:
    import pandas as pd

ClassLevel = Literal["folder", "make", "model", "year"]
CLASS_LEVELS: tuple[ClassLevel, ...] = get_args(ClassLevel)

_YEAR = re.compile(r"(18|19|20)\d\d( ?[-–] ?((18|19|20)?\d\d)?)?")
_UNKNOWN_YEAR = "unknown"


def folder_levels(
    folders: Sequence[tuple[str, ...]], class_level: ClassLevel | None = None
) -> list[str]:
    """Return the levels (make, model, year) of nested folders, the outermost first.

    Args:
        folders: The folders of each photo below the root, outermost first; at least one each.
        class_level: The level that is asked for, which photos may lack; None: any.

    Returns:
        Names of `LEVELS`; empty: the first folder is a class, without levels.

    >>> folder_levels([("Audi", "A4"), ("BMW", "X5", "rear")])
    ['Make', 'Model']
    >>> folder_levels([("Audi", "A4", "2011"), ("BMW", "X5", "2009-2012")])
    ['Make', 'Model', 'Year']
    >>> folder_levels([("Audi A4", "2011"), ("BMW X5", "2012")])
    ['Model', 'Year']
    >>> folder_levels([("Audi",), ("BMW", "X5")])
    []
    """
    depth = min(map(len, folders))
    if class_level == "folder" or (class_level is None and depth < 2):
        return []
    if depth > 1 and class_level != "make" and _are_years([names[1] for names in folders]):
        return ["Model", "Year"]
    return list(LEVELS[: 2 + _are_years([names[2] for names in folders if len(names) > 2])])


def levels_of_folders(
    folders: Sequence[tuple[str, ...]], class_level: ClassLevel | None = None
) -> "pd.DataFrame":
    """Return the levels of each photo: the columns of `LEVELS`, texts, empty where unknown.

    The table has no columns if the folders have no levels (`folder_levels`).
    """
    import pandas as pd

    levels = folder_levels(folders, class_level)
    columns = dict.fromkeys(LEVELS if levels else (), [""] * len(folders))
    for place, level in enumerate(levels):
        columns[level] = [names[place] if len(names) > place else "" for names in folders]
    if levels:
        columns["Year"] = ["" if year == _UNKNOWN_YEAR else year for year in columns["Year"]]
    return pd.DataFrame(columns, index=range(len(folders)), dtype="str")


def classes_of_levels(
    levels: "pd.DataFrame", class_level: ClassLevel | None = None, known: Collection[str] = ()
) -> list[str]:
    """Return the name of each photo's class, such as ``Audi A4 2011``; empty if it has none.

    Args:
        levels: The columns of `LEVELS`, texts.
        class_level: What a class is; None: the year if every photo has one, else the model, else
            the make.
        known: Names of classes of another list: the finest name that is among them is taken.
    """
    names = [_names(*row) for row in levels[list(LEVELS)].itertuples(index=False)]
    if class_level is None:
        class_level = "make"
        for level in ("year", "model"):
            has_it = [of_photo[level] != "" for of_photo in names]
            if all(has_it) or (level == "model" and any(has_it)):
                class_level = level
                break
    known_names = set(known)
    found = []
    for of_photo in names:
        is_known = [name for name in of_photo.values() if name in known_names]
        found.append(is_known[0] if is_known else of_photo[class_level])
    return found


def check_levels(table: "pd.DataFrame", source: str) -> None:
    """Refuse a class that has photos of two makes.

    Args:
        table: ClassName, Make, and Path or the line of a csv as ``Line``.
        source: The csv or the folder, for the message.
    """
    if "Make" not in table.columns:
        return
    places = [f"line {line}" for line in table["Line"]] if "Line" in table else table["Path"]
    first: dict[str, tuple[str, str]] = {}
    for name, make, place in zip(table["ClassName"], table["Make"], places, strict=True):
        if not make:
            continue
        other, where = first.setdefault(name, (make, place))
        if other != make:
            raise InputError(
                f"{source}: class {name} has two makes, {other} ({where}) and {make} ({place}); "
                "correct one of them, or give the classes two names"
            )


def _names(make: str, model: str, year: str) -> dict[str, str]:
    """Return the name of a photo's class at each level, the finest first; empty if unknown."""
    full = model_name(make, model)
    dated = full if year in full.split() else f"{full} {year}"
    return {"year": dated if full and year else "", "model": full, "make": make}


def _are_years(names: Sequence[str]) -> bool:
    """Return whether names of folders are years: most of them are, others could be misspelled.

    >>> _are_years(["2007", "2008", "5008", "unknown"]), _are_years(["2008", "3008", "5008"])
    (True, False)
    """
    others = {name for name in names if name != _UNKNOWN_YEAR and not _YEAR.fullmatch(name)}
    n_year = len({name for name in names if _YEAR.fullmatch(name)})
    return n_year > len(others) and all(re.fullmatch(r"\d{4}", name) for name in others)
