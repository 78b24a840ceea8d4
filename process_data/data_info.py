"""List your own images: any folder with one sub-folder per class, or a csv that names them.

Reads   the image files below --image_root_path; the csv given as --csv
Writes  indexinfo.csv, or the name given as --output, and its record; class_names.csv; test.npy with
        --queries

    python -m process_data.data_info --dpath=~/ir/ --image_root_path=photos/

Nested folders, make/model/photo.jpg or make/model/year/photo.jpg, are read as Make, Model and Year;
so are the columns of these names in a csv with the column Path, relative to --image_root_path:

    python -m process_data.data_info --dpath=~/ir/ --image_root_path=photos/ --csv=cars.csv

The unpacked downloads of Stanford Cars, CUB-200-2011 and Stanford Online Products are recognized,
with their boxes and the classes that papers train on (`make_train_valid --protocol=classes`):

    python -m process_data.data_info --dpath=~/ir/ --image_root_path=stanford_cars/

Query photos go into a separate folder, with the same sub-folder names for the same classes:

    python -m process_data.data_info --dpath=~/ir/ --image_root_path=queries/ \\
        --output=tindexinfo.csv --classes_of=indexinfo.csv --queries
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np

from retrieval import cli
from retrieval.data import image_index, layout, levels, sources
from retrieval.data.formats import InputError, Table
from retrieval.data.levels import CLASS_LEVELS, ClassLevel
from retrieval.data.photo_list import photos_in_folders, photos_of_csv
from retrieval.data.published_sets import read_published_set

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

UNKNOWN = -1  # the class of images without one


def class_ids(names: "pd.Series", known: dict[str, int]) -> np.ndarray:
    """Number the classes by sorted name, after the known ones.

    Args:
        names: (n,) class name of each image.
        known: Class name -> id in another index; these ids are reused.

    Returns:
        (n,) int64 class ids.

    >>> import pandas as pd
    >>> class_ids(pd.Series(["kombi", "coupe", "van"]), {"van": 4}).tolist()
    [6, 5, 4]
    """
    first = max(known.values(), default=-1) + 1
    new = sorted(set(names) - set(known))
    ids = known | {name: first + i for i, name in enumerate(new)}
    return np.array([ids[name] for name in names], np.int64)


def run(
    data_dir: Path,
    image_root_path: str = "photos/",
    output: str = layout.IMAGE_INDEX.name,
    classes_of: str | None = None,
    queries: bool = False,
    csv: str | None = None,
    class_level: ClassLevel | None = None,
) -> Path:
    """Write the index of a folder of images and return its path.

    Args:
        data_dir: The data directory.
        image_root_path: Folder with one sub-folder per class, or with images without classes,
            relative to ``data_dir``.
        output: Name of the csv to write; columns Path, Class, Index, ClassName.
        classes_of: Index csv whose class ids are reused for the same class names.
        queries: Also write ``test.npy``, which makes these images the test queries.
        csv: A csv that names the images and their classes, relative to ``data_dir``.
        class_level: What a class is: ``folder`` takes the first folder, ``make``, ``model`` and
            ``year`` that level; None: the finest that every photo has.
    """
    options = {name: value for name, value in locals().items() if name != "data_dir"}
    # Queries, and images of other cameras, have names that other commands use for CompCars.
    others = {file.name: file for file in (layout.TEST_INDEX, layout.CAMERA_INDEX)}
    index = others.get(output, layout.IMAGE_INDEX)
    index.target(data_dir, output)
    root = data_dir / Path(image_root_path).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder; --image_root_path must name the folder of the images"
        )
    if class_level == "folder" and csv is not None:
        raise InputError("--class_level=folder is for folders; --csv takes make, model or year")
    known: dict[str, int] = {}
    if classes_of is not None:
        other = layout.IMAGE_INDEX.load(data_dir, classes_of)
        if "ClassName" not in other.columns:
            raise InputError(f"{classes_of} has no column ClassName to take the ids from")
        known = dict(zip(other["ClassName"].astype(str), other["Class"].tolist(), strict=True))
        if csv is None and class_level is None and not set(image_index.LEVELS) & set(other.columns):
            class_level = "folder"
    taken = known if class_level is None else {}
    published = read_published_set(root) if csv is None and class_level is None else None
    if published is not None:
        source, table = str(root), published
    elif csv is None:
        source = str(root)
        table = photos_in_folders(root, class_level, taken)
    else:
        source = str(data_dir / Path(csv).expanduser())
        table = photos_of_csv(Path(source), root, class_level, taken)
    if "ClassName" not in table.columns:
        path = _save_unsorted(data_dir, table, root, output, classes_of is not None or queries)
    else:
        table = _with_class(table, source, class_level)
        levels.check_levels(table, source)
        table = table.drop(columns="Line", errors="ignore")
        path = _save(data_dir, table, index, output, known, queries)
    origins = sources.states(data_dir, Path(source))
    if classes_of is not None:
        origins |= sources.states(data_dir, classes_of, columns=("Class", "ClassName"))
    made_by = "python -m process_data.data_info"
    sources.save_list_record(data_dir, path, made_by, options, origins)
    return path


def _with_class(
    table: "pd.DataFrame", source: str, class_level: ClassLevel | None
) -> "pd.DataFrame":
    """Return the rows that have a class; count the others in a line."""
    without = table[table["ClassName"] == ""]
    level = class_level or "class"
    if len(without) == len(table):
        raise InputError(
            f"no photo of {source} has a {level}; folders are make/model/year/photo.jpg, columns "
            "of a csv Make, Model, Year"
        )
    if len(without):
        log.warning(
            "left out, without a %s: %d, such as %s",
            level,
            len(without),
            without["Path"].iloc[0],
        )
    return table[table["ClassName"] != ""].reset_index(drop=True)


def _save(
    data_dir: Path,
    table: "pd.DataFrame",
    index: Table,
    output: str,
    known: dict[str, int],
    queries: bool,
) -> Path:
    """Number the classes, write index and names, and return the path of the index."""
    import pandas as pd

    table.insert(1, "Class", class_ids(table["ClassName"], known))
    table.insert(2, "Index", np.arange(len(table)))
    names = pd.DataFrame(table[["Class", "ClassName"]]).drop_duplicates()
    if known:
        names = pd.concat([names, pd.DataFrame(known.items(), columns=["ClassName", "Class"])])
    names = names.drop_duplicates("Class").sort_values("Class")
    layout.CLASS_NAMES.save(data_dir, names[["Class", "ClassName"]])
    path = index.save(data_dir, table, output)
    n_class = table["Class"].nunique()
    log.info("%s: %d images of %d classes%s", path, len(table), n_class, _counts(table))
    if queries:
        test = table[["Index", "Class"]].to_numpy(np.int64)
        log.info("%s: %d queries", layout.TEST_QUERIES.save(data_dir, test), len(test))
    new = sorted(set(table["ClassName"]) - set(known))
    if known and new:
        log.warning("classes that are new: %s", ", ".join(new))
    return path


def _counts(table: "pd.DataFrame") -> str:
    """Return how many values each level has, and an example of a class; empty without levels."""
    if not set(image_index.LEVELS) & set(table.columns):
        return ""
    counts = {level: len(set(table[level]) - {""}) for level in image_index.LEVELS}
    parts = [f"{count} {level.lower()}s" for level, count in counts.items() if count]
    return f" ({', '.join(parts)}), such as {table['ClassName'].iloc[0]}"


def _save_unsorted(
    data_dir: Path, table: "pd.DataFrame", root: Path, output: str, needs_classes: bool
) -> Path:
    """Write the index of images without classes: they can be searched, not trained on."""
    if needs_classes or output != layout.IMAGE_INDEX.name:
        raise InputError(f"{root} has no images in sub-folders; make one sub-folder for each class")
    table.insert(1, "Class", np.full(len(table), UNKNOWN))
    table.insert(2, "Index", np.arange(len(table)))
    layout.CLASS_NAMES.save(data_dir, table[["Class"]].head(0).assign(ClassName=""))
    path = layout.IMAGE_INDEX.save(data_dir, table, output)
    log.info("%s: %d images without classes: to search, not to train on", path, len(table))
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--image_root_path", help="folder of the classes, relative to --dpath")
    parser.add_argument("--output", help="name of the csv to write")
    parser.add_argument("--classes_of", help="index csv whose class ids are reused")
    parser.add_argument(
        "--queries",
        action=argparse.BooleanOptionalAction,
        help="also write test.npy: these images are the test queries",
    )
    parser.add_argument("--csv", help="csv with Path and ClassName, or Make, Model and Year")
    parser.add_argument(
        "--class_level",
        choices=CLASS_LEVELS,
        help="what a class is: the first folder, or a level; default: the finest level that every "
        "photo has",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
