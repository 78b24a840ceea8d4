"""Readers of published data sets: Stanford Cars, CUB-200-2011, Stanford Online Products.

- Stanford Cars (Cars196; Krause et al., 3dRR-13, 2013): ``cars_annos.mat``, or ``devkit/`` beside
  ``cars_train/`` and ``cars_test/``;
- CUB-200-2011 (Wah et al., CNS-TR-2011-001, 2011): ``images.txt`` and its lists beside it;
- Stanford Online Products (Oh Song et al., CVPR 2016): ``Ebay_train.txt``, ``Ebay_test.txt``.

A list has the columns Path, relative to the folder of the set, ClassName and Split: ``train`` for
the classes that papers train on, ``test`` for those that they search (the first half of the classes
of Cars196 and CUB-200-2011). Boxes are X1, Y1, X2, Y2, 0-based and end exclusive. A class of
Stanford Cars has Make, Model and Year too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.data.decoded_photos import CORNERS
from retrieval.data.formats import InputError
from retrieval.data.mat_reader import read_mat

if TYPE_CHECKING:
    import pandas as pd

Rows = list[dict[str, Any]]

# Makes of Stanford Cars of two words; all others are the first word of the class.
MAKES = ("AM General", "Aston Martin", "Land Rover")
FIRST_TEST_CLASS = {"cars": 99, "birds": 101}


def read_published_set(root: Path) -> "pd.DataFrame | None":
    """Return the photos of a published set, sorted by Path; None if ``root`` is none.

    Raises:
        InputError: A file of the set is missing or damaged.
    """
    import pandas as pd

    readers: dict[str, Callable[[Path], Rows]] = {
        "cars_annos.mat": _cars,
        "devkit/cars_train_annos.mat": _cars_devkit,
        "image_class_labels.txt": _birds,
        "Ebay_train.txt": _products,
    }
    reader = next((read for name, read in readers.items() if (root / name).is_file()), None)
    if reader is None:
        return None
    table = pd.DataFrame(reader(root)).sort_values("Path", ignore_index=True)
    missing = next((path for path in table["Path"] if not (root / path).is_file()), None)
    if missing is not None:
        raise InputError(f"{root / missing} is missing; unpack all archives of the set there")
    return table


def _cars(root: Path) -> Rows:
    """Read the later release of Stanford Cars: one list, photos in ``car_ims/``."""
    annotations, names = read_mat(root / "cars_annos.mat", "annotations", "class_names")
    paths = _flat(annotations["relative_im_path"])
    return _cars_rows(paths, annotations, _flat(names))


def _cars_devkit(root: Path) -> Rows:
    """Read the first release: ``cars_train/``, ``cars_test/`` and the lists of ``devkit/``."""
    devkit = root / "devkit"
    (names,) = read_mat(devkit / "cars_meta.mat", "class_names")
    rows: Rows = []
    lists = {"cars_train": devkit / "cars_train_annos.mat"}
    labeled = [folder / "cars_test_annos_withlabels.mat" for folder in (devkit, root)]
    found = next((path for path in labeled if path.is_file()), None)
    if found is not None:
        lists["cars_test"] = found
    elif (root / "cars_test").is_dir():
        raise InputError(
            f"{labeled[0]} is missing: without it the photos of cars_test have no class; put it "
            "there, or move cars_test away"
        )
    for folder, path in lists.items():
        (annotations,) = read_mat(path, "annotations")
        paths = [f"{folder}/{name}" for name in _flat(annotations["fname"])]
        rows += _cars_rows(paths, annotations, _flat(names))
    return rows


def _cars_rows(paths: Sequence[str], annotations: dict[str, Any], names: Sequence[str]) -> Rows:
    fields = ("class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    columns = (map(int, _flat(annotations[field])) for field in fields)
    rows: Rows = []
    for path, number, x1, y1, x2, y2 in zip(paths, *columns, strict=True):
        name = " ".join(str(names[number - 1]).split())
        split = "test" if number >= FIRST_TEST_CLASS["cars"] else "train"
        # The corners are pixels counted from 1, and both are inside.
        box = dict(zip(CORNERS, (x1 - 1, y1 - 1, x2, y2), strict=True))
        rows.append({"Path": path, "ClassName": name, **car_levels(name), "Split": split, **box})
    return rows


def car_levels(name: str) -> dict[str, str]:
    """Return Make, Model and Year of a class of Stanford Cars.

    >>> car_levels("Aston Martin V8 Vantage Coupe 2012")
    {'Make': 'Aston Martin', 'Model': 'V8 Vantage Coupe', 'Year': '2012'}
    """
    first, _, rest = name.partition(" ")
    make = next((make for make in MAKES if name.startswith(f"{make} ")), first)
    model, _, year = name.removeprefix(make).strip().rpartition(" ")
    return {"Make": make, "Model": model, "Year": year} if rest else {}


def _birds(root: Path) -> Rows:
    """Read CUB-200-2011: text files of (id, value) lines."""
    paths, labels = (_by_id(root / name) for name in ("images.txt", "image_class_labels.txt"))
    boxes, names = (_by_id(root / name) for name in ("bounding_boxes.txt", "classes.txt"))
    rows: Rows = []
    for number, path in paths.items():
        label = labels[number]
        x, y, width, height = map(float, boxes[number].split())
        box = dict(zip(CORNERS, (x, y, x + width, y + height), strict=True))
        split = "test" if int(label) >= FIRST_TEST_CLASS["birds"] else "train"
        rows.append({"Path": f"images/{path}", "ClassName": names[label], "Split": split, **box})
    return rows


def _by_id(path: Path) -> dict[str, str]:
    """Return the lines of a text file ``id value``, id -> value."""
    lines = _lines(path)
    return dict(line.split(" ", 1) for line in lines)


def _products(root: Path) -> Rows:
    """Read Stanford Online Products: a list of training photos and one of test photos."""
    rows: Rows = []
    for split in ("train", "test"):
        for line in _lines(root / f"Ebay_{split}.txt")[1:]:  # the first names the columns
            _, label, _, path = line.split(" ", 3)
            rows.append({"Path": path, "ClassName": f"{int(label):05}", "Split": split})
    return rows


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path} is missing; unpack the archive of the set again")
    return path.read_text("utf-8").strip().splitlines()


def _flat(cells: Any) -> list[Any]:
    """Return the values of nested lists, in order."""
    if not isinstance(cells, list):
        return [cells]
    return [value for cell in cells for value in _flat(cell)]
