"""List your own images: any folder with one sub-folder per class.

Reads   the image files below --image_root_path
Writes  indexinfo.csv, or the name given as --output; class_names.csv; test.npy with --queries

    python -m process_data.data_info --dpath=~/ir/ --image_root_path=photos/

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

import numpy as np

from retrieval import cli
from retrieval.data import decode, layout
from retrieval.data.formats import InputError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

UNKNOWN = -1  # the class of images without one


def list_images(root: Path) -> "pd.DataFrame":
    """Return the images below ``root``: Path relative to it, and ClassName, its first folder.

    An image is a file with a suffix that Pillow can open. Hidden files and folders are skipped, as
    are files directly in ``root`` unless there are no others: these have no class, and the table
    no ClassName. Rows are sorted by path.
    """
    import pandas as pd

    suffixes = decode.image_suffixes()
    found = [path for path in root.rglob("*") if path.suffix.lower() in suffixes]
    files = [path for path in found if path.is_file()]
    if len(files) < len(found):
        log.warning(
            "%d images are links to nothing, or no files: left out", len(found) - len(files)
        )
    paths = sorted(path.relative_to(root).as_posix() for path in files)
    visible = [p for p in paths if not any(n.startswith(".") for n in p.split("/"))]
    sorted_ones = [path for path in visible if "/" in path]
    if visible and not sorted_ones:
        return pd.DataFrame({"Path": visible}, dtype="str")
    visible, names = sorted_ones, [path.split("/")[0] for path in sorted_ones]
    return pd.DataFrame({"Path": visible, "ClassName": names}, dtype="str")


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
) -> Path:
    """Write the index of a folder of images and return its path.

    Args:
        data_dir: The data directory.
        image_root_path: Folder with one sub-folder per class, or with images without classes,
            relative to ``data_dir``.
        output: Name of the csv to write; columns Path, Class, Index, ClassName.
        classes_of: Index csv whose class ids are reused for the same class names.
        queries: Also write ``test.npy``, which makes these images the test queries.
    """
    import pandas as pd

    # Queries, and images of other cameras, have names that other commands use for CompCars.
    others = {file.name: file for file in (layout.TEST_INDEX, layout.CAMERA_INDEX)}
    index = others.get(output, layout.IMAGE_INDEX)
    index.target(data_dir, output)
    root = data_dir / Path(image_root_path).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder; --image_root_path must name the folder of the images"
        )
    table = list_images(root)
    if table.empty:
        raise InputError(f"{root} has no images in sub-folders; make one sub-folder for each class")
    if "ClassName" not in table.columns:
        return _save_unsorted(data_dir, table, root, output, classes_of is not None or queries)
    known: dict[str, int] = {}
    if classes_of is not None:
        other = layout.IMAGE_INDEX.load(data_dir, classes_of)
        if "ClassName" not in other.columns:
            raise InputError(f"{classes_of} has no column ClassName to take the ids from")
        known = dict(zip(other["ClassName"].astype(str), other["Class"].tolist(), strict=True))
    table.insert(1, "Class", class_ids(table["ClassName"], known))
    table.insert(2, "Index", np.arange(len(table)))
    names = pd.DataFrame(table[["Class", "ClassName"]]).drop_duplicates()
    if known:
        names = pd.concat([names, pd.DataFrame(known.items(), columns=["ClassName", "Class"])])
    names = names.drop_duplicates("Class").sort_values("Class")
    layout.CLASS_NAMES.save(data_dir, names[["Class", "ClassName"]])
    path = index.save(data_dir, table, output)
    log.info("%s: %d images of %d classes", path, len(table), table["Class"].nunique())
    if queries:
        test = table[["Index", "Class"]].to_numpy(np.int64)
        log.info("%s: %d queries", layout.TEST_QUERIES.save(data_dir, test), len(test))
    new = sorted(set(table["ClassName"]) - set(known))
    if known and new:
        log.warning("classes missing in %s: %s", classes_of, ", ".join(new))
    return path


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
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
