"""Rows and labels: row i of an array is the image with Index i, and its class is in the split."""

from collections import Counter
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data import layout
from retrieval.data.formats import InputError

if TYPE_CHECKING:
    import pandas as pd

LEVELS = ("Make", "Model", "Year")  # columns of your own images: texts, empty where unknown
VIEWPOINTS = {1: "front", 2: "rear", 3: "side", 4: "front side", 5: "rear side"}  # View Point


def viewpoint_name(text: str) -> str:
    """Return the name of a viewpoint that a person typed: its name or its number.

    >>> viewpoint_name("4"), viewpoint_name("Front-Side"), viewpoint_name("9")
    ('front side', 'front side', '9')
    """
    name = text.replace("_", " ").replace("-", " ").casefold()
    return VIEWPOINTS.get(int(name), name) if name.isdecimal() and len(name) < 3 else name


def makes_of_classes(table: "pd.DataFrame", names: dict[int, str]) -> dict[int, str]:
    """Return the name of each class's make; classes whose make is unknown are left out.

    Args:
        table: An index csv with Class, and Make or CarMake if makes are known.
        names: Class -> name. A make of CompCars, a number there, is named by the words that its
            classes' names begin with.
    """
    if "CarMake" in table.columns:
        return _numbered_makes(table, names)
    makes = zip(table["Class"].tolist(), _texts(table, "Make"), strict=True)
    return {label: make for label, make in dict.fromkeys(makes) if make}


def _numbered_makes(table: "pd.DataFrame", names: dict[int, str]) -> dict[int, str]:
    pairs = table[["CarMake", "Class"]].drop_duplicates("Class").to_numpy(np.int64).tolist()
    classes: dict[int, list[int]] = {}
    for make, label in sorted(pairs):
        classes.setdefault(make, []).append(label)
    of_make = {
        make: common_name([names.get(label, "") for label in labels])
        for make, labels in classes.items()
    }
    taken = Counter(of_make.values())
    of_make = {
        make: name if name and taken[name] == 1 else f"{name or 'make'} {make}"
        for make, name in of_make.items()
    }
    return {label: of_make[make] for make, label in pairs}


def common_name(names: list[str]) -> str:
    """Return the words that all names begin with; of a single name, the first word.

    >>> common_name(["Alfa Romeo Giulia", "Alfa Romeo Mito"]), common_name(["Audi Q5"])
    ('Alfa Romeo', 'Audi')
    """
    columns = zip(*(name.split() for name in names), strict=False)
    common = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, columns)]
    return " ".join(common[:1] if len(names) == 1 else common)


def model_name(make: str, model: str) -> str:
    """Return the full name of a model; many names of models begin with their make.

    >>> model_name("Audi", "A4"), model_name("BMW", "BMW X5"), model_name("", "A4")
    ('Audi A4', 'BMW X5', 'A4')
    """
    if not make or not model or f"{model} ".casefold().startswith(f"{make} ".casefold()):
        return model
    return f"{make} {model}"


def _texts(table: "pd.DataFrame", column: str) -> list[str]:
    """Return a column of texts; all are empty if the table does not have it."""
    if column not in table.columns:
        return [""] * len(table)
    return table[column].fillna("").astype(str).tolist()


def by_index(table: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """Return the rows in the order of Index, which must run from 0 to n - 1.

    Args:
        table: An index csv with the column Index.
        name: The csv's file name, for the message.

    >>> import pandas as pd
    >>> by_index(pd.DataFrame({"Path": ["b", "a"], "Index": [1, 0]}), "x.csv")["Path"].tolist()
    ['a', 'b']
    """
    if table.empty:
        raise InputError(f"{name} lists no images")
    ordered = table.sort_values("Index", kind="stable").reset_index(drop=True)
    wrong = np.flatnonzero(ordered["Index"].to_numpy() != np.arange(len(ordered)))
    if len(wrong):
        raise InputError(
            f"{name}: Index must hold each number from 0 to {len(ordered) - 1} once; "
            f"it breaks at {wrong[0]}; make the csv again rather than editing it"
        )
    return ordered


def check_rows(index: np.ndarray, n_row: int, name: str, array_name: str) -> None:
    """Refuse Indexes that have no row in an array of ``n_row`` rows."""
    if len(index) and not 0 <= index.min() <= index.max() < n_row:
        wrong = index.min() if index.min() < 0 else index.max()
        raise InputError(
            f"{name} names the image {wrong}, but {array_name} has {n_row} rows: they were "
            "made from different image lists; make both again from the same csv"
        )


def check_once(index: np.ndarray, name: str) -> None:
    """Refuse Indexes of queries that are listed more than once."""
    values, counts = np.unique(index, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"{name} lists the image {values[counts > 1][0]} more than once; each query must be "
            "there once"
        )


def check_listed(
    queries: np.ndarray, labels: np.ndarray, name: str, source: str, remedy: str
) -> None:
    """Refuse queries whose classes differ from those in the list that they were taken from.

    Args:
        queries: (n_query, 2) int64, Index and Class.
        labels: (n_image,) int64, class of each image in the list.
        name: File of the queries.
        source: File of the list.
        remedy: What to do about it.
    """
    check_rows(queries[:, 0], len(labels), name, source)
    wrong = np.flatnonzero(labels[queries[:, 0]] != queries[:, 1])
    if len(wrong):
        index, label = queries[wrong[0]]
        raise InputError(
            f"{name} has image {index} in class {label}, but {source} has it in class "
            f"{labels[index]}: they list other images; {remedy}"
        )


def check_same_names(table: "pd.DataFrame", name: str, other: "pd.DataFrame", source: str) -> None:
    """Refuse two lists that give one class two ids, or one id two classes.

    Args:
        table: An index csv that took its ids from the other one.
        name: Its file.
        other: The other one; lists without the column ClassName are taken.
        source: Its file.
    """
    if not ("ClassName" in table.columns and "ClassName" in other.columns):
        return
    mine, theirs = (
        dict(zip(of["ClassName"].astype(str), of["Class"].tolist(), strict=True))
        for of in (table, other)
    )
    of_id = {label: known for known, label in theirs.items()}
    for known, label in mine.items():
        if theirs.get(known, label) != label or of_id.get(label, known) != known:
            raise InputError(
                f"{name} has {known} as class {label}, and {source} has class "
                f"{theirs.get(known, 'none')} of that name and {of_id.get(label, 'none')} as class "
                f"{label}: list these images again: process_data.data_info --output={name} "
                f"--classes_of={source}"
            )


def load_labels(data_dir: Path) -> np.ndarray:
    """Return the class of each image of the split, (n_image,) int64, from ``model_num.json``."""
    class_images = layout.CLASS_IMAGES.load(data_dir)
    try:
        labels = np.array([int(label) for label in class_images], np.int64)
        images = [np.array(of_class, np.int64).reshape(-1) for of_class in class_images.values()]
    except (ValueError, OverflowError) as error:
        raise _broken(data_dir) from error
    index = np.concatenate(images) if images else np.empty(0, np.int64)
    if not np.array_equal(np.sort(index), np.arange(len(index))):
        raise _broken(data_dir)
    of_image = np.empty(len(index), np.int64)
    of_image[index] = np.repeat(labels, [len(of_class) for of_class in images])
    return of_image


def load_test_queries(
    data_dir: Path, tindex: str | None, n_image: int, array_name: str
) -> np.ndarray:
    """Return Index and Class of the test images, (n_test, 2) int64.

    Args:
        data_dir: The data directory.
        tindex: Index csv of the test images; None takes ``test.npy``.
        n_image: Rows of the array that was made from them.
        array_name: Its file name, for the message.
    """
    name, queries = tindex or layout.TEST_QUERIES.name, _test_list(data_dir, tindex)
    check_once(queries[:, 0], name)
    if len(queries) != n_image:
        raise InputError(
            f"{name} lists {len(queries)} images, but {array_name} has {n_image} rows; if images "
            "were dropped, name the csv that was written then: --tindex=tindexinfo.kept.csv"
        )
    return queries


def load_test_labels(data_dir: Path, tindex: str | None) -> np.ndarray:
    """Return the class of each test image, (n_test,) int64, -1 for Indexes that are not listed."""
    queries = _test_list(data_dir, tindex)
    labels = np.full(int(queries[:, 0].max(initial=-1)) + 1, -1)
    labels[queries[:, 0]] = queries[:, 1]
    return labels


def _test_list(data_dir: Path, tindex: str | None) -> np.ndarray:
    """Return Index and Class, (n_test, 2) int64, of ``test.npy`` or of an index csv."""
    if tindex is None:
        return layout.TEST_QUERIES.load(data_dir)
    table = layout.TEST_INDEX.load(data_dir, tindex)
    return table[["Index", "Class"]].to_numpy(np.int64)


def _broken(data_dir: Path) -> InputError:
    file = layout.CLASS_IMAGES
    return InputError(
        f"{file.at(data_dir)} does not list each image once; make it again with: "
        f"{file.made_by(data_dir)}"
    )
