"""Lists of your own photos: those below a folder, or those that a csv names.

A list is a table with the column Path, relative to the folder of the images; ClassName, if photos
have classes; the levels Make, Model and Year where they are known; what else a csv says; and Line,
the line of the csv. What is left out is said in a line, by reason.
"""

import logging
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.data import levels
from retrieval.data.csv_text import CsvText
from retrieval.data.decoded_photos import CORNERS
from retrieval.data.image_index import LEVELS, VIEWPOINTS, viewpoint_name
from retrieval.data.input_error import InputError
from retrieval.data.levels import ClassLevel
from retrieval.data.photo_folder import find_photos
from retrieval.data.spelling import composed

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

CSV_COLUMNS = ["Path", "ClassName", *LEVELS, "View Point", *CORNERS]


def photos_in_folders(
    root: Path, class_level: ClassLevel | None, known: Collection[str] = ()
) -> "pd.DataFrame":
    """Return the images below a folder, sorted by Path.

    Images directly in ``root`` are left out unless there are no others: then no photo has a class,
    and the table no ClassName.

    Args:
        root: The folder.
        class_level: What a class is (`levels.classes_of_levels`).
        known: Names of classes of another index, which are taken where they fit.
    """
    import pandas as pd

    found = find_photos(root)
    if not found.paths:
        raise InputError(
            f"{root} {found.why_empty()}; make one sub-folder of photos for each class"
        )
    paths = [path for path in found.paths if "/" in path]
    if not paths:
        found.say_left_out()
        return pd.DataFrame({"Path": found.paths}, dtype="str")
    if len(paths) < len(found.paths):
        found.left_out["beside the folders of classes"] = len(found.paths) - len(paths)
    found.say_left_out()
    folders = [tuple(composed(path).split("/")[:-1]) for path in paths]
    table = levels.levels_of_folders(folders, class_level)
    if len(table.columns):
        names = levels.classes_of_levels(table, class_level, known)
    else:
        names = [of_photo[0] for of_photo in folders]
        _say_deeper(paths, folders, class_level)
    table.insert(0, "Path", paths)
    table.insert(1, "ClassName", names)
    return table


def photos_of_csv(
    path: Path, root: Path, class_level: ClassLevel | None, known: Collection[str] = ()
) -> "pd.DataFrame":
    """Return the images that a csv names, sorted by Path.

    Args:
        path: A csv with the column Path and any of ClassName, Make, Model, Year, View Point and
            X1, Y1, X2, Y2.
        root: The folder that Path is relative to.
        class_level: What a class is; None: ClassName if the csv has it, else as in
            `levels.classes_of_levels`.
        known: Names of classes of another index, which are taken where they fit.
    """
    import pandas as pd

    if not path.is_file():
        raise InputError(f"{path} is missing; name the csv of the photos with --csv")
    text = CsvText.of_file(path)
    has = set(text.columns())
    if "Path" not in has or not has & {"ClassName", *LEVELS}:
        raise InputError(
            f"{text} has the columns {', '.join(text.columns())}; it needs Path, the file below "
            "--image_root_path, and ClassName or any of Make, Model and Year"
        )
    if class_level is not None and not has & set(LEVELS):
        raise InputError(f"{path} has none of Make, Model and Year; leave --class_level out")
    kept = [column for column in CSV_COLUMNS if column in has]
    rows = [
        {"Line": str(line), **{column: composed(cells[column].strip()) for column in kept}}
        | {"Path": cells["Path"].strip()}
        for line, cells in text.records()
    ]
    if not rows:
        raise InputError(f"{text} names no photos")
    _check_rows(rows, text)
    table = pd.DataFrame(_there(rows, text, root))
    if has & set(LEVELS):
        table = table.assign(**{name: "" for name in LEVELS if name not in has})
    if "ClassName" not in has or class_level is not None:
        table["ClassName"] = levels.classes_of_levels(table, class_level, known)
    return table.sort_values("Path", kind="stable", ignore_index=True)


def _check_rows(rows: list[dict[str, str]], text: CsvText) -> None:
    """Refuse photos that are named twice and numbers that are none; number the viewpoints."""
    numbers = {name: str(number) for number, name in VIEWPOINTS.items()}
    lines: dict[str, str] = {}
    for row in rows:
        where = text.at(int(row["Line"]))
        if not row["Path"]:
            raise InputError(f"{where}: Path is empty")
        if lines.setdefault(row["Path"], row["Line"]) != row["Line"]:
            raise InputError(
                f"{where}: {row['Path']} is named in line {lines[row['Path']]} too; remove one"
            )
        if "View Point" in row:
            row["View Point"] = numbers.get(viewpoint_name(row["View Point"]), "")
        for column in CORNERS:
            check_number(row.get(column, ""), f"{where}, column {column}")


def check_number(cell: str, where: str) -> None:
    """Refuse a cell that is neither empty nor a number.

    Args:
        cell: Its text.
        where: File, line and column, for the message.
    """
    try:
        float(cell or 0)
    except ValueError:
        point = f"; write {cell.replace(',', '.')}" if "," in cell else ""
        raise InputError(f"{where}: {cell!r} is not a number{point}") from None


def _there(rows: list[dict[str, str]], text: CsvText, root: Path) -> list[dict[str, str]]:
    """Return the rows whose files are there; count the others in a line."""
    there: list[dict[str, str]] = []
    missing: list[dict[str, str]] = []
    for row in rows:
        # macOS spells names of files another way than other systems (see spelling.py).
        spellings = (unicodedata.normalize(form, row["Path"]) for form in ("NFC", "NFD"))
        names = [name for name in (row["Path"], *spellings) if (root / name).is_file()]
        (there if names else missing).append(row)
        row["Path"] = names[0] if names else row["Path"]
    if not there:
        raise InputError(
            f"no file that {text.path} names is in {root}; name the folder that Path is relative "
            "to with --image_root_path"
        )
    if missing:
        log.warning(
            "left out, named in %s but not in %s: %d, such as %s (line %s)",
            text.path,
            root,
            len(missing),
            missing[0]["Path"],
            missing[0]["Line"],
        )
    return there


def _say_deeper(
    paths: Sequence[str], folders: Sequence[tuple[str, ...]], class_level: ClassLevel | None
) -> None:
    """Log that photos are at different depths, so that their folders are not used as levels."""
    deeper = [path for path, of_photo in zip(paths, folders, strict=True) if len(of_photo) > 1]
    if deeper and class_level is None:
        log.info(
            "first folders are classes, as %d photos lie directly in them and %d deeper, such as "
            "%s; --class_level=model reads make/model/photo.jpg, folder says that this is meant",
            len(paths) - len(deeper),
            len(deeper),
            deeper[0],
        )
